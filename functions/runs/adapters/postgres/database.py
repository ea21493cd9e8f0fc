"""One connection per environment, one statement per change, and what its failures mean.

Every statement commits by itself (AUTOCOMMIT) and is safe to repeat, because the data says so:
unique keys, conditions on what was seen; an observation's counts of failures alone may come out
one too many. So a statement whose connection was lost, or that another transaction made impossible,
is sent once more, whether or not it was carried out. So is one whose connection was refused for its
password, if there is another by now.

Row-level security shows a connection the rows of one tenant, named by `app.tenant`. It is told when
a statement is about to be sent for another tenant than the last one was, and not before, so that
it mostly costs nothing.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
from contextlib import contextmanager
from functools import cached_property
from ipaddress import ip_address
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import TYPE_CHECKING, Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from runs.errors import DatabaseUnavailable, SecretUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

SOCKET_TIMEOUT_SECONDS: Final = 8
STATEMENT_TIMEOUT_MS: Final = 5_000  # Less than the socket's: a lost answer stays rare.
LOCK_TIMEOUT_MS: Final = 2_000

_LOCK_NOT_AVAILABLE: Final = "55P03"
_READ_ONLY: Final = "25006"
_REPEATABLE: Final = frozenset({"40001", "40P01"})
_OVER: Final = frozenset({"57P01", "57P02", _READ_ONLY})
"""The session ended, or it reached a server that may not write any more."""
_BUSY: Final = frozenset({"53300", "57P03", "57014", "3D000", "55000"})
"""Too many connections; starting up; statement time-out; no database of this name, or one that
takes no connections, as while a backup is put in its place."""
_NOT_LET_IN: Final = frozenset({"28000", "28P01"})
"""No such user, or not with this password."""
_OF_THE_DATA: Final = ("22", "23")
_OUR_OWN: Final = "PR"
"""What functions that we made in the database raise."""

_NOBODY: Final = ""
"""As a tenant: no row is shown."""
_ACT_FOR: Final = sa.text("SELECT set_config('app.tenant', :tenant_id, false)").bindparams(
    sa.bindparam("tenant_id", type_=sa.Text())
)


class RowLocked(DatabaseUnavailable):
    """Another transaction held a row for longer than the lock time-out."""


class DataRefused(Exception):
    """The database refused a statement for what it holds."""


class RuleBroken(Exception):
    """A function that we made in the database refused a statement.

    Attributes:
        rule: its SQLSTATE, of class PR.
        facts: what it told.
    """

    def __init__(self, rule: str, facts: Mapping[str, Any]) -> None:
        super().__init__(rule)
        self.rule = rule
        self.facts = facts


class Database:
    """Executes statements; connects on first use."""

    def __init__(
        self,
        url: Callable[[], str],
        *,
        application_name: str,
        renew: Callable[[str], bool] = lambda _refused: False,
    ) -> None:
        """Does nothing yet.

        Args:
            url: `postgresql+pg8000://…`; asked when a connection is made for the first time.
            application_name: shown in pg_stat_activity.
            renew: whether `url` gives another one than this, which was refused.
        """
        self._url = url
        self._renew = renew
        self._address = ""
        self._sessions = 0
        self._application_name = application_name
        self._caller = threading.local()

    @contextmanager
    def acting_for(self, tenant_id: str) -> Iterator[None]:
        """Has the statements inside, of this thread, see and write this tenant's rows alone.

        Those outside, if their database user is fenced in, see none. Who isn't, as the poller, has
        no need of it.
        """
        before = self._tenant
        self._caller.tenant_id = tenant_id
        try:
            yield
        finally:
            self._caller.tenant_id = before

    def rows(
        self, statement: sa.Executable, parameters: Mapping[str, Any] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Executes a statement and returns its rows, none if it has none.

        Raises:
            DatabaseUnavailable: it can't be executed now.
            DataRefused: it can't be executed with these parameters.
            RuleBroken: a function of ours in it refused.
        """
        address = self._address
        try:
            return self._rows(statement, parameters)
        except SecretUnavailable as error:
            raise DatabaseUnavailable(f"Its address can't be had: {error}") from error
        except (DBAPIError, OSError) as error:
            self._make_ready_for_another_try(error, address or self._address)
        try:
            return self._rows(statement, parameters)
        except SecretUnavailable as error:
            raise DatabaseUnavailable(f"Its address can't be had: {error}") from error
        except (DBAPIError, OSError) as error:
            _refuse(error)
            self._engine.dispose()
            raise DatabaseUnavailable(_told(error)) from error

    def _make_ready_for_another_try(self, error: Exception, address: str) -> None:
        """Returns only if the statement that failed at this address may be sent once more.

        Raises:
            Exception: it may not; see `rows`.
        """
        state = _sqlstate(error)
        if state in _NOT_LET_IN and self._renew(address):
            if engine := self.__dict__.pop("_engine", None):
                engine.dispose()
            return
        _refuse(error)
        if state not in _REPEATABLE:
            self._engine.dispose()

    def close(self) -> None:
        """Lets go of the connection; the next statement makes another."""
        self._engine.dispose()

    def _rows(
        self, statement: sa.Executable, parameters: Mapping[str, Any] | None
    ) -> Sequence[Mapping[str, Any]]:
        with self._engine.connect() as connection:
            self._name_tenant(connection)
            result = connection.execute(statement, parameters or {})
            if not result.returns_rows:
                return ()
            return cast("Sequence[Mapping[str, Any]]", result.mappings().all())

    def _name_tenant(self, connection: sa.Connection) -> None:
        """Tells the connection whom it acts for, unless it knows."""
        known = connection.info.get("tenant_id", _NOBODY)
        if known != self._tenant:
            connection.info["tenant_id"] = None  # Nobody knows until it has answered.
            connection.execute(_ACT_FOR, {"tenant_id": self._tenant})
            connection.info["tenant_id"] = self._tenant

    @property
    def sessions(self) -> int:
        """How many it has had: with one that was lost go the locks that it held."""
        return self._sessions

    def _count_session(self, _connection: object, _record: object) -> None:
        self._sessions += 1

    @property
    def _tenant(self) -> str:
        return getattr(self._caller, "tenant_id", _NOBODY)

    @cached_property
    def _engine(self) -> sa.Engine:
        # pg8000 can't end a connection that was lost; SQLAlchemy tells of it in a stack trace.
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
        self._address = self._url()
        url = sa.make_url(self._address)
        engine = sa.create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,  # An error that is logged must not show what users stored.
            pool_size=1,
            max_overflow=0,
            connect_args={
                "ssl_context": _tls(url.host),
                "timeout": SOCKET_TIMEOUT_SECONDS,
                "application_name": self._application_name[:63],
                "startup_params": {
                    "TimeZone": "UTC",
                    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                    "lock_timeout": str(LOCK_TIMEOUT_MS),
                },
            },
        )
        sa.event.listen(engine, "connect", _send_at_once)
        sa.event.listen(engine, "connect", self._count_session)
        return engine


