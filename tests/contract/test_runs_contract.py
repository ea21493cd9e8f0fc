"""What `ports.Runs` and `ports.Pipelines` promise: one suite over the fake and real Postgres."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from made_runs import (
    ERROR,
    TENANT,
    WORKBENCH,
    close_to,
    make_pipeline,
    moved,
    new_run,
    read,
    record,
    recorded,
    submit,
)
from runs.errors import IdempotencyKeyReused, PipelineExists, PipelineNotFound, RunNotFound
from runs.model import (
    ErrorCategory,
    Finding,
    Observation,
    Pipeline,
    PipelineRun,
    Progress,
    RunError,
    Stray,
    Transition,
    transition,
)
from runs.ports import Claim, DueRun, Recorded, RunFilter
from runs.status import PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runs_stores import Store

S = PipelineRunStatus
LEASE = timedelta(seconds=20)
SECOND = timedelta(seconds=1)
INTERVAL = timedelta(seconds=15)
ALL = range(256)
NOWHERE = 4_711


@pytest.fixture
def pipeline(store: Store) -> Pipeline:
    return make_pipeline(store)


@pytest.fixture
def created(store: Store, pipeline: Pipeline) -> PipelineRun:
    """A run that is CREATED and under nobody's lease."""
    return record(store, pipeline, lease=None)


@pytest.fixture
def submitted(store: Store, created: PipelineRun) -> PipelineRun:
    """A run that has a job."""
    return submit(store, created)


def fail(store: Store, run: PipelineRun) -> PipelineRun:
    return moved(store, run, S.FAILED, error=ERROR)


def claim(store: Store, shards: Sequence[int] = ALL, *, late: timedelta = -SECOND * 45) -> Claim:
    return store.runs.claim(shards, older_than=INTERVAL, not_after=store.true_now() - late)


def due_ids(claimed: Claim) -> list[int]:
    return sorted(due.run_id for due in claimed.due)


# -- pipelines ------------------------------------------------------------------------------------


def test_a_pipeline_is_kept_as_it_was_made(store: Store) -> None:
    made = make_pipeline(store, workflow_version=3, mode=PipelineMode.REALTIME)

    assert (made.name, made.mode, made.workflow_version) == ("daily", PipelineMode.REALTIME, 3)
    assert made.workflow_name == "batch_pipeline_workflow"
    assert made.created_at == made.updated_at
    assert made.created_at.utcoffset() == timedelta(0)
    assert close_to(made.created_at, store.true_now())
    assert store.pipelines.pipeline(made.id, tenant_id=TENANT) == made


def test_a_pipelines_name_is_its_own_within_its_tenant(store: Store, pipeline: Pipeline) -> None:
    with pytest.raises(PipelineExists, match="'daily'"):
        make_pipeline(store, mode=PipelineMode.REALTIME)
    assert make_pipeline(store, tenant_id="other").id != pipeline.id


def test_a_pipeline_that_is_asked_for_again_is_the_one_that_is_there(store: Store) -> None:
    """Whoever lost the answer sends the request again."""
    whole: dict[str, Any] = {
        "mode": PipelineMode.REALTIME,
        "workflow_version": 3,
        "enabled": False,
        "disabled_reason": "not yet",
        "max_active_runs": 5,
        "timeout_seconds": 60,
    }
    for plain in ({}, {"name": "whole", **whole}):
        made = make_pipeline(store, **plain)
        assert make_pipeline(store, **plain) == made
    for field, value in whole.items():
        with pytest.raises(PipelineExists, match="'daily'"):
            make_pipeline(store, **{field: value})
    kept = store.pipelines.pipelines(tenant_id=TENANT, page_size=9, before=None)
    assert [one.name for one in kept] == ["whole", "daily"]


def test_a_pipeline_that_was_changed_since_is_another_one(store: Store, pipeline: Pipeline) -> None:
    store.pipelines.change_pipeline(pipeline.id, {"max_active_runs": 1}, tenant_id=TENANT)
    with pytest.raises(PipelineExists, match="'daily'"):
        make_pipeline(store)


def test_p29_another_tenants_pipeline_is_not_found(store: Store, pipeline: Pipeline) -> None:
    for pipeline_id, tenant_id in ((pipeline.id, "other"), (NOWHERE, TENANT)):
        with pytest.raises(PipelineNotFound):
            store.pipelines.pipeline(pipeline_id, tenant_id=tenant_id)
        with pytest.raises(PipelineNotFound):
            store.pipelines.change_pipeline(pipeline_id, {"name": "x"}, tenant_id=tenant_id)


def test_pipelines_come_in_pages_newest_first(store: Store) -> None:
    ids = [make_pipeline(store, name=f"p{n}").id for n in range(5)]
    make_pipeline(store, tenant_id="other")

    first = store.pipelines.pipelines(tenant_id=TENANT, page_size=2, before=None)
    second = store.pipelines.pipelines(tenant_id=TENANT, page_size=2, before=first[-1].id)
    last = store.pipelines.pipelines(tenant_id=TENANT, page_size=9, before=second[-1].id)

    assert [one.id for one in (*first, *second, *last)] == ids[::-1]
    assert len(first) == len(second) == 2


