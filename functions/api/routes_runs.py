"""`/pipeline-run`: executions of pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4  # noqa: TID251  # the edge where ids are made

from api import catalogue, requests
from api.answers import answered, fitting, page_answer, unchanged
from api.bodies import (
    CancelRequest,
    OutputsQuery,
    PipelineRunBody,
    PipelineRunPage,
    PipelineRunRequest,
    ReportQuery,
    RequestBody,
    RunEventBody,
    RunEventsBody,
    RunQuery,
    RunsQuery,
    StoredObjectBody,
    StoredObjectPage,
)
from api.operations import Routes, SentHeader
from runs.callers import Scope
from runs.model import NewRun
from runs.ports import RunFilter
from runs.status import PipelineMode, PipelineRunStatus
from runs.wiring import wired

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalice import Response
    from chalice.app import Request

    from api.operations import Call, NoInput
    from runs.model import PipelineRun
    from runs.ports import Recorded
    from runs.results import ResultsPage

routes = Routes(__name__)

CREATED: Final = {201: PipelineRunBody, 200: PipelineRunBody, 202: PipelineRunBody}
CREATING: Final = {
    "Idempotency-Key": SentHeader(
        meaning="1 to 255 visible ASCII characters; the same again answers the same run.",
        pattern="^[!-~]{1,255}$",
    ),
    "Prefer": SentHeader(meaning="`respond-async`: answer 202 as soon as the run is recorded."),
}
ASK_AGAIN: Final = {"Retry-After": "While the run is active: in how many seconds to ask again."}
CREATING_HEADERS: Final = {
    "Location": "Where the run is.",
    "Idempotent-Replayed": "`true`: the run was made by an earlier request with this key.",
    "Preference-Applied": "`respond-async`, if that was preferred.",
    **ASK_AGAIN,
}
CREATING_PROBLEMS: Final = (
    catalogue.IDEMPOTENCY_KEY_REUSED,
    catalogue.INVALID_IDEMPOTENCY_KEY,
    catalogue.PIPELINE_DISABLED,
    catalogue.PIPELINE_FULL,
    catalogue.TENANT_FULL,
    catalogue.SUBMISSION_FAILED,
)
RESULTS_PROBLEMS: Final = (
    catalogue.INVALID_PAGE_TOKEN,
    catalogue.STORAGE_REFUSED,
    catalogue.STORAGE_UNAVAILABLE,
)


@routes.operation(
    "POST",
    "/pipeline-run",
    scope=Scope.RUNS_WRITE,
    body=PipelineRunRequest,
    answers=CREATED,
    problems=[
        catalogue.PIPELINE_NOT_FOUND,
        *CREATING_PROBLEMS,
    ],
    headers=CREATING,
    answer_headers=CREATING_HEADERS,
)
def create_pipeline_run(call: Call[PipelineRunRequest]) -> Response:
    """Records a run and submits it."""
    respond_async = requests.prefers_async(call.request)
    recorded = wired().submission.submit(
        NewRun(
            tenant_id=call.caller.tenant_id,
            request_id=call.request_id,
            **call.wanted.model_dump(),
        ),
        key=_key(call.request),
        fingerprint=call.wanted.fingerprint(),
        respond_async=respond_async,
    )
    return _recorded_answer(recorded, call.base, respond_async=respond_async)


@routes.operation(
    "POST",
    "/pipeline-run/{pipeline_run_id}/retry",
    scope=Scope.RUNS_WRITE,
    body=RequestBody,
    body_is_optional=True,
    answers=CREATED,
    problems=[
        catalogue.RUN_NOT_TERMINAL,
        *CREATING_PROBLEMS,
    ],
    headers=CREATING,
    answer_headers=CREATING_HEADERS,
)
def retry_pipeline_run(call: Call[RequestBody], pipeline_run_id: int) -> Response:
    """Records and submits a new run with what an ended one was asked for."""
    respond_async = requests.prefers_async(call.request)
    recorded = wired().submission.retry(
        pipeline_run_id,
        tenant_id=call.caller.tenant_id,
        key=_key(call.request),
        respond_async=respond_async,
        request_id=call.request_id,
    )
    return _recorded_answer(recorded, call.base, respond_async=respond_async)


@routes.operation(
    "POST",
    "/pipeline-run/{pipeline_run_id}/cancel",
    scope=Scope.RUNS_WRITE,
    body=CancelRequest,
    body_is_optional=True,
    answers={200: PipelineRunBody, 202: PipelineRunBody},
    problems=[catalogue.RUN_ALREADY_TERMINAL],
    answer_headers=ASK_AGAIN,
)
def cancel_pipeline_run(call: Call[CancelRequest], pipeline_run_id: int) -> Response:
    """Stores that the run is to end; 200 once it is CANCELLED."""
    run = wired().cancelling.cancel(
        pipeline_run_id, tenant_id=call.caller.tenant_id, reason=call.wanted.reason
    )
    return _run_answer(run, call.base, 200 if run.is_terminal else 202, {})


@routes.operation(
    "GET",
    "/pipeline-run",
    scope=Scope.RUNS_READ,
    query=RunsQuery,
    answers={200: PipelineRunPage},
    problems=[catalogue.INVALID_PAGE_TOKEN],
)
def list_pipeline_runs(call: Call[RunsQuery]) -> Response:
    """A page of runs, newest first.

    A page may hold fewer runs than asked for, even none, though more follow: it looks at a bounded
    number of them. Only an empty `next_page_token` is the end.
    """
    wanted = call.wanted
    found = wired().runs.page(
        RunFilter(**wanted.filters()),
        tenant_id=call.caller.tenant_id,
        page_size=wanted.page_size,
        before=requests.page_start(wanted),
    )
    items = fitting([PipelineRunBody.of(run, base=call.base) for run in found.runs])
    before = found.before if len(items) == len(found.runs) else items[-1].id
    page = PipelineRunPage(items=items, next_page_token=requests.page_token_below(wanted, before))
    return page_answer(page, wanted, f"{call.base}/pipeline-run")


@routes.operation(
    "GET",
    "/pipeline-run/{pipeline_run_id}",
    scope=Scope.RUNS_READ,
    query=RunQuery,
    answers={200: PipelineRunBody, 304: None},
    headers={
        "If-None-Match": SentHeader(meaning="An `ETag` of the run: 304 while it is the same.")
    },
    answer_headers={"ETag": "Changes with the run and with every check of it.", **ASK_AGAIN},
)
def get_pipeline_run(call: Call[RunQuery], pipeline_run_id: int) -> Response:
    """One run as it is now, or as soon as it changes.

    With `wait` the answer comes once the run's version is beyond `since_version`, has ended, or the
    time is over; at once if many callers wait already, and early if there is too little time left.
    """
    run = wired().watching.watch(
        pipeline_run_id,
        tenant_id=call.caller.tenant_id,
        since_version=call.wanted.since_version,
        wait_seconds=call.wanted.wait,
        seconds_left=call.seconds_left,
    )
    tag = _entity_tag(run)
    if requests.matches(call.request, tag):
        return unchanged({"ETag": tag, **_retry_after(run)})
    return _run_answer(run, call.base, 200, {"ETag": tag})


@routes.operation(
    "GET",
    "/pipeline-run/{pipeline_run_id}/events",
    scope=Scope.RUNS_READ,
    answers={200: RunEventsBody},
)
def list_pipeline_run_events(call: Call[NoInput], pipeline_run_id: int) -> Response:
    """Every status that a run has entered, oldest first."""
    history = wired().runs.history(pipeline_run_id, tenant_id=call.caller.tenant_id)
    items = [RunEventBody.of(event) for event in history]
    return answered(200, RunEventsBody(items=items))


@routes.operation(
    "GET",
    "/pipeline-run/{pipeline_run_id}/outputs",
    scope=Scope.RUNS_READ,
    query=OutputsQuery,
    answers={200: StoredObjectPage},
    problems=RESULTS_PROBLEMS,
)
def list_pipeline_run_outputs(call: Call[OutputsQuery], pipeline_run_id: int) -> Response:
    """A page of what a run has written, with links to download it."""
    wanted = call.wanted
    page = wired().results.outputs(
        pipeline_run_id,
        tenant_id=call.caller.tenant_id,
        page_size=wanted.page_size,
        after=requests.page_name(wanted, pipeline_run_id),
    )
    return _results_answer(page, call, pipeline_run_id, "outputs")


@routes.operation(
    "GET",
    "/pipeline-run/{pipeline_run_id}/report",
    scope=Scope.RUNS_READ,
    query=ReportQuery,
    answers={200: StoredObjectPage},
    problems=[*RESULTS_PROBLEMS, catalogue.NO_REPORT],
)
def list_pipeline_run_report(call: Call[ReportQuery], pipeline_run_id: int) -> Response:
    """A page of a run's report, with links to look at it."""
    wanted = call.wanted
    page = wired().results.report(
        pipeline_run_id,
        tenant_id=call.caller.tenant_id,
        page_size=wanted.page_size,
        after=requests.page_name(wanted, pipeline_run_id),
    )
    return _results_answer(page, call, pipeline_run_id, "report")


