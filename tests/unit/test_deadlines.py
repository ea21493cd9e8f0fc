"""Deadlines: a run's own time-out, the cancel's, and what it takes to declare a job lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import Course, World
from runs.checking import CheckReport, status_change
from runs.deadlines import (
    CANCEL_DEADLINE,
    LONGEST_OUTAGE,
    LOSS_AFTER,
    LOSS_ANSWERS,
    given_up,
    is_missed,
    is_missed_for_good,
    is_overdue,
)
from runs.messages import CheckMessage
from runs.model import DEFAULT_TIMEOUT, CancelCause, ErrorCategory, Observation, PipelineRun
from runs.ports import JobStatus, NoAnswer
from runs.status import PipelineMode, PipelineRunStatus

S = PipelineRunStatus
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DOWN = NoAnswer(reason="The Workbench answered 503")
UNKNOWN = NoAnswer(reason="The Workbench answered 404: no such job", unknown_job=True)


def submitted(
    world: World, *, timeout: timedelta = DEFAULT_TIMEOUT, mode: PipelineMode = PipelineMode.BATCH
) -> PipelineRun:
    """A run with this time-out, just submitted."""
    wish = replace(world.new_run(mode), timeout_seconds=round(timeout.total_seconds()))
    key = f"unnamed {len(world.database.runs) + 1}"
    recorded = world.submission.submit(wish, key=key, fingerprint="f", respond_async=False)
    return recorded.run


def check(world: World, *run_ids: int) -> CheckReport:
    """One message, just sent."""
    message = CheckMessage(run_ids=run_ids, sent_at=world.database.now)
    return world.checking.check([message], within=MINUTE)


def statuses(world: World, run: PipelineRun) -> list[PipelineRunStatus]:
    return [event.status for event in world.history(run.id)]


def pass_until(world: World, run: PipelineRun, since_submission: timedelta) -> None:
    """Nothing happens until so long after the run's job was submitted."""
    assert run.started_at
    world.pass_time((run.started_at + since_submission - world.time.now).total_seconds())


def assert_timed_out(world: World, run: PipelineRun, ending: str) -> PipelineRun:
    """It FAILED for its time-out, and its message ends so."""
    end = world.run(run.id)
    assert end.status is S.FAILED
    assert end.error
    assert (end.error.code, end.error.category) == ("run_timed_out", ErrorCategory.TIMEOUT)
    began = f"The run took longer than its timeout of {run.timeout_seconds} s; "
    assert end.error.message == began + ending
    return end


# -- the run's time-out ---------------------------------------------------------------------------


def test_p32_a_run_past_its_timeout_is_cancelled_at_the_workbench_first_and_then_failed(
    world: World,
) -> None:
    run = submitted(world, timeout=10 * MINUTE)
    world.workbench.become("RUNNING", run=run.id)
    pass_until(world, run, 10 * MINUTE)

    check(world, run.id)

    wanted = world.run(run.id)
    assert (wanted.status, wanted.cancel_cause) == (S.RUNNING, CancelCause.TIMEOUT)
    assert (wanted.cancel_requested_at, wanted.cancel_reason) == (world.time.now, None)
    assert world.workbench.cancelled == ["job-1"]
    check(world, run.id)
    assert_timed_out(world, run, "it was cancelled")
    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.RUNNING, S.FAILED]
    assert not world.database.strays


def test_p32_a_run_is_given_its_time_to_the_second(world: World) -> None:
    run = submitted(world, timeout=10 * MINUTE)
    pass_until(world, run, 10 * MINUTE - SECOND)
    check(world, run.id)
    assert world.run(run.id).cancel_requested_at is None
    assert not world.workbench.cancelled


def test_p32_every_run_has_seven_days_unless_its_request_says_otherwise(world: World) -> None:
    run = world.submit()
    assert run.timeout_seconds == 7 * 24 * 60 * 60
    pass_until(world, run, timedelta(days=7) - SECOND)
    world.go_on(1)
    assert world.run(run.id).cancel_requested_at is None

    world.go_on(120)

    assert_timed_out(world, run, "it was cancelled")


