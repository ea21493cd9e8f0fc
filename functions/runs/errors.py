"""What can go wrong, told in the domain's own words; HTTP is a table in `api.problems`.

RunsError
├── RequestRefused           the caller's doing; nothing was written
│   ├── PipelineNotFound
│   ├── RunNotFound
│   ├── PipelineExists
│   ├── IdempotencyKeyReused
│   ├── RunAlreadyTerminal   there is nothing left to cancel
│   └── RunNotTerminal       it isn't retried while it may still end well
├── IllegalTransition        no way leads from a run's status to the one asked for: our own bug
├── SubmissionFailed         a run was recorded, and its submission definitely failed
├── DatabaseUnavailable      the database can't be reached, or not now
├── ConductorError
│   ├── WorkflowRefused      Conductor answered 4xx: nothing was started
│   ├── ConductorUnreachable nothing was sent
│   └── ConductorUnclear     sent, and no clear answer: it may have been carried out
└── WorkbenchUnavailable     the Workbench gave no valid answer
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runs.status import PipelineMode, PipelineRunStatus


class RunsError(Exception):
    """The root of all that this project raises on purpose."""


class RequestRefused(RunsError):
    """The caller asked for what can't be done; nothing was written."""


class PipelineNotFound(RequestRefused):
    """No pipeline has this id."""


class RunNotFound(RequestRefused):
    """No run has this id."""


class PipelineExists(RequestRefused):
    """Another pipeline has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"A pipeline named {name!r} exists already")


class IdempotencyKeyReused(RequestRefused):
    """The key came before with another body."""

    def __init__(self, run_id: int) -> None:
        super().__init__(f"This Idempotency-Key was used with another body, for run {run_id}")
        self.run_id = run_id


class RunAlreadyTerminal(RequestRefused):
    """The run has ended, and not by a cancel."""

    def __init__(self, run_id: int, status: PipelineRunStatus) -> None:
        super().__init__(f"Run {run_id} has ended: it is {status}")


class RunNotTerminal(RequestRefused):
    """The run hasn't ended."""

    def __init__(self, run_id: int, status: PipelineRunStatus) -> None:
        super().__init__(f"Run {run_id} has not ended: it is {status}. Cancel it first, or wait")


class IllegalTransition(RunsError):
    """The status diagram has no way from the one status to the other."""

    def __init__(self, start: PipelineRunStatus, end: PipelineRunStatus) -> None:
        super().__init__(f"no way leads from {start} to {end}")
        self.start = start
        self.end = end


class SubmissionFailed(RunsError):
    """The run is kept, FAILED; the text is its error message."""

    def __init__(self, run_id: int, mode: PipelineMode, message: str, *, replayed: bool) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.mode = mode
        self.replayed = replayed


class DatabaseUnavailable(RunsError):
    """The database can't be reached, is full of connections, or is restarting."""


class ConductorError(RunsError):
    """Conductor did not do what it was asked, as far as we know."""


class WorkflowRefused(ConductorError):
    """Conductor answered 4xx: nothing was started."""


class ConductorUnreachable(ConductorError):
    """Nothing was sent: no route, no name, no TLS, connection refused."""


class ConductorUnclear(ConductorError):
    """Something was sent and no answer understood: it may have been carried out."""


class WorkbenchUnavailable(RunsError):
    """The Workbench gave no valid answer."""
