"""A sweep: due shards are claimed, and a check is asked for each of their active runs.

The claim is the whole guard: two ticks at once share the shards between them, a tick too many
finds nothing due, and one that dies makes its page a sweep late.

While the Workbench's breaker is open, of the runs in trouble only a few are asked about, as probes,
and those that can't wait.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Final

from runs.deadlines import LONGEST_OUTAGE
from runs.messages import SHARDS, CheckMessage, TickMessage
from runs.metrics import Metric
from runs.ports import Delayed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from runs.ports import Breaker, Breakers, CheckQueue, Claim, Clock, Meter, Runs, TickQueue

LOG = logging.getLogger(__name__)

PAGE: Final = 16
"""Shards to a claim."""
TICK_WORTH: Final = timedelta(seconds=45)
"""A tick that is later than this does nothing: the next one is due."""
PACKS: Final = 100
"""Messages that a sweep aims at; beyond that messages carry more runs."""
LARGEST_PACK: Final = 50
MINUTE_SECONDS: Final = 60
PROBE_SECONDS: Final = 5
"""Between two probes of a Workbench whose breaker is open."""


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
    breakers: Breakers
    workbench_api_url: str
    check_queue: CheckQueue
    retry_queue: CheckQueue
    tick_queue: TickQueue
    meter: Meter
    clock: Clock
    poll_interval: timedelta

    def begin_minute(self, minute: datetime, *, within: timedelta) -> SweepReport:
        """Wave 0: sends the minute's other waves, before all else, and sweeps."""
        deadline = self.clock() + within.total_seconds()
        interval = round(self.poll_interval.total_seconds())
        for wave in range(1, MINUTE_SECONDS // interval):
            self.tick_queue.send(
                TickMessage(minute=minute, wave=wave), delay_seconds=wave * interval
            )
        left = timedelta(seconds=max(0.0, deadline - self.clock()))
        return self.sweep(TickMessage(minute=minute, wave=0), within=left)

    def sweep(self, tick: TickMessage, *, within: timedelta) -> SweepReport:
        """Claims what is due of the tick's shards, page by page, and fans out.

        What there is no time to claim stays due for the next tick.
        """
        deadline = self.clock() + within.total_seconds()
        not_after = tick.minute + tick.wave * self.poll_interval + TICK_WORTH
        breaker = self.breakers.breaker(self.workbench_api_url)
        now = tick.minute
        shards = runs = messages = unsent = 0
        for page in _pages(tick.shards):
            if self.clock() > deadline:
                LOG.warning("sweep_out_of_time", extra={"wave": tick.wave})
                break
            claim = self.runs.claim(page, older_than=self.poll_interval / 2, not_after=not_after)
            now = claim.now
            sent, failed = self._fan_out(claim, breaker)
            shards += claim.shards
            runs += len(claim.due)
            messages += sent
            unsent += failed
        if breaker.opened_at and shards:
            sent, failed = self._probe(now)
            messages += sent
            unsent += failed
        report = SweepReport(shards=shards, runs=runs, messages=messages, unsent=unsent)
        LOG.info("swept", extra={"wave": tick.wave, **asdict(report)})
        due_at = tick.minute + tick.wave * self.poll_interval
        self.meter.tell(
            {
                Metric.TICKS: 1,
                Metric.TICK_LAG: max(0.0, (now - due_at).total_seconds()),
                Metric.SHARDS_CLAIMED: shards,
                Metric.CHECKS_DUE: runs,
                Metric.MESSAGES_UNSENT: unsent,
            }
        )
        return report

    def _fan_out(self, claim: Claim, breaker: Breaker) -> tuple[int, int]:
        """Asks for the checks; what can't be sent is left to the next sweep."""
        healthy = [due.run_id for due in claim.due if not due.troubled]
        packs = list(_packs(healthy, claim))
        unsent = self.check_queue.send(_messages(packs, claim.now))
        if packs and unsent == len(packs):
            return len(packs), unsent
        troubled = self._spared([due.run_id for due in claim.due if due.troubled], claim, breaker)
        alone = [(run_id,) for run_id in troubled]
        unsent += self.retry_queue.send(_messages(alone, claim.now))
        return len(packs) + len(alone), unsent

    def _spared(self, troubled: Sequence[int], claim: Claim, breaker: Breaker) -> Sequence[int]:
        """What is left of the runs in trouble when the Workbench is spared."""
        if not troubled:
            return ()
        just_closed = breaker.closed_at and claim.now < breaker.closed_at + self.poll_interval
        if not breaker.opened_at and not just_closed:
            return troubled
        pressing = self.runs.pressing(troubled, outage=LONGEST_OUTAGE)
        if breaker.opened_at:
            return pressing
        rest = [run_id for run_id in troubled if run_id not in set(pressing)]
        return [*pressing, *rest[::2]]  # The others follow in the next sweep.

    def _probe(self, now: datetime) -> tuple[int, int]:
        """Asks for checks of a few runs, spread over the interval."""
        most = round(self.poll_interval.total_seconds()) // PROBE_SECONDS
        probes = self.breakers.probes(
            self.workbench_api_url, most=most, every=self.poll_interval / 2
        )
        messages = [
            Delayed(
                CheckMessage(run_ids=(run_id,), sent_at=now + timedelta(seconds=delay)),
                delay_seconds=delay,
            )
            for run_id, delay in zip(probes, count(0, PROBE_SECONDS), strict=False)
        ]
        return len(messages), self.retry_queue.send(messages)


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
