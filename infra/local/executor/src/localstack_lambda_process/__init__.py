"""Runs LocalStack's Lambda functions as processes of this machine, where there is no Docker.

LocalStack asks `executor` for one execution environment after another. Each has a process
(`function_process`) that runs Lambda's own Python runtime against a Runtime API of its own
(`runtime_api` speaks HTTP, `exchange` holds the state); `output` collects what it prints, `report`
makes the invocation's log of it, `faults` says what an invocation answers when no handler did.

Settings, as variables of LocalStack's process:

LAMBDA_PROCESS_PYTHON: the functions' interpreter; its environment has awslambdaric.
LAMBDA_PROCESS_ECHO: 1 prints the functions' log lines on LocalStack's standard error too.
"""
