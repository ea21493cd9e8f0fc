"""A check: one look at each of some runs, and what follows from it.

Every run is handled for itself: one that fails, hangs or is poison changes nothing for its
neighbours. A check is one try; on trouble the run's next try travels alone, by the retry queue.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from runs.deadlines import (
    ended_by_cancel,
    given_up,
    is_missed,
    is_missed_for_good,
    is_overdue,
    job_lost,
)
from runs.errors import DatabaseUnavailable
from runs.messages import CheckMessage
from runs.metrics import Metric
from runs.model import (
    MESSAGE_LENGTH,
    QUOTE_LENGTH,
    UPSTREAM_STATUSES,
    CancelCause,
    ErrorCategory,
    Finding,
    RunError,
    clean,
    transition,
)
from runs.outcomes import lost
from runs.ports import ANSWER_TIME, CancelEnd, Delayed, JobStatus, NoAnswer
from runs.status import RANK, TERMINAL, PipelineRunStatus
from runs.submission import RESOLVE_WITHIN, Resolution

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from runs.events import RunEvent
    from runs.model import PipelineRun, Transition
    from runs.ports import (
        Breaker,
        Breakers,
        CheckQueue,
        Clock,
        JobAnswer,
        Meter,
        Runs,
        SideBySide,
        Workbench,
    )

LOG = logging.getLogger(__name__)

RETRY_SLACK: Final = 2 * ANSWER_TIME + timedelta(seconds=4)
"""How much later than planned a retry may end before the sweep steps in: two slow answers."""
LONGEST_BACK_OFF: Final = timedelta(minutes=15)
NEWS: Final = timedelta(seconds=5)
"""How old the breaker's last valid answer may be before the next is noted."""
LATELY: Final = timedelta(seconds=60)


