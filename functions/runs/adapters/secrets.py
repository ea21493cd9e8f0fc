"""Secrets: read where AWS keeps them when they are first needed, and kept for an hour at most."""

from __future__ import annotations

import json
import logging
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from runs.errors import SecretUnavailable
from runs.model import QUOTE_LENGTH, clean

if TYPE_CHECKING:
    from collections.abc import Callable

    from runs.ports import Clock

LOG = logging.getLogger(__name__)

LIFETIME_SECONDS: Final = 3_600
PAUSE_SECONDS: Final = 60
"""Between two readings of a secret that is refused: whoever refuses all costs no more than that."""

_TOKEN: Final = re.compile(r"[!-~]{1,8192}")
"""What a header can hold; an HTTP client would tell the whole of another one in its error."""


_DATABASE_URL: Final = re.compile(
    r"postgresql\+pg8000://([^:/@\s]*(:[^@\s]*)?@)?([\w.-]*|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?"
    r"/[^/?@\s]+(\?[^@\s]*)?"
)
"""What SQLAlchemy takes apart rightly; its own error about another one may quote a part."""


@dataclass(frozen=True, slots=True)
class _Reading:
    text: str
    at: float
    wall_at: float


class Secret:
    """A text that may be another one later."""

    def __init__(
        self, read: Callable[[], str], *, clock: Clock, wall_clock: Callable[[], float]
    ) -> None:
        """Reads nothing yet.

        Args:
            read: gives the text as it is now; may raise SecretUnavailable.
            clock: monotonic seconds.
            wall_clock: seconds since 1970; the other may stand still while Lambda is frozen.
        """
        self._read = read
        self._clock = clock
        self._wall_clock = wall_clock
        self._reading: _Reading | None = None
        self._at_work = threading.Lock()

    @property
    def known(self) -> str | None:
        """The text, if it needs not be read for that."""
        reading = self._reading
        return reading.text if reading and self._age(reading) < LIFETIME_SECONDS else None

    def text(self) -> str:
        """The text; it is read if it never was, or if an hour has passed since.

        Raises:
            SecretUnavailable: it can't be read.
        """
        with self._at_work:
            known = self.known
            return self._read_now().text if known is None else known

    def renew(self, refused: str) -> bool:
        """Whether the text is another one than that which somebody has just refused.

        For that it is read once more, unless it was within the last minute.
        """
        with self._at_work:
            reading = self._reading
            if reading and reading.text != refused:
                return True
            if reading and self._age(reading) < PAUSE_SECONDS:
                return False
            try:
                return self._read_now().text != refused
            except SecretUnavailable:
                return False

    def _read_now(self) -> _Reading:
        self._reading = _Reading(self._read(), at=self._clock(), wall_at=self._wall_clock())
        return self._reading

    def _age(self, reading: _Reading) -> float:
        return max(self._clock() - reading.at, self._wall_clock() - reading.wall_at)


def secret_text(client: Callable[[str], Any], arn: str) -> str:
    """What a secret of Secrets Manager, or a SecureString of SSM, holds now.

    Args:
        client: gives boto3's client of a service.
        arn: the secret's; its third part names the service.

    Raises:
        SecretUnavailable: it can't be read; why is in the log.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # with boto3

    try:
        text: str
        if arn.split(":")[2] == "ssm":
            told = client("ssm").get_parameter(Name=arn, WithDecryption=True)
            text = told["Parameter"]["Value"]
        else:
            text = client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]
    except (BotoCoreError, ClientError) as error:
        raise _unavailable(arn, clean(str(error), QUOTE_LENGTH)) from error
    except KeyError as error:
        raise _unavailable(arn, "it holds bytes and no text") from error
    return text


def token_of(text: str) -> str:
    """The bearer token that a secret holds.

    Raises:
        SecretUnavailable: it holds none; the text isn't told.
    """
    token = text.strip()
    if not _TOKEN.fullmatch(token):
        why = "it holds no token: one line of at most 8,192 ASCII characters without spaces"
        raise SecretUnavailable(f"A secret can't be used: {why}")
    return token


def database_url(text: str) -> str:
    """The database's address that a secret holds, as itself or in the parts that RDS keeps there.

    Raises:
        SecretUnavailable: it holds none; the text isn't told.
    """
    if not text.lstrip().startswith("{"):
        return _checked(text.strip(), "it is no postgresql+pg8000://user:password@host:port/name")
    try:
        parts = json.loads(text)
        user, password = quote(parts["username"], safe=""), quote(parts["password"], safe="")
        place = f"{parts['host']}:{parts['port']}"
    except (KeyError, TypeError, ValueError):
        why = "it is JSON without username, password, host and port"
        raise SecretUnavailable(f"A secret can't be used: {why}") from None
    url = f"postgresql+pg8000://{user}:{password}@{place}/{parts.get('dbname') or 'pipeline_runs'}"
    return _checked(url, "its host, port or dbname can't be one")


def _checked(url: str, why: str) -> str:
    if not _DATABASE_URL.fullmatch(url):
        raise SecretUnavailable(f"A secret can't be used: {why}")
    return url


def storage_keys(text: str) -> tuple[str, str]:
    """The access key's id and the secret that belongs to it, which a secret holds as JSON.

    Raises:
        SecretUnavailable: it holds none; the text isn't told.
    """
    try:
        parts = json.loads(text)
        return str(parts["access_key_id"]), str(parts["secret_access_key"])
    except (KeyError, TypeError, ValueError):
        why = "it is no JSON with access_key_id and secret_access_key"
        raise SecretUnavailable(f"A secret can't be used: {why}") from None


def _unavailable(arn: str, why: str) -> SecretUnavailable:
    LOG.warning("secret_unavailable", extra={"arn": arn, "error": why})
    return SecretUnavailable("A secret can't be read")
