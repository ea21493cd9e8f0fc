"""The wire: what requests may hold, and what answers look like."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    StringConstraints,
)

from api import VERSION
from runs import parameters, prefixes
from runs.model import CancelCause, ErrorCategory  # noqa: TC001
from runs.status import ACTIVE, TERMINAL, PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.config import JsonDict
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

    from runs.events import RunEvent
    from runs.model import Pipeline, PipelineRun
    from runs.ports import Overview
    from runs.settings import ApiSettings

LARGEST_ID: Final = 2**63 - 1
LARGEST_BODY_BYTES: Final = 64 * 1024
LARGEST_PARAMETERS_BYTES: Final = 32 * 1024
MOST_TAGS: Final = 50
LARGEST_PAGE: Final = 200
LONGEST_WAIT_SECONDS: Final = 20
_FIRST_MOMENT: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MOMENT: Final = datetime(9999, 1, 1, tzinfo=UTC)
_RFC_3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _storable(text: str) -> str:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain NUL or lone surrogates")
    return text


def _small(value: dict[str, Any]) -> dict[str, Any]:
    for text in parameters.texts(value):
        _storable(text)
    if why := parameters.refusal(value):
        raise ValueError(why)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > LARGEST_PARAMETERS_BYTES:
        raise ValueError(f"must not be larger than {LARGEST_PARAMETERS_BYTES // 1024} KiB as JSON")
    return value


def _spelled_out(moment: object) -> object:
    """A number of seconds is a moment to pydantic, and none to RFC 3339."""
    if isinstance(moment, str) and not _RFC_3339.fullmatch(moment):
        raise ValueError("must be as RFC 3339 writes it, such as 2026-11-24T12:00:00Z")
    return moment


def _comparable(moment: datetime) -> datetime:
    """No run is older or younger, and no database or offset can go beyond."""
    return min(max(moment, _FIRST_MOMENT), _LAST_MOMENT)


def _whole(number: object) -> object:
    """JSON knows one kind of number: 1.0 is the integer 1."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


@dataclass(frozen=True, eq=False)  # By identity: annotations are hashed.
class Told:
    """More of a schema for the documentation alone: what refuses the value says it in words."""

    members: Mapping[str, JsonValue]

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Pydantic's hook."""
        return {**handler(core_schema), **self.members}


WHOLE: Final = BeforeValidator(_whole)
STORABLE: Final = Told({"pattern": r"^[^\u0000]*$"})
Id = Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID), WHOLE]
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=255), AfterValidator(_storable), STORABLE
]
WorkflowName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_. -]{0,254}$")]
WorkflowVersion = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1), WHOLE]
TimeoutSeconds = Annotated[int, Field(strict=True, ge=60, le=2_592_000), WHOLE]
MostRuns = Annotated[int, Field(strict=True, ge=1, le=1_000_000), WHOLE]
Reason = Annotated[str, StringConstraints(max_length=500), AfterValidator(_storable), STORABLE]
Prefix = Annotated[
    str,
    AfterValidator(prefixes.checked),
    Told(
        {
            "description": "`s3://bucket/key`, or relative to the storage bucket.",
            "minLength": 1,
            "maxLength": prefixes.LONGEST,
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029\\]+$",
        }
    ),
]
_TAG_NAME: Final = re.compile(r"[A-Za-z0-9._/-]{1,64}")
TagName = Annotated[str, StringConstraints(pattern=f"^{_TAG_NAME.pattern}$")]
Moment = Annotated[AwareDatetime, BeforeValidator(_spelled_out), AfterValidator(_comparable)]
TagValue = Annotated[str, StringConstraints(max_length=256), AfterValidator(_storable), STORABLE]


def _without_default(schema: JsonDict) -> None:
    del schema["default"]


LEFT_OUT: Final = Field(json_schema_extra=_without_default)
"""What stands for a field that isn't sent is no value that could be."""


class RequestBody(BaseModel):
    """A request holds what is named here and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def fingerprint(self) -> str:
        """The same for equal requests, whatever their layout, also once more fields are known."""
        text = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _example(**members: JsonValue) -> ConfigDict:
    """A request's configuration with a body that the documentation shows."""
    return ConfigDict(json_schema_extra={"examples": [members]})


