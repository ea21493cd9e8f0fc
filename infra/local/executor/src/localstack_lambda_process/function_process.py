"""One process of a function: started, given invocations, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Final

import psutil

from .exchange import Exchange
from .faults import InitTimedOut, NotStarted, ProcessEnded, TimedOut
from .output import OutputReader
from .runtime_api import RuntimeApi

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .exchange import Answer, Invocation
    from .output import BoundedLog

# Becomes Lambda's runtime, and leaves a guard in its process group. Standard input is a pipe that
# only LocalStack holds the other end of, so the guard's read ends when LocalStack does, however
# that happens; then the guard kills the group. The runtime alone would notice only when it next
# asks for work, and would leave behind what the function has started.
SCRIPT: Final = """
exec 3<&0 </dev/null
( (read -r line <&3; kill -s KILL 0) >/dev/null 2>&1 & )
exec "$0" -m awslambdaric "$1" 3<&-
"""
# A killed process is gone in milliseconds, unless the system is in trouble.
KILL_WAIT_SECONDS: Final = 5.0


class FunctionProcess:
    """A process that runs a handler, in a process group of its own.

    Args:
        python: The functions' interpreter.
        handler: The handler's dotted name.
        folder: The folder of its code, where the process runs.
        variables: Its environment, but for the Runtime API's address.
        log: Where its output goes.

    Raises:
        NotStarted: There is no such folder.
    """

    def __init__(
        self,
        *,
        python: str,
        handler: str,
        folder: Path,
        variables: Mapping[str, str],
        log: BoundedLog,
    ) -> None:
        self._started = time.perf_counter()
        self._exchange = Exchange()
        self._api = RuntimeApi(self._exchange)
        try:
            self._popen = subprocess.Popen(
                ["/bin/sh", "-c", SCRIPT, python, handler],
                cwd=folder,
                env={**variables, "AWS_LAMBDA_RUNTIME_API": self._api.address},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as reason:
            self._api.close()
            raise NotStarted(reason) from reason
        self._lifeline = _opened(self._popen.stdin)
        self._output = OutputReader(_opened(self._popen.stdout), log)
        threading.Thread(target=self._await_end, name="lambda-exit", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._popen.poll() is not None

    def wait_until_ready(self, *, at_most_seconds: float) -> float:
        """Waits for the handler's module to be imported; how long that took, in milliseconds.

        What the module printed is in the log on return.

        Raises:
            InitFailed: The module can't be imported.
            InitTimedOut: It isn't within the time given.
            ProcessEnded: The process ended on the way.
        """
        try:
            self._exchange.ready.result(timeout=at_most_seconds)
        except TimeoutError:
            raise InitTimedOut(at_most_seconds) from None
        finally:
            self._output.read_now()
        return (time.perf_counter() - self._started) * 1000

    def invoke(self, invocation: Invocation, *, at_most_seconds: float) -> Answer:
        """Has the handler called; what it printed meanwhile is in the log on return.

        Raises:
            TimedOut: There is no answer within the time given. The process still runs.
            ProcessEnded: The process ended before it answered.
        """
        try:
            return self._exchange.invoke(invocation).result(timeout=at_most_seconds)
        except TimeoutError:
            raise TimedOut(at_most_seconds) from None
        finally:
            self._output.read_now()

    def memory_mb(self) -> int | None:
        """The memory it takes, or None if it is gone."""
        try:
            return int(psutil.Process(self._popen.pid).memory_info().rss // 2**20)
        except psutil.Error:
            return None

    def kill(self) -> None:
        """Ends the process and all that it has started; what they printed is in the log then.

        AWS gives a function without extensions no warning either.
        """
        if not self.has_ended:  # Afterwards the system may give its number to another group.
            self._kill_group()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=KILL_WAIT_SECONDS)
        self._output.read_now()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # Gone, or a zombie (macOS).
            os.killpg(self._popen.pid, signal.SIGKILL)

    def _await_end(self) -> None:
        returncode = self._popen.wait()
        self._kill_group()  # What a crashed process leaves running would keep its pipe open.
        self._exchange.end(ProcessEnded(returncode))
        self._lifeline.close()
        self._api.close()


def _opened(pipe: IO[bytes] | None) -> IO[bytes]:
    """The end of a pipe that was asked for, which mypy can't know."""
    assert pipe  # noqa: S101
    return pipe
