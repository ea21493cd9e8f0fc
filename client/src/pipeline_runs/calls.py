"""One call of the API: sent, tried again where that helps, and read.

Twice is as good as once for every call of the API: runs are created under a key, a pipeline that is
there just so is answered again, and all else says what shall be.

What httpx raises is translated here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from pydantic import BaseModel, ValidationError

from pipeline_runs.errors import (
    AnswerNotUnderstood,
    ApiProblem,
    ApiUnreachable,
    HeaderInvalid,
    NotConfigured,
    PipelineRunsError,
    error_of,
)
from pipeline_runs.models import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

A = TypeVar("A", bound=BaseModel)

Token = str | Callable[[], str]
"""A bearer token, or what gives one: it is called before every request."""
RequestId = str | Callable[[], str]
"""What is sent as X-Request-Id: the same for all requests, or one made for each."""

TRY_AGAIN_STATUSES: Final = frozenset({429, 502, 503, 504})
CERTIFICATE_REFUSED: Final = "CERTIFICATE_VERIFY_FAILED"
"""OpenSSL's word for it; httpx has no class of its own."""
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 8.0
USER_AGENT: Final = "pipeline-runs-client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the client tries.

    Attributes:
        budget_seconds: From the first try of a call to the beginning of its last one. A pause that
            the API asks for (Retry-After) and that would go beyond ends the trying at once.
        answer_seconds: What one try may take; the API itself answers within 30 s.
        connect_seconds: What connecting may take.
    """

    budget_seconds: float = 30
    answer_seconds: float = 40
    connect_seconds: float = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Time and chance, for tests to replace."""

    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random
    new_key: Callable[[], str] = field(default=lambda: str(uuid4()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked.

    Attributes:
        query: Members that are None aren't sent.
        body: JSON; None: no body.
    """

    method: str
    path: str
    query: Mapping[str, object] = field(default_factory=dict)
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Refused:
    """A try that brought no answer, or a problem."""

    error: PipelineRunsError
    try_again: bool
    wait_seconds: float | None = None


class Calls:
    """The way to one API."""

    def __init__(
        self,
        api_url: str,
        *,
        token: Token | None,
        patience: Patience,
        surroundings: Surroundings,
        request_id: RequestId | None,
        transport: httpx.BaseTransport | None,
    ) -> None:
        self.api_url = checked_url(api_url)
        self._token = token
        self._patience = patience
        self._around = surroundings
        self._request_id = request_id
        self._http = httpx.Client(
            headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
            timeout=httpx.Timeout(patience.answer_seconds, connect=patience.connect_seconds),
            transport=transport,
            # A proxy of the environment has no business between a machine and itself.
            trust_env=not is_loopback(self.api_url),
        )

    def close(self) -> None:
        """Gives the connections back."""
        self._http.close()

    def answer(self, request: Request, shape: type[A]) -> A:
        """What the API answers, in its shape.

        Raises:
            ApiProblem, ApiUnreachable, AnswerNotUnderstood, HeaderInvalid: see `errors`.
        """
        around = self._around
        end = around.clock() + self._patience.budget_seconds
        tries = 0
        while True:
            outcome = self._try(request, shape)
            if not isinstance(outcome, _Refused):
                return outcome
            pause = self._pause_seconds(outcome, tries)
            if not outcome.try_again or around.clock() + pause > end:
                raise outcome.error
            around.pause(pause)
            tries += 1

    def _pause_seconds(self, refused: _Refused, tries: int) -> float:
        """At least what the API asks for; clients that were refused together don't return so."""
        if refused.wait_seconds is not None:
            return refused.wait_seconds + self._around.chance() * FIRST_PAUSE_SECONDS
        longest: float = min(FIRST_PAUSE_SECONDS * 2**tries, LONGEST_PAUSE_SECONDS)
        return longest * (0.5 + self._around.chance() / 2)

    def _try(self, request: Request, shape: type[A]) -> A | _Refused:
        headers = _sendable({**self._own_headers(), **request.headers})
        try:
            answer = self._http.request(
                request.method,
                f"{self.api_url}{request.path}",
                params={n: str(v) for n, v in request.query.items() if v is not None},
                json=request.body,
                headers=headers,
            )
        except httpx.TransportError as error:
            # A certificate that isn't believed now won't be in a second.
            again = CERTIFICATE_REFUSED not in str(error)
            return _Refused(_unreachable(error, self.api_url), try_again=again)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return _Refused(AnswerNotUnderstood(f"{self.api_url}: {error}"), try_again=False)
        if answer.is_success:
            return _read(answer, shape)
        return _refusal(answer)

    def _own_headers(self) -> dict[str, str]:
        token = self._token() if callable(self._token) else self._token
        own = {"Authorization": f"Bearer {token.strip()}"} if token else {}
        if self._request_id is not None:
            told = self._request_id() if callable(self._request_id) else self._request_id
            own["X-Request-Id"] = told
        return own


def checked_url(api_url: str) -> str:
    """The address that paths are appended to.

    Raises:
        NotConfigured: it isn't one.
    """
    parts = urlsplit(api_url.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise NotConfigured(
            f"{api_url!r} is no address of an API: it has to begin with https:// (or http://)"
        )
    return api_url.strip().rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether an address is of this machine itself."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _sendable(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise HeaderInvalid(f"{name} can't be sent: it has to be of visible ASCII characters")
    return headers


def _read(answer: httpx.Response, shape: type[A]) -> A:
    try:
        return shape.model_validate_json(answer.content)
    except ValidationError as error:
        where = answer.request.url.copy_with(query=None)
        raise AnswerNotUnderstood(
            f"{where} answered {answer.status_code} with something else than"
            f" {shape.__name__}: is it the address of the pipeline runs API, and is this client"
            f" of its age? ({_first_fault(error)})"
        ) from error


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = "/".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def _refusal(answer: httpx.Response) -> _Refused:
    wait = _retry_after_seconds(answer)
    again = answer.status_code in TRY_AGAIN_STATUSES
    return _Refused(_problem(answer, wait), try_again=again, wait_seconds=wait)


def _problem(answer: httpx.Response, wait: float | None) -> ApiProblem | AnswerNotUnderstood:
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        where = answer.request.url.copy_with(query=None)
        if answer.status_code not in TRY_AGAIN_STATUSES:
            return AnswerNotUnderstood(
                f"{where} answered {answer.status_code} without saying why: is it the address of"
                " the pipeline runs API?"
            )
        # What stands before the API, such as a gateway, has other words or none.
        title = f"{where} answered {answer.status_code} {answer.reason_phrase}".strip()
        problem = Problem(
            type="about:blank",
            title=title,
            status=answer.status_code,
            detail=title,
            code="",
            request_id=answer.headers.get("x-amzn-requestid", ""),
        )
    return error_of(problem, retry_after_seconds=wait)


def _retry_after_seconds(answer: httpx.Response) -> float | None:
    """The API writes seconds; a date (RFC 9110) of something in between is left aside."""
    told = answer.headers.get("retry-after", "")
    return float(told) if told.isascii() and told.isdigit() else None


def _unreachable(error: httpx.TransportError, api_url: str) -> ApiUnreachable:
    host = urlsplit(api_url).netloc
    match error:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            why = f"No connection to {host} within its time"
        case httpx.TimeoutException():
            why = f"{host} did not answer in time"
        case httpx.ConnectError():
            why = f"No connection to {host}: {error}"
        case _:
            why = f"The connection to {host} broke: {error or type(error).__name__}"
    return ApiUnreachable(why)
