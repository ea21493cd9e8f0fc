"""The runs' tables: rows to the domain's dataclasses and back."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from runs.adapters.postgres import statements
from runs.adapters.postgres.database import DataRefused, RowLocked, RuleBroken
from runs.adapters.postgres.listing import page_of
from runs.adapters.postgres.rows import EVENTS, RUNS, event_of, first_event, run_of
from runs.adapters.postgres.tables import (
    idempotency_keys,
    pipeline_run_events,
    pipeline_runs,
    workbench_breakers,
)
from runs.errors import (
    IdempotencyKeyReused,
    PipelineDisabled,
    PipelineFull,
    PipelineNotFound,
    RunNotFound,
    TenantFull,
)
from runs.model import DEFAULT_TIMEOUT
from runs.ports import ActiveRuns, Breaker, Claim, DueRun, Recorded, RunNow
from runs.status import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from runs.adapters.postgres.database import Database
    from runs.errors import RequestRefused
    from runs.events import RunEvent
    from runs.model import Finding, NewRun, PipelineRun, Transition
    from runs.ports import RunFilter, RunPage

LOG = logging.getLogger(__name__)

RELAY_LOCK: Final = 7_161_916
"""The advisory lock that the one relay at work holds."""


@dataclass(frozen=True, slots=True)
class PostgresRuns:
    """`ports.Runs` on Postgres."""

    database: Database

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
        """See `ports.Runs`."""
        parameters = {
            **asdict(new),
            "parameters": None if new.parameters is None else json.dumps(new.parameters),
            "tags": json.dumps(new.tags),
            "default_timeout_seconds": round(DEFAULT_TIMEOUT.total_seconds()),
            "most_active": most_active,
            "route": route,
            "key": key,
            "fingerprint": fingerprint,
            "lease": lease,
        }
        try:
            rows = self.database.rows(statements.RECORD, parameters)
        except RuleBroken as error:
            raise _not_admitted(error) from error
        except DataRefused:
            if new.retry_of is not None:  # It may have been purged since it was read.
                self.run(new.retry_of, tenant_id=new.tenant_id)
            raise
        if rows:
            run = run_of(rows[0])
            return Recorded(run=run, replayed=False, events=[first_event(run)])
        replayed = self.replay(
            tenant_id=new.tenant_id, route=route, key=key, fingerprint=fingerprint
        )
        if replayed is None:
            raise PipelineNotFound(new.pipeline_id)
        return replayed

    def replay(self, *, tenant_id: str, route: str, key: str, fingerprint: str) -> Recorded | None:
        """See `ports.Runs`."""
        statement = sa.select(idempotency_keys.c.run_id, idempotency_keys.c.fingerprint).where(
            idempotency_keys.c.tenant_id == tenant_id,
            idempotency_keys.c.route == route,
            idempotency_keys.c.key == key,
        )
        rows = self.database.rows(statement)
        if not rows:
            return None
        run_id = rows[0]["run_id"]
        if rows[0]["fingerprint"] != fingerprint:
            raise IdempotencyKeyReused(run_id)
        return Recorded(run=self.run(run_id, tenant_id=tenant_id), replayed=True)

    def run(self, run_id: int, *, tenant_id: str) -> PipelineRun:
        """See `ports.Runs`."""
        return run_of(self._row(run_id, tenant_id))

    def _row(self, run_id: int, tenant_id: str) -> Mapping[str, Any]:
        statement = RUNS.where(pipeline_runs.c.id == run_id).where(
            pipeline_runs.c.tenant_id == tenant_id
        )
        rows = self.database.rows(statement.add_columns(sa.func.runs_now().label("now")))
        if not rows:
            raise RunNotFound(run_id)
        return rows[0]

    def page(
        self, where: RunFilter, *, tenant_id: str, page_size: int, before: int | None
    ) -> RunPage:
        """See `ports.Runs`."""
        return page_of(
            self.database, where, tenant_id=tenant_id, page_size=page_size, before=before
        )

    def history(self, run_id: int, *, tenant_id: str) -> Sequence[RunEvent]:
        """See `ports.Runs`."""
        statement = (
            EVENTS.where(pipeline_run_events.c.run_id == run_id)
            .where(pipeline_run_events.c.tenant_id == tenant_id)
            .order_by(pipeline_run_events.c.version)
        )
        rows = self.database.rows(statement)
        if not rows:
            raise RunNotFound(run_id)
        return [event_of(row) for row in rows]

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

    def active(self, run_ids: Iterable[int], *, workbench: str) -> ActiveRuns:
        """See `ports.Runs`."""
        now = sa.select(sa.func.runs_now().label("now")).cte("clock")
        chosen = RUNS.where(
            pipeline_runs.c.id.in_(list(run_ids)), pipeline_runs.c.status.in_(ACTIVE)
        ).subquery()
        breaker = workbench_breakers
        statement = sa.select(
            now.c.now, *(breaker.c[name] for name in Breaker.__slots__), chosen
        ).select_from(
            now.outerjoin(breaker, breaker.c.workbench == workbench).outerjoin(chosen, sa.true())
        )
        rows = self.database.rows(statement)
        return ActiveRuns(
            now=rows[0]["now"],
            runs=[run_of(row) for row in rows if row["id"] is not None],
            breaker=Breaker(**{name: rows[0][name] for name in Breaker.__slots__}),
        )

    def holder_of(self, workbench_job_id: str) -> int | None:
        """See `ports.Runs`."""
        rows = self.database.rows(statements.HOLDER, {"workbench_job_id": workbench_job_id})
        return rows[0]["id"] if rows else None

    def is_alone(self, run_id: int) -> bool:
        """See `ports.Runs`."""
        other = sa.select(pipeline_runs.c.id).where(
            pipeline_runs.c.status.in_(ACTIVE),
            pipeline_runs.c.status_text.in_(ACTIVE),  # See `statements`.
            pipeline_runs.c.workbench_job_id.is_not(None),
            pipeline_runs.c.id != run_id,
        )
        return not self.database.rows(other.limit(1))

    def pressing(self, run_ids: Sequence[int], *, outage: timedelta) -> Sequence[int]:
        """See `ports.Runs`."""
        listed = json.dumps(list(run_ids))
        rows = self.database.rows(statements.PRESSING, {"run_ids": listed, "outage": outage})
        return [row["id"] for row in rows]

    def take_submit_lease(self, run: PipelineRun, lease: timedelta) -> bool:
        """See `ports.Runs`."""
        parameters = {"run_id": run.id, "version": run.version, "lease": lease}
        try:
            return bool(self.database.rows(statements.TAKE_SUBMIT_LEASE, parameters))
        except RowLocked:
            return False

    def request_cancel(self, run_id: int, *, tenant_id: str, reason: str | None) -> RunNow:
        """See `ports.Runs`."""
        parameters = {"run_id": run_id, "tenant_id": tenant_id, "reason": reason}
        self.database.rows(statements.REQUEST_CANCEL, parameters)
        row = self._row(run_id, tenant_id)
        return RunNow(run=run_of(row), now=row["now"])

    def time_out(self, run_ids: Sequence[int]) -> None:
        """See `ports.Runs`."""
        self.database.rows(statements.TIME_OUT, {"run_ids": json.dumps(list(run_ids))})

    def move(self, transitions: Sequence[Transition], *, wait: bool = False) -> Sequence[RunEvent]:
        """See `ports.Runs`."""
        changes = [_change(transition) for transition in transitions]
        statement = statements.MOVE_AND_WAIT if wait else statements.MOVE_WHAT_IS_FREE
        return [event_of(row) for row in self._all_or_each(statement, "changes", changes)]

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
        return [
            event_of(row) for row in self.database.rows(statements.UNPUBLISHED, {"most": limit})
        ]

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


def _not_admitted(error: RuleBroken) -> RequestRefused:
    """What `admit_run` found."""
    facts = error.facts
    match error.rule:
        case "PR001":
            return PipelineDisabled(facts["pipeline_id"], facts["reason"])
        case "PR002":
            return PipelineFull(facts["pipeline_id"], facts["limit"])
        case "PR003":
            return TenantFull(facts["limit"])
    raise error


def _change(transition: Transition) -> dict[str, object]:
    error, stray = transition.error, transition.stray
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
        "stray_reason": stray.reason if stray else None,
        "stray_job_ids": stray.job_ids if stray else None,
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
        "unknown_job": finding.unknown_job,
        "is_last": finding.is_last,
        "next_check_at": next_check_at.isoformat() if next_check_at else None,
    }
