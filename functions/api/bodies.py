"""The wire: what requests may hold, and what answers look like."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime  # noqa: TC003  # pydantic reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializeAsAny,
    StringConstraints,
)

from runs import prefixes
from runs.model import DEFAULT_TIMEOUT, CancelCause, ErrorCategory
from runs.status import PipelineMode, PipelineRunStatus  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runs.events import RunEvent
    from runs.model import Pipeline, PipelineRun

LARGEST_ID: Final = 2**63 - 1
LARGEST_BODY_BYTES: Final = 64 * 1024
LARGEST_PARAMETERS_BYTES: Final = 32 * 1024
MOST_TAGS: Final = 50
DEFAULT_SECONDS: Final = round(DEFAULT_TIMEOUT.total_seconds())
FILLED_IN: Final = "${workflow.secrets."
"""In any text, Conductor puts one of its own secrets in place of what begins so; all else stays."""


def _storable(text: str) -> str:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain NUL or lone surrogates")
    return text


def _small(parameters: dict[str, Any]) -> dict[str, Any]:
    for text in _texts(parameters):
        _storable(text)
        if FILLED_IN in text:
            raise ValueError(f"must not contain '{FILLED_IN}'")
    text = json.dumps(parameters, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > LARGEST_PARAMETERS_BYTES:
        raise ValueError(f"must not be larger than {LARGEST_PARAMETERS_BYTES // 1024} KiB as JSON")
    return parameters


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys too."""
    pending = [value]
    while pending:
        match pending.pop():
            case str() as text:
                yield text
            case dict() as members:
                pending += [*members.keys(), *members.values()]
            case list() as items:
                pending += items


Id = Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_storable)]
WorkflowName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_. -]{0,254}$")]
Prefix = Annotated[str, AfterValidator(prefixes.checked)]
TagName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]{1,64}$")]
TagValue = Annotated[str, StringConstraints(max_length=256), AfterValidator(_storable)]


class RequestBody(BaseModel):
    """A request holds what is named here and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def fingerprint(self) -> str:
        """The same for equal requests, whatever their layout, also once more fields are known."""
        text = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class PipelineRequest(RequestBody):
    """`POST /pipeline`."""

    name: Name
    mode: PipelineMode
    workflow_name: WorkflowName
    workflow_version: Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)] | None = None


class PipelineChanges(RequestBody):
    """`PATCH /pipeline/{pipeline_id}`: what is left out stays, whatever stands for it here."""

    name: Name = ""
    workflow_name: WorkflowName = ""
    workflow_version: Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)] | None = None

    def changes(self) -> dict[str, object]:
        """The fields that the request names."""
        return self.model_dump(include=self.model_fields_set)


class PipelineRunRequest(RequestBody):
    """`POST /pipeline-run`."""

    pipeline_id: Id
    input_path_prefix: Prefix
    output_path_prefix: Prefix
    report_path_prefix: Prefix | None = None
    parameters: Annotated[dict[str, JsonValue], AfterValidator(_small)] | None = None
    tags: Annotated[dict[TagName, TagValue], Field(max_length=MOST_TAGS)] = {}
    timeout_seconds: Annotated[int, Field(strict=True, ge=60, le=2_592_000)] = DEFAULT_SECONDS


class CancelRequest(RequestBody):
    """`POST /pipeline-run/{pipeline_run_id}/cancel`."""

    reason: Annotated[str, StringConstraints(max_length=500), AfterValidator(_storable)] | None = (
        None
    )


class PageQuery(RequestBody):
    """What every list takes."""

    page_size: Annotated[int, Field(ge=1, le=200)] = 50
    page_token: str = ""


class RunsQuery(PageQuery):
    """`GET /pipeline-run`."""

    status: PipelineRunStatus | None = None
    pipeline_id: Annotated[int, Field(ge=1, le=LARGEST_ID)] | None = None


class PipelineBody(BaseModel):
    """A pipeline."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    mode: PipelineMode
    workflow_name: str
    workflow_version: int | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self:
        """Its wire shape."""
        return cls.model_validate(pipeline)


class ErrorBody(BaseModel):
    """Why a run FAILED."""

    model_config = ConfigDict(from_attributes=True)

    code: str
    category: ErrorCategory
    message: str


class ProgressBody(BaseModel):
    """How far a job is."""

    model_config = ConfigDict(from_attributes=True)

    done: int
    total: int


class ObservationBody(BaseModel):
    """What the checks have seen."""

    model_config = ConfigDict(from_attributes=True)

    last_checked_at: datetime | None
    upstream_status: str | None
    progress: ProgressBody | None
    logs_url: str | None
    staleness_seconds: float | None
    consecutive_failures: int
    last_error: str | None
    next_check_at: datetime | None = None


class PipelineRunBody(BaseModel):
    """A run: every field of the original design's response, and more."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    pipeline_id: int
    status: PipelineRunStatus
    workbench_job_id: str | None
    error_message: str | None = None
    user_storage_input_path_prefix: str
    user_storage_output_path_prefix: str
    user_storage_report_path_prefix: str | None
    started_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int
    mode: PipelineMode
    output: JsonValue
    parameters: dict[str, JsonValue] | None
    tags: dict[str, str]
    retry_of: int | None
    conductor_workflow_id: str | None
    timeout_seconds: int
    cancel_requested_at: datetime | None
    cancel_cause: CancelCause | None
    cancel_reason: str | None
    error: ErrorBody | None
    observation: ObservationBody
    links: dict[str, str] = {}

    @classmethod
    def of(cls, run: PipelineRun, *, base: str) -> Self:
        """Its wire shape; `base` is the address that the API's paths are appended to."""
        body = cls.model_validate(run)
        body.error_message = run.error.message if run.error else None
        body.observation.next_check_at = run.next_check_at
        own = f"{base}/pipeline-run/{run.id}"
        body.links = {
            "self": own,
            "events": f"{own}/events",
            "pipeline": f"{base}/pipeline/{run.pipeline_id}",
        }
        command = "retry" if run.is_terminal else "cancel"
        body.links[command] = f"{own}/{command}"
        return body


class RunEventBody(BaseModel):
    """One status that a run entered."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    previous_status: PipelineRunStatus | None
    status: PipelineRunStatus
    at: datetime
    error: str | None

    @classmethod
    def of(cls, event: RunEvent) -> Self:
        """Its wire shape."""
        return cls(
            version=event.version,
            previous_status=event.previous_status,
            status=event.status,
            at=event.at,
            error=event.error_message,
        )


class RunEventsBody(BaseModel):
    """A run's whole history, oldest first."""

    items: list[RunEventBody]


class PageBody(BaseModel):
    """A page of a list; it may be short, and only an empty token is the end."""

    items: list[SerializeAsAny[BaseModel]]
    next_page_token: str
