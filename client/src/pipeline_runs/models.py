"""What goes over the wire: the API's own bodies, typed.

An answer may hold more than is named here: newer services stay understood. What a request doesn't
name isn't sent.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - a model's field
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue


class Mode(StrEnum):
    """How a pipeline is executed."""

    BATCH = "BATCH"
    """By the Workbench, as a job that is watched."""
    REALTIME = "REALTIME"
    """At once, by its workflow alone."""


class Status(StrEnum):
    """Where a run stands."""

    CREATED = "CREATED"
    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether a run with this status has ended."""
        return self in TERMINAL


TERMINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class ErrorCategory(StrEnum):
    """Whose turn it is after a failure."""

    USER = "USER"
    UPSTREAM = "UPSTREAM"
    PLATFORM = "PLATFORM"
    TIMEOUT = "TIMEOUT"
    LOST = "LOST"


class CancelCause(StrEnum):
    """Who wants a run to end."""

    USER = "USER"
    TIMEOUT = "TIMEOUT"


# -- requests -------------------------------------------------------------------------------------


class RequestBody(BaseModel):
    """What is sent: only the fields that were given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def sent(self) -> dict[str, Any]:
        """As JSON."""
        return self.model_dump(mode="json", exclude_unset=True)


class NewPipeline(RequestBody):
    """`POST /pipeline`."""

    name: str
    mode: Mode
    workflow_name: str
    workflow_version: int | None = None
    """None: always the latest."""
    enabled: bool = True
    disabled_reason: str | None = None
    max_active_runs: int | None = None
    timeout_seconds: int | None = None
    """What its runs have, unless they say otherwise; None: the service's default."""


class PipelineChanges(RequestBody):
    """`PATCH /pipeline/{pipeline_id}`: what isn't given stays."""

    name: str = ""
    workflow_name: str = ""
    workflow_version: int | None = None
    enabled: bool = True
    disabled_reason: str | None = None
    max_active_runs: int | None = None
    timeout_seconds: int | None = None


class NewRun(RequestBody):
    """`POST /pipeline-run`. Prefixes are `s3://bucket/key` or relative to the service's bucket."""

    pipeline_id: int
    input_path_prefix: str
    output_path_prefix: str
    report_path_prefix: str | None = None
    parameters: dict[str, JsonValue] | None = None
    """Passed through to the pipeline; at most 32 KiB as JSON."""
    tags: dict[str, str] = {}
    timeout_seconds: int | None = None
    """From the job's submission to its end."""


class Cancellation(RequestBody):
    """`POST /pipeline-run/{pipeline_run_id}/cancel`."""

    reason: str | None = None


# -- answers --------------------------------------------------------------------------------------


class AnswerBody(BaseModel):
    """What is answered; fields that aren't known here are kept and shown by `model_dump`."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Pipeline(AnswerBody):
    """The definition that runs are made of."""

    id: int
    name: str
    mode: Mode
    workflow_name: str
    workflow_version: int | None
    enabled: bool
    disabled_reason: str | None
    max_active_runs: int | None
    timeout_seconds: int | None
    created_at: datetime
    updated_at: datetime


class RunError(AnswerBody):
    """Why a run FAILED."""

    code: str
    category: ErrorCategory
    message: str


class Progress(AnswerBody):
    """How far a job is."""

    done: int
    total: int


class Observation(AnswerBody):
    """What the service's checks of the job have seen."""

    last_checked_at: datetime | None
    upstream_status: str | None
    progress: Progress | None
    logs_url: str | None
    staleness_seconds: float | None
    consecutive_failures: int
    last_error: str | None
    next_check_at: datetime | None


class PipelineRun(AnswerBody):
    """One execution of a pipeline."""

    id: int
    pipeline_id: int
    status: Status
    workbench_job_id: str | None
    error_message: str | None
    user_storage_input_path_prefix: str
    user_storage_output_path_prefix: str
    user_storage_report_path_prefix: str | None
    started_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int
    """Rises with every status it enters."""
    mode: Mode
    output: JsonValue
    parameters: dict[str, JsonValue] | None
    tags: dict[str, str]
    retry_of: int | None
    conductor_workflow_id: str | None
    timeout_seconds: int
    cancel_requested_at: datetime | None
    cancel_cause: CancelCause | None
    cancel_reason: str | None
    error: RunError | None
    observation: Observation
    request_id: str | None = None
    """Of the request that made it: finds it in the service's logs."""
    links: dict[str, str]

    @property
    def has_ended(self) -> bool:
        """Whether its status is its last."""
        return self.status.is_terminal

    @property
    def ran_out_of_time(self) -> bool:
        """Whether the service ended it because it took longer than `timeout_seconds`."""
        timed_out = self.error is not None and self.error.category is ErrorCategory.TIMEOUT
        cancelled = self.status is Status.CANCELLED and self.cancel_cause is CancelCause.TIMEOUT
        return timed_out or cancelled


class RunEvent(AnswerBody):
    """One status that a run entered."""

    version: int
    previous_status: Status | None
    status: Status
    at: datetime
    error: str | None


class RunEvents(AnswerBody):
    """A run's whole history, oldest first."""

    items: list[RunEvent]


class StoredObject(AnswerBody):
    """An object that a run wrote."""

    name: str
    """What of its key follows the run's prefix."""
    bucket: str
    key: str
    size_bytes: int
    modified_at: datetime
    url: str
    """Reads it for a quarter of an hour, without a token."""


class Page(AnswerBody):
    """A page of a list; it may be short, and only an empty token is the end."""

    next_page_token: str


class PipelinePage(Page):
    """A page of pipelines, newest first."""

    items: list[Pipeline]


class PipelineRunPage(Page):
    """A page of runs, newest first."""

    items: list[PipelineRun]


class StoredObjectPage(Page):
    """Some of a run's objects, ascending by name."""

    items: list[StoredObject]


class Limits(AnswerBody):
    """What a request may ask for."""

    body_bytes: int
    parameters_bytes: int
    tags: int
    page_size: int
    wait_seconds: int
    active_runs: int | None
    """Of the caller's tenant; None: any number."""


class RunsOverview(AnswerBody):
    """How the caller's runs fare."""

    active: dict[Status, int]
    ended_within_24_hours: dict[Status, int]
    worst_staleness_seconds: float | None


class Poller(AnswerBody):
    """Whether the poller does its work."""

    poll_interval_seconds: int
    last_sweep_at: datetime | None
    runs_checked_within_a_minute: int


class Workbench(AnswerBody):
    """Whether the Workbench is asked."""

    breaker: Literal["CLOSED", "OPEN"]
    breaker_opened_at: datetime | None


class ServiceInfo(AnswerBody):
    """The service, and how the caller's runs fare in it."""

    service: Literal["pipeline-runs"]
    version: str
    stage: str
    now: datetime
    limits: Limits
    runs: RunsOverview
    poller: Poller
    workbench: Workbench


class Health(AnswerBody):
    """The service can do its work."""

    status: Literal["ok"]


class Fault(AnswerBody):
    """One fault of a request."""

    pointer: str
    """A JSON Pointer (RFC 6901) to where it is; empty: the body as a whole."""
    message: str


class Problem(AnswerBody):
    """Why there is no other answer (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[Fault] | None = None
    """Of `invalid_request` alone."""
    pipeline_run_id: int | None = None
    """Of `submission_failed` alone: the run that is kept."""
