"""What the use cases need of the world, as Protocols; `runs.adapters` and `tests.fakes` have it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from runs.callers import Caller
    from runs.events import RunEvent
    from runs.messages import CheckMessage, TickMessage
    from runs.metrics import Metric
    from runs.model import (
        Finding,
        NewRun,
        Pipeline,
        PipelineRun,
        Progress,
        Transition,
    )
    from runs.prefixes import Location
    from runs.status import PipelineMode, PipelineRunStatus

T = TypeVar("T")
R = TypeVar("R")


# -- the database ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A run that a request stands for, and whether an earlier request made it."""

    run: PipelineRun
    replayed: bool
    events: Sequence[RunEvent] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs a list holds; None: any."""

    status: PipelineRunStatus | None = None
    pipeline_id: int | None = None
    workbench_job_id: str | None = None
    tag: tuple[str, str] | None = None
    """A tag's name, and the value that it has."""
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """Some runs of a list, newest first; maybe fewer than asked for, though more follow."""

    runs: Sequence[PipelineRun]
    before: int | None
    """The id that the next page stays below; None: this was the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueRun:
    """An active run that a sweep asks a check for."""

    run_id: int
    troubled: bool
    """Its last check failed: it must not hold up healthy ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """How a Workbench has answered of late; open, it is spared but for a probe now and then."""

    last_valid_at: datetime | None = None
    """The last valid answer about a job, to within some seconds."""
    failing_since: datetime | None = None
    """When the first of the failures came that no valid answer has followed."""
    opened_at: datetime | None = None
    """None: it is closed."""
    closed_at: datetime | None = None
    """When it was last open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNow:
    """A run as it is now."""

    run: PipelineRun
    now: datetime
    """The database's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveRuns:
    """Runs that haven't ended, with what else a check has to know."""

    now: datetime
    """The database's time."""
    runs: Sequence[PipelineRun]
    breaker: Breaker


@dataclass(frozen=True, slots=True, kw_only=True)
class StrayCheck:
    """A note that jobs may exist which no run wants."""

    run: PipelineRun
    job_ids: Sequence[str]
    """Those that are known already."""
    looks: int
    """How often the Workbench was asked."""
    noted_at: datetime
    claimed_until: datetime
    """No one else is given it before."""
    now: datetime
    """The database's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one page of shards gave to a sweep."""

    shards: int
    due: Sequence[DueRun]
    now: datetime
    """The database's time."""


class Pipelines(Protocol):
    """The pipelines of a tenant."""

    def create_pipeline(
        self,
        *,
        tenant_id: str,
        name: str,
        mode: PipelineMode,
        workflow_name: str,
        workflow_version: int | None,
        enabled: bool = True,
        disabled_reason: str | None = None,
        max_active_runs: int | None = None,
        timeout_seconds: int | None = None,
    ) -> Pipeline:
        """Records a pipeline, or finds the one that is just so, whoever recorded it when.

        Raises:
            PipelineExists: another one has this name.
        """

    def pipeline(self, pipeline_id: int, *, tenant_id: str) -> Pipeline:
        """One pipeline.

        Raises:
            PipelineNotFound: none has this id.
        """

    def pipelines(
        self, *, tenant_id: str, page_size: int, before: int | None
    ) -> Sequence[Pipeline]:
        """A page, newest first, of those whose id is below `before`."""

    def change_pipeline(
        self, pipeline_id: int, changes: Mapping[str, object], *, tenant_id: str
    ) -> Pipeline:
        """Sets the named fields.

        Raises:
            PipelineNotFound: none has this id.
            PipelineExists: another one has the new name.
        """


