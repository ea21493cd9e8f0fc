"""F15-F18, F43: ticks that come twice, late, in a burst or not at all, and clocks that differ."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from failpoints import CHILD, FunctionEnd, api_event, run_function
from fault_bench import POLL_INTERVAL, tick_event
from fault_proxy import statement
from function_process import Function, FunctionPool
from mapping_runner import Delivery, MappingRunner, Outcome
from poller import tick
from runs.status import PipelineRunStatus
from wired import Invocation, logged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fault_bench import Bench

SUBMITTED, COMPLETED = PipelineRunStatus.SUBMITTED, PipelineRunStatus.COMPLETED
CLAIM: Final = statement("UPDATE poll_shards SET last_polled_at")
TEN_MINUTES: Final = timedelta(minutes=10)
PAGES: Final = 16
"""Claims that a sweep makes; neighbouring runs are in different ones."""
FLEET: Final = PAGES
DIES_AT: Final = 8
"""The page at which the tick dies."""


# -- what happened --------------------------------------------------------------------------------


def looks(bench: Bench, run_id: int) -> int:
    """How often the Workbench was asked about the run's job."""
    kinds = ("status", "bulk_status")
    return sum(len(bench.workbench.calls_of(kind, run=run_id)) for kind in kinds)


def looks_at(bench: Bench, run_ids: Sequence[int]) -> list[int]:
    return [looks(bench, run_id) for run_id in run_ids]


# -- ticks, as EventBridge and the tick queue deliver them ----------------------------------------


def scheduled_event(bench: Bench, *, late: timedelta = timedelta(0)) -> dict[str, Any]:
    """Wave 0, from the schedule itself."""
    time = (bench.store.true_now() - late).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"detail-type": "Scheduled Event", "source": "aws.events", "time": time, "detail": {}}


def wave_1(bench: Bench, *, late: timedelta = timedelta(0)) -> dict[str, Any]:
    """The wave between, from the tick queue."""
    return tick_event(wave=1, minute=bench.store.true_now() - POLL_INTERVAL - late)


@pytest.fixture
def ticks(bench: Bench) -> Iterator[FunctionPool]:
    """The tick as processes; nothing of theirs is shared."""
    function = Function(
        handler="poller.tick.handler", variables=bench.environment, timeout_seconds=25
    )
    with FunctionPool(function) as pool:
        yield pool


def fire_at_once(bench: Bench, pool: FunctionPool, event: dict[str, Any], times: int) -> None:
    """Has ticks claim the same page at one moment: each waits until all are there."""
    begun = len(bench.to_database.calls_of(CLAIM))
    with ThreadPoolExecutor(times) as side_by_side, ExitStack() as gate:
        gate.enter_context(bench.to_database.hold(CLAIM))
        ends = [side_by_side.submit(pool.invoke, event) for _ in range(times)]
        bench.to_database.wait_for_calls(CLAIM, count=begun + times)
        gate.close()
        for end in ends:
            end.result()


@pytest.mark.parametrize("times", [2, 3])
def test_f15_p19_however_often_a_tick_fires_at_once_no_run_is_checked_twice_in_its_interval(
    bench: Bench, ticks: FunctionPool, times: int
) -> None:
    runs = bench.fleet(FLEET)
    bench.workbench.become("RUNNING")
    ticks.warm(times)

    fire_at_once(bench, ticks, scheduled_event(bench), times)
    bench.deliver()
    assert looks_at(bench, runs) == [1] * FLEET

    bench.move_time(POLL_INTERVAL)
    fire_at_once(bench, ticks, wave_1(bench), times)
    bench.deliver()
    assert looks_at(bench, runs) == [2] * FLEET
    assert len(ticks.environments) == times


def test_f16_p21_a_burst_of_ticks_after_ten_minutes_without_any_is_one_round(
    bench: Bench, ticks: FunctionPool
) -> None:
    runs = bench.fleet(FLEET)
    bench.workbench.become("RUNNING")
    bench.sweep()
    bench.deliver()
    bench.move_time(TEN_MINUTES)
    now = bench.store.true_now()
    missed = [
        tick_event(wave=wave, minute=now - timedelta(minutes=minutes))["Records"][0]["body"]
        for minutes in range(10, -1, -1)
        for wave in (0, 1)
    ]
    for body in missed:
        bench.queues.sqs.send_message(QueueUrl=bench.queues.urls["TickQueue"], MessageBody=body)
    ticks.warm(3)
    mapping = MappingRunner(
        bench.queues.sqs,
        queue_url=bench.queues.urls["TickQueue"],
        invoke=ticks.invoke,
        batch_size=1,
        maximum_concurrency=3,
    )

    with mapping:
        mapping.drain()
    bench.deliver()

    assert mapping.most_in_flight > 1
    assert [batch.outcome for batch in mapping.batches] == [Outcome.SUCCEEDED] * len(missed)
    assert looks_at(bench, runs) == [2] * FLEET  # That before, and one: the steady rate.
    bench.let_an_interval_pass()
    assert looks_at(bench, runs) == [3] * FLEET


@pytest.mark.parametrize("event", [scheduled_event, wave_1])
def test_f17_p19_a_tick_that_is_ten_minutes_late_asks_for_nothing(
    bench: Bench, event: Callable[..., dict[str, Any]]
) -> None:
    [run_id] = bench.fleet(1)

    with bench.functions(), logged() as log:
        tick.handler(event(bench, late=TEN_MINUTES), Invocation(seconds_left=25))

    [swept] = [line for line in log.lines if line["message"] == "swept"]
    assert (swept["shards"], swept["messages"]) == (0, 0)
    assert bench.sent("CheckQueue") == bench.sent("RetryQueue") == []
    assert bench.deliver() == []
    assert looks(bench, run_id) == 0
    bench.sweep()  # It has taken nothing from the tick that is in time.
    bench.deliver()
    assert looks(bench, run_id) == 1


