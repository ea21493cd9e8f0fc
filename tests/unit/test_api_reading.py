"""`GET /pipeline-run…`: one run, lists of them, and their history."""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from api_client import ApiClient
from fakes import World
from runs.model import Progress
from runs.ports import NoAnswer
from runs.status import PipelineMode
from runs.wiring import using
from wired import ENVIRONMENT, WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_ID = 2**63 - 1
NO_IDS = ["2", "0", "-1", "+1", "abc", "1.0", "1e0", "²", "%31", str(2**63), "9" * 40]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with using(WorldWiring(world)):
        yield world


@pytest.fixture
def api(world: World) -> ApiClient:
    del world
    return ApiClient()


def check(world: World) -> None:
    """Lets an interval pass, and has every run looked at that is due."""
    world.pass_time(30)
    world.begin_minute()
    world.deliver()


# -- one run --------------------------------------------------------------------------------------


def test_a_read_after_the_write_shows_it(api: ApiClient, world: World) -> None:
    pipeline_id = world.pipeline().id
    wish = {"pipeline_id": pipeline_id, "input_path_prefix": "in", "output_path_prefix": "out"}
    made = api.post("/pipeline-run", wish)
    read = api.get("/pipeline-run/1")
    assert read.status == 200
    assert read.json == made.json


def test_what_the_checks_have_seen_is_shown(api: ApiClient, world: World) -> None:
    run = world.submit()
    world.workbench.become(
        "In_Progress", run=run.id, progress=Progress(3, 7), logs_url="https://logs.test/1"
    )
    check(world)
    world.pass_time(4.5)
    told = api.get("/pipeline-run/1").json
    last_checked_at = world.database.observations[1].last_checked_at
    assert last_checked_at is not None
    assert datetime.fromisoformat(told["observation"]["last_checked_at"]) == last_checked_at
    assert told["status"] == "RUNNING"
    assert told["observation"] | {"last_checked_at": None} == {
        "last_checked_at": None,
        "upstream_status": "In_Progress",
        "progress": {"done": 3, "total": 7},
        "logs_url": "https://logs.test/1",
        "staleness_seconds": 4.5,
        "consecutive_failures": 0,
        "last_error": None,
        "next_check_at": None,
    }


def test_p16_trouble_is_shown_beside_an_unchanged_status(api: ApiClient, world: World) -> None:
    run = world.submit()
    world.workbench.answer_with(
        NoAnswer(reason="The Workbench answered 503", retry_after=timedelta(seconds=90)), run=run.id
    )
    check(world)
    told = api.get("/pipeline-run/1").json
    assert told["status"] == "SUBMITTED"
    assert told["error"] is None
    seen = told["observation"]
    assert (seen["consecutive_failures"], seen["last_error"]) == (1, "The Workbench answered 503")
    assert datetime.fromisoformat(seen["next_check_at"]) == world.time.now + timedelta(seconds=90)


def test_a_failed_job_is_told_with_its_error(api: ApiClient, world: World) -> None:
    world.submit()
    world.workbench.become("FAILED", run=1, error_message="row 7 is broken")
    check(world)
    told = api.get("/pipeline-run/1").json
    assert told["status"] == "FAILED"
    assert told["error_message"] == "row 7 is broken"
    assert told["error"] == {
        "code": "job_failed",
        "category": "UPSTREAM",
        "message": "row 7 is broken",
    }
    assert told["completed_at"] is not None


@pytest.mark.parametrize("text", NO_IDS)
@pytest.mark.parametrize("rest", ["", "/events"])
def test_an_id_that_no_run_has_is_not_found(
    api: ApiClient, world: World, text: str, rest: str
) -> None:
    world.submit()
    problem = api.get(f"/pipeline-run/{text}{rest}").problem(404, "pipeline_run_not_found")
    assert problem["detail"] == "Pipeline run not found"


def test_times_are_rfc_3339_in_utc(api: ApiClient, world: World) -> None:
    world.submit()
    world.workbench.become("DONE", run=1)
    check(world)
    told = api.get("/pipeline-run/1").json
    times = [told[f"{name}_at"] for name in ("created", "updated", "started", "completed")]
    times.append(told["observation"]["last_checked_at"])
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", time) for time in times
    ), times


# -- ETag, Retry-After ----------------------------------------------------------------------------


def test_a_run_has_a_weak_entity_tag(api: ApiClient, world: World) -> None:
    world.submit()
    assert re.fullmatch(r'W/"[^"]+"', api.get("/pipeline-run/1").headers["ETag"])


@pytest.mark.parametrize("layout", ["{}", "*", '"other", {}', 'W/"a" ,{} , "b"'])
def test_a_caller_who_has_this_version_gets_304_without_a_body(
    api: ApiClient, world: World, layout: str
) -> None:
    world.submit()
    tag = api.get("/pipeline-run/1").headers["ETag"]
    answer = api.get("/pipeline-run/1", If_None_Match=layout.format(tag))
    assert (answer.status, answer.text) == (304, "")
    assert answer.headers["ETag"] == tag
    assert answer.headers["Retry-After"] == "30"
    assert "Content-Type" not in answer.headers