def test_only_the_named_fields_of_a_pipeline_change(store: Store, pipeline: Pipeline) -> None:
    store.move_time(timedelta(minutes=1))

    changed = store.pipelines.change_pipeline(
        pipeline.id, {"name": "weekly", "workflow_version": 2}, tenant_id=TENANT
    )

    assert changed == replace(
        pipeline, name="weekly", workflow_version=2, updated_at=changed.updated_at
    )
    assert changed.updated_at > pipeline.updated_at
    assert store.pipelines.pipeline(pipeline.id, tenant_id=TENANT) == changed


def test_a_pipeline_may_go_back_to_the_latest_version(store: Store) -> None:
    made = make_pipeline(store, workflow_version=3)
    changes = {"workflow_version": None}
    changed = store.pipelines.change_pipeline(made.id, changes, tenant_id=TENANT)
    assert changed.workflow_version is None


def test_a_pipeline_cannot_take_anothers_name(store: Store, pipeline: Pipeline) -> None:
    other = make_pipeline(store, name="weekly")
    with pytest.raises(PipelineExists, match="'daily'"):
        store.pipelines.change_pipeline(other.id, {"name": "daily"}, tenant_id=TENANT)

    own = store.pipelines.change_pipeline(pipeline.id, {"name": "daily"}, tenant_id=TENANT)
    assert own.name == "daily"


def test_p5_a_pipelines_times_never_step_back(store: Store, pipeline: Pipeline) -> None:
    store.move_time(-timedelta(hours=1))
    changed = store.pipelines.change_pipeline(pipeline.id, {"name": "x"}, tenant_id=TENANT)
    assert changed.updated_at == pipeline.updated_at


# -- record ---------------------------------------------------------------------------------------


def test_a_run_is_recorded_whole(store: Store) -> None:
    pipeline = make_pipeline(store, workflow_version=3)
    parameters = {"a": [1, 2.5, None, True, {"ü": "${x} \"'\\"}], "b": {}}
    new = new_run(
        pipeline, report_path_prefix="report", parameters=parameters, tags={"team": "blue"}
    )

    made = recorded(store, new)

    run = made.run
    assert not made.replayed
    assert (run.status, run.version, run.mode) == (S.CREATED, 1, PipelineMode.BATCH)
    assert (run.tenant_id, run.pipeline_id) == (TENANT, pipeline.id)
    assert (run.workflow_name, run.workflow_version) == ("batch_pipeline_workflow", 3)
    assert run.user_storage_input_path_prefix == "in/1"
    assert run.user_storage_output_path_prefix == "s3://bucket/out"
    assert run.user_storage_report_path_prefix == "report"
    assert (run.parameters, run.tags) == (parameters, {"team": "blue"})
    assert (run.workbench_job_id, run.conductor_workflow_id) == (None, None)
    assert (run.error, run.output, run.retry_of) == (None, None, None)
    assert (run.started_at, run.completed_at, run.cancel_requested_at) == (None, None, None)
    assert run.next_check_at is None
    assert run.observation == Observation()
    assert run.created_at == run.updated_at
    assert close_to(run.created_at, store.true_now())
    assert read(store, run) == run


def test_parameters_may_be_none_or_empty(store: Store, pipeline: Pipeline) -> None:
    assert record(store, pipeline, parameters=None).parameters is None
    assert record(store, pipeline, parameters={}).parameters == {}


def test_a_lease_is_counted_as_an_attempt(store: Store, pipeline: Pipeline) -> None:
    run = record(store, pipeline, lease=LEASE)
    assert run.submit_lease_until == run.created_at + LEASE
    assert run.submit_attempts == 1


def test_without_a_lease_there_was_no_attempt(created: PipelineRun) -> None:
    assert (created.submit_lease_until, created.submit_attempts) == (None, 0)


def test_every_run_has_a_correlation_id_of_its_own(store: Store, pipeline: Pipeline) -> None:
    first, second = record(store, pipeline), record(store, pipeline)
    namespace = first.correlation_id.removesuffix(f"-{first.id}")
    assert len(namespace) == 36
    assert second.correlation_id == f"{namespace}-{second.id}"


def test_p4_the_first_event_is_written_with_the_run(store: Store, pipeline: Pipeline) -> None:
    made = recorded(store, new_run(pipeline, tags={"team": "blue"}))

    [event] = made.events
    assert (event.run_id, event.pipeline_id, event.version) == (made.run.id, pipeline.id, 1)
    assert (event.previous_status, event.status) == (None, S.CREATED)
    assert (event.at, event.error_message) == (made.run.created_at, None)
    assert event.tags == {"team": "blue"}
    assert store.runs.history(made.run.id, tenant_id=TENANT) == [event]


