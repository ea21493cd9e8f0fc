"""How many long polls wait, over all environments: each holds an advisory lock meanwhile."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from runs.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runs.adapters.postgres.database import Database

PLACES: Final = 5
PLACES_OF_A_TENANT: Final = 3
_LOCKS: Final = 7_161_918
"""The first half of the locks' names; the second is the place."""
_SHARES: Final = 7_161_920
"""The first half, less the share, of the names of a tenant's locks; the second is the tenant."""

# The function is volatile, so that it is called for one place after another until it gets one.
_TAKE: Final = sa.text(
    f"SELECT place FROM generate_series(1, {PLACES}) AS place "  # noqa: S608  # two numbers of ours
    f"WHERE pg_try_advisory_lock({_LOCKS}, place) LIMIT 1"
)
_TAKE_SHARE: Final = sa.text(
    f"SELECT share FROM generate_series(1, {PLACES_OF_A_TENANT}) AS share "  # noqa: S608  # as above
    f"WHERE pg_try_advisory_lock({_SHARES} + share, hashtext(:tenant_id)) LIMIT 1"
).bindparams(sa.bindparam("tenant_id", type_=sa.Text()))
_LEAVE: Final = sa.text("SELECT pg_advisory_unlock_all()")
"""An environment serves one request at a time, and holds no others over several statements."""


@dataclass(frozen=True, slots=True)
class PostgresWaiters:
    """`ports.Waiters` on Postgres; whoever dies while it waits leaves its place by that.

    A connection that is lost takes the place along: another caller may have it by then.
    """

    database: Database

    @contextmanager
    def place(self, tenant_id: str) -> Iterator[Callable[[], bool]]:
        """See `ports.Waiters`."""
        try:
            yield self._take(tenant_id)
        finally:
            with suppress(DatabaseUnavailable):  # The session has ended, and its locks with it.
                self.database.rows(_LEAVE)

    def _take(self, tenant_id: str) -> Callable[[], bool]:
        has_share = self.database.rows(_TAKE_SHARE, {"tenant_id": tenant_id})
        session = self.database.sessions
        if not has_share or not self.database.rows(_TAKE):
            return lambda: False
        return lambda: self.database.sessions == session
