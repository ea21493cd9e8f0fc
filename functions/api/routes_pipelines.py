"""`/pipeline`: the definitions that runs are made of."""

from __future__ import annotations

from chalice import Blueprint, Response

from api import requests
from api.answers import answered, page_answer, problems
from api.bodies import PageQuery, PipelineBody, PipelineChanges, PipelineRequest
from runs.errors import PipelineNotFound
from runs.wiring import wired

routes = Blueprint(__name__)
TENANT = "default"


@routes.route("/pipeline", methods=["POST"], content_types=requests.ANY_MEDIA_TYPE)
@problems(routes)
def create_pipeline() -> Response:
    """Records a pipeline."""
    wanted = requests.body(routes.current_request, PipelineRequest)
    pipeline = wired().pipelines.create_pipeline(tenant_id=TENANT, **wanted.model_dump())
    return answered(201, PipelineBody.of(pipeline))


@routes.route("/pipeline", methods=["GET"])
@problems(routes)
def list_pipelines() -> Response:
    """A page of pipelines, newest first."""
    wanted = requests.query(routes.current_request, PageQuery)
    page = wired().pipelines.pipelines(
        tenant_id=TENANT,
        page_size=wanted.page_size,
        before=requests.page_start(wanted.page_token),
    )
    return page_answer([(p.id, PipelineBody.of(p)) for p in page], wanted.page_size)


@routes.route("/pipeline/{pipeline_id}", methods=["GET"])
@problems(routes)
def get_pipeline(pipeline_id: str) -> Response:
    """One pipeline."""
    pipeline = wired().pipelines.pipeline(_id(pipeline_id), tenant_id=TENANT)
    return answered(200, PipelineBody.of(pipeline))


@routes.route("/pipeline/{pipeline_id}", methods=["PATCH"], content_types=requests.ANY_MEDIA_TYPE)
@problems(routes)
def change_pipeline(pipeline_id: str) -> Response:
    """Changes what the request names; runs that exist keep what they were made with."""
    wanted = requests.body(routes.current_request, PipelineChanges)
    pipeline = wired().pipelines.change_pipeline(
        _id(pipeline_id), wanted.changes(), tenant_id=TENANT
    )
    return answered(200, PipelineBody.of(pipeline))


def _id(text: str) -> int:
    number = requests.path_id(text)
    if number is None:
        raise PipelineNotFound(text)
    return number