def _refuse(error: Exception) -> None:
    """Returns only if another try of the statement may help.

    Raises:
        Exception: it may not; see `Database.rows`.
    """
    state = _sqlstate(error)
    if state.startswith(_OF_THE_DATA):
        raise DataRefused(_told(error)) from error
    if state.startswith(_OUR_OWN):
        raise RuleBroken(state, json.loads(_facts(error)["D"])) from error
    if state == _LOCK_NOT_AVAILABLE:
        raise RowLocked(_told(error)) from error
    if state in _BUSY | _NOT_LET_IN:
        raise DatabaseUnavailable(_told(error)) from error
    if state and state not in _REPEATABLE | _OVER:
        raise error


def _sqlstate(error: BaseException) -> str:
    """The five characters by which Postgres names an error; empty if it comes from elsewhere."""
    return _facts(error).get("C", "")


def _told(error: BaseException) -> str:
    """An error without the statement and its parameters."""
    origin = getattr(error, "orig", None) or error
    return f"{type(origin).__name__}: {_facts(error).get('M') or origin}"


def _facts(error: BaseException) -> Mapping[str, str]:
    """What Postgres tells of an error, by its one-letter names; nothing if it comes from elsewhere.

    https://www.postgresql.org/docs/current/protocol-error-fields.html
    """
    told = getattr(getattr(error, "orig", None), "args", ())
    return told[0] if told and isinstance(told[0], dict) else {}


def _tls(host: str | None) -> ssl.SSLContext | bool:
    """Verified TLS, but for a database on this machine. pg8000 alone would go on in clear text."""
    return False if _is_loopback(host) else ssl.create_default_context()


def _is_loopback(host: str | None) -> bool:
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return host in {None, "", "localhost"}


def _send_at_once(connection: Any, _record: object) -> None:
    """Without TCP_NODELAY a message over 8 KB waits 40 ms; pg8000 has no option for it."""
    connection._usock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # noqa: SLF001  # see above
