"""The hunt: jobs that no run wants are looked for where one may exist, and cancelled.

Conductor may send a POST twice, and a reply may be lost; a Workbench that honours its keys makes
one job of that all the same. For one that doesn't, or when it never became clear, a stray check
was noted; it is looked into after 1 and after 15 minutes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from runs.errors import WorkbenchUnavailable
from runs.metrics import Metric
from runs.ports import CancelEnd
from runs.status import PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runs.model import PipelineRun
    from runs.ports import Clock, Meter, StrayCheck, Strays, Workbench

LOG = logging.getLogger(__name__)

CHECKS: Final = 200
"""Stray checks to a hunt; those there is no time for are due again a minute later."""
LOOK_TIMEOUT: Final = timedelta(seconds=3)
SECOND_LOOK: Final = timedelta(minutes=15)
LOOKS: Final = 2
GIVEN_UP: Final = timedelta(hours=24)
"""After this nobody looks any more, even if the Workbench couldn't be asked."""
_KEEPS_ITS_JOB: Final = frozenset(
    {PipelineRunStatus.SUBMITTED, PipelineRunStatus.RUNNING, PipelineRunStatus.COMPLETED}
)


@dataclass(frozen=True, slots=True)
class HuntReport:
    """What a hunt did."""

    checks: int = 0
    cancelled: int = 0
    """Jobs."""
    postponed: int = 0
    """Checks that the Workbench gave no answer to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunting:
    """The use case, with what it needs."""

    strays: Strays
    workbench: Workbench
    meter: Meter
    clock: Clock

    def hunt(self, *, within: timedelta) -> HuntReport:
        """Looks into the stray checks that are due, as many as there is time for."""
        deadline = self.clock() + within.total_seconds()
        looks = cancelled = postponed = 0
        for check in self.strays.due(CHECKS):
            if self.clock() > deadline:
                break
            look = self._look(check)
            looks += 1
            cancelled += look.cancelled
            postponed += not look.is_whole
        if cancelled:
            self.meter.tell({Metric.DUPLICATES_FOUND: cancelled})
        return HuntReport(checks=looks, cancelled=cancelled, postponed=postponed)

    def _look(self, check: StrayCheck) -> _Look:
        """Cancels what can be found; what is known is cancelled whatever the Workbench tells."""
        told = self._told(check.run)
        unwanted = [*{*(told or ()), *check.job_ids} - _wanted(check.run)]
        answers = self.workbench.cancel(unwanted, within=LOOK_TIMEOUT) if unwanted else {}
        ends = {job_id: answer.end for job_id, answer in answers.items()}
        cancelled = [job_id for job_id in unwanted if ends.get(job_id) is CancelEnd.ACCEPTED]
        for job_id in cancelled:
            told_of = {**check.run.names, "workbench_job_id": job_id}
            LOG.warning("stray_job_cancelled", extra=told_of)
        unclear = [job for job in unwanted if ends.get(job, CancelEnd.UNCLEAR) is CancelEnd.UNCLEAR]
        look = _Look(cancelled=len(cancelled), is_whole=told is not None and not unclear)
        self._note(check, look, unclear)
        return look

    def _told(self, run: PipelineRun) -> Sequence[str] | None:
        """The jobs under the run's key; none where that isn't offered; None: no answer."""
        try:
            return self.workbench.jobs_of(run.correlation_id, within=LOOK_TIMEOUT) or ()
        except WorkbenchUnavailable as error:
            LOG.warning("hunt_postponed", extra={**run.names, "error": str(error)})
            return None

    def _note(self, check: StrayCheck, look: _Look, unclear: Sequence[str]) -> None:
        over = check.now >= check.noted_at + GIVEN_UP
        if not look.is_whole and over:
            LOG.error("hunt_given_up", extra={**check.run.names, "unclear": unclear})
        if over or (look.is_whole and check.looks + 1 >= LOOKS):
            next_look_at = None
        elif look.is_whole:
            next_look_at = check.noted_at + SECOND_LOOK
        else:
            # Not `claimed_until` itself: this note, repeated, is to match no more.
            next_look_at = check.claimed_until - timedelta(milliseconds=1)
        self.strays.looked(
            check,
            cancelled=look.cancelled,
            next_look_at=next_look_at,
            is_whole=look.is_whole,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    cancelled: int
    is_whole: bool
    """The Workbench answered to everything."""


def _wanted(run: PipelineRun) -> set[str]:
    """The run's own job, unless the run has ended before it."""
    if run.workbench_job_id and run.status in _KEEPS_ITS_JOB:
        return {run.workbench_job_id}
    return set()
