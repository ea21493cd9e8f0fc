"""The poller's handlers: what Lambda hands them, what they do with it, and what they log."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from fakes import Course, World
from poller import check, hunt, relay, tick
from runs.errors import DatabaseUnavailable, SubmissionFailed
from runs.messages import CheckMessage, TickMessage
from runs.metrics import Metric
from runs.ports import CallEnd, NoAnswer
from runs.status import PipelineRunStatus
from runs.wiring import using
from wired import (
    CHECK_QUEUE,
    ENVIRONMENT,
    QUEUE_ARN,
    RETRY_QUEUE,
    TICK_QUEUE,
    Invocation,
    Log,
    WorldWiring,
    logged,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SUBMITTED, RUNNING = PipelineRunStatus.SUBMITTED, PipelineRunStatus.RUNNING
CANARY = "canary-5ec2e7"


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with using(WorldWiring(world)):
        yield world


@pytest.fixture
def log() -> Iterator[Log]:
    with logged() as log:
        yield log


def scheduled(time: str = "2026-03-01T12:00:00Z") -> dict[str, Any]:
    """What EventBridge's rule sends."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": time,
        "region": "eu-west-2",
        "resources": ["arn:aws:events:eu-west-2:000000000000:rule/every-minute"],
        "detail": {},
    }


def delivered(queue: str, *bodies: str) -> dict[str, Any]:
    """What a queue's mapping sends."""
    records = [
        {
            "messageId": f"message-{number}",
            "receiptHandle": f"handle-{number}",
            "body": body,
            "attributes": {"ApproximateReceiveCount": "1"},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": QUEUE_ARN + queue,
            "awsRegion": "eu-west-2",
        }
        for number, body in enumerate(bodies, start=1)
    ]
    return {"Records": records}


def asking(world: World, *run_ids: int, attempt: int = 0) -> str:
    """A check message that was sent just now."""
    return CheckMessage(run_ids=run_ids, attempt=attempt, sent_at=world.time.now).to_json()


def run_check(
    *bodies: str, queue: str = CHECK_QUEUE, seconds_left: float = 30
) -> list[dict[str, str]]:
    """The failures that the check reports for a batch of these bodies."""
    context = Invocation(seconds_left=seconds_left)
    answer = check.handler(delivered(queue, *bodies), context)
    assert answer.keys() == {"batchItemFailures"}
    failures: list[dict[str, str]] = answer["batchItemFailures"]
    return failures


# -- tick -----------------------------------------------------------------------------------------


def test_a_scheduled_event_is_wave_0_of_its_minute(world: World) -> None:
    run = world.submit()
    tick.handler(scheduled(), Invocation())
    ((wave, delay),) = world.tick_queue.sent
    assert (wave.minute, wave.wave, delay) == (world.time.now.replace(microsecond=0), 1, 30)
    (sent,) = world.check_queue.sent
    assert sent.message.run_ids == (run.id,)


@pytest.mark.parametrize(
    ("seconds", "delays"),
    [
        (60, []),
        (30, [30]),
        (20, [20, 40]),
        (15, [15, 30, 45]),
        (10, [10, 20, 30, 40, 50]),
    ],
)
def test_a_minute_has_as_many_waves_as_the_interval_asks_for(
    world: World, seconds: int, delays: list[int]
) -> None:
    with using(WorldWiring(world, {**ENVIRONMENT, "POLL_INTERVAL_SECONDS": str(seconds)})):
        tick.handler(scheduled(), Invocation())
    assert [delay for _, delay in world.tick_queue.sent] == delays
    assert [wave.wave for wave, _ in world.tick_queue.sent] == list(range(1, len(delays) + 1))


def test_a_tick_message_sweeps_and_sends_no_further_ticks(world: World) -> None:
    world.submit()
    wave = TickMessage(minute=world.time.now, wave=1)
    tick.handler(delivered(TICK_QUEUE, wave.to_json()), Invocation())
    assert len(world.check_queue.sent) == 1
    assert not world.tick_queue.sent


