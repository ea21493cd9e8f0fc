"""`/pipeline`: definitions are recorded, read, listed and changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from api_client import ApiClient
from fakes import World
from runs.wiring import using
from wired import ENVIRONMENT, WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = {"pipeline_id": 1, "input_path_prefix": "in", "output_path_prefix": "out"}
WANTED = {"name": "nightly", "mode": "BATCH", "workflow_name": "batch_pipeline_workflow"}
CHANGED = datetime(2026, 3, 1, 12, 1, 30, tzinfo=UTC)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with using(WorldWiring(world)):
        yield world


@pytest.fixture
def api(world: World) -> ApiClient:
    del world
    return ApiClient()


def wanted(**fields: object) -> dict[str, object]:
    return WANTED | fields


# -- recording ------------------------------------------------------------------------------------


def test_a_pipeline_is_recorded_and_answered_whole(api: ApiClient) -> None:
    answer = api.post("/pipeline", WANTED)
    assert answer.status == 201
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json == {
        "id": 1,
        "name": "nightly",
        "mode": "BATCH",
        "workflow_name": "batch_pipeline_workflow",
        "workflow_version": None,
        "enabled": True,
        "disabled_reason": None,
        "max_active_runs": None,
        "timeout_seconds": None,
        "created_at": "2026-03-01T12:00:00Z",
        "updated_at": "2026-03-01T12:00:00Z",
    }


@pytest.mark.parametrize("version", [1, 7, 2**31 - 1])
@pytest.mark.parametrize("mode", ["BATCH", "REALTIME"])
def test_mode_and_workflow_version_are_the_callers(api: ApiClient, mode: str, version: int) -> None:
    told = api.post("/pipeline", wanted(mode=mode, workflow_version=version)).json
    assert (told["mode"], told["workflow_version"]) == (mode, version)


def test_another_pipeline_of_one_name_is_refused_and_named(api: ApiClient, world: World) -> None:
    api.post("/pipeline", WANTED)
    problem = api.post("/pipeline", wanted(max_active_runs=1)).problem(409, "pipeline_exists")
    assert "'nightly'" in problem["detail"]
    assert len(world.database.pipelines) == 1


def test_a_request_whose_answer_was_lost_is_answered_the_same_again(
    api: ApiClient, world: World
) -> None:
    first = api.post("/pipeline", WANTED)
    again = api.post("/pipeline", wanted(enabled=True, workflow_version=None))
    assert (again.status, again.json) == (201, first.json)
    assert len(world.database.pipelines) == 1


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/name", "/mode", "/workflow_name"]),
        (wanted(name=""), ["/name"]),
        (wanted(name="n" * 256), ["/name"]),
        (wanted(name=None), ["/name"]),
        (wanted(name=7), ["/name"]),
        (wanted(name="nul\0"), ["/name"]),
        (wanted(name="lone \ud800"), ["/name"]),
        (wanted(mode="batch"), ["/mode"]),
        (wanted(mode=None), ["/mode"]),
        (wanted(workflow_name=""), ["/workflow_name"]),
        (wanted(workflow_name="w" * 256), ["/workflow_name"]),
        (wanted(workflow_name=".."), ["/workflow_name"]),
        (wanted(workflow_name="a/b"), ["/workflow_name"]),
        (wanted(workflow_version=0), ["/workflow_version"]),
        (wanted(workflow_version=2**31), ["/workflow_version"]),
        (wanted(workflow_version="1"), ["/workflow_version"]),
        (wanted(workflow_version=True), ["/workflow_version"]),
        (wanted(workflow_version=1.5), ["/workflow_version"]),
        (wanted(id=5, tenant_id="other"), ["/id", "/tenant_id"]),
        (wanted(**{"a/b~c": 1}), ["/a~1b~0c"]),
        ([WANTED], [""]),
        (None, [""]),
        ("text", [""]),
    ],
)
def test_what_a_pipeline_may_not_be_is_told_by_pointers_and_not_recorded(
    api: ApiClient, world: World, body: object, pointers: list[str]
) -> None:
    assert api.post("/pipeline", body).pointers() == pointers
    assert not world.database.pipelines


def test_the_longest_name_is_taken(api: ApiClient) -> None:
    assert api.post("/pipeline", wanted(name="ü" * 255)).status == 201


def test_a_body_that_is_no_object_is_told_in_plain_words(api: ApiClient) -> None:
    problem = api.post("/pipeline", [1]).problem(422, "invalid_request")
    assert problem["detail"] == "The body: Input should be a JSON object"


# -- reading --------------------------------------------------------------------------------------


def test_a_pipeline_is_read_as_it_was_answered(api: ApiClient) -> None:
    made = api.post("/pipeline", WANTED)
    read = api.get("/pipeline/1")
    assert read.status == 200
    assert read.json == made.json


@pytest.mark.parametrize(
    "text", ["2", "0", "-1", "abc", "1.0", "01x", "1e3", "²", "%31", str(2**63), "9" * 40]
)
def test_an_id_that_no_pipeline_has_is_not_found(api: ApiClient, text: str) -> None:
    api.post("/pipeline", WANTED)
    problem = api.get(f"/pipeline/{text}").problem(404, "pipeline_not_found")
    assert problem["detail"] == "Pipeline not found"


def test_pipelines_are_listed_newest_first_in_exact_pages(api: ApiClient) -> None:
    for number in range(5):
        api.post("/pipeline", wanted(name=f"number {number}"))
    seen, token = [], ""
    for expected in ([5, 4], [3, 2], [1]):
        page = api.get(f"/pipeline?page_size=2&page_token={token}")
        assert page.status == 200
        assert page.json.keys() == {"items", "next_page_token"}
        assert [item["id"] for item in page.json["items"]] == expected
        seen += page.json["items"]
        token = page.json["next_page_token"]
    assert token == ""
    assert seen[0] == api.get("/pipeline/5").json


def test_no_pipelines_are_an_empty_page(api: ApiClient) -> None:
    assert api.get("/pipeline").json == {"items": [], "next_page_token": ""}


# -- changing -------------------------------------------------------------------------------------


def test_what_a_change_names_is_changed_and_the_rest_stays(api: ApiClient, world: World) -> None:
    made = api.post("/pipeline", wanted(workflow_version=3)).json
    world.pass_time(90)
    changed = api.patch("/pipeline/1", {"workflow_version": 4})
    assert changed.status == 200
    assert changed.json == made | {"workflow_version": 4, "updated_at": "2026-03-01T12:01:30Z"}
    assert world.database.pipelines[1].updated_at == CHANGED
    assert api.get("/pipeline/1").json == changed.json


def test_a_version_may_be_set_back_to_the_latest_and_names_be_changed(api: ApiClient) -> None:
    made = api.post("/pipeline", wanted(workflow_version=3)).json
    changes = {"name": "weekly", "workflow_name": "other", "workflow_version": None}
    assert api.patch("/pipeline/1", changes).json == made | changes


def test_a_change_of_nothing_is_fine(api: ApiClient) -> None:
    made = api.post("/pipeline", WANTED).json
    assert api.patch("/pipeline/1", {}).json == made


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({"mode": "REALTIME"}, ["/mode"]),
        ({"name": None}, ["/name"]),
        ({"name": ""}, ["/name"]),
        ({"workflow_name": None}, ["/workflow_name"]),
        ({"workflow_version": 0}, ["/workflow_version"]),
        ({"created_at": "2026-03-01T12:00:00Z"}, ["/created_at"]),
        ([], [""]),
    ],
)
def test_what_may_not_be_changed_is_told_by_pointers_and_stays(
    api: ApiClient, changes: object, pointers: list[str]
) -> None:
    made = api.post("/pipeline", WANTED).json
    assert api.patch("/pipeline/1", changes).pointers() == pointers
    assert api.get("/pipeline/1").json == made


def test_a_change_to_another_pipelines_name_is_refused(api: ApiClient) -> None:
    api.post("/pipeline", WANTED)
    api.post("/pipeline", wanted(name="weekly"))
    problem = api.patch("/pipeline/2", {"name": "nightly"}).problem(409, "pipeline_exists")
    assert "'nightly'" in problem["detail"]
    assert api.patch("/pipeline/2", {"name": "weekly"}).status == 200


@pytest.mark.parametrize("text", ["1", "abc"])
def test_a_pipeline_that_is_not_there_cannot_be_changed(api: ApiClient, text: str) -> None:
    problem = api.patch(f"/pipeline/{text}", {"name": "x"}).problem(404, "pipeline_not_found")
    assert problem["detail"] == "Pipeline not found"


def test_a_run_keeps_the_workflow_that_its_pipeline_had(api: ApiClient, world: World) -> None:
    pipeline_id = world.pipeline().id
    wish = {"pipeline_id": pipeline_id, "input_path_prefix": "in", "output_path_prefix": "out"}
    api.post("/pipeline-run", wish)
    api.patch(f"/pipeline/{pipeline_id}", {"workflow_version": 2})
    assert world.run(1).workflow_version == 1
    api.post("/pipeline-run", wish)
    assert world.run(2).workflow_version == 2


# -- as people run them ---------------------------------------------------------------------------


def test_a_disabled_pipeline_takes_no_runs_and_says_why(api: ApiClient, world: World) -> None:
    api.post("/pipeline", WANTED)
    off = api.patch("/pipeline/1", {"enabled": False, "disabled_reason": "moving house"})
    assert (off.json["enabled"], off.json["disabled_reason"]) == (False, "moving house")
    problem = api.post("/pipeline-run", RUN).problem(409, "pipeline_disabled")
    assert "moving house" in problem["detail"]
    assert not world.database.runs


def test_a_pipeline_that_is_enabled_again_has_no_reason_any_more(api: ApiClient) -> None:
    api.post("/pipeline", wanted(enabled=False, disabled_reason="moving house"))
    on = api.patch("/pipeline/1", {"enabled": True})
    assert (on.json["enabled"], on.json["disabled_reason"]) == (True, None)
    assert api.post("/pipeline-run", RUN).status == 201


def test_a_full_pipeline_says_when_to_come_again(api: ApiClient, world: World) -> None:
    api.post("/pipeline", wanted(max_active_runs=1))
    assert api.post("/pipeline-run", RUN).status == 201
    answer = api.post("/pipeline-run", RUN)
    problem = answer.problem(429, "pipeline_full")
    assert "1 active runs" in problem["detail"]
    assert answer.headers["Retry-After"] == "30"
    assert len(world.database.runs) == 1


def test_p7_a_replay_is_answered_though_its_pipeline_is_full_and_disabled(api: ApiClient) -> None:
    api.post("/pipeline", wanted(max_active_runs=1))
    first = api.post("/pipeline-run", RUN, Idempotency_Key="k")
    api.patch("/pipeline/1", {"enabled": False})
    again = api.post("/pipeline-run", RUN, Idempotency_Key="k")
    assert (again.status, again.json["id"]) == (200, first.json["id"])


def test_a_run_takes_its_pipelines_timeout_unless_it_names_one(api: ApiClient) -> None:
    api.post("/pipeline", wanted(timeout_seconds=600))
    assert api.post("/pipeline-run", RUN).json["timeout_seconds"] == 600
    assert api.post("/pipeline-run", {**RUN, "timeout_seconds": 60}).json["timeout_seconds"] == 60


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("enabled", "true"),
        ("enabled", 1),
        ("enabled", None),
        ("max_active_runs", 0),
        ("max_active_runs", "3"),
        ("max_active_runs", 1_000_001),
        ("timeout_seconds", 59),
        ("disabled_reason", "x" * 501),
    ],
)
def test_what_a_pipeline_may_not_be_is_told_by_pointers(
    api: ApiClient, field: str, value: object
) -> None:
    assert api.post("/pipeline", wanted(**{field: value})).pointers() == [f"/{field}"]
    api.post("/pipeline", WANTED)
    assert api.patch("/pipeline/1", {field: value}).pointers() == [f"/{field}"]


def test_a_tenant_has_a_limit_of_its_own() -> None:
    world = World()
    world.pipeline()
    with using(WorldWiring(world, {**ENVIRONMENT, "MAX_ACTIVE_RUNS_PER_TENANT": "1"})):
        api = ApiClient()
        assert api.post("/pipeline-run", RUN).status == 201
        answer = api.post("/pipeline-run", RUN)
    assert answer.problem(429, "tenant_full")
    assert answer.headers["Retry-After"] == "30"
