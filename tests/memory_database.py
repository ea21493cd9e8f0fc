"""The database in memory, with the semantics of the Postgres adapter; and a time of its own.

`tests/contract/test_runs_contract.py` runs one suite over this and over real Postgres.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Protocol, TypeVar
from uuid import UUID

from runs.errors import (
    DatabaseUnavailable,
    IdempotencyKeyReused,
    PipelineDisabled,
    PipelineExists,
    PipelineFull,
    PipelineNotFound,
    RunNotFound,
    TenantFull,
)
from runs.events import RunEvent
from runs.messages import SHARDS
from runs.model import (
    DEFAULT_TIMEOUT,
    CancelCause,
    Observation,
    Pipeline,
    PipelineRun,
    Transition,
)
from runs.ports import (
    ActiveRuns,
    Breaker,
    Claim,
    DueRun,
    Fleet,
    Overview,
    Recorded,
    RunNow,
    RunPage,
    StrayCheck,
)
from runs.status import ACTIVE, TERMINAL, PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from runs.model import Finding, NewRun, Stray
    from runs.ports import RunFilter
    from runs.status import PipelineMode

LOG = logging.getLogger(__name__)

NAMESPACE: Final = UUID("6f1c0f0e-0000-4000-8000-000000000001")
NEVER: Final = datetime.min.replace(tzinfo=UTC)
WRITER_TIME: Final = timedelta(seconds=10)
"""What an event's writer has to publish it before the relay does."""
LONGEST_ID: Final = 255
FIRST_LOOK: Final = timedelta(minutes=1)
CLAIMED_FOR: Final = timedelta(minutes=1)
NEWS: Final = timedelta(seconds=5)
UNTIL_OPEN: Final = timedelta(seconds=60)
ENOUGH_TO_OPEN: Final = 10


