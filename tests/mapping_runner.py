"""Lambda's event source mapping for SQS, for tests: many batches at once, and faults on demand.

LocalStack runs one batch at a time; this runs as many as AWS would, on any SQS.

with MappingRunner(sqs, queue_url=url, invoke=function.invoke, maximum_concurrency=5) as runner:
    sqs.send_message(QueueUrl=url, MessageBody="…")
    runner.drain()
assert runner.batches[0].outcome is Outcome.SUCCEEDED

A runner that was not started runs one batch for each call of `deliver`, in the caller's thread.

The rules are AWS's, from the Lambda Developer Guide: "Using Lambda with Amazon SQS" and, for what
a batch's answer means, "Handling errors for an SQS event source in Lambda". Not here: batch
windows, filters, throttling, and the back-off of a mapping whose function keeps failing.
"""

from __future__ import annotations

import base64
import copy
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from mypy_boto3_sqs import SQSClient

    Record = dict[str, Any]
    Invoke = Callable[[dict[str, Any]], Any]
    DeliveryOf = Callable[[Record], "Delivery"]

RECEIVED_AT_MOST: Final = 10
"""SQS gives no more messages at once; Lambda takes more only within a batch window."""
HELD_SECONDS: Final = 6 * 3600
"""Longer than any test; SQS allows twelve hours."""
IDLE_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 0.01
PATIENCE_SECONDS: Final = 60.0
COUNTED: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class PollerBroke(Exception):
    """A poller met what no function's failure explains; the cause says what."""


class Delivery(Enum):
    """What becomes of a message that was received."""

    ONCE = auto()
    TWICE = auto()
    """Also to a second invocation at the same time: SQS delivers at least once."""
    HELD = auto()
    """To no invocation until `release`; until then it is in flight."""
    LOST = auto()
    """To no invocation, and gone from the queue."""


class Outcome(Enum):
    """What came of a batch."""

    SUCCEEDED = auto()
    PARTLY_FAILED = auto()
    FAILED = auto()


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One invocation that has ended.

    Attributes:
        records: As the function was given them.
        began: Its beginning's place in the order of all beginnings and ends.
        ended: Its end's.
        response: What the function returned.
        error: What the function raised, a time-out among it.
        failed: The ids of messages that come again, for the function failed them.
        undeleted: The ids of messages that come again, for SQS did not take their deletion.
    """

    records: tuple[Record, ...]
    began: int
    ended: int
    response: Any
    error: Exception | None
    failed: frozenset[str]
    undeleted: frozenset[str]

    @property
    def outcome(self) -> Outcome:
        """By the function, whatever became of the deletions."""
        if not self.failed:
            return Outcome.SUCCEEDED
        return Outcome.FAILED if self.failed == set(self.message_ids) else Outcome.PARTLY_FAILED

    @property
    def message_ids(self) -> tuple[str, ...]:
        """In the order of the records."""
        return tuple(record["messageId"] for record in self.records)

    @property
    def bodies(self) -> tuple[str, ...]:
        """In the order of the records."""
        return tuple(record["body"] for record in self.records)

    @property
    def receive_counts(self) -> tuple[int, ...]:
        """In the order of the records; 1 for a message's first delivery."""
        return tuple(receive_count(record) for record in self.records)

    def overlaps(self, other: Batch) -> bool:
        """Whether both were in flight at some moment."""
        return self.began < other.ended and other.began < self.ended


def receive_count(record: Record) -> int:
    """How often SQS has delivered the message, this time included."""
    return int(record["attributes"]["ApproximateReceiveCount"])


def once(_: Record) -> Delivery:
    """The ordinary course."""
    return Delivery.ONCE


def failures_in(response: Any, message_ids: Sequence[str]) -> frozenset[str]:
    """The messages that a function's answer reports as failed, by ReportBatchItemFailures.

    Nothing, null, and an object without the list, or with an empty one, report none. An answer of
    another shape, or one that names a message which is not in the batch, fails all.
    """
    everything = frozenset(message_ids)
    if response is None:
        return frozenset()
    if not isinstance(response, dict):
        return everything
    listed = response.get("batchItemFailures")
    if listed is None:
        return frozenset()
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        return everything
    named = [item.get("itemIdentifier") for item in listed]
    return frozenset(named) if all(name in message_ids for name in named) else everything


