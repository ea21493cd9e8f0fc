"""SQS in memory, in a World's time: as much of a boto3 client as our adapters and mappings call."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from hashlib import md5
from itertools import count
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memory_database import FakeTime

VISIBILITY_SECONDS: Final = 180
MOST_RECEIVES: Final = 3
"""As the template has it; what comes more often is a dead letter."""
ARN: Final = "arn:aws:sqs:eu-west-2:000000000000:"


@dataclass
class Message:
    """One that waits, or is in flight until it is visible again."""

    id: str
    body: str
    visible_at: float
    receives: int = 0


@dataclass
class MemorySqs:
    """The queues of one account, by their addresses; they are made on first use.

    Attributes:
        time: For delays and visibility.
        queues: What is in them.
        refuses: So many of the next messages to a queue are refused.
        dead_letters: Bodies that were received too often.
    """

    time: FakeTime
    queues: dict[str, list[Message]] = field(default_factory=dict)
    refuses: dict[str, int] = field(default_factory=dict)
    dead_letters: list[str] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def queue(self, url: str) -> list[Message]:
        return self.queues.setdefault(url, [])

    def next_due_at(self, url: str) -> float:
        """When the next message is delivered; infinite for an empty queue."""
        return min((message.visible_at for message in self.queue(url)), default=math.inf)

    # -- the client -------------------------------------------------------------------------------

    def send_message(self, **call: Any) -> dict[str, Any]:
        message = Message(
            id=str(next(self._numbers)),
            body=call["MessageBody"],
            visible_at=self.time() + call.get("DelaySeconds", 0),
        )
        self.queue(call["QueueUrl"]).append(message)
        return {"MessageId": message.id}

    def send_message_batch(self, **call: Any) -> dict[str, Any]:
        url, failed = call["QueueUrl"], []
        for entry in call["Entries"]:
            if self.refuses.get(url, 0) > 0:
                self.refuses[url] -= 1
                failed.append({"Id": entry["Id"], "SenderFault": False, "Code": "Throttled"})
            else:
                self.send_message(QueueUrl=url, **entry)
        return {"Successful": [], "Failed": failed}

    def receive_message(self, **call: Any) -> dict[str, Any]:
        url, now = call["QueueUrl"], self.time()
        received: list[Message] = []
        for message in sorted(self.queue(url), key=lambda message: message.visible_at):
            if message.visible_at > now or len(received) == call["MaxNumberOfMessages"]:
                break
            message.receives += 1
            if message.receives > MOST_RECEIVES:
                self.queue(url).remove(message)
                self.dead_letters.append(message.body)
            else:
                message.visible_at = now + VISIBILITY_SECONDS
                received.append(message)
        return {"Messages": [_told(message) for message in received]}

    def delete_message_batch(self, **call: Any) -> dict[str, Any]:
        gone = {entry["ReceiptHandle"] for entry in call["Entries"]}
        queue = self.queue(call["QueueUrl"])
        queue[:] = [message for message in queue if message.id not in gone]
        return {}

    def change_message_visibility(self, **call: Any) -> None:
        for message in self.queue(call["QueueUrl"]):
            if message.id == call["ReceiptHandle"]:
                message.visible_at = self.time() + call["VisibilityTimeout"]

    def change_message_visibility_batch(self, **call: Any) -> dict[str, Any]:
        for entry in call["Entries"]:
            self.change_message_visibility(QueueUrl=call["QueueUrl"], **entry)
        return {}

    def get_queue_attributes(self, **call: Any) -> dict[str, Any]:
        url: str = call["QueueUrl"]
        names: Sequence[str] = call["AttributeNames"]
        known = {
            "QueueArn": ARN + url.rpartition("/")[2],
            "VisibilityTimeout": str(VISIBILITY_SECONDS),
        }
        return {"Attributes": {name: known[name] for name in names}}


def _told(message: Message) -> dict[str, Any]:
    return {
        "MessageId": message.id,
        "ReceiptHandle": message.id,
        "Body": message.body,
        "MD5OfBody": md5(message.body.encode(), usedforsecurity=False).hexdigest(),
        "Attributes": {"ApproximateReceiveCount": str(message.receives)},
    }
