"""The circuit breaker: a Workbench that answers nobody is spared, and nobody is FAILED for it."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from fakes import SWEEP_TIME, WORKBENCH_URL, StartFault, World
from runs.checking import CheckReport
from runs.errors import DatabaseUnavailable
from runs.messages import CheckMessage, TickMessage
from runs.ports import Breaker, NoAnswer
from runs.status import PipelineRunStatus
from runs.sweeping import PROBE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runs.model import PipelineRun

S = PipelineRunStatus
MINUTE = timedelta(minutes=1)
DOWN = NoAnswer(reason="The Workbench answered 503")
UNKNOWN = NoAnswer(reason="The Workbench answered 404: no such job", unknown_job=True)
INTERVAL = 30
PROBES = INTERVAL // PROBE_SECONDS
SHARD_HALVES = ((0, 127), (128, 255))


def submitted(world: World, count: int) -> list[PipelineRun]:
    return [world.submit() for _ in range(count)]


def check(world: World, runs: Sequence[PipelineRun], *, attempt: int = 0) -> CheckReport:
    """One message about each, just sent, in one batch."""
    now = world.database.now
    messages = [CheckMessage(run_ids=(run.id,), attempt=attempt, sent_at=now) for run in runs]
    return world.checking.check(messages, within=MINUTE)


def breaker(world: World) -> Breaker:
    """As it is now."""
    return world.database.breakers.get(WORKBENCH_URL, Breaker())


def is_open(world: World) -> bool:
    return breaker(world).opened_at is not None


def in_an_outage(world: World, count: int) -> list[PipelineRun]:
    """Runs in trouble, and an open breaker, right after a sweep and its first probe."""
    runs = submitted(world, count)
    world.workbench.down = DOWN
    world.go_on(240)
    world.go_on(1)
    assert is_open(world)
    assert all(world.run(run.id).next_check_at for run in runs)
    return runs


def calls(world: World, since: float, until: float) -> int:
    """How often the Workbench was asked about a job from then on, until before then."""
    return sum(len(jobs) for at, jobs in world.workbench.asked if since <= at < until)


def statuses(world: World, runs: Sequence[PipelineRun]) -> set[PipelineRunStatus]:
    return {world.run(run.id).status for run in runs}


# -- when it opens --------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "opens"), [(0, False), (59, False), (60, True), (600, True)])
def test_f32_it_opens_once_no_valid_answer_has_come_for_a_minute(
    world: World, seconds: int, *, opens: bool
) -> None:
    runs = submitted(world, 3)
    world.workbench.down = DOWN
    check(world, runs)
    world.pass_time(seconds)

    check(world, runs)

    assert is_open(world) is opens


@pytest.mark.parametrize(
    ("active", "failing", "opens"),
    [
        (1, 1, True),
        (2, 1, False),
        (2, 2, True),
        (9, 8, False),
        (9, 9, True),
        (10, 9, False),
        (10, 10, True),
        (40, 9, False),
        (40, 10, True),
    ],
)
def test_f25_f32_it_takes_ten_runs_in_trouble_or_all_of_them(
    world: World, active: int, failing: int, *, opens: bool
) -> None:
    """Of the others nothing is known either way."""
    runs = submitted(world, active)
    world.workbench.down = DOWN
    check(world, runs[:failing])
    world.pass_time(60)

    check(world, runs[:failing])

    assert is_open(world) is opens


def test_f32_runs_without_a_job_and_runs_that_have_ended_do_not_count(world: World) -> None:
    runs = submitted(world, 2)
    done = world.submit()
    world.workbench.become("COMPLETED", run=done.id)
    check(world, [done])
    world.pass_time(5)
    world.submit(respond_async=True)
    world.workbench.down = DOWN
    check(world, runs)
    world.pass_time(60)

    check(world, runs)

    assert is_open(world)


def test_f25_f32_a_few_runs_always_in_trouble_never_open_it_while_another_is_answered(
    world: World,
) -> None:
    troubled, healthy = submitted(world, 15), world.submit()
    for run in troubled:
        world.workbench.answer_with(DOWN, run=run.id)

    for _ in range(60):
        world.go_on(30)
        assert not is_open(world)

    assert world.run(healthy.id).observation.consecutive_failures == 0
    assert statuses(world, troubled) == {S.SUBMITTED}


def test_f25_f32_one_batch_with_a_valid_answer_among_failures_is_no_failure(world: World) -> None:
    runs = submitted(world, 20)
    for run in runs[1:]:
        world.workbench.answer_with(DOWN, run=run.id)
    for _ in range(10):
        check(world, runs)
        world.pass_time(30)
    assert breaker(world).failing_since is None
    assert not is_open(world)


def test_f25_404_about_the_only_job_there_is_does_not_open_it(world: World) -> None:
    run = world.submit()
    world.workbench.answer_with(UNKNOWN, run=run.id)
    world.go_on(600)
    assert not is_open(world)


def test_f25_404_about_every_one_of_several_jobs_opens_it(world: World) -> None:
    for run in submitted(world, 2):
        world.workbench.answer_with(UNKNOWN, run=run.id)
    world.go_on(600)
    assert is_open(world)


def test_f24_f30_answers_that_mean_nothing_are_no_valid_answers(world: World) -> None:
    runs = submitted(world, 3)
    for run in runs:
        world.workbench.become("MELTED", run=run.id)
    world.go_on(240)
    assert is_open(world)
    assert statuses(world, runs) == {S.SUBMITTED}


def test_f2_trouble_with_conductor_is_not_the_workbenchs(world: World) -> None:
    world.conductor.start_faults.extend([StartFault.UNCLEAR] * 12)
    submitted(world, 12)
    world.conductor.down = True
    world.go_on(200)
    assert world.database.breakers == {}


def test_f32_an_answer_closes_it_and_the_minute_begins_anew(world: World) -> None:
    runs = in_an_outage(world, 3)
    world.workbench.down = None
    check(world, runs[:1])
    assert not is_open(world)
    assert (breaker(world).closed_at, breaker(world).last_valid_at) == (world.time.now,) * 2
    world.workbench.down = DOWN
    world.pass_time(30)
    check(world, runs)
    world.pass_time(59)
    check(world, runs)
    assert not is_open(world)
    world.pass_time(1)

    check(world, runs)

    assert is_open(world)


def test_f32_failures_within_seconds_of_an_answer_are_not_counted_against_it(world: World) -> None:
    """Batches run side by side: one may have failed while another was answered."""
    runs = submitted(world, 3)
    check(world, runs[:1])
    world.workbench.answer_with(DOWN, run=runs[1].id)

    check(world, runs[1:2])

    assert breaker(world).failing_since is None


def test_f32_a_check_writes_to_the_breaker_only_what_is_news(world: World) -> None:
    runs = submitted(world, 3)
    for run in runs:
        check(world, [run])
    assert world.steps.trail.count("before MemoryBreakers.answered") == 1
    world.pass_time(30)
    check(world, runs)
    assert world.steps.trail.count("before MemoryBreakers.answered") == 2


# -- while it is open -----------------------------------------------------------------------------


def test_f32_of_runs_in_trouble_only_probes_are_asked_about_one_each_five_seconds(
    world: World,
) -> None:
    in_an_outage(world, 20)
    began = world.time()

    world.go_on(300)

    looks = [at for at, _ in world.workbench.asked if at >= began]
    assert looks == sorted(looks)
    assert all(later - sooner == 5 for sooner, later in pairwise(looks))
    assert len(looks) == 300 / PROBE_SECONDS


def test_f32_a_sweeps_probes_are_spread_over_its_interval(world: World) -> None:
    runs = submitted(world, 8)
    world.workbench.down = DOWN
    check(world, runs, attempt=2)
    world.pass_time(60)
    check(world, runs, attempt=2)
    assert is_open(world)
    assert not world.retry_queue.sent

    report = world.begin_minute()

    assert (report.runs, report.messages) == (8, PROBES)
    assert not world.check_queue.sent
    sent = world.retry_queue.sent
    assert [one.delay_seconds for one in sent] == [0, 5, 10, 15, 20, 25]
    assert all(len(one.message.run_ids) == 1 for one in sent)
    # None is too old when it comes, though an interval is as long as a message lives.
    delays = [timedelta(seconds=one.delay_seconds) for one in sent]
    assert [one.message.sent_at - world.time.now for one in sent] == delays


def test_p20_f32_each_of_many_runs_in_trouble_is_probed_in_turn(world: World) -> None:
    runs = in_an_outage(world, 20)
    began = world.time()

    # 20 runs and 6 probes to a sweep: after 4 sweeps everyone has had a turn, and after 8 two.
    world.go_on(8 * INTERVAL)

    probed = [
        [at for at in world.workbench.looks_at(str(run.workbench_job_id)) if at >= began]
        for run in runs
    ]
    assert {len(looks) for looks in probed} <= {2, 3}
    assert max(looks[0] for looks in probed) < began + 4 * INTERVAL


def test_p20_f32_the_run_that_was_asked_least_lately_is_probed_first(world: World) -> None:
    runs = submitted(world, 8)
    world.workbench.down = DOWN
    check(world, runs)
    world.pass_time(60)
    for run in reversed(runs):
        check(world, [run], attempt=2)
        world.pass_time(1)
    world.retry_queue.sent.clear()
    assert is_open(world)

    world.begin_minute()

    probed = [one.message.run_ids[0] for one in world.retry_queue.sent]
    assert probed == [run.id for run in reversed(runs)][:PROBES]


def test_f32_there_are_no_retries(world: World) -> None:
    runs = in_an_outage(world, 20)
    world.retry_queue.sent.clear()

    assert check(world, runs[:5]) == CheckReport(asked=5, troubled=5)

    assert not world.retry_queue.sent
    assert {world.run(run.id).next_check_at for run in runs[:5]} == {world.time.now}


def test_f26_f32_a_retry_after_is_honoured_by_probes_too(world: World) -> None:
    [run] = in_an_outage(world, 1)
    world.workbench.down = NoAnswer(reason="429", retry_after=timedelta(seconds=300))
    check(world, [run])
    began = world.time()

    world.go_on(400)

    looks = [at for at in world.workbench.looks_at("job-1") if at > began]
    assert began + 300 <= looks[0] <= began + 300 + INTERVAL + 25


def test_p14_f32_healthy_runs_are_asked_about_as_ever(world: World) -> None:
    in_an_outage(world, 12)
    fresh = world.submit()  # The Workbench still takes jobs; it only can't tell of them.
    began = world.time()

    world.go_on(INTERVAL)

    assert any(at >= began for at in world.workbench.looks_at("job-13"))
    assert world.run(fresh.id).observation.consecutive_failures == 1
    assert is_open(world)


def test_p11_f32_runs_without_a_job_are_resolved_as_ever(world: World) -> None:
    in_an_outage(world, 12)
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    waiting = world.submit()
    world.conductor.blind = True
    world.go_on(60)
    assert world.run(waiting.id).next_check_at
    world.conductor.blind = False

    world.go_on(61)

    assert world.run(waiting.id).status is S.SUBMITTED
    assert is_open(world)


def test_p23_f32_a_run_to_be_cancelled_is_asked_about_each_interval(world: World) -> None:
    runs = in_an_outage(world, 20)
    world.cancel(runs[0].id)
    began = world.time()

    world.go_on(4 * INTERVAL)

    looks = [at for at in world.workbench.looks_at("job-1") if at >= began]
    assert len(looks) >= 4
    assert world.run(runs[0].id).status is S.SUBMITTED


def test_f15_f32_two_sweeps_at_once_send_probes_once(world: World) -> None:
    in_an_outage(world, 20)
    world.retry_queue.waiting.clear()
    world.tick_queue.waiting.clear()
    world.pass_time(60)
    world.retry_queue.sent.clear()
    halves = [TickMessage(minute=world.time.now, wave=0, shards=half) for half in SHARD_HALVES]

    reports = [world.sweeping.sweep(half, within=SWEEP_TIME) for half in halves]

    assert [report.shards for report in reports] == [128, 128]
    assert [report.messages for report in reports] == [PROBES, 0]
    assert len(world.retry_queue.sent) == PROBES


@pytest.mark.parametrize("times", [2, 3])
def test_f15_f32_a_tick_fired_several_times_sends_probes_once(world: World, times: int) -> None:
    in_an_outage(world, 20)
    world.retry_queue.waiting.clear()
    world.pass_time(60)
    world.retry_queue.sent.clear()

    for _ in range(times):
        world.begin_minute()

    assert len(world.retry_queue.sent) == PROBES


def test_f17_f32_a_tick_that_is_too_late_sends_no_probes(world: World) -> None:
    in_an_outage(world, 20)
    world.retry_queue.waiting.clear()
    minute = world.time.now
    world.pass_time(60)
    world.retry_queue.sent.clear()

    world.begin_minute(minute)

    assert not world.retry_queue.sent


def test_f19_f32_probes_that_could_not_be_sent_are_counted_and_come_with_the_next_sweep(
    world: World,
) -> None:
    in_an_outage(world, 20)
    world.retry_queue.waiting.clear()
    world.pass_time(60)
    world.retry_queue.refuses = 4

    report = world.begin_minute()

    assert (report.messages, report.unsent) == (PROBES, 4)
    world.retry_queue.sent.clear()
    world.go_on(60)
    assert len(world.retry_queue.sent) >= PROBES


def test_a_closed_breaker_gives_no_probes(world: World) -> None:
    submitted(world, 3)
    assert not world.breakers.probes(WORKBENCH_URL, most=6, every=timedelta(seconds=15))


# -- how it ends ----------------------------------------------------------------------------------


def test_p11_p18_a_breaker_that_cannot_be_told_holds_up_nobody(world: World) -> None:
    asked = world.submit()
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    unresolved = world.submit()
    world.pass_time(25)
    error = DatabaseUnavailable("the row is locked")
    world.steps.strike("before MemoryBreakers.answered", error)
    messages = [CheckMessage(run_ids=(asked.id, unresolved.id), sent_at=world.time.now)]

    world.checking.check(messages, within=timedelta(minutes=1))

    assert world.run(unresolved.id).status is S.SUBMITTED


@pytest.mark.parametrize("after", [0, 3, 14, 26, 29])
def test_p15_f32_every_run_is_told_within_two_sweeps_of_the_recovery(
    world: World, after: int
) -> None:
    runs = in_an_outage(world, 40)
    world.go_on(after or 0.5)
    world.workbench.down = None
    for run in runs:
        world.workbench.become("COMPLETED", run=run.id)

    world.go_on(2 * INTERVAL + 1)

    assert statuses(world, runs) == {S.COMPLETED}
    assert not is_open(world)


@pytest.mark.parametrize("count", [40, 250])
def test_p21_f32_after_ten_minutes_nobody_failed_and_the_workbench_is_not_overrun(
    world: World, count: int
) -> None:
    runs = submitted(world, count)
    began = 120.0
    world.go_on(began - world.time())
    world.workbench.down = DOWN
    while world.time() < began + 600:
        world.go_on(5)
        waiting = len(world.check_queue.waiting) + len(world.retry_queue.waiting)
        assert waiting <= 2 * count
    ended = world.time()
    world.workbench.down = None

    world.go_on(5 * INTERVAL)

    assert statuses(world, runs) == {S.SUBMITTED}
    assert all(len(world.history(run.id)) == 2 for run in runs)
    # Until it opens each run is tried three times an interval; from then on there are probes.
    assert calls(world, began, began + 90) <= 3 * 3 * count
    assert calls(world, began + 120, ended) <= (600 - 120) / PROBE_SECONDS + 1
    for interval in range(5):
        since = ended + interval * INTERVAL
        assert calls(world, since, since + INTERVAL) <= 1.2 * count
    # The last two of them are as ever.
    assert calls(world, ended + 3 * INTERVAL, ended + 4 * INTERVAL) == count
    assert not [run for run in runs if world.run(run.id).observation.consecutive_failures]


def test_f32_an_outage_is_over_for_those_that_were_not_asked_meanwhile_too(world: World) -> None:
    runs = in_an_outage(world, 40)
    world.go_on(600)
    world.workbench.down = None
    world.go_on(3 * INTERVAL)
    assert {world.run(run.id).next_check_at for run in runs} == {None}


def test_f32_the_sweep_right_after_the_recovery_asks_for_half_of_a_pages_runs_in_trouble(
    world: World,
) -> None:
    """A page of 16 shards holds 4 of 64 runs."""
    runs = submitted(world, 64)
    world.workbench.down = DOWN
    check(world, runs, attempt=2)
    world.pass_time(60)
    check(world, runs, attempt=2)
    world.workbench.down = None
    check(world, [world.submit()])
    assert not is_open(world)
    world.pass_time(29)

    world.begin_minute()
    first = {one.message.run_ids[0] for one in world.retry_queue.sent}
    world.deliver()
    world.pass_time(30)
    world.retry_queue.sent.clear()
    world.sweep()
    second = {one.message.run_ids[0] for one in world.retry_queue.sent}

    assert len(first) == len(second) == 32
    assert first | second == {run.id for run in runs}


# -- what may go wrong with it --------------------------------------------------------------------


def test_p3_p19_messages_that_come_again_or_late_while_it_is_open_harm_nothing(
    world: World,
) -> None:
    runs = in_an_outage(world, 12)
    doubled = [one.message for one in world.retry_queue.sent[-6:]]
    world.go_on(30)
    world.workbench.down = None

    for _ in range(2):
        world.checking.check(doubled, within=MINUTE)
    world.go_on(90)

    assert statuses(world, runs) == {S.SUBMITTED}
    assert not is_open(world)


@pytest.mark.parametrize("step", ["failed", "answered"])
def test_f33_what_a_check_saw_is_written_before_the_breaker_is_told(
    world: World, step: str
) -> None:
    runs = submitted(world, 3)
    world.workbench.down = DOWN if step == "failed" else None
    world.steps.strike(f"before MemoryBreakers.{step}")

    with pytest.raises(BaseException, match=step):
        check(world, runs)

    seen = [world.run(run.id).observation for run in runs]
    assert all(one.consecutive_failures or one.last_checked_at for one in seen)


def test_f43_the_breakers_time_is_the_databases(world: World) -> None:
    runs = submitted(world, 3)
    world.workbench.down = DOWN
    check(world, runs)
    world.database.skew = timedelta(minutes=10)
    check(world, runs)
    assert is_open(world)
    assert breaker(world).opened_at == world.database.now
