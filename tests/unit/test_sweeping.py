"""A sweep claims shards and asks for a check of each of their active runs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import SWEEP_TIME, StartFault, World
from runs.errors import DatabaseUnavailable
from runs.messages import SHARDS, CheckMessage, TickMessage
from runs.model import Finding, PipelineRun
from runs.status import PipelineMode
from runs.sweeping import PAGE, SweepReport, pack_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runs.ports import Delayed

ALL = SweepReport(shards=256)


def tick(world: World, **parts: int) -> TickMessage:
    return TickMessage(minute=world.time.now, wave=parts.get("wave", 0))


def submitted(world: World, count: int) -> list[PipelineRun]:
    return [world.submit() for _ in range(count)]


# -- waves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "waves"),
    [
        (60, []),
        (30, [(1, 30)]),
        (20, [(1, 20), (2, 40)]),
        (15, [(1, 15), (2, 30), (3, 45)]),
        (10, [(1, 10), (2, 20), (3, 30), (4, 40), (5, 50)]),
    ],
)
def test_the_minutes_first_tick_sends_its_other_waves(
    interval: int, waves: list[tuple[int, int]]
) -> None:
    world = World(poll_interval=timedelta(seconds=interval))
    minute = world.time.now

    assert world.begin_minute() == ALL

    sent = [(message.wave, delay) for message, delay in world.tick_queue.sent]
    assert sent == waves
    assert all(message.minute == minute for message, _ in world.tick_queue.sent)
    assert all(message.shards == (0, 255) for message, _ in world.tick_queue.sent)


def test_the_waves_are_sent_before_all_else(world: World) -> None:
    world.steps.strike("before MemoryRuns.claim", DatabaseUnavailable("gone"))
    with pytest.raises(DatabaseUnavailable):
        world.begin_minute()
    assert len(world.tick_queue.sent) == 1


def test_a_later_wave_sends_no_further_ticks(world: World) -> None:
    world.begin_minute()
    world.pass_time(30)
    assert world.sweep() == [ALL]
    assert len(world.tick_queue.sent) == 1


@pytest.mark.parametrize("interval", [60, 30, 20, 15, 10])
def test_p14_an_active_run_is_asked_about_once_an_interval(interval: int) -> None:
    world = World(poll_interval=timedelta(seconds=interval))
    run = world.submit()

    world.go_on(60 + 299)

    looks = world.workbench.looks_at(str(run.workbench_job_id))
    assert looks == list(range(60, 360, interval))


# -- claims ---------------------------------------------------------------------------------------


def test_shards_are_claimed_sixteen_at_a_time(world: World) -> None:
    world.begin_minute()
    assert world.steps.trail.count("after MemoryRuns.claim") == 256 / 16


def test_a_tick_with_a_shard_range_claims_that_range_alone(world: World) -> None:
    message = TickMessage(minute=world.time.now, wave=0, shards=(10, 42))
    assert world.sweeping.sweep(message, within=SWEEP_TIME) == SweepReport(shards=33)
    assert world.begin_minute() == SweepReport(shards=256 - 33)


@pytest.mark.parametrize("times", [2, 3])
def test_f15_a_tick_fired_several_times_asks_once(world: World, times: int) -> None:
    run = world.submit()

    reports = [world.begin_minute() for _ in range(times)]

    assert reports[0] == SweepReport(shards=256, runs=1, messages=1)
    assert reports[1:] == [SweepReport()] * (times - 1)
    world.deliver()
    assert len(world.workbench.looks_at(str(run.workbench_job_id))) == 1


def test_p19_f15_ticks_at_once_share_the_shards_between_them(world: World) -> None:
    run = world.submit()
    shard = run.id % 256
    mine = TickMessage(minute=world.time.now, wave=0, shards=(0, shard))

    first = world.sweeping.sweep(mine, within=SWEEP_TIME)
    second = world.begin_minute()

    assert (first.shards, first.runs) == (shard + 1, 1)
    assert (second.shards, second.runs) == (255 - shard, 0)


@pytest.mark.parametrize(("gap", "claimed"), [(14, 0), (15, 256), (30, 256)])
def test_p14_a_shard_is_due_half_an_interval_after_its_last_sweep(
    world: World, gap: int, claimed: int
) -> None:
    world.begin_minute()
    world.pass_time(gap)
    assert world.begin_minute().shards == claimed


def test_f18_a_page_that_was_claimed_and_not_sent_is_swept_an_interval_later(
    world: World,
) -> None:
    run = world.submit()
    world.steps.strike("before MemoryCheckQueue.send")
    with pytest.raises(BaseException, match="MemoryCheckQueue"):
        world.begin_minute()
    world.pass_time(30)

    [report] = world.sweep()

    assert (report.shards, report.runs) == (256, 1)
    world.deliver()
    assert len(world.workbench.looks_at(str(run.workbench_job_id))) == 1


# -- lateness -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("late", "claimed"), [(0, 256), (45, 256), (46, 0), (600, 0)])
def test_f16_f17_a_tick_that_is_too_late_does_nothing(
    world: World, late: int, claimed: int
) -> None:
    minute = world.time.now
    world.pass_time(late)
    assert world.sweeping.begin_minute(minute, within=SWEEP_TIME).shards == claimed


@pytest.mark.parametrize(("late", "claimed"), [(75, 256), (76, 0)])
def test_f17_a_waves_nominal_time_is_its_own(world: World, late: int, claimed: int) -> None:
    message = tick(world, wave=1)
    world.pass_time(late)
    assert world.sweeping.sweep(message, within=SWEEP_TIME).shards == claimed


def test_f16_a_burst_of_late_ticks_is_one_round(world: World) -> None:
    run = world.submit()
    minutes = [world.time.now + timedelta(minutes=n) for n in range(11)]
    world.pass_time(600)

    for minute in minutes:
        world.begin_minute(minute)
    world.deliver()

    assert len(world.workbench.looks_at(str(run.workbench_job_id))) == 1


# -- which runs are due ---------------------------------------------------------------------------


def test_p20_every_active_run_is_due_whatever_its_mode_and_status(world: World) -> None:
    world.conductor.timeouts_seconds = {}
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    created, batch = world.submit(), world.submit()
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    realtime = world.submit(mode=PipelineMode.REALTIME)
    world.pass_time(20)

    world.begin_minute()

    asked = {run_id for sent in world.check_queue.sent for run_id in sent.message.run_ids}
    assert asked == {created.id, batch.id, realtime.id}


def test_p3_an_ended_run_is_not_due(world: World) -> None:
    run = world.submit()
    world.workbench.become("COMPLETED", run=run.id)
    world.go_on(61)
    assert world.run(run.id).is_terminal
    assert world.begin_minute(world.time.now + timedelta(seconds=60)).runs == 0


@pytest.mark.parametrize(("wait", "due"), [(-1, 1), (0, 1), (1, 0), (900, 0)])
def test_p20_a_backed_off_run_is_due_when_its_time_has_come(
    world: World, wait: int, due: int
) -> None:
    run = world.submit()
    back_off(world, run, seconds=wait)
    assert world.begin_minute().runs == due


def back_off(world: World, run: PipelineRun, *, seconds: int) -> None:
    next_check_at = world.time.now + timedelta(seconds=seconds)
    finding = Finding(run_id=run.id, trouble="time-out", next_check_at=next_check_at)
    world.runs.observe([finding])


def test_p18_runs_whose_last_check_failed_go_alone_by_the_retry_queue(world: World) -> None:
    healthy, troubled, other = submitted(world, 3)
    for run in (troubled, other):
        back_off(world, run, seconds=0)

    report = world.begin_minute()

    assert report == SweepReport(shards=256, runs=3, messages=3)
    assert [sent.message.run_ids for sent in world.check_queue.sent] == [(healthy.id,)]
    assert [sent.message.run_ids for sent in world.retry_queue.sent] == [
        (troubled.id,),
        (other.id,),
    ]


def test_p14_once_its_check_is_well_again_a_run_goes_with_the_others(world: World) -> None:
    run = world.submit()
    back_off(world, run, seconds=0)
    world.begin_minute()
    world.deliver()
    world.retry_queue.sent.clear()
    world.pass_time(30)

    world.sweep()

    assert [sent.message.run_ids for sent in world.check_queue.sent] == [(run.id,)]
    assert not world.retry_queue.sent


def test_a_message_says_when_the_database_sent_it_and_that_it_is_a_first_try(world: World) -> None:
    run = world.submit()
    world.database.skew = timedelta(minutes=5)

    world.begin_minute()

    [sent] = world.check_queue.sent
    assert sent.message == CheckMessage(
        run_ids=(run.id,), attempt=0, sent_at=world.time.now + timedelta(minutes=5)
    )
    assert sent.delay_seconds == 0


# -- packs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("active", "size"),
    [(0, 1), (1, 1), (100, 1), (101, 2), (200, 2), (201, 3), (5_000, 50), (5_001, 50), (10**6, 50)],
)
def test_runs_share_a_message_as_the_fleet_grows(active: int, size: int) -> None:
    assert pack_size(active) == size


@given(st.integers(0, 10**7))
def test_a_pack_holds_between_one_and_fifty_runs_and_never_makes_more_messages(
    active: int,
) -> None:
    size = pack_size(active)
    assert 1 <= size <= 50
    assert -(-active // size) <= 100 or size == 50


@pytest.mark.parametrize(("count", "messages"), [(1, 1), (50, 50), (96, 96), (256, 96), (512, 96)])
def test_a_small_fleet_is_asked_run_by_run_and_a_larger_one_in_packs(
    world: World, count: int, messages: int
) -> None:
    """256 runs are 16 to each of 16 pages, and 3 to a message: 6 messages a page."""
    submitted(world, count)

    report = world.begin_minute()

    assert (report.runs, report.messages) == (count, messages)
    asked = [run_id for sent in world.check_queue.sent for run_id in sent.message.run_ids]
    assert sorted(asked) == sorted(world.database.runs)


def test_a_page_of_which_only_some_shards_were_due_counts_these(world: World) -> None:
    """2 runs in 1 shard stand for 512: 6 to a message. In 16 shards they would stand for 32."""
    submitted(world, 257)
    rest = [shard for shard in range(16) if shard != 1]
    world.database.polled |= dict.fromkeys(rest, world.time.now)

    world.sweeping.sweep(
        TickMessage(minute=world.time.now, wave=0, shards=(0, 15)), within=SWEEP_TIME
    )

    assert [sent.message.run_ids for sent in world.check_queue.sent] == [(1, 257)]


# -- queues ---------------------------------------------------------------------------------------


def test_f19_what_could_not_be_sent_is_counted_and_left_to_the_next_sweep(world: World) -> None:
    submitted(world, 10)
    world.check_queue.refuses = 3

    report = world.begin_minute()

    assert (report.runs, report.unsent) == (10, 3)
    world.pass_time(30)
    assert [report.runs for report in world.sweep()] == [10]


def test_f20_without_queues_the_sweep_ends_all_the_same(world: World) -> None:
    submitted(world, 3)
    world.check_queue.refuses = 10**6
    assert world.begin_minute() == SweepReport(shards=256, runs=3, messages=3, unsent=3)


def test_f20_a_tick_whose_time_is_over_leaves_what_is_not_claimed_to_the_next(
    world: World,
) -> None:
    """Each page takes the queue four seconds here, and the tick has nine."""
    submitted(world, 64)
    send = world.check_queue.send

    def slowly(messages: Sequence[Delayed]) -> int:
        world.pass_time(4)
        return send(messages)

    world.check_queue.send = slowly  # type: ignore[method-assign]  # a slow queue
    minute = world.time.now

    report = world.sweeping.begin_minute(minute, within=timedelta(seconds=9))

    assert report.shards == 3 * PAGE
    world.check_queue.send = send  # type: ignore[method-assign]  # a well one
    rest = world.sweeping.begin_minute(minute, within=timedelta(seconds=9))
    assert rest.shards == SHARDS - 3 * PAGE
    assert report.runs + rest.runs == 64


def test_p20_no_run_is_forgotten_when_all_messages_are_lost(world: World) -> None:
    run = world.submit()
    world.workbench.become("COMPLETED", run=run.id)
    world.go_on(55)
    world.begin_minute()
    world.check_queue.waiting.clear()

    world.go_on(60)

    assert world.run(run.id).is_terminal
