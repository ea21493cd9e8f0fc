"""Pipelines, runs, what is known of them, and the one gate that a status change goes through."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from runs.errors import IllegalTransition
from runs.status import TERMINAL, PipelineMode, PipelineRunStatus, walk

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

JOB_ID: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._:-]{1,255}\Z")
"""What a Workbench may call a job: safe in a path, and it fits its column."""

UPSTREAM_STATUSES: Final[Mapping[str, PipelineRunStatus]] = MappingProxyType(
    dict.fromkeys(
        ("SUBMITTED", "QUEUED", "PENDING", "ACCEPTED", "RUNNABLE", "STARTING"),
        PipelineRunStatus.SUBMITTED,
    )
    | dict.fromkeys(("RUNNING", "IN_PROGRESS", "PROCESSING"), PipelineRunStatus.RUNNING)
    | dict.fromkeys(("COMPLETED", "SUCCEEDED", "SUCCESS", "DONE"), PipelineRunStatus.COMPLETED)
    | dict.fromkeys(("FAILED", "ERROR", "FAILURE"), PipelineRunStatus.FAILED)
    | dict.fromkeys(("CANCELLED", "CANCELED", "ABORTED", "STOPPED"), PipelineRunStatus.CANCELLED)
)
"""The Workbench's words for our statuses; any other word is unknown."""

UPSTREAM_STATUS_LENGTH: Final = 64
MESSAGE_LENGTH: Final = 2_000
QUOTE_LENGTH: Final = 200
DEFAULT_TIMEOUT: Final = timedelta(days=7)
"""What a run has from its job's submission to its end, if neither it nor its pipeline says."""


class ErrorCategory(StrEnum):
    """Whose turn it is."""

    USER = "USER"
    """The request or its data is at fault."""
    UPSTREAM = "UPSTREAM"
    """The Workbench reported it."""
    PLATFORM = "PLATFORM"
    """Conductor or this service."""
    TIMEOUT = "TIMEOUT"
    LOST = "LOST"
    """It is not known what became of the job."""


