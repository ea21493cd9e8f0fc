"""Submission: a run is recorded, its workflow started, and what is seen of it decides.

Conductor doesn't de-duplicate starts and may send a POST twice, so what makes this safe is the
Workbench's idempotency; and only the holder of a live submit lease may start a workflow. The API
submits a run once (`Submission.submit`); whatever stays unknown then, the poller resolves
(`Submission.resolve`), from the database and Conductor alone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from runs.errors import (
    ConductorError,
    ConductorUnreachable,
    DatabaseUnavailable,
    SubmissionFailed,
    WorkbenchUnavailable,
    WorkflowRefused,
)
from runs.messages import CheckMessage
from runs.model import (
    JOB_ID,
    MESSAGE_LENGTH,
    QUOTE_LENGTH,
    ErrorCategory,
    RunError,
    clean,
    clean_json,
    transition,
)
from runs.ports import CallEnd, Delayed, WorkflowStatus
from runs.status import PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from runs.events import RunEvent
    from runs.model import NewRun, PipelineRun, Transition
    from runs.ports import (
        CheckQueue,
        Clock,
        Conductor,
        Pause,
        Recorded,
        Runs,
        Workbench,
        WorkflowExecution,
    )

LOG = logging.getLogger(__name__)

ROUTE: Final = "POST /pipeline-run"
SUBMIT_LEASE: Final = timedelta(seconds=20)  # Longer than SUBMIT_WAIT_SECONDS and one answer.
RESOLVE_WITHIN: Final = timedelta(seconds=12)
"""What resolving one run may take, all in all; a workflow's call of the Workbench ends in 8 s."""
LOOK_UP_TIMEOUT: Final = timedelta(seconds=3)
FIRST_NAP_SECONDS: Final = 0.03
LONGEST_NAP_SECONDS: Final = 0.5


class Seen(Enum):
    """What can be seen of a submission."""

    NOT_SENT = auto()
    """Conductor couldn't be reached: nothing was sent to it."""
    REFUSED = auto()
    """Conductor answered 4xx."""
    START_UNCLEAR = auto()
    """A start was sent and its answer lost."""
    NO_WORKFLOW = auto()
    RUNNING = auto()
    DONE = auto()
    """The Workbench gave a job (BATCH) or an output (REALTIME)."""
    DONE_WITHOUT_RESULT = auto()
    WORKBENCH_REFUSED = auto()
    """It answered 4xx, or nobody listens there: no job exists."""
    WORKBENCH_BROKE = auto()
    """It answered 5xx."""
    ANSWER_LOST = auto()
    """The call, or the workflow, ended without the Workbench's answer."""


class Verdict(Enum):
    """What follows."""

    SUCCEED = auto()
    FAIL = auto()
    FAIL_STRAY = auto()
    """FAILED, and a job may exist that no run knows."""
    WAIT = auto()
    """Unknown yet; start nothing."""
    START = auto()
    """Start a workflow, with the same key as ever; who can't, waits."""


_FIRST_TIME: Final[Mapping[Seen, Verdict]] = MappingProxyType(
    {
        Seen.NOT_SENT: Verdict.FAIL,
        Seen.REFUSED: Verdict.FAIL,
        Seen.START_UNCLEAR: Verdict.WAIT,
        Seen.NO_WORKFLOW: Verdict.START,
        Seen.RUNNING: Verdict.WAIT,
        Seen.DONE: Verdict.SUCCEED,
        Seen.DONE_WITHOUT_RESULT: Verdict.FAIL_STRAY,
        Seen.WORKBENCH_REFUSED: Verdict.FAIL,
        Seen.WORKBENCH_BROKE: Verdict.FAIL_STRAY,
        Seen.ANSWER_LOST: Verdict.START,
    }
)
_LATER: Final[Mapping[Seen, Verdict]] = MappingProxyType(
    {**_FIRST_TIME, Seen.NOT_SENT: Verdict.WAIT}
)

OUTCOMES: Final[Mapping[tuple[PipelineMode, bool], Mapping[Seen, Verdict]]] = MappingProxyType(
    {
        (PipelineMode.BATCH, True): _FIRST_TIME,
        (PipelineMode.BATCH, False): _LATER,
        (PipelineMode.REALTIME, True): {**_FIRST_TIME, Seen.ANSWER_LOST: Verdict.FAIL},
        (PipelineMode.REALTIME, False): {**_LATER, Seen.ANSWER_LOST: Verdict.FAIL},
    }
)
"""The table of outcomes, by mode and whether this is the run's first submission.

A REALTIME run that was started is never started again: its work isn't repeatable.
"""