class MappingRunner:
    """Takes messages from a queue to a function, as Lambda does.

    Args:
        sqs: A boto3 client.
        queue_url: The queue.
        invoke: Given an event, returns what the function answers. Whatever it raises is the
            function's failure, and so is a time-out; but an AssertionError is the test's own.
        batch_size: The most messages to an invocation.
        maximum_concurrency: The most batches in flight, not counting second deliveries.
        reports_batch_item_failures: Whether the function's answer is heeded.
        deliveries: Asked about each message received, one at a time. `once` if not given.
    """

    def __init__(
        self,
        sqs: SQSClient,
        *,
        queue_url: str,
        invoke: Invoke,
        batch_size: int = RECEIVED_AT_MOST,
        maximum_concurrency: int = 2,
        reports_batch_item_failures: bool = False,
        deliveries: DeliveryOf = once,
    ) -> None:
        if not 1 <= batch_size <= RECEIVED_AT_MOST:
            raise ValueError(f"batch_size is {batch_size}: choose 1 to {RECEIVED_AT_MOST}")
        if maximum_concurrency < 1:
            raise ValueError(f"maximum_concurrency is {maximum_concurrency}: choose 1 or more")
        self._queue = _Queue(sqs, queue_url)
        self._invoke = invoke
        self._batch_size = batch_size
        self._maximum_concurrency = maximum_concurrency
        self._reports_batch_item_failures = reports_batch_item_failures
        self._deliveries = deliveries
        self._turn = threading.Lock()
        self._stopping = threading.Event()
        self._pollers: list[threading.Thread] = []
        self._broken: BaseException | None = None
        self._released: deque[Record] = deque()
        self._journal = _Journal()

    # -- running ----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        except (PollerBroke, TimeoutError) as second:
            if error is None:
                raise
            error.add_note(f"Besides: {second!r}")

    def start(self) -> None:
        """Begins to poll, with as many pollers as batches may be in flight."""
        if self._pollers:
            raise RuntimeError("the runner has been started already")
        self._stopping.clear()
        self._pollers = [
            threading.Thread(target=self._poll, name=f"poller-{number}", daemon=True)
            for number in range(self._maximum_concurrency)
        ]
        for poller in self._pollers:
            poller.start()

    def stop(self) -> None:
        """Waits for the batches that are in flight; held messages go back to the queue.

        Raises:
            PollerBroke: a poller had to give up.
            TimeoutError: a batch doesn't end.
        """
        self._stopping.set()
        until = time.monotonic() + PATIENCE_SECONDS
        for poller in self._pollers:
            poller.join(max(0.0, until - time.monotonic()))
        if any(poller.is_alive() for poller in self._pollers):
            raise TimeoutError(f"a batch doesn't end within {PATIENCE_SECONDS} s after the stop")
        self._pollers = []
        self.raise_if_broken()
        self.release()
        for record in self._released:
            self._queue.show_again(record)
        self._released.clear()

    def deliver(self) -> tuple[Batch, ...]:
        """Receives one batch and runs it, in this thread.

        Returns:
            The invocation, and a second one if messages were delivered twice; none if the queue
            has nothing for the function now.
        """
        if self._pollers:
            raise RuntimeError("the runner has pollers: they deliver")
        with self._turn:
            parcel = self._take()
        return self._run_parcel(parcel) if parcel else ()

    def deliver_again(self, batch: Batch) -> Batch:
        """Invokes the function once more with what it was given, as SQS may, however late."""
        return self._run(batch.records)

    def release(self, which: Callable[[Record], bool] = lambda _: True) -> None:
        """Lets held messages go to the function, by the next polls, each once.

        Args:
            which: Whether a message is among them; all are if it isn't given.
        """
        self._released.extend(self._journal.take_held(which))

    # -- what happened ----------------------------------------------------------------------------

    @property
    def batches(self) -> tuple[Batch, ...]:
        """Those that have ended, in the order in which they began."""
        return self._journal.batches

    @property
    def most_in_flight(self) -> int:
        """The most batches there were at once, second deliveries included."""
        return self._journal.most_in_flight

    @property
    def in_flight(self) -> int:
        """How many batches there are now."""
        return self._journal.in_flight

    @property
    def held(self) -> tuple[Record, ...]:
        """What was received and held back, and not released yet."""
        return self._journal.held

    @property
    def lost(self) -> tuple[Record, ...]:
        """What was received and lost."""
        return self._journal.lost

    @property
    def moves(self) -> int:
        """Grows with every beginning and end of a batch, and with every message held or lost."""
        return self._journal.moves

    @property
    def is_empty(self) -> bool:
        """Whether the queue has no message but held ones, and no batch is in flight."""
        visible, in_flight, delayed = self._queue.counts()
        # A batch that has no message left may still have to be written down.
        return visible == delayed == self.in_flight == 0 and in_flight == len(self.held)

    def __str__(self) -> str:
        """The state of its queue and itself, in one line."""
        visible, in_flight, delayed = self._queue.counts()
        errors = [repr(batch.error) for batch in self.batches if batch.error]
        return (
            f"{self._queue.arn}: {visible} visible, {in_flight} in flight, {delayed} delayed, "
            f"{len(self.held)} held, {len(self.lost)} lost; {self.in_flight} batches run, "
            f"{len(self.batches)} ended, {len(errors)} by an error (last: {errors[-1:]})"
        )

    def raise_if_broken(self) -> None:
        """Tells of a poller that had to give up.

        Raises:
            PollerBroke: there is one.
        """
        if self._broken:
            raise PollerBroke(f"a poller gave up: {self._broken!r}") from self._broken

    # -- waiting ----------------------------------------------------------------------------------

    def wait_until(
        self,
        condition: Callable[[], bool],
        what: str,
        *,
        within_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Returns when the condition holds.

        Args:
            condition: Looked at again and again.
            what: Names it, for when it doesn't come true.
            within_seconds: How long it may take.

        Raises:
            PollerBroke: a poller had to give up.
            TimeoutError: the condition didn't come true in time.
        """
        _wait((self,), condition, what, within_seconds=within_seconds)

    def drain(self, *, within_seconds: float = PATIENCE_SECONDS) -> None:
        """Returns when the queue is empty, as `drain` of this module."""
        drain(self, within_seconds=within_seconds)

    # -- within -----------------------------------------------------------------------------------

    def _poll(self) -> None:
        try:
            while not self._stopping.is_set():
                with self._turn:  # One looks at the queue; the others would only look as well.
                    parcel = self._take()
                    if not parcel:
                        self._stopping.wait(IDLE_SECONDS)
                if parcel:
                    self._run_parcel(parcel)
        except BaseException as error:  # noqa: BLE001 # The test's thread raises it.
            self._broken = self._broken or error
            self._stopping.set()

    def _take(self) -> _Parcel | None:
        """What the next invocations are given; called by one thread at a time."""
        if self._released:
            count = min(self._batch_size, len(self._released))
            records = [self._released.popleft() for _ in range(count)]
            for record in records:
                self._queue.hide_as_usual(record)
            return _Parcel(records, [])
        while received := self._queue.receive(self._batch_size):
            parcel = self._parcel_of(received)
            if parcel.records:
                return parcel
        return None

    def _parcel_of(self, received: list[Record]) -> _Parcel:
        parcel = _Parcel([], [])
        for record in received:
            match self._deliveries(record):
                case Delivery.ONCE:
                    parcel.records.append(record)
                case Delivery.TWICE:
                    parcel.records.append(record)
                    parcel.again.append(record)
                case Delivery.HELD:
                    self._queue.hide(record, HELD_SECONDS)
                    self._journal.hold(record)
                case Delivery.LOST:
                    self._queue.delete([record])
                    self._journal.lose(record)
        return parcel

    def _run_parcel(self, parcel: _Parcel) -> tuple[Batch, ...]:
        if not parcel.again:
            return (self._run(parcel.records),)
        with ThreadPoolExecutor(max_workers=1) as beside:
            second = beside.submit(self._run, parcel.again)
            first = self._run(parcel.records)
        return first, second.result()

    def _run(self, records: Sequence[Record]) -> Batch:
        began = self._journal.begin()
        try:
            course = self._course_of(records)
        except BaseException:
            self._journal.abandon()
            raise
        return self._journal.end(tuple(records), began, course)

    def _course_of(self, records: Sequence[Record]) -> _Course:
        response, error = None, None
        try:
            response = self._invoke({"Records": copy.deepcopy(list(records))})
        except AssertionError:
            raise
        except Exception as raised:  # noqa: BLE001 # A function may raise anything.
            error = raised
        failed = self._failed([record["messageId"] for record in records], response, error)
        done = [record for record in records if record["messageId"] not in failed]
        return _Course(response, error, failed, undeleted=self._queue.delete(done))

    def _failed(
        self, message_ids: list[str], response: Any, error: Exception | None
    ) -> frozenset[str]:
        if error:
            return frozenset(message_ids)
        if self._reports_batch_item_failures:
            return failures_in(response, message_ids)
        return frozenset()


def drain(*runners: MappingRunner, within_seconds: float = PATIENCE_SECONDS) -> None:
    """Returns when the runners' queues are empty, all at one moment.

    No message is visible, delayed or, but for held ones, in flight. So messages that failed are
    waited for until they have succeeded or are in a dead letter queue.

    Raises:
        PollerBroke: a poller had to give up.
        TimeoutError: that took too long.
    """

    def all_empty() -> bool:
        # A message may pass from a queue that is looked at later to one that was looked at; and
        # SQS counts one kind after another, so one that changes meanwhile may be in no count.
        moves = [runner.moves for runner in runners]
        empty = all(runner.is_empty for _ in range(2) for runner in runners)
        return empty and moves == [runner.moves for runner in runners]

    _wait(runners, all_empty, "the queues are empty", within_seconds=within_seconds)


def _wait(
    runners: Iterable[MappingRunner],
    condition: Callable[[], bool],
    what: str,
    *,
    within_seconds: float,
) -> None:
    until = time.monotonic() + within_seconds
    while not condition():
        for runner in runners:
            runner.raise_if_broken()
        if time.monotonic() > until:
            lines = "\n".join(f"  {runner}" for runner in runners)
            raise TimeoutError(f"not within {within_seconds} s: {what}\n{lines}")
        time.sleep(LOOK_SECONDS)
    for runner in runners:
        runner.raise_if_broken()


@dataclass(frozen=True)
class _Parcel:
    """What one poll brings to the function."""

    records: list[Record]
    again: list[Record]


@dataclass(frozen=True)
class _Course:
    """How an invocation went."""

    response: Any
    error: Exception | None
    failed: frozenset[str]
    undeleted: frozenset[str]


class _Journal:
    """What happened; every method may be called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches: list[Batch] = []
        self._held: list[Record] = []
        self._lost: list[Record] = []
        self.moves = 0
        self.in_flight = 0
        self.most_in_flight = 0

    def begin(self) -> int:
        with self._lock:
            self.moves += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            return self.moves

    def end(self, records: tuple[Record, ...], began: int, course: _Course) -> Batch:
        with self._lock:
            self.moves += 1
            self.in_flight -= 1
            batch = Batch(
                records=records,
                began=began,
                ended=self.moves,
                response=course.response,
                error=course.error,
                failed=course.failed,
                undeleted=course.undeleted,
            )
            self._batches.append(batch)
            return batch

    def abandon(self) -> None:
        """A batch that is not to be told of: the test itself has failed in it."""
        with self._lock:
            self.moves += 1
            self.in_flight -= 1

    def hold(self, record: Record) -> None:
        with self._lock:
            self.moves += 1
            self._held.append(record)

    def take_held(self, which: Callable[[Record], bool]) -> list[Record]:
        with self._lock:
            self.moves += 1
            taken = [record for record in self._held if which(record)]
            self._held = [record for record in self._held if record not in taken]
            return taken

    def lose(self, record: Record) -> None:
        with self._lock:
            self.moves += 1
            self._lost.append(record)

    @property
    def batches(self) -> tuple[Batch, ...]:
        with self._lock:
            return tuple(sorted(self._batches, key=lambda batch: batch.began))

    @property
    def held(self) -> tuple[Record, ...]:
        with self._lock:
            return tuple(self._held)

    @property
    def lost(self) -> tuple[Record, ...]:
        with self._lock:
            return tuple(self._lost)


class _Queue:
    """A queue as a mapping uses it: messages come as the records that Lambda makes of them."""

    def __init__(self, sqs: SQSClient, url: str) -> None:
        self._sqs = sqs
        self._url = url
        self.arn = self._attributes("QueueArn")["QueueArn"]

    def receive(self, at_most: int) -> list[Record]:
        response = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=at_most,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return [self._record(message) for message in response.get("Messages", [])]

    def delete(self, records: Sequence[Record]) -> frozenset[str]:
        """Gives the ids of messages whose deletion was refused."""
        if not records:
            return frozenset()
        response = self._sqs.delete_message_batch(
            QueueUrl=self._url,
            Entries=[
                {"Id": str(place), "ReceiptHandle": record["receiptHandle"]}
                for place, record in enumerate(records)
            ],
        )
        refused = response.get("Failed", [])
        return frozenset(records[int(entry["Id"])]["messageId"] for entry in refused)

    def hide(self, record: Record, seconds: int) -> None:
        self._sqs.change_message_visibility(
            QueueUrl=self._url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=seconds
        )

    def hide_as_usual(self, record: Record) -> None:
        self.hide(record, int(self._attributes("VisibilityTimeout")["VisibilityTimeout"]))

    def show_again(self, record: Record) -> None:
        self.hide(record, 0)

    def counts(self) -> tuple[int, int, int]:
        """How many messages are visible, in flight, and delayed."""
        attributes = self._attributes(*COUNTED)
        visible, in_flight, delayed = (int(attributes[name]) for name in COUNTED)
        return visible, in_flight, delayed

    def _attributes(self, *names: Any) -> Mapping[Any, str]:
        response = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)
        return response["Attributes"]

    def _record(self, message: Any) -> Record:
        """In Lambda's words; a digest of message attributes is there only where they are."""
        attributes = message.get("MessageAttributes", {})
        record = {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {name: _attribute(value) for name, value in attributes.items()},
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self.arn,
            "awsRegion": self.arn.split(":")[3],
        }
        if attributes:
            record["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
        return record


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no bytes: they come in Base64. The lists are there, and always empty."""
    lists: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    if "BinaryValue" in value:
        text = base64.b64encode(value["BinaryValue"]).decode()
        return {"binaryValue": text, **lists, "dataType": value["DataType"]}
    return {"stringValue": value["StringValue"], **lists, "dataType": value["DataType"]}
