"""The world in memory: a twin of every port in `runs.ports`, and all of them put together.

    world = World()
    run = world.submit()                          # as the API does
    world.workbench.become("RUNNING", run=run.id)
    world.pass_time(30)
    world.begin_minute()                          # as the schedule does
    world.deliver()                               # as the queues do
    assert world.run(run.id).status is PipelineRunStatus.RUNNING

Everything is deterministic and nothing happens by itself: time goes on only by `pass_time` and by
what waits, messages stay in their queues until they are delivered, and `world.steps.strike(…)`
makes the process die, or a call fail, before or after any call of a port. Each twin's text says how
to make it misbehave.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, TypeVar

from memory_database import (
    Crash,
    FakeTime,
    MemoryBreakers,
    MemoryDatabase,
    MemoryOverviews,
    MemoryPipelines,
    MemoryRetention,
    MemoryRuns,
    MemoryStrays,
    Steps,
    stepped,
)
from runs.cancelling import Cancelling
from runs.checking import Checking, CheckReport
from runs.errors import (
    ConductorUnclear,
    ConductorUnreachable,
    WorkbenchUnavailable,
    WorkflowRefused,
)
from runs.hunting import Hunting, HuntReport
from runs.model import UPSTREAM_STATUSES, NewRun
from runs.ports import (
    CallEnd,
    CancelAnswer,
    CancelEnd,
    JobStatus,
    NoAnswer,
    WorkflowExecution,
    WorkflowStatus,
)
from runs.publishing import Publishing
from runs.purging import Purging
from runs.status import TERMINAL, PipelineMode
from runs.submission import Submission
from runs.surveying import Surveying
from runs.sweeping import Sweeping, SweepReport

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from runs.events import RunEvent
    from runs.messages import CheckMessage, TickMessage
    from runs.metrics import Metric
    from runs.model import Pipeline, PipelineRun, Progress
    from runs.ports import Delayed, JobAnswer

__all__ = [
    "Course",
    "Crash",
    "FakeTime",
    "MemoryBus",
    "MemoryCheckQueue",
    "MemoryConductor",
    "MemoryDatabase",
    "MemoryPipelines",
    "MemoryRuns",
    "MemoryTickQueue",
    "MemoryWorkbench",
    "StartFault",
    "Steps",
    "World",
    "in_order",
]

T = TypeVar("T")
R = TypeVar("R")

TENANT: Final = "default"
BATCH_WORKFLOW: Final = "batch_pipeline_workflow"
REALTIME_WORKFLOW: Final = "realtime_pipeline_workflow"
WORKBENCH_URL: Final = "http://workbench.test"
SWEEP_TIME: Final = timedelta(seconds=15)


# -- the Workbench --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MemoryJob:
    """A job, and what a look at it tells."""

    id: str
    run_id: int
    idempotency_key: str
    answer: JobAnswer


@dataclass
class MemoryWorkbench:
    """`ports.Workbench`, and its other side, which Conductor calls.

    Attributes:
        time: When it was asked.
        steps: Passed by every call.
        honours_keys: The same key again answers the same job.
        client_reference: It can tell the jobs of a key.
        down: What it answers to everything, in place of the truth.
        silent: Jobs that there is never time for.
        cancel_fault: What a cancel meets with, in place of being carried out.
        cancel_makes: What a job becomes by a cancel; None: it goes on as if nothing was said.
        asked: The jobs of each call of `ask`, with the time.
        cancelled: The jobs of each cancel that was received, in order.
    """

    time: FakeTime
    steps: Steps
    honours_keys: bool = True
    client_reference: bool = True
    down: NoAnswer | None = None
    cancel_fault: str | None = None
    cancel_makes: str | None = "CANCELLED"
    silent: set[str] = field(default_factory=set)
    cancelled: list[str] = field(default_factory=list)
    jobs: dict[str, MemoryJob] = field(default_factory=dict)
    asked: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)
    _count: int = 0

    @stepped
    def ask(self, job_ids: Sequence[str], *, within: timedelta) -> Mapping[str, JobAnswer]:
        self.asked.append((self.time(), tuple(job_ids)))
        if within <= timedelta(0):
            return {}
        return {one: self._told(one) for one in job_ids if one not in self.silent}

    @stepped
    def cancel(self, job_ids: Sequence[str], *, within: timedelta) -> Mapping[str, CancelAnswer]:
        if within <= timedelta(0):
            return {}
        return {one: self._cancel(one) for one in job_ids if one not in self.silent}

    def _cancel(self, job_id: str) -> CancelAnswer:
        fault = self.down.reason if self.down else self.cancel_fault
        if fault:
            return CancelAnswer(end=CancelEnd.UNCLEAR, reason=fault)
        self.cancelled.append(job_id)
        job = self.jobs.get(job_id)
        word = job.answer.upstream_status if job and isinstance(job.answer, JobStatus) else ""
        if not job or UPSTREAM_STATUSES.get(word.upper()) in TERMINAL:
            return CancelAnswer(end=CancelEnd.NOTHING_TO_CANCEL, reason="nothing to cancel")
        if self.cancel_makes:
            self.jobs[job_id] = replace(job, answer=JobStatus(upstream_status=self.cancel_makes))
        return CancelAnswer(end=CancelEnd.ACCEPTED)

    @stepped
    def jobs_of(self, idempotency_key: str, *, within: timedelta) -> Sequence[str] | None:
        del within
        if self.down:
            raise WorkbenchUnavailable(self.down.reason)
        if not self.client_reference:
            return None
        return [job.id for job in self.jobs.values() if job.idempotency_key == idempotency_key]

    def submit(self, run_id: int, idempotency_key: str) -> str:
        """Makes a job, or finds the one of the key."""
        for job in self.jobs.values():
            if self.honours_keys and job.idempotency_key == idempotency_key:
                return job.id
        self._count += 1
        made = MemoryJob(
            id=f"job-{self._count}",
            run_id=run_id,
            idempotency_key=idempotency_key,
            answer=JobStatus(upstream_status="QUEUED"),
        )
        self.jobs[made.id] = made
        return made.id

    def become(
        self,
        status: str,
        *,
        run: int,
        error_message: str | None = None,
        progress: Progress | None = None,
        logs_url: str | None = None,
    ) -> None:
        """From now on this is the truth about the run's jobs."""
        answer = JobStatus(
            upstream_status=status,
            error_message=error_message,
            progress=progress,
            logs_url=logs_url,
        )
        self.answer_with(answer, run=run)

    def answer_with(self, answer: JobAnswer, *, run: int) -> None:
        """From now on this is what a look at the run's jobs gives."""
        for job in self.jobs_for(run):
            self.jobs[job.id] = replace(job, answer=answer)

    def forget(self, *, run: int) -> None:
        """Makes the run's jobs unknown."""
        for job in self.jobs_for(run):
            del self.jobs[job.id]

    def jobs_for(self, run: int) -> list[MemoryJob]:
        """Every job that was created for the run and not forgotten."""
        return [job for job in self.jobs.values() if job.run_id == run]

    def looks_at(self, job_id: str) -> list[float]:
        """When the job was asked about."""
        return [at for at, job_ids in self.asked if job_id in job_ids]

    def _told(self, job_id: str) -> JobAnswer:
        if self.down:
            return self.down
        if job_id not in self.jobs:
            return NoAnswer(reason="The Workbench answered 404: no such job", unknown_job=True)
        return self.jobs[job_id].answer


