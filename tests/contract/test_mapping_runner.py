"""The runner of event source mappings keeps AWS's contract, on moto's SQS; so do its processes."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import suppress
from itertools import count
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import boto3
import psutil
import pytest
from moto import mock_aws

from function_process import Function, FunctionError, FunctionPool
from mapping_runner import (
    Delivery,
    MappingRunner,
    Outcome,
    PollerBroke,
    drain,
    receive_count,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mapping_runner import Record

REGION = "eu-west-2"
# What never takes this long unless something is wrong.
DEADLINE_SECONDS = 60
NUMBERS = count(1)


class Sqs:
    """moto's SQS, called by one thread at a time: it keeps no order among several."""

    def __init__(self) -> None:
        self._client: Any = boto3.session.Session(region_name=REGION).client("sqs")
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(**request: Any) -> Any:
            with self._lock:
                return method(**request)

        return call


class Observed:
    """An SQS that tells the name of each call when it is done, before its caller goes on."""

    def __init__(self, sqs: Any) -> None:
        self._sqs = sqs
        self.tell: Callable[[str], None] = lambda _: None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._sqs, name)

        def call(**request: Any) -> Any:
            answer = method(**request)
            self.tell(name)
            return answer

        return call


class Queue:
    """A queue for one test.

    Args:
        sqs: Where it is made.
        suffix: The end of its name.
        attributes: Its settings.
    """

    def __init__(self, sqs: Any, suffix: str = "", **attributes: str) -> None:
        self.sqs = sqs
        name = f"queue-{next(NUMBERS)}{suffix}"
        self.url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    def send(self, *bodies: str, **more: Any) -> list[str]:
        """Gives the ids of the messages."""
        sent = [self.sqs.send_message(QueueUrl=self.url, MessageBody=b, **more) for b in bodies]
        return [one["MessageId"] for one in sent]

    def attribute(self, name: str) -> str:
        answer = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])
        return str(answer["Attributes"][name])

    @property
    def visible(self) -> int:
        return int(self.attribute("ApproximateNumberOfMessages"))

    @property
    def in_flight(self) -> int:
        return int(self.attribute("ApproximateNumberOfMessagesNotVisible"))

    def runner(self, invoke: Callable[[dict[str, Any]], Any], **how: Any) -> MappingRunner:
        return MappingRunner(self.sqs, queue_url=self.url, invoke=invoke, **how)


@pytest.fixture(scope="module")
def sqs() -> Iterator[Any]:
    with mock_aws():
        yield Sqs()


@pytest.fixture
def queue(sqs: Any) -> Queue:
    """Its messages come again after a second."""
    return Queue(sqs, VisibilityTimeout="1")


@pytest.fixture
def patient_queue(sqs: Any) -> Queue:
    """Its messages don't come again while a test runs."""
    return Queue(sqs, VisibilityTimeout="600")


class Broken(Exception):
    """What the functions of these tests raise."""


def nothing(_: dict[str, Any]) -> None:
    """A function that succeeds."""


def raising(_: dict[str, Any]) -> None:
    raise Broken


def must_not_run(_: dict[str, Any]) -> None:
    raise AssertionError("the function was invoked")


def failing(*bodies: str, until_received: int = 1_000) -> Callable[[dict[str, Any]], Any]:
    """A function that reports messages as failed, until they come that often."""

    def function(event: dict[str, Any]) -> Any:
        failed = [
            record["messageId"]
            for record in event["Records"]
            if record["body"] in bodies and receive_count(record) < until_received
        ]
        return {"batchItemFailures": [{"itemIdentifier": one} for one in failed]}

    return function