def test_f17_p19_a_check_that_is_ten_minutes_late_is_dropped(bench: Bench) -> None:
    [run_id] = bench.fleet(1)
    bench.sweep()
    mapping = bench.runner("CheckQueue", deliveries=lambda _: Delivery.HELD)
    assert mapping.deliver() == ()
    bench.move_time(TEN_MINUTES)

    mapping.release()
    with bench.functions():
        [late] = mapping.deliver()

    assert late.outcome is Outcome.SUCCEEDED
    assert mapping.is_empty
    assert bench.queues.texts("CheckDlq") == []
    assert looks(bench, run_id) == 0
    run = bench.run(run_id)
    assert (run.status, run.observation.last_checked_at) == (SUBMITTED, None)
    bench.until(run_id, COMPLETED, intervals=2)


@pytest.mark.parametrize(
    ("place", "unsent"),
    [
        pytest.param(f"after runs.claim#{DIES_AT}", [DIES_AT], id="claimed and nothing sent"),
        pytest.param(f"after check_queue.send#{DIES_AT}", [], id="claimed and sent"),
    ],
)
def test_f18_p20_what_a_tick_that_dies_in_mid_fan_out_left_is_swept_within_two_intervals(
    bench: Bench, place: str, unsent: list[int]
) -> None:
    runs = bench.fleet(FLEET)
    bench.workbench.become("RUNNING")
    end = run_function(
        "poller.tick.handler", tick_event(), bench.environment, failpoints=f"{place}=exit"
    )
    assert end.died
    assert end.struck == [f"{place}=exit"]
    bench.deliver()

    def page(run_id: int) -> int:
        return run_id % PAGES + 1

    sent = [1 if page(run_id) <= DIES_AT and page(run_id) not in unsent else 0 for run_id in runs]
    assert looks_at(bench, runs) == sent

    bench.let_an_interval_pass()

    assert looks_at(bench, runs) == [before + 1 for before in sent]
    assert {bench.run(run_id).observation.consecutive_failures for run_id in runs} == {0}


# -- clocks ---------------------------------------------------------------------------------------

OTHER_CLOCK: Final = '''
"""Imported when Python starts: this process has another time of day."""

import datetime
import os
import time

OFF = float(os.environ["CLOCK_OFF_SECONDS"])
true_datetime, true_time, true_time_ns = datetime.datetime, time.time, time.time_ns


class AlsoTheTrueOnes(type):
    def __instancecheck__(cls, value):
        return isinstance(value, true_datetime)


class OtherDatetime(true_datetime, metaclass=AlsoTheTrueOnes):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)


time.time = lambda: true_time() + OFF
time.time_ns = lambda: true_time_ns() + int(OFF * 1e9)
datetime.datetime = OtherDatetime
os.write(2, f"clock: {OtherDatetime.now(datetime.timezone.utc)}\\n".encode())
'''


CLOCK: Final = "clock: "


class Clocks:
    """Runs functions, each in a process with a clock of its own."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        (folder / "sitecustomize.py").write_text(OTHER_CLOCK)
        self._bench = bench
        self._folder = folder

    def run(self, handler: str, event: object, off: timedelta) -> FunctionEnd:
        """Calls a handler whose clock is off by so much; its log shows that it is."""
        variables = self._bench.environment | {
            "PYTHONPATH": os.pathsep.join([str(self._folder), CHILD["PYTHONPATH"]]),
            "CLOCK_OFF_SECONDS": str(off.total_seconds()),
        }
        before = self._bench.store.true_now()
        end = run_function(handler, event, variables)
        assert end.exit_code == 0, end.log
        [told] = [line for line in end.log.splitlines() if line.startswith(CLOCK)]
        shown = datetime.fromisoformat(told.removeprefix(CLOCK)) - before
        assert abs(shown - off) < timedelta(minutes=1)
        return end


@pytest.mark.parametrize("ahead", [TEN_MINUTES, -TEN_MINUTES], ids=["ahead", "behind"])
def test_f43_p5_functions_whose_clocks_are_ten_minutes_apart_see_one_time(
    bench: Bench, tmp_path: Path, ahead: timedelta
) -> None:
    clocks = Clocks(bench, tmp_path)
    begun_at = bench.store.true_now()
    post = api_event("POST", "/pipeline-run", bench.wish(), headers={"Prefer": "respond-async"})
    answer = clocks.run("api.app.app", post, ahead / 2).answer
    assert answer["statusCode"] == 202, answer
    run_id = json.loads(answer["body"])["id"]

    runner = bench.runner(
        "CheckQueue",
        lambda event: clocks.run("poller.check.handler", event, -ahead / 2).answer,
    )
    [submitted] = runner.deliver()
    assert submitted.outcome is Outcome.SUCCEEDED
    assert bench.run(run_id).status is SUBMITTED
    bench.workbench.become("COMPLETED", run=run_id)
    clocks.run("poller.tick.handler", tick_event(minute=bench.store.true_now()), ahead / 2)
    [checked] = runner.deliver()
    assert checked.outcome is Outcome.SUCCEEDED

    run = bench.run(run_id)
    assert run.status is COMPLETED
    assert run.started_at
    assert run.completed_at
    assert run.observation.last_checked_at
    moments = [begun_at, run.created_at, run.started_at, run.completed_at, bench.store.true_now()]
    assert moments == sorted(moments)
    assert begun_at < run.observation.last_checked_at < moments[-1]
    for message in bench.sent("CheckQueue"):
        assert begun_at < message.message.sent_at < moments[-1]
