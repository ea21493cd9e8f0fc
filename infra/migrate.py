"""Brings a database to the newest schema: `python -m infra.migrate [DATABASE_URL]`."""

from __future__ import annotations

import os
import ssl
import sys
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_TIMEOUT = "5s"
ONE_AT_A_TIME = 7_161_915
"""The advisory lock that two deployments at once queue up for."""

SHOWN_NOTHING = """
    SELECT quote_ident(rolname) FROM pg_roles, pg_tables
    WHERE schemaname = current_schema() AND tablename = 'pipeline_runs'
        AND rolcanlogin AND has_table_privilege(rolname, 'pipeline_runs', 'SELECT')
        AND NOT (rolsuper OR rolbypassrls OR pg_has_role(rolname, tableowner, 'USAGE')
            OR pg_has_role(rolname, 'api', 'USAGE') OR pg_has_role(rolname, 'poller', 'USAGE'))
    ORDER BY rolname
"""
"""The users whose privileges let them read the runs, and whom no policy shows one."""


def migrate(database_url: str) -> list[str]:
    """Runs the migrations that the database lacks, all or none; harmless when none are left.

    Args:
        database_url: `postgresql+pg8000://user:password@host:port/name`, of the schema's owner.

    Returns:
        What an administrator has to see to, one text for each.

    Raises:
        sqlalchemy.exc.DBAPIError: the database can't be reached or refused a statement.
        PermissionError: an administrator has to do something first; the text says what.
    """
    arguments = connect_arguments(database_url)
    engine = sa.create_engine(database_url, poolclass=sa.NullPool, connect_args=arguments)
    with engine.begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ONE_AT_A_TIME)))
        # Whoever waits for a table's lock has everybody wait behind it: better to try again.
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return [_shown_nothing(user) for user in connection.scalars(sa.text(SHOWN_NOTHING))]


def _shown_nothing(user: str) -> str:
    return (
        f"database user {user} may read the tables and is in neither role api nor poller: "
        "row-level security shows it no rows, and raises no error. If functions of a release "
        f"before these roles are that user, run: GRANT poller TO {user};"
    )


def connect_arguments(database_url: str) -> dict[str, object]:
    """How pg8000 is to connect: to a database on another machine by verified TLS alone."""
    is_local = (sa.make_url(database_url).host or "localhost") in {"127.0.0.1", "::1", "localhost"}
    return {"ssl_context": False if is_local else ssl.create_default_context()}


if __name__ == "__main__":
    url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("DATABASE_URL", "")
    if not url:
        sys.exit("error: name the database: python -m infra.migrate DATABASE_URL")
    try:
        for warning in migrate(url):
            print(f"warning: {warning}", file=sys.stderr)
    except PermissionError as error:
        sys.exit(f"error: {error}")
    print("The database has the newest schema.")
