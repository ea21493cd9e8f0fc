"""A request's id goes with what it sets off, into logs, Conductor and the Workbench's headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from api_client import REQUEST_ID, ApiClient
from fakes import World
from runs.metrics import Metric
from runs.ports import NoAnswer
from runs.wiring import using
from wired import WorldWiring, logged

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKFLOWS = Path(__file__).parents[2] / "workflows"
WISH = {"pipeline_id": 1, "input_path_prefix": "in/1", "output_path_prefix": "out/1"}


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with using(WorldWiring(world)):
        yield world


def named(name: str) -> ApiClient:
    return ApiClient(headers={"X-Request-Id": name})


@pytest.mark.parametrize("name", ["monday-1", "a" * 128, "2026.11.24_x~y"])
def test_a_callers_id_is_the_answers_the_runs_and_the_workflows(world: World, name: str) -> None:
    world.pipeline()
    answer = named(name).post("/pipeline-run", WISH)
    assert answer.headers["X-Request-Id"] == name
    assert answer.json["request_id"] == name
    (started,) = world.conductor.started
    assert started.workflow_input["request_id"] == name


@pytest.mark.parametrize(
    "name", ["", "a" * 129, "two words", "${workflow.secrets.X}", "line\nbreak", "ü", "a,b"]
)
def test_s16_what_could_be_more_than_a_name_is_replaced(world: World, name: str) -> None:
    world.pipeline()
    answer = named(name).post("/pipeline-run", WISH)
    assert answer.headers["X-Request-Id"] == REQUEST_ID
    assert world.run(1).request_id == REQUEST_ID


def test_a_retry_has_its_own_requests_id(world: World) -> None:
    run = world.submit()
    world.workbench.become("FAILED", run=run.id)
    world.go_on(60)
    answer = named("again").post(f"/pipeline-run/{run.id}/retry", {})
    assert answer.json["request_id"] == "again"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/pipeline-run/7", 404), ("/health", 200), ("/pipeline-run?status=x", 422)],
)
def test_every_answer_says_what_its_request_is_called(world: World, path: str, status: int) -> None:
    del world
    answer = named("mine").get(path)
    assert (answer.status, answer.headers["X-Request-Id"]) == (status, "mine")
    if status >= 400:
        assert answer.json["request_id"] == "mine"


def test_every_log_line_about_a_run_has_the_id_of_the_request_that_made_it(world: World) -> None:
    world.pipeline()
    with logged() as log:
        for name in ("monday", "tuesday"):
            named(name).post("/pipeline-run", WISH)
        world.workbench.down = NoAnswer(reason="it is down")
        world.go_on(60)
    lines = [line for line in log.lines if "run_id" in line]
    assert {line["message"] for line in lines} == {"submission_judged", "check_troubled"}
    for line in lines:
        assert line["request_id"] == {1: "monday", 2: "tuesday"}[line["run_id"]]


def test_the_workflows_send_it_on_to_the_workbench() -> None:
    for path in WORKFLOWS.glob("*_workflow.json"):
        workflow = json.loads(path.read_text())
        assert "request_id" in workflow["inputParameters"]
        [task] = workflow["tasks"]
        headers = task["inputParameters"]["http_request"]["headers"]
        assert headers["X-Request-Id"] == "${workflow.input.request_id}"


# -- figures --------------------------------------------------------------------------------------


def test_every_request_tells_its_time_and_whether_the_service_failed(world: World) -> None:
    api = ApiClient()
    api.get("/pipeline-run/7")
    world.database.down = True
    api.get("/pipeline-run/7")
    assert world.meter.figures(Metric.SERVER_ERRORS) == [0, 1]
    assert len(world.meter.figures(Metric.REQUEST_TIME)) == 2
