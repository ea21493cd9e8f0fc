"""Submission as the API does it: recorded first, then started and watched, each key once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from fakes import SWEEP_TIME, WORKBENCH_URL, Course, Crash, StartFault, World
from runs.errors import (
    ConductorUnclear,
    DatabaseUnavailable,
    IdempotencyKeyReused,
    ParametersForbidden,
    PipelineNotFound,
    SubmissionFailed,
)
from runs.messages import CheckMessage
from runs.model import ErrorCategory
from runs.ports import CallEnd, Delayed
from runs.status import PipelineMode, PipelineRunStatus
from runs.submission import ROUTE, SUBMIT_LEASE

if TYPE_CHECKING:
    from runs.model import NewRun, PipelineRun

S = PipelineRunStatus


def statuses(world: World, run: PipelineRun) -> list[PipelineRunStatus]:
    return [event.status for event in world.history(run.id)]


# -- record, start, watch -------------------------------------------------------------------------


def test_a_run_is_recorded_before_anything_is_started(world: World) -> None:
    world.submit()

    record = world.steps.trail.index("after MemoryRuns.record")
    start = world.steps.trail.index("before MemoryConductor.start")
    assert record < start


def test_p4_a_submitted_run_has_a_version_and_an_event_for_each_status(world: World) -> None:
    run = world.submit()

    assert statuses(world, run) == [S.CREATED, S.SUBMITTED]
    assert run.version == 2
    assert run.submit_lease_until is None


def test_p26_what_is_answered_is_what_a_read_shows(world: World) -> None:
    run = world.submit()
    assert run == world.runs.run(run.id, tenant_id="default")


def test_p28_the_events_are_published_after_the_commit(world: World) -> None:
    run = world.submit()

    assert world.bus.published == world.history(run.id)
    assert world.database.published == {(run.id, 1), (run.id, 2)}


def test_a_workflow_is_given_the_original_designs_input_and_the_runs_key(world: World) -> None:
    parameters = {"text": "${workflow.input.x} \"quoted\" 'too'", "n": [1, None]}
    new = replace(world.new_run(), report_path_prefix=None, parameters=parameters)

    recorded = world.submission.submit(new, key="k", fingerprint="f", respond_async=False)

    [workflow] = world.conductor.started
    assert workflow.workflow_name == "batch_pipeline_workflow"
    assert workflow.workflow_version == 1
    assert workflow.correlation_id == recorded.run.correlation_id
    assert workflow.workflow_input == {
        "pipeline_run_id": recorded.run.id,
        "input_path_prefix": "in/1",
        "output_path_prefix": "out/1",
        "report_path_prefix": None,
        "parameters": parameters,
        "workbench_api_url": WORKBENCH_URL,
        "idempotency_key": recorded.run.correlation_id,
        "request_id": None,
    }


def naming_a_secret(world: World) -> NewRun:
    """As no caller may ask any more, but could before that was a rule."""
    return replace(world.new_run(), parameters={"a": [{"${workflow.secrets.TOKEN}": 1}]})


def test_s8_what_conductor_would_put_a_secret_into_is_not_recorded(world: World) -> None:
    with pytest.raises(ParametersForbidden, match="must not contain") as raised:
        world.submission.submit(
            naming_a_secret(world), key="k", fingerprint="f", respond_async=False
        )
    assert raised.value.field == "parameters"
    assert not world.database.runs
    assert not world.conductor.started


@pytest.mark.parametrize("attempts", [0, 1])
def test_s8_what_conductor_would_put_a_secret_into_is_not_sent_by_the_poller(
    world: World, attempts: int
) -> None:
    """The run was recorded by a release that let it pass."""
    run = world.runs.record(
        naming_a_secret(world),
        route=ROUTE,
        key="k",
        fingerprint="f",
        lease=SUBMIT_LEASE if attempts else None,
    ).run
    world.pass_time(60)

    world.begin_minute()
    world.deliver()

    run = world.run(run.id)
    assert (run.status, run.submit_attempts) == (S.FAILED, attempts + 1)
    assert run.error
    assert (run.error.code, run.error.category) == ("parameters_forbidden", ErrorCategory.USER)
    assert "${workflow.secrets." in run.error.message
    assert not world.conductor.started


def test_s8_a_run_that_was_made_before_the_rule_is_replayed_by_its_key(world: World) -> None:
    new = naming_a_secret(world)
    old = world.runs.record(new, route=ROUTE, key="k", fingerprint="f", lease=None).run

    again = world.submission.submit(new, key="k", fingerprint="f", respond_async=False)

    assert (again.run.id, again.replayed) == (old.id, True)


def test_the_workflow_is_watched_by_short_polls_that_grow_longer(world: World) -> None:
    world.conductor.courses.append(Course(seconds=1_000))

    world.submit()

    assert world.time.naps[0] == 0.03
    assert world.time.naps == sorted(world.time.naps)
    assert max(world.time.naps) == 0.5
    assert sum(world.time.naps) <= 10


def test_a_look_that_fails_while_the_workflow_is_watched_is_made_again(world: World) -> None:
    world.steps.strike("before MemoryConductor.execution", ConductorUnclear("reset"))
    assert world.submit().status is S.SUBMITTED


def test_a_workflow_that_cannot_be_looked_at_leaves_the_run_created(world: World) -> None:
    world.conductor.blind = True
    assert world.submit().status is S.CREATED
    assert world.time() <= 10


def test_p13_without_the_pipeline_nothing_is_written_or_started(world: World) -> None:
    new = replace(world.new_run(), pipeline_id=99)

    with pytest.raises(PipelineNotFound):
        world.submission.submit(new, key="k", fingerprint="f", respond_async=False)

    assert not world.database.runs
    assert not world.database.keys
    assert not world.conductor.started


# -- respond-async --------------------------------------------------------------------------------


def test_respond_async_starts_nothing_and_sends_a_check_at_once(world: World) -> None:
    run = world.submit(respond_async=True)

    assert run.status is S.CREATED
    assert (run.submit_lease_until, run.submit_attempts) == (None, 0)
    assert not world.conductor.started
    message = CheckMessage(run_ids=(run.id,), sent_at=run.created_at)
    assert world.check_queue.sent == [Delayed(message, delay_seconds=0)]
    assert world.bus.published == world.history(run.id)


def test_respond_async_is_submitted_by_the_check(world: World) -> None:
    run = world.submit(respond_async=True)

    world.deliver()

    run = world.run(run.id)
    assert (run.status, run.workbench_job_id, run.submit_attempts) == (S.SUBMITTED, "job-1", 1)


def test_p11_respond_async_is_submitted_by_the_sweep_if_its_message_is_lost(world: World) -> None:
    world.check_queue.refuses = 1
    run = world.submit(respond_async=True)

    world.begin_minute()
    world.deliver()

    assert world.run(run.id).status is S.SUBMITTED


# -- replays --------------------------------------------------------------------------------------


def test_p7_the_same_key_and_body_answer_the_same_run_as_it_is_now(world: World) -> None:
    first = world.submit(key="k")
    world.workbench.become("RUNNING", run=first.id)
    world.begin_minute()
    world.deliver()

    again = world.submission.submit(
        world.new_run(), key="k", fingerprint="same body", respond_async=False
    )

    assert again.replayed
    assert (again.run.id, again.run.status) == (first.id, S.RUNNING)
    assert len(world.database.runs) == len(world.conductor.started) == 1


def test_p7_a_replay_of_a_run_that_is_under_way_starts_and_sends_nothing(world: World) -> None:
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    first = world.submit(key="k")

    for respond_async in (False, True):
        again = world.submit(key="k", respond_async=respond_async)
        assert (again.id, again.status) == (first.id, S.CREATED)

    assert not world.conductor.started
    assert not world.check_queue.sent


def test_p7_a_replay_of_a_failed_submission_tells_the_same_failure(world: World) -> None:
    world.conductor.courses.append(Course.failed(CallEnd.CLIENT_ERROR, "no such input"))
    with pytest.raises(SubmissionFailed, match="no such input") as first:
        world.submit(key="k")

    with pytest.raises(SubmissionFailed, match="no such input") as again:
        world.submit(key="k")

    assert (first.value.replayed, again.value.replayed) == (False, True)
    assert first.value.run_id == again.value.run_id
    assert len(world.conductor.started) == 1


def test_a_replay_of_a_run_that_failed_once_it_had_a_job_is_no_failed_submission(
    world: World,
) -> None:
    run = world.submit(key="k")
    world.workbench.become("FAILED", run=run.id, error_message="out of memory")
    world.begin_minute()
    world.deliver()

    assert world.submit(key="k").status is S.FAILED


def test_p7_f14_the_same_key_with_another_body_is_refused(world: World) -> None:
    first = world.submit(key="k")

    with pytest.raises(IdempotencyKeyReused) as refused:
        world.submit(key="k", fingerprint="another body")

    assert refused.value.run_id == first.id
    assert len(world.database.runs) == 1


def test_f14_another_key_is_another_run(world: World) -> None:
    assert world.submit(key="k").id != world.submit(key="l").id
    assert {route for _, route, _ in world.database.keys} == {ROUTE}


# -- the lease ------------------------------------------------------------------------------------


def test_p8_the_lease_holds_from_the_recording_until_the_submission_is_decided(
    world: World,
) -> None:
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    run = world.submit()
    assert run.submit_lease_until == run.created_at + SUBMIT_LEASE


def test_p8_the_sweep_passes_by_a_run_under_a_live_lease(world: World) -> None:
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    world.submit()

    assert world.begin_minute().runs == 0
    world.pass_time(SUBMIT_LEASE.total_seconds())
    [report] = [world.sweeping.sweep(tick, within=SWEEP_TIME) for tick, _ in world.tick_queue.sent]
    assert report.runs == 1


# -- the process dies, the database goes away -----------------------------------------------------


def test_f1_a_crash_before_the_record_leaves_nothing(world: World) -> None:
    world.steps.strike("before MemoryRuns.record")
    with pytest.raises(Crash):
        world.submit(key="k")

    assert not world.database.runs
    assert world.submit(key="k").status is S.SUBMITTED


@pytest.mark.parametrize(
    "step",
    [
        "after MemoryRuns.record",
        "before MemoryConductor.start",
        "after MemoryConductor.start",
        "after MemoryConductor.execution",
        "before MemoryRuns.move",
    ],
)
def test_p8_p9_p11_f2_a_crash_after_the_record_is_resolved_within_a_minute(
    world: World, step: str
) -> None:
    world.steps.strike(step)
    with pytest.raises(Crash):
        world.submit(key="k")
    [run] = world.database.runs.values()
    assert run.status is S.CREATED

    assert world.submit(key="k").id == run.id
    world.pass_time(20)
    world.begin_minute()
    world.deliver()

    run = world.run(run.id)
    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-1")
    assert len(world.workbench.jobs) == 1


@pytest.mark.parametrize("step", ["after MemoryRuns.move", "before MemoryBus.publish"])
def test_p28_a_crash_before_the_events_are_published_leaves_them_to_the_relay(
    world: World, step: str
) -> None:
    world.steps.strike(step)
    with pytest.raises(Crash):
        world.submit()
    assert not world.bus.published

    world.pass_time(10)
    world.publishing.relay()

    assert [event.version for event in world.bus.published] == [1, 2]


@pytest.mark.parametrize("step", ["before MemoryRuns.move", "after MemoryRuns.move"])
def test_f33_a_database_that_goes_away_after_the_start_leaves_the_run_to_the_poller(
    world: World, step: str
) -> None:
    world.steps.strike(step, DatabaseUnavailable("restarting"))

    run = world.submit()

    assert run.status is S.CREATED
    world.pass_time(30)
    world.begin_minute()
    world.deliver()
    assert world.run(run.id).status is S.SUBMITTED
    assert len(world.conductor.started) == 1


def test_a_database_that_is_down_when_a_run_is_asked_for_is_told(world: World) -> None:
    new = world.new_run()
    world.database.down = True
    with pytest.raises(DatabaseUnavailable):
        world.submission.submit(new, key="k", fingerprint="f", respond_async=False)
    assert not world.conductor.started


def test_a_bus_that_is_down_changes_nothing_for_the_caller(world: World) -> None:
    world.bus.down = True
    assert world.submit().status is S.SUBMITTED


# -- REALTIME -------------------------------------------------------------------------------------


def test_p31_realtime_walks_to_completed_with_its_output(world: World) -> None:
    run = world.submit(mode=PipelineMode.REALTIME)

    assert (run.status, run.version) == (S.COMPLETED, 4)
    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.RUNNING, S.COMPLETED]
    assert run.output == {"objects": 1}
    assert run.started_at == run.completed_at == world.time.now
    assert run.workbench_job_id is None


def test_p31_realtime_that_outlasts_the_wait_is_running_and_taken_over_by_the_poller(
    world: World,
) -> None:
    world.conductor.courses.append(Course(seconds=50))

    run = world.submit(mode=PipelineMode.REALTIME)
    assert run.status is S.RUNNING
    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.RUNNING]

    world.go_on(130)
    run = world.run(run.id)
    assert (run.status, run.output) == (S.COMPLETED, {"objects": 1})
    assert len(world.conductor.started) == 1
    assert not world.workbench.asked


def test_p31_the_poller_sees_a_running_realtime_run_without_trouble(world: World) -> None:
    world.conductor.timeouts_seconds = {}
    world.conductor.courses.append(Course.hanging())
    run = world.submit(mode=PipelineMode.REALTIME)

    world.begin_minute()
    world.deliver()

    run = world.run(run.id)
    assert (run.status, run.version) == (S.RUNNING, 3)
    assert run.observation.last_checked_at == world.time.now
    assert run.observation.last_error is None


def test_realtime_without_an_output_is_failed(world: World) -> None:
    world.conductor.courses.append(Course.answered(None))

    with pytest.raises(SubmissionFailed, match="has no output") as failed:
        world.submit(mode=PipelineMode.REALTIME)

    assert failed.value.mode is PipelineMode.REALTIME
    assert world.run(failed.value.run_id).status is S.FAILED


@pytest.mark.parametrize("output", [0, False, "", [], {}, "text", 1.5, {"a": [None]}])
def test_any_output_but_null_is_one(world: World, output: object) -> None:
    world.conductor.courses.append(Course.answered(output))
    run = world.submit(mode=PipelineMode.REALTIME)
    assert (run.status, run.output) == (S.COMPLETED, output)


def test_f40_an_output_that_cannot_be_stored_as_it_is_is_cleaned(world: World) -> None:
    world.conductor.courses.append(Course.answered({"text": "a\0b", "\ud800": 1}))

    run = world.submit(mode=PipelineMode.REALTIME)

    assert run.status is S.COMPLETED
    assert run.output == {"text": "a\N{REPLACEMENT CHARACTER}b", "?": 1}


@pytest.mark.parametrize(
    "course",
    [
        Course.failed(CallEnd.CLIENT_ERROR, "no such input"),
        Course.failed(CallEnd.SERVER_ERROR, "out of disk"),
        Course.failed(CallEnd.CONNECTION_REFUSED, "refused"),
        Course.answer_lost(),
    ],
)
def test_p31_realtime_that_failed_is_failed_and_never_started_again(
    world: World, course: Course
) -> None:
    world.conductor.courses.append(course)

    with pytest.raises(SubmissionFailed) as failed:
        world.submit(mode=PipelineMode.REALTIME)

    world.go_on(400)
    run = world.run(failed.value.run_id)
    assert statuses(world, run) == [S.CREATED, S.FAILED]
    assert len(world.conductor.started) == 1
    assert not world.database.strays


def test_p31_realtime_is_never_started_twice_when_its_answer_was_lost(world: World) -> None:
    world.conductor.start_faults.append(StartFault.ANSWER_LOST)
    world.conductor.courses.append(Course.answer_lost())
    run = world.submit(mode=PipelineMode.REALTIME)
    assert run.status is S.CREATED

    world.go_on(100)

    run = world.run(run.id)
    assert run.status is S.FAILED
    assert run.error
    assert run.error.code == "workbench_answer_lost"
    assert len(world.conductor.started) == 1


def test_p11_realtime_that_was_never_started_is_started_by_the_poller(world: World) -> None:
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    run = world.submit(mode=PipelineMode.REALTIME)

    world.go_on(100)

    assert world.run(run.id).status is S.COMPLETED
    assert len(world.conductor.started) == 1


def test_p31_p32_realtime_whose_workflow_is_gone_is_lost_after_the_deadline(world: World) -> None:
    world.conductor.timeouts_seconds = {}
    world.conductor.courses.append(Course.hanging())
    run = world.submit(mode=PipelineMode.REALTIME)
    world.conductor.started.clear()

    world.go_on(420)

    run = world.run(run.id)
    assert run.status is S.FAILED
    assert run.error
    assert run.error.message == f"It is not known whether run {run.id} was executed"
    assert not world.conductor.started
    assert not world.database.strays


def test_realtime_under_respond_async_is_executed_by_the_check(world: World) -> None:
    run = world.submit(mode=PipelineMode.REALTIME, respond_async=True)
    world.deliver()
    assert world.run(run.id).status is S.COMPLETED


def test_without_time_left_nothing_is_started() -> None:
    world = World(submit_wait=timedelta(0))
    assert world.submit().status is S.CREATED
    assert not world.conductor.started


def test_the_wait_is_a_setting() -> None:
    world = World(submit_wait=timedelta(seconds=3))
    world.conductor.courses.append(Course(seconds=5))
    assert world.submit().status is S.CREATED
    assert world.time() <= 3