def test_p32_with_everything_working_a_run_ends_within_four_intervals_of_its_timeout(
    world: World,
) -> None:
    run = submitted(world, timeout=10 * MINUTE)
    world.go_on(2 + 600 + 4 * 30)
    end = assert_timed_out(world, run, "it was cancelled")
    assert run.started_at
    assert end.completed_at
    assert end.completed_at - run.started_at <= timedelta(seconds=600 + 4 * 30)


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED"])
def test_p24_p32_a_job_that_ends_meanwhile_decides(world: World, word: str) -> None:
    run = submitted(world, timeout=10 * MINUTE)
    world.workbench.cancel_makes = word
    pass_until(world, run, 10 * MINUTE)
    check(world, run.id)
    assert world.run(run.id).cancel_cause is CancelCause.TIMEOUT

    check(world, run.id)

    end = world.run(run.id)
    assert end.status is S(word)
    assert end.error is None or end.error.code == "job_failed"


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED"])
def test_p24_p32_a_job_that_had_ended_when_it_was_asked_late_decides(
    world: World, word: str
) -> None:
    run = submitted(world, timeout=10 * MINUTE)
    world.workbench.become(word, run=run.id)
    pass_until(world, run, HOUR)

    check(world, run.id)

    assert world.run(run.id).status is S(word)
    assert world.run(run.id).cancel_requested_at is None
    assert not world.workbench.cancelled


def test_p32_a_cancel_for_the_timeout_that_is_never_taken_ends_15_minutes_later_and_is_hunted(
    world: World,
) -> None:
    run = submitted(world, timeout=10 * MINUTE)
    world.workbench.cancel_fault = "The Workbench answered 500"
    pass_until(world, run, 10 * MINUTE)
    check(world, run.id)
    world.pass_time(15 * 60 - 1)
    check(world, run.id)
    assert world.run(run.id).status is S.SUBMITTED
    world.pass_time(1)

    check(world, run.id)

    ending = "its cancel was not confirmed, and its job may still run"
    end = assert_timed_out(world, run, ending)
    assert end.error
    noted = world.database.strays[run.id]
    assert (noted.reason, noted.job_ids) == (end.error.message, ("job-1",))
    world.workbench.cancel_fault = None
    world.go_on(120)
    assert world.workbench.cancelled == ["job-1"]


def test_p32_a_run_is_not_timed_out_while_nobody_can_say_whether_it_has_ended(
    world: World,
) -> None:
    run = submitted(world, timeout=10 * MINUTE)
    world.workbench.down = DOWN
    pass_until(world, run, 10 * MINUTE + 24 * HOUR - SECOND)

    check(world, run.id)

    seen = world.run(run.id)
    assert (seen.status, seen.cancel_requested_at) == (S.SUBMITTED, None)


def test_p32_without_a_valid_answer_it_ends_24_hours_after_its_timeout_and_is_hunted(
    world: World,
) -> None:
    run = submitted(world, timeout=10 * MINUTE)
    world.workbench.down = DOWN
    pass_until(world, run, 10 * MINUTE + 24 * HOUR)

    check(world, run.id)

    ending = "the Workbench can't be asked about its job, which may still run"
    assert_timed_out(world, run, ending)
    assert world.database.strays[run.id].job_ids == ("job-1",)
    world.workbench.down = None
    world.go_on(120)
    assert world.workbench.cancelled == ["job-1"]


@pytest.mark.parametrize("outage", [HOUR, 23 * HOUR])
def test_p32_the_first_valid_answer_after_an_outage_times_the_run_out(
    world: World, outage: timedelta
) -> None:
    run = submitted(world, timeout=10 * MINUTE)
    world.workbench.down = DOWN
    pass_until(world, run, 10 * MINUTE + outage)
    check(world, run.id)
    world.workbench.down = None

    check(world, run.id)
    assert world.run(run.id).cancel_cause is CancelCause.TIMEOUT
    check(world, run.id)

    assert_timed_out(world, run, "it was cancelled")


