"""The stray checks' table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runs.adapters.postgres import statements
from runs.adapters.postgres.rows import RUNS, run_of
from runs.adapters.postgres.tables import pipeline_runs
from runs.ports import StrayCheck

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from runs.adapters.postgres.database import Database


@dataclass(frozen=True, slots=True)
class PostgresStrays:
    """`ports.Strays` on Postgres."""

    database: Database

    def due(self, most: int) -> Sequence[StrayCheck]:
        """See `ports.Strays`."""
        noted = {
            row["run_id"]: row for row in self.database.rows(statements.STRAYS_DUE, {"most": most})
        }
        if not noted:
            return ()
        found = self.database.rows(RUNS.where(pipeline_runs.c.id.in_(list(noted))))
        return [
            StrayCheck(
                run=run,
                job_ids=noted[run.id]["job_ids"],
                looks=noted[run.id]["looks"],
                noted_at=noted[run.id]["noted_at"],
                claimed_until=noted[run.id]["claimed_until"],
                now=noted[run.id]["now"],
            )
            for run in map(run_of, found)
        ]

    def looked(
        self,
        check: StrayCheck,
        *,
        cancelled: int,
        next_look_at: datetime | None,
        is_whole: bool = True,
    ) -> None:
        """See `ports.Strays`."""
        parameters = {
            "run_id": check.run.id,
            "noted_at": check.noted_at,
            "claimed_until": check.claimed_until,
            "looks": check.looks + is_whole,
            "cancelled": cancelled,
            "next_look_at": next_look_at,
        }
        self.database.rows(statements.STRAY_LOOKED, parameters)