def test_f17_a_tick_that_is_late_does_nothing(world: World) -> None:
    world.submit()
    late = world.time.now - timedelta(minutes=10)
    tick.handler(delivered(TICK_QUEUE, TickMessage(minute=late, wave=1).to_json()), Invocation())
    assert not world.check_queue.sent


@pytest.mark.parametrize("body", ["", "{", "[]", '{"v": 2}', '{"v": 1, "wave": 1}'])
def test_a_tick_message_that_cannot_be_read_is_dropped_and_told(
    world: World, log: Log, body: str
) -> None:
    wave = TickMessage(minute=world.time.now, wave=1)
    world.submit()
    log.forget()
    tick.handler(delivered(TICK_QUEUE, body, wave.to_json()), Invocation())
    assert len(world.check_queue.sent) == 1
    assert [line["message"] for line in log.lines] == ["tick_unreadable", "swept"]


def test_a_tick_without_a_database_is_over(world: World, log: Log) -> None:
    world.database.down = True
    tick.handler(scheduled(), Invocation())
    wave = TickMessage(minute=world.time.now, wave=1)
    tick.handler(delivered(TICK_QUEUE, wave.to_json()), Invocation())
    assert [line["message"] for line in log.lines] == ["tick_without_database"] * 2
    # The minute's later waves were sent before: they find it up again, perhaps.
    assert len(world.tick_queue.sent) == 1


def test_f15_a_tick_that_comes_twice_asks_for_each_check_once(world: World) -> None:
    world.submit()
    tick.handler(scheduled(), Invocation())
    tick.handler(scheduled(), Invocation())
    assert len(world.check_queue.sent) == 1


# -- check ----------------------------------------------------------------------------------------


def test_a_batch_looks_at_every_run_that_its_messages_name(world: World) -> None:
    for _ in range(3):
        world.workbench.become("RUNNING", run=world.submit().id)
    assert run_check(asking(world, 1, 2), asking(world, 3)) == []
    assert {world.run(number).status for number in (1, 2, 3)} == {RUNNING}


def test_the_same_handler_serves_the_retry_queue(world: World) -> None:
    world.workbench.become("RUNNING", run=world.submit().id)
    assert run_check(asking(world, 1, attempt=1), queue=RETRY_QUEUE) == []
    assert world.run(1).status is RUNNING


@pytest.mark.parametrize("queue", [CHECK_QUEUE, RETRY_QUEUE])
@pytest.mark.parametrize(
    "body",
    [
        "",
        "not json",
        "[]",
        '{"v": 2, "run_ids": [1], "attempt": 0, "sent_at": "2026-03-01T12:00:00+00:00"}',
        '{"v": 1, "run_ids": ["1"], "attempt": 0, "sent_at": "2026-03-01T12:00:00+00:00"}',
        '{"v": 1, "run_ids": [1], "attempt": 0, "sent_at": "2026-03-01T12:00:00"}',
        "[" * 100_000,
        "\0" * 262_144,
    ],
)
def test_f40_a_poison_message_alone_is_reported_and_released_and_its_neighbours_are_done(
    world: World, body: str, queue: str
) -> None:
    world.workbench.become("RUNNING", run=world.submit().id)
    world.workbench.become("RUNNING", run=world.submit().id)
    failures = run_check(asking(world, 1), body, asking(world, 2), queue=queue)
    assert failures == [{"itemIdentifier": "message-2"}]
    source = {CHECK_QUEUE: world.check_queue, RETRY_QUEUE: world.retry_queue}[queue]
    assert source.released == ["handle-2"]
    assert world.run(1).status is world.run(2).status is RUNNING
    assert world.meter.figures(Metric.MESSAGES_UNREADABLE) == [1]


def test_nothing_else_is_ever_released(world: World) -> None:
    world.submit()
    run_check(asking(world, 1), asking(world, 99))
    assert not world.check_queue.released
    assert not world.retry_queue.released
    assert world.meter.figures(Metric.MESSAGES_UNREADABLE) == []


def test_f40_runs_that_are_not_there_are_dropped(world: World) -> None:
    world.workbench.become("RUNNING", run=world.submit().id)
    assert run_check(asking(world, 1, 77)) == []
    assert world.run(1).status is RUNNING


