"""The hunt: jobs that no run wants are found where one may exist, cancelled and counted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from fakes import Course, Crash, StartFault, World
from runs.errors import (
    ConductorUnclear,
    DatabaseUnavailable,
    SubmissionFailed,
    WorkbenchUnavailable,
)
from runs.hunting import CHECKS, HuntReport
from runs.messages import CheckMessage
from runs.model import PipelineRun, Stray, transition
from runs.ports import CallEnd, JobStatus, NoAnswer
from runs.status import PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memory_database import NotedStray

S = PipelineRunStatus
MINUTE = timedelta(minutes=1)
DOWN = NoAnswer(reason="The Workbench answered 503")
BROKE = Course.failed(CallEnd.SERVER_ERROR, "The Workbench answered 500: oh no")


def check(world: World, run: PipelineRun) -> PipelineRun:
    """One look of the poller."""
    message = CheckMessage(run_ids=(run.id,), sent_at=world.database.now)
    world.checking.check([message], within=MINUTE)
    return world.run(run.id)


def failed_with_a_stray_check(world: World) -> PipelineRun:
    """A run that FAILED because the Workbench answered 5xx, so that a job may exist."""
    world.conductor.courses.append(BROKE)
    with pytest.raises(SubmissionFailed) as failed:
        world.submit()
    return world.run(failed.value.run_id)


def job_made_for(world: World, run: PipelineRun) -> str:
    """A job under the run's key that the run doesn't know."""
    honours, world.workbench.honours_keys = world.workbench.honours_keys, False
    job_id = world.workbench.submit(run.id, run.correlation_id)
    world.workbench.honours_keys = honours
    return job_id


def noted(world: World, run: PipelineRun) -> NotedStray:
    return world.database.strays[run.id]


def words(world: World, run: PipelineRun) -> dict[str, str]:
    """What the Workbench would say of each of the run's jobs."""
    return {
        job.id: job.answer.upstream_status
        for job in world.workbench.jobs_for(run.id)
        if isinstance(job.answer, JobStatus)
    }


def suspect(world: World, run: PipelineRun, to: PipelineRunStatus, *job_ids: str) -> PipelineRun:
    """Moves a run on, with a note that it doesn't want some jobs."""
    run = world.run(run.id)
    stray = Stray(reason="why not", job_ids=job_ids)
    change = transition(run, to, stray=stray)
    assert change
    assert world.runs.move([change])
    return world.run(run.id)


# -- when -----------------------------------------------------------------------------------------


def test_it_looks_after_1_and_after_15_minutes_and_never_again(world: World) -> None:
    failed_with_a_stray_check(world)
    looks = []
    for second in range(1, 3_600):
        world.pass_time(1)
        if world.hunt().checks:
            looks.append(second)
    assert looks == [60, 15 * 60]
    world.pass_time(100 * 3_600)
    assert world.hunt() == HuntReport()


def test_a_run_of_which_nothing_is_doubtful_is_never_looked_into(world: World) -> None:
    run = world.submit()
    world.workbench.become("FAILED", run=run.id)
    world.go_on(3_600)
    assert world.run(run.id).is_terminal
    assert "before MemoryWorkbench.jobs_of" not in world.steps.trail


def test_f43_when_is_told_by_the_databases_time(world: World) -> None:
    failed_with_a_stray_check(world)
    world.database.skew = MINUTE
    assert world.hunt().checks == 1


def test_what_one_hunt_looks_into_is_left_alone_by_another_for_a_minute(world: World) -> None:
    run = failed_with_a_stray_check(world)
    world.pass_time(60)
    world.steps.strike("before MemoryWorkbench.jobs_of")
    with pytest.raises(Crash):
        world.hunt()

    assert world.hunt() == HuntReport()
    world.pass_time(59)
    assert world.hunt() == HuntReport()
    world.pass_time(1)

    assert world.hunt() == HuntReport(checks=1)
    assert noted(world, run).looks == 1


def test_a_hunt_looks_into_so_many_and_the_next_into_the_rest(world: World) -> None:
    for _ in range(CHECKS + 3):
        job_made_for(world, failed_with_a_stray_check(world))
    world.pass_time(60)

    assert world.hunt() == HuntReport(checks=CHECKS, cancelled=CHECKS)
    assert world.hunt() == HuntReport(checks=3, cancelled=3)


def test_the_longest_waiting_comes_first(world: World) -> None:
    runs = []
    for _ in range(CHECKS + 1):
        runs.append(failed_with_a_stray_check(world))
        world.pass_time(1)
    world.pass_time(60)
    world.hunt()
    assert [noted(world, run).looks for run in runs] == [1] * CHECKS + [0]