class Gate:
    """A function that notes its beginning and waits to be let through."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._opened = threading.Event()

    def __call__(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        assert self._opened.wait(DEADLINE_SECONDS)

    def open(self) -> None:
        self._opened.set()


# -- what the function is given -------------------------------------------------------------------


def test_a_message_comes_in_the_shape_of_lambda(queue: Queue) -> None:
    [message_id] = queue.send(
        "grüß dich",
        MessageAttributes={
            "kind": {"DataType": "String", "StringValue": "check"},
            "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        },
    )
    events: list[dict[str, Any]] = []
    runner = queue.runner(events.append)

    runner.deliver()

    [record] = events[0]["Records"]
    assert events[0].keys() == {"Records"}
    assert json.loads(json.dumps(record)) == record
    assert record.pop("receiptHandle")
    assert len(record.pop("md5OfMessageAttributes")) == 32
    attributes = record.pop("attributes")
    assert record == {
        "messageId": message_id,
        "body": "grüß dich",
        "messageAttributes": {
            "kind": {
                "stringValue": "check",
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": "String",
            },
            "bytes": {
                "binaryValue": "AP8=",
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": "Binary",
            },
        },
        "md5OfBody": hashlib.md5("grüß dich".encode(), usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": queue.attribute("QueueArn"),
        "awsRegion": REGION,
    }
    assert attributes["ApproximateReceiveCount"] == "1"
    assert attributes["SenderId"]
    assert attributes["SentTimestamp"].isdigit()
    assert attributes["ApproximateFirstReceiveTimestamp"].isdigit()


def test_a_plain_message_has_no_attributes_of_its_own(queue: Queue) -> None:
    queue.send("plain")
    runner = queue.runner(nothing)

    [batch] = runner.deliver()

    assert batch.records[0]["messageAttributes"] == {}
    assert "md5OfMessageAttributes" not in batch.records[0]


def test_a_fifo_message_names_its_group(sqs: Any) -> None:
    fifo = Queue(sqs, ".fifo", FifoQueue="true")
    fifo.send("first", "second", MessageGroupId="run-1", MessageDeduplicationId="a")
    runner = fifo.runner(nothing)

    [batch] = runner.deliver()

    assert batch.bodies == ("first",)  # The second has the same deduplication id.
    assert batch.records[0]["attributes"]["MessageGroupId"] == "run-1"
    assert batch.records[0]["attributes"]["MessageDeduplicationId"] == "a"
    assert "SequenceNumber" in batch.records[0]["attributes"]


def test_what_a_function_does_to_its_event_changes_nothing(queue: Queue) -> None:
    queue.send("kept")

    def spoil(event: dict[str, Any]) -> None:
        event["Records"][0].clear()
        event.clear()

    [batch] = queue.runner(spoil).deliver()

    assert batch.bodies == ("kept",)
    assert not queue.in_flight


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 12), (5, [5, 5, 2]), (10, [10, 2])])
def test_a_batch_has_at_most_its_size(queue: Queue, batch_size: int, sizes: list[int]) -> None:
    queue.send(*(str(number) for number in range(12)))
    runner = queue.runner(nothing, batch_size=batch_size)

    while runner.deliver():
        pass

    assert [len(batch.records) for batch in runner.batches] == sizes
    assert sorted(int(body) for batch in runner.batches for body in batch.bodies) == [*range(12)]


@pytest.mark.parametrize("batch_size", [0, 11])
def test_a_batch_size_that_sqs_cannot_give_is_refused(queue: Queue, batch_size: int) -> None:
    with pytest.raises(ValueError, match="choose 1 to 10"):
        queue.runner(nothing, batch_size=batch_size)


def test_a_runner_without_a_poller_is_refused(queue: Queue) -> None:
    with pytest.raises(ValueError, match="choose 1 or more"):
        queue.runner(nothing, maximum_concurrency=0)


def test_an_empty_queue_invokes_nothing(queue: Queue) -> None:
    assert queue.runner(must_not_run).deliver() == ()


def test_a_delayed_message_comes_when_its_delay_is_over(queue: Queue) -> None:
    queue.send("later", DelaySeconds=1)

    with queue.runner(nothing) as runner:
        assert not runner.batches
        runner.drain()

    assert [batch.bodies for batch in runner.batches] == [("later",)]


# -- what becomes of a batch ----------------------------------------------------------------------


def test_a_success_deletes_the_whole_batch(patient_queue: Queue) -> None:
    patient_queue.send("a", "b", "c")

    [batch] = patient_queue.runner(nothing).deliver()

    assert batch.outcome is Outcome.SUCCEEDED
    assert (batch.response, batch.error, batch.failed) == (None, None, frozenset())
    assert (patient_queue.visible, patient_queue.in_flight) == (0, 0)


def test_a_message_is_in_flight_as_long_as_its_function_runs(patient_queue: Queue) -> None:
    patient_queue.send("a")
    gate = Gate()

    with patient_queue.runner(gate) as runner:
        runner.wait_until(lambda: bool(gate.events), "the function runs")
        assert (patient_queue.visible, patient_queue.in_flight, runner.in_flight) == (0, 1, 1)
        gate.open()
        runner.drain()

    assert (patient_queue.in_flight, runner.in_flight) == (0, 0)


def test_a_function_error_deletes_nothing_and_hides_the_batch_until_its_time_is_over(
    patient_queue: Queue,
) -> None:
    patient_queue.send("a", "b")
    runner = patient_queue.runner(raising)

    [batch] = runner.deliver()

    assert batch.outcome is Outcome.FAILED
    assert isinstance(batch.error, Broken)
    assert batch.failed == set(batch.message_ids)
    assert (patient_queue.visible, patient_queue.in_flight) == (0, 2)
    assert runner.deliver() == ()


def test_failed_messages_come_again_and_their_receive_count_rises(queue: Queue) -> None:
    [message_id] = queue.send("a")

    def at_the_third_try(event: dict[str, Any]) -> None:
        if receive_count(event["Records"][0]) < 3:
            raise Broken

    with queue.runner(at_the_third_try) as runner:
        runner.drain()

    assert [batch.receive_counts for batch in runner.batches] == [(1,), (2,), (3,)]
    assert {batch.message_ids for batch in runner.batches} == {(message_id,)}
    assert [batch.outcome for batch in runner.batches] == [
        Outcome.FAILED,
        Outcome.FAILED,
        Outcome.SUCCEEDED,
    ]


def test_after_its_last_try_a_message_is_in_the_dead_letter_queue(sqs: Any) -> None:
    dead = Queue(sqs)
    arn = dead.attribute("QueueArn")
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    queue = Queue(sqs, VisibilityTimeout="1", RedrivePolicy=redrive)
    queue.send("poison")

    with queue.runner(raising) as runner:
        runner.drain()

    assert [batch.receive_counts for batch in runner.batches] == [(1,), (2,)]
    assert (queue.visible, dead.visible) == (0, 1)


def test_a_function_slower_than_the_visibility_gets_the_message_twice(queue: Queue) -> None:
    queue.send("slow")
    gate = Gate()

    with queue.runner(gate, maximum_concurrency=2) as runner:
        runner.wait_until(lambda: len(gate.events) == 2, "it came again")
        gate.open()
        runner.drain()

    first, second = runner.batches
    assert (first.receive_counts, second.receive_counts) == ((1,), (2,))
    assert first.overlaps(second)


# -- failures one by one --------------------------------------------------------------------------


def test_only_the_messages_named_come_again(queue: Queue) -> None:
    queue.send("a", "bad", "c")

    with queue.runner(failing("bad", until_received=2), reports_batch_item_failures=True) as runner:
        runner.drain()

    first, second = runner.batches
    assert first.bodies == ("a", "bad", "c")
    assert first.outcome is Outcome.PARTLY_FAILED
    assert (second.bodies, second.receive_counts) == (("bad",), (2,))
    assert second.outcome is Outcome.SUCCEEDED


def test_naming_every_message_fails_the_batch(patient_queue: Queue) -> None:
    patient_queue.send("a", "b")
    runner = patient_queue.runner(failing("a", "b"), reports_batch_item_failures=True)

    [batch] = runner.deliver()

    assert batch.outcome is Outcome.FAILED
    assert patient_queue.in_flight == 2


@pytest.mark.parametrize("response", [None, {}, {"batchItemFailures": []}])
def test_naming_no_message_deletes_the_batch(patient_queue: Queue, response: Any) -> None:
    patient_queue.send("a", "b")
    runner = patient_queue.runner(lambda _: response, reports_batch_item_failures=True)

    [batch] = runner.deliver()

    assert batch.outcome is Outcome.SUCCEEDED
    assert patient_queue.in_flight == 0


@pytest.mark.parametrize("identifier", [None, "", "of-no-message"])
def test_naming_what_is_no_message_of_the_batch_deletes_nothing(
    patient_queue: Queue, identifier: str | None
) -> None:
    patient_queue.send("a", "b")
    response = {"batchItemFailures": [{"itemIdentifier": identifier}]}
    runner = patient_queue.runner(lambda _: response, reports_batch_item_failures=True)

    [batch] = runner.deliver()

    assert (batch.outcome, batch.error) == (Outcome.FAILED, None)
    assert patient_queue.in_flight == 2


def test_a_function_error_fails_the_batch_whatever_may_be_reported(patient_queue: Queue) -> None:
    patient_queue.send("a", "b")

    [batch] = patient_queue.runner(raising, reports_batch_item_failures=True).deliver()

    assert batch.outcome is Outcome.FAILED
    assert patient_queue.in_flight == 2


@pytest.mark.parametrize("response", ["no object", {"batchItemFailures": "no list"}])
def test_without_the_option_the_answer_is_ignored(patient_queue: Queue, response: Any) -> None:
    patient_queue.send("a", "b")

    [batch] = patient_queue.runner(lambda _: response).deliver()

    assert (batch.outcome, batch.response) == (Outcome.SUCCEEDED, response)
    assert patient_queue.in_flight == 0


def test_without_the_option_a_failure_that_is_named_is_lost(patient_queue: Queue) -> None:
    patient_queue.send("a", "bad")

    [batch] = patient_queue.runner(failing("bad")).deliver()

    assert batch.outcome is Outcome.SUCCEEDED
    assert patient_queue.in_flight == 0


# -- many at once ---------------------------------------------------------------------------------


def test_as_many_batches_run_at_once_as_are_allowed_and_no_more(patient_queue: Queue) -> None:
    patient_queue.send(*"abcdefgh")
    gate = Gate()

    with patient_queue.runner(gate, batch_size=1, maximum_concurrency=3) as runner:
        runner.wait_until(lambda: len(gate.events) == 3, "three batches run")
        assert runner.in_flight == 3
        # The others aren't even received: they are anyone's.
        assert (patient_queue.visible, patient_queue.in_flight) == (5, 3)
        gate.open()
        runner.drain()

    assert runner.most_in_flight == 3
    assert sorted(batch.bodies[0] for batch in runner.batches) == [*"abcdefgh"]


def test_a_batch_that_hangs_keeps_no_other_from_running(patient_queue: Queue) -> None:
    patient_queue.send("slow", *"abcdef")
    gate = Gate()

    def hang_on_slow(event: dict[str, Any]) -> None:
        if event["Records"][0]["body"] == "slow":
            gate(event)

    with patient_queue.runner(hang_on_slow, batch_size=1) as runner:
        runner.wait_until(lambda: len(runner.batches) == 6, "the others have ended")
        gate.open()
        runner.drain()

    assert runner.batches[0].bodies == ("slow",)
    assert all(runner.batches[0].overlaps(other) for other in runner.batches[1:])


def test_one_poller_runs_one_batch_after_the_other(patient_queue: Queue) -> None:
    patient_queue.send(*"abc")

    with patient_queue.runner(nothing, batch_size=1, maximum_concurrency=1) as runner:
        runner.drain()

    first, second, third = runner.batches
    assert runner.most_in_flight == 1
    assert not first.overlaps(second)
    assert not second.overlaps(third)


def test_many_messages_are_each_delivered_once_by_many_pollers(patient_queue: Queue) -> None:
    sent = [f"{number}" for number in range(100)]
    patient_queue.send(*sent)

    with patient_queue.runner(nothing, batch_size=3, maximum_concurrency=8) as runner:
        runner.drain()

    bodies = [body for batch in runner.batches for body in batch.bodies]
    assert sorted(bodies) == sorted(sent)


def passing_on(other: Queue) -> Callable[[dict[str, Any]], None]:
    """A function that sends each message to another queue, as often as its number says."""

    def function(event: dict[str, Any]) -> None:
        for record in event["Records"]:
            if left := int(record["body"]):
                other.send(str(left - 1))

    return function


def test_two_queues_that_pass_messages_are_waited_for_to_the_end(sqs: Any) -> None:
    ping, pong = Queue(sqs), Queue(sqs)
    ping.send("9", "9", "9")

    with ping.runner(passing_on(pong)) as there, pong.runner(passing_on(ping)) as back:
        drain(back, there)

        hits = [body for runner in (there, back) for one in runner.batches for body in one.bodies]
        assert sorted(hits) == sorted([*"0123456789"] * 3)


def test_a_message_that_is_always_in_the_other_queue_is_not_overlooked(sqs: Any) -> None:
    """After each of three looks it passes to the other queue; after the fourth it stays there."""
    observed = Observed(sqs)
    left, right = Queue(observed), Queue(observed)
    to_right, to_left = left.runner(passing_on(right)), right.runner(passing_on(left))
    turns = iter([to_left, to_right, to_left, None])

    def pass_on(call: str) -> None:
        if call == "get_queue_attributes" and (runner := next(turns, to_right)):
            runner.deliver()

    right.send("3")
    observed.tell = pass_on
    drain(to_right, to_left)
    observed.tell = lambda _: None

    assert [batch.bodies for batch in to_left.batches] == [("3",), ("1",)]
    assert [batch.bodies for batch in to_right.batches] == [("2",), ("0",)]


def test_an_empty_queue_is_waited_for_until_its_last_batch_is_written_down(sqs: Any) -> None:
    """The batch's poller hears of the deletion only after the queue was looked at five times."""
    observed = Observed(sqs)
    queue = Queue(observed)
    looks = threading.Semaphore(0)

    def hold_up_deletion(call: str) -> None:
        if call == "get_queue_attributes":
            looks.release()
        if call == "delete_message_batch":
            assert all(looks.acquire(timeout=DEADLINE_SECONDS) for _ in range(5))

    queue.send("a")
    runner = queue.runner(nothing)
    observed.tell = hold_up_deletion
    with runner:
        runner.wait_until(lambda: runner.in_flight == 1, "the batch runs")
        runner.drain()
        ended = runner.batches

    assert [batch.bodies for batch in ended] == [("a",)]


