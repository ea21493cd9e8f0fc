"""Calls to the Workbench, and a journal of what came back: judged later, trusted in nothing."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import httpx

from infra.conformance.rules import NotSeen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LARGEST_ANSWER_BYTES = 256 * 1024
"""By contract; callers read no further."""
MOST_BYTES_READ = 4 * LARGEST_ANSWER_BYTES
PATIENCE = 2
"""Times the limit that is waited, so that a late answer is told from none."""
QUOTE_LENGTH = 160


@dataclass(frozen=True)
class Exchange:
    """One call and what became of it.

    Attributes:
        limit_seconds: After so long the service gives up.
        status: The answer's; 0 without one.
        trouble: Why there is no whole answer; empty if there is.
    """

    method: str
    path: str
    limit_seconds: float
    seconds: float = 0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    trouble: str = ""

    @property
    def call(self) -> str:
        """What was asked, in words."""
        return f"{self.method} {self.path}"

    @property
    def is_good(self) -> bool:
        """Whether it has a status of 2xx."""
        return 200 <= self.status < 300

    @property
    def told(self) -> str:
        """What was answered, in words."""
        if self.trouble:
            return f"{self.call}: {self.trouble}"
        text = " ".join(self.body.decode("utf-8", "replace").split())
        return f"{self.call} answered {self.status} {text[:QUOTE_LENGTH]}".rstrip()

    def object(self) -> dict[str, Any]:
        """The JSON object in the body.

        Raises:
            NotSeen: there is none; `answers-are-json` judges that.
        """
        value = json_in(self.body)
        if not isinstance(value, dict):
            raise NotSeen(f"no JSON object came: {self.told}")
        return value


def json_in(body: bytes) -> Any:
    """What the text stands for; None if it isn't JSON."""
    try:
        return json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


class Wire:
    """Sends calls as the service does: directly, following nothing, unpacking nothing."""

    def __init__(self, url: str, token: str, *, answer_seconds: float) -> None:
        """Connects on first use.

        Args:
            url: The Workbench's address.
            token: Sent as a bearer token; empty: none is.
            answer_seconds: What an answer may take.
        """
        self.journal: list[Exchange] = []
        self._url = url.rstrip("/")
        self._token = token
        self._answer_seconds = answer_seconds
        self._client = httpx.Client(
            # Without a certificate store where none is needed: building one takes a while.
            transport=httpx.HTTPTransport(verify=urlsplit(url).scheme == "https"),
            headers={"Accept-Encoding": "identity"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Sequence[tuple[str, str]] = (),
        body: object = None,
        content: bytes | Iterator[bytes] | None = None,
        token: str | None = None,
        limit_seconds: float | None = None,
    ) -> Exchange:
        """Sends one call and notes it; whatever happens is an exchange.

        Args:
            method: GET or POST.
            path: Below the Workbench's address.
            query: Its parameters.
            headers: More of them, repeated ones repeatedly.
            body: Sent as JSON.
            content: Sent as it is, in chunks if it comes in pieces.
            token: In place of the right one; empty: none.
            limit_seconds: What the answer may take, if not as long as any.
        """
        limit = limit_seconds or self._answer_seconds
        bearer = self._token if token is None else token
        more = [("Authorization", f"Bearer {bearer}")] if bearer else []
        request = self._client.build_request(
            method,
            self._url + path,
            params=query,
            headers=[*headers, *more],
            json=body,
            content=content,
            timeout=PATIENCE * limit,
        )
        asked = Exchange(method, path, limit)
        exchange = self._exchanged(request, asked)
        self.journal.append(exchange)
        return exchange

    def _exchanged(self, request: httpx.Request, asked: Exchange) -> Exchange:
        began = time.monotonic()
        status, headers, read, trouble = 0, {}, bytearray(), ""
        try:
            response = self._client.send(request, stream=True)
            status, headers = response.status_code, dict(response.headers)
            try:
                for chunk in response.iter_raw():
                    read += chunk
                    if len(read) > MOST_BYTES_READ:
                        break
                    if time.monotonic() > began + PATIENCE * asked.limit_seconds:
                        trouble = "its answer was not whole in time"
                        break
            finally:
                response.close()
        except httpx.ConnectError:
            trouble = "no connection"
        except httpx.TimeoutException:
            trouble = "no whole answer in time"
        except httpx.HTTPError as error:
            trouble = f"the connection was lost, or what came is no HTTP ({error})"
        return Exchange(
            asked.method,
            asked.path,
            asked.limit_seconds,
            seconds=time.monotonic() - began,
            status=status,
            headers=headers,
            body=bytes(read),
            trouble=trouble,
        )
