"""The schedule's and the tick queue's handler: claims shards and fans out; it never checks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from runs import logs
from runs.errors import DatabaseUnavailable
from runs.messages import MessageUnreadable, TickMessage
from runs.model import QUOTE_LENGTH
from runs.tracing import traced
from runs.wiring import wired

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

LOG = logs.logger()

MARGIN: Final = timedelta(seconds=10)
"""Left of the function's time when the last page of shards is claimed."""


@traced
@LOG.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Without a database the tick is over: the next one is the retry."""
    within = timedelta(milliseconds=context.get_remaining_time_in_millis()) - MARGIN
    try:
        _sweep(event, within)
    except DatabaseUnavailable as error:
        LOG.warning("tick_without_database", extra={"error": str(error)})


def _sweep(event: dict[str, Any], within: timedelta) -> None:
    """EventBridge's scheduled event is wave 0 of a minute; a message names its wave."""
    if "Records" not in event:
        wired().sweeping.begin_minute(datetime.fromisoformat(event["time"]), within=within)
        return
    for record in event["Records"]:
        try:
            tick = TickMessage.from_json(record["body"])
        except MessageUnreadable as error:
            LOG.warning("tick_unreadable", extra={"error": str(error)[:QUOTE_LENGTH]})
        else:
            wired().sweeping.sweep(tick, within=within)