def test_tags_are_compared_weakly(api: ApiClient, world: World) -> None:
    world.submit()
    tag = api.get("/pipeline-run/1").headers["ETag"].removeprefix("W/")
    assert api.get("/pipeline-run/1", If_None_Match=tag).status == 304


@pytest.mark.parametrize("known", ["", '"other"', "W/", "garbage", 'W/"1'])
def test_a_caller_who_has_another_version_gets_the_run(
    api: ApiClient, world: World, known: str
) -> None:
    world.submit()
    assert api.get("/pipeline-run/1", If_None_Match=known).status == 200


@pytest.mark.parametrize("upstream", ["QUEUED", "RUNNING"])
def test_every_check_makes_a_new_version_of_the_answer(
    api: ApiClient, world: World, upstream: str
) -> None:
    world.submit()
    world.workbench.become(upstream, run=1)
    tags = [api.get("/pipeline-run/1").headers["ETag"]]
    for _ in range(2):
        check(world)
        tags.append(api.get("/pipeline-run/1").headers["ETag"])
    world.workbench.answer_with(NoAnswer(reason="no"), run=1)
    check(world)
    tags.append(api.get("/pipeline-run/1").headers["ETag"])
    assert len(set(tags)) == len(tags)


def test_the_passing_of_time_alone_makes_no_new_version(api: ApiClient, world: World) -> None:
    world.submit()
    check(world)
    tag = api.get("/pipeline-run/1").headers["ETag"]
    world.pass_time(3)
    assert api.get("/pipeline-run/1").headers["ETag"] == tag


@pytest.mark.parametrize("seconds", [10, 30])
def test_an_active_run_says_when_to_ask_again(world: World, seconds: int) -> None:
    world.submit()
    environment = {**ENVIRONMENT, "POLL_INTERVAL_SECONDS": str(seconds)}
    with using(WorldWiring(world, environment)):
        assert ApiClient().get("/pipeline-run/1").headers["Retry-After"] == str(seconds)


def test_a_run_that_has_ended_does_not(api: ApiClient, world: World) -> None:
    world.submit()
    world.workbench.become("DONE", run=1)
    check(world)
    answer = api.get("/pipeline-run/1")
    assert answer.json["status"] == "COMPLETED"
    assert "Retry-After" not in answer.headers
    again = api.get("/pipeline-run/1", If_None_Match=answer.headers["ETag"])
    assert again.status == 304
    assert "Retry-After" not in again.headers


# -- history --------------------------------------------------------------------------------------


def test_history_tells_every_status_oldest_first(api: ApiClient, world: World) -> None:
    world.submit()
    world.workbench.become("FAILED", run=1, error_message="row 7")
    check(world)
    answer = api.get("/pipeline-run/1/events")
    assert answer.status == 200
    assert answer.json.keys() == {"items"}
    items = answer.json["items"]
    assert [
        (one["version"], one["previous_status"], one["status"], one["error"]) for one in items
    ] == [
        (1, None, "CREATED", None),
        (2, "CREATED", "SUBMITTED", None),
        (3, "SUBMITTED", "FAILED", "row 7"),
    ]
    assert all(
        one.keys() == {"version", "previous_status", "status", "at", "error"} for one in items
    )
    run = api.get("/pipeline-run/1").json
    assert [one["at"] for one in items] == [
        run["created_at"],
        run["started_at"],
        run["completed_at"],
    ]


def test_a_job_that_ended_between_two_checks_has_a_legal_history(
    api: ApiClient, world: World
) -> None:
    world.submit()
    world.workbench.become("SUCCEEDED", run=1)
    check(world)
    items = api.get("/pipeline-run/1/events").json["items"]
    assert [one["status"] for one in items] == ["CREATED", "SUBMITTED", "RUNNING", "COMPLETED"]


# -- lists ----------------------------------------------------------------------------------------


def walk(api: ApiClient, query: str) -> list[list[int]]:
    """The ids of every page."""
    pages, token = [], ""
    while True:
        answer = api.get(f"/pipeline-run?{query}&page_token={token}")
        assert answer.status == 200
        assert answer.json.keys() == {"items", "next_page_token"}
        pages.append([item["id"] for item in answer.json["items"]])
        token = answer.json["next_page_token"]
        assert re.fullmatch(r"[A-Za-z0-9_-]*", token)
        if not token:
            return pages


def test_runs_are_listed_newest_first_in_exact_pages(api: ApiClient, world: World) -> None:
    for _ in range(5):
        world.submit()
    assert walk(api, "page_size=2") == [[5, 4], [3, 2], [1]]
    assert walk(api, "page_size=200") == [[5, 4, 3, 2, 1]]


