"""The runs' tables: rows to the domain's dataclasses and back."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from runs.adapters.postgres import statements
from runs.adapters.postgres.database import DataRefused, RowLocked
from runs.adapters.postgres.tables import (
    idempotency_keys,
    installation,
    pipeline_run_events,
    pipeline_runs,
    run_observations,
)
from runs.errors import IdempotencyKeyReused, PipelineNotFound, RunNotFound
from runs.events import RunEvent
from runs.model import ErrorCategory, Observation, PipelineRun, Progress, RunError
from runs.ports import Claim, DueRun, Recorded
from runs.status import ACTIVE, PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from runs.adapters.postgres.database import Database
    from runs.model import Finding, NewRun, Transition
    from runs.ports import RunFilter

LOG = logging.getLogger(__name__)

RELAY_LOCK: Final = 7_161_916
"""The advisory lock that the one relay at work holds."""

_CORRELATION_ID = (
    sa.select(sa.cast(installation.c.namespace, sa.Text)).scalar_subquery()
    + "-"
    + sa.cast(pipeline_runs.c.id, sa.Text)
)
_COLUMNS: Final = [
    *(column for column in pipeline_runs.c if column.name != "shard"),
    _CORRELATION_ID.label("correlation_id"),
    *(c for c in run_observations.c if c.name not in {"run_id", "tenant_id"}),
    sa.extract("epoch", sa.func.runs_now() - run_observations.c.last_checked_at).label(
        "staleness_seconds"
    ),
]
_RUNS: Final = sa.select(*_COLUMNS).select_from(
    pipeline_runs.outerjoin(run_observations, run_observations.c.run_id == pipeline_runs.c.id)
)
_EVENTS: Final = sa.select(
    pipeline_run_events, pipeline_runs.c.pipeline_id, pipeline_runs.c.tags
).select_from(
    pipeline_run_events.join(pipeline_runs, pipeline_runs.c.id == pipeline_run_events.c.run_id)
)


@dataclass(frozen=True, slots=True)
class PostgresRuns:
    """`ports.Runs` on Postgres."""

    database: Database

    def record(
        self, new: NewRun, *, route: str, key: str, fingerprint: str, lease: timedelta | None
    ) -> Recorded:
        """See `ports.Runs`."""
        parameters = None if new.parameters is None else json.dumps(new.parameters)
        rows = self.database.rows(
            statements.RECORD,
            {
                **asdict(new),
                "parameters": parameters,
                "tags": json.dumps(new.tags),
                "route": route,
                "key": key,
                "fingerprint": fingerprint,
                "lease": lease,
            },
        )
        if rows:
            run = _run(rows[0])
            return Recorded(run=run, replayed=False, events=[_first_event(run)])
        return self._replay(new, route=route, key=key, fingerprint=fingerprint)

    def _replay(self, new: NewRun, *, route: str, key: str, fingerprint: str) -> Recorded:
        statement = sa.select(idempotency_keys.c.run_id, idempotency_keys.c.fingerprint).where(
            idempotency_keys.c.tenant_id == new.tenant_id,
            idempotency_keys.c.route == route,
            idempotency_keys.c.key == key,
        )
        rows = self.database.rows(statement)
        if not rows:
            raise PipelineNotFound(new.pipeline_id)
        run_id = rows[0]["run_id"]
        if rows[0]["fingerprint"] != fingerprint:
            raise IdempotencyKeyReused(run_id)
        return Recorded(run=self.run(run_id, tenant_id=new.tenant_id), replayed=True)

    def run(self, run_id: int, *, tenant_id: str) -> PipelineRun:
        """See `ports.Runs`."""
        statement = _RUNS.where(pipeline_runs.c.id == run_id).where(
            pipeline_runs.c.tenant_id == tenant_id
        )
        rows = self.database.rows(statement)
        if not rows:
            raise RunNotFound(run_id)
        return _run(rows[0])

    def page(
        self, where: RunFilter, *, tenant_id: str, page_size: int, before: int | None
    ) -> Sequence[PipelineRun]:
        """See `ports.Runs`."""
        conditions = [pipeline_runs.c.tenant_id == tenant_id]
        if before is not None:
            conditions.append(pipeline_runs.c.id < before)
        if where.status is not None:
            conditions.append(pipeline_runs.c.status == where.status)
        if where.pipeline_id is not None:
            conditions.append(pipeline_runs.c.pipeline_id == where.pipeline_id)
        statement = _RUNS.where(*conditions).order_by(pipeline_runs.c.id.desc()).limit(page_size)
        return [_run(row) for row in self.database.rows(statement)]

    def history(self, run_id: int, *, tenant_id: str) -> Sequence[RunEvent]:
        """See `ports.Runs`."""
        statement = (
            _EVENTS.where(pipeline_run_events.c.run_id == run_id)
            .where(pipeline_run_events.c.tenant_id == tenant_id)
            .order_by(pipeline_run_events.c.version)
        )
        rows = self.database.rows(statement)
        if not rows:
            raise RunNotFound(run_id)
        return [_event(row) for row in rows]

    def claim(self, shards: Sequence[int], *, older_than: timedelta, not_after: datetime) -> Claim:
        """See `ports.Runs`."""
        listed = "{" + ",".join(map(str, shards)) + "}"
        rows = self.database.rows(
            statements.CLAIM,
            {"shards": listed, "older_than": older_than, "not_after": not_after},
        )
        due = [
            DueRun(run_id=row["id"], troubled=row["troubled"])
            for row in rows
            if row["id"] is not None
        ]
        return Claim(shards=rows[0]["shards"], due=due, now=rows[0]["now"])

    def active(self, run_ids: Iterable[int]) -> tuple[datetime, Sequence[PipelineRun]]:
        """See `ports.Runs`."""
        now = sa.select(sa.func.runs_now().label("now")).cte("clock")
        chosen = _RUNS.where(
            pipeline_runs.c.id.in_(list(run_ids)), pipeline_runs.c.status.in_(ACTIVE)
        ).subquery()
        statement = sa.select(now.c.now, chosen).select_from(now.outerjoin(chosen, sa.true()))
        rows = self.database.rows(statement)
        return rows[0]["now"], [_run(row) for row in rows if row["id"] is not None]

    def take_submit_lease(self, run: PipelineRun, lease: timedelta) -> bool:
        """See `ports.Runs`."""
        parameters = {"run_id": run.id, "version": run.version, "lease": lease}
        try:
            return bool(self.database.rows(statements.TAKE_SUBMIT_LEASE, parameters))
        except RowLocked:
            return False

    def move(self, transitions: Sequence[Transition], *, wait: bool = False) -> Sequence[RunEvent]:
        """See `ports.Runs`."""
        changes = [_change(transition) for transition in transitions]
        statement = statements.MOVE_AND_WAIT if wait else statements.MOVE_WHAT_IS_FREE
        return [_event(row) for row in self._all_or_each(statement, "changes", changes)]

    def observe(self, findings: Sequence[Finding]) -> None:
        """See `ports.Runs`."""
        found = [_found(finding) for finding in findings]
        self._all_or_each(statements.OBSERVE, "findings", found)

    def _all_or_each(
        self, statement: sa.Executable, name: str, items: Sequence[Mapping[str, object]]
    ) -> Sequence[Mapping[str, Any]]:
        """Writes all items at once; if one can't be written each alone, so that it spoils none."""
        try:
            return self.database.rows(statement, {name: json.dumps(items)})
        except (DataRefused, RowLocked) as error:
            if len(items) == 1:
                refused = "data_refused" if isinstance(error, DataRefused) else "row_locked"
                extra = {"run_id": items[0]["run_id"], "error": str(error)}
                LOG.exception(refused, extra=extra)
                return ()
        return [row for item in items for row in self._all_or_each(statement, name, [item])]

    def unpublished(self, limit: int) -> Sequence[RunEvent]:
        """See `ports.Runs`."""
        return [_event(row) for row in self.database.rows(statements.UNPUBLISHED, {"most": limit})]

    def mark_published(self, events: Sequence[RunEvent]) -> None:
        """See `ports.Runs`."""
        taken = [{"run_id": event.run_id, "version": event.version} for event in events]
        self.database.rows(statements.MARK_PUBLISHED, {"events": json.dumps(taken)})

    def relaying(self) -> bool:
        """See `ports.Runs`."""
        locked = sa.func.pg_try_advisory_lock(RELAY_LOCK).label("locked")
        return bool(self.database.rows(sa.select(locked))[0]["locked"])

    def relayed(self) -> None:
        """See `ports.Runs`."""
        self.database.rows(sa.select(sa.func.pg_advisory_unlock(RELAY_LOCK)))

    def ping(self) -> None:
        """See `ports.Runs`."""
        self.database.rows(sa.select(1))