# -- starting and stopping ------------------------------------------------------------------------


def test_after_the_stop_nothing_is_received(patient_queue: Queue) -> None:
    before = set(threading.enumerate())
    with patient_queue.runner(must_not_run) as runner:
        pollers = set(threading.enumerate()) - before
    patient_queue.send("a")

    assert len(pollers) == 2
    assert not any(poller.is_alive() for poller in pollers)
    assert (patient_queue.visible, runner.batches) == (1, ())


def test_the_stop_waits_for_the_batch_in_flight(patient_queue: Queue) -> None:
    patient_queue.send("a")

    def end_after_the_stop_has_begun(_: dict[str, Any]) -> None:
        assert runner._stopping.wait(DEADLINE_SECONDS)  # noqa: SLF001 # Only so is it sure.

    runner = patient_queue.runner(end_after_the_stop_has_begun)
    with runner:
        runner.wait_until(lambda: runner.in_flight == 1, "the function runs")

    assert [batch.outcome for batch in runner.batches] == [Outcome.SUCCEEDED]
    assert patient_queue.in_flight == 0


def test_a_runner_may_be_started_again(patient_queue: Queue) -> None:
    runner = patient_queue.runner(nothing)
    for body in "ab":
        with runner:
            patient_queue.send(body)
            runner.drain()

    assert [batch.bodies for batch in runner.batches] == [("a",), ("b",)]


