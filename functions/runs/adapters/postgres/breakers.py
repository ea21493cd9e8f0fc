"""The circuit breakers' table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from runs.adapters.postgres import statements
from runs.adapters.postgres.tables import workbench_breakers
from runs.ports import Breaker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from runs.adapters.postgres.database import Database


@dataclass(frozen=True, slots=True)
class PostgresBreakers:
    """`ports.Breakers` on Postgres."""

    database: Database

    def breaker(self, workbench: str) -> Breaker:
        """See `ports.Breakers`."""
        columns = [workbench_breakers.c[name] for name in Breaker.__slots__]
        statement = sa.select(*columns).where(workbench_breakers.c.workbench == workbench)
        rows = self.database.rows(statement)
        return Breaker(**rows[0]) if rows else Breaker()

    def answered(self, workbench: str) -> None:
        """See `ports.Breakers`."""
        self.database.rows(statements.BREAKER_ANSWERED, {"workbench": workbench})

    def failed(self, workbench: str, *, only_unknown: bool) -> None:
        """See `ports.Breakers`."""
        parameters = {"workbench": workbench, "only_unknown": only_unknown}
        self.database.rows(statements.BREAKER_FAILED, parameters)

    def probes(self, workbench: str, *, most: int, every: timedelta) -> Sequence[int]:
        """See `ports.Breakers`."""
        parameters = {"workbench": workbench, "most": most, "every": every}
        return [row["id"] for row in self.database.rows(statements.BREAKER_PROBES, parameters)]
