"""Cancelling: a wish that is stored, carried to the Workbench and Conductor, and ends the run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from fakes import TENANT, Course, Crash, StartFault, World
from runs import outcomes
from runs.checking import CheckReport
from runs.errors import (
    ConductorUnclear,
    DatabaseUnavailable,
    RunAlreadyTerminal,
    RunNotFound,
    SubmissionFailed,
)
from runs.messages import CheckMessage
from runs.model import CancelCause, ErrorCategory, PipelineRun
from runs.outcomes import OUTCOMES, Seen, Sight, Verdict, doubt, verdict_on
from runs.ports import ANSWER_TIME, CallEnd, JobStatus, NoAnswer, WorkflowStatus
from runs.status import PipelineMode, PipelineRunStatus
from runs.submission import ROUTE, SUBMIT_LEASE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runs.events import RunEvent
    from runs.ports import JobAnswer

S = PipelineRunStatus
BATCH, REALTIME = PipelineMode.BATCH, PipelineMode.REALTIME
OUT_OF_ORDER = "The Workbench answered 500: oops"


@pytest.fixture
def run(world: World) -> PipelineRun:
    """A run that is SUBMITTED and was never checked."""
    return world.submit()


def check(world: World, *run_ids: int) -> CheckReport:
    """One message, just sent."""
    message = CheckMessage(run_ids=run_ids, sent_at=world.database.now)
    return world.checking.check([message], within=timedelta(minutes=1))


def statuses(world: World, run: PipelineRun) -> list[PipelineRunStatus]:
    return [event.status for event in world.history(run.id)]


def job_words(world: World, run: PipelineRun) -> list[str]:
    """What the Workbench would say of each of the run's jobs."""
    answers = [job.answer for job in world.workbench.jobs_for(run.id)]
    return [answer.upstream_status for answer in answers if isinstance(answer, JobStatus)]


def cancel_calls(world: World) -> int:
    """How often the Workbench was told to cancel something, with or without effect."""
    return world.steps.trail.count("before MemoryWorkbench.cancel")


# -- before any submission ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [BATCH, REALTIME])
def test_p23_p25_f45_a_run_that_nobody_tried_to_submit_is_cancelled_at_once(
    world: World, mode: PipelineMode
) -> None:
    run = world.submit(mode=mode, respond_async=True)

    cancelled = world.cancel(run.id, reason="changed my mind")

    assert (cancelled.status, cancelled.version) == (S.CANCELLED, 2)
    assert cancelled.cancel_requested_at == cancelled.completed_at == world.time.now
    assert (cancelled.cancel_cause, cancelled.cancel_reason) == (
        CancelCause.USER,
        "changed my mind",
    )
    assert (cancelled.started_at, cancelled.error) == (None, None)
    assert [event.status for event in world.bus.published] == [S.CREATED, S.CANCELLED]


def test_p25_f45_it_never_gets_a_job_though_its_check_is_delivered_afterwards(
    world: World,
) -> None:
    run = world.submit(respond_async=True)
    world.cancel(run.id)

    assert world.deliver() == [CheckReport(gone=1)]
    world.go_on(600)

    assert statuses(world, run) == [S.CREATED, S.CANCELLED]
    assert not world.conductor.started
    assert not world.workbench.jobs
    assert not world.database.strays


def test_p23_f2_a_cancel_cut_short_before_the_run_moved_is_carried_by_the_next_check(
    world: World,
) -> None:
    run = world.submit(respond_async=True)
    world.steps.strike("before MemoryRuns.move")
    with pytest.raises(Crash):
        world.cancel(run.id)
    assert world.run(run.id).status is S.CREATED
    world.conductor.down = True  # It has nothing to tell of this run.

    check(world, run.id)

    assert statuses(world, run) == [S.CREATED, S.CANCELLED]
    assert not world.conductor.started


def test_p25_after_the_cancel_nobody_is_given_the_submit_lease(world: World) -> None:
    run = world.submit(respond_async=True)
    world.runs.request_cancel(run.id, tenant_id=TENANT, reason=None)

    assert not world.runs.take_submit_lease(run, SUBMIT_LEASE)

    assert world.run(run.id).submit_attempts == 0


def test_p25_a_check_that_read_the_run_before_the_cancel_starts_nothing(world: World) -> None:
    run = world.submit(respond_async=True)
    world.cancel(run.id)

    resolution = world.submission.resolve(run, now=world.database.now)

    assert resolution.transition is None
    assert not world.conductor.started


def test_p25_f45_a_lease_taken_before_the_cancel_stands_and_whoever_adopts_the_job_cancels_it(
    world: World,
) -> None:
    run = world.submit(respond_async=True)
    assert world.runs.take_submit_lease(run, SUBMIT_LEASE)

    told = world.cancel(run.id)

    assert (told.status, told.submit_attempts) == (S.CREATED, 1)
    world.workbench.submit(run.id, run.correlation_id)  # What the lease's holder did, and died.
    world.go_on(240)
    assert world.run(run.id).status is S.CANCELLED
    assert job_words(world, run) == ["CANCELLED"]