class FakeTime:
    """A time that stands still unless something waits or a test moves it.

    `time()` is the monotonic clock that the use cases measure with, `time.pause` the pause that
    they wait by, `time.now` the date.
    """

    def __init__(self, start: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = timedelta(0)
        self.naps: list[float] = []
        self.on_advance: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self._elapsed.total_seconds()

    def pause(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._elapsed += timedelta(seconds=seconds)
        self.on_advance()

    @property
    def now(self) -> datetime:
        return self._start + self._elapsed


class Crash(BaseException):
    """The process dies here: no `except Exception` holds it up."""


class Steps:
    """The places where something can go wrong, each passed in order and noted in `trail`.

    Every call of a port passes two: "before MemoryRuns.move" and "after MemoryRuns.move". At the
    second the call has had its effect, and only its answer can get lost.
    """

    def __init__(self) -> None:
        self.trail: list[str] = []
        self._strikes: dict[int | str, BaseException] = {}

    def strike(self, at: int | str, error: BaseException | None = None) -> None:
        """Has an error, by default a Crash, raised once: at a named step, or so many from now."""
        place = at if isinstance(at, str) else len(self.trail) + at
        self._strikes[place] = error or Crash(at)

    def spare(self) -> None:
        """Takes back what hasn't struck yet."""
        self._strikes.clear()

    def reach(self, step: str) -> None:
        number = len(self.trail)
        self.trail.append(step)
        error = self._strikes.pop(number, None) or self._strikes.pop(step, None)
        if error:
            raise error


class HasSteps(Protocol):
    """A twin of a port."""

    @property
    def steps(self) -> Steps: ...


S = TypeVar("S", bound=HasSteps)
P = ParamSpec("P")
R = TypeVar("R")


def stepped(call: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Makes a port's call pass its two steps."""

    @wraps(call)
    def stepping(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        name = f"{type(self).__name__}.{call.__name__}"
        self.steps.reach(f"before {name}")
        result = call(self, *args, **kwargs)
        self.steps.reach(f"after {name}")
        return result

    return stepping


@dataclass(frozen=True, kw_only=True)
class NotedStray:
    """A row of `stray_checks`."""

    reason: str
    job_ids: tuple[str, ...]
    noted_at: datetime
    next_look_at: datetime | None
    looks: int = 0
    jobs_cancelled: int = 0


@dataclass
class MemoryDatabase:
    """The tables. Whoever holds it sees everything; the ports are `MemoryRuns`, `MemoryPipelines`.

    Attributes:
        skew: What `runs_now()` is ahead of the true time.
        down: Nobody reaches it.
        locked: Runs whose rows another transaction holds, for longer than anyone waits.
        strays: The stray checks, by run.
        breakers: By Workbench.
        probe_at: When the next probes may be taken, by Workbench.
        relay: Who holds the relay's lock.
        refused: Transitions that a constraint or trigger of the table refused.
    """

    time: FakeTime = field(default_factory=FakeTime)
    steps: Steps = field(default_factory=Steps)
    skew: timedelta = timedelta(0)
    down: bool = False
    locked: set[int] = field(default_factory=set)
    pipelines: dict[int, Pipeline] = field(default_factory=dict)
    runs: dict[int, PipelineRun] = field(default_factory=dict)
    observations: dict[int, Observation] = field(default_factory=dict)
    events: dict[int, list[RunEvent]] = field(default_factory=dict)
    published: set[tuple[int, int]] = field(default_factory=set)
    keys: dict[tuple[str, str, str], tuple[str, int]] = field(default_factory=dict)
    strays: dict[int, NotedStray] = field(default_factory=dict)
    breakers: dict[str, Breaker] = field(default_factory=dict)
    probe_at: dict[str, datetime] = field(default_factory=dict)
    polled: dict[int, datetime] = field(default_factory=lambda: dict.fromkeys(range(SHARDS), NEVER))
    relay: object = None
    refused: list[str] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        """`runs_now()`."""
        return self.time.now + self.skew

    def reach(self) -> None:
        if self.down:
            raise DatabaseUnavailable("the database is down")

    def active_ids(self) -> list[int]:
        return [run.id for run in self.runs.values() if not run.is_terminal]

    def known(self, run_ids: Iterable[int]) -> list[PipelineRun]:
        return [self.runs[one] for one in run_ids if one in self.runs]

    def with_job(self) -> list[PipelineRun]:
        """The active runs that the Workbench is asked about."""
        return [self.runs[one] for one in self.active_ids() if self.runs[one].workbench_job_id]

    def seen(self, run: PipelineRun) -> PipelineRun:
        """A run with what is known of it."""
        observation = self.observations.get(run.id, Observation())
        if observation.last_checked_at:
            age = (self.now - observation.last_checked_at).total_seconds()
            observation = replace(observation, staleness_seconds=age)
        return replace(run, observation=observation)


@dataclass
class MemoryPipelines:
    """`ports.Pipelines`."""

    database: MemoryDatabase

    @property
    def steps(self) -> Steps:
        return self.database.steps

    @stepped
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
        self.database.reach()
        made = Pipeline(
            id=len(self.database.pipelines) + 1,
            tenant_id=tenant_id,
            name=name,
            mode=mode,
            workflow_name=workflow_name,
            workflow_version=workflow_version,
            created_at=self.database.now,
            updated_at=self.database.now,
            enabled=enabled,
            disabled_reason=disabled_reason,
            max_active_runs=max_active_runs,
            timeout_seconds=timeout_seconds,
        )
        for there in self.database.pipelines.values():
            now = self.database.now
            if replace(there, id=made.id, created_at=now, updated_at=now) == made:
                return there
        self._refuse_double(tenant_id, name)
        self.database.pipelines[made.id] = made
        return made

    @stepped
    def pipeline(self, pipeline_id: int, *, tenant_id: str) -> Pipeline:
        self.database.reach()
        found = self.database.pipelines.get(pipeline_id)
        if not found or found.tenant_id != tenant_id:
            raise PipelineNotFound(pipeline_id)
        return found

    @stepped
    def pipelines(
        self, *, tenant_id: str, page_size: int, before: int | None
    ) -> Sequence[Pipeline]:
        self.database.reach()
        newest_first = sorted(self.database.pipelines.values(), key=lambda p: -p.id)
        return [
            pipeline
            for pipeline in newest_first
            if pipeline.tenant_id == tenant_id and (before is None or pipeline.id < before)
        ][:page_size]

    @stepped
    def change_pipeline(
        self, pipeline_id: int, changes: Mapping[str, object], *, tenant_id: str
    ) -> Pipeline:
        found = self.pipeline(pipeline_id, tenant_id=tenant_id)
        if "name" in changes:
            self._refuse_double(tenant_id, str(changes["name"]), but=pipeline_id)
        updated_at = max(self.database.now, found.updated_at)
        wanted: dict[str, Any] = {**changes, "updated_at": updated_at}
        changed = replace(found, **wanted)
        self.database.pipelines[pipeline_id] = changed
        return changed

    def _refuse_double(self, tenant_id: str, name: str, *, but: int | None = None) -> None:
        for other in self.database.pipelines.values():
            if (other.tenant_id, other.name) == (tenant_id, name) and other.id != but:
                raise PipelineExists(name)


@dataclass(eq=False)
class MemoryRuns:
    """`ports.Runs`; two of them on one database are two connections."""

    database: MemoryDatabase

    @property
    def steps(self) -> Steps:
        return self.database.steps

    @stepped
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
        self.database.reach()
        named = (new.tenant_id, route, key)
        if replayed := self._replay(named, fingerprint):
            return replayed
        pipeline = self.database.pipelines.get(new.pipeline_id)
        if not pipeline or pipeline.tenant_id != new.tenant_id:
            raise PipelineNotFound(new.pipeline_id)
        self._admit(pipeline, most_active)
        if new.retry_of is not None:
            self._run(new.retry_of, new.tenant_id)
        run = _first(len(self.database.runs) + 1, new, pipeline, now=self.database.now, lease=lease)
        event = RunEvent(
            run_id=run.id,
            pipeline_id=run.pipeline_id,
            version=1,
            previous_status=None,
            status=run.status,
            at=run.created_at,
            error_message=None,
            tags=run.tags,
        )
        self.database.keys[named] = fingerprint, run.id
        self.database.runs[run.id] = run
        self.database.events[run.id] = [event]
        return Recorded(run=run, replayed=False, events=[event])

    def _admit(self, pipeline: Pipeline, most_active: int | None) -> None:
        if not pipeline.enabled:
            raise PipelineDisabled(pipeline.id, pipeline.disabled_reason)
        active = self.database.known(self.database.active_ids())
        of_pipeline = [run for run in active if run.pipeline_id == pipeline.id]
        limit = pipeline.max_active_runs
        if limit is not None and len(of_pipeline) >= limit:
            raise PipelineFull(pipeline.id, limit)
        of_tenant = [run for run in active if run.tenant_id == pipeline.tenant_id]
        if most_active is not None and len(of_tenant) >= most_active:
            raise TenantFull(most_active)

    @stepped
    def replay(self, *, tenant_id: str, route: str, key: str, fingerprint: str) -> Recorded | None:
        self.database.reach()
        return self._replay((tenant_id, route, key), fingerprint)

    def _replay(self, named: tuple[str, str, str], fingerprint: str) -> Recorded | None:
        if named not in self.database.keys:
            return None
        known, run_id = self.database.keys[named]
        if known != fingerprint:
            raise IdempotencyKeyReused(run_id)
        return Recorded(run=self._run(run_id, named[0]), replayed=True)

    @stepped
    def run(self, run_id: int, *, tenant_id: str) -> PipelineRun:
        self.database.reach()
        return self._run(run_id, tenant_id)

    @stepped
    def page(
        self, where: RunFilter, *, tenant_id: str, page_size: int, before: int | None
    ) -> RunPage:
        self.database.reach()
        newest_first = sorted(self.database.runs.values(), key=lambda run: -run.id)
        found = [
            self.database.seen(run)
            for run in newest_first
            if run.tenant_id == tenant_id
            and (before is None or run.id < before)
            and _fits(run, where)
        ][:page_size]
        return RunPage(runs=found, before=found[-1].id if len(found) == page_size else None)

    @stepped
    def history(self, run_id: int, *, tenant_id: str) -> Sequence[RunEvent]:
        self.database.reach()
        self._run(run_id, tenant_id)
        return list(self.database.events[run_id])

    @stepped
    def claim(self, shards: Sequence[int], *, older_than: timedelta, not_after: datetime) -> Claim:
        self.database.reach()
        now = self.database.now
        in_time = self.database.time.now <= not_after
        polled = self.database.polled
        claimed = {
            shard
            for shard in shards
            if in_time and shard in polled and polled[shard] <= now - older_than
        }
        polled.update(dict.fromkeys(claimed, now))
        due = [
            DueRun(run_id=run.id, troubled=run.next_check_at is not None)
            for run in self.database.runs.values()
            if run.id % SHARDS in claimed
            and not run.is_terminal
            and (run.next_check_at is None or run.next_check_at <= now)
            and (run.submit_lease_until is None or run.submit_lease_until <= now)
        ]
        return Claim(shards=len(claimed), due=due, now=now)

    @stepped
    def active(self, run_ids: Iterable[int], *, workbench: str) -> ActiveRuns:
        self.database.reach()
        found = self.database.known(run_ids)
        return ActiveRuns(
            now=self.database.now,
            runs=[self.database.seen(run) for run in found if not run.is_terminal],
            breaker=self.database.breakers.get(workbench, Breaker()),
        )

    @stepped
    def holder_of(self, workbench_job_id: str) -> int | None:
        self.database.reach()
        for run in self.database.with_job():
            if run.workbench_job_id == workbench_job_id:
                return run.id
        return None

    @stepped
    def is_alone(self, run_id: int) -> bool:
        self.database.reach()
        return not [one for one in self.database.with_job() if one.id != run_id]

    @stepped
    def pressing(self, run_ids: Sequence[int], *, outage: timedelta) -> Sequence[int]:
        self.database.reach()
        return [
            run.id
            for run in self.database.known(sorted(set(run_ids)))
            if run.workbench_job_id is None
            or run.cancel_requested_at
            or (run.times_out_at and self.database.now >= run.times_out_at + outage)
        ]

    @stepped
    def take_submit_lease(self, run: PipelineRun, lease: timedelta) -> bool:
        self.database.reach()
        row, now = self.database.runs[run.id], self.database.now
        free = row.submit_lease_until is None or row.submit_lease_until <= now
        as_seen = row.status is PipelineRunStatus.CREATED and row.version == run.version
        wanted = row.cancel_requested_at is None or row.submit_attempts > 0
        if not (free and as_seen and wanted) or run.id in self.database.locked:
            return False
        self.database.runs[run.id] = replace(
            row, submit_lease_until=now + lease, submit_attempts=row.submit_attempts + 1
        )
        return True

    @stepped
    def request_cancel(self, run_id: int, *, tenant_id: str, reason: str | None) -> RunNow:
        self.database.reach()
        run = self._run(run_id, tenant_id)
        if not run.is_terminal:
            self._ask_to_end(run.id, CancelCause.USER, reason)
        return RunNow(run=self._run(run_id, tenant_id), now=self.database.now)

    @stepped
    def time_out(self, run_ids: Sequence[int]) -> None:
        self.database.reach()
        for run in self.database.known(run_ids):
            due = run.times_out_at
            free = not run.is_terminal and run.id not in self.database.locked
            if free and due and self.database.now >= due:
                self._ask_to_end(run.id, CancelCause.TIMEOUT, None)

    def _ask_to_end(self, run_id: int, cause: CancelCause, reason: str | None) -> None:
        row = self.database.runs[run_id]
        if row.cancel_requested_at:
            return
        if run_id in self.database.locked:
            raise DatabaseUnavailable("the row is locked")
        self.database.runs[run_id] = replace(
            row,
            cancel_requested_at=max(self.database.now, row.updated_at),
            cancel_cause=cause,
            cancel_reason=reason,
        )

    @stepped
    def move(self, transitions: Sequence[Transition], *, wait: bool = False) -> Sequence[RunEvent]:
        self.database.reach()
        del wait  # Nobody in here waits long enough for a locked row.
        events: list[RunEvent] = []
        for change in sorted(transitions, key=lambda change: change.run_id):
            events += self._move(change)
        return events

    @stepped
    def observe(self, findings: Sequence[Finding]) -> None:
        self.database.reach()
        for finding in findings:
            run = self.database.runs.get(finding.run_id)
            known = run is not None and (finding.is_last or not run.is_terminal)
            locked = finding.run_id in self.database.locked
            if not _is_storable(finding):
                LOG.error("data_refused", extra={"run_id": finding.run_id})
            elif known and not (locked and finding.run_id not in self.database.observations):
                self._observe(finding, locked=locked)

    @stepped
    def unpublished(self, limit: int) -> Sequence[RunEvent]:
        self.database.reach()
        newest = self.database.now - WRITER_TIME
        return [
            event
            for run_id in sorted(self.database.events)
            for event in self.database.events[run_id]
            if (run_id, event.version) not in self.database.published and event.at <= newest
        ][:limit]

    @stepped
    def mark_published(self, events: Sequence[RunEvent]) -> None:
        self.database.reach()
        self.database.published |= {(event.run_id, event.version) for event in events}

    @stepped
    def relaying(self) -> bool:
        self.database.reach()
        self.database.relay = self.database.relay or self
        return self.database.relay is self

    @stepped
    def relayed(self) -> None:
        self.database.reach()
        if self.database.relay is self:
            self.database.relay = None

    @stepped
    def ping(self) -> None:
        self.database.reach()

    def _run(self, run_id: int, tenant_id: str) -> PipelineRun:
        run = self.database.runs.get(run_id)
        if not run or run.tenant_id != tenant_id:
            raise RunNotFound(run_id)
        return self.database.seen(run)

    def _move(self, change: Transition) -> list[RunEvent]:
        row = self.database.runs.get(change.run_id)
        if not row or (row.version, row.status) != (change.seen_version, change.seen_status):
            return []
        if row.id in self.database.locked:
            return []
        moved = _moved(row, change, now=self.database.now)
        broken = broken_fence(row, moved) if _is_storable(change) else "unstorable text"
        others = [one for one in self.database.with_job() if one.id != row.id]
        if moved.workbench_job_id in {one.workbench_job_id for one in others}:
            broken = broken or (None if moved.is_terminal else "pipeline_runs_active_job")
        if broken:
            LOG.error("data_refused", extra={"run_id": row.id, "error": broken})
            self.database.refused.append(f"run {row.id}: {broken}")
            return []
        events = [
            RunEvent(
                run_id=row.id,
                pipeline_id=row.pipeline_id,
                version=row.version + number,
                previous_status=previous,
                status=status,
                at=moved.updated_at,
                error_message=moved.error.message
                if moved.error and status is PipelineRunStatus.FAILED
                else None,
                tags=row.tags,
            )
            for number, (previous, status) in enumerate(
                zip((row.status, *change.path), change.path, strict=False), start=1
            )
        ]
        self.database.runs[row.id] = moved
        self.database.events[row.id] += events
        if change.stray:
            self._note(row.id, change.stray)
        return events

    def _note(self, run_id: int, stray: Stray) -> None:
        before = self.database.strays.get(run_id)
        self.database.strays[run_id] = NotedStray(
            reason=stray.reason,
            job_ids=(before.job_ids if before else ()) + stray.job_ids,
            noted_at=self.database.now,
            next_look_at=self.database.now + FIRST_LOOK,
            jobs_cancelled=before.jobs_cancelled if before else 0,
        )

    def _observe(self, finding: Finding, *, locked: bool) -> None:
        if not locked:
            row = self.database.runs[finding.run_id]
            self.database.runs[row.id] = replace(row, next_check_at=finding.next_check_at)
        seen = self.database.observations.get(finding.run_id, Observation())
        checked_at = seen.last_checked_at
        if finding.trouble is None:
            checked_at = max(self.database.now, checked_at or NEVER)
        self.database.observations[finding.run_id] = Observation(
            last_checked_at=checked_at,
            upstream_status=finding.upstream_status or seen.upstream_status,
            progress=finding.progress or seen.progress,
            logs_url=finding.logs_url or seen.logs_url,
            consecutive_failures=seen.consecutive_failures + 1 if finding.trouble else 0,
            last_error=finding.trouble,
            unknown_since=self._unknown_since(seen, finding),
            unknown_count=seen.unknown_count + finding.unknown_job
            if _still_unknown(finding)
            else 0,
        )

    def _unknown_since(self, seen: Observation, finding: Finding) -> datetime | None:
        if not _still_unknown(finding):
            return None
        return seen.unknown_since or (self.database.now if finding.unknown_job else None)


@dataclass(eq=False)
class MemoryOverviews:
    """`ports.Overviews`."""

    database: MemoryDatabase

    @property
    def steps(self) -> Steps:
        return self.database.steps

    @stepped
    def overview(self, *, tenant_id: str, workbench: str) -> Overview:
        self.database.reach()
        now = self.database.now
        runs = [
            self.database.seen(run)
            for run in self.database.runs.values()
            if run.tenant_id == tenant_id
        ]
        day = now - timedelta(hours=24)
        news = [
            run.observation.last_checked_at or run.started_at
            for run in runs
            if run.started_at and not run.is_terminal
        ]
        oldest = min((at for at in news if at), default=None)
        swept = max(self.database.polled.values())
        return Overview(
            now=now,
            active=Counter(run.status for run in runs if not run.is_terminal),
            ended_of_late=Counter(
                run.status for run in runs if run.completed_at and run.completed_at > day
            ),
            worst_staleness_seconds=(now - oldest).total_seconds() if oldest else None,
            last_sweep_at=None if swept == NEVER else swept,
            runs_checked_of_late=sum(
                run.observation.last_checked_at is not None
                and run.observation.last_checked_at > now - timedelta(minutes=1)
                for run in runs
                if run.workbench_job_id and not run.is_terminal
            ),
            breaker=self.database.breakers.get(workbench, Breaker()),
        )

    @stepped
    def fleet(self, *, workbench: str) -> Fleet:
        self.database.reach()
        now = self.database.now
        active = [self.database.seen(self.database.runs[one]) for one in self.database.active_ids()]
        stale = sorted(
            (now - (run.observation.last_checked_at or run.started_at)).total_seconds()
            for run in active
            if run.started_at
        )
        waiting = [
            event.at
            for run_id, events in self.database.events.items()
            for event in events
            if (run_id, event.version) not in self.database.published
        ]
        return Fleet(
            active=dict.fromkeys(sorted(ACTIVE), 0) | Counter(run.status for run in active),
            troubled=sum(run.next_check_at is not None for run in active),
            staleness_seconds=(_share(stale, 0.5), _share(stale, 0.99), _share(stale, 1)),
            unpublished_seconds=(now - min(waiting, default=now)).total_seconds(),
            is_spared=bool(stale and self.database.breakers.get(workbench, Breaker()).opened_at),
        )


def _share(ordered: Sequence[float], part: float) -> float:
    """The value below which this part lies, in between two by their distance."""
    if not ordered:
        return 0.0
    place = part * (len(ordered) - 1)
    below = ordered[int(place)]
    above = ordered[min(int(place) + 1, len(ordered) - 1)]
    return below + (above - below) * (place - int(place))


@dataclass(eq=False)
class MemoryRetention:
    """`ports.Retention`."""

    database: MemoryDatabase

    @property
    def steps(self) -> Steps:
        return self.database.steps

    @stepped
    def purge(self, *, older_than: timedelta, most: int) -> int:
        self.database.reach()
        over = [run for run in self.database.runs.values() if run.completed_at]
        due = [
            run.id
            for run in sorted(over, key=lambda run: (run.completed_at, run.id))
            if run.completed_at
            and run.completed_at < self.database.now - older_than
            and self._is_finished_with(run)
        ][:most]
        for run_id in due:
            self._delete(run_id)
        return len(due)

    def _is_finished_with(self, run: PipelineRun) -> bool:
        """Nothing is to be done about it, and no row points to it."""
        told = all(
            (run.id, event.version) in self.database.published
            for event in self.database.events[run.id]
        )
        stray = self.database.strays.get(run.id)
        retried = any(other.retry_of == run.id for other in self.database.runs.values())
        return told and not (stray and stray.next_look_at) and not retried

    def _delete(self, run_id: int) -> None:
        del self.database.runs[run_id]
        self.database.observations.pop(run_id, None)
        self.database.strays.pop(run_id, None)
        for event in self.database.events.pop(run_id):
            self.database.published.discard((run_id, event.version))
        for name, (_, made) in list(self.database.keys.items()):
            if made == run_id:
                del self.database.keys[name]


@dataclass(eq=False)
class MemoryBreakers:
    """`ports.Breakers`."""

    database: MemoryDatabase

    @property
    def steps(self) -> Steps:
        return self.database.steps

    @stepped
    def breaker(self, workbench: str) -> Breaker:
        self.database.reach()
        return self._breaker(workbench)

    @stepped
    def answered(self, workbench: str) -> None:
        self.database.reach()
        before, now = self._breaker(workbench), self.database.now
        told_lately = before.last_valid_at and before.last_valid_at > now - NEWS
        if told_lately and not before.opened_at and not before.failing_since:
            return
        self.database.probe_at.pop(workbench, None)
        self.database.breakers[workbench] = Breaker(
            last_valid_at=max(now, before.last_valid_at or now),
            closed_at=now if before.opened_at else before.closed_at,
        )

    @stepped
    def failed(self, workbench: str, *, only_unknown: bool) -> None:
        self.database.reach()
        before, now = self._breaker(workbench), self.database.now
        if before.last_valid_at and before.last_valid_at > now - NEWS:
            return
        opens = before.failing_since and before.failing_since <= now - UNTIL_OPEN
        if opens and self._all_fail(only_unknown=only_unknown):
            before = replace(before, opened_at=before.opened_at or now)
        since = before.failing_since or now
        self.database.breakers[workbench] = replace(before, failing_since=since)

    @stepped
    def probes(self, workbench: str, *, most: int, every: timedelta) -> Sequence[int]:
        self.database.reach()
        now = self.database.now
        taken = self.database.probe_at.get(workbench, NEVER) > now
        if not self._breaker(workbench).opened_at or taken:
            return []
        self.database.probe_at[workbench] = now + every
        asked = [
            (run.next_check_at, run.id)
            for run in self.database.with_job()
            if not run.cancel_requested_at and run.next_check_at and run.next_check_at <= now
        ]
        return [run_id for _, run_id in sorted(asked)[:most]]

    def _breaker(self, workbench: str) -> Breaker:
        return self.database.breakers.get(workbench, Breaker())

    def _all_fail(self, *, only_unknown: bool) -> bool:
        ids = [run.id for run in self.database.with_job()]
        seen = self.database.observations
        failing = [one for one in ids if one in seen and seen[one].consecutive_failures]
        enough = min(len(ids), ENOUGH_TO_OPEN)
        return len(failing) >= enough > (1 if only_unknown else 0)


@dataclass(eq=False)
class MemoryStrays:
    """`ports.Strays`."""

    database: MemoryDatabase

    @property
    def steps(self) -> Steps:
        return self.database.steps

    @stepped
    def due(self, most: int) -> Sequence[StrayCheck]:
        self.database.reach()
        now = self.database.now
        due = sorted(
            (noted.next_look_at, run_id)
            for run_id, noted in self.database.strays.items()
            if noted.next_look_at and noted.next_look_at <= now
        )[:most]
        checks = []
        for _, run_id in due:
            noted = replace(self.database.strays[run_id], next_look_at=now + CLAIMED_FOR)
            self.database.strays[run_id] = noted
            checks.append(
                StrayCheck(
                    run=self.database.seen(self.database.runs[run_id]),
                    job_ids=noted.job_ids,
                    looks=noted.looks,
                    noted_at=noted.noted_at,
                    claimed_until=now + CLAIMED_FOR,
                    now=now,
                )
            )
        return checks

    @stepped
    def looked(
        self,
        check: StrayCheck,
        *,
        cancelled: int,
        next_look_at: datetime | None,
        is_whole: bool = True,
    ) -> None:
        self.database.reach()
        noted = self.database.strays[check.run.id]
        if (noted.noted_at, noted.next_look_at) == (check.noted_at, check.claimed_until):
            self.database.strays[check.run.id] = replace(
                noted,
                looks=check.looks + is_whole,
                jobs_cancelled=noted.jobs_cancelled + cancelled,
                next_look_at=next_look_at,
            )


def _still_unknown(finding: Finding) -> bool:
    """Whether the check told nothing of the job."""
    return finding.trouble is not None and finding.upstream_status is None


def broken_fence(old: PipelineRun, new: PipelineRun) -> str | None:
    """The first of the table's constraints and triggers that a change would break."""
    failed = new.status is PipelineRunStatus.FAILED
    created = new.status is PipelineRunStatus.CREATED
    never_started = failed or new.status is PipelineRunStatus.CANCELLED
    started = new.started_at or new.created_at
    kept = ("status", "version", "error", "output", "started_at", "completed_at")
    fences = {
        "started_in_time": started >= new.created_at,
        "completed_in_time": not new.completed_at or new.completed_at >= started,
        "started_once_submitted": never_started or (new.started_at is None) is created,
        "completed_when_terminal": (new.completed_at is not None) is (new.status in TERMINAL),
        "message_when_failed": (new.error is not None) is failed,
        "terminal_sticks": not old.is_terminal
        or all(getattr(old, name) == getattr(new, name) for name in kept),
        "job_sticks": old.workbench_job_id in {None, new.workbench_job_id},
        "lengths": len(new.conductor_workflow_id or "") <= LONGEST_ID
        and len(new.workbench_job_id or "") <= LONGEST_ID,
    }
    return next((name for name, holds in fences.items() if not holds), None)


def _first(
    run_id: int, new: NewRun, pipeline: Pipeline, *, now: datetime, lease: timedelta | None
) -> PipelineRun:
    return PipelineRun(
        id=run_id,
        tenant_id=new.tenant_id,
        pipeline_id=pipeline.id,
        mode=pipeline.mode,
        status=PipelineRunStatus.CREATED,
        version=1,
        workflow_name=pipeline.workflow_name,
        workflow_version=pipeline.workflow_version,
        correlation_id=f"{NAMESPACE}-{run_id}",
        workbench_job_id=None,
        conductor_workflow_id=None,
        error=None,
        user_storage_input_path_prefix=new.input_path_prefix,
        user_storage_output_path_prefix=new.output_path_prefix,
        user_storage_report_path_prefix=new.report_path_prefix,
        parameters=_as_json(new.parameters),
        tags=_as_json(new.tags),
        retry_of=new.retry_of,
        request_id=new.request_id,
        output=None,
        created_at=now,
        updated_at=now,
        started_at=None,
        completed_at=None,
        timeout_seconds=new.timeout_seconds
        or pipeline.timeout_seconds
        or round(DEFAULT_TIMEOUT.total_seconds()),
        cancel_requested_at=None,
        cancel_cause=None,
        cancel_reason=None,
        submit_lease_until=now + lease if lease is not None else None,
        submit_attempts=0 if lease is None else 1,
        next_check_at=None,
    )


def _moved(row: PipelineRun, change: Transition, *, now: datetime) -> PipelineRun:
    at = max(now, row.updated_at)
    return replace(
        row,
        status=change.path[-1],
        version=row.version + len(change.path),
        workbench_job_id=row.workbench_job_id or change.workbench_job_id,
        conductor_workflow_id=change.conductor_workflow_id or row.conductor_workflow_id,
        error=change.error,
        output=row.output if change.output is None else _as_json(change.output),
        started_at=at if PipelineRunStatus.SUBMITTED in change.path else row.started_at,
        completed_at=at if change.path[-1] in TERMINAL else None,
        updated_at=at,
        submit_lease_until=None,
    )


def _as_json(value: Any) -> Any:
    """A copy, as it comes back from a JSON column."""
    return json.loads(json.dumps(value))


def _is_storable(item: Transition | Finding) -> bool:
    """Whether Postgres would take its texts: it knows no NUL and no lone surrogates."""
    fields = [getattr(item, name) for name in type(item).__slots__]
    if isinstance(item, Transition):
        fields.append(item.error and item.error.message)
        fields += [item.stray.reason, *item.stray.job_ids] if item.stray else []
    return not any(
        character == "\0" or "\ud800" <= character <= "\udfff"
        for text in _texts(fields)
        for character in text
    )


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys too."""
    match value:
        case str():
            yield value
        case dict():
            yield from _texts([*value.keys(), *value.values()])
        case list():
            for item in value:
                yield from _texts(item)


def _fits(run: PipelineRun, where: RunFilter) -> bool:
    return (
        where.status in {None, run.status}
        and where.pipeline_id in {None, run.pipeline_id}
        and where.workbench_job_id in {None, run.workbench_job_id}
        and (where.tag is None or run.tags.get(where.tag[0]) == where.tag[1])
        and (where.created_after is None or run.created_at > where.created_after)
        and (where.created_before is None or run.created_at < where.created_before)
    )
