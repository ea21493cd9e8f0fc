"""How many long polls wait, over all environments: each holds an advisory lock meanwhile."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from runs.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runs.adapters.postgres.database import Database

PLACES: Final = 5
_LOCKS: Final = 7_161_918
"""The first half of the locks' names; the second is the place."""

# The function is volatile, so that it is called for one place after another until it gets one.
_TAKE: Final = sa.text(
    f"SELECT place FROM generate_series(1, {PLACES}) AS place "  # noqa: S608  # two numbers of ours
    f"WHERE pg_try_advisory_lock({_LOCKS}, place) LIMIT 1"
)
_LEAVE: Final = sa.text(f"SELECT pg_advisory_unlock({_LOCKS}, :place)").bindparams(
    sa.bindparam("place", type_=sa.Integer())
)


@dataclass(frozen=True, slots=True)
class PostgresWaiters:
    """`ports.Waiters` on Postgres; whoever dies while it waits leaves its place by that."""

    database: Database

    @contextmanager
    def place(self) -> Iterator[bool]:
        """See `ports.Waiters`."""
        rows = self.database.rows(_TAKE)
        if not rows:
            yield False
            return
        try:
            yield True
        finally:
            with suppress(DatabaseUnavailable):  # The session has ended, and its locks with it.
                self.database.rows(_LEAVE, {"place": rows[0]["place"]})