def test_a_runner_with_pollers_starts_and_delivers_no_second_time(patient_queue: Queue) -> None:
    with patient_queue.runner(nothing) as runner:
        with pytest.raises(RuntimeError, match="started already"):
            runner.start()
        with pytest.raises(RuntimeError, match="has pollers"):
            runner.deliver()


def test_an_assertion_in_the_function_is_the_tests_failure(patient_queue: Queue) -> None:
    patient_queue.send("a")
    runner = patient_queue.runner(must_not_run)
    runner.start()

    with pytest.raises(PollerBroke, match="the function was invoked") as told:
        runner.drain()
    with pytest.raises(PollerBroke):
        runner.stop()

    assert isinstance(told.value.__cause__, AssertionError)
    assert runner.batches == ()


def test_a_queue_that_is_gone_is_the_tests_failure(patient_queue: Queue) -> None:
    runner = patient_queue.runner(nothing)
    patient_queue.sqs.delete_queue(QueueUrl=patient_queue.url)

    with pytest.raises(PollerBroke, match="NonExistentQueue"), runner:
        runner.wait_until(lambda: False, "never")


def test_a_poller_that_broke_does_not_hide_how_the_test_failed(patient_queue: Queue) -> None:
    patient_queue.send("a")

    def fail_while_running() -> None:
        with patient_queue.runner(must_not_run) as runner:
            with suppress(PollerBroke):
                runner.drain()
            raise Broken

    with pytest.raises(Broken) as told:
        fail_while_running()

    assert "the function was invoked" in told.value.__notes__[0]


