"""What was read of a stack: rows, jobs, calls, messages. Plain values, so that tests seed them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta  # noqa: TC003 - a dataclass's fields, which readers look at
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Final

from infra.verify.rules import KEPT_AT_LEAST, SUBMIT_DEADLINE, TERMINAL, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

JOB_KEY: Final = re.compile(r"(?P<namespace>.+)-(?P<run_id>\d{1,18})\Z")
"""A run's idempotency key at the Workbench."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A row of `pipeline_runs`."""

    id: int
    tenant_id: str
    mode: str
    status: str
    version: int
    workbench_job_id: str | None
    error_message: str | None
    error_code: str | None
    error_category: str | None
    has_output: bool
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    timeout_seconds: int
    cancel_requested_at: datetime | None
    cancel_cause: str | None
    submit_attempts: int
    next_check_at: datetime | None
    shard: int

    @property
    def has_ended(self) -> bool:
        """Whether it is in T."""
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A row of `pipeline_run_events`."""

    run_id: int
    version: int
    previous_status: str | None
    status: str
    at: datetime
    error: str | None
    published_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A row of `run_observations`."""

    run_id: int
    last_checked_at: datetime | None
    upstream_status: str | None
    consecutive_failures: int
    last_error: str | None
    unknown_since: datetime | None
    unknown_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A row of `idempotency_keys`."""

    tenant_id: str
    route: str
    key: str
    run_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StrayCheck:
    """A row of `stray_checks`; without a next look the hunt for the run's jobs is over."""

    run_id: int
    next_look_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that the Workbench made, as it told of it last.

    Attributes:
        word: Its status in the Workbench's words; None once the Workbench has forgotten it.
        ended_at: By the true clock; None if it hasn't ended or the Workbench doesn't tell.
        is_new: It may be younger than what was read of the database.
    """

    id: str
    idempotency_key: str | None
    word: object
    ended_at: datetime | None = None
    cancel_requested: bool = False
    is_new: bool = False

    @property
    def status(self) -> str | None:
        """Our word for its status; None: unknown."""
        return status_of(self.word)

    @property
    def has_ended(self) -> bool:
        """Whether the Workbench says so."""
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that the Workbench noted.

    Attributes:
        at: In seconds; only differences mean something.
        kind: "submit", "status", "bulk_status", "cancel", …
    """

    at: float
    kind: str
    job_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WorkbenchFacts:
    """The Workbench's side.

    Attributes:
        tells_ends: Whether its jobs tell when they ended.
        misled: The runs that were promised a job that was never made; only a script does that.
    """

    jobs: Mapping[str, Job]
    calls: Sequence[Call] = ()
    tells_ends: bool = False
    misled: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A status event as a consumer of the bus received it."""

    run_id: int
    version: int
    status: str
    previous_status: str | None

    @classmethod
    def of_message(cls, body: str) -> Delivery:
        """The delivery that a queue behind the bus got: EventBridge's envelope, as JSON."""
        detail = json.loads(body)["detail"]
        return cls(
            run_id=detail["run_id"],
            version=detail["version"],
            status=detail["status"],
            previous_status=detail["previous_status"],
        )


class Need(Enum):
    """What a judgement can't do without; the value is what is said where it isn't there."""

    WORKBENCH = "nothing to judge here: the Workbench is not ours"
    END_TIMES = "the Workbench doesn't tell when its jobs ended"
    WELL = "judged only where all has been well for a while"
    TRUE_CLOCK = "the database's clock was moved"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that was read, at one time of the database's.

    Attributes:
        now: The database's `runs_now()`.
        clock_moved: Whether that differs from the true time.
        namespace: What this database's keys at the Workbench begin with.
        shards: When each was swept last; None: never.
        workbench: None: it is not ours.
        waiting: How many messages each queue holds.
        dead_letters: The bodies of the DLQ's messages.
        deliveries: What a consumer received, in that order; None: there was none.
        poll_interval: As the stack has it.
        submit_deadline: The same.
        well_since: Since when all parts have been well, by the database's clock: nothing that had
            less time than its bound since then is late. None: time isn't judged.
    """

    now: datetime
    clock_moved: bool
    namespace: str
    poll_interval: timedelta
    runs: Mapping[int, Run]
    events: Sequence[Event]
    observations: Mapping[int, Observation]
    keys: Sequence[Key]
    strays: Mapping[int, StrayCheck]
    shards: Mapping[int, datetime | None]
    workbench: WorkbenchFacts | None = None
    waiting: Mapping[str, int] = field(default_factory=dict)
    dead_letters: Sequence[str] = ()
    deliveries: Sequence[Delivery] | None = None
    submit_deadline: timedelta = SUBMIT_DEADLINE
    well_since: datetime | None = None

    def has(self, need: Need) -> bool:
        """Whether there is what a judgement needs."""
        match need:
            case Need.WORKBENCH:
                return self.workbench is not None
            case Need.END_TIMES:
                return self.workbench is not None and self.workbench.tells_ends
            case Need.WELL:
                return self.well_since is not None
            case Need.TRUE_CLOCK:
                return not self.clock_moved

    def is_late(self, since: datetime, within: timedelta, *, until: datetime | None = None) -> bool:
        """Whether what began then took longer, until it happened or, if it hasn't, until now."""
        if self.well_since is None:
            return False
        return (until or self.now) - max(since, self.well_since) > within

    @cached_property
    def histories(self) -> Mapping[int, Sequence[Event]]:
        """Each run's events by version, one of each; of a run without any, none."""
        found: dict[int, dict[int, Event]] = {run_id: {} for run_id in self.runs}
        for event in sorted(self.events, key=lambda event: event.version):
            found.setdefault(event.run_id, {}).setdefault(event.version, event)
        return {run_id: [*versions.values()] for run_id, versions in found.items()}

    @cached_property
    def jobs(self) -> Mapping[str, Job]:
        """The Workbench's jobs by id; none if it is not ours."""
        return self.workbench.jobs if self.workbench else {}

    @cached_property
    def jobs_by_run(self) -> Mapping[int, Sequence[Job]]:
        """The jobs that were made for this database's runs, whether or not the run exists."""
        found: dict[int, list[Job]] = {}
        for job in self.jobs.values():
            key = JOB_KEY.match(job.idempotency_key or "")
            if key and key["namespace"] == self.namespace:
                found.setdefault(int(key["run_id"]), []).append(job)
        return found

    @cached_property
    def purged(self) -> frozenset[int]:
        """The runs that are gone and may be: all of their jobs ended long ago, or are forgotten."""
        long_ago = self.now - KEPT_AT_LEAST
        return frozenset(
            run_id
            for run_id, jobs in self.jobs_by_run.items()
            if run_id not in self.runs
            and all(job.word is None or (job.ended_at or self.now) < long_ago for job in jobs)
        )

    def job_of(self, run: Run) -> Job | None:
        """The run's job, if the Workbench still knows it."""
        job = self.jobs.get(run.workbench_job_id or "")
        return job if job and job.word is not None else None

    @cached_property
    def cancel_called(self) -> frozenset[str]:
        """The jobs that the Workbench was asked to cancel."""
        calls = self.workbench.calls if self.workbench else ()
        called = {job_id for call in calls if call.kind == "cancel" for job_id in call.job_ids}
        return frozenset(called | {job.id for job in self.jobs.values() if job.cancel_requested})