class CancelCause(StrEnum):
    """Who wants a run to end."""

    USER = "USER"
    TIMEOUT = "TIMEOUT"
    """The run took longer than it was given."""


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run FAILED, for a person who has to act on it."""

    code: str
    category: ErrorCategory
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A definition that runs are made of."""

    id: int
    tenant_id: str
    name: str
    mode: PipelineMode
    workflow_name: str
    workflow_version: int | None
    """None: the latest."""
    created_at: datetime
    updated_at: datetime
    enabled: bool = True
    """Whether runs of it are admitted."""
    disabled_reason: str | None = None
    max_active_runs: int | None = None
    """None: no limit."""
    timeout_seconds: int | None = None
    """What its runs have, from their job's submission to their end; None: `DEFAULT_TIMEOUT`."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, in the Workbench's own unit."""

    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the checks of a run have seen so far."""

    last_checked_at: datetime | None = None
    """The last check that got a valid answer."""
    upstream_status: str | None = None
    progress: Progress | None = None
    logs_url: str | None = None
    consecutive_failures: int = 0
    last_error: str | None = None
    staleness_seconds: float | None = None
    """How old the newest valid answer was when this was read."""
    unknown_since: datetime | None = None
    """Since when the Workbench has not known the job, with no valid answer in between."""
    unknown_count: int = 0
    """How often it said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """What a caller asks for."""

    tenant_id: str
    pipeline_id: int
    input_path_prefix: str
    output_path_prefix: str
    report_path_prefix: str | None
    parameters: Mapping[str, object] | None
    tags: Mapping[str, str]
    timeout_seconds: int | None = None
    """None: its pipeline's."""
    retry_of: int | None = None
    request_id: str | None = None
    """Finds what was done for this run in all logs, the Workbench's too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRun:
    """One execution of a pipeline, as the database knows it."""

    id: int
    tenant_id: str
    pipeline_id: int
    mode: PipelineMode
    status: PipelineRunStatus
    version: int
    """The number of statuses the run has entered."""
    workflow_name: str
    workflow_version: int | None
    correlation_id: str
    """Names this run to Conductor and, as its idempotency key, to the Workbench."""
    workbench_job_id: str | None
    conductor_workflow_id: str | None
    error: RunError | None
    user_storage_input_path_prefix: str
    user_storage_output_path_prefix: str
    user_storage_report_path_prefix: str | None
    parameters: Mapping[str, object] | None
    tags: Mapping[str, str]
    retry_of: int | None
    request_id: str | None
    """Of the request that made it; None: made before runs had one."""
    output: object | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    timeout_seconds: int
    """From its job's submission to its end."""
    cancel_requested_at: datetime | None
    cancel_cause: CancelCause | None
    cancel_reason: str | None
    submit_lease_until: datetime | None
    """Until then only the lease's holder may start a workflow for this run."""
    submit_attempts: int
    next_check_at: datetime | None
    """Set while the last check failed: the run isn't asked before it."""
    observation: Observation = Observation()

    @property
    def names(self) -> dict[str, object]:
        """What it is called in logs, here and elsewhere."""
        return {
            "run_id": self.id,
            "correlation_id": self.correlation_id,
            "request_id": self.request_id,
        }

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended."""
        return self.status in TERMINAL

    @property
    def times_out_at(self) -> datetime | None:
        """When it has to have ended; None until its job is submitted."""
        return self.started_at and self.started_at + timedelta(seconds=self.timeout_seconds)

    @property
    def never_submitted(self) -> bool:
        """Whether the run failed before it had a job."""
        return self.status is PipelineRunStatus.FAILED and self.started_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """Jobs may exist that no run wants."""

    reason: str
    job_ids: tuple[str, ...] = ()
    """Those that are known; the Workbench may know of more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A change of status, decided on a row as it was seen and valid for that row alone."""

    run_id: int
    seen_version: int
    seen_status: PipelineRunStatus
    path: tuple[PipelineRunStatus, ...]
    """The legal steps; the last is the new status."""
    workbench_job_id: str | None = None
    conductor_workflow_id: str | None = None
    error: RunError | None = None
    output: object | None = None
    stray: Stray | None = None
    """Noted with the change, for the hunt."""


def transition(
    run: PipelineRun,
    to: PipelineRunStatus,
    *,
    workbench_job_id: str | None = None,
    conductor_workflow_id: str | None = None,
    error: RunError | None = None,
    output: object | None = None,
    stray: Stray | None = None,
) -> Transition | None:
    """The gate: the only maker of transitions. None when the run is there already.

    Raises:
        IllegalTransition: no way leads there, a job id would change, or FAILED lacks its error.
    """
    if run.status is to:
        return None
    path = walk(run.status, to)
    renamed = workbench_job_id is not None and run.workbench_job_id is not None
    if not path or renamed or (error is None) is (to is PipelineRunStatus.FAILED):
        raise IllegalTransition(run.status, to)
    return Transition(
        run_id=run.id,
        seen_version=run.version,
        seen_status=run.status,
        path=path,
        workbench_job_id=workbench_job_id,
        conductor_workflow_id=conductor_workflow_id,
        error=error,
        output=output,
        stray=stray,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found out about one run, whether or not its status changes."""

    run_id: int
    upstream_status: str | None = None
    progress: Progress | None = None
    logs_url: str | None = None
    trouble: str | None = None
    """Why there was no valid answer; None: there was one."""
    unknown_job: bool = False
    """The trouble is that the Workbench has no such job."""
    next_check_at: datetime | None = None
    """Set with trouble alone."""
    is_last: bool = False
    """The run ended by this check; of other checks nothing is kept then."""


def clean_json(value: Any) -> Any:
    """JSON from outside, its texts made fit to be stored."""
    match value:
        case str():
            return clean(value, len(value))
        case dict():
            return {clean_json(name): clean_json(member) for name, member in value.items()}
        case list():
            return [clean_json(item) for item in value]
        case _:
            return value


def clean(text: str, length: int) -> str:
    """Text from outside, made fit to be stored: no NUL, no lone surrogates, not longer than length.

    What is cut off ends in an ellipsis.
    """
    sound = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    return sound if len(sound) <= length else sound[: length - 1] + "…"