def test_p25_f45_a_check_that_holds_the_lease_submits_and_the_cancels_own_check_follows_it(
    world: World,
) -> None:
    run = world.submit(respond_async=True)
    world.conductor.courses.append(Course(seconds=2))
    told: list[PipelineRun] = []

    def pause(seconds: float) -> None:
        if not told:
            told.append(world.cancel(run.id))
        world.time.pause(seconds)

    submission = replace(world.submission, pause=pause)
    checking = replace(world.checking, resolve=submission.resolve)
    message = CheckMessage(run_ids=(run.id,), sent_at=world.database.now)
    checking.check([message], within=timedelta(minutes=1))
    assert (told[0].status, world.run(run.id).status) == (S.CREATED, S.SUBMITTED)

    world.deliver()

    assert world.workbench.cancelled == ["job-1"]
    check(world, run.id)
    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.CANCELLED]


# -- while the API submits ------------------------------------------------------------------------


def cancelled_meanwhile(
    world: World, mode: PipelineMode = BATCH, *, dies: bool = False
) -> PipelineRun:
    """A run that is cancelled while the API waits for its workflow."""

    def pause(seconds: float) -> None:
        if not world.run(1).cancel_requested_at:
            world.cancel(1)
            if dies:
                raise Crash("while waiting")
        world.time.pause(seconds)

    submission = replace(world.submission, pause=pause)
    return submission.submit(
        world.new_run(mode), key="k", fingerprint="f", respond_async=False, route=ROUTE
    ).run


def test_p23_f45_a_run_under_submission_is_adopted_and_its_job_cancelled_by_the_next_check(
    world: World,
) -> None:
    world.conductor.courses.append(Course(seconds=2))
    run = cancelled_meanwhile(world)
    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-1")
    assert run.cancel_cause is CancelCause.USER

    world.deliver()

    assert world.workbench.cancelled == ["job-1"]
    check(world, run.id)
    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.CANCELLED]


def test_p23_f45_a_check_under_the_live_lease_leaves_it_to_its_holder(world: World) -> None:
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    run = world.submit()
    world.cancel(run.id)

    world.deliver()

    assert world.run(run.id).status is S.CREATED
    assert world.run(run.id).observation.last_error == "Its submission is under way"


@pytest.mark.parametrize("client_reference", [True, False])
def test_p9_p23_f1_a_run_whose_api_died_after_the_cancel_is_adopted_and_its_job_cancelled(
    world: World, *, client_reference: bool
) -> None:
    world.workbench.client_reference = client_reference
    world.conductor.courses.append(Course(seconds=2))
    with pytest.raises(Crash):
        cancelled_meanwhile(world, dies=True)

    world.go_on(150)

    assert statuses(world, world.run(1)) == [S.CREATED, S.SUBMITTED, S.CANCELLED]
    assert job_words(world, world.run(1)) == ["CANCELLED"]
    assert len(world.conductor.started) == 1


@pytest.mark.parametrize("dies", [True, False])
def test_p23_p31_a_realtime_run_under_submission_is_terminated_when_its_lease_is_over(
    world: World, *, dies: bool
) -> None:
    world.conductor.courses.append(Course(seconds=1_000))
    with suppress(Crash):
        cancelled_meanwhile(world, REALTIME, dies=dies)
    world.restart()

    world.go_on(90)

    assert world.conductor.started[0].terminated
    assert world.run(1).status is S.CANCELLED
    assert not world.database.strays


def test_p12_p24_a_submission_that_definitely_failed_meanwhile_is_failed(world: World) -> None:
    refused = Course.failed(CallEnd.CLIENT_ERROR, "The Workbench answered 422: no such bucket")
    world.conductor.courses.append(replace(refused, seconds=2))
    with pytest.raises(SubmissionFailed):
        cancelled_meanwhile(world)
    world.go_on(120)
    assert statuses(world, world.run(1)) == [S.CREATED, S.FAILED]


# -- a job is cancelled ---------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["QUEUED", "RUNNING"])
def test_p23_f45_the_job_of_an_active_run_is_cancelled_at_once_and_then_the_run(
    world: World, run: PipelineRun, word: str
) -> None:
    world.workbench.become(word, run=run.id)
    check(world, run.id)
    before = world.run(run.id)

    told = world.cancel(run.id, reason="too dear")

    assert (told.status, told.version) == (before.status, before.version)
    assert (told.cancel_requested_at, told.cancel_reason) == (world.time.now, "too dear")
    world.deliver()
    assert world.workbench.cancelled == ["job-1"]
    world.go_on(60)
    end = world.run(run.id)
    assert (end.status, end.error) == (S.CANCELLED, None)
    assert statuses(world, run)[:-1] == [S.CREATED, S.SUBMITTED, S.RUNNING][: before.version]
    assert not world.database.strays