class PipelineRequest(RequestBody):
    """`POST /pipeline`."""

    model_config = _example(
        name="nightly-clean", mode="BATCH", workflow_name="batch_pipeline_workflow"
    )

    name: Name
    mode: PipelineMode
    workflow_name: WorkflowName
    workflow_version: WorkflowVersion | None = None
    enabled: Annotated[bool, Field(strict=True)] = True
    disabled_reason: Reason | None = None
    max_active_runs: MostRuns | None = None
    timeout_seconds: TimeoutSeconds | None = None


class PipelineChanges(RequestBody):
    """`PATCH /pipeline/{pipeline_id}`: what is left out stays, whatever stands for it here."""

    model_config = _example(enabled=False, disabled_reason="The input is being moved")

    name: Annotated[Name, LEFT_OUT] = ""
    workflow_name: Annotated[WorkflowName, LEFT_OUT] = ""
    workflow_version: Annotated[WorkflowVersion | None, LEFT_OUT] = None
    enabled: Annotated[bool, Field(strict=True), LEFT_OUT] = True
    disabled_reason: Annotated[Reason | None, LEFT_OUT] = None
    max_active_runs: Annotated[MostRuns | None, LEFT_OUT] = None
    timeout_seconds: Annotated[TimeoutSeconds | None, LEFT_OUT] = None

    def changes(self) -> dict[str, object]:
        """The fields that the request names; who enables a pipeline takes back the reason too."""
        named = self.model_dump(include=self.model_fields_set)
        return {"disabled_reason": None, **named} if named.get("enabled") else named


class PipelineRunRequest(RequestBody):
    """`POST /pipeline-run`."""

    model_config = _example(
        pipeline_id=1,
        input_path_prefix="in/2026-11-24",
        output_path_prefix="out/2026-11-24",
        report_path_prefix="reports/2026-11-24",
        parameters={"drop_empty_rows": True},
        tags={"team": "ocean"},
        timeout_seconds=3600,
    )

    pipeline_id: Id
    input_path_prefix: Prefix
    output_path_prefix: Prefix
    report_path_prefix: Prefix | None = None
    parameters: Annotated[dict[str, JsonValue], AfterValidator(_small)] | None = None
    tags: Annotated[
        dict[TagName, TagValue],
        Field(max_length=MOST_TAGS),
        Told({"additionalProperties": False}),
    ] = {}
    timeout_seconds: TimeoutSeconds | None = None


class CancelRequest(RequestBody):
    """`POST /pipeline-run/{pipeline_run_id}/cancel`."""

    model_config = _example(reason="The input was the wrong one")

    reason: Reason | None = None


class RunQuery(RequestBody):
    """`GET /pipeline-run/{pipeline_run_id}`."""

    wait: Annotated[int, Field(ge=0, le=LONGEST_WAIT_SECONDS)] = 0
    """How many seconds to wait for the run to change, if it hasn't."""
    since_version: Annotated[int, Field(ge=0, le=LARGEST_ID)] | None = None
    """The version that the caller knows; else the present one."""


class PageQuery(RequestBody):
    """What every list takes."""

    page_size: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 50
    page_token: str = ""

    def listed(self) -> str:
        """Names the list that this asks for, whatever page of it: the same for the same filters."""
        filters = self.model_dump_json(exclude={"page_size", "page_token"}, exclude_defaults=True)
        return hashlib.sha256(f"{type(self).__name__} {filters}".encode()).hexdigest()[:16]


def _tag(text: str) -> str:
    name, colon, value = text.partition(":")
    if not (colon and _TAG_NAME.fullmatch(name)):
        raise ValueError("must be name:value")
    _storable(value)
    return text


class RunsQuery(PageQuery):
    """`GET /pipeline-run`."""

    status: PipelineRunStatus | None = None
    pipeline_id: Annotated[int, Field(ge=1, le=LARGEST_ID)] | None = None
    tag: (
        Annotated[
            str,
            StringConstraints(max_length=321),
            AfterValidator(_tag),
            Told({"pattern": rf"^{_TAG_NAME.pattern}:[^\u0000]*$"}),
        ]
        | None
    ) = None
    """`name:value`: runs with this tag."""
    created_after: Moment | None = None
    """RFC 3339, with an offset."""
    created_before: Moment | None = None
    """RFC 3339, with an offset."""
    workbench_job_id: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,255}$")] | None
    ) = None

    def filters(self) -> dict[str, Any]:
        """What a run has to be, as `ports.RunFilter` names it."""
        told = self.model_dump(exclude={"page_size", "page_token", "tag"})
        name, colon, value = (self.tag or "").partition(":")
        return {**told, "tag": (name, value) if colon else None}