def _results_answer(
    page: ResultsPage, call: Call[OutputsQuery] | Call[ReportQuery], run_id: int, what: str
) -> Response:
    body = StoredObjectPage(
        items=[StoredObjectBody.model_validate(one) for one in page.objects],
        next_page_token=requests.page_token_after(call.wanted, run_id, page.next_after),
    )
    return page_answer(body, call.wanted, f"{call.base}/pipeline-run/{run_id}/{what}")


def _key(request: Request) -> str:
    """The caller's key, or one of our own: every creation has one."""
    return requests.idempotency_key(request) or f"unnamed {uuid4()}"


def _recorded_answer(recorded: Recorded, base: str, *, respond_async: bool) -> Response:
    run = recorded.run
    headers = {"Location": f"{base}/pipeline-run/{run.id}"}
    if recorded.replayed:
        headers["Idempotent-Replayed"] = "true"
    if respond_async and not recorded.replayed:
        headers["Preference-Applied"] = "respond-async"
    status = 202 if _is_pending(run) else 200 if recorded.replayed else 201
    return _run_answer(run, base, status, headers)


def _run_answer(run: PipelineRun, base: str, status: int, headers: Mapping[str, str]) -> Response:
    body = PipelineRunBody.of(run, base=base)
    return answered(status, body, {**headers, **_retry_after(run)})


def _retry_after(run: PipelineRun) -> dict[str, str]:
    """When to ask again while the run is active."""
    if run.is_terminal:
        return {}
    return {"Retry-After": str(wired().api_settings.poll_interval_seconds)}


def _is_pending(run: PipelineRun) -> bool:
    """Whether it isn't known yet what became of the submission, or of a REALTIME run at all."""
    if run.mode is PipelineMode.REALTIME:
        return not run.is_terminal
    return run.status is PipelineRunStatus.CREATED


def _entity_tag(run: PipelineRun) -> str:
    """Changes with the run, with every check of it, and with the wish to end it."""
    seen = run.observation
    moment = seen.last_checked_at.timestamp() if seen.last_checked_at else 0
    to_end = "-c" if run.cancel_requested_at else ""
    return f'W/"{run.version}-{moment:.6f}-{seen.consecutive_failures}{to_end}"'
