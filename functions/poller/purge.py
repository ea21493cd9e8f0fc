"""The purge's handler: deletes runs that ended long ago."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from runs import logs
from runs.errors import DatabaseUnavailable
from runs.tracing import traced
from runs.wiring import wired

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

LOG = logs.logger()

MARGIN: Final = timedelta(seconds=20)
"""Left of the function's time when the last page begins."""


@traced
@LOG.inject_lambda_context
def handler(_event: dict[str, Any], context: LambdaContext) -> None:
    """Once an hour; without a database what is due waits for the next."""
    within = timedelta(milliseconds=context.get_remaining_time_in_millis()) - MARGIN
    try:
        wired().purging.purge(within=within)
    except DatabaseUnavailable as error:
        LOG.warning("purge_without_database", extra={"error": str(error)})
