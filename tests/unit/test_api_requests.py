"""Requests that can't be understood get one shape of answer, and never a 5xx."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_client import Answer, ApiClient
from fakes import World
from runs.wiring import using
from wired import WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

PIPELINE = '{"name": "nightly", "mode": "BATCH", "workflow_name": "batch_pipeline_workflow"}'
RUN = '{"pipeline_id": 1, "input_path_prefix": "in", "output_path_prefix": "out"}'
LARGEST_BODY_BYTES = 64 * 1024
WRITES = [("POST", "/pipeline"), ("PATCH", "/pipeline/1"), ("POST", "/pipeline-run")]


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


# -- 415 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "target"), WRITES)
@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application",
        "",
        "*/*",
    ],
)
def test_a_body_of_another_media_type_is_refused(
    api: ApiClient, method: str, target: str, media_type: str
) -> None:
    headers = {"Content-Type": media_type}
    answer = api.send(method, target, text=RUN, headers=headers)
    problem = answer.problem(415, "unsupported_media_type")
    assert problem["detail"].startswith("The body must be application/json, not ")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json; charset=utf-8"},
        {"Content-Type": "Application/JSON"},
        {"Content-Type": "application/vnd.runs+json"},
        {"content-type": "application/json"},
    ],
)
def test_json_is_taken_under_every_name_that_it_has(world: World, headers: dict[str, str]) -> None:
    del world
    assert ApiClient(headers=headers).send("POST", "/pipeline-run", text=RUN).status == 201


def test_a_body_without_a_media_type_is_taken_for_json(api: ApiClient) -> None:
    assert api.send("POST", "/pipeline-run", text=RUN, headers={"Content-Type": None}).status == 201


# -- 400 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "target"), WRITES)
@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "{",
        '{"a": 1,}',
        "{'a': 1}",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e400}',
        '{"a": 1, "a": 2}',
        '{"a": [{"b": 1, "b": 2}]}',
        '{"a": ' + "1" * 5_000 + "}",
        '{"a": "\x01"}',
        "<html>",
        "{} {}",
    ],
)
def test_what_is_no_json_is_malformed(
    api: ApiClient, method: str, target: str, text: str | None
) -> None:
    problem = api.send(method, target, text=text).problem(400, "malformed_json")
    assert problem["detail"].startswith("The body is no JSON: ")
    assert len(problem["detail"]) < 300


def test_bytes_that_are_no_text_are_malformed(api: ApiClient) -> None:
    text = b64encode(b'{"name": "\xff"}').decode()
    api.send("POST", "/pipeline", text=text, base64=True).problem(400, "malformed_json")


def test_a_body_that_came_as_bytes_is_read(api: ApiClient) -> None:
    text = b64encode(RUN.encode()).decode()
    assert api.send("POST", "/pipeline-run", text=text, base64=True).status == 201


@pytest.mark.parametrize("depth", [300, 900, 5_000, 30_000])
def test_f29_a_body_that_is_too_deep_is_refused(api: ApiClient, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    answer = api.send("POST", "/pipeline-run", text=f'{RUN[:-1]}, "parameters": {{"a": {deep}}}}}')
    assert answer.status in {400, 422}
    answer.problem(answer.status, answer.json["code"])


def test_a_body_of_sensible_depth_is_taken(api: ApiClient) -> None:
    deep = "[" * 90 + "]" * 90
    answer = api.send("POST", "/pipeline-run", text=f'{RUN[:-1]}, "parameters": {{"a": {deep}}}}}')
    assert answer.status == 201


# -- 413 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "target"), WRITES)
def test_s6_a_body_of_more_than_64_kib_is_too_large(
    api: ApiClient, method: str, target: str
) -> None:
    text = " " * (LARGEST_BODY_BYTES + 1)
    problem = api.send(method, target, text=text).problem(413, "body_too_large")
    assert "64 KiB" in problem["detail"]


def test_it_is_bytes_that_count(api: ApiClient) -> None:
    text = json.dumps("ü" * (LARGEST_BODY_BYTES // 2), ensure_ascii=False)
    api.send("POST", "/pipeline-run", text=text).problem(413, "body_too_large")


def test_a_body_of_64_kib_is_read(api: ApiClient) -> None:
    assert api.send("POST", "/pipeline-run", text=RUN.ljust(LARGEST_BODY_BYTES)).status == 201


def test_the_answer_does_not_grow_with_what_is_wrong(api: ApiClient) -> None:
    many = json.dumps(dict.fromkeys(map(str, range(5_000)), 0))
    answer = api.send("POST", "/pipeline-run", text=many)
    assert len(answer.pointers()) == 20
    assert len(answer.text) < 4_096


# -- anything at all ------------------------------------------------------------------------------

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)
PREFIX = ANY_JSON | st.text(st.sampled_from("ab/.%2eE\\${}s3:\0\n ü\ud800"), max_size=12)
TAGS = ANY_JSON | st.dictionaries(st.text(max_size=5), ANY_JSON | st.text(max_size=5), max_size=3)
RUN_FIELDS = st.fixed_dictionaries(
    {
        "pipeline_id": ANY_JSON | st.sampled_from([1, 2]),
        "input_path_prefix": PREFIX,
        "output_path_prefix": PREFIX | st.just("out"),
    },
    optional={
        "report_path_prefix": PREFIX,
        "parameters": ANY_JSON | st.dictionaries(st.text(max_size=8), ANY_JSON, max_size=4),
        "tags": TAGS,
        "timeout_seconds": ANY_JSON,
    },
)
PIPELINE_FIELDS = st.fixed_dictionaries(
    {
        "name": ANY_JSON,
        "mode": ANY_JSON | st.sampled_from(["BATCH", "REALTIME"]),
        "workflow_name": ANY_JSON | st.text(),
    },
    optional={"workflow_version": ANY_JSON},
)
CHANGES = st.dictionaries(
    st.sampled_from(["name", "workflow_name", "workflow_version", "mode"]), ANY_JSON
)
QUERIES = st.dictionaries(
    st.sampled_from(["status", "pipeline_id", "page_size", "page_token", "x"]),
    st.text(max_size=12) | st.sampled_from(["CREATED", "1", "200", "201"]),
)


def answered_properly(answer: Answer) -> bool:
    """P30: a good answer, or a problem that is the caller's."""
    if answer.status < 300:
        return bool(answer.headers["Content-Type"] == "application/json")
    assert 400 <= answer.status < 500, answer.text
    return bool(answer.problem(answer.status, answer.json["code"]))


