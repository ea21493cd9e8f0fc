"""The event bus on EventBridge."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

from runs.events import DETAIL_TYPE, SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runs.events import RunEvent

LOG = logging.getLogger(__name__)

BATCH: Final = 10
"""Events to a request, by EventBridge's rule."""


class EventBridgeBus:
    """`ports.EventBus` on EventBridge."""

    def __init__(self, client: Callable[[], Any], bus_name: str) -> None:
        """Makes no client yet.

        Args:
            client: gives boto3's EventBridge client, on first use.
            bus_name: the bus's name.
        """
        self._client = client
        self._bus_name = bus_name

    def publish(self, events: Sequence[RunEvent]) -> Sequence[RunEvent]:
        """See `ports.EventBus`; a run's later events wait while an earlier one isn't taken."""
        taken: list[RunEvent] = []
        held_back: set[int] = set()
        for batch in _batches(events):
            ready = [event for event in batch if event.run_id not in held_back]
            refused = self._put(ready) if ready else set()
            held_back |= {ready[number].run_id for number in refused}
            taken += [event for number, event in enumerate(ready) if number not in refused]
        return taken

    def _put(self, events: Sequence[RunEvent]) -> set[int]:
        """The places of those that the bus refused; all when no answer came."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # with boto3

        entries = [
            {
                "EventBusName": self._bus_name,
                "Source": SOURCE,
                "DetailType": DETAIL_TYPE,
                "Time": event.at,
                "Detail": json.dumps(event.detail),
            }
            for event in events
        ]
        try:
            answer = self._client().put_events(Entries=entries)
        except (BotoCoreError, ClientError) as error:
            LOG.warning("event_bus_unavailable", extra={"error": str(error)})
            return set(range(len(events)))
        return {n for n, entry in enumerate(answer["Entries"]) if "EventId" not in entry}


def _batches(events: Sequence[RunEvent]) -> Iterator[list[RunEvent]]:
    """Requests of ten at most, in order, with no run twice in one: it may be refused in part."""
    batch: list[RunEvent] = []
    runs: set[int] = set()
    for event in events:
        if len(batch) == BATCH or event.run_id in runs:
            yield batch
            batch, runs = [], set()
        batch.append(event)
        runs.add(event.run_id)
    if batch:
        yield batch
