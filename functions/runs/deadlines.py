"""Deadlines: how long a run may wait for its end, and what becomes of it then.

A run past its time-out is cancelled at the Workbench first, and only then FAILED; so both that and
a user's cancel come here as `cancel_requested_at`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from runs.model import CancelCause, ErrorCategory, RunError, Stray, transition
from runs.status import PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from datetime import datetime

    from runs.model import PipelineRun, Transition

CANCEL_DEADLINE: Final = timedelta(minutes=15)
"""What the Workbench has to confirm a cancel."""
LOSS_ANSWERS: Final = 5
LOSS_AFTER: Final = timedelta(minutes=15)
LONGEST_OUTAGE: Final = timedelta(hours=24)
"""What an outage of the Workbench may add to the run's and the loss deadline."""


def is_overdue(run: PipelineRun, *, now: datetime) -> bool:
    """Whether the run's time-out is over and nobody has asked it to end yet."""
    due = run.times_out_at
    return due is not None and now >= due and not run.cancel_requested_at


def ended_by_cancel(run: PipelineRun, *, stray: Stray | None = None) -> Transition | None:
    """The transition of a run whose cancel took effect."""
    if run.cancel_cause is CancelCause.TIMEOUT:
        error = timed_out(run, "it was cancelled")
        return transition(run, PipelineRunStatus.FAILED, error=error, stray=stray)
    return transition(run, PipelineRunStatus.CANCELLED, stray=stray)


def timed_out(run: PipelineRun, and_now: str) -> RunError:
    """The error of a run that took too long."""
    message = f"The run took longer than its timeout of {run.timeout_seconds} s; {and_now}"
    return RunError("run_timed_out", ErrorCategory.TIMEOUT, message)


def given_up(run: PipelineRun, *, now: datetime, accepted: bool = False) -> Transition | None:
    """The end of a run that stays active though it should have ended; None while it may.

    Its job may still run, so it is noted as a stray one. A cancel that the Workbench accepts in
    the first valid check after its deadline has until the next check to be confirmed: it may be
    that nobody could ask before.

    Args:
        run: as it was read.
        now: the database's time.
        accepted: the check was answered, and its cancel accepted.
    """
    error = None
    if run.cancel_requested_at:
        deadline = run.cancel_requested_at + CANCEL_DEADLINE
        seen_at = run.observation.last_checked_at
        is_first = seen_at is None or seen_at < deadline
        if now >= deadline and not (accepted and is_first):
            error = _unconfirmed(run)
    elif run.times_out_at and now >= run.times_out_at + LONGEST_OUTAGE:
        error = timed_out(run, "the Workbench can't be asked about its job, which may still run")
    if not error:
        return None
    jobs = (run.workbench_job_id,) if run.workbench_job_id else ()
    is_batch = run.mode is PipelineMode.BATCH
    stray = Stray(reason=error.message, job_ids=jobs) if is_batch else None
    return transition(run, PipelineRunStatus.FAILED, error=error, stray=stray)


def _unconfirmed(run: PipelineRun) -> RunError:
    if run.cancel_cause is CancelCause.TIMEOUT:
        return timed_out(run, "its cancel was not confirmed, and its job may still run")
    minutes = round(CANCEL_DEADLINE.total_seconds() / 60)
    job = f"job {run.workbench_job_id}" if run.workbench_job_id else "its work"
    message = f"The cancel was not confirmed within {minutes} minutes; {job} may still run"
    return RunError("cancel_unconfirmed", ErrorCategory.LOST, message)


def is_missed(run: PipelineRun, *, now: datetime) -> bool:
    """Whether the Workbench, saying so once more, has not known the job often and for long."""
    seen = run.observation
    if seen.unknown_since is None or seen.unknown_count + 1 < LOSS_ANSWERS:
        return False
    return now >= seen.unknown_since + LOSS_AFTER


def is_missed_for_good(run: PipelineRun, *, now: datetime) -> bool:
    """Whether that has gone on so long that it doesn't matter what it says of other jobs."""
    since = run.observation.unknown_since
    return since is not None and now >= since + LONGEST_OUTAGE


def job_lost(run: PipelineRun) -> Transition | None:
    """The transition of a run whose job is lost."""
    message = (
        f"The Workbench does not know job {run.workbench_job_id} any more, "
        f"though it was asked {run.observation.unknown_count + 1} times"
    )
    error = RunError("job_lost", ErrorCategory.LOST, message)
    jobs = (run.workbench_job_id,) if run.workbench_job_id else ()
    stray = Stray(reason=message, job_ids=jobs)  # It may turn up again.
    return transition(run, PipelineRunStatus.FAILED, error=error, stray=stray)
