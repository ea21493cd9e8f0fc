"""Cancelling: a wish to end a run is stored, and the checks carry it until the run has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runs.errors import RunAlreadyTerminal
from runs.messages import CheckMessage
from runs.outcomes import cancelled
from runs.ports import Delayed
from runs.status import PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runs.events import RunEvent
    from runs.model import PipelineRun
    from runs.ports import CheckQueue, Runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelling:
    """The use case, with what it needs."""

    runs: Runs
    check_queue: CheckQueue
    publish: Callable[[Sequence[RunEvent]], object]

    def cancel(self, run_id: int, *, tenant_id: str, reason: str | None) -> PipelineRun:
        """Stores the wish and has the run checked at once; again is the same as once.

        Returns:
            The run as it is now: CANCELLED if no submission was ever tried, or it was already.

        Raises:
            RunNotFound: none has this id.
            RunAlreadyTerminal: it has ended, and not by a cancel.
        """
        asked = self.runs.request_cancel(run_id, tenant_id=tenant_id, reason=reason)
        run = asked.run
        if not run.is_terminal and not run.submit_attempts:  # And now nobody may submit it.
            change = cancelled(run)
            self.publish(self.runs.move([change] if change else [], wait=True))
            run = self.runs.run(run_id, tenant_id=tenant_id)
        if run.status is PipelineRunStatus.CANCELLED:
            return run
        if run.is_terminal:
            raise RunAlreadyTerminal(run.id, run.status)
        self.check_queue.send([Delayed(CheckMessage(run_ids=(run.id,), sent_at=asked.now))])
        return run