# -- Conductor ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Course:
    """What becomes of a workflow once it is started.

    Attributes:
        reaches: The Workbench gets the call, and does what it asks.
        status: How the workflow ends.
        answer: The job id, or output, that comes back; None: the Workbench's own.
        call_end: How the call ended, of one that failed.
        reason: In words.
        seconds: Until it ends; by itself never, if infinite.
        shown: Whether the answer is in the output, or in the task alone.
    """

    reaches: bool = True
    status: WorkflowStatus = WorkflowStatus.COMPLETED
    answer: object = None
    call_end: CallEnd = CallEnd.UNCLEAR
    reason: str = ""
    seconds: float = 0.2
    shown: bool = True

    @classmethod
    def answered(cls, answer: object) -> Course:
        """The Workbench does nothing, and this is what its answer holds for a job id or output."""
        return cls(reaches=False, answer=answer)

    @classmethod
    def failed(cls, call_end: CallEnd, reason: str) -> Course:
        """The call ended so, and nothing was done."""
        return cls(reaches=False, status=WorkflowStatus.FAILED, call_end=call_end, reason=reason)

    @classmethod
    def answer_lost(cls, *, reaches: bool = True) -> Course:
        """The Workbench did it, and its answer never came."""
        reason = "I/O error on POST request: Read timed out"
        return cls(reaches=reaches, status=WorkflowStatus.FAILED, reason=reason, shown=False)

    @classmethod
    def hanging(cls, *, reaches: bool = True) -> Course:
        """It runs until Conductor ends it for its time-out."""
        return cls(reaches=reaches, seconds=math.inf)

    @classmethod
    def ended(cls, status: WorkflowStatus, *, reaches: bool = False) -> Course:
        """Somebody ended it; what the call brought is in the task alone."""
        return cls(reaches=reaches, status=status, shown=False)


