"""One execution environment: a process at most, started when an invocation needs it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from signal import SIGKILL
from typing import TYPE_CHECKING

from .exchange import Answer, Invocation
from .faults import FunctionFault, ProcessEnded
from .function_process import FunctionProcess
from .output import BoundedLog
from .report import Report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .code_folder import CodeFolder


@dataclass(frozen=True)
class FunctionConfiguration:
    """How a function runs.

    Args:
        version: `$LATEST` mostly.
        handler: The handler's dotted name.
        memory_size_mb: Told in the log; not enforced.
        timeout_seconds: What an invocation may take.
        init_timeout_seconds: What a process may take until its handler is imported.
    """

    version: str
    handler: str
    memory_size_mb: int
    timeout_seconds: float
    init_timeout_seconds: float


@dataclass(frozen=True)
class Outcome:
    """What an invocation answered, and its log."""

    answer: Answer
    log: str


@dataclass
class _Course:
    """What is seen of an invocation while it goes on."""

    before: str = ""
    init_ms: float | None = None
    duration_ms: float = 0.0
    memory_used_mb: int | None = None


class Environment:
    """Answers one invocation at a time, whatever becomes of its process.

    A process that is gone, was edited away or didn't answer in time is replaced by the next
    invocation. That is when a process starts, never before: so a handler that can't be imported is
    an invocation's answer, with its log, and the next invocation tries again.
    """

    def __init__(
        self,
        configuration: FunctionConfiguration,
        *,
        python: str,
        code: CodeFolder,
        variables: Mapping[str, str],
    ) -> None:
        self._configuration = configuration
        self._python = python
        self._code = code
        self._variables = variables
        self._log = BoundedLog()
        self._lock = threading.Lock()
        self._process: FunctionProcess | None = None
        self._last_used: FunctionProcess | None = None
        self._is_stopped = False

    def invoke(self, payload: Mapping[str, str]) -> Outcome:
        """Runs one invocation.

        Args:
            payload: LocalStack's: `invoke-id`, `invoked-function-arn`, `trace-id` and, as
                `payload`, the event's JSON.
        """
        request_id = payload["invoke-id"]
        course, last_line = _Course(), ""
        try:
            answer = self._run(payload, course)
        except FunctionFault as fault:
            self._discard_process()
            answer = fault.answer(request_id)
            last_line = f"{_now()} {request_id} {fault}\n"
        report = Report(
            request_id=request_id,
            version=self._configuration.version,
            duration_ms=course.duration_ms,
            init_ms=course.init_ms,
            memory_size_mb=self._configuration.memory_size_mb,
            memory_used_mb=course.memory_used_mb,
        )
        output = self._log.take() + last_line
        return Outcome(answer, report.log(before=course.before, output=output))

    def stop(self) -> None:
        """Kills the process; an invocation that is under way fails, and so do later ones."""
        with self._lock:
            self._is_stopped = True
        self._discard_process()

    def _run(self, payload: Mapping[str, str], course: _Course) -> Answer:
        began = time.perf_counter()
        process = self._usable_process()
        try:
            limit = self._configuration.init_timeout_seconds
            init_ms = process.wait_until_ready(at_most_seconds=limit)
            if process is not self._last_used:
                course.init_ms, self._last_used = init_ms, process
            course.before = self._log.take()
            began = time.perf_counter()
            return process.invoke(
                self._invocation(payload), at_most_seconds=self._configuration.timeout_seconds
            )
        finally:
            course.duration_ms = (time.perf_counter() - began) * 1000
            course.memory_used_mb = process.memory_mb()

    def _invocation(self, payload: Mapping[str, str]) -> Invocation:
        return Invocation(
            request_id=payload["invoke-id"],
            function_arn=payload["invoked-function-arn"],
            trace_id=payload["trace-id"],
            deadline_ms=int((time.time() + self._configuration.timeout_seconds) * 1000),
            event=payload["payload"].encode(),
        )

    def _usable_process(self) -> FunctionProcess:
        if self._code.was_edited():
            self._discard_process()
            self._code.forget_bytecode()
        with self._lock:
            if self._is_stopped:
                raise ProcessEnded(-SIGKILL)
            if self._process is None or self._process.has_ended:
                self._process = self._start_process()
            return self._process

    def _start_process(self) -> FunctionProcess:
        self._code.remember()
        return FunctionProcess(
            python=self._python,
            handler=self._configuration.handler,
            folder=self._code.path,
            variables=self._variables,
            log=self._log,
        )

    def _discard_process(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process:
            process.kill()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