def test_what_does_not_come_true_is_told_with_what_happened(patient_queue: Queue) -> None:
    patient_queue.send("a")

    with patient_queue.runner(raising) as runner:
        runner.wait_until(lambda: bool(runner.batches), "a batch ended")
        with pytest.raises(TimeoutError, match="the queues are empty") as told:
            runner.drain(within_seconds=0)

    assert "0 visible, 1 in flight, 0 delayed" in str(told.value)
    assert "Broken()" in str(told.value)


# -- faults on demand -----------------------------------------------------------------------------


def by_body(**deliveries: Delivery) -> Callable[[Record], Delivery]:
    """Each message named has its way at its first receipt; the others come once."""

    def decide(record: Record) -> Delivery:
        first = receive_count(record) == 1
        return deliveries.get(record["body"], Delivery.ONCE) if first else Delivery.ONCE

    return decide


def has_body(body: str) -> Callable[[Record], bool]:
    return lambda record: bool(record["body"] == body)


def test_a_message_is_delivered_twice_at_once(patient_queue: Queue) -> None:
    patient_queue.send("a", "b", "c")
    gate = Gate()

    with patient_queue.runner(gate, deliveries=by_body(b=Delivery.TWICE)) as runner:
        runner.wait_until(lambda: len(gate.events) == 2, "two invocations run")
        gate.open()
        runner.drain()

    first, second = sorted(runner.batches, key=lambda batch: -len(batch.records))
    assert (first.bodies, second.bodies) == (("a", "b", "c"), ("b",))
    assert first.overlaps(second)
    assert runner.most_in_flight == 2