def test_a_job_that_comes_between_the_looks_is_found_by_the_second(world: World) -> None:
    run = failed_with_a_stray_check(world)
    world.go_on(180)
    job_id = job_made_for(world, run)

    world.go_on(15 * 60)

    assert words(world, run) == {job_id: "CANCELLED"}
    assert noted(world, run).jobs_cancelled == 1


def test_a_new_doubt_begins_anew_and_forgets_no_job(world: World) -> None:
    run = world.submit()
    first, second = job_made_for(world, run), job_made_for(world, run)
    world.workbench.client_reference = False
    suspect(world, run, S.RUNNING, first)
    world.pass_time(90)
    suspect(world, run, S.COMPLETED, second)
    assert noted(world, run).job_ids == (first, second)
    world.pass_time(59)
    assert world.hunt() == HuntReport()
    world.pass_time(1)

    assert world.hunt() == HuntReport(checks=1, cancelled=2)


# -- which jobs -----------------------------------------------------------------------------------


def test_p8_p9_jobs_under_a_runs_key_that_are_not_its_own_are_cancelled_and_counted(
    world: World,
) -> None:
    run = world.submit()
    extra = [job_made_for(world, run) for _ in range(2)]
    suspect(world, run, S.RUNNING)
    world.pass_time(60)

    assert world.hunt() == HuntReport(checks=1, cancelled=2)

    assert words(world, run) == {"job-1": "QUEUED", **dict.fromkeys(extra, "CANCELLED")}
    assert noted(world, run).jobs_cancelled == 2
    assert world.run(run.id).status is S.RUNNING


@pytest.mark.parametrize("end", [S.SUBMITTED, S.RUNNING, S.COMPLETED])
@pytest.mark.parametrize("named", [True, False])
def test_p9_the_own_job_of_an_active_or_completed_run_is_never_cancelled(
    world: World, end: PipelineRunStatus, *, named: bool
) -> None:
    world.conductor.start_faults.append(StartFault.ANSWER_LOST)
    run = world.submit()
    job_ids = ("job-1",) if named else ()
    stray = Stray(reason="why not", job_ids=job_ids)
    change = transition(run, S.SUBMITTED, workbench_job_id="job-1", stray=stray)
    assert change
    world.runs.move([change])
    if end is not S.SUBMITTED:
        suspect(world, run, end, *job_ids)

    world.pass_time(60)
    assert world.hunt() == HuntReport(checks=1)
    world.pass_time(15 * 60)
    assert world.hunt() == HuntReport(checks=1)

    assert words(world, run) == {"job-1": "QUEUED"}
    assert not world.workbench.cancelled


def test_p9_the_own_job_of_a_cancelled_run_is_cancelled(world: World) -> None:
    run = world.submit()
    suspect(world, run, S.CANCELLED)
    world.pass_time(60)
    assert world.hunt() == HuntReport(checks=1, cancelled=1)
    assert words(world, run) == {"job-1": "CANCELLED"}


def test_p9_p23_the_own_job_of_a_run_that_failed_for_its_cancel_is_cancelled(world: World) -> None:
    run = world.submit()
    world.workbench.cancel_fault = "The Workbench answered 500"
    world.cancel(run.id)
    world.pass_time(15 * 60)
    assert check(world, run).status is S.FAILED
    world.workbench.cancel_fault = None
    world.pass_time(60)

    assert world.hunt() == HuntReport(checks=1, cancelled=1)

    assert words(world, run) == {"job-1": "CANCELLED"}


def test_p9_the_job_of_a_run_whose_submission_was_lost_is_cancelled(world: World) -> None:
    world.conductor.courses.append(Course.answer_lost())
    run = world.submit()
    world.conductor.down = True
    world.go_on(331)
    assert world.run(run.id).status is S.FAILED

    world.go_on(120)

    assert words(world, run) == {"job-1": "CANCELLED"}
    assert noted(world, run).jobs_cancelled == 1


def test_p9_a_job_behind_an_answer_of_5xx_is_cancelled(world: World) -> None:
    run = failed_with_a_stray_check(world)
    job_id = job_made_for(world, run)
    world.go_on(121)
    assert words(world, run) == {job_id: "CANCELLED"}


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED", "CANCELLED"])
def test_a_job_that_has_ended_is_not_counted(world: World, word: str) -> None:
    run = failed_with_a_stray_check(world)
    job_made_for(world, run)
    world.workbench.become(word, run=run.id)
    world.pass_time(60)

    assert world.hunt() == HuntReport(checks=1)

    assert list(words(world, run).values()) == [word]
    assert (noted(world, run).looks, noted(world, run).jobs_cancelled) == (1, 0)


