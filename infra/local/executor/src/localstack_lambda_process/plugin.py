"""The entry point by which LocalStack finds the executor (LAMBDA_RUNTIME_EXECUTOR=process)."""

from __future__ import annotations

from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin

from .executor import ProcessExecutor


class ProcessExecutorPlugin(RuntimeExecutorPlugin):  # type: ignore[misc] # No stubs: Any to mypy.
    """Tells LocalStack which class runs an execution environment."""

    name = "process"

    def load(self) -> type[ProcessExecutor]:
        """The executor's class; LocalStack makes one instance for each environment."""
        return ProcessExecutor