class Runs(Protocol):
    """The runs, their history and what is known of them."""

    def record(
        self,
        new: NewRun,
        *,
        route: str,
        key: str,
        fingerprint: str,
        lease: timedelta | None,
        most_active: int | None = None,
    ) -> Recorded:
        """Writes a run (CREATED, version 1), its key, its first event and its submit lease.

        All of it or, when the key was used before, nothing: a replay is answered whether or not
        its pipeline admits runs now. Of many calls at once none passes a limit.

        Args:
            new: what the caller asks for.
            route: the scope of the key.
            key: the caller's Idempotency-Key, or one of our own.
            fingerprint: of the request's body.
            lease: how long the caller alone may start a workflow; None: not at all.
            most_active: how many active runs the tenant may have; None: any number.

        Raises:
            PipelineNotFound: nothing was written.
            PipelineDisabled: the same.
            PipelineFull: the same.
            TenantFull: the same.
            IdempotencyKeyReused: the key came before with another fingerprint.
        """

    def replay(self, *, tenant_id: str, route: str, key: str, fingerprint: str) -> Recorded | None:
        """The run that this key has made; None: none.

        Raises:
            IdempotencyKeyReused: the key came before with another fingerprint.
        """

    def run(self, run_id: int, *, tenant_id: str) -> PipelineRun:
        """One run.

        Raises:
            RunNotFound: none has this id.
        """

    def page(
        self, where: RunFilter, *, tenant_id: str, page_size: int, before: int | None
    ) -> RunPage:
        """A page, newest first, of the runs whose id is below `before`."""

    def history(self, run_id: int, *, tenant_id: str) -> Sequence[RunEvent]:
        """Every status the run has entered, oldest first.

        Raises:
            RunNotFound: none has this id.
        """

    def claim(self, shards: Sequence[int], *, older_than: timedelta, not_after: datetime) -> Claim:
        """Claims those of the shards whose last sweep is long enough ago; reads their due runs.

        Nothing is claimed once `not_after` is past.
        """

    def active(self, run_ids: Iterable[int], *, workbench: str) -> ActiveRuns:
        """Those of the runs that haven't ended, of any tenant, and the Workbench's breaker."""

    def holder_of(self, workbench_job_id: str) -> int | None:
        """The active run that has this job."""

    def is_alone(self, run_id: int) -> bool:
        """Whether no other active run has a job."""

    def pressing(self, run_ids: Sequence[int], *, outage: timedelta) -> Sequence[int]:
        """Those that are checked even while the breaker is open.

        They have no job yet, or are to be cancelled, or timed out `outage` ago.
        """

    def take_submit_lease(self, run: PipelineRun, lease: timedelta) -> bool:
        """Whether the caller alone may start a workflow for the run, from now for `lease`.

        Nobody may for a run that is to be cancelled and that nobody has tried to submit.
        """

    def request_cancel(self, run_id: int, *, tenant_id: str, reason: str | None) -> RunNow:
        """Stores that a user wants the run to end, unless it has ended or somebody wants it.

        Returns:
            The run as it is then.

        Raises:
            RunNotFound: none has this id.
        """

    def time_out(self, run_ids: Sequence[int]) -> None:
        """Stores that active runs have to end for their time-out, unless somebody wants it."""

    def move(self, transitions: Sequence[Transition], *, wait: bool = False) -> Sequence[RunEvent]:
        """Carries out those transitions whose run still is as it was seen; tells what happened.

        Each with its events, in one statement. A run that another holds locked is passed by, or
        with `wait` waited for, until the lock time-out.
        """

    def observe(self, findings: Sequence[Finding]) -> None:
        """Writes what checks found out, all at once."""

    def unpublished(self, limit: int) -> Sequence[RunEvent]:
        """Events that no one has published yet, per run by version."""

    def mark_published(self, events: Sequence[RunEvent]) -> None:
        """Remembers that the bus has these."""

    def relaying(self) -> bool:
        """Whether the caller is now the only relay; it stays so until `relayed`."""

    def relayed(self) -> None:
        """Lets another relay work."""

    def ping(self) -> None:
        """Reaches the database, or raises DatabaseUnavailable."""


class Breakers(Protocol):
    """One circuit breaker per Workbench, kept in the database for all functions alike."""

    def breaker(self, workbench: str) -> Breaker:
        """As it is now."""

    def answered(self, workbench: str) -> None:
        """Notes a valid answer; it closes the breaker."""

    def failed(self, workbench: str, *, only_unknown: bool) -> None:
        """Notes failures that no valid answer came with; they may open the breaker.

        It opens once no valid answer has come for a minute, and ten runs, or all that have a job,
        have failed.

        Args:
            workbench: its address.
            only_unknown: all it said is that it doesn't know these jobs. Of a job that is the only
                one, that is an answer.
        """

    def probes(self, workbench: str, *, most: int, every: timedelta) -> Sequence[int]:
        """Runs to ask about while the breaker is open, those first that were asked least lately.

        Empty if it is closed, or somebody else was given some less than `every` ago.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """How a tenant's runs fare, and whether the poller does its work."""

    now: datetime
    """The database's time."""
    active: Mapping[PipelineRunStatus, int]
    """How many runs of a status there are; none are left out."""
    ended_of_late: Mapping[PipelineRunStatus, int]
    """Of those that ended within 24 hours."""
    worst_staleness_seconds: float | None
    """Of the active runs that have a job: the age of the oldest newest valid answer."""
    last_sweep_at: datetime | None
    runs_checked_of_late: int
    """Active runs that were looked at within a minute."""
    breaker: Breaker