def test_a_job_that_the_workbench_does_not_know_is_not_counted(world: World) -> None:
    run = world.submit()
    suspect(world, run, S.RUNNING, "job-99")
    world.pass_time(60)
    assert world.hunt() == HuntReport(checks=1)
    assert noted(world, run).looks == 1


def test_p18_other_runs_jobs_are_left_alone(world: World) -> None:
    run, other = failed_with_a_stray_check(world), world.submit()
    mine = job_made_for(world, run)
    world.pass_time(60)
    world.hunt()
    assert world.workbench.cancelled == [mine]
    assert set(words(world, other).values()) == {"QUEUED"}


def test_p9_without_the_client_reference_jobs_that_are_known_are_cancelled_all_the_same(
    world: World,
) -> None:
    world.workbench.client_reference = False
    run = world.submit()
    known, unknown = job_made_for(world, run), job_made_for(world, run)
    suspect(world, run, S.RUNNING, known)
    world.pass_time(60)

    assert world.hunt() == HuntReport(checks=1, cancelled=1)

    assert words(world, run) == {"job-1": "QUEUED", known: "CANCELLED", unknown: "QUEUED"}


# -- a Workbench in trouble -----------------------------------------------------------------------


def test_f27_while_the_workbench_is_unavailable_it_is_looked_at_again_each_minute(
    world: World,
) -> None:
    run = failed_with_a_stray_check(world)
    job_id = job_made_for(world, run)
    world.workbench.down = DOWN
    world.pass_time(60)
    for _ in range(10):
        assert world.hunt() == HuntReport(checks=1, postponed=1)
        assert world.hunt() == HuntReport()
        world.pass_time(60)
    assert noted(world, run).looks == 0
    world.workbench.down = None

    assert world.hunt() == HuntReport(checks=1, cancelled=1)

    assert words(world, run) == {job_id: "CANCELLED"}


@pytest.mark.parametrize("how", ["an unclear answer", "no time"])
def test_f27_a_cancel_that_is_unclear_is_told_again_a_minute_later(world: World, how: str) -> None:
    run = failed_with_a_stray_check(world)
    job_id = job_made_for(world, run)
    if how == "no time":
        world.workbench.silent = {job_id}
    else:
        world.workbench.cancel_fault = "The Workbench answered 500"
    world.pass_time(60)
    assert world.hunt() == HuntReport(checks=1, postponed=1)
    assert noted(world, run).looks == 0
    world.workbench.silent, world.workbench.cancel_fault = set(), None
    world.pass_time(59)
    assert world.hunt() == HuntReport()
    world.pass_time(2)

    assert world.hunt() == HuntReport(checks=1, cancelled=1)

    assert words(world, run) == {job_id: "CANCELLED"}
    assert noted(world, run).jobs_cancelled == 1


def test_p8_each_job_is_counted_though_the_cancel_of_another_was_unclear(world: World) -> None:
    run = failed_with_a_stray_check(world)
    first, second = job_made_for(world, run), job_made_for(world, run)
    world.workbench.silent = {second}
    world.pass_time(60)
    world.hunt()
    assert words(world, run) == {first: "CANCELLED", second: "QUEUED"}
    world.workbench.silent = set()
    world.pass_time(61)

    world.hunt()

    assert words(world, run) == {first: "CANCELLED", second: "CANCELLED"}
    assert noted(world, run).jobs_cancelled == 2


def test_p9_a_job_that_is_known_is_cancelled_though_the_others_cannot_be_asked_for(
    world: World,
) -> None:
    run = world.submit()
    world.workbench.cancel_fault = "The Workbench answered 500: out of order"
    world.cancel(run.id)
    world.go_on(16 * 60)
    assert noted(world, run).job_ids == ("job-1",)
    world.workbench.cancel_fault = None

    class Forgetful:
        """Its look-up is out of order; the rest is not."""

        def jobs_of(self, key: str, *, within: timedelta) -> Sequence[str] | None:
            del key, within
            raise WorkbenchUnavailable("The Workbench answered 500: no idea")

        def __getattr__(self, name: str) -> object:
            return getattr(world.workbench, name)

    hunting = replace(world.hunting, workbench=Forgetful())  # type: ignore[arg-type]  # it has all
    world.pass_time(60)
    report = hunting.hunt(within=timedelta(seconds=40))

    assert report == HuntReport(checks=1, cancelled=1, postponed=1)
    assert world.workbench.cancelled == ["job-1"]
    assert noted(world, run).looks == 0