class StartFault(Enum):
    """What goes wrong with a start."""

    UNREACHABLE = auto()
    """Nothing was sent."""
    REFUSED = auto()
    """Conductor answered 4xx."""
    UNCLEAR = auto()
    """Nothing was started, and nobody can tell."""
    ANSWER_LOST = auto()
    """It was started, and nobody can tell."""


@dataclass(frozen=True, kw_only=True)
class StartedWorkflow:
    """A workflow as it was started, and what becomes of it."""

    workflow_id: str
    workflow_name: str
    workflow_version: int | None
    correlation_id: str
    workflow_input: Mapping[str, Any]
    started_at: float
    course: Course
    brought: object
    """What the Workbench answered."""
    timed_out: bool = False
    terminated: bool = False


@dataclass
class MemoryConductor:
    """`ports.Conductor`. Without a script every workflow reaches the Workbench and ends well.

    Attributes:
        time: Calls and workflows take some.
        workbench: Whom workflows call.
        steps: Passed by every call.
        courses: What becomes of the workflows to come, one each.
        start_faults: What goes wrong with the starts to come, one each; None: nothing.
        down: Nobody reaches it.
        blind: It answers no question about workflows; starts work.
        latency_seconds: What each call takes.
        timeouts_seconds: After what `decide` ends a workflow, by its name.
        started: All workflows, oldest first.
        decided: The ids that `decide` was called for.
    """

    time: FakeTime
    workbench: MemoryWorkbench
    steps: Steps
    courses: deque[Course] = field(default_factory=deque)
    start_faults: deque[StartFault | None] = field(default_factory=deque)
    down: bool = False
    blind: bool = False
    latency_seconds: float = 0
    timeouts_seconds: Mapping[str, float] = field(
        default_factory=lambda: {BATCH_WORKFLOW: 20, REALTIME_WORKFLOW: 75}
    )
    started: list[StartedWorkflow] = field(default_factory=list)
    decided: list[str] = field(default_factory=list)

    @stepped
    def start(
        self,
        *,
        workflow_name: str,
        workflow_version: int | None,
        correlation_id: str,
        workflow_input: Mapping[str, object],
        timeout: timedelta,
    ) -> str:
        self._reach()
        match self.start_faults.popleft() if self.start_faults else None:
            case StartFault.UNREACHABLE:
                raise ConductorUnreachable("Conductor can't be reached: connection refused")
            case StartFault.REFUSED:
                raise WorkflowRefused("Conductor answered 404: no such workflow")
            case StartFault.UNCLEAR:
                raise ConductorUnclear("Conductor's answer was lost: reset")
            case fault:
                workflow_id = self._start(
                    workflow_name, workflow_version, correlation_id, workflow_input
                )
        if fault is StartFault.ANSWER_LOST:
            raise ConductorUnclear("Conductor's answer was lost: reset")
        self._spend(timeout)
        return workflow_id

    @stepped
    def execution(self, workflow_id: str, *, timeout: timedelta) -> WorkflowExecution:
        self._look(timeout)
        return self._execution(self._workflow(workflow_id))

    @stepped
    def find(
        self, *, workflow_name: str, correlation_id: str, timeout: timedelta
    ) -> Sequence[WorkflowExecution]:
        self._look(timeout)
        return [
            self._execution(workflow)
            for workflow in reversed(self.started)
            if (workflow.workflow_name, workflow.correlation_id) == (workflow_name, correlation_id)
        ]

    @stepped
    def decide(self, workflow_id: str, *, timeout: timedelta) -> None:
        self._look(timeout)
        self.decided.append(workflow_id)
        workflow = self._workflow(workflow_id)
        age = self.time() - workflow.started_at
        over = age > self.timeouts_seconds.get(workflow.workflow_name, math.inf)
        if over and self._is_running(workflow):
            number = self.started.index(workflow)
            self.started[number] = replace(workflow, timed_out=True)

    @stepped
    def terminate(self, workflow_id: str, *, reason: str, timeout: timedelta) -> None:
        del reason
        self._look(timeout)
        workflow = self._workflow(workflow_id)
        status = self._execution(workflow).status
        if status is WorkflowStatus.COMPLETED:
            raise WorkflowRefused("Conductor answered 409: it has COMPLETED")
        if status in {WorkflowStatus.RUNNING, WorkflowStatus.FAILED}:
            number = self.started.index(workflow)
            self.started[number] = replace(workflow, terminated=True)

    def starts_for(self, run_id: int) -> list[StartedWorkflow]:
        """Every workflow that was started for a run."""
        return [one for one in self.started if one.workflow_input["pipeline_run_id"] == run_id]

    def _start(
        self,
        name: str,
        version: int | None,
        correlation_id: str,
        workflow_input: Mapping[str, Any],
    ) -> str:
        course = self.courses.popleft() if self.courses else Course()
        brought: object = course.answer
        if course.reaches and name == REALTIME_WORKFLOW:
            brought = {"objects": 1}
        elif course.reaches:
            brought = self.workbench.submit(
                workflow_input["pipeline_run_id"], workflow_input["idempotency_key"]
            )
        self.started.append(
            StartedWorkflow(
                workflow_id=f"workflow-{len(self.started) + 1}",
                workflow_name=name,
                workflow_version=version,
                correlation_id=correlation_id,
                workflow_input=workflow_input,
                started_at=self.time(),
                course=course,
                brought=brought,
            )
        )
        return self.started[-1].workflow_id

    def _execution(self, workflow: StartedWorkflow) -> WorkflowExecution:
        if self._is_running(workflow):
            return WorkflowExecution(
                workflow_id=workflow.workflow_id, status=WorkflowStatus.RUNNING
            )
        course = workflow.course
        status = course.status
        if workflow.timed_out:
            status = WorkflowStatus.TIMED_OUT
        if workflow.terminated:
            status = WorkflowStatus.TERMINATED
        result = "output" if workflow.workflow_name == REALTIME_WORKFLOW else "workbench_job_id"
        cut_off = workflow.timed_out or workflow.terminated
        knows_answer = status is not WorkflowStatus.FAILED and not cut_off
        return WorkflowExecution(
            workflow_id=workflow.workflow_id,
            status=status,
            output={result: workflow.brought} if course.shown and knows_answer else {},
            submitted_job_id=workflow.brought if knows_answer else None,
            call_end=course.call_end,
            reason=course.reason,
        )

    def _is_running(self, workflow: StartedWorkflow) -> bool:
        ends_at = workflow.started_at + workflow.course.seconds
        cut_off = workflow.timed_out or workflow.terminated
        return not cut_off and self.time() < ends_at

    def _workflow(self, workflow_id: str) -> StartedWorkflow:
        for workflow in self.started:
            if workflow.workflow_id == workflow_id:
                return workflow
        raise WorkflowRefused(f"Conductor answered 404: no workflow {workflow_id}")

    def _reach(self) -> None:
        if self.down:
            raise ConductorUnreachable("Conductor can't be reached: connection refused")

    def _look(self, timeout: timedelta) -> None:
        self._reach()
        self._spend(timeout)
        if self.blind:
            raise ConductorUnclear("Conductor answered 500: no idea")

    def _spend(self, timeout: timedelta) -> None:
        limit = timeout.total_seconds()
        self.time.advance(min(self.latency_seconds, limit))
        if self.latency_seconds > limit:
            raise ConductorUnclear(f"Conductor's answer was lost: none within {limit:.1f} s")


