"""The relay's handler: sends the events that their writers did not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runs import logs
from runs.errors import DatabaseUnavailable
from runs.tracing import traced
from runs.wiring import wired

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

LOG = logs.logger()


@traced
@LOG.inject_lambda_context
def handler(_event: dict[str, Any], _context: LambdaContext) -> None:
    """Once a minute; without a database what is left waits for the next."""
    try:
        published = wired().publishing.relay()
    except DatabaseUnavailable as error:
        LOG.warning("relay_without_database", extra={"error": str(error)})
        return
    if published:
        LOG.info("relayed", extra={"count": published})
