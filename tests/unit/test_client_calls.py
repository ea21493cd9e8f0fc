"""How the client tries again, what it sends along, and how failures are told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from client_api import IMPATIENT, InProcessApi, problem
from fakes import World
from pipeline_runs import Client, Mode, Patience, Status, errors
from runs.wiring import using
from wired import WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

WISH: dict[str, Any] = {"input_path_prefix": "in", "output_path_prefix": "out"}
REFUSED = httpx.ConnectError("[Errno 111] Connection refused")
LOST = httpx.ReadError("Connection reset by peer")


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.pipeline()
    with using(WorldWiring(world)):
        yield world


@pytest.fixture
def api() -> InProcessApi:
    return InProcessApi()


@pytest.fixture
def client(api: InProcessApi, world: World) -> Client:
    return api.client(world)


# -- trying again ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        REFUSED,
        LOST,
        httpx.ReadTimeout("too slow"),
        httpx.RemoteProtocolError("Server disconnected"),
        problem(429, "too_many_requests"),
        problem(502, "bad_gateway"),
        problem(503, "database_unavailable", wait=2),
        problem(504, "no_answer"),
        pytest.param(httpx.Response(503, text="<html>"), id="of a gateway"),
    ],
    ids=str,
)
def test_a_read_is_tried_again(
    client: Client, api: InProcessApi, trouble: httpx.Response | Exception
) -> None:
    api.next_answers += [trouble, trouble]
    assert client.health().status == "ok"
    assert len(api.calls) == 3


@pytest.mark.parametrize("trouble", [LOST, problem(504, "no_answer")], ids=str)
def test_a_creation_whose_answer_is_lost_makes_one_run(
    client: Client, api: InProcessApi, world: World, trouble: httpx.Response | Exception
) -> None:
    api.lost_answers = 1
    api.next_answers += [None, trouble]
    run = client.create_run(pipeline_id=1, **WISH)
    assert run.status is Status.SUBMITTED
    assert len(world.database.runs) == 1
    assert {one.headers["Idempotency-Key"] for one in api.requests} == {"key-1"}
    assert len(api.requests) == 3


def test_a_pipeline_whose_answer_is_lost_is_made_once(client: Client, api: InProcessApi) -> None:
    api.lost_answers = 1
    made = client.create_pipeline(name="n", mode=Mode.BATCH, workflow_name="w")
    assert [pipeline.id for pipeline in client.list_pipelines()] == [made.id, 1]


@pytest.mark.parametrize(
    "trouble",
    [problem(500, "internal_error"), problem(401, "unauthorized"), problem(409, "pipeline_exists")],
    ids=str,
)
def test_what_would_be_the_same_again_is_not_tried_again(
    client: Client, api: InProcessApi, trouble: httpx.Response
) -> None:
    api.next_answers.append(trouble)
    with pytest.raises(errors.ApiProblem):
        client.health()
    assert len(api.calls) == 1


def test_pauses_double_up_to_a_limit_and_end_with_the_budget(
    client: Client, api: InProcessApi
) -> None:
    api.next_answers += [REFUSED] * 20
    with pytest.raises(errors.ApiUnreachable, match=r"No connection to api\.test"):
        client.health()
    # Without luck: half of 0.5 s, 1 s, 2 s, 4 s, 8 s, 8 s, …; all within 30 s.
    assert api.pauses == [0.25, 0.5, 1, 2, 4, 4, 4, 4, 4, 4]


def test_chance_lengthens_a_pause_up_to_its_double(api: InProcessApi, world: World) -> None:
    lucky = replace(api.surroundings(world), chance=lambda: 1.0)
    api.next_answers += [REFUSED, REFUSED]
    Client("https://api.test", transport=api, surroundings=lucky).health()
    assert api.pauses == [0.5, 1]


def test_the_api_says_how_long_to_pause(client: Client, api: InProcessApi) -> None:
    api.next_answers += [problem(429, "tenant_full", wait=7), problem(503, "x", wait=2)]
    client.health()
    assert api.pauses == [7, 2]


def test_a_pause_beyond_the_budget_is_not_made(client: Client, api: InProcessApi) -> None:
    api.next_answers.append(problem(429, "pipeline_full", wait=31))
    with pytest.raises(errors.LimitReached) as raised:
        client.create_run(pipeline_id=1, **WISH)
    assert raised.value.retry_after_seconds == 31
    assert api.pauses == []


def test_who_has_time_waits_for_a_place(api: InProcessApi, world: World) -> None:
    api.next_answers += [problem(429, "pipeline_full", wait=31)] * 3
    client = api.client(world, patience=Patience(budget_seconds=120))
    assert client.create_run(pipeline_id=1, **WISH).status is Status.SUBMITTED
    assert api.pauses == [31, 31, 31]


def test_a_date_in_place_of_seconds_is_no_pause(client: Client, api: InProcessApi) -> None:
    answer = problem(503, "x")
    answer.headers["Retry-After"] = "Wed, 21 Oct 2026 07:28:00 GMT"
    api.next_answers.append(answer)
    client.health()
    assert api.pauses == [0.25]


def test_a_certificate_that_is_not_believed_is_told_at_once(
    client: Client, api: InProcessApi
) -> None:
    api.next_answers.append(
        httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    )
    with pytest.raises(errors.ApiUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        client.health()
    assert api.pauses == []


# -- what is sent along ---------------------------------------------------------------------------


def test_a_token_is_asked_for_before_every_request(api: InProcessApi, world: World) -> None:
    tokens = iter(["default", " default\n"])
    client = api.client(world, token=lambda: next(tokens))
    client.service_info()
    client.service_info()
    assert [one.headers["Authorization"] for one in api.requests] == ["Bearer default"] * 2


def test_a_request_id_is_sent_if_it_is_given(api: InProcessApi, world: World) -> None:
    api.client(world).health()
    api.client(world, request_id="batch-7").health()
    ids = iter(["a", "b"])
    counted = api.client(world, request_id=lambda: next(ids))
    counted.health()
    counted.health()
    told = [one.headers.get("X-Request-Id") for one in api.requests]
    assert told == [None, "batch-7", "a", "b"]


@pytest.mark.parametrize("text", ["schlüssel", "two\nlines", "\x00"])
def test_what_is_no_header_is_not_sent(api: InProcessApi, world: World, text: str) -> None:
    with pytest.raises(errors.HeaderInvalid, match="Authorization") as raised:
        api.client(world, token=text).service_info()
    assert text not in str(raised.value)
    with pytest.raises(errors.HeaderInvalid, match="Idempotency-Key"):
        api.client(world).create_run(pipeline_id=1, **WISH, idempotency_key=text)
    with pytest.raises(errors.HeaderInvalid, match="X-Request-Id"):
        api.client(world, request_id=text).health()
    assert api.requests == []


def test_a_redirect_takes_the_token_nowhere(client: Client, api: InProcessApi) -> None:
    api.next_answers.append(httpx.Response(302, headers={"Location": "https://other.test/"}))
    with pytest.raises(errors.AnswerNotUnderstood):
        client.service_info()
    assert [one.url.host for one in api.requests] == ["api.test"]


# -- what is told ---------------------------------------------------------------------------------


def test_an_answer_of_something_else_is_told_as_that(client: Client, api: InProcessApi) -> None:
    api.next_answers.append(httpx.Response(200, text="<html>Welcome</html>"))
    with pytest.raises(errors.AnswerNotUnderstood, match="is it the address of the pipeline runs"):
        client.health()


def test_a_refusal_of_something_else_is_told_as_that(client: Client, api: InProcessApi) -> None:
    api.next_answers.append(httpx.Response(403, json={"message": "Missing Authentication Token"}))
    with pytest.raises(errors.AnswerNotUnderstood, match="answered 403 without saying why"):
        client.health()


def test_a_gateway_without_words_is_a_service_that_is_away(api: InProcessApi, world: World) -> None:
    api.next_answers.append(httpx.Response(503))
    with pytest.raises(errors.ServiceUnavailable, match="answered 503"):
        api.client(world, patience=IMPATIENT).health()


@pytest.mark.parametrize("url", ["", "api.example.com", "ftp://api.test", "https://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(errors.NotConfigured, match="begin with https"):
        Client(url)