# -- queues, bus, threads -------------------------------------------------------------------------


@dataclass(frozen=True)
class Waiting:
    """A message in a queue, and from when it is delivered."""

    message: CheckMessage
    due_at: float


@dataclass
class MemoryCheckQueue:
    """`ports.CheckQueue`. What was sent waits until somebody takes it.

    Attributes:
        time: For delays.
        steps: Passed by every call.
        refuses: So many of the next messages can't be sent, not even the second time.
        sent: Everything the queue ever took.
        waiting: What nobody took yet; tests may drop, double and reorder it.
        released: The receipt handles given back.
    """

    time: FakeTime
    steps: Steps
    refuses: int = 0
    sent: list[Delayed] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    released: list[str] = field(default_factory=list)

    @stepped
    def send(self, messages: Sequence[Delayed]) -> int:
        refused = min(self.refuses, len(messages))
        self.refuses -= refused
        taken = messages[refused:]
        self.sent += taken
        now = self.time()
        self.waiting += [Waiting(one.message, now + one.delay_seconds) for one in taken]
        return refused

    @stepped
    def release(self, receipt_handles: Sequence[str]) -> None:
        self.released += receipt_handles

    def take(self) -> list[CheckMessage]:
        """The messages that are due, oldest first; they are gone then."""
        due = [one for one in self.waiting if one.due_at <= self.time()]
        self.waiting = [one for one in self.waiting if one not in due]
        return [one.message for one in sorted(due, key=lambda one: one.due_at)]

    @property
    def next_due_at(self) -> float:
        """When the next message is delivered; infinite for an empty queue."""
        return min((one.due_at for one in self.waiting), default=math.inf)