_CALL_ENDS: Final[Mapping[CallEnd, Seen]] = MappingProxyType(
    {
        CallEnd.CONNECTION_REFUSED: Seen.WORKBENCH_REFUSED,
        CallEnd.CLIENT_ERROR: Seen.WORKBENCH_REFUSED,
        CallEnd.SERVER_ERROR: Seen.WORKBENCH_BROKE,
        CallEnd.UNCLEAR: Seen.ANSWER_LOST,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was seen, with what is worth keeping of it."""

    seen: Seen
    job_id: str | None = None
    output: object | None = None
    workflow_id: str | None = None
    message: str = ""


def sight_of(mode: PipelineMode, execution: WorkflowExecution) -> Sight:
    """What a workflow shows."""
    seen, message = _seen(mode, execution)
    job_id = _job_id(execution)
    return Sight(
        seen=seen,
        job_id=job_id if mode is PipelineMode.BATCH else None,
        output=clean_json(execution.output.get("output")),
        workflow_id=execution.workflow_id,
        message=clean(message, MESSAGE_LENGTH),
    )


def _seen(mode: PipelineMode, execution: WorkflowExecution) -> tuple[Seen, str]:
    match execution.status:
        case WorkflowStatus.RUNNING | WorkflowStatus.PAUSED:
            return Seen.RUNNING, "The workflow has not ended yet"
        case WorkflowStatus.FAILED if execution.call_end is not CallEnd.UNCLEAR:
            return _CALL_ENDS[execution.call_end], execution.reason
        case WorkflowStatus.COMPLETED if mode is PipelineMode.REALTIME:
            if execution.output.get("output") is not None:
                return Seen.DONE, ""
            return Seen.DONE_WITHOUT_RESULT, "The Workbench's answer has no output"
        case WorkflowStatus.COMPLETED if _job_id(execution) is None:
            told = execution.output.get("workbench_job_id", execution.submitted_job_id)
            answer = repr(execution.answer if told is None else told)[:QUOTE_LENGTH]
            return (
                Seen.DONE_WITHOUT_RESULT,
                f"The Workbench's answer has no valid workbench_job_id, but {answer}",
            )
        case _ if mode is PipelineMode.BATCH and _job_id(execution) is not None:
            return Seen.DONE, ""  # Also when the workflow was ended after its call.
        case _:
            why = execution.reason or "no reason was given"
            return Seen.ANSWER_LOST, f"The workflow {execution.status}: {why}"


def _job_id(execution: WorkflowExecution) -> str | None:
    """The first valid job id that the workflow shows."""
    for job_id in (execution.output.get("workbench_job_id"), execution.submitted_job_id):
        if isinstance(job_id, str) and JOB_ID.match(job_id):
            return job_id
    return None


def workflow_input(run: PipelineRun, workbench_api_url: str) -> Mapping[str, object]:
    """What a workflow is given: the original design's fields, and the run's key."""
    return {
        "pipeline_run_id": run.id,
        "input_path_prefix": run.user_storage_input_path_prefix,
        "output_path_prefix": run.user_storage_output_path_prefix,
        "report_path_prefix": run.user_storage_report_path_prefix,
        "parameters": run.parameters,
        "workbench_api_url": workbench_api_url,
        "idempotency_key": run.correlation_id,
    }


def success(run: PipelineRun, sight: Sight) -> Transition | None:
    """The transition that a DONE sight stands for."""
    if run.mode is PipelineMode.REALTIME:
        return transition(
            run,
            PipelineRunStatus.COMPLETED,
            conductor_workflow_id=sight.workflow_id,
            output=sight.output,
        )
    return transition(
        run,
        PipelineRunStatus.SUBMITTED,
        conductor_workflow_id=sight.workflow_id,
        workbench_job_id=sight.job_id,
    )


_CATEGORIES: Final[Mapping[Seen, tuple[str, ErrorCategory]]] = MappingProxyType(
    {
        Seen.NOT_SENT: ("conductor_unreachable", ErrorCategory.PLATFORM),
        Seen.REFUSED: ("workflow_refused", ErrorCategory.PLATFORM),
        Seen.DONE_WITHOUT_RESULT: ("workbench_answer_invalid", ErrorCategory.UPSTREAM),
        Seen.WORKBENCH_REFUSED: ("workbench_refused", ErrorCategory.UPSTREAM),
        Seen.WORKBENCH_BROKE: ("workbench_failed", ErrorCategory.UPSTREAM),
        Seen.ANSWER_LOST: ("workbench_answer_lost", ErrorCategory.UPSTREAM),
    }
)


def failure(run: PipelineRun, sight: Sight, *, stray: bool) -> Transition | None:
    """The transition that a failed submission stands for."""
    code, category = _CATEGORIES[sight.seen]
    return transition(
        run,
        PipelineRunStatus.FAILED,
        conductor_workflow_id=sight.workflow_id,
        error=RunError(code, category, sight.message),
        stray_reason=sight.message if stray and run.mode is PipelineMode.BATCH else None,
    )


def lost(run: PipelineRun) -> Transition | None:
    """The transition of a run whose submit deadline is over."""
    unknown = f"It is not known whether the Workbench started a job for run {run.id}"
    if run.mode is PipelineMode.REALTIME:
        unknown = f"It is not known whether run {run.id} was executed"
    return transition(
        run,
        PipelineRunStatus.FAILED,
        error=RunError("submission_lost", ErrorCategory.LOST, unknown),
        stray_reason=unknown if run.mode is PipelineMode.BATCH else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What a look at an unresolved run led to: a transition, or why there is none yet."""

    transition: Transition | None = None
    unresolved: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The use case, with what it needs."""

    runs: Runs
    conductor: Conductor
    workbench: Workbench
    check_queue: CheckQueue
    publish: Callable[[Sequence[RunEvent]], object]
    pause: Pause
    clock: Clock
    workbench_api_url: str
    submit_wait: timedelta
    submit_deadline: timedelta

    def submit(self, new: NewRun, *, key: str, fingerprint: str, respond_async: bool) -> Recorded:
        """Records a run and submits it, or finds the one that the key made before.

        Returns:
            The run as it is now: CREATED while it isn't known whether a job exists, or when
            the caller does not want to wait.

        Raises:
            PipelineNotFound: nothing was written.
            IdempotencyKeyReused: nothing was written.
            SubmissionFailed: the run is kept, FAILED.
        """
        deadline = self.clock() + self.submit_wait.total_seconds()
        lease = None if respond_async else SUBMIT_LEASE
        recorded = self.runs.record(new, route=ROUTE, key=key, fingerprint=fingerprint, lease=lease)
        run, events = recorded.run, list(recorded.events)
        if not recorded.replayed:
            if respond_async:
                message = CheckMessage(run_ids=(run.id,), sent_at=run.created_at)
                self.check_queue.send([Delayed(message)])
            else:
                run, moved = self._submit_first(run, deadline=deadline)
                events += moved
            self.publish(events)
        if run.never_submitted and run.error:
            raise SubmissionFailed(run.id, run.mode, run.error.message, replayed=recorded.replayed)
        return replace(recorded, run=run)

    def resolve(self, run: PipelineRun, *, now: datetime) -> Resolution:
        """Finds out what became of a submission and goes on from there.

        For a BATCH run that is CREATED, and for any active REALTIME run.

        Args:
            run: as just read.
            now: the database's time.
        """
        if run.submit_lease_until and run.submit_lease_until > now:
            return Resolution(unresolved="Its submission is under way")
        sight, change = self._resolve(run)
        if change:
            return Resolution(transition=change)
        if sight.seen is Seen.RUNNING and run.status is not PipelineRunStatus.CREATED:
            return Resolution()
        if now >= run.created_at + self.submit_deadline:
            return Resolution(transition=lost(run))
        return Resolution(unresolved=sight.message)

    def _submit_first(
        self, run: PipelineRun, *, deadline: float
    ) -> tuple[PipelineRun, Sequence[RunEvent]]:
        """Submits a run that was just recorded; it stays as it is if the database goes away."""
        sight = self._start_and_watch(run, deadline=deadline)
        change = self._judge(run, sight, first=True)
        try:
            events = self.runs.move([change]) if change else ()
            return self.runs.run(run.id, tenant_id=run.tenant_id), events
        except DatabaseUnavailable as error:
            LOG.warning("submission_not_written", extra={**_names(run), "error": str(error)})
            return run, ()

    def _resolve(self, run: PipelineRun) -> tuple[Sight, Transition | None]:
        deadline = self.clock() + RESOLVE_WITHIN.total_seconds()
        sight, answer_lost = self._look_up(run)
        if self._may_start(run, sight):
            job_id = self._job_by_reference(run)
            if job_id:
                sight = Sight(seen=Seen.DONE, job_id=job_id, workflow_id=sight.workflow_id)
            elif self.runs.take_submit_lease(run, SUBMIT_LEASE):
                sight = self._start_and_watch(run, deadline=deadline)
        return sight, self._judge(run, sight, first=False, answer_lost=answer_lost)

    @staticmethod
    def _may_start(run: PipelineRun, sight: Sight) -> bool:
        created = run.status is PipelineRunStatus.CREATED
        return created and OUTCOMES[run.mode, False][sight.seen] is Verdict.START

    @staticmethod
    def _judge(
        run: PipelineRun, sight: Sight, *, first: bool, answer_lost: bool = False
    ) -> Transition | None:
        """What follows from what was seen; `answer_lost`: an earlier call may have made a job."""
        verdict = OUTCOMES[run.mode, first][sight.seen]
        LOG.info(
            "submission_judged",
            extra={**_names(run), "seen": sight.seen.name, "verdict": verdict.name},
        )
        match verdict:
            case Verdict.SUCCEED:
                return success(run, sight)
            case Verdict.FAIL | Verdict.FAIL_STRAY:
                stray = answer_lost or verdict is Verdict.FAIL_STRAY
                return failure(run, sight, stray=stray)
            case Verdict.WAIT if run.mode is PipelineMode.REALTIME and sight.seen is Seen.RUNNING:
                workflow_id = sight.workflow_id
                running = PipelineRunStatus.RUNNING
                return transition(run, running, conductor_workflow_id=workflow_id)
            case Verdict.WAIT | Verdict.START:
                return None

    def _look_up(self, run: PipelineRun) -> tuple[Sight, bool]:
        """What Conductor knows of the run, and whether a call's answer was lost.

        Of several workflows one that gave a job counts, then one that may still give it, then
        the newest. A running workflow is given a moment to end.
        """
        try:
            found = self.conductor.find(
                workflow_name=run.workflow_name,
                correlation_id=run.correlation_id,
                timeout=LOOK_UP_TIMEOUT,
            )
        except ConductorError as error:
            return Sight(seen=Seen.NOT_SENT, message=_told(error)), False
        sights = [sight_of(run.mode, execution) for execution in found]
        sights.sort(key=lambda sight: _TELLING.get(sight.seen, len(_TELLING)))
        if not sights:
            message = "Conductor has no workflow for this run yet"
            return Sight(seen=Seen.NO_WORKFLOW, message=message), False
        best = sights[0]
        if best.seen is Seen.RUNNING and best.workflow_id:
            best = self._nudge_and_watch(run, best.workflow_id)
        return best, any(sight.seen is Seen.ANSWER_LOST for sight in sights)

    def _nudge_and_watch(self, run: PipelineRun, workflow_id: str) -> Sight:
        try:
            self.conductor.decide(workflow_id, timeout=LOOK_UP_TIMEOUT)
        except ConductorError as error:
            LOG.info("decide_failed", extra={**_names(run), "error": _told(error)})
        deadline = self.clock() + LONGEST_NAP_SECONDS
        return self._watch(run, workflow_id, deadline=deadline)

    def _job_by_reference(self, run: PipelineRun) -> str | None:
        """The job that the Workbench has under the run's key, where it can tell."""
        if run.mode is not PipelineMode.BATCH:
            return None
        try:
            job_ids = self.workbench.jobs_of(run.correlation_id, within=LOOK_UP_TIMEOUT) or ()
        except WorkbenchUnavailable:
            return None
        return next(iter(job_ids), None)

    def _start_and_watch(self, run: PipelineRun, *, deadline: float) -> Sight:
        """Starts a workflow; the caller holds the run's lease, which outlasts the deadline."""
        left = deadline - self.clock()
        if left <= 0:
            return Sight(seen=Seen.NO_WORKFLOW, message="There was no time left to submit it")
        try:
            workflow_id = self.conductor.start(
                workflow_name=run.workflow_name,
                workflow_version=run.workflow_version,
                correlation_id=run.correlation_id,
                workflow_input=workflow_input(run, self.workbench_api_url),
                timeout=timedelta(seconds=left),
            )
        except WorkflowRefused as error:
            return Sight(seen=Seen.REFUSED, message=_told(error))
        except ConductorUnreachable as error:
            return Sight(seen=Seen.NOT_SENT, message=_told(error))
        except ConductorError as error:
            return Sight(seen=Seen.START_UNCLEAR, message=_told(error))
        return self._watch(run, workflow_id, deadline=deadline)

    def _watch(self, run: PipelineRun, workflow_id: str, *, deadline: float) -> Sight:
        """Short polls until the workflow ends or the deadline is over."""
        nap = FIRST_NAP_SECONDS
        while True:
            left = max(0.1, deadline - self.clock())
            try:
                execution = self.conductor.execution(workflow_id, timeout=timedelta(seconds=left))
                sight = sight_of(run.mode, execution)
            except ConductorError as error:
                sight = Sight(seen=Seen.RUNNING, workflow_id=workflow_id, message=_told(error))
            if sight.seen is not Seen.RUNNING or self.clock() + nap > deadline:
                return sight
            self.pause(nap)
            nap = min(nap * 1.5, LONGEST_NAP_SECONDS)


_TELLING: Final[Mapping[Seen, int]] = MappingProxyType({Seen.DONE: 0, Seen.RUNNING: 1})
"""Which of several workflows of one run counts more than the newest."""


def _names(run: PipelineRun) -> dict[str, object]:
    return {"run_id": run.id, "correlation_id": run.correlation_id}


def _told(error: Exception) -> str:
    return clean(str(error), MESSAGE_LENGTH)