def test_the_second_look_comes_15_minutes_after_the_note_though_the_first_came_late(
    world: World,
) -> None:
    failed_with_a_stray_check(world)
    world.workbench.down = DOWN
    world.go_on(5 * 60)
    world.workbench.down = None
    world.pass_time(60)
    assert world.hunt().checks == 1
    world.pass_time(8 * 60)
    assert world.hunt().checks == 0
    world.pass_time(2 * 60)
    assert world.hunt().checks == 1


@pytest.mark.parametrize("trouble", ["unavailable", "unclear"])
def test_after_24_hours_it_is_given_up(world: World, trouble: str) -> None:
    run = failed_with_a_stray_check(world)
    job_made_for(world, run)
    if trouble == "unavailable":
        world.workbench.down = DOWN
    else:
        world.workbench.cancel_fault = "The Workbench answered 500"
    world.pass_time(24 * 3_600 - 62)
    assert world.hunt().checks == 1
    world.pass_time(61)
    assert world.hunt().checks == 1
    assert noted(world, run).next_look_at
    world.pass_time(61)

    assert world.hunt().checks == 1

    assert noted(world, run).next_look_at is None
    world.pass_time(24 * 3_600)
    assert world.hunt() == HuntReport()


def test_p18_trouble_with_one_changes_nothing_for_the_others(world: World) -> None:
    runs = [failed_with_a_stray_check(world) for _ in range(3)]
    jobs = [job_made_for(world, run) for run in runs]
    world.workbench.silent = {jobs[1]}
    world.pass_time(60)
    assert world.hunt() == HuntReport(checks=3, cancelled=2, postponed=1)
    assert words(world, runs[0]) == {jobs[0]: "CANCELLED"}
    assert words(world, runs[2]) == {jobs[2]: "CANCELLED"}


def test_f33_without_the_database_the_hunt_says_so(world: World) -> None:
    failed_with_a_stray_check(world)
    world.pass_time(60)
    world.database.down = True
    with pytest.raises(DatabaseUnavailable):
        world.hunt()
    assert "before MemoryWorkbench.jobs_of" not in world.steps.trail


@pytest.mark.parametrize(
    "step",
    [
        "after MemoryStrays.due",
        "before MemoryWorkbench.jobs_of",
        "after MemoryWorkbench.jobs_of",
        "before MemoryWorkbench.cancel",
        "after MemoryWorkbench.cancel",
        "before MemoryStrays.looked",
        "after MemoryStrays.looked",
    ],
)
def test_p9_a_crash_at_any_step_of_the_hunt_leaves_no_job(world: World, step: str) -> None:
    run = failed_with_a_stray_check(world)
    job_id = job_made_for(world, run)
    world.pass_time(60)
    world.steps.strike(step)
    with pytest.raises(Crash):
        world.hunt()

    world.go_on(180)

    assert words(world, run) == {job_id: "CANCELLED"}
    assert noted(world, run).looks == 1


# -- a Workbench that ignores keys ----------------------------------------------------------------


@pytest.fixture
def heedless(world: World) -> World:
    """Its Workbench makes a job of every call."""
    world.workbench.honours_keys = False
    return world


def test_p8_p9_f11_a_call_repeated_since_the_reference_was_not_answered_leaves_one_job(
    heedless: World,
) -> None:
    world = heedless
    world.conductor.courses.append(Course.answer_lost())
    run = world.submit()
    world.pass_time(20)
    world.steps.strike(
        "before MemoryWorkbench.jobs_of", WorkbenchUnavailable("The Workbench answered 503")
    )
    run = check(world, run)
    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-2")
    assert noted(world, run).reason == "The Workbench's answer to an earlier call was lost"
    world.workbench.become("RUNNING", run=run.id)

    world.go_on(180)
    assert words(world, run) == {"job-1": "CANCELLED", "job-2": "RUNNING"}
    world.workbench.become("COMPLETED", run=run.id)
    world.go_on(900)

    assert world.run(run.id).status is S.COMPLETED
    assert noted(world, run).jobs_cancelled == 1


