"""Real parts for contract tests, started when first asked for, once for all tests of a run.

Each test finds a database without a row in it, with the newest schema.
"""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Final

import pytest
import sqlalchemy as sa

from infra.local.conductor_server import ConductorServer
from infra.local.down import down
from infra.local.layout import Layout
from infra.local.parts.conductor import Conductor
from infra.local.parts.postgres import DATABASE, Postgres
from infra.local.steps import Halt
from infra.local.supervisor import bring_up
from infra.migrate import migrate
from infra.register import register

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.local.parts.part import Part

NUMBERS: Final = count(1)
AS_MIGRATED: Final = """
    DO $$ BEGIN
        DELETE FROM workbench_breakers; DELETE FROM stray_checks; DELETE FROM idempotency_keys; DELETE FROM run_observations;
        DELETE FROM pipeline_run_events; DELETE FROM pipeline_runs; DELETE FROM pipelines;
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


@contextmanager
def running(part: Part, layout: Layout) -> Iterator[None]:
    """A part of the local stack, while it is needed."""
    try:
        bring_up(part, layout, Halt(), lambda _: None)
        yield
    finally:
        assert down(layout) == 0


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.URL]:
    """A server, and in it the migrated database that others are copied from."""
    layout = Layout(tmp_path_factory.mktemp("postgres"))
    server = Postgres(
        layout=layout, environment=os.environ, port=free_port(), password=secrets.token_hex(16)
    )
    with running(server, layout):
        url = sa.make_url(server.url)
        # What is thrown away needs not survive.
        execute(url.set(database="postgres"), "ALTER SYSTEM SET fsync = off")
        execute(url.set(database="postgres"), "SELECT pg_reload_conf()")
        migrate(server.url)
        yield url


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


@contextmanager
def new_database(server: sa.URL) -> Iterator[sa.URL]:
    """A copy of the migrated database."""
    name = f"test_{next(NUMBERS)}"
    execute(server.set(database="postgres"), f"CREATE DATABASE {name} TEMPLATE {DATABASE}")
    yield server.set(database=name)
    execute(server.set(database="postgres"), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def conductor_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that knows our workflows."""
    layout = Layout(tmp_path_factory.mktemp("conductor"))
    server = Conductor(
        layout=layout,
        environment=os.environ,
        port=free_port(),
        server=ConductorServer.in_cache(),
    )
    with running(server, layout):
        register(server.url)
        yield server.url


def execute(url: sa.URL, statement: str) -> None:
    """One statement, by the owner, on a connection of its own."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