def test_only_an_empty_token_is_the_end(api: ApiClient, world: World) -> None:
    for _ in range(4):
        world.submit()
    assert walk(api, "page_size=2") == [[4, 3], [2, 1], []]


def test_p27_runs_made_meanwhile_do_not_disturb_a_walk(api: ApiClient, world: World) -> None:
    for _ in range(3):
        world.submit()
    first = api.get("/pipeline-run?page_size=2").json
    world.submit()
    second = api.get(f"/pipeline-run?page_size=2&page_token={first['next_page_token']}").json
    assert [one["id"] for one in first["items"] + second["items"]] == [3, 2, 1]


def test_a_list_shows_runs_as_they_are_read_alone(api: ApiClient, world: World) -> None:
    world.submit()
    check(world)
    (item,) = api.get("/pipeline-run").json["items"]
    assert item == api.get("/pipeline-run/1").json


def test_fifty_runs_are_a_page_unless_told(api: ApiClient, world: World) -> None:
    for _ in range(51):
        world.submit(respond_async=True)
    page = api.get("/pipeline-run").json
    assert len(page["items"]) == 50
    assert page["next_page_token"]


def test_lists_are_filtered(api: ApiClient, world: World) -> None:
    world.submit()
    world.submit(mode=PipelineMode.REALTIME)
    world.submit(respond_async=True)
    batch, realtime = world.pipeline().id, world.pipeline(PipelineMode.REALTIME).id
    assert walk(api, f"pipeline_id={batch}") == [[3, 1]]
    assert walk(api, f"pipeline_id={realtime}") == [[2]]
    assert walk(api, "pipeline_id=99") == [[]]
    assert walk(api, "status=CREATED") == [[3]]
    assert walk(api, "status=COMPLETED") == [[2]]
    assert walk(api, f"status=SUBMITTED&pipeline_id={batch}&page_size=1") == [[1], []]
    assert walk(api, f"status=SUBMITTED&pipeline_id={realtime}") == [[]]


def test_of_a_parameter_given_twice_the_last_counts(api: ApiClient, world: World) -> None:
    for _ in range(3):
        world.submit()
    page = api.get("/pipeline-run?page_size=1&page_size=2").json
    assert len(page["items"]) == 2


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ("page_size=0", ["/page_size"]),
        ("page_size=201", ["/page_size"]),
        ("page_size=", ["/page_size"]),
        ("page_size=many", ["/page_size"]),
        ("status=running", ["/status"]),
        ("status=", ["/status"]),
        ("pipeline_id=0", ["/pipeline_id"]),
        (f"pipeline_id={LARGEST_ID + 1}", ["/pipeline_id"]),
        ("pipeline_id=x", ["/pipeline_id"]),
        ("statu=FAILED", ["/statu"]),
        ("tenant_id=other", ["/tenant_id"]),
    ],
)
def test_what_a_list_cannot_be_asked_for_is_told(
    api: ApiClient, query: str, pointers: list[str]
) -> None:
    assert api.get(f"/pipeline-run?{query}").pointers() == pointers


def token_of(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "%20",
        "%C3%BC",
        "////",
        token_of({}),
        token_of([1]),
        token_of(1),
        token_of("before"),
        token_of({"before": None}),
        token_of({"before": "1"}),
        token_of({"before": True}),
        token_of({"before": 1.5}),
        token_of({"before": 0}),
        token_of({"before": LARGEST_ID + 1}),
        token_of({"before": 10**400}),
        base64.urlsafe_b64encode(b"[" * 20_000).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe\x00").decode(),
    ],
)
@pytest.mark.parametrize("route", ["/pipeline-run", "/pipeline"])
def test_a_token_that_is_none_of_ours_is_refused(api: ApiClient, route: str, token: str) -> None:
    problem = api.get(f"{route}?page_token={token}").problem(400, "invalid_page_token")
    assert "next_page_token" in problem["detail"]


def test_a_page_is_no_larger_than_an_answer_of_lambdas_may_be(api: ApiClient, world: World) -> None:
    """6 MB, in which the body is escaped once more."""
    world.pipeline()
    big = {"text": '"' * 15_000}
    wanted = {"pipeline_id": 1, "input_path_prefix": "in", "output_path_prefix": "out"}
    for _ in range(200):
        api.post("/pipeline-run", {**wanted, "parameters": big})
    seen: list[int] = []
    token = ""
    for _ in range(9):
        answer = api.get(f"/pipeline-run?page_size=200&page_token={token}")
        assert len(json.dumps(answer.text)) < 6_000_000
        seen += [run["id"] for run in answer.json["items"]]
        token = answer.json["next_page_token"]
        if not token:
            break
    assert seen == list(range(200, 0, -1))
    assert world.run(200).parameters == big