def test_p7_the_same_key_and_body_are_the_same_run_as_it_is_now(
    store: Store, pipeline: Pipeline
) -> None:
    first = recorded(store, new_run(pipeline), key="k").run
    now = submit(store, first)

    again = recorded(store, new_run(pipeline), key="k")

    assert again == Recorded(run=now, replayed=True, events=())
    page = store.runs.page(RunFilter(), tenant_id=TENANT, page_size=9, before=None)
    assert [run.id for run in page.runs] == [first.id]


def test_p7_f14_the_same_key_with_another_body_writes_nothing(
    store: Store, pipeline: Pipeline
) -> None:
    first = recorded(store, new_run(pipeline), key="k").run

    with pytest.raises(IdempotencyKeyReused) as refused:
        recorded(store, new_run(pipeline), key="k", fingerprint="g")

    assert refused.value.run_id == first.id
    page = store.runs.page(RunFilter(), tenant_id=TENANT, page_size=9, before=None)
    assert [run.id for run in page.runs] == [first.id]


def test_f14_a_key_is_its_tenants_and_its_routes_own(store: Store, pipeline: Pipeline) -> None:
    other = make_pipeline(store, tenant_id="other")

    ids = {
        recorded(store, new_run(pipeline), key="k").run.id,
        recorded(store, new_run(pipeline), key="k", route="POST /retry").run.id,
        recorded(store, new_run(other), key="k").run.id,
    }

    assert len(ids) == 3


def test_p13_without_its_pipeline_nothing_is_written(store: Store, pipeline: Pipeline) -> None:
    for unknown in (new_run(pipeline, pipeline_id=NOWHERE), new_run(pipeline, tenant_id="other")):
        with pytest.raises(PipelineNotFound):
            recorded(store, unknown, key="k")

    made = recorded(store, new_run(pipeline), key="k")
    assert not made.replayed


def test_p13_a_used_key_with_an_unknown_pipeline_is_a_used_key(
    store: Store, pipeline: Pipeline
) -> None:
    recorded(store, new_run(pipeline), key="k")
    with pytest.raises(IdempotencyKeyReused):
        recorded(store, new_run(pipeline, pipeline_id=NOWHERE), key="k", fingerprint="g")


def test_a_run_keeps_the_workflow_that_its_pipeline_had(store: Store, pipeline: Pipeline) -> None:
    run = record(store, pipeline)
    store.pipelines.change_pipeline(pipeline.id, {"workflow_name": "new"}, tenant_id=TENANT)
    assert read(store, run).workflow_name == "batch_pipeline_workflow"


# -- reading --------------------------------------------------------------------------------------


def test_p29_another_tenants_run_is_not_found(store: Store, created: PipelineRun) -> None:
    for run_id, tenant_id in ((created.id, "other"), (NOWHERE, TENANT)):
        with pytest.raises(RunNotFound):
            store.runs.run(run_id, tenant_id=tenant_id)
        with pytest.raises(RunNotFound):
            store.runs.history(run_id, tenant_id=tenant_id)


def test_p27_p29_pages_give_every_run_of_the_tenant_once_newest_first(
    store: Store, pipeline: Pipeline
) -> None:
    other = make_pipeline(store, tenant_id="other")
    runs = [record(store, pipeline) for _ in range(7)]
    foreign = record(store, other)

    seen: list[int] = []
    before: int | None = None
    while True:
        page = store.runs.page(RunFilter(), tenant_id=TENANT, page_size=3, before=before)
        seen += [run.id for run in page.runs]
        record(store, pipeline)  # What is inserted meanwhile changes nothing.
        before = page.before
        if before is None:
            break

    assert seen == sorted((run.id for run in runs), reverse=True)
    [theirs] = store.runs.page(RunFilter(), tenant_id="other", page_size=9, before=None).runs
    assert theirs == foreign


def test_a_page_may_hold_one_pipeline_or_one_status(store: Store, pipeline: Pipeline) -> None:
    other = make_pipeline(store, name="other")
    mine, failed, theirs = record(store, pipeline), record(store, pipeline), record(store, other)
    fail(store, failed)

    def page(**where: Any) -> list[int]:
        found = store.runs.page(RunFilter(**where), tenant_id=TENANT, page_size=9, before=None)
        return [run.id for run in found.runs]

    assert page(pipeline_id=pipeline.id) == [failed.id, mine.id]
    assert page(status=S.CREATED) == [theirs.id, mine.id]
    assert page(status=S.FAILED, pipeline_id=pipeline.id) == [failed.id]
    assert page(status=S.FAILED, pipeline_id=other.id) == []


def test_p26_a_page_and_a_look_show_the_same(store: Store, submitted: PipelineRun) -> None:
    store.runs.observe([Finding(run_id=submitted.id, upstream_status="QUEUED")])
    [paged] = store.runs.page(RunFilter(), tenant_id=TENANT, page_size=9, before=None).runs
    seen = read(store, submitted)
    assert replace(paged, observation=Observation()) == replace(seen, observation=Observation())
    assert paged.observation.last_checked_at == seen.observation.last_checked_at


