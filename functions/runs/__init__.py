"""The domain: runs, their statuses, and the use cases; it knows neither Lambda nor HTTP."""
