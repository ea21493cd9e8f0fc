"""What a command ends with: for scripts, so these stay as they are."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from pipeline_runs import errors
from pipeline_runs.models import Status

if TYPE_CHECKING:
    from pipeline_runs.models import PipelineRun


class ExitCode(IntEnum):
    """How a command ended."""

    COMPLETED = 0
    """The run COMPLETED, or the command did what it was asked for."""
    FAILED = 1
    """The run FAILED."""
    CANCELLED = 2
    """The run was CANCELLED."""
    TIMED_OUT = 3
    """The run ran out of its time, or --timeout was over first."""
    NO_API = 4
    """The API can't be talked to: not configured, not reachable, not working, token refused."""
    REFUSED = 5
    """The API refused what was asked for."""
    FILES = 6
    """An upload or a download didn't work out."""
    USAGE = 64
    """The command line isn't understood (sysexits' EX_USAGE)."""
    INTERRUPTED = 130
    """By Ctrl-C."""


TOLD: Final = (
    "[bold]Exit codes[/]: 0 COMPLETED, or done · 1 FAILED · 2 CANCELLED · 3 timed out · "
    "4 cannot talk to the API · 5 the API refused · 6 upload or download failed · "
    "64 wrong usage · 130 interrupted"
)
"""For `--help`."""


def of_run(run: PipelineRun) -> ExitCode:
    """What a command ends with that has waited for a run's end."""
    if run.ran_out_of_time:
        return ExitCode.TIMED_OUT
    match run.status:
        case Status.FAILED:
            return ExitCode.FAILED
        case Status.CANCELLED:
            return ExitCode.CANCELLED
        case _:
            return ExitCode.COMPLETED


def of_error(error: errors.PipelineRunsError) -> ExitCode:
    """What a command ends with that couldn't go on."""
    match error:
        case errors.WaitTimedOut():
            return ExitCode.TIMED_OUT
        case errors.SubmissionFailed():
            return ExitCode.FAILED
        case errors.UploadFailed() | errors.DownloadFailed():
            return ExitCode.FILES
        case errors.HeaderInvalid():
            return ExitCode.USAGE
        case errors.TokenRefused() | errors.ServiceUnavailable():
            return ExitCode.NO_API
        case errors.ApiProblem() | errors.PipelineNameUnknown():
            return ExitCode.REFUSED
        case _:
            return ExitCode.NO_API
