"""Retrying: a new run with what an ended one was asked for, by its pipeline as it is now."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from fakes import TENANT, Course, Crash, StartFault, World
from runs.errors import (
    DatabaseUnavailable,
    IdempotencyKeyReused,
    ParametersForbidden,
    RunNotFound,
    RunNotTerminal,
    SubmissionFailed,
)
from runs.messages import CheckMessage
from runs.ports import CallEnd
from runs.status import PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from runs.checking import CheckReport
    from runs.model import NewRun, PipelineRun
    from runs.ports import Recorded

S = PipelineRunStatus
BATCH, REALTIME = PipelineMode.BATCH, PipelineMode.REALTIME
BROKE = Course.failed(CallEnd.SERVER_ERROR, "The Workbench answered 500: oh no")


def check(world: World, run: PipelineRun) -> CheckReport:
    """One look of the poller."""
    message = CheckMessage(run_ids=(run.id,), sent_at=world.database.now)
    return world.checking.check([message], within=timedelta(minutes=1))


def ended(world: World, word: str = "FAILED") -> PipelineRun:
    """A BATCH run whose job ended so."""
    run = world.submit()
    world.workbench.become(word, run=run.id)
    check(world, run)
    run = world.run(run.id)
    assert run.is_terminal
    return run


def wish(world: World) -> NewRun:
    """A request that leaves nothing to a default."""
    return replace(
        world.new_run(),
        input_path_prefix="s3://other/in",
        output_path_prefix="out/42",
        report_path_prefix="reports/42",
        parameters={"n": [1, {"deep": None}]},
        tags={"team": "a", "night": "ly"},
        timeout_seconds=3_600,
    )


def retry(world: World, run: PipelineRun, *, key: str, respond_async: bool = False) -> Recorded:
    return world.submission.retry(run.id, tenant_id=TENANT, key=key, respond_async=respond_async)


# -- the new run ----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["FAILED", "CANCELLED", "COMPLETED"])
def test_a_run_that_has_ended_is_retried_by_a_new_one_and_stays_as_it_is(
    world: World, word: str
) -> None:
    old = ended(world, word)
    row = world.database.runs[old.id]

    new = world.retry(old.id)

    assert (new.id, new.retry_of, new.status) == (old.id + 1, old.id, S.SUBMITTED)
    assert (new.workbench_job_id, new.error) == ("job-2", None)
    assert new.correlation_id != old.correlation_id
    assert world.database.runs[old.id] == row
    assert old.retry_of is None


def test_it_is_asked_for_the_same(world: World) -> None:
    first = world.submission.submit(wish(world), key="k", fingerprint="f", respond_async=False).run
    world.workbench.become("FAILED", run=first.id)
    check(world, first)

    new = world.retry(first.id)

    asked = [
        "tenant_id",
        "pipeline_id",
        "mode",
        "user_storage_input_path_prefix",
        "user_storage_output_path_prefix",
        "user_storage_report_path_prefix",
        "parameters",
        "tags",
        "timeout_seconds",
    ]
    assert [getattr(new, name) for name in asked] == [getattr(first, name) for name in asked]
    inputs = [workflow.workflow_input for workflow in world.conductor.started]
    assert inputs[1] == {
        **inputs[0],
        "pipeline_run_id": new.id,
        "idempotency_key": new.correlation_id,
        "request_id": None,
    }


def test_p32_it_has_its_whole_timeout_before_it(world: World) -> None:
    old = ended(world)
    world.pass_time(3_600)
    new = world.retry(old.id)
    assert new.started_at == world.time.now
    assert new.times_out_at == world.time.now + timedelta(days=7)


def test_it_takes_nothing_over_of_a_cancel(world: World) -> None:
    old = world.submit()
    world.cancel(old.id, reason="too dear")
    world.go_on(90)

    new = world.retry(old.id)

    assert (new.cancel_requested_at, new.cancel_cause, new.cancel_reason) == (None, None, None)
    world.workbench.become("COMPLETED", run=new.id)
    world.go_on(60)
    assert world.run(new.id).status is S.COMPLETED


def test_s8_a_run_whose_parameters_name_a_secret_is_not_retried(world: World) -> None:
    """It was made by a release that let them pass."""
    old = ended(world)
    named = {"text": "see ${workflow.secrets.TOKEN}"}
    world.database.runs[old.id] = replace(world.database.runs[old.id], parameters=named)
    started = len(world.conductor.started)

    with pytest.raises(ParametersForbidden, match="must not contain"):
        world.retry(old.id)

    assert len(world.database.runs) == 1
    assert len(world.conductor.started) == started


def test_a_retry_can_be_retried_and_names_the_one_before(world: World) -> None:
    first = ended(world)
    second = world.retry(first.id)
    world.workbench.become("FAILED", run=second.id)
    check(world, second)
    assert world.retry(second.id).retry_of == second.id


def test_a_realtime_run_is_retried_too(world: World) -> None:
    old = world.submit(mode=REALTIME)
    new = world.retry(old.id)
    assert (new.mode, new.status, new.retry_of) == (REALTIME, S.COMPLETED, old.id)
    assert new.output == {"objects": 1}


def test_a_run_that_was_never_submitted_is_retried_too(world: World) -> None:
    world.conductor.courses.append(BROKE)
    with pytest.raises(SubmissionFailed):
        world.submit()
    new = world.retry(1)
    assert (new.retry_of, new.status) == (1, S.SUBMITTED)


def test_a_pipeline_that_was_changed_meanwhile_is_used_as_it_is_now(world: World) -> None:
    old = ended(world)
    changes = {"workflow_name": "another_workflow", "workflow_version": 7}
    world.pipelines.change_pipeline(old.pipeline_id, changes, tenant_id=TENANT)

    new = world.retry(old.id)

    assert (new.workflow_name, new.workflow_version) == ("another_workflow", 7)
    started = world.conductor.started[-1]
    assert (started.workflow_name, started.workflow_version) == ("another_workflow", 7)
    assert (old.workflow_name, old.workflow_version) == ("batch_pipeline_workflow", 1)


# -- how it can go --------------------------------------------------------------------------------


def test_a_caller_who_does_not_wait_gets_a_run_that_is_submitted_by_its_check(
    world: World,
) -> None:
    old = ended(world)

    new = retry(world, old, key="again", respond_async=True).run

    assert (new.status, new.submit_attempts, new.retry_of) == (S.CREATED, 0, old.id)
    world.deliver()
    assert world.run(new.id).status is S.SUBMITTED


def test_p12_a_retry_whose_submission_fails_is_kept_failed(world: World) -> None:
    old = ended(world)
    world.conductor.courses.append(BROKE)
    with pytest.raises(SubmissionFailed) as failed:
        world.retry(old.id)
    new = world.run(failed.value.run_id)
    assert (new.id, new.retry_of, new.status) == (old.id + 1, old.id, S.FAILED)


def test_p9_p12_a_retry_whose_answer_is_lost_is_resolved(world: World) -> None:
    old = ended(world)
    world.conductor.courses.append(Course.answer_lost())
    new = world.retry(old.id)
    assert new.status is S.CREATED
    world.go_on(90)
    assert world.run(new.id).status is S.SUBMITTED
    assert len(world.workbench.jobs_for(new.id)) == 1


# -- refusals -------------------------------------------------------------------------------------


def created(world: World) -> PipelineRun:
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    return world.submit()


def submitted(world: World) -> PipelineRun:
    return world.submit()


def running(world: World) -> PipelineRun:
    run = world.submit()
    world.workbench.become("RUNNING", run=run.id)
    check(world, run)
    return run


def about_to_be_cancelled(world: World) -> PipelineRun:
    return world.cancel(world.submit().id)


@pytest.mark.parametrize("made", [created, submitted, running, about_to_be_cancelled])
def test_p13_a_run_that_may_still_end_well_is_not_retried(
    world: World, made: Callable[[World], PipelineRun]
) -> None:
    run = world.run(made(world).id)
    before = (len(world.database.runs), len(world.database.keys), len(world.conductor.started))

    with pytest.raises(RunNotTerminal, match=f"Run {run.id} has not ended: it is {run.status}"):
        world.retry(run.id)

    assert world.run(run.id) == run
    after = (len(world.database.runs), len(world.database.keys), len(world.conductor.started))
    assert after == before


def test_p13_p29_an_unknown_run_or_another_tenants_is_not_found(world: World) -> None:
    old = ended(world)
    with pytest.raises(RunNotFound):
        world.retry(4_711)
    with pytest.raises(RunNotFound):
        world.submission.retry(old.id, tenant_id="other", key="k", respond_async=False)
    assert len(world.database.runs) == 1


# -- keys -----------------------------------------------------------------------------------------


def test_p7_without_a_key_each_call_is_a_run_of_its_own(world: World) -> None:
    old = ended(world)
    assert [world.retry(old.id).id for _ in range(3)] == [2, 3, 4]


def test_p7_f13_the_same_key_again_is_the_same_run_as_it_is_now(world: World) -> None:
    old = ended(world)
    first = retry(world, old, key="again")
    assert not first.replayed
    world.workbench.become("RUNNING", run=first.run.id)
    check(world, first.run)

    second = retry(world, old, key="again")

    assert second.replayed
    assert (second.run.id, second.run.status) == (first.run.id, S.RUNNING)
    assert len(world.database.runs) == 2
    assert len(world.workbench.jobs) == 2


def test_p7_f14_the_key_of_one_runs_retry_is_refused_for_another(world: World) -> None:
    old, other = ended(world), ended(world)
    first = retry(world, old, key="again").run
    with pytest.raises(IdempotencyKeyReused, match=f"for run {first.id}"):
        retry(world, other, key="again")
    assert len(world.database.runs) == 3


def test_p7_a_key_that_made_a_run_may_retry_it_too(world: World) -> None:
    run = world.submit(key="monday")
    world.workbench.become("FAILED", run=run.id)
    check(world, run)

    new = retry(world, run, key="monday")

    assert (new.replayed, new.run.retry_of) == (False, run.id)
    assert world.submit(key="monday").id == run.id


def test_p7_a_replay_of_a_retry_that_failed_is_the_same_failure(world: World) -> None:
    old = ended(world)
    world.conductor.courses.append(BROKE)
    failures = []
    for _ in range(2):
        with pytest.raises(SubmissionFailed) as failed:
            retry(world, old, key="again")
        failures.append((failed.value.run_id, str(failed.value), failed.value.replayed))
    assert failures == [(2, BROKE.reason, False), (2, BROKE.reason, True)]
    assert len(world.database.runs) == 2


@pytest.mark.parametrize("step", ["before MemoryConductor.start", "before MemoryRuns.move"])
def test_p7_p11_f2_a_retry_cut_short_is_resolved_and_its_key_finds_it(
    world: World, step: str
) -> None:
    old = ended(world)
    world.steps.strike(step)
    with pytest.raises(Crash):
        retry(world, old, key="again")

    world.go_on(90)

    told = retry(world, old, key="again")
    assert (told.replayed, told.run.status, told.run.retry_of) == (True, S.SUBMITTED, old.id)
    assert len(world.workbench.jobs_for(told.run.id)) == 1


def test_f3_a_retry_whose_commit_was_not_confirmed_is_found_by_its_key(world: World) -> None:
    old = ended(world)
    world.steps.strike("after MemoryRuns.record", DatabaseUnavailable("connection lost"))
    with pytest.raises(DatabaseUnavailable):
        retry(world, old, key="again")

    told = retry(world, old, key="again")

    assert (told.replayed, told.run.status) == (True, S.CREATED)
    assert len(world.database.runs) == 2