def test_trouble_of_one_run_fails_no_message(world: World) -> None:
    world.submit()
    world.workbench.answer_with(NoAnswer(reason="The Workbench answered 503"), run=1)
    assert run_check(asking(world, 1)) == []
    (retry,) = world.retry_queue.sent
    assert (retry.message.run_ids, retry.message.attempt, retry.delay_seconds) == ((1,), 1, 5)


def test_f33_without_a_database_the_batch_is_acknowledged(world: World, log: Log) -> None:
    world.submit()
    body = asking(world, 1)
    log.forget()
    world.database.down = True
    assert run_check(body) == []
    (line,) = log.lines
    assert (line["level"], line["message"]) == ("WARNING", "check_without_database")


def test_a_poison_message_is_reported_without_a_database_too(world: World) -> None:
    world.database.down = True
    assert run_check("{") == [{"itemIdentifier": "message-1"}]
    assert world.check_queue.released == ["handle-1"]


def test_f33_a_database_that_goes_away_in_between_changes_nothing_of_that(world: World) -> None:
    world.workbench.become("RUNNING", run=world.submit().id)
    world.steps.strike("before MemoryRuns.move", DatabaseUnavailable("gone"))
    assert run_check(asking(world, 1)) == []
    assert world.run(1).status is SUBMITTED


def test_f17_messages_older_than_an_interval_are_dropped(world: World) -> None:
    world.workbench.become("RUNNING", run=world.submit().id)
    old = asking(world, 1)
    world.pass_time(31)
    assert run_check(old) == []
    assert world.run(1).status is SUBMITTED
    assert not world.workbench.asked


def test_f39_a_batch_stops_before_its_function_is_stopped(world: World) -> None:
    world.workbench.become("RUNNING", run=world.submit().id)
    assert run_check(asking(world, 1), seconds_left=9) == []
    assert world.run(1).status is SUBMITTED
    assert run_check(asking(world, 1), seconds_left=11) == []
    assert world.run(1).status is RUNNING


def test_p11_a_run_of_which_nothing_is_known_is_resolved(world: World) -> None:
    run = world.submit(respond_async=True)
    (sent,) = world.check_queue.sent
    assert run_check(sent.message.to_json()) == []
    assert world.run(run.id).status is SUBMITTED
    assert world.run(run.id).workbench_job_id == "job-1"


# -- relay ----------------------------------------------------------------------------------------


def test_p28_the_relay_sends_what_was_left(world: World, log: Log) -> None:
    world.bus.down = True
    world.submit()
    world.bus.down = False
    world.pass_time(60)
    log.forget()
    relay.handler(scheduled(), Invocation())
    assert [(event.run_id, event.version) for event in world.bus.published] == [(1, 1), (1, 2)]
    (line,) = log.lines
    assert (line["message"], line["count"]) == ("relayed", 2)


def test_a_relay_with_nothing_to_do_is_silent(world: World, log: Log) -> None:
    relay.handler(scheduled(), Invocation())
    assert not world.bus.published
    assert log.lines == []


def test_a_relay_without_a_database_waits_for_the_next(world: World, log: Log) -> None:
    world.database.down = True
    relay.handler(scheduled(), Invocation())
    (line,) = log.lines
    assert (line["level"], line["message"]) == ("WARNING", "relay_without_database")


# -- hunt -----------------------------------------------------------------------------------------


def suspicious(world: World) -> None:
    """Run 1 FAILED, and a job of it exists all the same; a minute ago."""
    world.conductor.courses.append(Course.failed(CallEnd.SERVER_ERROR, "The Workbench broke"))
    with pytest.raises(SubmissionFailed):
        world.submit()
    world.workbench.submit(1, world.run(1).correlation_id)
    world.pass_time(60)


def test_p9_the_hunt_cancels_jobs_that_no_run_wants_and_tells_of_it(world: World, log: Log) -> None:
    suspicious(world)
    log.forget()
    hunt.handler(scheduled(), Invocation("of the hunt"))
    assert world.workbench.cancelled == ["job-1"]
    assert world.database.strays[1].jobs_cancelled == 1
    stray, hunted = log.lines
    assert (stray["level"], stray["message"]) == ("WARNING", "stray_job_cancelled")
    assert (stray["run_id"], stray["workbench_job_id"]) == (1, "job-1")
    assert (hunted["level"], hunted["message"]) == ("INFO", "hunted")
    assert (hunted["checks"], hunted["cancelled"], hunted["postponed"]) == (1, 1, 0)
    assert {line["function_request_id"] for line in log.lines} == {"of the hunt"}


