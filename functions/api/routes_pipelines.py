"""`/pipeline`: the definitions that runs are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api import catalogue, requests
from api.answers import answered, page_answer
from api.bodies import PageQuery, PipelineBody, PipelineChanges, PipelinePage, PipelineRequest
from api.operations import Routes
from runs.callers import Scope
from runs.wiring import wired

if TYPE_CHECKING:
    from chalice import Response

    from api.operations import Call, NoInput

routes = Routes(__name__)


@routes.operation(
    "POST",
    "/pipeline",
    scope=Scope.PIPELINES_WRITE,
    body=PipelineRequest,
    answers={201: PipelineBody},
    problems=[catalogue.PIPELINE_EXISTS],
)
def create_pipeline(call: Call[PipelineRequest]) -> Response:
    """Records a pipeline.

    Whoever did not get the answer may send the same again: if a pipeline of this name has just
    these fields, it is answered, with 201 too, and none is made.
    """
    pipeline = wired().pipelines.create_pipeline(
        tenant_id=call.caller.tenant_id, **call.wanted.model_dump()
    )
    return answered(201, PipelineBody.of(pipeline))


@routes.operation(
    "GET",
    "/pipeline",
    scope=Scope.RUNS_READ,
    query=PageQuery,
    answers={200: PipelinePage},
    problems=[catalogue.INVALID_PAGE_TOKEN],
)
def list_pipelines(call: Call[PageQuery]) -> Response:
    """A page of pipelines, newest first."""
    wanted = call.wanted
    pipelines = wired().pipelines.pipelines(
        tenant_id=call.caller.tenant_id,
        page_size=wanted.page_size,
        before=requests.page_start(wanted),
    )
    last = pipelines[-1].id if len(pipelines) == wanted.page_size else None
    page = PipelinePage(
        items=[PipelineBody.of(pipeline) for pipeline in pipelines],
        next_page_token=requests.page_token_below(wanted, last),
    )
    return page_answer(page, wanted, f"{call.base}/pipeline")


@routes.operation(
    "GET", "/pipeline/{pipeline_id}", scope=Scope.RUNS_READ, answers={200: PipelineBody}
)
def get_pipeline(call: Call[NoInput], pipeline_id: int) -> Response:
    """One pipeline."""
    pipeline = wired().pipelines.pipeline(pipeline_id, tenant_id=call.caller.tenant_id)
    return answered(200, PipelineBody.of(pipeline))


@routes.operation(
    "PATCH",
    "/pipeline/{pipeline_id}",
    scope=Scope.PIPELINES_WRITE,
    body=PipelineChanges,
    answers={200: PipelineBody},
    problems=[catalogue.PIPELINE_EXISTS],
)
def change_pipeline(call: Call[PipelineChanges], pipeline_id: int) -> Response:
    """Changes what the request names; runs that exist keep what they were made with."""
    pipeline = wired().pipelines.change_pipeline(
        pipeline_id, call.wanted.changes(), tenant_id=call.caller.tenant_id
    )
    return answered(200, PipelineBody.of(pipeline))
