"""The hunt's handler: looks for jobs that no run wants."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from runs import logs
from runs.errors import DatabaseUnavailable
from runs.wiring import wired

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

LOG = logs.logger()


@LOG.inject_lambda_context
def handler(_event: dict[str, Any], _context: LambdaContext) -> None:
    """Once a minute; without a database what is due waits for the next."""
    try:
        report = wired().hunting.hunt()
    except DatabaseUnavailable as error:
        LOG.warning("hunt_without_database", extra={"error": str(error)})
        return
    if report.checks:
        LOG.info("hunted", extra=asdict(report))
