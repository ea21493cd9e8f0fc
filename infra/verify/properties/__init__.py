"""The properties P1 to P32, each a small function over the facts."""