class Overviews(Protocol):
    """The runs as a whole."""

    def overview(self, *, tenant_id: str, workbench: str) -> Overview:
        """As it is now, with the breaker of the Workbench at this address."""

    def fleet(self, *, workbench: str) -> Fleet:
        """All tenants' as it is now, with the breaker of the Workbench at this address.

        For whoever may see them all.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All tenants' active runs at a moment, and what waits."""

    active: Mapping[PipelineRunStatus, int]
    """How many runs of a status there are."""
    troubled: int
    """Of these, how many had no valid answer at their last check."""
    staleness_seconds: tuple[float, float, float]
    """Of those that have a job, the age of the newest valid answer: median, 99th percentile, most;
    zeros where there are none."""
    unpublished_seconds: float
    """The age of the oldest event that didn't reach the bus yet; 0: all did."""
    is_spared: bool
    """Whether runs that have a job wait for a Workbench whose breaker is open."""


class Meter(Protocol):
    """Takes figures; what is told is never lost by waiting, for it waits for nothing."""

    def tell(self, figures: Mapping[Metric, float], **dimensions: str) -> None:
        """Tells figures of now.

        Args:
            figures: in each metric's own unit; one or more.
            dimensions: what they are told apart by, such as `status`.
        """


class Retention(Protocol):
    """The runs that have ended."""

    def purge(self, *, older_than: timedelta, most: int) -> int:
        """Deletes runs that ended longer ago, each with its events, observations and key.

        Left are runs with an event that didn't reach the bus, with a job that is still hunted, and
        those that another run is a retry of. Returns how many were deleted.
        """


class Waiters(Protocol):
    """The callers that wait for a run, in all environments; there is room for a few."""

    def place(self, tenant_id: str) -> AbstractContextManager[Callable[[], bool]]:
        """Takes a place for a caller of this tenant, which never has all of them.

        Entering it gives what tells whether the caller has a place: from the start there may be
        none, and one may be lost. It is given back when the context is left.
        """


class Strays(Protocol):
    """The notes of jobs that no run may want."""

    def due(self, most: int) -> Sequence[StrayCheck]:
        """Those to look into now; no one else is given them for a minute."""

    def looked(
        self,
        check: StrayCheck,
        *,
        cancelled: int,
        next_look_at: datetime | None,
        is_whole: bool = True,
    ) -> None:
        """Notes a look, unless the check was noted anew meanwhile.

        Args:
            check: as it was given.
            cancelled: how many jobs were.
            next_look_at: None: it was the last.
            is_whole: whether the Workbench answered to all; else it doesn't count as a look.
        """


# -- Conductor ------------------------------------------------------------------------------------


class WorkflowStatus(StrEnum):
    """Conductor's statuses of a workflow."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    TERMINATED = "TERMINATED"


class CallEnd(StrEnum):
    """How the Workbench's call of a failed workflow ended."""

    CONNECTION_REFUSED = "CONNECTION_REFUSED"
    CLIENT_ERROR = "CLIENT_ERROR"
    """It answered 4xx."""
    SERVER_ERROR = "SERVER_ERROR"
    """It answered 5xx, but for the two that a gateway gives for an answer it did not get."""
    UNCLEAR = "UNCLEAR"
    """Its answer was lost, or Conductor's words for it aren't known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowExecution:
    """A workflow as Conductor shows it."""

    workflow_id: str
    status: WorkflowStatus
    output: Mapping[str, object] = field(default_factory=dict)
    submitted_job_id: object = None
    """The job id in the Workbench's answer, which a workflow without output may have too."""
    answer: object = None
    """The Workbench's answer, where that is no JSON object."""
    call_end: CallEnd = CallEnd.UNCLEAR
    reason: str = ""


class Conductor(Protocol):
    """The workflow engine."""

    def start(
        self,
        *,
        workflow_name: str,
        workflow_version: int | None,
        correlation_id: str,
        workflow_input: Mapping[str, object],
        timeout: timedelta,
    ) -> str:
        """Starts a workflow and returns its id.

        Raises:
            WorkflowRefused: Conductor itself answered 4xx.
            ConductorUnreachable: nothing was sent, or a gate before Conductor let nothing in.
            ConductorUnclear: it may have been started.
        """

    def execution(self, workflow_id: str, *, timeout: timedelta) -> WorkflowExecution:
        """The workflow as it is now.

        Raises:
            ConductorError: it can't be told.
        """

    def find(
        self, *, workflow_name: str, correlation_id: str, timeout: timedelta
    ) -> Sequence[WorkflowExecution]:
        """All workflows of a run, newest first.

        Raises:
            ConductorError: it can't be told.
        """

    def decide(self, workflow_id: str, *, timeout: timedelta) -> None:
        """Makes Conductor look at a workflow again: it ends one that has timed out.

        Raises:
            ConductorError: it can't be told whether it did.
        """

    def terminate(self, workflow_id: str, *, reason: str, timeout: timedelta) -> None:
        """Ends a workflow; a call that is under way goes on, and its answer is not waited for.

        Raises:
            ConductorError: it can't be told whether it did.
        """