def test_active_runs_are_read_with_the_time(store: Store, pipeline: Pipeline) -> None:
    foreign = make_pipeline(store, tenant_id="other")
    ours, theirs, ended = record(store, pipeline), record(store, foreign), record(store, pipeline)
    fail(store, ended)

    found = store.runs.active([ours.id, theirs.id, ended.id, NOWHERE], workbench=WORKBENCH)
    now, active = found.now, found.runs

    assert close_to(now, store.true_now())
    assert sorted(active, key=lambda run: run.id) == [ours, theirs]


def test_without_active_runs_there_is_still_a_time(store: Store) -> None:
    for run_ids in ([], [NOWHERE]):
        found = store.runs.active(run_ids, workbench=WORKBENCH)
        now, active = found.now, found.runs
        assert close_to(now, store.true_now())
        assert list(active) == []


def test_the_databases_time_can_be_moved(store: Store, pipeline: Pipeline) -> None:
    store.move_time(timedelta(days=30))

    now = store.runs.active([], workbench=WORKBENCH).now
    run = record(store, pipeline)

    assert close_to(now, store.true_now() + timedelta(days=30))
    assert close_to(run.created_at, now)


# -- claim ----------------------------------------------------------------------------------------


def test_p20_a_claim_gives_the_active_runs_of_its_shards(store: Store, pipeline: Pipeline) -> None:
    runs = [record(store, pipeline, lease=None) for _ in range(3)]
    submit(store, runs[1])
    fail(store, runs[2])

    claimed = claim(store)

    assert claimed.shards == 256
    assert close_to(claimed.now, store.true_now())
    assert sorted(claimed.due, key=lambda due: due.run_id) == [
        DueRun(run_id=runs[0].id, troubled=False),
        DueRun(run_id=runs[1].id, troubled=False),
    ]


def test_p20_a_run_is_in_the_shard_of_its_id(store: Store, created: PipelineRun) -> None:
    shard = created.id % 256
    others = [one for one in ALL if one != shard]
    elsewhere = claim(store, others)
    assert (elsewhere.shards, due_ids(elsewhere)) == (255, [])
    assert due_ids(claim(store, [shard])) == [created.id]


def test_f15_a_shard_is_claimed_once_an_interval(store: Store, created: PipelineRun) -> None:
    assert claim(store).shards == 256

    again = claim(store)
    assert (again.shards, list(again.due)) == (0, [])

    store.move_time(INTERVAL - SECOND)
    assert claim(store).shards == 0
    store.move_time(SECOND)
    assert due_ids(claim(store)) == [created.id]


def test_f15_overlapping_claims_share_the_shards(store: Store) -> None:
    assert claim(store, range(16)).shards == 16
    assert claim(store, range(8, 24)).shards == 8
    assert claim(store).shards == 256 - 24


def test_f17_nothing_is_claimed_once_the_tick_is_too_late(
    store: Store, created: PipelineRun
) -> None:
    late = claim(store, late=SECOND)

    assert (late.shards, list(late.due)) == (0, [])
    assert due_ids(claim(store)) == [created.id]


def test_f43_a_ticks_lateness_is_judged_by_the_true_time(store: Store) -> None:
    store.move_time(timedelta(hours=1))
    assert claim(store).shards == 256


def test_shards_that_do_not_exist_are_not_claimed(store: Store) -> None:
    assert claim(store, [255, 256, 1_000]).shards == 1


def test_p8_a_run_under_a_live_lease_is_not_due(store: Store, pipeline: Pipeline) -> None:
    run = record(store, pipeline, lease=LEASE)
    assert due_ids(claim(store)) == []

    store.move_time(LEASE)
    assert due_ids(claim(store)) == [run.id]


def test_p20_a_backed_off_run_is_due_when_its_time_has_come(
    store: Store, submitted: PipelineRun
) -> None:
    back_off(store, submitted, timedelta(minutes=15))
    assert due_ids(claim(store)) == []

    store.move_time(timedelta(minutes=15))
    assert list(claim(store).due) == [DueRun(run_id=submitted.id, troubled=True)]


def back_off(store: Store, run: PipelineRun, wait: timedelta) -> datetime:
    now = store.runs.active([], workbench=WORKBENCH).now
    finding = Finding(run_id=run.id, trouble="time-out", next_check_at=now + wait)
    store.runs.observe([finding])
    return now + wait


# -- the submit lease -----------------------------------------------------------------------------


def test_p8_a_lease_is_taken_by_one(store: Store, created: PipelineRun) -> None:
    assert store.runs.take_submit_lease(created, LEASE)
    assert not store.another().take_submit_lease(created, LEASE)

    run = read(store, created)
    assert run.submit_attempts == 1
    assert run.submit_lease_until
    assert close_to(run.submit_lease_until, store.true_now() + LEASE)
    assert run.version == created.version


def test_p8_an_expired_lease_is_taken_over(store: Store, pipeline: Pipeline) -> None:
    run = record(store, pipeline, lease=LEASE)
    assert not store.runs.take_submit_lease(run, LEASE)

    store.move_time(LEASE)

    assert store.runs.take_submit_lease(run, LEASE)
    assert read(store, run).submit_attempts == 2