def test_p32_f48_a_valid_answer_that_comes_later_than_that_is_acted_on_like_any_other(
    world: World,
) -> None:
    """No check ran meanwhile, as on a machine that was switched off for a weekend."""
    run = submitted(world, timeout=10 * MINUTE)
    world.workbench.become("RUNNING", run=run.id)
    check(world, run.id)
    pass_until(world, run, 10 * MINUTE + 25 * HOUR)

    check(world, run.id)

    assert world.workbench.cancelled == ["job-1"]
    assert world.run(run.id).status is S.RUNNING
    check(world, run.id)
    assert_timed_out(world, run, "it was cancelled")


def test_p23_p32_a_users_cancel_that_came_first_stays_a_users(world: World) -> None:
    run = submitted(world, timeout=10 * MINUTE)
    world.workbench.cancel_makes = None
    pass_until(world, run, 9 * MINUTE)
    asked = world.cancel(run.id)
    pass_until(world, run, 11 * MINUTE)
    check(world, run.id)
    assert world.run(run.id).cancel_requested_at == asked.cancel_requested_at
    world.workbench.become("CANCELLED", run=run.id)

    check(world, run.id)

    assert world.run(run.id).status is S.CANCELLED


def test_p23_p32_a_users_cancel_that_comes_second_changes_nothing(world: World) -> None:
    run = submitted(world, timeout=10 * MINUTE)
    pass_until(world, run, 10 * MINUTE)
    check(world, run.id)
    wanted = world.run(run.id)

    assert world.cancel(run.id, reason="too slow") == wanted

    check(world, run.id)
    assert_timed_out(world, run, "it was cancelled")


def test_p32_a_job_that_somebody_cancels_before_the_timeout_is_no_timeout(world: World) -> None:
    run = submitted(world, timeout=10 * MINUTE)
    world.workbench.become("ABORTED", run=run.id)
    pass_until(world, run, 10 * MINUTE - SECOND)
    check(world, run.id)
    assert world.run(run.id).status is S.CANCELLED


def test_p32_two_checks_at_once_agree_that_it_was_the_timeout(world: World) -> None:
    """One told the Workbench and the other, which had read the run before, sees the effect."""
    run = submitted(world, timeout=10 * MINUTE)
    pass_until(world, run, 10 * MINUTE)

    change = status_change(
        world.run(run.id), JobStatus(upstream_status="CANCELLED"), now=world.time.now
    )

    assert change
    assert change.path[-1] is S.FAILED
    assert change.error
    assert change.error.code == "run_timed_out"


@pytest.mark.parametrize("held", [True, False])
def test_f36_a_run_whose_row_is_locked_is_timed_out_by_a_later_check(
    world: World, *, held: bool
) -> None:
    run = submitted(world, timeout=10 * MINUTE)
    world.workbench.cancel_makes = None
    pass_until(world, run, 10 * MINUTE)
    world.database.locked = {run.id} if held else set()
    check(world, run.id)
    assert (world.run(run.id).cancel_cause is None) is held
    world.database.locked = set()

    check(world, run.id)

    assert world.run(run.id).cancel_cause is CancelCause.TIMEOUT


def test_p18_p32_one_runs_timeout_leaves_its_neighbours_alone(world: World) -> None:
    run, other = submitted(world, timeout=10 * MINUTE), submitted(world)
    pass_until(world, run, 10 * MINUTE)

    check(world, run.id, other.id)

    assert world.workbench.cancelled == [run.workbench_job_id]
    assert world.run(other.id).cancel_requested_at is None


# -- while the breaker is open --------------------------------------------------------------------


def in_an_outage(world: World, count: int, *, timeout: timedelta) -> list[PipelineRun]:
    """Runs in trouble, and an open breaker."""
    runs = [submitted(world, timeout=timeout) for _ in range(count)]
    world.workbench.down = DOWN
    world.go_on(240)
    [breaker] = world.database.breakers.values()
    assert breaker.opened_at
    assert all(world.run(run.id).next_check_at for run in runs)
    return runs


