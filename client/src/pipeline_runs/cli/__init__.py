"""The command line `pipeline-run`."""