def test_p23_a_job_that_takes_its_time_to_end_is_waited_for(world: World, run: PipelineRun) -> None:
    world.workbench.cancel_makes = None
    world.cancel(run.id)
    world.go_on(300)
    assert world.run(run.id).status is S.SUBMITTED

    world.workbench.become("CANCELLED", run=run.id)
    world.go_on(31)

    assert world.run(run.id).status is S.CANCELLED


def test_p23_f45_the_cancel_is_told_again_until_the_workbench_takes_it(
    world: World, run: PipelineRun
) -> None:
    world.workbench.cancel_fault = OUT_OF_ORDER
    world.cancel(run.id)
    for tries in range(1, 6):
        check(world, run.id)
        world.pass_time(30)
        assert cancel_calls(world) == tries
    assert world.run(run.id).status is S.SUBMITTED
    assert not world.workbench.cancelled
    world.workbench.cancel_fault = None

    check(world, run.id)

    assert world.workbench.cancelled == ["job-1"]
    check(world, run.id)
    assert world.run(run.id).status is S.CANCELLED


def test_p23_f45_the_cancel_is_told_also_when_the_job_cannot_be_asked_about(
    world: World, run: PipelineRun
) -> None:
    world.workbench.answer_with(NoAnswer(reason="The Workbench answered 503"), run=run.id)
    world.cancel(run.id)

    check(world, run.id)

    assert world.workbench.cancelled == ["job-1"]


@pytest.mark.parametrize("word", ["STOPPING", None])
def test_p23_p32_a_job_that_accepts_cancels_and_never_tells_of_itself_ends_its_run_all_the_same(
    world: World, run: PipelineRun, word: str | None
) -> None:
    told = JobStatus(upstream_status=word) if word else NoAnswer(reason=OUT_OF_ORDER)
    world.workbench.answer_with(told, run=run.id)
    world.workbench.cancel_makes = word
    world.cancel(run.id)

    world.go_on(17 * 60)

    end = world.run(run.id)
    assert end.error
    assert (end.status, end.error.code) == (S.FAILED, "cancel_unconfirmed")


def test_p23_slow_answers_leave_time_to_cancel(world: World, run: PipelineRun) -> None:
    other = world.submit()
    world.cancel(run.id)
    asked: list[timedelta] = []

    class Slow:
        """Takes all the time that it is given."""

        def ask(self, job_ids: Sequence[str], *, within: timedelta) -> Mapping[str, JobAnswer]:
            asked.append(within)
            world.pass_time(within.total_seconds())
            return world.workbench.ask(job_ids, within=within)

        def __getattr__(self, name: str) -> object:
            return getattr(world.workbench, name)

    checking = replace(world.checking, workbench=Slow())  # type: ignore[arg-type]  # it has all
    message = CheckMessage(run_ids=(run.id, other.id), sent_at=world.time.now)
    checking.check([message], within=timedelta(seconds=20))

    assert asked == [timedelta(seconds=20) - ANSWER_TIME]
    assert world.workbench.cancelled == ["job-1"]


def test_p23_a_run_that_failed_while_its_cancel_was_stored_is_a_conflict(world: World) -> None:
    run = world.submit(respond_async=True)
    world.pass_time(400)
    change = outcomes.lost(world.run(run.id))
    assert change

    class Overtaken:
        """Another gives the run up just before."""

        def move(self, *changes: object, **how: object) -> Sequence[RunEvent]:
            world.runs.move([change] if change else [])
            return world.runs.move(*changes, **how)  # type: ignore[arg-type]  # as they came

        def __getattr__(self, name: str) -> object:
            return getattr(world.runs, name)

    cancelling = replace(world.cancelling, runs=Overtaken())  # type: ignore[arg-type]  # it has all
    with pytest.raises(RunAlreadyTerminal):
        cancelling.cancel(run.id, tenant_id=TENANT, reason=None)
    assert world.run(run.id).status is S.FAILED


def test_p24_a_cancel_that_nobody_could_carry_for_long_is_told_truly(
    world: World, run: PipelineRun
) -> None:
    """The poller was down, not the Workbench: the first check after its deadline is in time."""
    world.cancel(run.id)
    world.pass_time(20 * 60)

    check(world, run.id)
    assert world.run(run.id).status is S.SUBMITTED
    check(world, run.id)

    assert world.run(run.id).status is S.CANCELLED