def test_p8_a_run_that_moved_on_gives_no_lease(store: Store, created: PipelineRun) -> None:
    submit(store, created)
    assert not store.runs.take_submit_lease(created, LEASE)


def test_f36_a_locked_run_gives_no_lease(store: Store, created: PipelineRun) -> None:
    with store.locked(created.id):
        assert not store.another().take_submit_lease(created, LEASE)
    assert store.runs.take_submit_lease(created, LEASE)


# -- move -----------------------------------------------------------------------------------------


def test_p5_p10_a_submitted_run_has_its_job_and_its_start(store: Store, pipeline: Pipeline) -> None:
    run = record(store, pipeline, lease=LEASE)
    store.move_time(SECOND)

    run = moved(store, run, S.SUBMITTED, workbench_job_id="job-1", conductor_workflow_id="w-1")

    assert (run.status, run.version) == (S.SUBMITTED, 2)
    assert (run.workbench_job_id, run.conductor_workflow_id) == ("job-1", "w-1")
    assert run.started_at == run.updated_at > run.created_at
    assert run.completed_at is None
    assert run.submit_lease_until is None


def test_p1_p4_a_walk_is_one_change_and_an_event_for_each_step(
    store: Store, submitted: PipelineRun
) -> None:
    change = transition(submitted, S.COMPLETED)
    assert change

    events = store.runs.move([change])

    told = [(event.version, event.previous_status, event.status) for event in events]
    assert told == [(3, S.SUBMITTED, S.RUNNING), (4, S.RUNNING, S.COMPLETED)]
    run = read(store, submitted)
    assert (run.status, run.version) == (S.COMPLETED, 4)
    assert run.completed_at == run.updated_at
    assert run.started_at == submitted.started_at
    history = store.runs.history(run.id, tenant_id=TENANT)
    assert list(history[2:]) == list(events)
    assert [event.version for event in history] == [1, 2, 3, 4]
    assert {event.at for event in events} == {run.completed_at}


def test_p31_a_realtime_runs_walk_has_its_output(store: Store) -> None:
    pipeline = make_pipeline(store, mode=PipelineMode.REALTIME)
    output = {"rows": 3, "text": "ü \"'\\", "list": [None, 1.5]}

    run = moved(store, record(store, pipeline), S.COMPLETED, output=output)

    assert (run.version, run.output) == (4, output)
    assert run.started_at == run.completed_at
    history = store.runs.history(run.id, tenant_id=TENANT)
    assert [event.status for event in history] == [S.CREATED, S.SUBMITTED, S.RUNNING, S.COMPLETED]


@pytest.mark.parametrize("output", [0, False, "", [], {}, "text"])
def test_any_output_but_null_is_kept(store: Store, output: object) -> None:
    pipeline = make_pipeline(store, mode=PipelineMode.REALTIME)
    assert moved(store, record(store, pipeline), S.COMPLETED, output=output).output == output


def test_p6_a_failed_run_has_its_error_and_so_has_its_event(
    store: Store, created: PipelineRun
) -> None:
    run = fail(store, created)

    assert run.error == ERROR
    assert run.started_at is None
    assert run.completed_at
    [_, event] = store.runs.history(run.id, tenant_id=TENANT)
    assert (event.status, event.error_message) == (S.FAILED, "out of memory")


def test_a_cancelled_run_has_no_error(store: Store, submitted: PipelineRun) -> None:
    run = moved(store, submitted, S.CANCELLED)
    assert (run.error, run.version) == (None, 3)
    assert run.completed_at


def test_p9_a_stray_job_is_noted_once(store: Store, created: PipelineRun) -> None:
    moved(store, created, S.FAILED, error=ERROR, stray=Stray(reason="a job may exist"))
    assert store.strays() == {created.id: "a job may exist"}


def test_without_a_stray_job_nothing_is_noted(store: Store, created: PipelineRun) -> None:
    fail(store, created)
    assert store.strays() == {}


def test_p19_f21_the_same_transition_twice_happens_once(
    store: Store, submitted: PipelineRun
) -> None:
    change = transition(submitted, S.RUNNING)
    assert change

    assert len(store.runs.move([change])) == 1
    assert list(store.runs.move([change])) == []
    assert list(store.another().move([change], wait=True)) == []

    assert read(store, submitted).version == 3


@pytest.mark.parametrize("wait", [True, False])
def test_p1_p2_a_transition_holds_for_the_row_as_it_was_seen_alone(
    store: Store, submitted: PipelineRun, *, wait: bool
) -> None:
    older, other_status = (
        Transition(
            run_id=submitted.id,
            seen_version=seen_version,
            seen_status=seen_status,
            path=(S.RUNNING,),
        )
        for seen_version, seen_status in ((1, S.SUBMITTED), (2, S.CREATED))
    )

    assert list(store.runs.move([older, other_status], wait=wait)) == []

    assert read(store, submitted) == submitted