def test_of_two_deliveries_one_success_is_enough(patient_queue: Queue) -> None:
    patient_queue.send("a")
    turns = iter([False, True])

    def fail_once(_: dict[str, Any]) -> None:
        if next(turns):
            raise Broken

    both = patient_queue.runner(fail_once, deliveries=by_body(a=Delivery.TWICE)).deliver()

    assert {batch.outcome for batch in both} == {Outcome.SUCCEEDED, Outcome.FAILED}
    assert patient_queue.in_flight == 0


def test_a_batch_is_delivered_again_long_after_it_was_deleted(patient_queue: Queue) -> None:
    patient_queue.send("a")
    runner = patient_queue.runner(nothing)
    [batch] = runner.deliver()

    again = runner.deliver_again(batch)

    assert again.records == batch.records
    assert runner.batches == (batch, again)


def test_a_lost_message_reaches_no_function_and_is_gone(patient_queue: Queue) -> None:
    patient_queue.send("a", "b")
    runner = patient_queue.runner(nothing, deliveries=by_body(a=Delivery.LOST))

    [batch] = runner.deliver()

    assert batch.bodies == ("b",)
    assert [record["body"] for record in runner.lost] == ["a"]
    assert (patient_queue.visible, patient_queue.in_flight) == (0, 0)


def test_a_held_message_waits_for_its_release_however_often_it_would_come(queue: Queue) -> None:
    """The other one is received with it and fails twice: that takes two visibility time-outs."""
    queue.send("held", "other")

    with queue.runner(
        failing("other", until_received=3),
        reports_batch_item_failures=True,
        deliveries=by_body(held=Delivery.HELD),
    ) as runner:
        runner.drain()  # All but what is held.
        assert [record["body"] for record in runner.held] == ["held"]
        assert [batch.bodies for batch in runner.batches] == [("other",)] * 3
        runner.release()
        runner.drain()

    assert runner.batches[3].bodies == ("held",)
    assert runner.batches[3].receive_counts == (1,)
    assert (queue.in_flight, runner.held) == (0, ())