@pytest.mark.parametrize(
    ("trouble", "checks_more"),
    [("the cancel answers 500", 0), ("nothing answers", 0), ("nothing ends", 1)],
)
def test_p23_p32_f45_a_cancel_that_is_never_confirmed_ends_after_15_minutes_and_is_hunted(
    world: World, run: PipelineRun, trouble: str, checks_more: int
) -> None:
    """One that is accepted by the first check after that has one check more."""
    match trouble:
        case "the cancel answers 500":
            world.workbench.cancel_fault = OUT_OF_ORDER
        case "nothing answers":
            world.workbench.down = NoAnswer(reason=OUT_OF_ORDER)
        case _:
            world.workbench.cancel_makes = None
    asked_at = world.cancel(run.id).cancel_requested_at
    assert asked_at

    deadline = timedelta(minutes=15) + checks_more * timedelta(seconds=30)
    world.go_on(deadline.total_seconds() - 1)
    assert world.run(run.id).status is S.SUBMITTED
    world.go_on(31)

    end = world.run(run.id)
    assert end.status is S.FAILED
    assert end.completed_at
    late = end.completed_at - asked_at - deadline
    assert timedelta(0) <= late <= timedelta(seconds=30)
    assert end.error
    assert (end.error.code, end.error.category) == ("cancel_unconfirmed", ErrorCategory.LOST)
    assert end.error.message == (
        "The cancel was not confirmed within 15 minutes; job job-1 may still run"
    )
    noted = world.database.strays[run.id]
    assert (noted.reason, noted.job_ids) == (end.error.message, ("job-1",))

    world.go_on(300)
    world.workbench.down = world.workbench.cancel_fault = None
    world.workbench.cancel_makes = "CANCELLED"
    world.go_on(15 * 60)

    assert job_words(world, run) == ["CANCELLED"]
    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.FAILED]


@pytest.mark.parametrize("word", ["CANCELLED", "COMPLETED"])
def test_p24_a_cancel_accepted_at_the_last_moment_is_confirmed_all_the_same(
    world: World, run: PipelineRun, word: str
) -> None:
    world.workbench.cancel_fault = OUT_OF_ORDER
    world.cancel(run.id)
    world.go_on(15 * 60 - 1)
    world.workbench.cancel_fault = None
    world.workbench.cancel_makes = word

    world.go_on(61)

    assert world.run(run.id).status is S(word)
    assert not world.database.strays


def test_p23_f27_a_job_that_is_cancelled_during_an_outage_of_the_answers_is_told_afterwards(
    world: World, run: PipelineRun
) -> None:
    world.workbench.down = NoAnswer(reason=OUT_OF_ORDER)
    world.cancel(run.id)
    world.go_on(600)
    assert not world.workbench.cancelled
    world.workbench.down = None

    world.go_on(61)

    assert world.run(run.id).status is S.CANCELLED


@pytest.mark.parametrize("start", [S.SUBMITTED, S.RUNNING])
def test_f18_a_cancel_whose_message_was_lost_is_carried_by_the_sweep(
    world: World, run: PipelineRun, start: PipelineRunStatus
) -> None:
    world.workbench.become(start, run=run.id)
    check(world, run.id)
    world.check_queue.refuses = 1

    world.cancel(run.id)

    assert not world.check_queue.waiting
    world.go_on(91)
    assert world.run(run.id).status is S.CANCELLED


def test_p18_the_cancel_of_one_run_leaves_its_neighbours_alone(
    world: World, run: PipelineRun
) -> None:
    other = world.submit()
    world.cancel(run.id)

    check(world, run.id, other.id)
    check(world, run.id, other.id)

    assert world.workbench.cancelled == ["job-1"]
    assert (world.run(run.id).status, world.run(other.id).status) == (S.CANCELLED, S.SUBMITTED)
    assert world.run(other.id).cancel_requested_at is None


# -- in a race with the job's own end -------------------------------------------------------------


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED"])
@pytest.mark.parametrize("when", ["before the cancel", "before the check", "before the call"])
def test_p24_f45_in_a_race_the_final_status_is_what_the_workbench_says(
    world: World, run: PipelineRun, word: str, when: str
) -> None:
    if when == "before the cancel":
        world.workbench.become(word, run=run.id)
    world.cancel(run.id)
    if when == "before the check":
        world.workbench.become(word, run=run.id)
    world.workbench.cancel_makes = word
    world.deliver()

    world.go_on(90)

    end = world.run(run.id)
    assert end.status is S(word)
    assert (end.error.code if end.error else None) == (
        None if word == "COMPLETED" else "job_failed"
    )
    assert not world.database.strays


def test_p24_a_job_that_had_ended_is_not_told_to_cancel(world: World, run: PipelineRun) -> None:
    world.workbench.become("COMPLETED", run=run.id)
    world.cancel(run.id)

    world.deliver()

    assert world.run(run.id).status is S.COMPLETED
    assert not cancel_calls(world)


# -- again, and too late --------------------------------------------------------------------------


