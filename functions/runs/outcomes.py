"""The table of outcomes: what can be seen of a submission, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from runs.deadlines import ended_by_cancel
from runs.model import (
    JOB_ID,
    MESSAGE_LENGTH,
    QUOTE_LENGTH,
    ErrorCategory,
    RunError,
    Stray,
    clean,
    clean_json,
    transition,
)
from runs.ports import CallEnd, WorkflowStatus
from runs.status import PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runs.model import PipelineRun, Transition
    from runs.ports import WorkflowExecution


class Seen(Enum):
    """What can be seen of a submission."""

    NOT_SENT = auto()
    """Conductor couldn't be reached, or a gate before it let nothing in."""
    REFUSED = auto()
    """Conductor answered 4xx."""
    FORBIDDEN = auto()
    """Conductor must not be given what the run was asked for: nothing was sent to it."""
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
    CANCEL = auto()
    """CANCELLED: nothing is known to be under way."""
    TERMINATE = auto()
    """End the workflow, and wait."""


_FIRST_TIME: Final[Mapping[Seen, Verdict]] = MappingProxyType(
    {
        Seen.NOT_SENT: Verdict.FAIL,
        Seen.REFUSED: Verdict.FAIL,
        Seen.FORBIDDEN: Verdict.FAIL,
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

_WHEN_CANCELLED: Final[Mapping[PipelineMode, Mapping[Seen, Verdict]]] = MappingProxyType(
    {
        # A call whose answer was lost is repeated with its key: that finds the job to cancel.
        PipelineMode.BATCH: {Seen.NO_WORKFLOW: Verdict.CANCEL},
        PipelineMode.REALTIME: {
            Seen.NO_WORKFLOW: Verdict.CANCEL,
            Seen.ANSWER_LOST: Verdict.CANCEL,
            Seen.RUNNING: Verdict.TERMINATE,
        },
    }
)
"""What differs for a run that is to be cancelled."""

_CALL_ENDS: Final[Mapping[CallEnd, Seen]] = MappingProxyType(
    {
        CallEnd.CONNECTION_REFUSED: Seen.WORKBENCH_REFUSED,
        CallEnd.CLIENT_ERROR: Seen.WORKBENCH_REFUSED,
        CallEnd.SERVER_ERROR: Seen.WORKBENCH_BROKE,
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


def verdict_on(run: PipelineRun, seen: Seen, *, first: bool) -> Verdict:
    """What follows for this run from what was seen of its submission.

    Args:
        run: as it is.
        seen: of its submission.
        first: whether this is its first submission, and by the API.
    """
    usual = OUTCOMES[run.mode, first][seen]
    if run.cancel_requested_at:
        return _WHEN_CANCELLED[run.mode].get(seen, usual)
    return usual


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
        case WorkflowStatus.FAILED if execution.call_end in _CALL_ENDS:
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


def success(run: PipelineRun, sight: Sight, *, stray: Stray | None = None) -> Transition | None:
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
        stray=stray,
    )


_CATEGORIES: Final[Mapping[Seen, tuple[str, ErrorCategory]]] = MappingProxyType(
    {
        Seen.NOT_SENT: ("conductor_unreachable", ErrorCategory.PLATFORM),
        Seen.REFUSED: ("workflow_refused", ErrorCategory.PLATFORM),
        Seen.FORBIDDEN: ("parameters_forbidden", ErrorCategory.USER),
        Seen.DONE_WITHOUT_RESULT: ("workbench_answer_invalid", ErrorCategory.UPSTREAM),
        Seen.WORKBENCH_REFUSED: ("workbench_refused", ErrorCategory.UPSTREAM),
        Seen.WORKBENCH_BROKE: ("workbench_failed", ErrorCategory.UPSTREAM),
        Seen.ANSWER_LOST: ("workbench_answer_lost", ErrorCategory.UPSTREAM),
    }
)


def failure(run: PipelineRun, sight: Sight, *, stray: Stray | None) -> Transition | None:
    """The transition that a failed submission stands for."""
    code, category = _CATEGORIES[sight.seen]
    return transition(
        run,
        PipelineRunStatus.FAILED,
        conductor_workflow_id=sight.workflow_id,
        error=RunError(code, category, sight.message),
        stray=stray,
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
        stray=stray_of(run, unknown),
    )


def cancelled(run: PipelineRun) -> Transition | None:
    """The transition of a run that is to be cancelled and has no job that anybody knows."""
    unclear = "It was cancelled while its submission was not clear"
    return ended_by_cancel(run, stray=stray_of(run, unclear) if run.submit_attempts else None)


def stray_of(run: PipelineRun, reason: str, job_ids: Iterable[str] = ()) -> Stray | None:
    """A note that jobs of the run may exist which it doesn't want; REALTIME runs have none."""
    return Stray(reason=reason, job_ids=tuple(job_ids)) if run.mode is PipelineMode.BATCH else None


def doubt(run: PipelineRun, sights: Sequence[Sight], kept: Sight) -> Stray | None:
    """What makes it doubtful that the job of `kept` is the run's only one.

    Args:
        run: before its change.
        sights: of all its workflows that were seen, `kept` among them or not.
        kept: what decides.
    """
    others = [sight for sight in sights if sight is not kept]
    extra = {sight.job_id: None for sight in others if sight.job_id not in {None, kept.job_id}}
    if extra:
        return stray_of(run, "Several workflows gave it different jobs", filter(None, extra))
    if any(sight.seen is Seen.ANSWER_LOST for sight in others):
        return stray_of(run, "The Workbench's answer to an earlier call was lost")
    if any(sight.seen is Seen.RUNNING for sight in others):
        return stray_of(run, "Another of its workflows was still under way")
    return None