def test_a_released_message_that_fails_comes_again_as_usual(queue: Queue) -> None:
    queue.send("a")

    def at_the_second_try(event: dict[str, Any]) -> None:
        if receive_count(event["Records"][0]) < 2:
            raise Broken

    with queue.runner(at_the_second_try, deliveries=by_body(a=Delivery.HELD)) as runner:
        runner.wait_until(lambda: bool(runner.held), "it is held")
        runner.release()
        runner.drain()

    assert [batch.receive_counts for batch in runner.batches] == [(1,), (2,)]


def test_at_the_stop_held_messages_go_back_to_the_queue(patient_queue: Queue) -> None:
    patient_queue.send("a")
    runner = patient_queue.runner(nothing, deliveries=by_body(a=Delivery.HELD))
    with runner:
        runner.wait_until(lambda: bool(runner.held), "it is held")

    assert (runner.batches, runner.held) == ((), ())
    assert (patient_queue.visible, patient_queue.in_flight) == (1, 0)
    with runner:
        runner.drain()
    assert [batch.receive_counts for batch in runner.batches] == [(2,)]


def test_released_messages_come_in_batches(patient_queue: Queue) -> None:
    patient_queue.send(*"abcde")
    runner = patient_queue.runner(nothing, batch_size=2, deliveries=lambda _: Delivery.HELD)
    assert runner.deliver() == ()
    assert [record["body"] for record in runner.held] == [*"abcde"]

    runner.release()
    while runner.deliver():
        pass

    assert [batch.bodies for batch in runner.batches] == [("a", "b"), ("c", "d"), ("e",)]
    assert patient_queue.in_flight == 0


def test_held_messages_are_released_in_any_order(patient_queue: Queue) -> None:
    patient_queue.send(*"abc")
    runner = patient_queue.runner(nothing, deliveries=lambda _: Delivery.HELD)
    runner.deliver()

    for body in "cab":
        runner.release(has_body(body))
        runner.deliver()

    assert [batch.bodies for batch in runner.batches] == [("c",), ("a",), ("b",)]


def test_a_poll_goes_on_past_what_is_lost_or_held(patient_queue: Queue) -> None:
    patient_queue.send("a", "b", "c")
    how = by_body(a=Delivery.LOST, b=Delivery.HELD)
    runner = patient_queue.runner(nothing, batch_size=1, deliveries=how)

    [batch] = runner.deliver()

    assert batch.bodies == ("c",)


# -- functions as processes -----------------------------------------------------------------------