# -- the Workbench --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """A valid answer about a job; texts are cleaned."""

    upstream_status: str
    error_message: str | None = None
    progress: Progress | None = None
    logs_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """No valid answer about a job."""

    reason: str
    unknown_job: bool = False
    """The Workbench answered that it has no such job."""
    retry_after: timedelta | None = None


JobAnswer = JobStatus | NoAnswer


class CancelEnd(StrEnum):
    """What became of the wish to cancel a job."""

    ACCEPTED = "ACCEPTED"
    NOTHING_TO_CANCEL = "NOTHING_TO_CANCEL"
    """It has ended, or the Workbench doesn't know it."""
    UNCLEAR = "UNCLEAR"
    """No valid answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAnswer:
    """What the Workbench answered to a cancel."""

    end: CancelEnd
    reason: str = ""


ANSWER_TIME: Final = timedelta(seconds=8)
"""What the Workbench has for one answer, all in all."""


class Workbench(Protocol):
    """The external service that does the work."""

    def ask(self, job_ids: Sequence[str], *, within: timedelta) -> Mapping[str, JobAnswer]:
        """Asks about jobs side by side; a job that there was no time for is left out."""

    def cancel(self, job_ids: Sequence[str], *, within: timedelta) -> Mapping[str, CancelAnswer]:
        """Has jobs cancelled, side by side; a job that there was no time for is left out."""

    def jobs_of(self, idempotency_key: str, *, within: timedelta) -> Sequence[str] | None:
        """The jobs that were submitted with this key; None: this Workbench can't tell.

        Raises:
            WorkbenchUnavailable: no valid answer.
        """


# -- who calls ------------------------------------------------------------------------------------


class Tokens(Protocol):
    """Knows whom a bearer token speaks for."""

    def caller_of(self, token: str) -> Caller:
        """The caller.

        Raises:
            TokenRefused: not a token that we accept; the text says why.
            TokensUnavailable: it can't be checked now.
        """


# -- the user's storage ---------------------------------------------------------------------------

LINK_LIFETIME: Final = timedelta(minutes=15)
"""How long a link to an object can be used by whoever has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object in the user's storage."""

    bucket: str
    key: str
    name: str
    """What of its key follows the folder that it was found in."""
    size_bytes: int
    modified_at: datetime
    url: str
    """Reads it without further rights, for `LINK_LIFETIME`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPage:
    """Some objects of a folder, ascending by the UTF-8 bytes of their keys; maybe none."""

    objects: Sequence[StoredObject]
    next_after: str | None
    """The key that the next page begins after; None: this was the last."""


class Storage(Protocol):
    """Where the users' data lie: S3, or what speaks it."""

    def objects(self, place: Location, *, page_size: int, after: str, inline: bool) -> StoredPage:
        """A page of the objects in a folder and in those below it.

        Args:
            place: bucket and folder.
            page_size: from 1 to 1,000; what stands for a folder itself counts and isn't shown.
            after: only keys behind this one; empty: from the first.
            inline: whether browsers may show what the links lead to; else they save it as a file.

        Raises:
            StorageUnavailable: it can't be reached, or gave no valid answer.
            StorageRefused: there is no such bucket, or we may not look into it.
        """


# -- queues, bus, time ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delayed:
    """A check message and the seconds until it is delivered."""

    message: CheckMessage
    delay_seconds: int = 0


class CheckQueue(Protocol):
    """Where check messages wait; there are two of them."""

    def send(self, messages: Sequence[Delayed]) -> int:
        """Sends what it can, refused ones once more; returns how many could not be sent."""

    def release(self, receipt_handles: Sequence[str]) -> None:
        """Has messages delivered again at once, if it can, rather than after their time-out."""


class TickQueue(Protocol):
    """Where the minute's later waves wait."""

    def send(self, message: TickMessage, *, delay_seconds: int) -> None:
        """Sends one, if it can: the next wave makes up for one that is missed."""


class EventBus(Protocol):
    """Where status changes are told."""

    def publish(self, events: Sequence[RunEvent]) -> Sequence[RunEvent]:
        """Publishes events in their order; returns those that the bus took."""


class Pause(Protocol):
    """Waits."""

    def __call__(self, seconds: float) -> None:
        """Returns after so many seconds."""


class Clock(Protocol):
    """Measures; it knows no date."""

    def __call__(self) -> float:
        """Monotonic seconds."""


class SideBySide(Protocol):
    """Calls a function for every item at once, as far as that is possible."""

    def __call__(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """The results, in the order of the items."""
