"""What comes back from other services: read within limits, trusted in nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from runs import strict_json
from runs.strict_json import JsonInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ANSWER_BYTES: Final = 256 * 1024
UNAUTHORIZED: Final = 401
PLAIN: Final = {"Accept-Encoding": "identity"}
"""Asks for bodies as they are: a small packed one may unpack to gigabytes."""


def is_secure(url: str) -> bool:
    """Whether it is called by TLS, and so its certificate is looked at; HTTPS: is https: too."""
    return urlsplit(url).scheme == "https"


def no_cookies() -> CookieJar:
    """A jar that stays empty: one odd cookie would spoil every later call of the client."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


class AnswerInvalid(ValueError):
    """An answer came, and it isn't one that can be understood."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, within the limits."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            AnswerInvalid: it isn't JSON, or not JSON that means one thing.
        """
        try:
            return strict_json.read(self.body)
        except JsonInvalid as error:
            raise AnswerInvalid(f"the answer is no JSON: {error}") from error

    def quote(self, length: int) -> str:
        """The body's beginning, to be shown to people."""
        return self.body[: 4 * length].decode("utf-8", "replace")[:length]


class Body:
    """Collects a body until it is whole or too large."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        """Looks at what the headers promise.

        Raises:
            AnswerInvalid: the body is packed.
        """
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise AnswerInvalid("the answer is packed though that was not asked for")
        self._chunks: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Takes a further piece.

        Raises:
            AnswerInvalid: it is too much.
        """
        self._size += len(chunk)
        if self._size > MAX_ANSWER_BYTES:
            raise AnswerInvalid(f"the answer is larger than {MAX_ANSWER_BYTES // 1024} KiB")
        self._chunks.append(chunk)

    def whole(self) -> bytes:
        """All of it."""
        return b"".join(self._chunks)


def bearer(token: str) -> str:
    """The header Authorization with this token (RFC 6750)."""
    return f"Bearer {token}"


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """What the header of this name asks for (RFC 9110: seconds or a date); None: no sense."""
    value = headers.get("retry-after", "").strip()
    try:
        if value.isascii() and value.isdigit():
            return timedelta(seconds=min(int(value), 86_400))
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers["date"])
    except (KeyError, TypeError, ValueError):
        return None
    return wait if wait > timedelta(0) else None