def test_p19_p23_cancelled_twice_is_the_same_as_once(world: World, run: PipelineRun) -> None:
    first = world.cancel(run.id, reason="the first")
    world.pass_time(10)

    second = world.cancel(run.id, reason="the second")

    assert second == first
    world.deliver()
    world.go_on(90)
    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.CANCELLED]
    assert world.run(run.id).cancel_reason == "the first"


def test_p23_a_cancel_that_comes_again_later_has_the_run_checked_at_once_too(
    world: World, run: PipelineRun
) -> None:
    world.workbench.cancel_fault = OUT_OF_ORDER
    world.cancel(run.id)
    world.deliver()
    world.pass_time(60)
    world.workbench.cancel_fault = None

    world.cancel(run.id)

    assert world.deliver() == [CheckReport(asked=1)]
    assert world.workbench.cancelled == ["job-1"]


@pytest.mark.parametrize("respond_async", [True, False])
def test_p23_a_run_that_is_cancelled_already_is_answered_as_it_is(
    world: World, *, respond_async: bool
) -> None:
    run = world.submit(respond_async=respond_async)
    world.cancel(run.id)
    world.go_on(90)
    before = world.run(run.id)
    assert before.status is S.CANCELLED
    world.check_queue.sent.clear()

    told = world.cancel(run.id, reason="again")

    assert told == world.run(run.id) == before
    assert not world.check_queue.sent


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED"])
def test_p3_p23_a_run_that_has_ended_otherwise_is_not_cancelled(
    world: World, run: PipelineRun, word: str
) -> None:
    world.workbench.become(word, run=run.id)
    check(world, run.id)
    ended = world.run(run.id)
    world.check_queue.sent.clear()

    with pytest.raises(RunAlreadyTerminal, match=f"Run {run.id} has ended: it is {word}"):
        world.cancel(run.id)

    assert world.run(run.id) == ended
    assert not world.check_queue.sent


def test_p13_p29_an_unknown_run_or_another_tenants_is_not_found(
    world: World, run: PipelineRun
) -> None:
    with pytest.raises(RunNotFound):
        world.cancel(4_711)
    with pytest.raises(RunNotFound):
        world.cancelling.cancel(run.id, tenant_id="other", reason=None)
    assert world.run(run.id) == run


def test_f33_without_the_database_a_cancel_is_not_accepted(world: World, run: PipelineRun) -> None:
    world.database.down = True
    with pytest.raises(DatabaseUnavailable):
        world.cancel(run.id)
    world.database.down = False
    assert world.run(run.id).cancel_requested_at is None


# -- after the answer of a start was lost ---------------------------------------------------------

LOST_ANSWERS = {
    "Conductor's, and the workflow gives a job": (StartFault.ANSWER_LOST, Course()),
    "Conductor's, and the job comes late": (StartFault.ANSWER_LOST, Course(seconds=15)),
    "Conductor's and the Workbench's": (StartFault.ANSWER_LOST, Course.answer_lost()),
    "the Workbench's": (None, Course.answer_lost()),
    "the Workbench's, of a workflow that hangs": (None, Course.hanging()),
    "Conductor's, and the workflow timed out": (
        StartFault.ANSWER_LOST,
        Course.ended(WorkflowStatus.TIMED_OUT, reaches=True),
    ),
    "Conductor's, and somebody ended the workflow": (
        StartFault.ANSWER_LOST,
        Course.ended(WorkflowStatus.TERMINATED, reaches=True),
    ),
}
NOTHING_DONE = {
    "Conductor's, and it started nothing": (StartFault.UNCLEAR, None),
    "the Workbench's, and it made no job": (None, Course.answer_lost(reaches=False)),
    "of a workflow that hangs": (None, Course.hanging(reaches=False)),
}


def lost(world: World, fault: StartFault | None, course: Course | None) -> PipelineRun:
    """A run that is CREATED since an answer was lost."""
    world.conductor.start_faults.append(fault)
    world.conductor.courses.extend([course] if course else [])
    run = world.submit()
    assert run.status is S.CREATED
    return run


@pytest.mark.parametrize("client_reference", [True, False])
@pytest.mark.parametrize("waited", [0, 20, 60])
@pytest.mark.parametrize(("fault", "course"), LOST_ANSWERS.values(), ids=LOST_ANSWERS.keys())
def test_p9_p23_p25_f5_f11_the_job_behind_a_lost_answer_is_found_and_cancelled(
    world: World, fault: StartFault, course: Course, waited: float, *, client_reference: bool
) -> None:
    world.workbench.client_reference = client_reference
    run = lost(world, fault, course)
    assert len(world.workbench.jobs) == 1
    world.pass_time(waited)
    world.cancel(run.id)

    world.go_on(240)

    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.CANCELLED]
    assert world.run(run.id).workbench_job_id == "job-1"
    assert job_words(world, run) == ["CANCELLED"]


