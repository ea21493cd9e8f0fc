"""The hunt's handler: looks for jobs that no run wants."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from runs import logs
from runs.errors import DatabaseUnavailable
from runs.tracing import traced
from runs.wiring import wired

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

LOG = logs.logger()

MARGIN: Final = timedelta(seconds=15)
"""Left of the function's time when the last look begins: it may wait for three answers."""


@traced
@LOG.inject_lambda_context
def handler(_event: dict[str, Any], context: LambdaContext) -> None:
    """Once a minute; without a database what is due waits for the next."""
    within = timedelta(milliseconds=context.get_remaining_time_in_millis()) - MARGIN
    try:
        report = wired().hunting.hunt(within=within)
    except DatabaseUnavailable as error:
        LOG.warning("hunt_without_database", extra={"error": str(error)})
        return
    if report.checks:
        LOG.info("hunted", extra=asdict(report))
