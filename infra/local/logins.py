"""The database users of this stack: who owns the schema, and who the functions are.

Roles and users belong to a whole database server, which several clones may share. So the functions'
users carry this clone's own name, and belong to the roles `api` and `poller` that the migrations
make and grant to.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from infra.local.trouble import StackTrouble
from infra.migrate import connect_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infra.local.keys import Login

NOT_LET_IN = ("28P01", "28000")
"""SQLSTATEs: a wrong password, or no such user."""
NOT_ALLOWED = "42501"

HAND_OVER = """
DO $$ DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT format('ALTER TABLE %I.%I OWNER TO {owner}', schemaname, tablename)
            FROM pg_tables WHERE schemaname = 'public' AND tableowner = current_user
        UNION ALL SELECT format('ALTER FUNCTION %s OWNER TO {owner}', oid::regprocedure)
            FROM pg_proc WHERE pronamespace = 'public'::regnamespace
                AND proowner = current_user::regrole
        UNION ALL SELECT format('ALTER TYPE %s OWNER TO {owner}', oid::regtype)
            FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'
                AND typowner = current_user::regrole
    LOOP
        EXECUTE statement;
    END LOOP;
END $$
"""


def make_logins(owner_url: str, logins: Sequence[Login]) -> None:
    """Makes what is missing, and sets passwords that are not as they should be.

    Args:
        owner_url: Of a user who may make roles; if all is there, of anyone.
        logins: After the migration that makes their roles.

    Raises:
        StackTrouble: the user may not; the text has what an administrator has to run.
    """
    wanting = [login for login in logins if not _is_there(login, owner_url)]
    try:
        for login in wanting:
            _make(login, owner_url)
    except DBAPIError as error:
        if _sqlstate(error) != NOT_ALLOWED:
            raise
        statements = "".join(
            f"\n    CREATE ROLE {login.user} LOGIN PASSWORD '…' IN ROLE {login.role};"
            for login in wanting
        )
        raise StackTrouble(
            f"Database user {sa.make_url(owner_url).username} may not make the users that the "
            f"functions need.\n  Have an administrator of the server run this, with the "
            f"passwords that are in keys.json, and try again:{statements}"
        ) from error


def hand_over(superuser_url: str, owner_url: str) -> None:
    """Makes the database's owner and gives it all there is, unless that was done.

    For the database of a clone from when a superuser owned everything.

    Args:
        superuser_url: Whose the server is.
        owner_url: Of the user who is to own the database.
    """
    if _can_log_in(owner_url):
        return
    owner = sa.make_url(owner_url)
    with _connected(superuser_url) as connection:
        _execute(connection, "CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}", owner)
        name = owner.database
        connection.execute(sa.text(f"ALTER DATABASE {name} OWNER TO {owner.username}"))
        connection.exec_driver_sql(HAND_OVER.replace("{owner}", str(owner.username)))


def _is_there(login: Login, owner_url: str) -> bool:
    """Whether it can log in and has its role."""
    url = login.url(owner_url)
    if not _can_log_in(url):
        return False
    has_role = sa.text("SELECT pg_has_role(CAST(:role AS text), 'USAGE')")
    with _connected(url) as connection:
        return bool(connection.scalar(has_role, {"role": login.role}))


def _make(login: Login, owner_url: str) -> None:
    url = sa.make_url(login.url(owner_url))
    known = sa.text("SELECT count(*) FROM pg_roles WHERE rolname = :user")
    with _connected(owner_url) as connection:
        verb = "ALTER" if connection.scalar(known, {"user": login.user}) else "CREATE"
        _execute(connection, verb + " ROLE {} LOGIN PASSWORD {}", url)
        connection.execute(sa.text(f"GRANT {login.role} TO {login.user}"))


def _execute(connection: sa.Connection, statement: str, url: sa.URL) -> None:
    """A statement about a user and its password, which takes no parameters."""
    quoted = sa.text("SELECT quote_ident(:user), quote_literal(:password)")
    user, password = connection.execute(
        quoted, {"user": url.username, "password": url.password}
    ).one()
    connection.exec_driver_sql(statement.format(user, password))


def _can_log_in(url: str) -> bool:
    try:
        with _connected(url):
            return True
    except DBAPIError as error:
        if _sqlstate(error) in NOT_LET_IN:
            return False
        raise


@contextmanager
def _connected(url: str) -> Iterator[sa.Connection]:
    """One transaction."""
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=connect_arguments(url))
    with engine.begin() as connection:
        yield connection


def _sqlstate(error: DBAPIError) -> str:
    told: Any = error.orig.args[0] if error.orig and error.orig.args else {}
    return str(told.get("C", "")) if isinstance(told, dict) else ""