@pytest.mark.parametrize("cancelled", [True, False])
def test_p8_p9_f5_two_workflows_that_each_made_a_job_leave_one(
    heedless: World, *, cancelled: bool
) -> None:
    """Conductor showed the first only after the second had been started."""
    world = heedless
    world.conductor.start_faults.append(StartFault.ANSWER_LOST)
    run = world.submit()
    start_again(world, run)
    world.pass_time(20)
    if cancelled:
        world.cancel(run.id)
    run = check(world, run)
    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-2")
    assert noted(world, run).job_ids == ("job-1",)

    world.go_on(180)

    own = "CANCELLED" if cancelled else "QUEUED"
    assert words(world, run) == {"job-1": "CANCELLED", "job-2": own}
    assert noted(world, run).jobs_cancelled == 1


@pytest.mark.parametrize("client_reference", [True, False])
def test_p8_f7_two_workflows_with_different_jobs_keep_one_and_the_other_is_cancelled(
    heedless: World, *, client_reference: bool
) -> None:
    world = heedless
    world.workbench.client_reference = client_reference
    world.conductor.start_faults.append(StartFault.ANSWER_LOST)
    run = world.submit()
    start_again(world, run)
    world.pass_time(20)

    world.go_on(180)

    end = world.run(run.id)
    assert end.status is S.SUBMITTED
    [other] = {"job-1", "job-2"} - {str(end.workbench_job_id)}
    assert words(world, run) == {str(end.workbench_job_id): "QUEUED", other: "CANCELLED"}
    assert noted(world, run).reason == "Several workflows gave it different jobs"
    assert noted(world, run).jobs_cancelled == 1


def test_p8_f7_another_workflow_that_is_still_running_is_terminated_and_its_job_hunted(
    heedless: World,
) -> None:
    world = heedless
    world.conductor.timeouts_seconds = {}
    world.conductor.start_faults.append(StartFault.ANSWER_LOST)
    run = world.submit()
    world.conductor.courses.append(Course(seconds=1_000))
    start_again(world, run)
    world.pass_time(20)

    run = check(world, run)

    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-1")
    assert [workflow.terminated for workflow in world.conductor.started] == [False, True]
    assert noted(world, run).reason == "Another of its workflows was still under way"
    world.go_on(120)
    assert words(world, run) == {"job-1": "QUEUED", "job-2": "CANCELLED"}


def test_f7_a_workflow_that_cannot_be_terminated_holds_nobody_up(heedless: World) -> None:
    world = heedless
    world.conductor.timeouts_seconds = {}
    world.conductor.start_faults.append(StartFault.ANSWER_LOST)
    run = world.submit()
    world.conductor.courses.append(Course(seconds=1_000))
    start_again(world, run)
    world.pass_time(20)
    world.steps.strike("before MemoryConductor.terminate", ConductorUnclear("reset"))

    run = check(world, run)

    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-1")


def test_p8_the_client_reference_with_several_jobs_keeps_one_and_the_rest_is_cancelled(
    heedless: World,
) -> None:
    world = heedless
    world.conductor.courses.append(Course.answer_lost())
    run = world.submit()
    job_made_for(world, run)  # Conductor sent its call twice.
    world.pass_time(20)
    run = check(world, run)
    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-1")

    world.go_on(120)

    assert words(world, run) == {"job-1": "QUEUED", "job-2": "CANCELLED"}
    assert noted(world, run).jobs_cancelled == 1


def test_p8_f8_a_run_submitted_again_without_any_workflow_is_looked_into(heedless: World) -> None:
    world = heedless
    world.workbench.client_reference = False
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    run = world.submit()
    job_made_for(world, run)  # Conductor made the call and died before it wrote of it.
    world.pass_time(20)
    run = check(world, run)
    assert run.workbench_job_id == "job-2"
    assert noted(world, run).reason == "It was submitted more than once"
    world.workbench.client_reference = True

    world.go_on(120)

    assert words(world, run) == {"job-1": "CANCELLED", "job-2": "QUEUED"}


def test_p31_a_realtime_run_is_never_noted_for_it_has_no_jobs(world: World) -> None:
    world.conductor.courses.append(BROKE)
    with pytest.raises(SubmissionFailed):
        world.submit(mode=PipelineMode.REALTIME)
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    world.submit(mode=PipelineMode.REALTIME)
    world.conductor.down = True
    world.go_on(600)
    assert all(run.is_terminal for run in world.database.runs.values())
    assert not world.database.strays


def start_again(world: World, run: PipelineRun) -> None:
    """Another workflow for the run, as by Conductor itself."""
    world.conductor.start(
        workflow_name=run.workflow_name,
        workflow_version=run.workflow_version,
        correlation_id=run.correlation_id,
        workflow_input=world.conductor.started[0].workflow_input,
        timeout=timedelta(seconds=5),
    )
