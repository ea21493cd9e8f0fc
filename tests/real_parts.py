"""Real parts for tests, started when first asked for, once for all tests of a process.

Each test finds a database without a row in it, with the newest schema. A part may be killed; `up`
brings it back.
"""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

import psutil
import pytest
import sqlalchemy as sa

from infra.local.conductor_server import ConductorServer
from infra.local.down import down
from infra.local.layout import Layout
from infra.local.parts.conductor import Conductor
from infra.local.parts.localstack import LocalStack
from infra.local.parts.postgres import DATABASE, Postgres
from infra.local.processes import read_record
from infra.local.steps import Halt
from infra.local.supervisor import bring_up
from infra.migrate import migrate
from infra.register import register
from runs_stores import FUNCTIONS, MemoryStore, PostgresStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.local.parts.part import Part
    from runs_stores import Store

NUMBERS: Final = count(1)
REGION: Final = "eu-central-1"
DEADLINE_SECONDS: Final = 20
"""What never takes this long unless something is wrong."""
WORKBENCH_TOKEN: Final = "canary-of-the-workbench-7d1e"  # noqa: S105  # of a Workbench of tests
"""What Conductor has for it, and keeps nowhere."""
AS_MIGRATED: Final = """
    DO $$ BEGIN
        DELETE FROM workbench_breakers; DELETE FROM stray_checks; DELETE FROM idempotency_keys;
        DELETE FROM run_observations; DELETE FROM pipeline_run_events;
        DELETE FROM pipeline_runs; DELETE FROM pipelines;
        PERFORM setval(pg_get_serial_sequence('pipelines', 'id'), 1, false);
        PERFORM setval(pg_get_serial_sequence('pipeline_runs', 'id'), 1, false);
        UPDATE poll_shards SET last_polled_at = '-infinity';
        UPDATE runs_clock SET "offset" = '0';
    END $$
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(frozen=True)
class RealPart:
    """A part of the local stack in a folder of its own."""

    part: Part
    layout: Layout

    @property
    def url(self) -> str:
        """The same after every start."""
        return self.part.url

    def up(self) -> None:
        """Starts it, or finds it running."""
        bring_up(self.part, self.layout, Halt(), lambda _: None)

    def kill(self) -> None:
        """Ends all its processes at once, as a crash of the machine would."""
        record = read_record(self.layout, self.part.name)
        assert record is not None
        parent = psutil.Process(record.pid)
        family = [parent, *parent.children(recursive=True)]
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=DEADLINE_SECONDS)


@contextmanager
def running(part: Part, layout: Layout) -> Iterator[RealPart]:
    """A part of the local stack, while it is needed."""
    real = RealPart(part, layout)
    try:
        real.up()
        yield real
    finally:
        assert down(layout) == 0


@pytest.fixture(scope="session")
def postgres_part(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPart]:
    """A server, and in it the migrated database that others are copied from."""
    layout = Layout(tmp_path_factory.mktemp("postgres"))
    with migrated(layout) as real:
        yield real


@contextmanager
def migrated(layout: Layout) -> Iterator[RealPart]:
    """A server whose database has the newest schema, and the functions' user."""
    server = Postgres(
        layout=layout,
        environment=os.environ,  # for a program that is started
        port=free_port(),
        password=secrets.token_hex(16),
        owner_password=secrets.token_hex(16),
    )
    with running(server, layout) as real:
        migrate(server.url)
        user = f"CREATE ROLE {FUNCTIONS} LOGIN PASSWORD '{FUNCTIONS}' IN ROLE api, poller"
        execute(superuser(real), user)
        yield real


def superuser(real: RealPart) -> sa.URL:
    """The address of the server's migrated database for whoever may do everything."""
    assert isinstance(real.part, Postgres)
    return sa.make_url(real.part.superuser_url)


@pytest.fixture(scope="session")
def postgres_url(postgres_part: RealPart) -> sa.URL:
    """The server's migrated database, by its superuser."""
    url = superuser(postgres_part)
    # What is thrown away needs not survive.
    execute(url.set(database="postgres"), "ALTER SYSTEM SET fsync = off")
    execute(url.set(database="postgres"), "SELECT pg_reload_conf()")
    return url


@pytest.fixture
def own_database_url(postgres_url: sa.URL) -> Iterator[sa.URL]:
    """A new database, for a test that does more to it than its functions would."""
    with new_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def _shared_database(postgres_url: sa.URL) -> Iterator[sa.Engine]:
    with new_database(postgres_url) as url:
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        yield engine
        engine.dispose()


@pytest.fixture
def database_url(_shared_database: sa.Engine) -> Iterator[sa.URL]:
    """A database as the migrations leave it: rows are taken away again, and nothing else."""
    yield _shared_database.url
    with _shared_database.connect() as connection:
        connection.execute(sa.text(AS_MIGRATED))


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Either store: what the ports promise, both keep."""
    if request.param == "memory":
        yield MemoryStore()
        return
    postgres = PostgresStore(request.getfixturevalue("database_url"))
    yield postgres
    postgres.close()


@contextmanager
def new_database(server: sa.URL) -> Iterator[sa.URL]:
    """A copy of the migrated database."""
    name = f"test_{next(NUMBERS)}"
    execute(server.set(database="postgres"), f"CREATE DATABASE {name} TEMPLATE {DATABASE}")
    yield server.set(database=name)
    execute(server.set(database="postgres"), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def conductor_part(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPart]:
    """A server that knows our workflows."""
    layout = Layout(tmp_path_factory.mktemp("conductor"))
    server = Conductor(
        layout=layout,
        environment=os.environ,
        port=free_port(),
        server=ConductorServer.in_cache(),
        workbench_token=WORKBENCH_TOKEN,
    )
    with running(server, layout) as real:
        register(server.url)
        yield real


@pytest.fixture(scope="session")
def conductor_url(conductor_part: RealPart) -> str:
    """Its address."""
    return conductor_part.url


@pytest.fixture(scope="session")
def aws_part(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPart]:
    """AWS on this machine, with nothing in it."""
    layout = Layout(tmp_path_factory.mktemp("aws"))
    server = LocalStack(layout=layout, environment=os.environ, port=free_port(), region=REGION)
    with running(server, layout) as real:
        yield real


def execute(url: sa.URL, statement: str) -> None:
    """One statement on a connection of its own."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