def ask(method: str, target: str, *, text: str | None = None) -> Answer:
    world = World()
    world.pipeline()
    world.submit()
    with using(WorldWiring(world)):
        return ApiClient().send(method, target, text=text)


@given(write=st.sampled_from(WRITES), body=ANY_JSON)
def test_p30_no_json_gives_a_5xx(write: tuple[str, str], body: Any) -> None:
    assert answered_properly(ask(*write, text=json.dumps(body)))


@settings(max_examples=300)
@given(body=RUN_FIELDS)
def test_p30_no_field_of_a_run_gives_a_5xx(body: Any) -> None:
    assert answered_properly(ask("POST", "/pipeline-run", text=json.dumps(body)))


@given(body=PIPELINE_FIELDS)
def test_p30_no_field_of_a_pipeline_gives_a_5xx(body: Any) -> None:
    assert answered_properly(ask("POST", "/pipeline", text=json.dumps(body)))


@given(body=CHANGES)
def test_p30_no_change_of_a_pipeline_gives_a_5xx(body: Any) -> None:
    assert answered_properly(ask("PATCH", "/pipeline/1", text=json.dumps(body)))


@given(write=st.sampled_from(WRITES), text=st.text(st.characters(exclude_categories=["Cs"])))
def test_p30_no_text_gives_a_5xx(write: tuple[str, str], text: str) -> None:
    assert answered_properly(ask(*write, text=text))


@given(route=st.sampled_from(["/pipeline", "/pipeline-run"]), query=QUERIES)
def test_p30_no_query_gives_a_5xx(route: str, query: dict[str, str]) -> None:
    assert answered_properly(ask("GET", f"{route}?{urlencode(query, errors='replace')}"))


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/?#"), min_size=1))
@pytest.mark.parametrize("route", ["/pipeline/{}", "/pipeline-run/{}", "/pipeline-run/{}/events"])
def test_p30_no_id_gives_a_5xx(route: str, text: str) -> None:
    assert answered_properly(ask("GET", route.format(text)))


@given(
    name=st.sampled_from(["Idempotency-Key", "Prefer", "If-None-Match", "Content-Type", "Accept"]),
    value=st.text(),
)
def test_p30_no_header_gives_a_5xx(name: str, value: str) -> None:
    world = World()
    world.pipeline()
    with using(WorldWiring(world)):
        api = ApiClient(headers={name: value})
        assert answered_properly(api.send("POST", "/pipeline-run", text=RUN))
        read = api.get("/pipeline-run")
    assert answered_properly(read)
