"""How runs fare, a tenant's and all, by one statement each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from runs.ports import Breaker, Fleet, Overview
from runs.status import ACTIVE, PipelineRunStatus

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
        (SELECT count(*) FROM pipeline_runs run JOIN run_observations seen ON seen.run_id = run.id
            WHERE run.tenant_id = :tenant_id AND run.status_text IN ('SUBMITTED', 'RUNNING')
                AND last_checked_at > runs_now() - INTERVAL '1 minute') AS runs_checked_of_late,
        breaker.last_valid_at, breaker.failing_since, breaker.opened_at, breaker.closed_at
    FROM (SELECT) AS one_row LEFT JOIN workbench_breakers breaker ON workbench = :workbench
    """
).bindparams(sa.bindparam("tenant_id", type_=sa.Text()), sa.bindparam("workbench", type_=sa.Text()))

_FLEET: Final = sa.text(
    """
    WITH this AS MATERIALIZED (
        SELECT runs_now() AS now  -- Once: it is no constant, and would be asked for each run.
    ), active AS (
        SELECT run.status_text, run.next_check_at,
            CASE WHEN run.status_text <> 'CREATED' THEN CAST(
                EXTRACT(epoch FROM now - COALESCE(last_checked_at, started_at))
                AS double precision) END AS stale
        FROM this CROSS JOIN pipeline_runs run
            LEFT JOIN run_observations seen ON seen.run_id = run.id
        WHERE run.status_text IN ('CREATED', 'SUBMITTED', 'RUNNING')
    )
    SELECT
        (SELECT jsonb_object_agg(status_text, number) FROM (
            SELECT status_text, count(*) AS number FROM active GROUP BY status_text) AS counted
        ) AS active,
        count(next_check_at) AS troubled,
        percentile_cont(ARRAY[0.5, 0.99, 1.0]) WITHIN GROUP (ORDER BY stale) AS staleness,
        (SELECT COALESCE(EXTRACT(epoch FROM runs_now() - min(at)), 0)
            FROM pipeline_run_events WHERE published_at IS NULL) AS unpublished_seconds,
        COALESCE(bool_or(stale IS NOT NULL), false) AND EXISTS (
            SELECT FROM workbench_breakers WHERE workbench = :workbench AND opened_at IS NOT NULL
        ) AS is_spared
    FROM active
    """
).bindparams(sa.bindparam("workbench", type_=sa.Text()))


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
            runs_checked_of_late=row["runs_checked_of_late"],
            breaker=Breaker(**{name: row[name] for name in Breaker.__slots__}),
        )

    def fleet(self, *, workbench: str) -> Fleet:
        """See `ports.Overviews`."""
        [row] = self.database.rows(_FLEET, {"workbench": workbench})
        median, high, most = (max(0.0, seconds) for seconds in row["staleness"] or (0.0, 0.0, 0.0))
        return Fleet(
            active=dict.fromkeys(sorted(ACTIVE), 0) | _counts(row["active"]),
            troubled=row["troubled"],
            staleness_seconds=(median, high, most),
            unpublished_seconds=float(row["unpublished_seconds"]),
            is_spared=row["is_spared"],
        )


def _counts(told: Mapping[str, int] | None) -> dict[PipelineRunStatus, int]:
    return {PipelineRunStatus(status): number for status, number in (told or {}).items()}