HANDLER = """
    import os, pathlib, threading, time

    print("imported")

    def handle(event, context):
        bodies = [record["body"] for record in event["Records"]]
        print("given", *bodies)
        if "meet" in bodies:
            meeting = pathlib.Path(os.environ["MEETING"])
            (meeting / str(os.getpid())).touch()
            while len(list(meeting.iterdir())) < 2:
                time.sleep(0.01)
        if "hang" in bodies:
            pathlib.Path(os.environ["NOTE"]).touch()
            threading.Event().wait()
        if "raise" in bodies:
            raise LookupError("no such run")
        return {
            "pid": os.getpid(),
            "name": context.function_name,
            "milliseconds": context.get_remaining_time_in_millis(),
            "batchItemFailures": [],
        }
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., FunctionPool]]:
    """Makes the processes of one small function."""
    (tmp_path / "handler.py").write_text(dedent(HANDLER))
    (tmp_path / "meeting").mkdir()
    made: list[FunctionPool] = []

    def make_pool(**how: Any) -> FunctionPool:
        function = Function(
            handler="handler.handle",
            folder=tmp_path,
            variables={"NOTE": str(tmp_path / "hangs"), "MEETING": str(tmp_path / "meeting")},
            **how,
        )
        made.append(FunctionPool(function))
        return made[-1]

    yield make_pool
    for pool in made:
        pool.kill()


def event_of(*bodies: str) -> dict[str, Any]:
    return {"Records": [{"body": body} for body in bodies]}


def test_a_real_function_takes_batches_from_the_queue(
    patient_queue: Queue, make: Callable[..., FunctionPool]
) -> None:
    patient_queue.send("a", "b")
    pool = make(name="check", timeout_seconds=30)

    with patient_queue.runner(pool.invoke, reports_batch_item_failures=True) as runner:
        runner.drain()

    assert all(batch.outcome is Outcome.SUCCEEDED for batch in runner.batches)
    response = runner.batches[0].response
    assert response["name"] == "check"
    assert 0 < response["milliseconds"] <= 30_000
    assert pool.log.startswith("imported\ngiven ")


def test_invocations_at_once_have_a_process_each_and_idle_ones_are_used_again(
    patient_queue: Queue, make: Callable[..., FunctionPool]
) -> None:
    pool = make()
    pool.warm(2)
    assert pool.log == "imported\nimported\n"
    patient_queue.send("meet")  # Two processes, or it never ends.
    runner = patient_queue.runner(pool.invoke, deliveries=by_body(meet=Delivery.TWICE))

    pids = {batch.response["pid"] for batch in runner.deliver()}
    patient_queue.send("a")
    [later] = runner.deliver()

    assert len(pids) == 2
    assert later.response["pid"] in pids
    assert pool.log.count("imported") == len(pool.environments) == 2


def test_a_pool_ends_its_processes(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text(dedent(HANDLER))
    with FunctionPool(Function(handler="handler.handle", folder=tmp_path)) as pool:
        pid = pool.invoke(event_of("a"))["pid"]
        assert psutil.pid_exists(pid)

    assert not psutil.pid_exists(pid)


def test_what_a_handler_raises_is_a_function_error_and_its_process_lives_on(
    make: Callable[..., FunctionPool],
) -> None:
    pool = make()
    before = pool.invoke(event_of("a"))["pid"]

    with pytest.raises(FunctionError) as told:
        pool.invoke(event_of("raise"))

    assert (told.value.error_type, told.value.message) == ("LookupError", "no such run")
    assert pool.invoke(event_of("b"))["pid"] == before


def test_a_killed_process_fails_its_invocation_and_the_next_one_has_another(
    make: Callable[..., FunctionPool], queue: Queue, tmp_path: Path
) -> None:
    pool = make()
    before = pool.invoke(event_of("a"))["pid"]
    queue.send("hang")

    with queue.runner(
        lambda event: pool.invoke(
            event if receive_count(event["Records"][0]) == 1 else event_of("passes now")
        )
    ) as runner:
        runner.wait_until((tmp_path / "hangs").exists, "the function hangs")
        [environment] = pool.busy
        environment.kill()
        runner.drain()

    crashed, done = runner.batches
    assert isinstance(crashed.error, FunctionError)
    assert crashed.error.error_type == "Runtime.ExitError"
    assert "signal: killed" in crashed.error.message
    assert done.outcome is Outcome.SUCCEEDED
    assert done.response["pid"] != before


def test_a_time_out_is_a_function_error_and_ends_the_process(
    make: Callable[..., FunctionPool],
) -> None:
    pool = make(timeout_seconds=1)

    with pytest.raises(FunctionError, match="timed out after") as told:
        pool.invoke(event_of("hang"))

    assert told.value.error_type == "Sandbox.Timedout"
    assert pool.invoke(event_of("a"))["name"] == "function"
    assert pool.log.count("imported") == 2


def test_a_handler_that_cannot_be_imported_is_a_function_error(tmp_path: Path) -> None:
    with FunctionPool(Function(handler="nowhere.handle", folder=tmp_path)) as pool:
        for attempt in (lambda: pool.invoke({}), lambda: pool.warm(1)):
            with pytest.raises(FunctionError) as told:
                attempt()
            assert told.value.error_type == "Runtime.ImportModuleError"


def test_our_own_functions_run_with_the_variables_given_and_no_other() -> None:
    stage = {"STAGE": "test"}
    with (
        FunctionPool(Function(handler="poller.check.handler", variables=stage)) as pool,
        pytest.raises(FunctionError) as told,
    ):
        pool.invoke({"Records": []})

    assert told.value.error_type == "SettingsInvalid"
    assert "CHECK_QUEUE_URL must be set" in told.value.message
    assert "STAGE" not in told.value.message
