"""A sweep: due shards are claimed, and a check is asked for each of their active runs.

The claim is the whole guard: two ticks at once share the shards between them, a tick too many
finds nothing due, and one that dies makes its page a sweep late.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from runs.messages import SHARDS, CheckMessage, TickMessage
from runs.ports import Delayed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from runs.ports import CheckQueue, Claim, Runs, TickQueue

LOG = logging.getLogger(__name__)

PAGE: Final = 16
"""Shards to a claim."""
TICK_WORTH: Final = timedelta(seconds=45)
"""A tick that is later than this does nothing: the next one is due."""
PACKS: Final = 100
"""Messages that a sweep aims at; beyond that messages carry more runs."""
LARGEST_PACK: Final = 50
MINUTE_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What a sweep did."""

    shards: int = 0
    runs: int = 0
    messages: int = 0
    unsent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeping:
    """The use case, with what it needs."""

    runs: Runs
    check_queue: CheckQueue
    retry_queue: CheckQueue
    tick_queue: TickQueue
    poll_interval: timedelta

    def begin_minute(self, minute: datetime) -> SweepReport:
        """Wave 0: sends the minute's other waves, before all else, and sweeps."""
        interval = round(self.poll_interval.total_seconds())
        for wave in range(1, MINUTE_SECONDS // interval):
            self.tick_queue.send(
                TickMessage(minute=minute, wave=wave), delay_seconds=wave * interval
            )
        return self.sweep(TickMessage(minute=minute, wave=0))

    def sweep(self, tick: TickMessage) -> SweepReport:
        """Claims what is due of the tick's shards, page by page, and fans out."""
        not_after = tick.minute + tick.wave * self.poll_interval + TICK_WORTH
        shards = runs = messages = unsent = 0
        for page in _pages(tick.shards):
            claim = self.runs.claim(page, older_than=self.poll_interval / 2, not_after=not_after)
            sent, failed = self._fan_out(claim)
            shards += claim.shards
            runs += len(claim.due)
            messages += sent
            unsent += failed
        report = SweepReport(shards=shards, runs=runs, messages=messages, unsent=unsent)
        LOG.info("swept", extra={"wave": tick.wave, **asdict(report)})
        return report

    def _fan_out(self, claim: Claim) -> tuple[int, int]:
        """Asks for the checks; what can't be sent is left to the next sweep."""
        healthy = [due.run_id for due in claim.due if not due.troubled]
        troubled = [due.run_id for due in claim.due if due.troubled]
        packs = list(_packs(healthy, claim))
        alone = [(run_id,) for run_id in troubled]
        unsent = self.check_queue.send(_messages(packs, claim.now))
        unsent += self.retry_queue.send(_messages(alone, claim.now))
        return len(packs) + len(alone), unsent


def pack_size(active: int) -> int:
    """How many runs share a message when so many are active."""
    return max(1, min(LARGEST_PACK, -(-active // PACKS)))


def _pages(shards: tuple[int, int]) -> Iterator[Sequence[int]]:
    """Pages of shards that lie apart: ids are given in turn, so neighbours are alike."""
    first, last = shards
    pages = -(-(last + 1 - first) // PAGE)
    for start in range(first, first + pages):
        yield range(start, last + 1, pages)


def _packs(run_ids: Sequence[int], claim: Claim) -> Iterator[tuple[int, ...]]:
    """Packs sized as if every shard held as many runs as the claimed ones."""
    if not run_ids:
        return
    size = pack_size(len(run_ids) * SHARDS // max(1, claim.shards))
    for start in range(0, len(run_ids), size):
        yield tuple(run_ids[start : start + size])


def _messages(packs: Sequence[tuple[int, ...]], now: datetime) -> Sequence[Delayed]:
    return [Delayed(CheckMessage(run_ids=pack, sent_at=now)) for pack in packs]
