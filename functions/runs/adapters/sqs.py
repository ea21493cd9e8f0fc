"""Our queues on SQS."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runs.messages import TickMessage
    from runs.ports import Delayed

LOG = logging.getLogger(__name__)

BATCH: Final = 10
"""Messages to a request, by SQS's rule."""
SIDE_BY_SIDE: Final = 8


class SqsCheckQueue:
    """`ports.CheckQueue` on SQS."""

    def __init__(self, client: Callable[[], Any], queue_url: str) -> None:
        """Makes no client yet.

        Args:
            client: gives boto3's SQS client, on first use.
            queue_url: the queue's.
        """
        self._client = client
        self._queue_url = queue_url

    def send(self, messages: Sequence[Delayed]) -> int:
        """See `ports.CheckQueue`."""
        batches = [messages[at : at + BATCH] for at in range(0, len(messages), BATCH)]
        if len(batches) <= 1:
            return sum(map(self._send_twice, batches))
        self._client()  # boto3 makes clients one at a time.
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            return sum(pool.map(self._send_twice, batches))

    def _send_twice(self, batch: Sequence[Delayed]) -> int:
        """Sends a batch, and what of it was refused once more; without an answer that is all."""
        refused = self._send(batch)
        if refused is None:
            return len(batch)
        again = self._send(refused) if refused else ()
        return len(refused) if again is None else len(again)

    def _send(self, batch: Sequence[Delayed]) -> Sequence[Delayed] | None:
        """Those that were refused; None: no answer came."""
        entries = [
            {
                "Id": str(number),
                "MessageBody": delayed.message.to_json(),
                "DelaySeconds": delayed.delay_seconds,
            }
            for number, delayed in enumerate(batch)
        ]
        send = self._client().send_message_batch
        answer = _answer(send, QueueUrl=self._queue_url, Entries=entries)
        if answer is None:
            return None
        return [batch[int(failed["Id"])] for failed in answer.get("Failed", ())]

    def release(self, receipt_handles: Sequence[str]) -> None:
        """See `ports.CheckQueue`."""
        entries = [
            {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
            for number, handle in enumerate(receipt_handles)
        ]
        release = self._client().change_message_visibility_batch
        _answer(release, QueueUrl=self._queue_url, Entries=entries)


class SqsTickQueue:
    """`ports.TickQueue` on SQS."""

    def __init__(self, client: Callable[[], Any], queue_url: str) -> None:
        """Makes no client yet.

        Args:
            client: gives boto3's SQS client, on first use.
            queue_url: the queue's.
        """
        self._client = client
        self._queue_url = queue_url

    def send(self, message: TickMessage, *, delay_seconds: int) -> None:
        """See `ports.TickQueue`."""
        _answer(
            self._client().send_message,
            QueueUrl=self._queue_url,
            MessageBody=message.to_json(),
            DelaySeconds=delay_seconds,
        )


def _answer(call: Callable[..., dict[str, Any]], **request: Any) -> dict[str, Any] | None:
    """What SQS answers; None, and a line in the log, when it refuses or can't be reached."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # with boto3

    try:
        return call(**request)
    except (BotoCoreError, ClientError) as error:
        LOG.warning("queue_unavailable", extra={"error": str(error)})
        return None