def test_p32_f32_runs_that_timed_out_a_day_ago_are_checked_while_the_breaker_is_open(
    world: World,
) -> None:
    runs = in_an_outage(world, 20, timeout=10 * MINUTE)
    pass_until(world, runs[0], 10 * MINUTE + 24 * HOUR - 90 * SECOND)
    world.go_on(60)
    assert {world.run(run.id).status for run in runs} == {S.SUBMITTED}

    world.go_on(120)

    for run in runs:
        assert_timed_out(
            world, run, "the Workbench can't be asked about its job, which may still run"
        )


def test_p23_p32_f32_runs_to_be_cancelled_are_checked_while_the_breaker_is_open(
    world: World,
) -> None:
    runs = in_an_outage(world, 20, timeout=DEFAULT_TIMEOUT)
    for run in runs:
        world.cancel(run.id)
    world.check_queue.waiting.clear()
    began = world.time()

    world.go_on(60)

    for run in runs:
        looks = world.workbench.looks_at(str(run.workbench_job_id))
        assert any(at >= began for at in looks)
    world.go_on(15 * 60)
    ends = [world.run(run.id) for run in runs]
    assert {end.error.code for end in ends if end.error} == {"cancel_unconfirmed"}


def test_p32_f32_a_cancel_is_carried_while_the_job_cannot_be_asked_about(world: World) -> None:
    [run] = in_an_outage(world, 1, timeout=DEFAULT_TIMEOUT)
    world.workbench.down = None
    world.workbench.answer_with(DOWN, run=run.id)
    world.cancel(run.id)

    world.go_on(61)

    assert world.run(run.id).status is S.CANCELLED


# -- REALTIME -------------------------------------------------------------------------------------


def test_p31_p32_a_realtime_run_past_its_timeout_is_terminated_and_then_failed(
    world: World,
) -> None:
    world.conductor.timeouts_seconds = {}
    world.conductor.courses.append(Course(seconds=1_000))
    run = submitted(world, timeout=MINUTE, mode=PipelineMode.REALTIME)
    assert run.status is S.RUNNING
    pass_until(world, run, MINUTE - SECOND)
    check(world, run.id)
    assert world.run(run.id).cancel_requested_at is None
    world.go_on(1 + 4 * 30)

    assert world.conductor.started[0].terminated
    assert_timed_out(world, run, "it was cancelled")


def test_p24_p31_p32_a_realtime_run_that_completes_meanwhile_is_completed(world: World) -> None:
    world.conductor.timeouts_seconds = {}
    world.conductor.courses.append(Course(seconds=75))
    run = submitted(world, timeout=MINUTE, mode=PipelineMode.REALTIME)
    pass_until(world, run, MINUTE)
    check(world, run.id)
    assert world.run(run.id).cancel_cause is CancelCause.TIMEOUT
    world.pass_time(15)

    check(world, run.id)

    assert world.run(run.id).status is S.COMPLETED


# -- the rules themselves -------------------------------------------------------------------------


@pytest.fixture
def run(world: World) -> PipelineRun:
    """A run that is SUBMITTED, with an hour to its time-out."""
    return submitted(world, timeout=HOUR)


@given(st.integers(-7_200, 7_200), st.booleans(), st.booleans())
def test_p32_a_run_is_overdue_from_its_timeout_on_until_somebody_wants_it_to_end(
    seconds: int,
    is_submitted: bool,  # noqa: FBT001  # drawn
    is_wanted: bool,  # noqa: FBT001  # drawn
) -> None:
    world = World()
    run = submitted(world, timeout=HOUR)
    assert run.started_at
    now = run.started_at + timedelta(seconds=seconds)
    run = replace(
        run,
        started_at=run.started_at if is_submitted else None,
        cancel_requested_at=run.started_at if is_wanted else None,
    )
    assert is_overdue(run, now=now) is (is_submitted and not is_wanted and seconds >= 3_600)


