"""What holds for every answer: health, headers, problems of all kinds, and what is logged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from chalice.test import Client

from api.app import app
from api_client import REQUEST_ID, Answer, ApiClient
from api_contract import the_document
from fakes import WORKBENCH_URL, World
from runs.errors import DatabaseUnavailable, IllegalTransition
from runs.ports import Breaker
from runs.status import PipelineRunStatus
from runs.wiring import using
from wired import ENVIRONMENT, Invocation, Log, WorldWiring, logged

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "canary-5ec2e7"
WISH = {"pipeline_id": 1, "input_path_prefix": "in", "output_path_prefix": "out"}
VARIABLE_LACKING = {
    "requestContext": {"resourcePath": "/pipeline/{pipeline_id}", "httpMethod": "GET"},
    "headers": {},
    "multiValueQueryStringParameters": None,
    "pathParameters": None,
    "stageVariables": None,
    "body": None,
    "isBase64Encoded": False,
}


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.pipeline()
    with using(WorldWiring(world)):
        yield world


@pytest.fixture
def api(world: World) -> ApiClient:
    del world
    return ApiClient()


@pytest.fixture
def log() -> Iterator[Log]:
    with logged() as log:
        yield log


# -- health ---------------------------------------------------------------------------------------


def test_a_service_that_reaches_its_database_is_healthy(api: ApiClient) -> None:
    answer = api.get("/health")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


def test_a_service_that_does_not_is_unavailable(api: ApiClient, world: World) -> None:
    world.database.down = True
    answer = api.get("/health")
    answer.problem(503, "database_unavailable")
    assert answer.headers["Retry-After"] == "2"
    world.database.down = False
    assert api.get("/health").status == 200


@pytest.mark.parametrize(
    "target",
    ["/pipeline", "/pipeline/1", "/pipeline-run", "/pipeline-run/1", "/pipeline-run/1/events"],
)
def test_f35_every_read_without_a_database_is_unavailable(
    api: ApiClient, world: World, target: str
) -> None:
    world.database.down = True
    answer = api.get(target)
    answer.problem(503, "database_unavailable")
    assert answer.headers["Retry-After"] == "2"


# -- every answer ---------------------------------------------------------------------------------


def answers(api: ApiClient, world: World) -> Iterator[Answer]:
    """One of each kind."""
    yield api.post("/pipeline-run", WISH)
    read = api.get("/pipeline-run/1")
    yield read
    yield api.get("/pipeline-run/1", If_None_Match=read.headers["ETag"])
    yield api.get("/pipeline-run")
    yield api.get("/pipeline-run/7")
    yield api.post("/pipeline-run", {})
    yield api.send("DELETE", "/health")
    world.conductor.down = True
    yield api.post("/pipeline-run", WISH)
    world.database.down = True
    yield api.get("/health")


def test_s18_every_answer_has_security_headers_and_is_not_stored(
    api: ApiClient, world: World
) -> None:
    told = list(answers(api, world))
    assert [one.status for one in told] == [201, 200, 304, 200, 404, 422, 405, 500, 503]
    for one in told:
        assert one.headers["Cache-Control"] == "no-store"
        assert one.headers["X-Content-Type-Options"] == "nosniff"
        assert one.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_s18_no_answer_allows_other_origins(api: ApiClient, world: World) -> None:
    for one in answers(api, world):
        assert not any(name.lower().startswith("access-control") for name in one.headers)


# -- the framework's own errors -------------------------------------------------------------------


def test_a_method_that_a_route_lacks_is_a_problem_that_names_those_it_has(api: ApiClient) -> None:
    answer = api.send("DELETE", "/pipeline/1")
    problem = answer.problem(405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, PATCH"
    assert problem["detail"] == "This route takes GET, PATCH"


@pytest.mark.parametrize("event", [{}, {"requestContext": {}}, VARIABLE_LACKING])
def test_an_event_that_is_no_request_is_a_problem(world: World, event: dict[str, Any]) -> None:
    del world
    told = app(event, Invocation())
    assert told["statusCode"] == 500
    assert told["headers"]["Content-Type"] == "application/problem+json"
    assert json.loads(told["body"])["code"] == "internal_error"
    assert json.loads(told["body"])["request_id"] == "request-1"


# -- what nobody expected -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(CANARY),
        KeyError(CANARY),
        IllegalTransition(PipelineRunStatus.FAILED, PipelineRunStatus.RUNNING),
    ],
)
def test_s17_an_unexpected_error_is_a_problem_that_tells_nothing_and_is_logged(
    api: ApiClient, world: World, log: Log, error: Exception
) -> None:
    world.steps.strike("before MemoryRuns.run", error)
    answer = api.get("/pipeline-run/1")
    problem = answer.problem(500, "internal_error")
    assert problem["detail"] == "An unexpected error; the request id finds it in the logs"
    assert CANARY not in answer.text
    assert "Traceback" not in answer.text
    (line,) = log.lines
    assert (line["level"], line["message"]) == ("ERROR", "request_failed")
    assert line["function_request_id"] == REQUEST_ID
    assert type(error).__name__ in line["exception"]


def test_an_error_of_the_framework_is_logged_as_a_json_line(world: World, log: Log) -> None:
    del world
    app(VARIABLE_LACKING, Invocation())
    (line,) = log.lines
    assert line["level"] == "ERROR"
    assert "TypeError" in line["exception"]


def test_a_missing_setting_is_a_problem_and_is_named_in_the_log(world: World, log: Log) -> None:
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "CONDUCTOR_URL"}
    with using(WorldWiring(world, environment)):
        ApiClient().post("/pipeline-run", WISH).problem(500, "internal_error")
    (line,) = log.lines
    assert "CONDUCTOR_URL must be set" in line["exception"]


def test_no_database_is_logged_as_a_warning(api: ApiClient, world: World, log: Log) -> None:
    world.steps.strike("before MemoryRuns.ping", DatabaseUnavailable("refused"))
    api.get("/health")
    (line,) = log.lines
    assert (line["level"], line["message"]) == ("WARNING", "request_without_database")
    assert line["error"] == "refused"


def test_what_the_caller_can_help_is_not_logged(api: ApiClient, world: World, log: Log) -> None:
    del world
    api.get("/pipeline-run/7")
    api.post("/pipeline-run", {})
    api.post("/pipeline-run", WISH | {"pipeline_id": 9})
    api.send("POST", "/pipeline-run", text="{")
    api.send("DELETE", "/health")
    assert log.lines == []


def test_lines_about_a_run_name_it_and_its_correlation_id(
    api: ApiClient, world: World, log: Log
) -> None:
    world.conductor.down = True
    api.post("/pipeline-run", WISH)
    (line,) = log.lines
    assert line["message"] == "submission_judged"
    assert (line["run_id"], line["correlation_id"]) == (1, world.run(1).correlation_id)
    assert line["function_request_id"] == REQUEST_ID


def test_s16_no_prefix_and_no_parameter_is_logged(api: ApiClient, world: World, log: Log) -> None:
    secret = {"input_path_prefix": CANARY, "parameters": {"password": CANARY}}
    api.post("/pipeline-run", WISH | secret)
    world.conductor.down = True
    api.post("/pipeline-run", WISH | secret)
    api.post("/pipeline-run", WISH | secret | {"tags": CANARY})
    assert CANARY not in log.text
    assert log.lines


# -- by Chalice's own client ----------------------------------------------------------------------


def test_the_app_works_behind_chalices_own_gateway(world: World) -> None:
    del world
    token = {"Authorization": "Bearer default"}
    headers = {"Content-Type": "application/json", **token}
    with Client(app) as client:
        made = client.http.post("/pipeline-run", headers=headers, body=json.dumps(WISH).encode())
        assert made.status_code == 201
        assert made.headers["Location"] == "/pipeline-run/1"
        read = client.http.get("/pipeline-run/1", headers=token)
        assert read.json_body == made.json_body
        missing = client.http.get("/pipeline-run/2", headers=token)
        assert (missing.status_code, missing.json_body["detail"]) == (404, "Pipeline run not found")


# -- service-info ---------------------------------------------------------------------------------


def test_the_service_tells_of_itself_and_of_the_callers_runs(api: ApiClient) -> None:
    api.post("/pipeline-run", WISH)
    told = api.get("/service-info").json
    assert told["service"] == "pipeline-runs"
    assert told["version"] == the_document()["info"]["version"]
    assert told["stage"] == "test"
    assert told["limits"] == {
        "body_bytes": 65_536,
        "parameters_bytes": 32_768,
        "tags": 50,
        "page_size": 200,
        "wait_seconds": 20,
        "active_runs": None,
    }
    assert told["runs"]["active"] == {"CREATED": 0, "RUNNING": 0, "SUBMITTED": 1}
    ended = {"CANCELLED": 0, "COMPLETED": 0, "FAILED": 0}
    assert told["runs"]["ended_within_24_hours"] == ended
    assert told["poller"] == {
        "poll_interval_seconds": 30,
        "last_sweep_at": None,
        "runs_checked_within_a_minute": 0,
    }
    assert told["workbench"] == {"breaker": "CLOSED", "breaker_opened_at": None}


def test_an_open_breaker_is_told(api: ApiClient, world: World) -> None:
    opened = world.time.now
    world.database.breakers[WORKBENCH_URL] = Breaker(opened_at=opened)
    told = api.get("/service-info").json["workbench"]
    assert told == {"breaker": "OPEN", "breaker_opened_at": "2026-03-01T12:00:00Z"}


def test_p29_other_tenants_runs_are_not_counted(api: ApiClient) -> None:
    api.post("/pipeline-run", WISH)
    told = ApiClient(bearer="stranger").get("/service-info").json["runs"]
    assert sum(told["active"].values()) == 0
