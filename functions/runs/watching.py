"""The long poll: waits until a run enters another status, or for as long as the caller would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runs.model import PipelineRun
    from runs.ports import Clock, Pause, Runs, Waiters

LOOK_AGAIN_SECONDS: Final = 0.5
LAST_LOOK_SECONDS: Final = 8
"""Kept for the last look and the answer: so long the database may take to answer a look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """The use case, with what it needs."""

    runs: Runs
    waiters: Waiters
    pause: Pause
    clock: Clock

    def watch(
        self,
        run_id: int,
        *,
        tenant_id: str,
        since_version: int | None,
        wait_seconds: float,
        seconds_left: float,
    ) -> PipelineRun:
        """The run once its version is beyond `since_version`, else as it is after the wait.

        It is given at once if it has ended, or if as many callers wait as may, and early if the
        caller's place was lost.

        Args:
            run_id: the run's.
            tenant_id: the caller's.
            since_version: what the caller knows; None: what it is now.
            wait_seconds: how long at most.
            seconds_left: when the caller has to have the answer; the wait ends in time for that.

        Raises:
            RunNotFound: none has this id.
        """
        end = self.clock() + min(wait_seconds, seconds_left - LAST_LOOK_SECONDS)
        run = self.runs.run(run_id, tenant_id=tenant_id)
        known = run.version if since_version is None else since_version
        if self.clock() >= end or run.is_terminal or run.version > known:
            return run
        with self.waiters.place(tenant_id) as is_kept:
            while is_kept() and not run.is_terminal and run.version <= known:
                left = end - self.clock()
                if left <= 0:
                    break
                self.pause(min(LOOK_AGAIN_SECONDS, left))
                run = self.runs.run(run_id, tenant_id=tenant_id)
        return run