@dataclass
class MemoryTickQueue:
    """`ports.TickQueue`; `sent` has everything, `take` what is due."""

    time: FakeTime
    steps: Steps
    sent: list[tuple[TickMessage, int]] = field(default_factory=list)
    waiting: list[tuple[TickMessage, float]] = field(default_factory=list)

    @stepped
    def send(self, message: TickMessage, *, delay_seconds: int) -> None:
        self.sent.append((message, delay_seconds))
        self.waiting.append((message, self.time() + delay_seconds))

    @property
    def next_due_at(self) -> float:
        """When the next message is delivered; infinite for an empty queue."""
        return min((due_at for _, due_at in self.waiting), default=math.inf)

    def take(self) -> list[TickMessage]:
        """The messages that are due; they are gone then."""
        due = [message for message, due_at in self.waiting if due_at <= self.time()]
        self.waiting = [one for one in self.waiting if one[1] > self.time()]
        return due


@dataclass
class MemoryBus:
    """`ports.EventBus`.

    Attributes:
        steps: Passed by every call.
        down: It takes nothing.
        refuses: The `(run_id, version)` of events that it doesn't take.
        published: What it took, in order.
    """

    steps: Steps
    down: bool = False
    refuses: Collection[tuple[int, int]] = ()
    published: list[RunEvent] = field(default_factory=list)

    @stepped
    def publish(self, events: Sequence[RunEvent]) -> Sequence[RunEvent]:
        taken: list[RunEvent] = []
        held_back: set[int] = set()
        for event in events:
            refused = self.down or (event.run_id, event.version) in self.refuses
            if refused or event.run_id in held_back:
                held_back.add(event.run_id)
            else:
                taken.append(event)
        self.published += taken
        return taken


