"""Reads what waits in the stack's queues, and leaves it there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from infra.verify.reading import QueueFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.local.stack_file import Stack

COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
)
AT_A_TIME: Final = 10
HIDDEN_SECONDS: Final = 20
"""For so long a message that was looked at is not looked at again; at the end all are shown."""


@dataclass(frozen=True, slots=True)
class StackQueues:
    """The queues of a stack, by a client of its SQS."""

    sqs: Any
    urls: Mapping[str, str]
    dlq_url: str

    @classmethod
    def of(cls, stack: Stack, sqs: Any) -> StackQueues:
        """Those of a local stack."""
        urls = {
            "check": stack.check_queue_url,
            "retry": stack.retry_queue_url,
            "tick": stack.tick_queue_url,
            "dlq": stack.check_dlq_url,
        }
        return cls(sqs, urls, stack.check_dlq_url)

    def read(self) -> QueueFacts:
        """How many messages each queue has, and the DLQ's bodies."""
        waiting = {name: self._count(url) for name, url in self.urls.items()}
        return QueueFacts(waiting=waiting, dead_letters=self._dead_letters())

    def _count(self, url: str) -> int:
        told = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(COUNTS))
        return sum(int(told["Attributes"][name]) for name in COUNTS)

    def _dead_letters(self) -> list[str]:
        bodies: list[str] = []
        receipts: list[str] = []
        while messages := self._receive():
            bodies += [message["Body"] for message in messages]
            receipts += [message["ReceiptHandle"] for message in messages]
        for receipt in receipts:
            self.sqs.change_message_visibility(
                QueueUrl=self.dlq_url, ReceiptHandle=receipt, VisibilityTimeout=0
            )
        return bodies

    def _receive(self) -> list[dict[str, Any]]:
        answer = self.sqs.receive_message(
            QueueUrl=self.dlq_url,
            MaxNumberOfMessages=AT_A_TIME,
            VisibilityTimeout=HIDDEN_SECONDS,
            WaitTimeSeconds=0,
        )
        found: list[dict[str, Any]] = answer.get("Messages", [])
        return found