class Resolve(Protocol):
    """`Submission.resolve`."""

    def __call__(self, run: PipelineRun, *, now: datetime) -> Resolution:
        """What became of the run's submission."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a check made of one run."""

    run: PipelineRun
    finding: Finding
    answer: JobStatus | None = None
    transition: Transition | None = None
    retry: Delayed | None = None

    @property
    def is_answered(self) -> bool:
        """Whether something valid was seen."""
        return self.finding.trouble is None

    @property
    def ends(self) -> bool:
        """Whether the run ends by it."""
        return self.transition is not None and self.transition.path[-1] in TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a batch of checks did, in runs."""

    asked: int = 0
    moved: int = 0
    troubled: int = 0
    gone: int = 0
    """Unknown, or ended already."""
    too_late: int = 0
    left: int = 0
    """There was no time for them; the next sweep asks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checking:
    """The use case, with what it needs."""

    runs: Runs
    breakers: Breakers
    workbench: Workbench
    workbench_api_url: str
    retry_queue: CheckQueue
    resolve: Resolve
    publish: Callable[[Sequence[RunEvent]], object]
    side_by_side: SideBySide
    meter: Meter
    clock: Clock
    poll_interval: timedelta
    max_attempts: int
    retry_delay: timedelta
    submit_deadline: timedelta

    def check(self, messages: Sequence[CheckMessage], *, within: timedelta) -> CheckReport:
        """Looks at every run that the messages name; those there is no time for are left out.

        Runs with a job come first, and what was seen of them is written before the others are
        resolved.

        Raises:
            DatabaseUnavailable: the next sweep repeats what was lost.
        """
        began = self.clock()
        deadline = began + within.total_seconds()
        named = {run_id for message in messages for run_id in message.run_ids}
        found = self.runs.active(sorted(named), workbench=self.workbench_api_url)
        now, active = found.now, found.runs
        # A newer message than one that is older than an interval is under way.
        fresh = [message for message in messages if message.sent_at >= now - self.poll_interval]
        attempts = _attempts(fresh)
        batch = _Batch(attempts=attempts, now=now, deadline=deadline, breaker=found.breaker)
        due = [run for run in active if run.id in attempts]
        jobs = [run for run in due if run.workbench_job_id]
        looks = self._write(self._ask(jobs, batch))
        self._tell_breaker(looks, batch)
        unresolved = [run for run in due if not run.workbench_job_id]
        looks += self._write(self._resolve(unresolved, batch))
        report = CheckReport(
            asked=len(looks),
            moved=sum(look.transition is not None for look in looks),
            troubled=sum(look.finding.trouble is not None for look in looks),
            gone=len(named) - len(active),
            too_late=len(active) - len(due),
            left=len(due) - len(looks),
        )
        LOG.info("checked", extra=asdict(report))
        self.meter.tell(
            {
                Metric.CHECKS: report.asked,
                Metric.CHECKS_TROUBLED: report.troubled,
                Metric.CHECKS_LEFT: report.left,
                Metric.CHECK_RETRIES: sum(look.retry is not None for look in looks),
                Metric.CHECK_TIME: self.clock() - began,
            }
        )
        return report

    def _ask(self, runs: Sequence[PipelineRun], batch: _Batch) -> list[Look]:
        """Looks at runs whose job the Workbench can be asked about."""
        jobs = {run.workbench_job_id: None for run in runs if run.workbench_job_id}
        left = self._left(batch)
        if any(run.cancel_requested_at for run in runs):
            left -= ANSWER_TIME  # So that there is time to cancel, however slow the answers are.
        answers = self.workbench.ask(list(jobs), within=left) if jobs else {}
        looks = [
            self._judge(run, answers[job_id], batch)
            for run in runs
            if (job_id := run.workbench_job_id) and job_id in answers
        ]
        return self._end_in_time(looks, batch)

    def _judge(self, run: PipelineRun, answer: JobAnswer, batch: _Batch) -> Look:
        if isinstance(answer, NoAnswer):
            look = self._troubled(run, answer, batch)
            if answer.unknown_job and self._is_lost(run, batch):
                look = replace(look, transition=job_lost(run))
            return look
        if upstream(answer) is None:
            reason = f"The Workbench reported the unknown status {answer.upstream_status!r}"
            look = self._troubled(run, NoAnswer(reason=reason), batch)
            told = replace(look.finding, upstream_status=answer.upstream_status)
            return replace(look, finding=told)
        finding = Finding(
            run_id=run.id,
            upstream_status=answer.upstream_status,
            progress=answer.progress,
            logs_url=answer.logs_url,
        )
        change = status_change(run, answer, now=batch.now)
        return Look(run=run, finding=finding, answer=answer, transition=change)

    def _is_lost(self, run: PipelineRun, batch: _Batch) -> bool:
        """Loss needs persistence, and a Workbench that isn't just out of its mind."""
        if not is_missed(run, now=batch.now):
            return False
        if is_missed_for_good(run, now=batch.now):
            return True
        breaker = batch.breaker
        told = breaker.last_valid_at is not None and breaker.last_valid_at >= batch.now - LATELY
        return told or (breaker.opened_at is None and self.runs.is_alone(run.id))

    def _end_in_time(self, looks: Sequence[Look], batch: _Batch) -> list[Look]:
        """Carries cancels to the Workbench, and ends the runs whose deadline is over."""
        going_on = [look for look in looks if not look.ends]
        overdue = {
            look.run.id
            for look in going_on
            if look.is_answered and is_overdue(look.run, now=batch.now)
        }
        if overdue:
            LOG.warning("runs_timed_out", extra={"run_ids": sorted(overdue)})
            self.runs.time_out(sorted(overdue))
        to_end = [
            look.run for look in going_on if look.run.cancel_requested_at or look.run.id in overdue
        ]
        accepted = self._cancel(to_end, batch)

        def in_time(look: Look) -> Look:
            if look.transition or look.run.id in overdue:
                return look
            confirming = look.is_answered and look.run.id in accepted
            end = given_up(look.run, now=batch.now, accepted=confirming)
            return replace(look, transition=end)

        return [in_time(look) for look in looks]

    def _cancel(self, runs: Sequence[PipelineRun], batch: _Batch) -> set[int]:
        """Tells the Workbench, once more at each check until the job has ended.

        Returns:
            The runs whose cancel it accepted.
        """
        by_job = {run.workbench_job_id: run for run in runs if run.workbench_job_id}
        if not by_job:
            return set()
        answers = self.workbench.cancel(list(by_job), within=self._left(batch))
        for job_id, answer in answers.items():
            told = {**by_job[job_id].names, "end": answer.end, "reason": answer.reason}
            level = logging.WARNING if answer.end is CancelEnd.UNCLEAR else logging.INFO
            LOG.log(level, "cancel_carried", extra=told)
        return {
            by_job[job_id].id
            for job_id, answer in answers.items()
            if answer.end is CancelEnd.ACCEPTED
        }

    def _left(self, batch: _Batch) -> timedelta:
        return timedelta(seconds=max(0.0, batch.deadline - self.clock()))

    def _tell_breaker(self, looks: Sequence[Look], batch: _Batch) -> None:
        """Tells how the Workbench answered, if that is news; the next batch may tell as well."""
        if not looks:
            return
        try:
            self._tell_news(looks, batch)
        except DatabaseUnavailable as error:
            LOG.warning("breaker_not_told", extra={"error": str(error)})

    def _tell_news(self, looks: Sequence[Look], batch: _Batch) -> None:
        breaker = batch.breaker
        told_lately = breaker.last_valid_at is not None and breaker.last_valid_at > batch.now - NEWS
        if any(look.is_answered for look in looks):
            if breaker.opened_at or breaker.failing_since or not told_lately:
                self.breakers.answered(self.workbench_api_url)
        elif not told_lately:
            only_unknown = all(look.finding.unknown_job for look in looks)
            self.breakers.failed(self.workbench_api_url, only_unknown=only_unknown)

    def _resolve(self, runs: Sequence[PipelineRun], batch: _Batch) -> list[Look]:
        """Looks at runs of which it isn't known yet what became of their submission."""

        def look(run: PipelineRun) -> Look | None:
            if self.clock() + RESOLVE_WITHIN.total_seconds() > batch.deadline:
                return None
            return self._resolve_one(run, batch)

        return [seen for seen in self.side_by_side(look, runs) if seen]

    def _resolve_one(self, run: PipelineRun, batch: _Batch) -> Look:
        try:
            resolution = self.resolve(run, now=batch.now)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            # The batch's edge: a run that trips over a bug of ours must not take others along.
            LOG.exception("resolve_failed", extra=run.names)
            resolution = Resolution(unresolved=f"{type(error).__name__}: {error}")
            deadline = run.created_at + self.submit_deadline
            if run.status is PipelineRunStatus.CREATED and batch.now >= deadline:
                resolution = Resolution(transition=lost(run))
        look = Look(run=run, finding=Finding(run_id=run.id), transition=resolution.transition)
        if resolution.unresolved:
            look = self._troubled(run, NoAnswer(reason=resolution.unresolved), batch)
        elif run.cancel_requested_at and look.transition and not look.ends:
            at_once = CheckMessage(run_ids=(run.id,), sent_at=batch.now)
            look = replace(look, retry=Delayed(at_once))  # Now it has a job that can be cancelled.
        [look] = self._end_in_time([look], batch)
        return look

    def _troubled(self, run: PipelineRun, answer: NoAnswer, batch: _Batch) -> Look:
        """No valid answer: the status stays, and the next try is planned."""
        attempt = batch.attempts[run.id]
        delay = self.retry_delay * 2**attempt
        wish = min(answer.retry_after or timedelta(0), LONGEST_BACK_OFF)
        retry = None
        if wish > delay:
            next_check_at = batch.now + wish
        elif attempt + 1 < self.max_attempts and not batch.breaker.opened_at:
            next_check_at = batch.now + delay + RETRY_SLACK
            message = CheckMessage(
                run_ids=(run.id,), attempt=attempt + 1, sent_at=batch.now + delay
            )
            retry = Delayed(message, delay_seconds=round(delay.total_seconds()))
        else:
            next_check_at = batch.now
        reason = clean(answer.reason, MESSAGE_LENGTH)
        LOG.warning(
            "check_troubled",
            extra={
                **run.names,
                "attempt": attempt,
                "reason": reason[:QUOTE_LENGTH],
            },
        )
        finding = Finding(
            run_id=run.id,
            trouble=reason,
            unknown_job=answer.unknown_job,
            next_check_at=next_check_at,
        )
        return Look(run=run, finding=finding, retry=retry)

    def _write(self, looks: list[Look]) -> list[Look]:
        """Carries out what was decided; first the changes, for they matter most."""
        changes = [look.transition for look in looks if look.transition]
        events = [*self.runs.move(changes)] if changes else []
        moved = {event.run_id for event in events}
        missed = [look for look in looks if look.transition and look.run.id not in moved]
        events += self._move_missed(missed)
        moved |= {event.run_id for event in events}
        looks = [_as_carried_out(look, moved) for look in looks]
        if looks:
            self.runs.observe([look.finding for look in looks])
            self.retry_queue.send([look.retry for look in looks if look.retry and not look.ends])
        self.publish(events)
        return looks

    def _move_missed(self, missed: Sequence[Look]) -> list[RunEvent]:
        """Each alone: a row that was locked is waited for, one that changed decided anew."""
        if not missed:
            return []
        by_id = {look.run.id: look for look in missed}
        found = self.runs.active(by_id, workbench=self.workbench_api_url)
        events: list[RunEvent] = []
        for run in found.runs:
            look = by_id[run.id]
            change = look.transition
            if run.version != look.run.version:
                change = status_change(run, look.answer, now=found.now) if look.answer else None
            if change:
                events += self.runs.move([change], wait=True)
        return events