def in_order(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`ports.SideBySide`, one after the other."""
    return [function(item) for item in items]


# -- figures --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """Figures that were told at once, and what they are told apart by."""

    figures: Mapping[Metric, float]
    dimensions: Mapping[str, str]


@dataclass
class MemoryMeter:
    """`ports.Meter`."""

    told: list[Told] = field(default_factory=list)

    def tell(self, figures: Mapping[Metric, float], **dimensions: str) -> None:
        assert figures
        self.told.append(Told(dict(figures), dimensions))

    def figures(self, metric: Metric, **dimensions: str) -> list[float]:
        """What was told of one metric, in order."""
        return [
            told.figures[metric]
            for told in self.told
            if metric in told.figures and dict(told.dimensions) == dimensions
        ]


# -- all together ---------------------------------------------------------------------------------


class World:
    """The use cases on twins of every port, and what sets them off.

    Args:
        poll_interval: P.
        submit_wait: How long a submission waits.
    """

    def __init__(
        self,
        *,
        poll_interval: timedelta = timedelta(seconds=30),
        submit_wait: timedelta = timedelta(seconds=10),
    ) -> None:
        self._minutes = 0.0
        self.time = FakeTime()
        self.steps = Steps()
        self._make_stores()
        self._make_queues()
        self.workbench = MemoryWorkbench(self.time, self.steps)
        self.conductor = MemoryConductor(self.time, self.workbench, self.steps)
        self.bus = MemoryBus(self.steps)
        self.meter = MemoryMeter()
        self.publishing = Publishing(self.runs, self.bus, self.meter)
        self.submission = Submission(
            runs=self.runs,
            conductor=self.conductor,
            workbench=self.workbench,
            check_queue=self.check_queue,
            publish=self.publishing.publish,
            meter=self.meter,
            pause=self.time.pause,
            clock=self.time,
            workbench_api_url=WORKBENCH_URL,
            workbench_honours_keys=True,
            submit_wait=submit_wait,
            submit_deadline=timedelta(seconds=300),
        )
        self.cancelling = Cancelling(
            runs=self.runs, check_queue=self.check_queue, publish=self.publishing.publish
        )
        self.hunting = Hunting(
            strays=self.strays, workbench=self.workbench, meter=self.meter, clock=self.time
        )
        self.surveying = Surveying(
            overviews=MemoryOverviews(self.database),
            meter=self.meter,
            workbench_api_url=WORKBENCH_URL,
        )
        self.purging = Purging(
            retention=MemoryRetention(self.database),
            meter=self.meter,
            clock=self.time,
            kept_for=timedelta(days=90),
        )
        self.checking = Checking(
            runs=self.runs,
            breakers=self.breakers,
            workbench=self.workbench,
            workbench_api_url=WORKBENCH_URL,
            retry_queue=self.retry_queue,
            resolve=self.submission.resolve,
            publish=self.publishing.publish,
            side_by_side=in_order,
            meter=self.meter,
            clock=self.time,
            poll_interval=poll_interval,
            max_attempts=3,
            retry_delay=timedelta(seconds=5),
            submit_deadline=timedelta(seconds=300),
        )
        self.sweeping = Sweeping(
            runs=self.runs,
            breakers=self.breakers,
            workbench_api_url=WORKBENCH_URL,
            check_queue=self.check_queue,
            retry_queue=self.retry_queue,
            tick_queue=self.tick_queue,
            meter=self.meter,
            clock=self.time,
            poll_interval=poll_interval,
        )

    def _make_stores(self) -> None:
        self.database = MemoryDatabase(self.time, self.steps)
        self.runs = MemoryRuns(self.database)
        self.pipelines = MemoryPipelines(self.database)
        self.breakers = MemoryBreakers(self.database)
        self.strays = MemoryStrays(self.database)

    def _make_queues(self) -> None:
        self.check_queue = MemoryCheckQueue(self.time, self.steps)
        self.retry_queue = MemoryCheckQueue(self.time, self.steps)
        self.tick_queue = MemoryTickQueue(self.time, self.steps)

    # -- what exists ------------------------------------------------------------------------------

    def pipeline(self, mode: PipelineMode = PipelineMode.BATCH) -> Pipeline:
        """The pipeline of this mode, made on first use."""
        for made in self.database.pipelines.values():
            if made.mode is mode:
                return made
        workflows = {PipelineMode.BATCH: BATCH_WORKFLOW, PipelineMode.REALTIME: REALTIME_WORKFLOW}
        return self.pipelines.create_pipeline(
            tenant_id=TENANT,
            name=mode.lower(),
            mode=mode,
            workflow_name=workflows[mode],
            workflow_version=1,
        )

    def new_run(self, mode: PipelineMode = PipelineMode.BATCH) -> NewRun:
        """What a caller may ask for."""
        return NewRun(
            tenant_id=TENANT,
            pipeline_id=self.pipeline(mode).id,
            input_path_prefix="in/1",
            output_path_prefix="out/1",
            report_path_prefix=None,
            parameters=None,
            tags={},
        )

    def run(self, run_id: int) -> PipelineRun:
        """A run as it is now, past all steps."""
        return self.database.seen(self.database.runs[run_id])

    def history(self, run_id: int) -> list[RunEvent]:
        """Its events, past all steps."""
        return list(self.database.events[run_id])

    # -- what happens -----------------------------------------------------------------------------

    def submit(
        self,
        *,
        key: str | None = None,
        fingerprint: str = "same body",
        mode: PipelineMode = PipelineMode.BATCH,
        respond_async: bool = False,
    ) -> PipelineRun:
        """As the API does; without a key of its own each call makes a run."""
        recorded = self.submission.submit(
            self.new_run(mode),
            key=key or f"unnamed {len(self.database.runs) + 1}",
            fingerprint=fingerprint,
            respond_async=respond_async,
        )
        return recorded.run

    def cancel(self, run_id: int, *, reason: str | None = None) -> PipelineRun:
        """As the API does."""
        return self.cancelling.cancel(run_id, tenant_id=TENANT, reason=reason)

    def retry(self, run_id: int, *, key: str | None = None) -> PipelineRun:
        """As the API does; without a key of its own each call makes a run."""
        key = key or f"unnamed {len(self.database.runs) + 1}"
        return self.submission.retry(run_id, tenant_id=TENANT, key=key, respond_async=False).run

    def relay(self) -> None:
        """As the schedule does, each minute."""
        self.publishing.relay()

    def hunt(self) -> HuntReport:
        """As the schedule does, each minute."""
        return self.hunting.hunt(within=timedelta(seconds=40))

    def begin_minute(self, minute: datetime | None = None) -> SweepReport:
        """As the schedule does, now or for a minute of the past."""
        return self.sweeping.begin_minute(minute or self.time.now, within=SWEEP_TIME)

    def sweep(self) -> list[SweepReport]:
        """Delivers the ticks that are due."""
        ticks = self.tick_queue.take()
        return [self.sweeping.sweep(tick, within=SWEEP_TIME) for tick in ticks]

    def deliver(self, *, within: timedelta = timedelta(minutes=1)) -> list[CheckReport]:
        """Delivers each check message that is due, from both queues, by itself."""
        messages = self.check_queue.take() + self.retry_queue.take()
        return [self.checking.check([message], within=within) for message in messages]

    def pass_time(self, seconds: float) -> None:
        """Lets nothing happen for so long."""
        self.time.advance(seconds)

    def go_on(self, seconds: float) -> None:
        """Lets so much time pass with everything working: schedule, ticks, both queues, relay.

        It goes on to the whole second at which the next thing is due.
        """
        end = self.time() + seconds
        while self.time() < end:
            if self.time() // 60 > self._minutes:
                self._minutes = self.time() // 60
                self.begin_minute()
                self.relay()
                self.hunt()
            self.sweep()
            self.deliver()
            next_second = math.floor(self.time()) + 1
            due = math.ceil(min(self._next_due_at, end))
            self.time.advance(max(next_second, due) - self.time())

    @property
    def _next_due_at(self) -> float:
        queues = (self.check_queue, self.retry_queue, self.tick_queue)
        return min((self._minutes + 1) * 60, *(queue.next_due_at for queue in queues))

    def restart(self) -> None:
        """After a Crash: what the process held ends with it."""
        self.database.relay = None