def test_a_transition_of_an_unknown_run_changes_nothing(store: Store) -> None:
    unknown = Transition(run_id=NOWHERE, seen_version=1, seen_status=S.CREATED, path=(S.SUBMITTED,))
    assert list(store.runs.move([unknown])) == []


def test_many_transitions_are_told_by_run_and_version(store: Store, pipeline: Pipeline) -> None:
    runs = [submit(store, record(store, pipeline)) for _ in range(20)]
    stale = runs[7]
    moved(store, stale, S.CANCELLED)

    events = store.runs.move([transition(run, S.COMPLETED) for run in reversed(runs)])  # type: ignore[misc]  # none is there yet

    assert [(event.run_id, event.version) for event in events] == [
        (run.id, version) for run in runs if run is not stale for version in (3, 4)
    ]
    assert {read(store, run).status for run in runs if run is not stale} == {S.COMPLETED}
    assert read(store, stale).status is S.CANCELLED


def test_no_transitions_are_no_events(store: Store) -> None:
    assert list(store.runs.move([])) == []


def test_p5_timestamps_never_step_back(store: Store, created: PipelineRun) -> None:
    store.move_time(-timedelta(hours=1))
    started = submit(store, created)
    store.move_time(timedelta(hours=2))
    running = moved(store, started, S.RUNNING)
    store.move_time(-timedelta(hours=2))
    run = moved(store, running, S.COMPLETED)

    assert run.created_at == run.started_at
    assert run.started_at < running.updated_at == run.completed_at == run.updated_at
    history = store.runs.history(run.id, tenant_id=TENANT)
    assert all(before.at <= after.at for before, after in pairwise(history))


@pytest.mark.parametrize("wait", [True, False])
def test_f36_a_locked_run_is_not_moved_and_holds_no_other_up(
    store: Store, pipeline: Pipeline, *, wait: bool
) -> None:
    held, free = (submit(store, record(store, pipeline)) for _ in range(2))
    changes = [transition(run, S.RUNNING) for run in (held, free)]

    with store.locked(held.id):
        events = store.another().move(changes, wait=wait)  # type: ignore[arg-type]  # none is there yet

    assert [event.run_id for event in events] == [free.id]
    assert read(store, held) == held
    assert read(store, free).status is S.RUNNING


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_p18_f40_a_text_that_cannot_be_stored_spoils_only_its_own_run(
    store: Store, pipeline: Pipeline, text: str
) -> None:
    first, bad, last = (submit(store, record(store, pipeline)) for _ in range(3))
    poison = RunError("job_failed", ErrorCategory.UPSTREAM, text)
    changes = [
        transition(run, S.FAILED, error=error)
        for run, error in ((first, ERROR), (bad, poison), (last, ERROR))
    ]

    events = store.runs.move(changes)  # type: ignore[arg-type]  # none is there yet

    assert [event.run_id for event in events] == [first.id, last.id]
    assert read(store, bad) == bad
    assert read(store, last).error == ERROR


@pytest.mark.parametrize(
    "broken",
    [
        {"path": (S.SUBMITTED, S.RUNNING, S.FAILED)},
        {"path": (S.COMPLETED,)},
        {"path": (S.CREATED,)},
        {"error": ERROR},
        {"conductor_workflow_id": "x" * 256},
    ],
    ids=[
        "FAILED without an error",
        "not started",
        "no step",
        "an error without FAILED",
        "too long",
    ],
)
def test_p5_p6_what_breaks_a_fence_is_refused_and_spoils_no_other(
    store: Store, pipeline: Pipeline, broken: dict[str, Any]
) -> None:
    bad, good = record(store, pipeline), record(store, pipeline)
    change, fine = (
        Transition(
            run_id=run.id,
            seen_version=1,
            seen_status=S.CREATED,
            path=(S.SUBMITTED,),
            workbench_job_id=f"job-{run.id}",
        )
        for run in (bad, good)
    )
    change = replace(change, **broken)
    if broken == {"path": (S.CREATED,)}:
        change = replace(change, path=(S.SUBMITTED, S.CREATED))

    events = store.runs.move([change, fine])

    assert [event.run_id for event in events] == [good.id]
    assert read(store, bad) == bad


def test_p3_an_ended_run_stays_as_it_is(store: Store, created: PipelineRun) -> None:
    ended = fail(store, created)
    forced = Transition(
        run_id=ended.id, seen_version=2, seen_status=S.FAILED, path=(S.SUBMITTED, S.RUNNING)
    )
    assert list(store.runs.move([forced])) == []
    assert read(store, ended) == ended


def test_p10_a_run_keeps_its_first_job(store: Store, submitted: PipelineRun) -> None:
    forced = Transition(
        run_id=submitted.id,
        seen_version=2,
        seen_status=S.SUBMITTED,
        path=(S.RUNNING,),
        workbench_job_id="another",
    )
    store.runs.move([forced])
    run = read(store, submitted)
    assert (run.status, run.workbench_job_id) == (S.RUNNING, submitted.workbench_job_id)


