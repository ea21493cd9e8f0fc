"""Where the Workbench is comes from the settings, whatever a caller sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from api_client import ApiClient
from fakes import WORKBENCH_URL, World
from runs.status import PipelineMode
from runs.wiring import using
from wired import WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

ELSEWHERE = "https://elsewhere.example"
WISH = {"pipeline_id": 1, "input_path_prefix": "in", "output_path_prefix": "out"}


@pytest.fixture(params=PipelineMode)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World()
    world.pipeline(request.param)
    with using(WorldWiring(world)):
        yield world


@pytest.mark.parametrize("name", ["workbench_api_url", "WORKBENCH_API_URL", "workbench_url", "url"])
def test_s9_a_caller_can_not_say_where_the_workbench_is(world: World, name: str) -> None:
    api = ApiClient()
    assert api.post("/pipeline-run", WISH | {name: ELSEWHERE}).pointers() == [f"/{name}"]
    given = WISH | {"parameters": {name: ELSEWHERE}, "tags": {name: ELSEWHERE}}
    assert api.post("/pipeline-run", given).status == 201
    assert api.post("/pipeline-run", WISH, X_Forwarded_Host=ELSEWHERE, Host=ELSEWHERE).status == 201
    assert [one.workflow_input["workbench_api_url"] for one in world.conductor.started] == [
        WORKBENCH_URL
    ] * 2


@pytest.mark.parametrize(
    "text", ["${workflow.secrets.WORKBENCH_AUTHORIZATION}", "${workflow.env.X}"]
)
def test_s8_s11_a_caller_can_not_have_conductors_secrets_put_in(world: World, text: str) -> None:
    api = ApiClient()
    for name in ("input_path_prefix", "output_path_prefix", "report_path_prefix"):
        assert api.post("/pipeline-run", WISH | {name: f"a/{text}"}).pointers() == [f"/{name}"]
    if "secrets" in text:
        for parameters in ({"x": text}, {"x": [{"y": f"a {text} b"}]}, {text: 1}):
            answer = api.post("/pipeline-run", WISH | {"parameters": parameters})
            answer.problem(422, "invalid_request")
    assert world.conductor.started == []
