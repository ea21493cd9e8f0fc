"""The client's methods, each against the real API in process."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from api.operations import OPERATIONS
from client_api import InProcessApi, playing
from fakes import World
from memory_storage import MemoryStorage
from pipeline_runs import Client, Mode, NewPipeline, PipelineChanges, Status, errors
from runs.model import Progress
from runs.wiring import using
from wired import CountedWaiters, WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

WISH: dict[str, Any] = {"input_path_prefix": "in", "output_path_prefix": "out"}


@pytest.fixture
def world() -> World:
    world = World()
    world.pipeline()
    return world


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def waiters() -> CountedWaiters:
    return CountedWaiters()


@pytest.fixture(autouse=True)
def wired(world: World, storage: MemoryStorage, waiters: CountedWaiters) -> Iterator[None]:
    wiring = WorldWiring(world)
    wiring.storage = storage
    wiring.waiters = waiters
    with using(wiring):
        yield


@pytest.fixture
def api() -> InProcessApi:
    return InProcessApi()


@pytest.fixture
def client(api: InProcessApi, world: World) -> Client:
    return api.client(world)


# -- pipelines ------------------------------------------------------------------------------------


def test_a_pipeline_is_made_found_by_its_name_and_changed(client: Client) -> None:
    made = client.create_pipeline(
        name="nightly", mode=Mode.BATCH, workflow_name="w", max_active_runs=3
    )
    assert client.find_pipeline("nightly") == client.get_pipeline(made.id) == made
    changed = client.change_pipeline(made.id, PipelineChanges(enabled=False, disabled_reason="x"))
    assert (changed.enabled, changed.disabled_reason, changed.max_active_runs) == (False, "x", 3)


def test_a_name_that_no_pipeline_has_is_answered_with_those_that_there_are(client: Client) -> None:
    with pytest.raises(errors.PipelineNameUnknown, match="'nightli': there are batch"):
        client.find_pipeline("nightli")


def test_a_pipeline_whose_name_is_taken_is_a_conflict(client: Client) -> None:
    with pytest.raises(errors.StateConflict) as raised:
        client.create_pipeline(name="batch", mode=Mode.BATCH, workflow_name="w")
    assert raised.value.code == "pipeline_exists"


def test_all_pages_of_pipelines_are_walked(client: Client, api: InProcessApi) -> None:
    for number in range(4):
        client.create_pipeline(name=f"p{number}", mode=Mode.BATCH, workflow_name="w")
    api.requests.clear()
    names = [pipeline.name for pipeline in client.list_pipelines(page_size=2)]
    assert names == ["p3", "p2", "p1", "p0", "batch"]
    assert len(api.calls) == 3


# -- runs -----------------------------------------------------------------------------------------


def test_a_run_is_made_with_all_that_is_said_of_it(client: Client, world: World) -> None:
    run = client.create_run(
        pipeline_id=1,
        **WISH,
        report_path_prefix="rep",
        parameters={"drop": [1, None]},
        tags={"team": "ocean"},
        timeout_seconds=3600,
    )
    assert run.status is Status.SUBMITTED
    assert run.user_storage_report_path_prefix == "rep"
    assert run.parameters == {"drop": [1, None]}
    assert run.tags == {"team": "ocean"}
    assert run.timeout_seconds == 3600
    assert client.get_run(run.id) == run
    assert world.run(run.id).tags == {"team": "ocean"}


def test_each_creation_has_a_key_of_its_own(client: Client, api: InProcessApi) -> None:
    first = client.create_run(pipeline_id=1, **WISH)
    second = client.create_run(pipeline_id=1, **WISH)
    assert first.id != second.id
    assert [one.headers["Idempotency-Key"] for one in api.requests] == ["key-1", "key-2"]


def test_the_same_key_answers_the_same_run(client: Client) -> None:
    runs = [client.create_run(pipeline_id=1, **WISH, idempotency_key="mine") for _ in range(2)]
    assert runs[0].id == runs[1].id


def test_a_key_with_another_body_is_refused(client: Client) -> None:
    client.create_run(pipeline_id=1, **WISH, idempotency_key="mine")
    with pytest.raises(errors.RequestInvalid) as raised:
        client.create_run(
            pipeline_id=1, input_path_prefix="x", output_path_prefix="y", idempotency_key="mine"
        )
    assert raised.value.code == "idempotency_key_reused"


def test_a_run_may_be_recorded_only(client: Client) -> None:
    run = client.create_run(pipeline_id=1, **WISH, respond_async=True)
    assert run.status is Status.CREATED


def test_a_submission_that_fails_names_the_run_that_is_kept(client: Client, world: World) -> None:
    world.conductor.down = True
    with pytest.raises(errors.SubmissionFailed, match="Batch workflow submission failed") as raised:
        client.create_run(pipeline_id=1, **WISH)
    assert client.get_run(raised.value.run_id).status is Status.FAILED


def test_what_is_at_fault_in_a_request_is_told_by_its_place(client: Client) -> None:
    with pytest.raises(errors.RequestInvalid) as raised:
        client.create_run(pipeline_id=1, input_path_prefix="a/../b", output_path_prefix="out")
    assert [fault.pointer for fault in raised.value.faults] == ["/input_path_prefix"]


def test_a_run_that_is_not_there_is_not_found(client: Client) -> None:
    with pytest.raises(errors.NotFound) as raised:
        client.get_run(77)
    assert (raised.value.status, raised.value.code) == (404, "pipeline_run_not_found")
    assert raised.value.request_id


def test_a_list_holds_what_all_filters_are_true_of(client: Client, world: World) -> None:
    for team in ("ocean", "land", "ocean"):
        client.create_run(pipeline_id=1, **WISH, tags={"team": team})
        world.pass_time(60)
    now = world.time.now
    assert [run.id for run in client.list_runs(tag=("team", "ocean"))] == [3, 1]
    assert [run.id for run in client.list_runs(created_after=now - timedelta(seconds=90))] == [3]
    before = list(client.list_runs(created_before=now - timedelta(seconds=90), pipeline_id=1))
    assert [run.id for run in before] == [2, 1]
    assert list(client.list_runs(status=Status.RUNNING)) == []
    job = client.get_run(2).workbench_job_id
    assert [run.id for run in client.list_runs(workbench_job_id=job)] == [2]


def test_pages_are_fetched_as_they_are_taken(client: Client, api: InProcessApi) -> None:
    for _ in range(5):
        client.create_run(pipeline_id=1, **WISH)
    api.requests.clear()
    found = client.list_runs(page_size=2)
    assert [run.id for run in islice(found, 2)] == [5, 4]
    assert len(api.calls) == 1
    assert [run.id for run in found] == [3, 2, 1]


def test_a_cancelled_run_ends_so(client: Client, world: World) -> None:
    run = client.create_run(pipeline_id=1, **WISH)
    asked = client.cancel_run(run.id, reason="wrong input")
    assert asked.cancel_reason == "wrong input"
    world.go_on(60)
    assert client.get_run(run.id).status is Status.CANCELLED
    with pytest.raises(errors.StateConflict) as raised:
        client.retry_run(client.create_run(pipeline_id=1, **WISH).id)
    assert raised.value.code == "run_not_terminal"
    again = client.retry_run(run.id)
    assert again.retry_of == run.id


def test_a_history_is_told_oldest_first(client: Client) -> None:
    run = client.create_run(pipeline_id=1, **WISH)
    told = [(event.previous_status, event.status) for event in client.list_run_events(run.id)]
    assert told == [(None, Status.CREATED), (Status.CREATED, Status.SUBMITTED)]


def test_outputs_and_report_are_listed_over_all_pages(
    client: Client, storage: MemoryStorage
) -> None:
    run = client.create_run(pipeline_id=1, **WISH, report_path_prefix="rep")
    for name in ("a.csv", "b/c.csv", "d.csv"):
        storage.put("user-data", f"out/{name}", b"12345")
    storage.put("user-data", "rep/report.html", b"<p>")
    outputs = [(one.name, one.size_bytes) for one in client.list_run_outputs(run.id, page_size=2)]
    assert outputs == [("a.csv", 5), ("b/c.csv", 5), ("d.csv", 5)]
    assert [one.name for one in client.list_run_report(run.id)] == ["report.html"]
    bare = client.create_run(pipeline_id=1, **WISH)
    with pytest.raises(errors.NotFound) as raised:
        list(client.list_run_report(bare.id))
    assert raised.value.code == "no_report"


# -- waiting --------------------------------------------------------------------------------------


def test_a_wait_returns_the_run_that_has_ended(
    client: Client, api: InProcessApi, world: World
) -> None:
    run = client.create_run(pipeline_id=1, **WISH)
    api.before = playing(world, [None, ("RUNNING", None), ("COMPLETED", None)], run.id)
    ended = client.wait(run.id, timeout_seconds=600)
    assert ended.status is Status.COMPLETED
    assert api.calls[1:] == [
        "GET /pipeline-run/1",
        "GET /pipeline-run/1?wait=20&since_version=2",
        "GET /pipeline-run/1?wait=20&since_version=3",
    ]


def test_a_failed_run_is_what_a_wait_returns_too(
    client: Client, api: InProcessApi, world: World
) -> None:
    run = client.create_run(pipeline_id=1, **WISH)
    api.before = playing(world, [("FAILED", None)], run.id)
    assert client.wait(run.id).status is Status.FAILED


def test_every_look_is_shown_to_who_watches(
    client: Client, api: InProcessApi, world: World
) -> None:
    run = client.create_run(pipeline_id=1, **WISH)
    scenes = [None, ("RUNNING", Progress(1, 3)), ("RUNNING", Progress(2, 3)), ("COMPLETED", None)]
    api.before = playing(world, scenes, run.id)
    looks = list(client.watch(run.id, look_seconds=5))
    assert [look.observation.progress and look.observation.progress.done for look in looks] == [
        None,
        1,
        2,
        2,
    ]
    assert looks[-1].has_ended


def test_a_wait_that_is_over_tells_how_the_run_stands(client: Client, world: World) -> None:
    run = client.create_run(pipeline_id=1, **WISH)
    began = world.time()
    with pytest.raises(errors.WaitTimedOut, match="run 1 is still SUBMITTED") as raised:
        client.wait(run.id, timeout_seconds=50)
    assert raised.value.run.id == run.id
    assert world.time() - began == 50


def test_a_service_that_answers_at_once_is_not_hammered(
    client: Client, api: InProcessApi, waiters: CountedWaiters
) -> None:
    waiters.free = 0
    run = client.create_run(pipeline_id=1, **WISH)
    with pytest.raises(errors.WaitTimedOut):
        client.wait(run.id, timeout_seconds=20)
    assert len(api.calls) == 1 + 1 + 10  # The creation, the first look, one every 2 s.


# -- the service ----------------------------------------------------------------------------------


def test_health_needs_no_token_and_all_else_does(api: InProcessApi, world: World) -> None:
    client = api.client(world, token=None)
    assert client.health().status == "ok"
    with pytest.raises(errors.TokenRefused, match="Send a token"):
        client.service_info()


def test_the_service_tells_of_itself(client: Client) -> None:
    client.create_run(pipeline_id=1, **WISH)
    info = client.service_info()
    assert info.runs.active[Status.SUBMITTED] == 1
    assert info.workbench.breaker == "CLOSED"
    assert info.limits.wait_seconds == 20


def test_a_token_without_the_scope_is_told_which_it_lacks(api: InProcessApi, world: World) -> None:
    client = api.client(world, token="default runs:read")  # noqa: S106 - it opens a fake
    with pytest.raises(errors.ScopeMissing, match="runs:write"):
        client.create_run(pipeline_id=1, **WISH)


def test_a_new_pipeline_says_only_what_is_given() -> None:
    pipeline = NewPipeline(name="n", mode=Mode.REALTIME, workflow_name="w")
    assert pipeline.sent() == {"name": "n", "mode": "REALTIME", "workflow_name": "w"}


# -- all of it ------------------------------------------------------------------------------------


def test_every_operation_of_the_api_has_a_method(client: Client, api: InProcessApi) -> None:
    run = client.create_run(pipeline_id=1, **WISH)
    client.create_pipeline(name="n", mode=Mode.BATCH, workflow_name="w")
    client.change_pipeline(1, PipelineChanges(enabled=True))
    client.get_pipeline(1)
    client.get_run(run.id)
    client.cancel_run(run.id)
    client.list_run_events(run.id)
    client.health()
    client.service_info()
    for listed in (client.list_pipelines(), client.list_runs()):
        list(listed)
    for refused in (
        lambda: client.retry_run(run.id),
        lambda: list(client.list_run_outputs(run.id)),
        lambda: list(client.list_run_report(run.id)),
    ):
        with pytest.raises((errors.StateConflict, errors.NotFound)):
            refused()
    called = {re.sub(r"/[0-9]+", "/{}", call) for call in api.calls}
    with_bodies = [one for one in OPERATIONS if any(one.answers.values())]  # No pages of a browser.
    offered = {f"{one.method} {re.sub('{.*}', '{}', one.path)}" for one in with_bodies}
    assert called == offered