def test_p10_f10_a_job_that_another_active_run_has_is_refused(
    store: Store, pipeline: Pipeline, submitted: PipelineRun
) -> None:
    assert submitted.workbench_job_id
    other = record(store, pipeline, lease=None)
    assert store.runs.holder_of(submitted.workbench_job_id) == submitted.id
    assert store.runs.holder_of("nobody's") is None

    change = transition(other, S.SUBMITTED, workbench_job_id=submitted.workbench_job_id)
    assert change
    assert not store.runs.move([change])
    assert read(store, other).status is S.CREATED

    moved(store, submitted, S.COMPLETED)
    assert store.runs.holder_of(submitted.workbench_job_id) is None
    assert store.runs.move([change])


# -- observe --------------------------------------------------------------------------------------


def test_p14_a_valid_answer_is_observed_with_the_time(store: Store, submitted: PipelineRun) -> None:
    finding = Finding(
        run_id=submitted.id,
        upstream_status="RUNNING",
        progress=Progress(1, 2**53),
        logs_url="https://logs/1?a=b",
    )

    store.runs.observe([finding])

    run = read(store, submitted)
    seen = run.observation
    assert (seen.upstream_status, seen.progress) == ("RUNNING", Progress(1, 2**53))
    assert (seen.logs_url, seen.consecutive_failures, seen.last_error) == (
        "https://logs/1?a=b",
        0,
        None,
    )
    assert seen.last_checked_at
    assert close_to(seen.last_checked_at, store.true_now())
    assert (run.version, run.updated_at) == (submitted.version, submitted.updated_at)


def test_staleness_is_the_age_of_the_newest_valid_answer(
    store: Store, submitted: PipelineRun
) -> None:
    assert read(store, submitted).observation.staleness_seconds is None
    store.runs.observe([Finding(run_id=submitted.id, upstream_status="RUNNING")])
    store.move_time(timedelta(seconds=100))
    store.runs.observe([Finding(run_id=submitted.id, trouble="time-out")])

    staleness = read(store, submitted).observation.staleness_seconds

    assert staleness is not None
    assert 100 <= staleness < 130


def test_p16_trouble_is_counted_and_leaves_what_was_known(
    store: Store, submitted: PipelineRun
) -> None:
    known = Finding(
        run_id=submitted.id, upstream_status="RUNNING", progress=Progress(1, 2), logs_url="http://l"
    )
    store.runs.observe([known])
    before = read(store, submitted).observation

    for number in (1, 2, 3):
        store.runs.observe([Finding(run_id=submitted.id, trouble=f"time-out {number}")])

    after = read(store, submitted).observation
    assert (after.consecutive_failures, after.last_error) == (3, "time-out 3")
    assert after.last_checked_at == before.last_checked_at
    assert (after.upstream_status, after.progress, after.logs_url) == (
        "RUNNING",
        Progress(1, 2),
        "http://l",
    )
    assert read(store, submitted).status is S.SUBMITTED


def test_p16_trouble_may_come_first(store: Store, submitted: PipelineRun) -> None:
    store.runs.observe([Finding(run_id=submitted.id, trouble="time-out")])
    seen = read(store, submitted).observation
    assert (seen.last_checked_at, seen.consecutive_failures) == (None, 1)
    assert seen.staleness_seconds is None


def test_p16_a_valid_answer_ends_the_trouble(store: Store, submitted: PipelineRun) -> None:
    back_off(store, submitted, timedelta(minutes=1))

    store.runs.observe([Finding(run_id=submitted.id, upstream_status="RUNNING")])

    run = read(store, submitted)
    assert (run.observation.consecutive_failures, run.observation.last_error) == (0, None)
    assert run.next_check_at is None


def test_p20_trouble_backs_a_run_off(store: Store, submitted: PipelineRun) -> None:
    until = back_off(store, submitted, timedelta(minutes=15))
    run = read(store, submitted)
    assert run.next_check_at == until
    assert run.updated_at == submitted.updated_at


def test_p5_an_observations_time_never_steps_back(store: Store, submitted: PipelineRun) -> None:
    finding = Finding(run_id=submitted.id, upstream_status="RUNNING")
    store.runs.observe([finding])
    before = read(store, submitted).observation.last_checked_at
    store.move_time(-timedelta(hours=1))

    store.runs.observe([finding])

    assert read(store, submitted).observation.last_checked_at == before


def test_many_findings_are_written_at_once_and_unknown_runs_passed_over(
    store: Store, pipeline: Pipeline
) -> None:
    runs = [record(store, pipeline) for _ in range(20)]
    findings = [Finding(run_id=run.id, upstream_status=f"S{run.id}") for run in runs]

    store.runs.observe([*findings[::-1], Finding(run_id=NOWHERE, upstream_status="X")])

    assert [read(store, run).observation.upstream_status for run in runs] == [
        f"S{run.id}" for run in runs
    ]


def test_no_findings_are_nothing_to_write(store: Store) -> None:
    store.runs.observe([])


