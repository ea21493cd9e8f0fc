"""Makes a database safe that was restored from a backup: `python -m infra.restored [--as-copy]`.

Before anybody works with it. DATABASE_URL in the environment names it, as its owner. What was made
since the backup is gone from it, but not from Conductor, the Workbench and the consumers of events:
there the ids stand that it would give once more. See `docs/operations.md`.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from infra.migrate import ONE_AT_A_TIME, connect_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

AHEAD: Final = 1_000_000
"""How far ids are moved on: more than anybody makes between two backups."""

MOVE_ON: Final = """
    SELECT setval(pg_get_serial_sequence('{table}', 'id'), GREATEST(
        (SELECT last_value FROM {table}_id_seq), (SELECT max(id) FROM {table})) + {ahead}) + 1
"""
FACTS: Final = """
    SELECT CAST(namespace AS text), (SELECT COALESCE(max(id), 0) FROM pipeline_runs)
    FROM installation
"""

RENEW_NAMESPACE: Final = "UPDATE installation SET namespace = gen_random_uuid()"
END_ACTIVE: Final = """
    WITH active AS (
        SELECT id, status FROM pipeline_runs
        WHERE status IN ('CREATED', 'SUBMITTED', 'RUNNING') FOR UPDATE
    ), ended AS (
        UPDATE pipeline_runs run SET status = 'FAILED', version = version + 1,
            error_code = 'copied', error_category = 'LOST',
            error_message = 'The run goes on in the installation that this is a copy of',
            submit_lease_until = NULL, next_check_at = NULL,
            completed_at = GREATEST(runs_now(), updated_at),
            updated_at = GREATEST(runs_now(), updated_at)
        FROM active WHERE run.id = active.id
        RETURNING run.id, tenant_id, version, active.status AS previous_status, run.status,
            completed_at, error_message
    )
    INSERT INTO pipeline_run_events (
        run_id, tenant_id, version, previous_status, status, at, error, published_at)
    SELECT id, tenant_id, version, previous_status, status, completed_at, error_message,
        completed_at
    FROM ended RETURNING run_id
"""
PUBLISHED_THERE: Final = """
    UPDATE pipeline_run_events SET published_at = GREATEST(runs_now(), at)
    WHERE published_at IS NULL
"""
HUNTED_THERE: Final = """
    UPDATE stray_checks SET next_look_at = NULL WHERE next_look_at IS NOT NULL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restored database is like now.

    Attributes:
        namespace: What its keys at the Workbench begin with.
        last_run_id: The newest run in it; 0: none. Runs that were made since the backup have
            greater ids, below the next one.
        next_run_id: The first id that it will give.
        ended: How many active runs were ended, of a copy.
    """

    namespace: str
    last_run_id: int
    next_run_id: int
    ended: int = 0


def take_over(database_url: str) -> Restored:
    """For a database that takes the place of the one it was backed up from; may be done again.

    Ids of runs and pipelines go on far behind those that were given since the backup. The
    namespace stays: by it the runs that were just being submitted find the jobs they have.

    Args:
        database_url: `postgresql+pg8000://user:password@host:port/name`, of the schema's owner.

    Raises:
        sqlalchemy.exc.DBAPIError: the database can't be reached, or isn't of the newest schema.
    """
    with _transaction(database_url) as connection:
        namespace, last_run_id = connection.execute(sa.text(FACTS)).one()
        return Restored(
            namespace=namespace,
            last_run_id=last_run_id,
            next_run_id=_move_ids_on(connection),
        )


def make_copy(database_url: str) -> Restored:
    """For a database that is to live beside the one it was backed up from.

    Its namespace is a new one. The original's runs are not the copy's: active ones are ended, their
    jobs aren't hunted, and nothing is told of them.

    Args:
        database_url: as for `take_over`.

    Raises:
        sqlalchemy.exc.DBAPIError: as for `take_over`.
    """
    with _transaction(database_url) as connection:
        connection.execute(sa.text(RENEW_NAMESPACE))
        ended = len(connection.execute(sa.text(END_ACTIVE)).all())
        connection.execute(sa.text(PUBLISHED_THERE))
        connection.execute(sa.text(HUNTED_THERE))
        namespace, last_run_id = connection.execute(sa.text(FACTS)).one()
        return Restored(
            namespace=namespace,
            last_run_id=last_run_id,
            next_run_id=_move_ids_on(connection),
            ended=ended,
        )


def _move_ids_on(connection: sa.Connection) -> int:
    """The next run's id."""
    following = {
        table: connection.scalar(sa.text(MOVE_ON.format(table=table, ahead=AHEAD)))
        for table in ("pipelines", "pipeline_runs")
    }
    return int(following["pipeline_runs"])


@contextmanager
def _transaction(database_url: str) -> Iterator[sa.Connection]:
    arguments = connect_arguments(database_url)
    engine = sa.create_engine(database_url, poolclass=sa.NullPool, connect_args=arguments)
    with engine.begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ONE_AT_A_TIME)))
        yield connection


def main() -> int:
    """Does as the command line says, and tells what the database is like now.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m infra.restored", description=__doc__)
    parser.add_argument(
        "--as-copy",
        action="store_true",
        help="the original goes on beside it: its runs are not this database's",
    )
    as_copy: bool = parser.parse_args().as_copy
    database_url = os.environ.get("DATABASE_URL", "")
    if not database_url:
        print("error: set DATABASE_URL to the restored database, as its owner", file=sys.stderr)
        return 1
    done = make_copy(database_url) if as_copy else take_over(database_url)
    print(f"Newest run in it: {done.last_run_id}. Next run: {done.next_run_id}.")
    print(f"Keys at the Workbench begin with {done.namespace}-.")
    if as_copy:
        print(f"Active runs that were ended here and go on in the original: {done.ended}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
