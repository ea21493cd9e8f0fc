"""Our functions as real processes, as Lambda runs them: one environment to an invocation.

with FunctionPool(Function(handler="poller.check.handler", variables={"STAGE": "test", …})) as pool:
    answer = pool.invoke({"Records": […]})

`pool.invoke` is what a MappingRunner takes. Underneath are the parts that LocalStack's executor is
made of, with Lambda's own runtime in each process, so nothing else is started.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from infra.local.environments import ROOT, python_of
from infra.local.executor.src.localstack_lambda_process.code_folder import CodeFolder
from infra.local.executor.src.localstack_lambda_process.exchange import Answer, Invocation
from infra.local.executor.src.localstack_lambda_process.faults import FunctionFault
from infra.local.executor.src.localstack_lambda_process.function_process import FunctionProcess
from infra.local.executor.src.localstack_lambda_process.output import BoundedLog
from infra.local.executor.src.localstack_lambda_process.variables import function_variables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

REGION: Final = "eu-central-1"
BYTECODE: Final = ROOT / ".local" / "function-bytecode"
"""Kept, for compiling the libraries takes seconds."""
# What Lambda sets, but for what names a function; the keys fit every local AWS.
OF_LAMBDA: Final = {
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "TZ": ":UTC",
    # A developer's own settings stay out.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class FunctionError(Exception):
    """The function raised, ran out of time, crashed, or can't be imported.

    Attributes:
        error_type: As Lambda tells it: the exception's class, `Sandbox.Timedout`,
            `Runtime.ExitError`, `Runtime.ImportModuleError`, …
        message: As Lambda tells it.
    """

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(f"{error_type}: {message}")
        self.error_type = error_type
        self.message = message


@dataclass(frozen=True, kw_only=True)
class Function:
    """What runs, and how.

    Attributes:
        handler: Its dotted name.
        variables: Its environment variables; they win over those that Lambda sets.
        timeout_seconds: What an invocation may take, and what its context tells.
        init_timeout_seconds: What importing the handler may take.
        folder: Where the handler is imported from.
        name: Its name on Lambda.
        memory_size_mb: What its context tells; not enforced.
    """

    handler: str
    variables: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = 30
    init_timeout_seconds: float = 60
    folder: Path = ROOT / "functions"
    name: str = "function"
    memory_size_mb: int = 512

    @property
    def arn(self) -> str:
        """As its context tells it."""
        return f"arn:aws:lambda:{REGION}:000000000000:function:{self.name}"


class ExecutionEnvironment:
    """Answers one invocation after another, by one process as long as that lives."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._output = BoundedLog()
        self._lines = ""
        self._lock = threading.Lock()
        self._at_work = threading.Lock()
        self._process: FunctionProcess | None = None

    @property
    def is_busy(self) -> bool:
        """Whether an invocation is under way, or its process is being started."""
        return self._at_work.locked()

    @property
    def log(self) -> str:
        """All that its processes have printed."""
        with self._lock:
            self._lines += self._output.take()
            return self._lines

    def warm(self) -> None:
        """Returns with a process that has imported the handler.

        Raises:
            FunctionError: it can't be.
        """
        with self._at_work:
            try:
                self._ready_process()
            except FunctionFault as fault:
                self.kill()
                _answered(fault.answer("init"))

    def invoke(self, event: Mapping[str, Any]) -> Any:
        """What the handler returns; a process is started if none lives.

        Raises:
            FunctionError: it doesn't return. Its process lives on only if the handler raised.
        """
        request_id = str(uuid.uuid4())
        with self._at_work:
            try:
                answer = self._ready_process().invoke(
                    self._invocation(request_id, event),
                    at_most_seconds=self._function.timeout_seconds,
                )
            except FunctionFault as fault:
                self.kill()
                answer = fault.answer(request_id)
        return _answered(answer)

    def kill(self) -> None:
        """Kills the process, by signal 9, in whatever it is doing: the invocation fails."""
        with self._lock:
            process, self._process = self._process, None
        if process:
            process.kill()

    def _ready_process(self) -> FunctionProcess:
        with self._lock:
            if self._process is None or self._process.has_ended:
                self._process = self._new_process()
            process = self._process
        process.wait_until_ready(at_most_seconds=self._function.init_timeout_seconds)
        return process

    def _new_process(self) -> FunctionProcess:
        function = self._function
        ours = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        of_the_function = {
            "_HANDLER": function.handler,
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_size_mb),
        }
        return FunctionProcess(
            python=str(python_of("functions")),
            handler=function.handler,
            folder=function.folder,
            variables=function_variables(
                localstack=ours,
                function=OF_LAMBDA | of_the_function | dict(function.variables),
                code=function.folder,
                bytecode=BYTECODE,
            ),
            log=self._output,
        )

    def _invocation(self, request_id: str, event: Mapping[str, Any]) -> Invocation:
        return Invocation(
            request_id=request_id,
            function_arn=self._function.arn,
            trace_id="Root=1-00000000-000000000000000000000000",
            deadline_ms=int((time.time() + self._function.timeout_seconds) * 1000),
            event=json.dumps(event).encode(),
        )


class FunctionPool:
    """The environments of one function, one to each invocation at once; the idle are used first."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self._lock = threading.Lock()
        self._environments: list[ExecutionEnvironment] = []
        self._idle: list[ExecutionEnvironment] = []
        _compile_anew(function.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def environments(self) -> tuple[ExecutionEnvironment, ...]:
        """All that were made, the oldest first."""
        with self._lock:
            return tuple(self._environments)

    @property
    def busy(self) -> tuple[ExecutionEnvironment, ...]:
        """Those with an invocation under way."""
        return tuple(one for one in self.environments if one.is_busy)

    @property
    def log(self) -> str:
        """All that the processes have printed, environment by environment."""
        return "".join(environment.log for environment in self.environments)

    def invoke(self, event: Mapping[str, Any]) -> Any:
        """What the handler returns; may be called by many threads.

        Raises:
            FunctionError: it doesn't return.
        """
        environment = self._take()
        try:
            return environment.invoke(event)
        finally:
            self._give_back(environment)

    def warm(self, count: int) -> None:
        """Makes sure that so many idle environments have imported the handler.

        So invocations that begin at once run at once, rather than one after the other's import.

        Raises:
            FunctionError: the handler can't be imported.
        """
        taken = [self._take() for _ in range(count)]
        try:
            with ThreadPoolExecutor(max_workers=max(1, count)) as side_by_side:
                list(side_by_side.map(ExecutionEnvironment.warm, taken))
        finally:
            for environment in taken:
                self._give_back(environment)

    def kill(self) -> None:
        """Kills every process, whatever it is doing; the next invocations start new ones."""
        for environment in self.environments:
            environment.kill()

    def _take(self) -> ExecutionEnvironment:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            environment = ExecutionEnvironment(self.function)
            self._environments.append(environment)
            return environment

    def _give_back(self, environment: ExecutionEnvironment) -> None:
        with self._lock:
            self._idle.append(environment)


@cache  # Nobody edits the functions while their tests run.
def _compile_anew(folder: Path) -> None:
    """Python tells an edit by whole seconds and size, so it could take old code for new."""
    CodeFolder(folder, bytecode=BYTECODE, hot=False).forget_bytecode()


def _answered(answer: Answer) -> Any:
    body = json.loads(answer.body)
    if answer.is_error:
        raise FunctionError(body.get("errorType", ""), body.get("errorMessage", ""))
    return body
