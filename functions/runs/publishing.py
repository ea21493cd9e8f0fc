"""Publishing: every status event reaches the bus at least once.

The events table is history and outbox in one: the writer publishes after its commit, best effort,
and the relay sends what was left.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runs.errors import DatabaseUnavailable
from runs.metrics import Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runs.events import RunEvent
    from runs.ports import EventBus, Meter, Runs

LOG = logging.getLogger(__name__)

RELAY_PAGE: Final = 500
RELAY_PAGES: Final = 20


@dataclass(frozen=True, slots=True)
class Publishing:
    """The use case, with what it needs."""

    runs: Runs
    bus: EventBus
    meter: Meter

    def publish(self, events: Sequence[RunEvent]) -> int:
        """Tells of changes that were just made; returns how many the bus took."""
        for status, number in Counter(event.status for event in events).items():
            self.meter.tell({Metric.RUNS_ENTERED: number}, status=status)
        return self._send(events)

    def _send(self, events: Sequence[RunEvent]) -> int:
        """Tells the bus and remembers it."""
        if not events:
            return 0
        taken = self.bus.publish(events)
        if len(taken) < len(events):
            LOG.warning("events_not_published", extra={"count": len(events) - len(taken)})
        if taken:
            self._remember(taken)
        return len(taken)

    def _remember(self, taken: Sequence[RunEvent]) -> None:
        """What isn't remembered is published once more, which consumers bear."""
        try:
            self.runs.mark_published(taken)
        except DatabaseUnavailable as error:
            LOG.warning("published_not_remembered", extra={"error": str(error)})

    def relay(self) -> int:
        """Publishes what was left unpublished, one relay at a time; returns how many."""
        if not self.runs.relaying():
            return 0
        try:
            return self._relay()
        finally:
            self.runs.relayed()

    def _relay(self) -> int:
        published = 0
        for _ in range(RELAY_PAGES):
            events = self.runs.unpublished(RELAY_PAGE)
            taken = self._send(events)
            published += taken
            if taken < RELAY_PAGE:
                break
        return published
