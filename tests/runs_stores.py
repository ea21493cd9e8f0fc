"""The two stores that one contract suite is run over: in memory, and on real Postgres."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

import sqlalchemy as sa

from infra.local.keys import Login
from infra.local.logins import make_logins
from memory_database import (
    MemoryBreakers,
    MemoryDatabase,
    MemoryOverviews,
    MemoryPipelines,
    MemoryRetention,
    MemoryRuns,
    MemoryStrays,
)
from runs.adapters.postgres import (
    Database,
    PostgresBreakers,
    PostgresOverviews,
    PostgresPipelines,
    PostgresRetention,
    PostgresRuns,
    PostgresStrays,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from runs.ports import Breakers, Overviews, Pipelines, Retention, Runs, Strays

FUNCTIONS: Final = "functions"
"""A database user with the roles of all functions, and its password."""


class Store(Protocol):
    """A database, and what a test has to do to it beside what the ports can do."""

    @property
    def runs(self) -> Runs: ...

    @property
    def pipelines(self) -> Pipelines: ...

    @property
    def breakers(self) -> Breakers: ...

    @property
    def stray_checks(self) -> Strays: ...

    @property
    def overviews(self) -> Overviews: ...

    @property
    def retention(self) -> Retention: ...

    def keys(self) -> list[int]:
        """The runs that idempotency keys stand for."""

    def another(self) -> Runs:
        """The same runs by another connection."""

    def move_time(self, by: timedelta) -> None:
        """Moves `runs_now()` on, or back."""

    def true_now(self) -> datetime:
        """The time that nobody moves."""

    def locked(self, run_id: int) -> AbstractContextManager[None]:
        """Another transaction holds the run's row, for longer than anyone waits."""

    def strays(self) -> dict[int, str]:
        """Why a job may exist that no run knows, by run."""

    def strays_cancelled(self) -> dict[int, int]:
        """How many jobs that no run wanted were cancelled, by run."""


@dataclass
class MemoryStore:
    """`memory_database`, proven by the same suite as the real thing."""

    database: MemoryDatabase = field(default_factory=MemoryDatabase)

    @property
    def runs(self) -> MemoryRuns:
        return MemoryRuns(self.database)

    @property
    def pipelines(self) -> MemoryPipelines:
        return MemoryPipelines(self.database)

    @property
    def breakers(self) -> MemoryBreakers:
        return MemoryBreakers(self.database)

    @property
    def stray_checks(self) -> MemoryStrays:
        return MemoryStrays(self.database)

    @property
    def overviews(self) -> MemoryOverviews:
        return MemoryOverviews(self.database)

    @property
    def retention(self) -> MemoryRetention:
        return MemoryRetention(self.database)

    def keys(self) -> list[int]:
        return [run_id for _, run_id in self.database.keys.values()]

    def another(self) -> MemoryRuns:
        return MemoryRuns(self.database)

    def move_time(self, by: timedelta) -> None:
        self.database.skew += by

    def true_now(self) -> datetime:
        return self.database.time.now

    @contextmanager
    def locked(self, run_id: int) -> Iterator[None]:
        self.database.locked.add(run_id)
        yield
        self.database.locked.remove(run_id)

    def strays(self) -> dict[int, str]:
        return {run_id: noted.reason for run_id, noted in self.database.strays.items()}

    def strays_cancelled(self) -> dict[int, int]:
        return {run_id: noted.jobs_cancelled for run_id, noted in self.database.strays.items()}


class PostgresStore:
    """A real database, empty but for the newest schema.

    Its ports are a user with the functions' roles, or the one that is given; all else is the
    superuser.
    """

    def __init__(self, url: sa.URL, functions: sa.URL | None = None) -> None:
        self.url = url
        self._functions = functions or url.set(username=FUNCTIONS, password=FUNCTIONS)
        self.owner = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        self._open = ExitStack()
        self._open.callback(self.owner.dispose)
        self.database = self.connect()

    def connect(self, url: sa.URL | None = None) -> Database:
        """A connection of its own, as a function has one."""
        text = (url or self._functions).render_as_string(hide_password=False)
        database = Database(lambda: text, application_name="tests")
        self._open.callback(database.close)
        return database

    def user_of(self, role: str) -> sa.URL:
        """The address of a database user who has this role alone."""
        login = Login(user=f"{role}_of_{self.url.database}", password="p", role=role)  # noqa: S106
        url = self.url.render_as_string(hide_password=False)
        make_logins(url, [login])
        return sa.make_url(login.url(url))

    @contextmanager
    def as_user_of(self, role: str) -> Iterator[Database]:
        """The one connection of a function that has this role."""
        url = self.user_of(role)
        database = self.connect(url)
        try:
            yield database
        finally:
            database.close()
            self.execute(f"DROP ROLE {url.username}")

    def close(self) -> None:
        self._open.close()

    @property
    def runs(self) -> PostgresRuns:
        return PostgresRuns(self.database)

    @property
    def pipelines(self) -> PostgresPipelines:
        return PostgresPipelines(self.database)

    @property
    def breakers(self) -> PostgresBreakers:
        return PostgresBreakers(self.database)

    @property
    def stray_checks(self) -> PostgresStrays:
        return PostgresStrays(self.database)

    @property
    def overviews(self) -> PostgresOverviews:
        return PostgresOverviews(self.database)

    @property
    def retention(self) -> PostgresRetention:
        return PostgresRetention(self.database)

    def keys(self) -> list[int]:
        return [run_id for (run_id,) in self.execute("SELECT run_id FROM idempotency_keys")]

    def another(self) -> PostgresRuns:
        return PostgresRuns(self.connect())

    def move_time(self, by: timedelta) -> None:
        self.execute('UPDATE runs_clock SET "offset" = "offset" + :by', by=by)

    def true_now(self) -> datetime:
        [[now]] = self.execute("SELECT statement_timestamp()")
        assert isinstance(now, datetime)
        return now

    @contextmanager
    def locked(self, run_id: int) -> Iterator[None]:
        with self.owner.connect() as connection:
            connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                lock = sa.text("SELECT 1 FROM pipeline_runs WHERE id = :id FOR UPDATE")
                connection.execute(lock, {"id": run_id})
                yield

    def strays(self) -> dict[int, str]:
        return dict(self.execute("SELECT run_id, reason FROM stray_checks"))

    def strays_cancelled(self) -> dict[int, int]:
        return dict(self.execute("SELECT run_id, jobs_cancelled FROM stray_checks"))

    def execute(self, sql: str, **parameters: Any) -> list[Any]:
        """One statement, by the superuser."""
        with self.owner.connect() as connection:
            result = connection.execute(sa.text(sql), parameters)
            return [tuple(row) for row in result] if result.returns_rows else []