@pytest.mark.parametrize("cause", CancelCause)
@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("seen_seconds", [None, 0, 899, 900, 930])
@pytest.mark.parametrize("seconds", [0, 899, 900, 930, 10**6])
def test_p23_p32_a_cancel_is_given_up_after_15_minutes_or_a_check_later_if_just_accepted(  # noqa: PLR0917  # drawn
    world: World,
    run: PipelineRun,
    cause: CancelCause,
    seconds: int,
    seen_seconds: int | None,
    accepted: bool,  # noqa: FBT001  # drawn
) -> None:
    asked_at = world.time.now
    seen_at = None if seen_seconds is None else asked_at + timedelta(seconds=seen_seconds)
    seen = Observation(last_checked_at=seen_at)
    wanted = replace(run, cancel_requested_at=asked_at, cancel_cause=cause, observation=seen)

    end = given_up(wanted, now=asked_at + timedelta(seconds=seconds), accepted=accepted)

    asked_since_the_deadline = seen_seconds is not None and seen_seconds >= 900
    assert bool(end) is (seconds >= 900 and (asked_since_the_deadline or not accepted))
    if end:
        assert end.path[-1] is S.FAILED
        assert end.error
        category = {
            CancelCause.USER: ErrorCategory.LOST,
            CancelCause.TIMEOUT: ErrorCategory.TIMEOUT,
        }
        assert end.error.category is category[cause]
        assert "may still run" in end.error.message
        assert end.stray
        assert (end.stray.reason, end.stray.job_ids) == (end.error.message, ("job-1",))


def test_p23_what_has_no_job_is_said_to_be_work_that_may_still_run(world: World) -> None:
    world.conductor.courses.append(Course(seconds=1_000))
    run = submitted(world, mode=PipelineMode.REALTIME)
    wanted = replace(run, cancel_requested_at=world.time.now, cancel_cause=CancelCause.USER)

    end = given_up(wanted, now=world.time.now + CANCEL_DEADLINE)

    assert end
    assert end.error
    assert end.error.message == (
        "The cancel was not confirmed within 15 minutes; its work may still run"
    )


@pytest.mark.parametrize(
    ("late", "ends"), [(timedelta(0), False), (24 * HOUR - SECOND, False), (24 * HOUR, True)]
)
def test_p32_an_unanswered_run_is_given_up_a_day_after_its_timeout(
    world: World, run: PipelineRun, late: timedelta, *, ends: bool
) -> None:
    assert run.times_out_at
    assert bool(given_up(run, now=run.times_out_at + late)) is ends
    assert world.run(run.id).status is S.SUBMITTED


def test_p17_p32_the_deadlines_are_those_of_the_properties() -> None:
    assert CANCEL_DEADLINE == LOSS_AFTER == timedelta(minutes=15)
    assert timedelta(hours=24) == LONGEST_OUTAGE
    assert LOSS_ANSWERS == 5


@pytest.mark.parametrize("answers", [1, 4, 5, 100])
@pytest.mark.parametrize("seconds", [0, 899, 900, 86_399, 86_400])
def test_p17_a_job_is_missed_after_five_answers_over_15_minutes_and_for_good_after_a_day(
    world: World, run: PipelineRun, answers: int, seconds: int
) -> None:
    seen = Observation(unknown_since=world.time.now, unknown_count=answers - 1)
    missing = replace(run, observation=seen)
    now = world.time.now + timedelta(seconds=seconds)
    assert is_missed(missing, now=now) is (answers >= 5 and seconds >= 900)
    assert is_missed_for_good(missing, now=now) is (seconds >= 86_400)


def test_p17_the_first_answer_of_its_kind_is_no_loss(world: World, run: PipelineRun) -> None:
    now = world.time.now + 100 * HOUR
    assert not is_missed(run, now=now)
    assert not is_missed_for_good(run, now=now)