def _as_carried_out(look: Look, moved: Collection[int]) -> Look:
    """The look without the change that another was faster with; the last one of a run says so."""
    if look.transition and look.run.id not in moved:
        return replace(look, transition=None)
    if look.ends:
        return replace(look, finding=replace(look.finding, next_check_at=None, is_last=True))
    return look


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    attempts: Mapping[int, int]
    now: datetime
    deadline: float
    breaker: Breaker


def upstream(answer: JobStatus) -> PipelineRunStatus | None:
    """Our status for the Workbench's word; None: unknown."""
    return UPSTREAM_STATUSES.get(answer.upstream_status.strip().upper())


def status_change(run: PipelineRun, answer: JobStatus, *, now: datetime) -> Transition | None:
    """What an answer about the run's job means for the run; statuses only go forward."""
    to = upstream(answer)
    if to is None or RANK[to] <= RANK[run.status]:
        return None
    match to:
        case PipelineRunStatus.CANCELLED:
            if is_overdue(run, now=now):  # Another check, at this very moment, ended it.
                run = replace(run, cancel_cause=CancelCause.TIMEOUT)
            return ended_by_cancel(run)
        case PipelineRunStatus.FAILED:
            message = answer.error_message or "The Workbench reported that the job failed, not why"
            error = RunError("job_failed", ErrorCategory.UPSTREAM, message)
            return transition(run, to, error=error)
        case _:
            return transition(run, to)


def _attempts(messages: Sequence[CheckMessage]) -> dict[int, int]:
    """How many tries came before, by run; of two messages about one run the later try counts."""
    attempts: dict[int, int] = {}
    for message in messages:
        for run_id in message.run_ids:
            attempts[run_id] = max(message.attempt, attempts.get(run_id, 0))
    return attempts
