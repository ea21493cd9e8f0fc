"""What can go wrong, told in the domain's own words; HTTP is a table in `api.problems`.

RunsError
├── RequestRefused           the caller's doing; nothing was written
│   ├── PipelineNotFound
│   ├── RunNotFound
│   ├── PipelineExists
│   ├── PipelineDisabled     it admits no runs
│   ├── PipelineFull         it has as many active runs as it may
│   ├── TenantFull           the tenant has
│   ├── IdempotencyKeyReused
│   ├── RunAlreadyTerminal   there is nothing left to cancel
│   ├── RunNotTerminal       it isn't retried while it may still end well
│   ├── FieldForbidden       what a run is to be made of may not be so
│   │   ├── PrefixForbidden     a path prefix that this caller may not use
│   │   └── ParametersForbidden parameters that Conductor must not be given
│   ├── NoReport             the run was not asked for one
│   ├── TokenRefused         nobody knows who calls
│   └── ScopeMissing         the caller is known and may not do this
├── TokensUnavailable        tokens can't be checked at the moment
├── SecretUnavailable        a token or an address can't be read where it is kept
├── StorageUnavailable       the user's storage gave no valid answer
├── StorageRefused           it did: no such bucket, or not for us
├── IllegalTransition        no way leads from a run's status to the one asked for: our own bug
├── SubmissionFailed         a run was recorded, and its submission definitely failed
├── DatabaseUnavailable      the database can't be reached, or not now
├── ConductorError
│   ├── WorkflowRefused      Conductor answered 4xx: nothing was started
│   ├── ConductorUnreachable nothing was sent, or let in
│   └── ConductorUnclear     sent, and no clear answer: it may have been carried out
└── WorkbenchUnavailable     the Workbench gave no valid answer
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runs.callers import Scope
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


class PipelineDisabled(RequestRefused):
    """The pipeline admits no runs until somebody enables it."""

    def __init__(self, pipeline_id: int, reason: str | None) -> None:
        why = f" ({reason})" if reason else ""
        super().__init__(
            f"Pipeline {pipeline_id} is disabled{why}. Enable it first, or take another"
        )
        self.pipeline_id = pipeline_id
        self.reason = reason


class PipelineFull(RequestRefused):
    """The pipeline has as many active runs as it may."""

    def __init__(self, pipeline_id: int, limit: int) -> None:
        super().__init__(
            f"Pipeline {pipeline_id} has {limit} active runs, which is its limit. "
            "Try again once one of them has ended"
        )
        self.pipeline_id = pipeline_id
        self.limit = limit


class TenantFull(RequestRefused):
    """The tenant has as many active runs as it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"You have {limit} active runs, which is the limit. "
            "Try again once one of them has ended, or cancel one"
        )
        self.limit = limit


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


class FieldForbidden(RequestRefused):
    """A field of a run can't be what was asked for; the text says why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class PrefixForbidden(FieldForbidden):
    """A path prefix outside what the caller may use."""


class ParametersForbidden(FieldForbidden):
    """Parameters that Conductor would not pass through as they are."""

    def __init__(self, why: str) -> None:
        super().__init__("parameters", why)


class NoReport(RequestRefused):
    """The run was made without a prefix for its report."""


class TokenRefused(RequestRefused):
    """There is no token, or not a valid one; the text is safe to show."""


class ScopeMissing(RequestRefused):
    """The caller's token lacks a scope."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(f"This needs a token with the scope {scope}")
        self.scope = scope


class TokensUnavailable(RunsError):
    """The issuer's keys can't be fetched, and none are known."""


class SecretUnavailable(RunsError):
    """A token or an address can't be read where it is kept, or isn't one; holds nothing of it."""


class StorageUnavailable(RunsError):
    """The user's storage can't be reached, or gave no valid answer."""


class StorageRefused(RunsError):
    """The user's storage has no such bucket, or doesn't let us look into it."""


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
    """Conductor itself answered 4xx: nothing was started."""


class ConductorUnreachable(ConductorError):
    """Nothing was started, and that may change.

    Nothing was sent (no route, name, TLS, connection or time), or a gate before Conductor let
    nothing in (401, 403, 407, 429).
    """


class ConductorUnclear(ConductorError):
    """Something was sent and no answer understood: it may have been carried out."""


class WorkbenchUnavailable(RunsError):
    """The Workbench gave no valid answer."""
