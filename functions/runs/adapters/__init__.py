"""One module per foreign system: Postgres, Conductor, the Workbench, SQS, EventBridge."""
