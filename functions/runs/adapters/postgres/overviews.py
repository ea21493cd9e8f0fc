"""How a tenant's runs fare, by one statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from runs.ports import Breaker, Overview
from runs.status import PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runs.adapters.postgres.database import Database

_OVERVIEW: Final = sa.text(
    """
    SELECT runs_now() AS now,
        (SELECT jsonb_object_agg(status_text, number) FROM (
            SELECT status_text, count(*) AS number FROM pipeline_runs
            WHERE tenant_id = :tenant_id AND status_text IN ('CREATED', 'SUBMITTED', 'RUNNING')
            GROUP BY status_text) AS active) AS active,
        (SELECT jsonb_object_agg(status_text, number) FROM (
            SELECT status_text, count(*) AS number FROM pipeline_runs
            WHERE tenant_id = :tenant_id AND completed_at > runs_now() - INTERVAL '24 hours'
            GROUP BY status_text) AS ended) AS ended_of_late,
        (SELECT EXTRACT(epoch FROM runs_now() - min(COALESCE(last_checked_at, started_at)))
            FROM pipeline_runs run LEFT JOIN run_observations seen ON seen.run_id = run.id
            WHERE run.tenant_id = :tenant_id AND run.status_text IN ('SUBMITTED', 'RUNNING'))
            AS worst_staleness_seconds,
        (SELECT max(last_polled_at) FROM poll_shards WHERE last_polled_at > '-infinity')
            AS last_sweep_at,
        breaker.last_valid_at, breaker.failing_since, breaker.opened_at, breaker.closed_at
    FROM (SELECT) AS one_row LEFT JOIN workbench_breakers breaker ON workbench = :workbench
    """
).bindparams(sa.bindparam("tenant_id", type_=sa.Text()), sa.bindparam("workbench", type_=sa.Text()))


@dataclass(frozen=True, slots=True)
class PostgresOverviews:
    """`ports.Overviews` on Postgres."""

    database: Database

    def overview(self, *, tenant_id: str, workbench: str) -> Overview:
        """See `ports.Overviews`."""
        [row] = self.database.rows(_OVERVIEW, {"tenant_id": tenant_id, "workbench": workbench})
        staleness = row["worst_staleness_seconds"]
        return Overview(
            now=row["now"],
            active=_counts(row["active"]),
            ended_of_late=_counts(row["ended_of_late"]),
            worst_staleness_seconds=None if staleness is None else float(staleness),
            last_sweep_at=row["last_sweep_at"],
            breaker=Breaker(**{name: row[name] for name in Breaker.__slots__}),
        )


def _counts(told: Mapping[str, int] | None) -> dict[PipelineRunStatus, int]:
    return {PipelineRunStatus(status): number for status, number in (told or {}).items()}
