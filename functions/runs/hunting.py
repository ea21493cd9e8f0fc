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
from runs.ports import CancelEnd
from runs.status import PipelineRunStatus

if TYPE_CHECKING:
    from runs.model import PipelineRun
    from runs.ports import Clock, StrayCheck, Strays, Workbench

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
    clock: Clock

    def hunt(self, *, within: timedelta) -> HuntReport:
        """Looks into the stray checks that are due, as many as there is time for."""
        deadline = self.clock() + within.total_seconds()
        looks = cancelled = postponed = 0
        for check in self.strays.due(CHECKS):
            if self.clock() > deadline:
                break
            looks += 1
            found = self._look(check)
            if found is None:
                postponed += 1
            cancelled += found or 0
        return HuntReport(checks=looks, cancelled=cancelled, postponed=postponed)

    def _look(self, check: StrayCheck) -> int | None:
        """How many jobs were cancelled; None: the Workbench gave no answer."""
        run = check.run
        over = check.now >= check.noted_at + GIVEN_UP
        try:
            told = self.workbench.jobs_of(run.correlation_id, within=LOOK_TIMEOUT) or ()
        except WorkbenchUnavailable as error:
            LOG.warning("hunt_postponed", extra={"run_id": run.id, "error": str(error)})
            if over:
                self.strays.looked(check, cancelled=0, next_look_at=None)
            return None
        unwanted = [*{*told, *check.job_ids} - _wanted(run)]
        ends = self.workbench.cancel(unwanted, within=LOOK_TIMEOUT) if unwanted else {}
        cancelled = [job for job, answer in ends.items() if answer.end is CancelEnd.ACCEPTED]
        for job_id in cancelled:
            LOG.warning("stray_job_cancelled", extra={"run_id": run.id, "workbench_job_id": job_id})
        answered = [job for job, answer in ends.items() if answer.end is not CancelEnd.UNCLEAR]
        if len(answered) < len(unwanted) and not over:
            # Not just when the claim ends: this note, sent twice, is to be taken once.
            soon = check.claimed_until - timedelta(milliseconds=1)
            self.strays.looked(check, cancelled=len(cancelled), next_look_at=soon, is_whole=False)
            return None
        last = over or check.looks + 1 >= LOOKS
        next_look_at = None if last else check.noted_at + SECOND_LOOK
        self.strays.looked(check, cancelled=len(cancelled), next_look_at=next_look_at)
        return len(cancelled)


def _wanted(run: PipelineRun) -> set[str]:
    """The run's own job, unless the run has ended before it."""
    keeps = run.workbench_job_id and run.status in _KEEPS_ITS_JOB
    return {run.workbench_job_id} if keeps and run.workbench_job_id else set()