@pytest.mark.parametrize(("fault", "course"), LOST_ANSWERS.values(), ids=LOST_ANSWERS.keys())
def test_p8_p9_with_a_workbench_that_ignores_keys_no_job_is_left_either(
    world: World, fault: StartFault, course: Course
) -> None:
    world.workbench.honours_keys = False
    run = lost(world, fault, course)
    world.cancel(run.id)

    world.go_on(240)

    assert world.run(run.id).status is S.CANCELLED
    assert set(job_words(world, run)) == {"CANCELLED"}


@pytest.mark.parametrize("client_reference", [True, False])
@pytest.mark.parametrize(("fault", "course"), NOTHING_DONE.values(), ids=NOTHING_DONE.keys())
def test_p9_p23_without_a_job_behind_the_lost_answer_none_is_left_either(
    world: World, fault: StartFault, course: Course, *, client_reference: bool
) -> None:
    world.workbench.client_reference = client_reference
    run = lost(world, fault, course)
    started = len(world.conductor.started)
    world.cancel(run.id)

    world.go_on(240)

    assert world.run(run.id).status is S.CANCELLED
    assert set(job_words(world, run)) <= {"CANCELLED"}
    if client_reference:  # The Workbench told that there is none, so it isn't asked for one.
        assert len(world.conductor.started) == started
        assert not world.workbench.jobs


def test_p9_f5_a_job_that_comes_after_the_run_was_cancelled_is_hunted(world: World) -> None:
    run = lost(world, StartFault.UNCLEAR, None)
    world.cancel(run.id)
    world.go_on(90)
    assert statuses(world, run) == [S.CREATED, S.CANCELLED]
    assert world.database.strays[run.id].reason == (
        "It was cancelled while its submission was not clear"
    )

    world.workbench.submit(run.id, run.correlation_id)  # Conductor sent it late, after all.
    world.go_on(150)

    assert job_words(world, run) == ["CANCELLED"]
    assert world.database.strays[run.id].jobs_cancelled == 1


def test_p23_the_check_that_adopts_the_job_has_it_cancelled_by_another_at_once(
    world: World,
) -> None:
    run = lost(world, None, Course.answer_lost())
    world.pass_time(20)
    world.cancel(run.id)
    world.deliver()
    assert world.run(run.id).status is S.SUBMITTED
    assert not cancel_calls(world)

    world.deliver()

    assert world.workbench.cancelled == ["job-1"]


def test_p8_f8_a_running_workflow_of_a_cancelled_run_is_waited_for_not_started_again(
    world: World,
) -> None:
    run = lost(world, None, Course(seconds=100))
    world.conductor.timeouts_seconds = {}
    world.cancel(run.id)

    world.go_on(240)

    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.CANCELLED]
    assert len(world.conductor.started) == 1


def test_p23_f4_while_conductor_is_unreachable_the_cancel_waits(world: World) -> None:
    run = lost(world, None, Course.answer_lost())
    world.conductor.down = True
    world.cancel(run.id)
    world.go_on(240)
    assert world.run(run.id).status is S.CREATED
    world.conductor.down = False

    world.go_on(50)

    assert world.run(run.id).status is S.CANCELLED
    assert job_words(world, run) == ["CANCELLED"]


def test_p9_p23_p32_f4_without_conductor_the_run_ends_by_its_submit_deadline_and_is_hunted(
    world: World,
) -> None:
    run = lost(world, None, Course.answer_lost())
    world.conductor.down = True
    world.cancel(run.id)

    world.go_on(345)

    end = world.run(run.id)
    assert end.status is S.FAILED
    assert end.error
    assert (end.error.code, end.error.category) == ("submission_lost", ErrorCategory.LOST)
    world.go_on(120)
    assert job_words(world, run) == ["CANCELLED"]
    assert world.database.strays[run.id].jobs_cancelled == 1


# -- REALTIME -------------------------------------------------------------------------------------


def test_p23_p31_the_workflow_of_a_realtime_run_is_terminated(world: World) -> None:
    world.conductor.courses.append(Course(seconds=1_000))
    run = world.submit(mode=REALTIME)
    assert world.cancel(run.id).status is S.RUNNING

    world.deliver()
    assert world.conductor.started[0].terminated
    world.go_on(60)

    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.RUNNING, S.CANCELLED]
    assert world.run(run.id).error is None
    assert not world.workbench.asked
    assert not cancel_calls(world)


def test_p23_p31_a_realtime_run_that_is_cancelled_late_is_terminated_all_the_same(
    world: World,
) -> None:
    """Its submit deadline was for what was unknown then."""
    world.conductor.timeouts_seconds = {}
    world.conductor.courses.append(Course(seconds=1_000))
    run = world.submit(mode=REALTIME)
    world.go_on(400)
    world.cancel(run.id)

    world.go_on(60)

    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.RUNNING, S.CANCELLED]