def _change(transition: Transition) -> dict[str, object]:
    error = transition.error
    return {
        "run_id": transition.run_id,
        "seen_version": transition.seen_version,
        "seen_status": transition.seen_status,
        "path": transition.path,
        "workbench_job_id": transition.workbench_job_id,
        "conductor_workflow_id": transition.conductor_workflow_id,
        "error_code": error.code if error else None,
        "error_category": error.category if error else None,
        "error_message": error.message if error else None,
        "output": transition.output,
        "stray_reason": transition.stray_reason,
    }


def _found(finding: Finding) -> dict[str, object]:
    progress, next_check_at = finding.progress, finding.next_check_at
    return {
        "run_id": finding.run_id,
        "upstream_status": finding.upstream_status,
        "progress_done": progress.done if progress else None,
        "progress_total": progress.total if progress else None,
        "logs_url": finding.logs_url,
        "trouble": finding.trouble,
        "next_check_at": next_check_at.isoformat() if next_check_at else None,
    }


def _run(row: Mapping[str, Any]) -> PipelineRun:
    error = None
    if row["error_message"] is not None:
        category = ErrorCategory(row["error_category"])
        error = RunError(row["error_code"], category, row["error_message"])
    return PipelineRun(
        id=row["id"],
        tenant_id=row["tenant_id"],
        pipeline_id=row["pipeline_id"],
        mode=PipelineMode(row["mode"]),
        status=PipelineRunStatus(row["status"]),
        version=row["version"],
        workflow_name=row["workflow_name"],
        workflow_version=row["workflow_version"],
        correlation_id=row["correlation_id"],
        workbench_job_id=row["workbench_job_id"],
        conductor_workflow_id=row["conductor_workflow_id"],
        error=error,
        user_storage_input_path_prefix=row["user_storage_input_path_prefix"],
        user_storage_output_path_prefix=row["user_storage_output_path_prefix"],
        user_storage_report_path_prefix=row["user_storage_report_path_prefix"],
        parameters=row["parameters"],
        tags=row["tags"],
        retry_of=row["retry_of"],
        output=row["output"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        cancel_requested_at=row["cancel_requested_at"],
        submit_lease_until=row["submit_lease_until"],
        submit_attempts=row["submit_attempts"],
        next_check_at=row["next_check_at"],
        observation=_observation(row),
    )


def _observation(row: Mapping[str, Any]) -> Observation:
    """What checks have seen; nothing for a run that was just written or never checked."""
    if row.get("consecutive_failures") is None:
        return Observation()
    progress = None
    if row["progress_done"] is not None and row["progress_total"] is not None:
        progress = Progress(row["progress_done"], row["progress_total"])
    staleness = row["staleness_seconds"]
    return Observation(
        last_checked_at=row["last_checked_at"],
        upstream_status=row["upstream_status"],
        progress=progress,
        logs_url=row["logs_url"],
        consecutive_failures=row["consecutive_failures"],
        last_error=row["last_error"],
        staleness_seconds=None if staleness is None else float(staleness),
    )


def _event(row: Mapping[str, Any]) -> RunEvent:
    previous = row["previous_status"]
    return RunEvent(
        run_id=row["run_id"],
        pipeline_id=row["pipeline_id"],
        version=row["version"],
        previous_status=PipelineRunStatus(previous) if previous else None,
        status=PipelineRunStatus(row["status"]),
        at=row["at"],
        error_message=row["error"],
        tags=row["tags"],
    )


def _first_event(run: PipelineRun) -> RunEvent:
    return RunEvent(
        run_id=run.id,
        pipeline_id=run.pipeline_id,
        version=run.version,
        previous_status=None,
        status=run.status,
        at=run.created_at,
        error_message=None,
        tags=run.tags,
    )
