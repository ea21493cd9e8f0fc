"""Nobody in who doesn't belong: tokens, scopes and tenants, on every route there is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from api.authorizer import handler as authorizer
from api.operations import OPERATIONS
from api_client import REQUEST_ID, Answer, ApiClient
from fakes import World
from runs.callers import Scope
from runs.errors import TokensUnavailable
from runs.wiring import using
from wired import Invocation, WorldWiring, logged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.operations import Operation
    from runs.callers import Caller

OPEN: Final = {
    "/health",
    "/openapi.json",
    "/docs",
    "/docs/{asset}",
    "/dashboard",
    "/dashboard/{asset}",
}
"""What needs no token."""
BODIES: Final[dict[str, dict[str, object]]] = {
    "create_pipeline": {"name": "another", "mode": "BATCH", "workflow_name": "w"},
    "change_pipeline": {"name": "another"},
    "create_pipeline_run": {
        "pipeline_id": 1,
        "input_path_prefix": "in",
        "output_path_prefix": "out",
    },
}
CLOSED: Final = [operation for operation in OPERATIONS if operation.scope is not None]
WITH_ID: Final = [operation for operation in CLOSED if "_id}" in operation.path]
SCOPES: Final = [scope for scope in Scope if scope is not Scope.ADMIN]
ARN: Final = "arn:aws:execute-api:eu-west-2:000000000000:api1/Prod/GET/pipeline-run/1"


class IssuerDown:
    """`ports.Tokens` while the issuer gives no keys."""

    def caller_of(self, token: str) -> Caller:
        raise TokensUnavailable(f"no keys for {token}")


def named(operation: Operation) -> str:
    return operation.name


@pytest.fixture
def wiring() -> Iterator[WorldWiring]:
    """With a pipeline and a run of the tenant `default`, both of id 1."""
    world = World()
    world.submit()
    wiring = WorldWiring(world)
    with using(wiring):
        yield wiring


@pytest.fixture
def world(wiring: WorldWiring) -> World:
    return wiring.world


def send(operation: Operation, bearer: str | None, *, number: int = 1) -> Answer:
    target = operation.path
    for name in ("{pipeline_run_id}", "{pipeline_id}"):
        target = target.replace(name, str(number))
    body = json.dumps(BODIES.get(operation.name, {})) if operation.body else None
    return ApiClient(bearer=bearer).send(operation.method, target, text=body)


def state(world: World) -> tuple[Any, ...]:
    """All that a call could change."""
    database = world.database
    return (
        dict(database.pipelines),
        dict(database.runs),
        [sent.message for sent in world.check_queue.sent],
        len(world.conductor.started),
    )


# -- tokens ---------------------------------------------------------------------------------------


def test_s1_every_route_but_the_open_ones_needs_a_token() -> None:
    assert {operation.path for operation in OPERATIONS if operation.scope is None} <= OPEN
    assert len(CLOSED) > len(OPEN)


@pytest.mark.parametrize("operation", CLOSED, ids=named)
@pytest.mark.usefixtures("wiring")
def test_s1_without_a_token_nothing_is_answered(operation: Operation, world: World) -> None:
    before = state(world)
    answer = send(operation, None)
    problem = answer.problem(401, "unauthorized")
    assert "Authorization: Bearer" in problem["detail"]
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="pipeline-runs"'
    assert state(world) == before


@pytest.mark.parametrize("operation", CLOSED, ids=named)
def test_s1_a_token_that_is_refused_says_why(operation: Operation, world: World) -> None:
    before = state(world)
    answer = send(operation, "bad")
    assert answer.problem(401, "unauthorized")["detail"] == "The token is a bad one"
    assert "error=" not in answer.headers["WWW-Authenticate"].replace('error="invalid_token"', "")
    assert state(world) == before


@pytest.mark.usefixtures("wiring")
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic ZGVmYXVsdA==", "default"])
def test_s1_what_is_no_bearer_token_is_none(header: str) -> None:
    client = ApiClient(bearer=None, headers={"Authorization": header})
    client.get("/pipeline-run").problem(401, "unauthorized")


@pytest.mark.usefixtures("wiring")
def test_the_scheme_is_written_as_one_likes() -> None:
    client = ApiClient(bearer=None, headers={"Authorization": "bEARER default"})
    assert client.get("/pipeline-run").status == 200


@pytest.mark.usefixtures("wiring")
def test_s1_a_caller_is_known_before_the_request_is_looked_at() -> None:
    stranger = ApiClient(bearer=None)
    stranger.send("POST", "/pipeline-run", text="{").problem(401, "unauthorized")
    stranger.get("/pipeline-run/none").problem(401, "unauthorized")


def test_keys_that_cannot_be_fetched_are_no_fault_of_the_caller(wiring: WorldWiring) -> None:
    wiring.tokens = IssuerDown()
    with logged() as log:
        answer = ApiClient().get("/pipeline-run")
    problem = answer.problem(503, "tokens_unavailable")
    assert "no keys" not in problem["detail"]
    assert answer.headers["Retry-After"] == "2"
    assert "request_without_keys_of_issuer" in log.text


# -- scopes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("operation", CLOSED, ids=named)
def test_s3_each_route_asks_for_its_scope(operation: Operation, scope: Scope, world: World) -> None:
    before = state(world)
    answer = send(operation, f"default {scope}")
    if scope is operation.scope:
        assert answer.status not in {401, 403}
        return
    problem = answer.problem(403, "forbidden")
    assert f"scope {operation.scope}" in problem["detail"]
    assert (
        f'error="insufficient_scope", scope="{operation.scope}"'
        in (answer.headers["WWW-Authenticate"])
    )
    assert state(world) == before


@pytest.mark.parametrize("operation", CLOSED, ids=named)
@pytest.mark.usefixtures("wiring")
def test_s3_an_admin_may_do_all(operation: Operation) -> None:
    assert send(operation, "default admin").status not in {401, 403}


def test_s3_what_changes_something_needs_more_than_reading() -> None:
    writing = {one.name for one in CLOSED if one.scope is not Scope.RUNS_READ}
    assert writing == {one.name for one in CLOSED if one.method != "GET"}


# -- tenants --------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", WITH_ID, ids=named)
def test_p29_s4_another_tenants_is_answered_as_if_it_were_not_there(
    operation: Operation, world: World
) -> None:
    before = state(world)
    theirs, missing = (send(operation, "stranger", number=number) for number in (1, 2))
    assert theirs.status == 404
    assert (theirs.status, theirs.text, theirs.headers) == (
        missing.status,
        missing.text,
        missing.headers,
    )
    assert state(world) == before


@pytest.mark.usefixtures("wiring")
def test_p29_s4_a_run_of_another_tenants_pipeline_is_not_made() -> None:
    operation = next(one for one in CLOSED if one.name == "create_pipeline_run")
    send(operation, "stranger").problem(404, "pipeline_not_found")


@pytest.mark.usefixtures("wiring")
@pytest.mark.parametrize("route", ["/pipeline", "/pipeline-run"])
def test_p29_a_list_holds_ones_own(route: str) -> None:
    assert len(ApiClient().get(route).json["items"]) == 1
    assert ApiClient(bearer="stranger").get(route).json["items"] == []


@pytest.mark.usefixtures("wiring")
def test_p29_names_and_keys_of_another_tenant_are_free() -> None:
    mine = ApiClient(bearer="stranger")
    wanted = {"name": "pipeline", "mode": "BATCH", "workflow_name": "batch_pipeline_workflow"}
    pipeline_id = mine.post("/pipeline", wanted).json["id"]
    run = {"pipeline_id": pipeline_id, "input_path_prefix": "a", "output_path_prefix": "b"}
    first = mine.post("/pipeline-run", run, Idempotency_Key="k")
    theirs = ApiClient().post("/pipeline-run", run | {"pipeline_id": 1}, Idempotency_Key="k")
    assert (first.status, theirs.status) == (201, 201)
    assert first.json["id"] != theirs.json["id"]


@pytest.mark.parametrize("operation", CLOSED, ids=named)
def test_s5_the_database_is_fenced_for_the_callers_tenant(
    operation: Operation, wiring: WorldWiring
) -> None:
    send(operation, "default")
    assert wiring.acted_for == ["default"]


# -- the gateway's authorizer ---------------------------------------------------------------------


@pytest.mark.usefixtures("wiring")
def test_the_authorizer_lets_a_caller_through_to_the_whole_stage() -> None:
    event = {"type": "TOKEN", "authorizationToken": "Bearer default", "methodArn": ARN}
    policy = authorizer(event, Invocation(REQUEST_ID))
    [statement] = policy["policyDocument"]["Statement"]
    assert policy["principalId"] == "somebody of default"
    # Its answer is kept, and serves the caller's next call of another route.
    assert statement["Resource"] == ARN.partition("/GET")[0] + "/*"
    assert (statement["Effect"], statement["Action"]) == ("Allow", "execute-api:Invoke")


@pytest.mark.usefixtures("wiring")
@pytest.mark.parametrize("header", ["Bearer bad", "Basic default", "default", ""])
def test_the_authorizer_turns_all_others_away(header: str) -> None:
    event = {"type": "TOKEN", "authorizationToken": header, "methodArn": ARN}
    # API Gateway answers 401 to this text alone, 500 to any other.
    with logged() as log, pytest.raises(Exception, match=r"^Unauthorized$"):
        authorizer(event, Invocation(REQUEST_ID))
    assert [line["message"] for line in log.lines] == ["token_refused"]


def test_while_the_issuer_is_down_the_authorizer_fails_and_says_why(wiring: WorldWiring) -> None:
    wiring.tokens = IssuerDown()
    event = {"type": "TOKEN", "authorizationToken": "Bearer default", "methodArn": ARN}
    # API Gateway answers 503 to that, as the template has it.
    with logged() as log, pytest.raises(TokensUnavailable, match="no keys"):
        authorizer(event, Invocation(REQUEST_ID))
    [line] = log.lines
    assert (line["level"], line["message"]) == ("ERROR", "request_without_keys_of_issuer")
    assert line["error"] == "no keys for default"