@pytest.mark.parametrize("lost_first", [False, True])
def test_p23_f5_a_realtime_run_of_which_nothing_is_known_is_found_and_terminated(
    world: World, *, lost_first: bool
) -> None:
    world.conductor.timeouts_seconds = {}
    world.conductor.courses.append(Course(seconds=1_000))
    if lost_first:
        world.conductor.start_faults.append(StartFault.ANSWER_LOST)
    run = world.submit(mode=REALTIME)
    world.cancel(run.id)

    world.go_on(120)

    assert world.run(run.id).status is S.CANCELLED
    assert world.conductor.started[0].terminated
    assert not world.database.strays


def test_p23_f5_a_realtime_run_that_was_never_started_is_cancelled(world: World) -> None:
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    run = world.submit(mode=REALTIME)
    world.cancel(run.id)

    world.go_on(90)

    assert statuses(world, run) == [S.CREATED, S.CANCELLED]
    assert not world.conductor.started


def test_p23_a_workflow_that_could_not_be_terminated_is_terminated_by_the_next_check(
    world: World,
) -> None:
    world.conductor.timeouts_seconds = {}
    world.conductor.courses.append(Course(seconds=1_000))
    run = world.submit(mode=REALTIME)
    world.cancel(run.id)
    world.steps.strike("before MemoryConductor.terminate", ConductorUnclear("reset"))
    world.deliver()
    assert world.run(run.id).status is S.RUNNING

    world.go_on(60)

    assert world.conductor.started[0].terminated
    assert world.run(run.id).status is S.CANCELLED


@pytest.mark.parametrize(
    ("course", "end"),
    [
        (Course(seconds=12), S.COMPLETED),
        (replace(Course.failed(CallEnd.SERVER_ERROR, "500"), seconds=12), S.FAILED),
    ],
)
def test_p24_a_realtime_run_that_ends_before_it_can_be_terminated_says_how(
    world: World, course: Course, end: PipelineRunStatus
) -> None:
    world.conductor.courses.append(course)
    run = world.submit(mode=REALTIME)
    world.cancel(run.id)
    world.pass_time(5)

    world.deliver()

    assert world.run(run.id).status is end


# -- a crash at every step ------------------------------------------------------------------------


def not_submitted(world: World) -> PipelineRun:
    return world.submit(respond_async=True)


def submitted(world: World) -> PipelineRun:
    return world.submit()


def running(world: World) -> PipelineRun:
    run = world.submit()
    world.workbench.become("RUNNING", run=run.id)
    check(world, run.id)
    return run


def with_a_lost_answer(world: World) -> PipelineRun:
    run = lost(world, None, Course.answer_lost())
    world.pass_time(20)
    return run


def with_a_lost_answer_and_no_reference(world: World) -> PipelineRun:
    world.workbench.client_reference = False
    return with_a_lost_answer(world)


def realtime(world: World) -> PipelineRun:
    world.conductor.courses.append(Course(seconds=1_000))
    return world.submit(mode=REALTIME)


in_every_state = pytest.mark.parametrize(
    "made",
    [
        not_submitted,
        submitted,
        running,
        with_a_lost_answer,
        with_a_lost_answer_and_no_reference,
        realtime,
    ],
)


def steps_of(made: Callable[[World], object], *acts: Callable[[World], object]) -> list[str]:
    """The steps that the last of the acts passes when nothing goes wrong."""
    world = World()
    made(world)
    *before, last = acts
    for act in before:
        act(world)
    passed = len(world.steps.trail)
    last(world)
    return world.steps.trail[passed:]


def assert_it_ends_cancelled(world: World, made: Callable[[World], PipelineRun]) -> None:
    run = world.run(1)
    world.go_on(240)
    steps = 1 if made is not_submitted else 3 if made in {running, realtime} else 2
    expected = [S.CREATED, S.SUBMITTED, S.RUNNING][:steps]
    assert statuses(world, run) == [*expected, S.CANCELLED]
    assert world.run(1).error is None
    assert len(world.workbench.jobs) == (made not in {not_submitted, realtime})
    assert set(job_words(world, run)) <= {"CANCELLED"}
    told = {event.version for event in world.bus.published}
    assert told == set(range(1, world.run(1).version + 1))
    assert not world.database.refused


def cancel(world: World) -> None:
    world.cancel(1)


@in_every_state
def test_p23_a_crash_at_any_step_of_the_cancel_changes_nothing_in_the_end(
    made: Callable[[World], PipelineRun],
) -> None:
    steps = steps_of(made, cancel)
    assert len(steps) >= 4
    for number, step in enumerate(steps):
        world = World()
        made(world)
        world.steps.strike(number)
        with pytest.raises(Crash):
            cancel(world)
        world.restart()
        if step == "before MemoryRuns.request_cancel":
            cancel(world)  # It was not accepted, and its caller asks again.
        assert_it_ends_cancelled(world, made)