def test_p17_an_answer_in_an_unknown_word_tells_that_the_job_is_known(world: World) -> None:
    run = submitted(world)
    other = submitted(world)
    world.workbench.become("RUNNING", run=other.id)
    for told in [UNKNOWN] * 4 + [JobStatus(upstream_status="WARMING")]:
        world.workbench.answer_with(told, run=run.id)
        check(world, run.id)
    world.pass_time(16 * 60)
    world.workbench.answer_with(UNKNOWN, run=run.id)
    check(world, other.id)

    check(world, run.id)

    assert world.run(run.id).status is S.SUBMITTED
    assert world.run(run.id).observation.unknown_count == 1


def test_p9_p17_a_lost_job_that_turns_up_again_is_cancelled(world: World) -> None:
    run = submitted(world)
    other = submitted(world)
    world.workbench.become("RUNNING", run=other.id)
    [job] = world.workbench.jobs_for(run.id)
    world.workbench.forget(run=run.id)
    world.go_on(20 * 60)
    end = world.run(run.id)
    assert end.error
    assert (end.error.code, end.next_check_at) == ("job_lost", None)
    world.workbench.jobs[job.id] = job

    world.go_on(20 * 60)

    assert job.id in world.workbench.cancelled


# -- loss -----------------------------------------------------------------------------------------


def unknown_at(world: World, run: PipelineRun, *moments: int) -> None:
    """The Workbench says that it doesn't know the job, so many seconds after the first time."""
    world.workbench.answer_with(UNKNOWN, run=run.id)
    began = world.time()
    for moment in moments:
        world.pass_time(began + moment - world.time())
        check(world, run.id)


def test_p17_f25_a_job_unknown_for_good_is_lost_after_15_minutes(world: World) -> None:
    run = world.submit()
    world.go_on(45)
    world.workbench.forget(run=run.id)

    world.go_on(60 + 900 - 45 - 1)  # It is asked about for the first time after a minute.
    assert world.run(run.id).status is S.SUBMITTED
    world.go_on(31)

    end = world.run(run.id)
    assert end.status is S.FAILED
    assert end.error
    assert (end.error.code, end.error.category) == ("job_lost", ErrorCategory.LOST)
    answers = len(world.workbench.looks_at("job-1"))
    assert answers >= 5
    assert end.error.message == (
        f"The Workbench does not know job job-1 any more, though it was asked {answers} times"
    )


@pytest.mark.parametrize(
    ("moments", "is_lost"),
    [
        ((0, 1, 2, 3, 899), False),
        ((0, 1, 2, 3, 900), True),
        ((0, 300, 600, 900), False),
        ((0, 300, 600, 5_000), False),
        ((0, 300, 600, 900, 901), True),
    ],
)
def test_p17_f25_it_takes_five_answers_and_15_minutes(
    world: World, moments: tuple[int, ...], *, is_lost: bool
) -> None:
    run = world.submit()
    unknown_at(world, run, *moments)
    assert world.run(run.id).status is (S.FAILED if is_lost else S.SUBMITTED)


@pytest.mark.parametrize("word", ["QUEUED", "RUNNING"])
def test_p17_f25_one_valid_answer_starts_the_count_anew(world: World, word: str) -> None:
    run = world.submit()
    unknown_at(world, run, 0, 200, 400, 600, 800)
    world.workbench.become(word, run=run.id)
    check(world, run.id)
    assert world.run(run.id).observation.unknown_count == 0

    unknown_at(world, run, 100, 300, 500, 700, 999)
    assert not world.run(run.id).is_terminal
    unknown_at(world, run, 1)

    assert world.run(run.id).status is S.FAILED


def test_p17_other_trouble_in_between_neither_counts_nor_starts_the_count_anew(
    world: World,
) -> None:
    run, healthy = world.submit(), world.submit()
    unknown_at(world, run, 0, 300)
    world.workbench.answer_with(DOWN, run=run.id)
    for _ in range(11):
        check(world, run.id)

    unknown_at(world, run, 300, 700)  # 600 and 1,000 s after the first: the third and fourth.
    assert world.run(run.id).observation.unknown_count == 4
    assert world.run(run.id).status is S.SUBMITTED
    check(world, healthy.id)
    unknown_at(world, run, 1)

    assert world.run(run.id).status is S.FAILED