class OutputsQuery(PageQuery):
    """`GET /pipeline-run/{pipeline_run_id}/outputs`."""


class ReportQuery(PageQuery):
    """`GET /pipeline-run/{pipeline_run_id}/report`."""


class PipelineBody(BaseModel):
    """A pipeline."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    mode: PipelineMode
    workflow_name: str
    workflow_version: int | None
    enabled: bool
    disabled_reason: str | None
    max_active_runs: int | None
    timeout_seconds: int | None
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
    request_id: str | None
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
        if run.user_storage_output_path_prefix:
            body.links["outputs"] = f"{own}/outputs"
        if run.user_storage_report_path_prefix:
            body.links["report"] = f"{own}/report"
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


class StoredObjectBody(BaseModel):
    """An object that a run wrote."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    """What of its key follows the run's prefix."""
    bucket: str
    key: str
    size_bytes: int
    modified_at: datetime
    url: str
    """Reads it for a quarter of an hour, without a token."""


class Page(BaseModel):
    """A page of a list; it may be short, and only an empty token is the end."""

    next_page_token: str


class PipelinePage(Page):
    """A page of pipelines, newest first."""

    items: list[PipelineBody]


class PipelineRunPage(Page):
    """A page of runs, newest first."""

    items: list[PipelineRunBody]


class StoredObjectPage(Page):
    """Some of a run's objects, ascending by name."""

    items: list[StoredObjectBody]


class LimitsBody(BaseModel):
    """What a request may ask for."""

    body_bytes: int = LARGEST_BODY_BYTES
    parameters_bytes: int = LARGEST_PARAMETERS_BYTES
    tags: int = MOST_TAGS
    page_size: int = LARGEST_PAGE
    wait_seconds: int = LONGEST_WAIT_SECONDS
    active_runs: int | None
    """Of the caller's tenant; null: any number."""


class RunsOverviewBody(BaseModel):
    """How the caller's runs fare."""

    active: dict[PipelineRunStatus, int]
    """How many there are of each status that isn't an end."""
    ended_within_24_hours: dict[PipelineRunStatus, int]
    """How many came to each end."""
    worst_staleness_seconds: float | None
    """How old the oldest news of an active run is; null: none has a job."""


class PollerBody(BaseModel):
    """Whether the poller does its work."""

    poll_interval_seconds: int
    last_sweep_at: datetime | None
    runs_checked_within_a_minute: int


class WorkbenchBody(BaseModel):
    """Whether the Workbench is asked."""

    breaker: Literal["CLOSED", "OPEN"]
    """OPEN: it has given no valid answer for a while and is spared but for probes."""
    breaker_opened_at: datetime | None


class ServiceInfoBody(BaseModel):
    """The service, and how the caller's runs fare in it."""

    service: Literal["pipeline-runs"] = "pipeline-runs"
    version: str = VERSION
    stage: str
    now: datetime
    limits: LimitsBody
    runs: RunsOverviewBody
    poller: PollerBody
    workbench: WorkbenchBody

    @classmethod
    def of(cls, overview: Overview, settings: ApiSettings) -> Self:
        """Its wire shape."""
        opened_at = overview.breaker.opened_at
        return cls(
            stage=settings.stage,
            now=overview.now,
            limits=LimitsBody(active_runs=settings.max_active_runs_per_tenant or None),
            runs=RunsOverviewBody(
                active=dict.fromkeys(sorted(ACTIVE), 0) | dict(overview.active),
                ended_within_24_hours=dict.fromkeys(sorted(TERMINAL), 0)
                | dict(overview.ended_of_late),
                worst_staleness_seconds=overview.worst_staleness_seconds,
            ),
            poller=PollerBody(
                poll_interval_seconds=settings.poll_interval_seconds,
                last_sweep_at=overview.last_sweep_at,
                runs_checked_within_a_minute=overview.runs_checked_of_late,
            ),
            workbench=WorkbenchBody(
                breaker="OPEN" if opened_at else "CLOSED", breaker_opened_at=opened_at
            ),
        )


class HealthBody(BaseModel):
    """The service can do its work."""

    status: Literal["ok"] = "ok"