@in_every_state
def test_p23_a_crash_at_any_step_of_the_check_that_carries_it_changes_nothing_in_the_end(
    made: Callable[[World], PipelineRun],
) -> None:
    def carry(world: World) -> None:
        check(world, 1)

    steps = steps_of(made, cancel, carry)
    assert len(steps) >= 2
    for number in range(len(steps)):
        world = World()
        made(world)
        cancel(world)
        world.check_queue.waiting.clear()
        world.steps.strike(number)
        with pytest.raises(Crash):
            carry(world)
        world.restart()
        assert_it_ends_cancelled(world, made)


@pytest.mark.parametrize("mode", [BATCH, REALTIME])
@pytest.mark.parametrize("respond_async", [True, False])
@pytest.mark.parametrize("client_reference", [True, False])
def test_p9_p23_f1_f2_a_submission_cut_short_at_any_step_can_be_cancelled_and_leaves_no_job(
    mode: PipelineMode, *, respond_async: bool, client_reference: bool
) -> None:
    def submit(world: World) -> None:
        world.workbench.client_reference = client_reference
        world.submit(mode=mode, respond_async=respond_async)

    steps = steps_of(lambda world: world.new_run(mode), submit)
    assert len(steps) >= 4
    for number, step in enumerate(steps):
        world = World()
        world.new_run(mode)
        world.steps.strike(number)
        with pytest.raises(Crash):
            submit(world)
        world.restart()
        if step == "before MemoryRuns.record":
            assert not world.database.runs
            continue
        with suppress(RunAlreadyTerminal):  # A REALTIME run may have got through.
            world.cancel(1)

        world.go_on(300)

        run = world.run(1)
        assert run.status in {S.CANCELLED, S.COMPLETED if mode is REALTIME else S.CANCELLED}
        assert set(job_words(world, run)) <= {"CANCELLED"}
        assert not world.database.refused


# -- the table of outcomes, for a run that is to be cancelled -------------------------------------

WHEN_CANCELLED = {
    (BATCH, Seen.NO_WORKFLOW): Verdict.CANCEL,
    (REALTIME, Seen.NO_WORKFLOW): Verdict.CANCEL,
    (REALTIME, Seen.ANSWER_LOST): Verdict.CANCEL,
    (REALTIME, Seen.RUNNING): Verdict.TERMINATE,
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("seen", Seen)
@pytest.mark.parametrize("mode", PipelineMode)
def test_p12_p23_a_cancel_changes_what_follows_only_where_nothing_has_been_decided(
    world: World, mode: PipelineMode, seen: Seen, *, first: bool
) -> None:
    run = world.submit(mode=mode, respond_async=True)
    wanted = replace(run, cancel_requested_at=world.time.now, cancel_cause=CancelCause.USER)
    usual = OUTCOMES[mode, first][seen]
    assert verdict_on(run, seen, first=first) is usual
    assert verdict_on(wanted, seen, first=first) is WHEN_CANCELLED.get((mode, seen), usual)


# -- doubt ----------------------------------------------------------------------------------------

KEPT = Sight(seen=Seen.DONE, job_id="job-2", workflow_id="workflow-2")
SEVERAL = "Several workflows gave it different jobs"


@pytest.mark.parametrize(
    ("others", "reason", "job_ids"),
    [
        ([], None, ()),
        ([Sight(seen=Seen.DONE, job_id="job-2")], None, ()),
        ([Sight(seen=Seen.WORKBENCH_REFUSED)], None, ()),
        ([Sight(seen=Seen.DONE, job_id="job-1")], SEVERAL, ("job-1",)),
        (
            [Sight(seen=Seen.DONE, job_id=f"job-{n}") for n in (1, 2, 3, 1)],
            SEVERAL,
            ("job-1", "job-3"),
        ),
        (
            [Sight(seen=Seen.ANSWER_LOST)],
            "The Workbench's answer to an earlier call was lost",
            (),
        ),
        ([Sight(seen=Seen.RUNNING)], "Another of its workflows was still under way", ()),
        (
            [Sight(seen=Seen.ANSWER_LOST), Sight(seen=Seen.DONE, job_id="job-1")],
            SEVERAL,
            ("job-1",),
        ),
    ],
)
def test_p8_f7_what_makes_it_doubtful_that_a_job_is_the_only_one(
    world: World, others: list[Sight], reason: str | None, job_ids: tuple[str, ...]
) -> None:
    run = world.submit(respond_async=True)

    stray = doubt(run, [KEPT, *others], KEPT)

    assert (stray.reason if stray else None) == reason
    assert (stray.job_ids if stray else ()) == job_ids


def test_a_realtime_run_leaves_no_doubt_for_it_has_no_jobs(world: World) -> None:
    run = world.submit(mode=REALTIME, respond_async=True)
    assert doubt(run, [KEPT, Sight(seen=Seen.ANSWER_LOST)], KEPT) is None
