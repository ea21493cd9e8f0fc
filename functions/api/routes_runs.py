"""`/pipeline-run`: executions of pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4  # noqa: TID251  # the edge where ids are made

from chalice import Blueprint, Response

from api import requests
from api.answers import answered, base_of, page_answer, problems, unchanged
from api.bodies import (
    CancelRequest,
    PipelineRunBody,
    PipelineRunRequest,
    RequestBody,
    RunEventBody,
    RunEventsBody,
    RunsQuery,
)
from runs.errors import RunNotFound
from runs.model import NewRun
from runs.ports import RunFilter
from runs.status import PipelineMode, PipelineRunStatus
from runs.wiring import wired

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalice.app import Request

    from runs.model import PipelineRun
    from runs.ports import Recorded

routes = Blueprint(__name__)
TENANT = "default"


@routes.route("/pipeline-run", methods=["POST"], content_types=requests.ANY_MEDIA_TYPE)
@problems(routes)
def create_pipeline_run() -> Response:
    """Records a run and submits it."""
    request = routes.current_request
    wanted = requests.body(request, PipelineRunRequest)
    respond_async = requests.prefers_async(request)
    recorded = wired().submission.submit(
        NewRun(tenant_id=TENANT, **wanted.model_dump()),
        key=_key(request),
        fingerprint=wanted.fingerprint(),
        respond_async=respond_async,
    )
    return _recorded_answer(recorded, respond_async=respond_async)


@routes.route(
    "/pipeline-run/{pipeline_run_id}/retry",
    methods=["POST"],
    content_types=requests.ANY_MEDIA_TYPE,
)
@problems(routes)
def retry_pipeline_run(pipeline_run_id: str) -> Response:
    """Records and submits a new run with what an ended one was asked for."""
    request = routes.current_request
    requests.optional_body(request, RequestBody)
    respond_async = requests.prefers_async(request)
    recorded = wired().submission.retry(
        _id(pipeline_run_id),
        tenant_id=TENANT,
        key=_key(request),
        respond_async=respond_async,
    )
    return _recorded_answer(recorded, respond_async=respond_async)


@routes.route(
    "/pipeline-run/{pipeline_run_id}/cancel",
    methods=["POST"],
    content_types=requests.ANY_MEDIA_TYPE,
)
@problems(routes)
def cancel_pipeline_run(pipeline_run_id: str) -> Response:
    """Stores that the run is to end; 200 once it is CANCELLED."""
    wanted = requests.optional_body(routes.current_request, CancelRequest)
    run = wired().cancelling.cancel(_id(pipeline_run_id), tenant_id=TENANT, reason=wanted.reason)
    return _run_answer(run, 200 if run.is_terminal else 202, {})


@routes.route("/pipeline-run", methods=["GET"])
@problems(routes)
def list_pipeline_runs() -> Response:
    """A page of runs, newest first."""
    wanted = requests.query(routes.current_request, RunsQuery)
    page = wired().runs.page(
        RunFilter(status=wanted.status, pipeline_id=wanted.pipeline_id),
        tenant_id=TENANT,
        page_size=wanted.page_size,
        before=requests.page_start(wanted.page_token),
    )
    base = base_of(routes)
    return page_answer([(r.id, PipelineRunBody.of(r, base=base)) for r in page], wanted.page_size)


@routes.route("/pipeline-run/{pipeline_run_id}", methods=["GET"])
@problems(routes)
def get_pipeline_run(pipeline_run_id: str) -> Response:
    """One run as it is now."""
    run = wired().runs.run(_id(pipeline_run_id), tenant_id=TENANT)
    tag = _entity_tag(run)
    if requests.matches(routes.current_request, tag):
        return unchanged({"ETag": tag, **_retry_after(run)})
    return _run_answer(run, 200, {"ETag": tag})


@routes.route("/pipeline-run/{pipeline_run_id}/events", methods=["GET"])
@problems(routes)
def list_pipeline_run_events(pipeline_run_id: str) -> Response:
    """Every status that a run has entered, oldest first."""
    history = wired().runs.history(_id(pipeline_run_id), tenant_id=TENANT)
    items = [RunEventBody.of(event) for event in history]
    return answered(200, RunEventsBody(items=items))


def _key(request: Request) -> str:
    """The caller's key, or one of our own: every creation has one."""
    return requests.idempotency_key(request) or f"unnamed {uuid4()}"


def _recorded_answer(recorded: Recorded, *, respond_async: bool) -> Response:
    run = recorded.run
    headers = {"Location": f"{base_of(routes)}/pipeline-run/{run.id}"}
    if recorded.replayed:
        headers["Idempotent-Replayed"] = "true"
    if respond_async and not recorded.replayed:
        headers["Preference-Applied"] = "respond-async"
    status = 202 if _is_pending(run) else 200 if recorded.replayed else 201
    return _run_answer(run, status, headers)


def _run_answer(run: PipelineRun, status: int, headers: Mapping[str, str]) -> Response:
    body = PipelineRunBody.of(run, base=base_of(routes))
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


def _id(text: str) -> int:
    number = requests.path_id(text)
    if number is None:
        raise RunNotFound(text)
    return number