def test_p16_p17_other_trouble_never_is_what_a_job_is_lost_by(world: World) -> None:
    run, healthy = world.submit(), world.submit()
    unknown_at(world, run, 0, 1, 2, 3, 4, 5)
    world.pass_time(3_600)
    check(world, healthy.id)
    world.workbench.answer_with(DOWN, run=run.id)

    check(world, run.id)

    assert world.run(run.id).status is S.SUBMITTED


def test_p17_trouble_before_the_first_404_starts_no_clock(world: World) -> None:
    run = world.submit()
    world.workbench.down = DOWN
    check(world, run.id)
    world.pass_time(3_600)
    world.workbench.down = None

    unknown_at(world, run, 0, 1, 2, 3, 4)

    assert world.run(run.id).status is S.SUBMITTED


def test_p17_f25_a_job_unknown_while_another_is_answered_is_lost(world: World) -> None:
    run, healthy = world.submit(), world.submit()
    world.workbench.forget(run=run.id)

    world.go_on(60 + 900 + 31)

    assert world.run(run.id).status is S.FAILED
    assert world.run(healthy.id).status is S.SUBMITTED


@pytest.mark.parametrize(("ago", "is_lost"), [(60, True), (61, False)])
def test_p17_of_another_run_only_an_answer_of_the_last_minute_counts(
    world: World, ago: int, *, is_lost: bool
) -> None:
    run, other = world.submit(), world.submit()
    unknown_at(world, run, 0, 100, 200, 300, 840)
    check(world, other.id)

    unknown_at(world, run, ago)

    assert world.run(run.id).status is (S.FAILED if is_lost else S.SUBMITTED)


def test_p17_f25_a_job_unknown_while_the_other_is_in_trouble_is_not_lost(world: World) -> None:
    run, other = world.submit(), world.submit()
    world.workbench.forget(run=run.id)
    world.workbench.answer_with(DOWN, run=other.id)
    world.go_on(2 * 3_600)
    assert world.run(run.id).status is S.SUBMITTED
    world.workbench.become("RUNNING", run=other.id)

    world.go_on(120)

    assert world.run(run.id).status is S.FAILED
    assert world.run(other.id).status is S.RUNNING


def test_p17_a_run_that_is_alone_is_not_lost_while_the_breaker_is_open(world: World) -> None:
    run, other = world.submit(), world.submit()
    world.workbench.down = DOWN
    world.go_on(240)
    assert [breaker.opened_at is None for breaker in world.database.breakers.values()] == [False]
    world.cancel(other.id)
    world.go_on(16 * 60)
    assert world.run(other.id).status is S.FAILED  # Now the first is alone.
    world.workbench.down = UNKNOWN

    world.go_on(3_600)

    assert world.run(run.id).status is S.SUBMITTED


@pytest.mark.parametrize("count", [2, 12])
def test_p17_f25_404_for_every_job_fails_nothing_for_a_day(world: World, count: int) -> None:
    runs = [world.submit() for _ in range(count)]
    for run in runs:
        world.workbench.forget(run=run.id)
    world.go_on(3 * 3_600)
    assert {world.run(run.id).status for run in runs} == {S.SUBMITTED}
    world.pass_time(20 * 3_600)
    world.go_on(30 * 60)
    assert {world.run(run.id).status for run in runs} == {S.SUBMITTED}

    world.go_on(3_600)

    ends = [world.run(run.id) for run in runs]
    assert {end.error and end.error.code for end in ends} == {"job_lost"}


def test_p16_p17_f25_jobs_that_are_known_again_go_on_as_if_nothing_had_been(world: World) -> None:
    runs = [world.submit() for _ in range(12)]
    jobs = dict(world.workbench.jobs)
    world.workbench.jobs.clear()
    world.go_on(3 * 3_600)
    world.workbench.jobs |= jobs
    for run in runs:
        world.workbench.become("COMPLETED", run=run.id)

    world.go_on(120)

    assert {world.run(run.id).status for run in runs} == {S.COMPLETED}
