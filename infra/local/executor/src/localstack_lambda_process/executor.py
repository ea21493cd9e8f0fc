"""What LocalStack asks of an execution environment, passed on to `environment`.

LocalStack decides how many environments a function has, gives each one invocation at a time, keeps
them warm (LAMBDA_KEEPALIVE_MS) and stops them when the function's code or configuration changes.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from localstack import config
from localstack.aws.connect import connect_to
from localstack.services.lambda_.invocation.lambda_models import InvocationResult
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from .code_folder import CodeFolder
from .embedded_metrics import metric_data
from .environment import Environment, FunctionConfiguration
from .settings import Settings
from .variables import function_variables

LOG = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
# Below LocalStack's folder for temporary files: what Python compiles of functions and libraries.
BYTECODE: Final = "lambda-bytecode"
# Metrics are put one after another, and no invocation waits for it.
METRICS: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lambda-metrics")


class UnsupportedFunction(Exception):
    """The function needs more than a Python process; the text says what."""


class ProcessExecutor(RuntimeExecutor):  # type: ignore[misc] # No stubs: Any to mypy.
    """LocalStack's view of one environment.

    Raises:
        UnusableSettings: LAMBDA_PROCESS_PYTHON is missing or isn't a program.
    """

    def __init__(self, environment_id: str, function_version: Any) -> None:
        super().__init__(environment_id, function_version)
        self._settings = Settings.from_variables(os.environ)
        self._environment: Environment | None = None

    def start(self, env_vars: dict[str, object]) -> None:
        """Makes the environment; its process starts with the first invocation."""
        function = self.function_version.config
        bytecode = Path(tempfile.gettempdir()) / BYTECODE
        code = CodeFolder(
            Path(function.code.get_unzipped_code_location()),
            bytecode=bytecode,
            hot=function.code.is_hot_reloading(),
        )
        self._environment = Environment(
            _configuration(self.function_version),
            python=self._settings.python,
            code=code,
            variables=function_variables(
                localstack=os.environ, function=env_vars, code=code.path, bytecode=bytecode
            ),
        )

    def stop(self) -> None:
        """Kills the process at once: an invocation that is under way fails."""
        if self._environment:
            self._environment.stop()

    def invoke(self, payload: dict[str, str]) -> Any:
        """Runs one invocation; what goes wrong in the process is an answer, not an exception."""
        assert self._environment  # noqa: S101 # LocalStack starts it first.
        outcome = self._environment.invoke(payload)
        if data := metric_data(outcome.log):
            METRICS.submit(self._put_metrics, data)
        if self._settings.echo:
            self._echo(outcome.log)
        return InvocationResult(
            payload["invoke-id"],
            outcome.answer.body,
            is_error=outcome.answer.is_error,
            logs=outcome.log,
        )

    def get_logs(self) -> str:
        """Nothing: each invocation carries its whole log."""
        return ""

    def get_address(self) -> str:
        """Where LocalStack reaches the environment."""
        return LOOPBACK

    def get_endpoint_from_executor(self) -> str:
        """Where the function reaches LocalStack (AWS_ENDPOINT_URL is made of it)."""
        return LOOPBACK

    def get_runtime_endpoint(self) -> str:
        """Nothing: it is where the init program of a container reports to LocalStack."""
        return ""

    @classmethod
    def prepare_version(cls, function_version: Any) -> None:
        """Unpacks the code, when a function is made or changed.

        Raises:
            UnsupportedFunction: It isn't a Python function in an archive or folder, or has layers.
            UnusableSettings: LAMBDA_PROCESS_PYTHON is missing or isn't a program.
        """
        Settings.from_variables(os.environ)
        function = function_version.config
        if not (function.runtime or "").startswith("python") or function.layers:
            raise UnsupportedFunction(
                "Functions run as processes of one Python environment here: only Python runtimes "
                "without layers or container images are supported."
            )
        function.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: Any) -> None:
        """Nothing: LocalStack removes what `prepare_version` unpacked."""

    def _put_metrics(self, data: dict[str, list[dict[str, Any]]]) -> None:
        version = self.function_version.id
        client = connect_to(
            aws_access_key_id=version.account, region_name=version.region
        ).cloudwatch
        for namespace, metrics in data.items():
            try:
                client.put_metric_data(Namespace=namespace, MetricData=metrics)
            except Exception:  # The thread's edge: the next metrics are put all the same.
                LOG.exception("Metrics of %s were not put", version.function_name)

    def _echo(self, log: str) -> None:
        name = self.function_version.id.function_name
        sys.stderr.write("".join(f"[{name}] {line}\n" for line in log.splitlines()))


def _configuration(function_version: Any) -> FunctionConfiguration:
    function = function_version.config
    return FunctionConfiguration(
        version=function_version.id.qualifier,
        handler=function.handler,
        memory_size_mb=function.memory_size,
        timeout_seconds=function.timeout,
        init_timeout_seconds=config.LAMBDA_RUNTIME_ENVIRONMENT_TIMEOUT,
    )
