"""Our queues on SQS: what arrives, and what becomes of what SQS doesn't take."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from runs.adapters.sqs import SqsCheckQueue, SqsTickQueue
from runs.messages import CheckMessage, TickMessage
from runs.ports import Delayed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_sqs import SQSClient

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
URL = "http://queue"


def checks(count: int, *, delay_seconds: int = 0) -> list[Delayed]:
    return [
        Delayed(CheckMessage(run_ids=(n,), sent_at=NOON), delay_seconds=delay_seconds)
        for n in range(count)
    ]


# -- on SQS as moto has it ------------------------------------------------------------------------


@pytest.fixture
def sqs() -> Iterator[SQSClient]:
    with mock_aws():
        session = boto3.session.Session(region_name="eu-central-1")
        yield session.client("sqs")


@pytest.fixture
def url(sqs: SQSClient) -> str:
    return sqs.create_queue(QueueName="checks")["QueueUrl"]


def received(sqs: SQSClient, url: str, *, attributes: bool = False) -> list[Any]:
    """Everything that is in the queue."""
    found: list[Any] = []
    while more := sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=10,
        MessageSystemAttributeNames=["All"] if attributes else [],
    ).get("Messages"):
        found += more
    return found


@pytest.mark.parametrize("count", [0, 1, 10, 11, 95])
def test_every_message_arrives_once(sqs: SQSClient, url: str, count: int) -> None:
    sent = checks(count)

    assert SqsCheckQueue(lambda: sqs, url).send(sent) == 0

    arrived = [CheckMessage.from_json(message["Body"]) for message in received(sqs, url)]
    assert sorted(message.run_ids for message in arrived) == [(n,) for n in range(count)]
    assert {message.sent_at for message in arrived} <= {NOON}


def test_a_delayed_message_is_not_there_at_once(sqs: SQSClient, url: str) -> None:
    SqsCheckQueue(lambda: sqs, url).send(checks(1, delay_seconds=900))

    assert not received(sqs, url)
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessagesDelayed"] == "1"


def test_released_messages_are_delivered_again_at_once(sqs: SQSClient, url: str) -> None:
    queue = SqsCheckQueue(lambda: sqs, url)
    queue.send(checks(3))
    handles = [message["ReceiptHandle"] for message in received(sqs, url)]
    assert not received(sqs, url)

    queue.release(handles[:2])

    assert len(received(sqs, url)) == 2


def test_a_tick_arrives_after_its_delay(sqs: SQSClient, url: str) -> None:
    queue = SqsTickQueue(lambda: sqs, url)
    tick = TickMessage(minute=NOON, wave=1)

    queue.send(tick, delay_seconds=0)
    queue.send(tick, delay_seconds=30)

    assert [TickMessage.from_json(message["Body"]) for message in received(sqs, url)] == [tick]


# -- on one that refuses --------------------------------------------------------------------------

REFUSED = ClientError({"Error": {"Code": "ThrottlingException"}}, "SendMessageBatch")
UNREACHABLE = EndpointConnectionError(endpoint_url=URL)


class RefusingSqs:
    """Notes what it is asked, and answers each request by what `refuse` says of it.

    Args:
        refuse: Told a request's number and entries; gives the ids that failed, or raises.
    """

    def __init__(self, refuse: Callable[[int, list[dict[str, Any]]], list[str]]) -> None:
        self.requests: list[dict[str, Any]] = []
        self._refuse = refuse
        self._lock = threading.Lock()

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
        failed = self._refuse(number, request["Entries"])
        return {"Failed": [{"Id": one, "Code": "InternalError"} for one in failed]}

    def change_message_visibility_batch(self, **request: Any) -> dict[str, Any]:
        self.requests.append(request)
        return {"Failed": self._refuse(1, request["Entries"])}

    def send_message(self, **request: Any) -> dict[str, Any]:
        self.requests.append(request)
        self._refuse(1, [request])
        return {}

    @property
    def tried(self) -> list[list[tuple[int, ...]]]:
        """The runs of each request's messages."""
        return [
            [CheckMessage.from_json(entry["MessageBody"]).run_ids for entry in request["Entries"]]
            for request in self.requests
        ]


def raising(error: Exception) -> Callable[[int, list[dict[str, Any]]], list[str]]:
    def refuse(number: int, entries: list[dict[str, Any]]) -> list[str]:
        del number, entries
        raise error

    return refuse


def test_f19_what_was_refused_is_sent_once_more() -> None:
    sqs = RefusingSqs(lambda number, _: ["1", "4", "9"] if number == 1 else [])

    assert SqsCheckQueue(lambda: sqs, URL).send(checks(10)) == 0

    assert sqs.tried == [[(n,) for n in range(10)], [(1,), (4,), (9,)]]


def test_f19_what_is_refused_twice_is_counted() -> None:
    sqs = RefusingSqs(lambda number, _: ["1", "4", "9"] if number == 1 else ["0", "2"])

    assert SqsCheckQueue(lambda: sqs, URL).send(checks(10)) == 2

    assert len(sqs.requests) == 2


@pytest.mark.parametrize("error", [REFUSED, UNREACHABLE])
def test_f20_without_an_answer_a_batch_is_counted_and_left_to_the_next_sweep(
    error: Exception,
) -> None:
    """The client has tried twice by itself, and a tick has to end in time."""
    sqs = RefusingSqs(raising(error))

    assert SqsCheckQueue(lambda: sqs, URL).send(checks(10)) == 10

    assert len(sqs.requests) == 1


def test_f20_batches_are_sent_side_by_side_and_each_fails_for_itself() -> None:
    """Of three batches the second, runs 10 to 19, gets no answer."""

    def refuse(_: int, entries: list[dict[str, Any]]) -> list[str]:
        if CheckMessage.from_json(entries[0]["MessageBody"]).run_ids == (10,):
            raise REFUSED
        return []

    sqs = RefusingSqs(refuse)

    assert SqsCheckQueue(lambda: sqs, URL).send(checks(25)) == 10

    assert sorted(len(batch) for batch in sqs.tried) == [5, 10, 10]


def test_nothing_to_send_asks_for_no_client() -> None:
    def none_needed() -> Any:
        raise AssertionError("a client was made")

    assert SqsCheckQueue(none_needed, URL).send([]) == 0


@pytest.mark.parametrize("error", [REFUSED, UNREACHABLE])
def test_f40_a_release_that_fails_is_borne(error: Exception) -> None:
    """The messages come again when their visibility time-out is over."""
    sqs = RefusingSqs(raising(error))
    SqsCheckQueue(lambda: sqs, URL).release(["a"])
    assert sqs.requests[0]["Entries"] == [{"Id": "0", "ReceiptHandle": "a", "VisibilityTimeout": 0}]


@pytest.mark.parametrize("error", [REFUSED, UNREACHABLE])
def test_f20_a_wave_that_cannot_be_sent_keeps_no_tick_from_sweeping(error: Exception) -> None:
    sqs = RefusingSqs(raising(error))
    SqsTickQueue(lambda: sqs, URL).send(TickMessage(minute=NOON, wave=1), delay_seconds=30)
    assert sqs.requests[0]["DelaySeconds"] == 30
