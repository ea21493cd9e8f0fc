"""The purge: runs that ended long ago are deleted, each with all that hangs on it.

It may run at any time, as often as one likes and twice at once: what it takes is decided by one
statement over what is committed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runs.metrics import Metric

if TYPE_CHECKING:
    from datetime import timedelta

    from runs.ports import Clock, Meter, Retention

LOG = logging.getLogger(__name__)

PAGE: Final = 500
"""Runs to a transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purging:
    """The use case, with what it needs."""

    retention: Retention
    meter: Meter
    clock: Clock
    kept_for: timedelta | None
    """How long a run is kept once it has ended; None: for ever."""

    def purge(self, *, within: timedelta) -> int:
        """Deletes page after page while there is time; the rest waits for the next purge.

        Returns:
            How many runs.

        Raises:
            DatabaseUnavailable: what was deleted so far is deleted.
        """
        if self.kept_for is None:
            return 0
        deadline = self.clock() + within.total_seconds()
        purged = 0
        while self.clock() < deadline:
            page = self.retention.purge(older_than=self.kept_for, most=PAGE)
            purged += page
            if page < PAGE:
                break
        LOG.info("purged", extra={"runs": purged})
        self.meter.tell({Metric.RUNS_PURGED: purged})
        return purged
