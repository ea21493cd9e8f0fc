"""A check: one look at each of some runs, each handled for itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import Course, StartFault, World
from runs.checking import (
    LONGEST_BACK_OFF,
    RETRY_SLACK,
    CheckReport,
    status_change,
    upstream,
)
from runs.errors import DatabaseUnavailable
from runs.messages import CheckMessage
from runs.model import UPSTREAM_STATUSES, ErrorCategory, PipelineRun, Progress
from runs.ports import ANSWER_TIME, JobStatus, NoAnswer
from runs.status import PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runs.events import RunEvent
    from runs.model import Transition
    from runs.submission import Resolution

S = PipelineRunStatus
MINUTE = timedelta(minutes=1)
TIMED_OUT = NoAnswer(reason="The Workbench gave no whole answer within 8 s")


@pytest.fixture
def run(world: World) -> PipelineRun:
    """A run that is SUBMITTED and was never checked."""
    return world.submit()


def check(
    world: World,
    *run_ids: int,
    attempt: int = 0,
    sent_at: datetime | None = None,
    within: timedelta = MINUTE,
) -> CheckReport:
    """One message, just sent."""
    message = CheckMessage(run_ids=run_ids, attempt=attempt, sent_at=sent_at or world.database.now)
    return world.checking.check([message], within=within)


def statuses(world: World, run: PipelineRun) -> list[PipelineRunStatus]:
    return [event.status for event in world.history(run.id)]


# -- what an answer means -------------------------------------------------------------------------


def test_a_job_that_runs_makes_the_run_running(world: World, run: PipelineRun) -> None:
    world.workbench.become("RUNNING", run=run.id, progress=Progress(1, 4), logs_url="http://l")
    world.pass_time(30)

    report = check(world, run.id)

    assert report == CheckReport(asked=1, moved=1)
    run = world.run(run.id)
    assert (run.status, run.version) == (S.RUNNING, 3)
    assert run.observation.upstream_status == "RUNNING"
    assert run.observation.progress == Progress(1, 4)
    assert run.observation.logs_url == "http://l"
    assert run.observation.last_checked_at == world.time.now
    assert run.observation.staleness_seconds == 0
    assert world.bus.published[-1].status is S.RUNNING


@pytest.mark.parametrize("word", ["QUEUED", "SUBMITTED", "STARTING"])
def test_the_same_status_again_is_observed_and_changes_nothing(
    world: World, run: PipelineRun, word: str
) -> None:
    world.workbench.become(word, run=run.id)

    assert check(world, run.id) == CheckReport(asked=1)

    run = world.run(run.id)
    assert (run.status, run.version) == (S.SUBMITTED, 2)
    assert run.observation.upstream_status == word


@pytest.mark.parametrize("start", [S.SUBMITTED, S.RUNNING])
def test_p15_a_completed_job_completes_its_run_by_legal_steps(
    world: World, run: PipelineRun, start: PipelineRunStatus
) -> None:
    if start is S.RUNNING:
        world.workbench.become("RUNNING", run=run.id)
        check(world, run.id)
    world.workbench.become("DONE", run=run.id)
    world.pass_time(30)

    check(world, run.id)

    run = world.run(run.id)
    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.RUNNING, S.COMPLETED]
    assert (run.version, run.completed_at, run.error) == (4, world.time.now, None)


def test_p4_a_completed_job_of_a_submitted_run_is_two_events(
    world: World, run: PipelineRun
) -> None:
    world.workbench.become("COMPLETED", run=run.id)
    world.bus.published.clear()

    check(world, run.id)

    told = [(e.version, e.previous_status, e.status) for e in world.bus.published]
    assert told == [(3, S.SUBMITTED, S.RUNNING), (4, S.RUNNING, S.COMPLETED)]


@pytest.mark.parametrize("message", ["no such bucket", None])
def test_p6_a_failed_job_fails_its_run_with_a_message(
    world: World, run: PipelineRun, message: str | None
) -> None:
    world.workbench.become("FAILED", run=run.id, error_message=message)

    check(world, run.id)

    run = world.run(run.id)
    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.FAILED]
    assert run.error
    assert (run.error.code, run.error.category) == ("job_failed", ErrorCategory.UPSTREAM)
    assert run.error.message == message or "not why" in run.error.message
    assert world.history(run.id)[-1].error_message == run.error.message


def test_a_cancelled_job_cancels_its_run(world: World, run: PipelineRun) -> None:
    world.workbench.become("ABORTED", run=run.id)
    check(world, run.id)
    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.CANCELLED]
    assert world.run(run.id).completed_at


def test_p2_f23_a_job_that_goes_back_is_observed_and_the_run_stays(
    world: World, run: PipelineRun
) -> None:
    world.workbench.become("RUNNING", run=run.id)
    check(world, run.id)
    world.workbench.become("QUEUED", run=run.id)

    check(world, run.id)

    run = world.run(run.id)
    assert (run.status, run.observation.upstream_status) == (S.RUNNING, "QUEUED")


def test_p3_p19_f22_an_ended_run_is_not_asked_about_again(world: World, run: PipelineRun) -> None:
    world.workbench.become("COMPLETED", run=run.id)
    check(world, run.id)
    ended = world.run(run.id)
    world.workbench.become("RUNNING", run=run.id)

    assert check(world, run.id) == CheckReport(gone=1)

    assert world.run(run.id) == ended
    assert len(world.workbench.asked) == 1


@given(st.sampled_from(sorted(UPSTREAM_STATUSES)), st.data())
def test_p22_a_known_word_is_known_in_any_case_and_between_spaces(
    word: str, data: st.DataObject
) -> None:
    said = "".join(data.draw(st.sampled_from([c, c.lower()])) for c in word)
    padded = (
        data.draw(st.sampled_from(["", " ", "\t"])) + said + data.draw(st.just(" ") | st.just(""))
    )
    assert upstream(JobStatus(upstream_status=padded)) is UPSTREAM_STATUSES[word]


@given(st.text())
def test_p22_f24_any_other_word_is_unknown(word: str) -> None:
    known = word.strip().upper() in UPSTREAM_STATUSES
    assert (upstream(JobStatus(upstream_status=word)) is not None) is known


# -- trouble is not failure -----------------------------------------------------------------------

TROUBLE = {
    "time-out": TIMED_OUT,
    "500": NoAnswer(reason="The Workbench answered 500: oops"),
    "503": NoAnswer(reason="The Workbench answered 503: <html>"),
    "429": NoAnswer(reason="The Workbench answered 429: slow down"),
    "429 with Retry-After": NoAnswer(
        reason="The Workbench answered 429: slow down", retry_after=timedelta(seconds=120)
    ),
    "404": NoAnswer(reason="The Workbench answered 404: no such job", unknown_job=True),
    "bad JSON": NoAnswer(reason="The Workbench's answer can't be used: the answer is no JSON"),
    "another job": NoAnswer(reason="The Workbench's answer is about another job, 'job-2'"),
    "unknown status": JobStatus(upstream_status="MELTED"),
    "empty status": JobStatus(upstream_status=""),
}
trouble = pytest.mark.parametrize("answer", TROUBLE.values(), ids=TROUBLE.keys())


@trouble
@pytest.mark.parametrize("attempt", [0, 1, 2])
def test_p16_f24_f25_f27_f30_f31_trouble_changes_no_status(
    world: World, run: PipelineRun, answer: JobStatus | NoAnswer, attempt: int
) -> None:
    check(world, run.id)
    seen_at = world.time.now
    world.workbench.answer_with(answer, run=run.id)
    world.pass_time(30)

    assert check(world, run.id, attempt=attempt) == CheckReport(asked=1, troubled=1)

    now = world.run(run.id)
    assert (now.status, now.version, now.error) == (S.SUBMITTED, 2, None)
    assert now.observation.last_checked_at == seen_at
    assert now.observation.staleness_seconds == 30
    assert now.observation.consecutive_failures == 1
    assert now.observation.last_error


def test_p16_each_failed_try_counts_and_a_valid_answer_ends_the_count(
    world: World, run: PipelineRun
) -> None:
    world.workbench.down = TIMED_OUT
    for attempt in (0, 1, 2):
        check(world, run.id, attempt=attempt)
    assert world.run(run.id).observation.consecutive_failures == 3
    assert world.run(run.id).observation.last_error == TIMED_OUT.reason

    world.workbench.down = None
    check(world, run.id)

    observation = world.run(run.id).observation
    assert (observation.consecutive_failures, observation.last_error) == (0, None)
    assert world.run(run.id).next_check_at is None


def test_p22_f24_an_unknown_word_is_kept_counted_and_named(world: World, run: PipelineRun) -> None:
    world.workbench.become("MELTED", run=run.id)

    check(world, run.id)

    observation = world.run(run.id).observation
    assert observation.upstream_status == "MELTED"
    assert observation.last_error == "The Workbench reported the unknown status 'MELTED'"


@pytest.mark.parametrize("count", [1, 4, 40])
def test_p17_f25_jobs_that_are_unknown_fail_nothing_yet(world: World, count: int) -> None:
    made = [world.submit() for _ in range(count)]
    for run in made:
        world.workbench.forget(run=run.id)

    check(world, *(run.id for run in made))

    assert {world.run(run.id).status for run in made} == {S.SUBMITTED}


# -- retries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attempt", "delay"), [(0, 5), (1, 10)])
def test_p21_the_next_try_travels_alone_later_and_later(
    world: World, run: PipelineRun, attempt: int, delay: int
) -> None:
    world.workbench.down = TIMED_OUT

    check(world, run.id, attempt=attempt)

    [retry] = world.retry_queue.sent
    assert retry.delay_seconds == delay
    assert retry.message.run_ids == (run.id,)
    assert retry.message.attempt == attempt + 1
    assert retry.message.sent_at == world.time.now + timedelta(seconds=delay)
    assert world.run(run.id).next_check_at == (
        world.time.now + timedelta(seconds=delay) + RETRY_SLACK
    )


def test_p21_after_the_third_try_the_run_waits_for_the_next_sweep(
    world: World, run: PipelineRun
) -> None:
    world.workbench.down = TIMED_OUT

    check(world, run.id, attempt=2)

    assert not world.retry_queue.sent
    assert world.run(run.id).next_check_at == world.time.now


def test_p21_an_interval_has_three_tries_and_the_sweep_passes_by_meanwhile(
    world: World, run: PipelineRun
) -> None:
    world.workbench.down = TIMED_OUT
    world.go_on(60 + 115)
    looks = world.workbench.looks_at("job-1")
    # A minute after the first failure the breaker opens: from then on there is one try.
    assert looks == [60, 65, 75, 90, 95, 105, 120, 125, 150]
    assert world.run(run.id).status is S.SUBMITTED


def test_p15_p21_a_workbench_that_recovers_is_asked_as_before(
    world: World, run: PipelineRun
) -> None:
    world.workbench.down = TIMED_OUT
    world.go_on(60 + 10)
    world.workbench.down = None
    world.workbench.become("COMPLETED", run=run.id)

    world.go_on(30 + 15)

    assert world.run(run.id).status is S.COMPLETED
    assert world.workbench.looks_at("job-1") == [60, 65, 75]


@pytest.mark.parametrize(
    ("seconds", "honoured"),
    [(6, 6), (30, 30), (900, 900), (901, 900), (86_400, 900)],
)
def test_p20_f26_a_retry_after_is_honoured_up_to_15_minutes(
    world: World, run: PipelineRun, seconds: int, honoured: int
) -> None:
    world.workbench.down = replace(TIMED_OUT, retry_after=timedelta(seconds=seconds))

    check(world, run.id)

    assert world.run(run.id).next_check_at == world.time.now + timedelta(seconds=honoured)
    assert not world.retry_queue.sent
    assert timedelta(seconds=honoured) <= LONGEST_BACK_OFF


@pytest.mark.parametrize("seconds", [0, 1, 5])
def test_f26_a_retry_after_shorter_than_our_own_delay_changes_nothing(
    world: World, run: PipelineRun, seconds: int
) -> None:
    world.workbench.down = replace(TIMED_OUT, retry_after=timedelta(seconds=seconds))

    check(world, run.id)

    assert [retry.delay_seconds for retry in world.retry_queue.sent] == [5]


def test_f26_the_sweep_passes_by_until_then(world: World, run: PipelineRun) -> None:
    world.workbench.down = replace(TIMED_OUT, retry_after=timedelta(seconds=100))
    world.go_on(61)
    world.workbench.down = None

    world.go_on(240)

    assert world.workbench.looks_at("job-1")[:3] == [60, 180, 210]
    assert world.run(run.id).next_check_at is None


def test_p20_a_retry_that_could_not_be_sent_is_left_to_the_sweep(
    world: World, run: PipelineRun
) -> None:
    world.workbench.down = TIMED_OUT
    world.retry_queue.refuses = 1
    world.go_on(61)

    world.go_on(60)

    assert world.workbench.looks_at("job-1")[:2] == [60, 90]
    assert world.run(run.id).status is S.SUBMITTED


# -- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "asked"), [(0, True), (30, True), (31, False), (600, False)])
def test_f17_f41_a_message_older_than_an_interval_is_dropped(
    world: World, run: PipelineRun, age: int, *, asked: bool
) -> None:
    sent_at = world.time.now - timedelta(seconds=age)

    report = check(world, run.id, sent_at=sent_at)

    assert report == (CheckReport(asked=1) if asked else CheckReport(too_late=1))
    assert bool(world.workbench.asked) is asked


def test_f43_a_messages_age_is_judged_by_the_databases_time(world: World, run: PipelineRun) -> None:
    world.database.skew = timedelta(minutes=10)
    assert check(world, run.id, sent_at=world.time.now) == CheckReport(too_late=1)


def test_f40_unknown_runs_are_counted_and_dropped_and_the_others_done(
    world: World, run: PipelineRun
) -> None:
    assert check(world, 4_711, run.id, 2**62) == CheckReport(asked=1, gone=2)


def test_no_messages_are_no_work(world: World) -> None:
    assert world.checking.check([], within=MINUTE) == CheckReport()


def test_p19_two_messages_about_one_run_are_one_look_and_the_later_try_counts(
    world: World, run: PipelineRun
) -> None:
    world.workbench.down = TIMED_OUT
    messages = [
        CheckMessage(run_ids=(run.id,), attempt=attempt, sent_at=world.time.now)
        for attempt in (0, 1, 0)
    ]

    assert world.checking.check(messages, within=MINUTE) == CheckReport(asked=1, troubled=1)

    assert len(world.workbench.asked) == 1
    assert [retry.message.attempt for retry in world.retry_queue.sent] == [2]


def test_p21_a_message_that_is_too_old_uses_up_no_try(world: World, run: PipelineRun) -> None:
    world.workbench.down = TIMED_OUT
    old = CheckMessage(run_ids=(run.id,), attempt=2, sent_at=world.time.now - timedelta(seconds=31))
    new = CheckMessage(run_ids=(run.id,), attempt=0, sent_at=world.time.now)

    world.checking.check([old, new], within=MINUTE)

    assert [retry.message.attempt for retry in world.retry_queue.sent] == [1]


def test_p19_f21_the_same_message_twice_is_one_transition(world: World, run: PipelineRun) -> None:
    world.workbench.become("COMPLETED", run=run.id)
    message = CheckMessage(run_ids=(run.id,), sent_at=world.time.now)

    world.checking.check([message], within=MINUTE)
    world.checking.check([message], within=MINUTE)

    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, S.RUNNING, S.COMPLETED]


# -- isolation ------------------------------------------------------------------------------------


def test_p18_a_run_in_trouble_changes_nothing_for_its_neighbours(world: World) -> None:
    first, bad, last = world.submit(), world.submit(), world.submit()
    for run in (first, last):
        world.workbench.become("RUNNING", run=run.id)
    world.workbench.answer_with(TIMED_OUT, run=bad.id)

    report = check(world, first.id, bad.id, last.id)

    assert report == CheckReport(asked=3, moved=2, troubled=1)
    assert [world.run(run.id).status for run in (first, bad, last)] == [
        S.RUNNING,
        S.SUBMITTED,
        S.RUNNING,
    ]


def test_p18_a_run_that_there_was_no_time_for_is_left_to_the_next_sweep(world: World) -> None:
    slow, quick = world.submit(), world.submit()
    world.workbench.silent = {str(slow.workbench_job_id)}

    assert check(world, slow.id, quick.id) == CheckReport(asked=1, left=1)

    assert world.run(slow.id).observation == slow.observation
    assert world.run(slow.id).next_check_at is None


def test_p18_f40_a_text_that_cannot_be_stored_spoils_only_its_own_run(world: World) -> None:
    bad, good = world.submit(), world.submit()
    world.workbench.become("FAILED", run=bad.id, error_message="a\0b")
    world.workbench.become("FAILED", run=good.id, error_message="fine")

    check(world, bad.id, good.id)

    assert world.run(good.id).status is S.FAILED
    assert world.run(bad.id).status is S.SUBMITTED


def test_p11_p32_a_run_whose_resolving_always_trips_over_a_bug_is_lost_after_its_deadline(
    world: World,
) -> None:
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    run = world.submit()

    def broken(run: PipelineRun, *, now: datetime) -> Resolution:
        raise RuntimeError(f"a bug of ours, with run {run.id} at {now}")

    checking = replace(world.checking, resolve=broken)
    for seconds, status in [(290, S.CREATED), (11, S.FAILED)]:
        world.pass_time(seconds)
        message = CheckMessage(run_ids=(run.id,), sent_at=world.time.now)
        checking.check([message], within=MINUTE)
        assert world.run(run.id).status is status
    error = world.run(run.id).error
    assert error
    assert error.code == "submission_lost"


def test_p18_a_run_whose_resolving_trips_over_a_bug_takes_no_other_along(world: World) -> None:
    world.conductor.start_faults.extend([StartFault.UNCLEAR, StartFault.UNCLEAR])
    bad, good = world.submit(), world.submit()
    world.pass_time(20)
    world.steps.strike("before MemoryConductor.find", RuntimeError("a bug of ours"))

    report = check(world, bad.id, good.id)

    assert report == CheckReport(asked=2, moved=1, troubled=1)
    assert world.run(good.id).status is S.SUBMITTED
    assert world.run(bad.id).status is S.CREATED
    assert world.run(bad.id).observation.last_error == "RuntimeError: a bug of ours"


def test_p18_what_was_seen_of_jobs_is_written_before_runs_are_resolved(world: World) -> None:
    run = world.submit()
    world.workbench.become("RUNNING", run=run.id)
    unresolved = world.submit(respond_async=True)
    world.steps.strike("before MemoryConductor.find", DatabaseUnavailable("gone"))

    with pytest.raises(DatabaseUnavailable):
        check(world, run.id, unresolved.id)

    assert world.run(run.id).status is S.RUNNING


def test_p18_f39_a_run_that_there_is_no_time_to_resolve_is_left(world: World) -> None:
    run, unresolved = world.submit(), world.submit(respond_async=True)

    report = check(world, run.id, unresolved.id, within=timedelta(seconds=5))

    assert report == CheckReport(asked=1, left=1)
    assert not world.conductor.starts_for(unresolved.id)


def test_f39_without_any_time_nothing_is_asked(world: World, run: PipelineRun) -> None:
    assert check(world, run.id, within=timedelta(seconds=-1)) == CheckReport(left=1)


def test_p31_a_realtime_run_is_never_asked_of_the_workbench(world: World) -> None:
    world.conductor.courses.append(Course(seconds=1_000))
    run = world.submit(mode=PipelineMode.REALTIME)

    check(world, run.id)

    assert not world.workbench.asked


# -- changes that did not happen ------------------------------------------------------------------


class Overtaken:
    """Runs of which another writer is faster: before the first move it does something."""

    def __init__(self, world: World, first: Transition) -> None:
        self._world = world
        self._first: Transition | None = first

    def move(self, transitions: Sequence[Transition], *, wait: bool = False) -> Sequence[RunEvent]:
        if self._first:
            self._world.runs.move([self._first])
            self._first = None
        return self._world.runs.move(transitions, wait=wait)

    def __getattr__(self, name: str) -> object:
        return getattr(self._world.runs, name)


def overtaken_check(world: World, run: PipelineRun, faster: str, slower: str) -> CheckReport:
    """A check that saw SLOWER while another that saw FASTER wrote first."""
    first = status_change(run, JobStatus(upstream_status=faster), now=world.time.now)
    assert first
    world.workbench.become(slower, run=run.id)
    checking = replace(world.checking, runs=Overtaken(world, first))  # type: ignore[arg-type]
    message = CheckMessage(run_ids=(run.id,), sent_at=world.time.now)
    return checking.check([message], within=MINUTE)


@pytest.mark.parametrize(
    ("faster", "slower", "history"),
    [
        ("RUNNING", "RUNNING", [S.RUNNING]),
        ("RUNNING", "COMPLETED", [S.RUNNING, S.COMPLETED]),
        ("RUNNING", "CANCELLED", [S.RUNNING, S.CANCELLED]),
        ("COMPLETED", "RUNNING", [S.RUNNING, S.COMPLETED]),
        ("COMPLETED", "FAILED", [S.RUNNING, S.COMPLETED]),
        ("CANCELLED", "COMPLETED", [S.CANCELLED]),
    ],
)
def test_p1_p2_p3_f21_f22_a_change_that_was_overtaken_is_decided_anew(
    world: World,
    run: PipelineRun,
    faster: str,
    slower: str,
    history: list[PipelineRunStatus],
) -> None:
    overtaken_check(world, run, faster, slower)
    assert statuses(world, run) == [S.CREATED, S.SUBMITTED, *history]


def test_p9_a_submission_that_two_lookers_resolved_is_written_once(world: World) -> None:
    world.conductor.start_faults.append(StartFault.ANSWER_LOST)
    run = world.submit()
    world.pass_time(20)
    read = world.runs.run(run.id, tenant_id="default")
    mine = world.submission.resolve(read, now=world.database.now).transition
    theirs = world.submission.resolve(read, now=world.database.now).transition
    assert mine
    assert mine == theirs

    assert len(world.runs.move([mine])) == 1
    assert len(world.runs.move([theirs])) == 0


class HeldBack:
    """Runs that another holds locked when many are written, and not any more when one waits."""

    def __init__(self, world: World, run_id: int) -> None:
        self._world = world
        self._run_id = run_id

    def move(self, transitions: Sequence[Transition], *, wait: bool = False) -> Sequence[RunEvent]:
        self._world.database.locked = set() if wait else {self._run_id}
        return self._world.runs.move(transitions, wait=wait)

    def __getattr__(self, name: str) -> object:
        return getattr(self._world.runs, name)


def test_f36_a_run_that_was_locked_is_waited_for_alone(world: World) -> None:
    held, free = world.submit(), world.submit()
    for run in (held, free):
        world.workbench.become("RUNNING", run=run.id)
    checking = replace(world.checking, runs=HeldBack(world, held.id))  # type: ignore[arg-type]
    message = CheckMessage(run_ids=(held.id, free.id), sent_at=world.time.now)

    checking.check([message], within=MINUTE)

    assert world.run(held.id).status is world.run(free.id).status is S.RUNNING
    assert {event.run_id for event in world.bus.published} == {held.id, free.id}


def test_f36_a_run_that_stays_locked_is_left_and_its_neighbours_are_written(world: World) -> None:
    held, free = world.submit(), world.submit()
    for run in (held, free):
        world.workbench.become("RUNNING", run=run.id)
    world.database.locked = {held.id}

    check(world, held.id, free.id)

    assert world.run(held.id).status is S.SUBMITTED
    assert world.run(free.id).status is S.RUNNING
    world.database.locked = set()
    check(world, held.id)
    assert world.run(held.id).status is S.RUNNING


# -- the process dies, the database goes away -----------------------------------------------------


def test_f33_without_the_database_the_check_says_so(world: World, run: PipelineRun) -> None:
    world.database.down = True
    with pytest.raises(DatabaseUnavailable):
        check(world, run.id)
    assert not world.workbench.asked


@pytest.mark.parametrize(
    "step", ["after MemoryRuns.move", "before MemoryRuns.observe", "before MemoryBus.publish"]
)
def test_p28_f33_what_was_moved_but_not_told_is_told_by_the_relay(
    world: World, run: PipelineRun, step: str
) -> None:
    world.workbench.become("COMPLETED", run=run.id)
    world.steps.strike(step, DatabaseUnavailable("gone"))
    with pytest.raises(DatabaseUnavailable):
        check(world, run.id)

    world.pass_time(10)
    world.publishing.relay()

    assert [event.version for event in world.bus.published] == [1, 2, 3, 4]


def test_the_slack_behind_a_retry_is_two_slow_answers() -> None:
    assert 2 * ANSWER_TIME <= RETRY_SLACK <= timedelta(seconds=30)
