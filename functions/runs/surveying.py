"""The survey: how all runs fare, in figures, apart from those whose work it is.

What it tells of the poller's work is seen in the database alone, so it tells of it too when nobody
does that work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runs.metrics import Metric

if TYPE_CHECKING:
    from runs.ports import Fleet, Meter, Overviews


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveying:
    """The use case, with what it needs."""

    overviews: Overviews
    meter: Meter
    workbench_api_url: str

    def survey(self) -> Fleet:
        """Looks once, and tells.

        Raises:
            DatabaseUnavailable: nothing was told.
        """
        fleet = self.overviews.fleet(workbench=self.workbench_api_url)
        median, high, most = fleet.staleness_seconds
        self.meter.tell(
            {
                Metric.RUNS_IN_TROUBLE: fleet.troubled,
                Metric.STALENESS_P50: median,
                Metric.STALENESS_P99: high,
                Metric.STALENESS_MAX: most,
                Metric.UNPUBLISHED_EVENT_AGE: fleet.unpublished_seconds,
                Metric.BREAKER_OPEN: int(fleet.is_spared),
            }
        )
        for status, number in fleet.active.items():
            self.meter.tell({Metric.ACTIVE_RUNS: number}, status=status)
        return fleet
