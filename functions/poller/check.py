"""The check queue's and the retry queue's handler: looks at each run that its messages name."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from runs import logs
from runs.errors import DatabaseUnavailable
from runs.messages import CheckMessage, MessageUnreadable
from runs.metrics import Metric
from runs.model import QUOTE_LENGTH
from runs.tracing import traced
from runs.wiring import wired

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

LOG = logs.logger()

MARGIN: Final = timedelta(seconds=10)
"""Left of the function's time when the asking ends."""


@traced
@LOG.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Reports as failed only what can't be read: that alone may come to the DLQ."""
    messages, unreadable = _read(event["Records"])
    within = timedelta(milliseconds=context.get_remaining_time_in_millis()) - MARGIN
    try:
        wired().checking.check(messages, within=within)
    except DatabaseUnavailable as error:
        LOG.warning("check_without_database", extra={"error": str(error)})
    if unreadable:
        wired().meter.tell({Metric.MESSAGES_UNREADABLE: len(unreadable)})
        # On to their next try, and so to the DLQ, before the queue's retention ends them.
        queue = wired().queue_of(unreadable[0]["eventSourceARN"])
        queue.release([record["receiptHandle"] for record in unreadable])
    return {"batchItemFailures": [{"itemIdentifier": one["messageId"]} for one in unreadable]}


def _read(records: list[dict[str, Any]]) -> tuple[list[CheckMessage], list[dict[str, Any]]]:
    messages: list[CheckMessage] = []
    unreadable: list[dict[str, Any]] = []
    for record in records:
        try:
            messages.append(CheckMessage.from_json(record["body"]))
        except MessageUnreadable as error:
            told = {"message_id": record["messageId"], "error": str(error)[:QUOTE_LENGTH]}
            LOG.warning("message_unreadable", extra=told)
            unreadable.append(record)
    return messages, unreadable
