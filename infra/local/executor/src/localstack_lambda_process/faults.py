"""Why an invocation ended without an answer of its handler, in the words of AWS.

FunctionFault
├── InitFailed      the handler's module can't be imported; answers what the runtime reported
├── InitTimedOut    importing took too long
├── TimedOut        the handler took longer than the function's time-out
├── ProcessEnded    the process exited or was killed
└── NotStarted      the code folder is gone
"""

from __future__ import annotations

import json
import signal

from .exchange import Answer


class FunctionFault(Exception):
    """The text is what happened, for the log and, behind the request's id, for the caller."""

    error_type: str

    def answer(self, request_id: str) -> Answer:
        """What the caller gets: a JSON object with errorType and errorMessage."""
        message = f"RequestId: {request_id} Error: {self}"
        error = {"errorType": self.error_type, "errorMessage": message}
        return Answer(json.dumps(error).encode(), is_error=True)


class InitFailed(FunctionFault):
    """The runtime reported an error before it asked for work.

    Args:
        report: The runtime's own JSON object, with errorType and errorMessage.
    """

    def __init__(self, report: bytes) -> None:
        super().__init__("The function can't be initialised: its own error stands above.")
        self._report = report

    def answer(self, request_id: str) -> Answer:  # noqa: ARG002 # AWS passes the report on as it is.
        """The function's own errorType and errorMessage."""
        return Answer(self._report, is_error=True)


class InitTimedOut(FunctionFault):
    """The runtime didn't ask for work in time."""

    error_type = "Sandbox.Timedout"

    def __init__(self, after_seconds: float) -> None:
        super().__init__(f"Init timed out after {after_seconds:.2f} seconds")


class TimedOut(FunctionFault):
    """The handler didn't answer within the function's time-out."""

    error_type = "Sandbox.Timedout"

    def __init__(self, after_seconds: float) -> None:
        super().__init__(f"Task timed out after {after_seconds:.2f} seconds")


class ProcessEnded(FunctionFault):
    """The process is gone.

    Args:
        returncode: As `Popen.returncode`: below zero it is a signal's number.
    """

    error_type = "Runtime.ExitError"

    def __init__(self, returncode: int) -> None:
        super().__init__(f"Runtime exited {_manner(returncode)}")


class NotStarted(FunctionFault):
    """The process could not be started, for what the operating system says."""

    error_type = "Runtime.InvalidEntrypoint"

    def __init__(self, reason: OSError) -> None:
        super().__init__(f"The function's process can't be started: {reason}")


def _manner(returncode: int) -> str:
    if returncode == 0:
        return "without providing a reason"
    if returncode > 0:
        return f"with error: exit status {returncode}"
    return f"with error: signal: {(signal.strsignal(-returncode) or str(-returncode)).lower()}"