def test_f15_a_hunt_that_comes_twice_looks_once(world: World) -> None:
    suspicious(world)
    hunt.handler(scheduled(), Invocation())
    hunt.handler(scheduled(), Invocation())
    assert world.workbench.cancelled == ["job-1"]
    assert world.database.strays[1].looks == 1


def test_f27_a_hunt_without_an_answer_of_the_workbench_is_put_off(world: World, log: Log) -> None:
    suspicious(world)
    world.workbench.down = NoAnswer(reason="The Workbench answered 503")
    log.forget()
    hunt.handler(scheduled(), Invocation())
    postponed, hunted = log.lines
    assert (postponed["level"], postponed["message"]) == ("WARNING", "hunt_postponed")
    assert (postponed["run_id"], postponed["error"]) == (1, "The Workbench answered 503")
    assert (hunted["cancelled"], hunted["postponed"]) == (0, 1)


def test_a_hunt_with_nothing_to_do_is_silent(world: World, log: Log) -> None:
    world.submit()
    log.forget()
    hunt.handler(scheduled(), Invocation())
    assert log.lines == []
    assert not world.workbench.cancelled


@pytest.mark.parametrize("when", ["before", "in between"])
def test_f33_a_hunt_without_a_database_waits_for_the_next(
    world: World, log: Log, when: str
) -> None:
    suspicious(world)
    log.forget()
    if when == "before":
        world.database.down = True
    else:
        world.steps.strike("before MemoryStrays.looked", DatabaseUnavailable("gone"))
    hunt.handler(scheduled(), Invocation())
    told = log.lines[-1]
    assert (told["level"], told["message"]) == ("WARNING", "hunt_without_database")
    world.database.down = False
    world.pass_time(60)
    hunt.handler(scheduled(), Invocation())
    assert world.workbench.cancelled[:1] == ["job-1"]
    assert world.database.strays[1].looks == 1


# -- what they log --------------------------------------------------------------------------------


def test_every_line_is_json_and_names_its_invocation(world: World, log: Log) -> None:
    world.submit()
    log.forget()
    tick.handler(scheduled(), Invocation("of the tick"))
    (sent,) = world.check_queue.sent
    event = delivered(CHECK_QUEUE, sent.message.to_json(), "poison")
    check.handler(event, Invocation("of the check"))
    told = log.lines
    assert [(line["message"], line["function_request_id"]) for line in told] == [
        ("swept", "of the tick"),
        ("message_unreadable", "of the check"),
        ("checked", "of the check"),
    ]
    assert all({"level", "timestamp", "service"} <= line.keys() for line in told)


def test_lines_about_a_run_name_it_and_its_correlation_id(world: World, log: Log) -> None:
    troubled, unresolved = world.submit(), world.submit(respond_async=True)
    world.workbench.answer_with(NoAnswer(reason="The Workbench answered 503"), run=troubled.id)
    log.forget()
    run_check(asking(world, troubled.id, unresolved.id))
    about_runs = [line for line in log.lines if "run_id" in line]
    assert {(line["message"], line["run_id"]) for line in about_runs} == {
        ("check_troubled", troubled.id),
        ("submission_judged", unresolved.id),
    }
    for line in about_runs:
        assert line["correlation_id"] == world.run(line["run_id"]).correlation_id


def test_s16_an_unreadable_message_is_quoted_in_short(world: World, log: Log) -> None:
    del world
    long = '{"v": 1, "run_ids": [1], "attempt": 0, "sent_at": "' + CANARY * 10_000 + '"}'
    run_check(long)
    tick.handler(
        delivered(TICK_QUEUE, '{"v": 1, "shards": [0, 255], "minute": "' + CANARY * 10_000 + '"}'),
        Invocation(),
    )
    for line in log.lines:
        assert len(line.get("error", "")) <= 200