def test_p18_f40_a_finding_that_cannot_be_stored_spoils_only_its_own_run(
    store: Store, pipeline: Pipeline
) -> None:
    bad, good = record(store, pipeline), record(store, pipeline)

    store.runs.observe(
        [
            Finding(run_id=bad.id, upstream_status="a\0b"),
            Finding(run_id=good.id, upstream_status="RUNNING"),
        ]
    )

    assert read(store, bad).observation == Observation()
    assert read(store, good).observation.upstream_status == "RUNNING"


@pytest.mark.parametrize("observed_before", [True, False])
def test_f36_a_locked_run_keeps_no_other_from_being_observed(
    store: Store, pipeline: Pipeline, *, observed_before: bool
) -> None:
    held, free = record(store, pipeline), record(store, pipeline)
    now = store.runs.active([], workbench=WORKBENCH).now
    if observed_before:
        store.runs.observe([Finding(run_id=held.id, upstream_status="QUEUED")])
    findings = [
        Finding(run_id=run.id, trouble="time-out", next_check_at=now) for run in (held, free)
    ]

    with store.locked(held.id):
        store.another().observe(findings)

    assert read(store, free).observation.last_error == "time-out"
    assert read(store, free).next_check_at == now
    assert read(store, held).next_check_at is None
    told = read(store, held).observation.last_error
    assert told == ("time-out" if observed_before else None)


def test_p3_f22_of_an_ended_run_the_check_that_ended_it_is_kept_and_no_later_one(
    store: Store, submitted: PipelineRun
) -> None:
    back_off(store, submitted, timedelta(minutes=1))
    ended = moved(store, submitted, S.COMPLETED)

    store.runs.observe([Finding(run_id=ended.id, upstream_status="DONE", is_last=True)])
    late = read(store, ended).created_at + timedelta(hours=1)
    store.runs.observe([Finding(run_id=ended.id, upstream_status="RUNNING")])
    store.runs.observe([Finding(run_id=ended.id, trouble="time-out", next_check_at=late)])

    run = read(store, ended)
    assert (run.status, run.version, run.next_check_at) == (S.COMPLETED, 4, None)
    assert run.observation.upstream_status == "DONE"


# -- the outbox -----------------------------------------------------------------------------------


def test_p28_events_are_unpublished_until_somebody_remembers(
    store: Store, submitted: PipelineRun
) -> None:
    store.move_time(timedelta(seconds=10))
    history = store.runs.history(submitted.id, tenant_id=TENANT)
    assert list(store.runs.unpublished(10)) == list(history)

    store.runs.mark_published(history[:1])
    assert list(store.runs.unpublished(10)) == list(history[1:])

    store.runs.mark_published(history)
    assert list(store.runs.unpublished(10)) == []


def test_p28_a_writer_is_given_time_to_publish(store: Store, created: PipelineRun) -> None:
    assert list(store.runs.unpublished(10)) == []
    store.move_time(timedelta(seconds=10))
    assert [event.run_id for event in store.runs.unpublished(10)] == [created.id]


def test_f46_unpublished_events_come_per_run_by_version(store: Store, pipeline: Pipeline) -> None:
    runs = [record(store, pipeline, tags={"n": "1"}) for _ in range(3)]
    for run in reversed(runs):
        moved(store, run, S.RUNNING)
    store.move_time(timedelta(seconds=10))

    events = store.runs.unpublished(7)

    assert [(event.run_id, event.version) for event in events] == [
        (runs[0].id, 1),
        (runs[0].id, 2),
        (runs[0].id, 3),
        (runs[1].id, 1),
        (runs[1].id, 2),
        (runs[1].id, 3),
        (runs[2].id, 1),
    ]
    assert events[0].tags == {"n": "1"}
    assert events[0].pipeline_id == pipeline.id


def test_p28_of_no_events_nothing_is_remembered(store: Store) -> None:
    store.runs.mark_published([])


def test_p28_what_is_published_twice_is_remembered_once(store: Store, created: PipelineRun) -> None:
    history = store.runs.history(created.id, tenant_id=TENANT)
    store.runs.mark_published(history)
    store.runs.mark_published(history)
    store.move_time(timedelta(seconds=10))
    assert list(store.runs.unpublished(10)) == []


def test_only_one_relay_works_at_a_time(store: Store) -> None:
    mine, theirs = store.another(), store.another()

    assert mine.relaying()
    assert not theirs.relaying()
    theirs.relayed()
    assert not theirs.relaying()

    mine.relayed()
    assert theirs.relaying()


def test_the_database_can_be_reached(store: Store) -> None:
    store.runs.ping()


def test_times_are_aware_and_utc(store: Store, submitted: PipelineRun) -> None:
    run = read(store, moved(store, submitted, S.COMPLETED))
    for moment in (run.created_at, run.updated_at, run.started_at, run.completed_at):
        assert moment
        assert moment.astimezone(UTC).tzinfo is UTC
        assert moment.utcoffset() == timedelta(0)
