"""The token issuer's public keys: a JSON Web Key Set (RFC 7517), fetched now and then.

How often it is asked for, whatever callers send:

| what is known | what is done |
|---|---|
| the key, from a set younger than an hour | nothing is fetched |
| a set without the key, or an older one | it is fetched, at most once a minute |
| an older set, and the issuer is down | its keys are good for 24 h since it was fetched |
| no set | it is fetched, at most once in five seconds |
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from runs import strict_json
from runs.adapters.answers import AnswerInvalid
from runs.errors import TokenRefused, TokensUnavailable
from runs.settings import SettingsInvalid
from runs.strict_json import JsonInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runs.ports import Clock

FETCH_TIME: Final = timedelta(seconds=3)
"""For the whole of one fetch."""
LARGEST_SET: Final = 64 * 1024
"""Bytes."""
FRESH: Final = timedelta(hours=1)
"""So long a key is believed without asking again: a withdrawn one is refused after that."""
USABLE: Final = timedelta(hours=24)
"""So long a key is believed while the issuer gives no valid answer."""
PAUSE: Final = timedelta(minutes=1)
"""Between two fetches; 1,000 unknown keys cost one."""
FIRST_PAUSE: Final = timedelta(seconds=5)
"""The same while no set is known, and so no token can be checked."""


class SetUnreadable(Exception):
    """The issuer gave no valid key set."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A key set and when it was fetched, by both clocks."""

    keys: Mapping[tuple[str, str], PyJWK]
    """By `kid` and algorithm."""
    measured: float
    dated: float


class SigningKeys:
    """The keys of one issuer; for one request at a time, as Lambda has it."""

    def __init__(
        self, fetch: Callable[[], bytes], *, clock: Clock, wall_clock: Callable[[], float]
    ) -> None:
        """Fetches nothing yet.

        Args:
            fetch: answers the key set's text, or raises SetUnreadable.
            clock: monotonic seconds.
            wall_clock: seconds since 1970. A key's age is what either of the clocks says, if more:
                the monotonic one may stand still while Lambda has an environment frozen.
        """
        self._fetch = fetch
        self._clock = clock
        self._wall_clock = wall_clock
        self._known: _Known | None = None
        self._asked_at: float | None = None
        self._trouble: SetUnreadable | None = None

    def key(self, kid: str, algorithm: str) -> PyJWK:
        """The issuer's key of this name for this algorithm.

        Raises:
            TokenRefused: it has none.
            TokensUnavailable: its keys can't be fetched, and none are known.
        """
        known = self._known_now()
        if (known is None or self._is_outdated(known, kid, algorithm)) and self._may_ask(known):
            known = self._ask() or known
        if known is None:
            why = "The token issuer's keys can't be fetched at the moment"
            raise TokensUnavailable(why) from self._trouble
        try:
            return known.keys[kid, algorithm]
        except KeyError:
            raise TokenRefused("The token is signed with a key that is not known") from None

    def _known_now(self) -> _Known | None:
        if self._known is not None and self._age(self._known) >= USABLE.total_seconds():
            self._known = None
        return self._known

    def _is_outdated(self, known: _Known, kid: str, algorithm: str) -> bool:
        return (kid, algorithm) not in known.keys or self._age(known) >= FRESH.total_seconds()

    def _age(self, known: _Known) -> float:
        return max(self._clock() - known.measured, self._wall_clock() - known.dated)

    def _may_ask(self, known: _Known | None) -> bool:
        pause = FIRST_PAUSE if known is None else PAUSE
        return self._asked_at is None or self._clock() - self._asked_at >= pause.total_seconds()

    def _ask(self) -> _Known | None:
        """Fetches the set; None: in vain."""
        try:
            keys = dict(_keys_in(self._fetch()))
        except SetUnreadable as trouble:
            self._trouble = trouble
            return None
        finally:
            self._asked_at = self._clock()  # After the answer: a slow one buys no further try.
        self._known = _Known(keys, self._clock(), self._wall_clock())
        return self._known


# -- what a set holds -----------------------------------------------------------------------------


def _keys_in(text: bytes) -> Iterator[tuple[tuple[str, str], PyJWK]]:
    """The keys that can check our algorithms; the others are none of our business.

    Raises:
        SetUnreadable: it is no key set.
    """
    try:
        told = strict_json.read(text)
    except JsonInvalid as error:
        raise SetUnreadable(f"it is no JSON: {error}") from error
    if not (isinstance(told, dict) and isinstance(told.get("keys"), list)):
        raise SetUnreadable("it has no list of keys")
    for jwk in told["keys"]:
        key = _key_of(jwk)
        if key is not None and isinstance(kid := jwk.get("kid"), str):
            yield (kid, key.algorithm_name), key


def _key_of(jwk: Any) -> PyJWK | None:
    """The key, bound to the one algorithm that its type, `alg` and `use` leave it."""
    match jwk:
        case {"d": _}:  # A private key that is published is anybody's.
            return None
        case {"kty": "RSA"}:
            algorithm = "RS256"
        case {"kty": "EC", "crv": "P-256"}:
            algorithm = "ES256"
        case _:
            return None
    uses = jwk.get("key_ops", ["verify"])
    checks_signatures = isinstance(uses, list) and "verify" in uses
    if jwk.get("alg", algorithm) != algorithm or jwk.get("use", "sig") != "sig":
        return None
    if not checks_signatures:
        return None
    try:
        key = PyJWK(jwk, algorithm)
    except PyJWTError:
        return None
    too_short = key.Algorithm.check_key_length(key.key)
    return None if too_short else key


# -- where it comes from --------------------------------------------------------------------------


def check_address(url: str) -> None:
    """Lets `https:` pass, `http:` to this machine, and `file:`.

    Raises:
        SettingsInvalid: anyone between could put in keys of their own, or it is no address.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        raise SettingsInvalid(f"OIDC_JWKS_URL must be an address: {error}") from error
    match parts.scheme:
        case "https" if host:
            return
        case "http" if _is_loopback(host):
            return
        case "file" if not host and parts.path.startswith("/"):
            return
        case _:
            raise SettingsInvalid("OIDC_JWKS_URL must begin with https://, or name a local file")


def fetch_set(
    url: str,
    *,
    within: timedelta = FETCH_TIME,
    look_up: Callable[[str, int], Sequence[str]] | None = None,
) -> bytes:
    """The text of the key set at an address that `check_address` lets pass.

    Args:
        url: the address.
        within: for all of it, the look-up of the server's name too.
        look_up: gives a host's addresses; None: as the system knows them.

    Raises:
        SetUnreadable: it can't be had, or not in time, or it is too large.
    """
    body = _read_file(url) if url.startswith("file:") else _download(url, within, look_up)
    if len(body) > LARGEST_SET:
        raise SetUnreadable(f"it is larger than {LARGEST_SET // 1024} KiB")
    return body


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_file(url: str) -> bytes:
    try:
        with Path(unquote(urlsplit(url).path)).open("rb") as file:
            return file.read(LARGEST_SET + 1)
    except OSError as error:
        raise SetUnreadable(str(error)) from error


def _download(
    url: str, within: timedelta, look_up: Callable[[str, int], Sequence[str]] | None
) -> bytes:
    import httpx  # noqa: PLC0415  # 90 ms: a file needs none.

    from runs.adapters.exchanges import addresses_of, client_for, exchange  # noqa: PLC0415  # same

    try:
        with client_for(url, look_up=look_up or addresses_of) as client:
            accepted = {"Accept": "application/jwk-set+json, application/json"}
            request = client.build_request("GET", url, headers=accepted)
            answer = exchange(client, request, timeout=within)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, AnswerInvalid) as error:
        raise SetUnreadable(f"{type(error).__name__}: {error}") from error
    if answer.status != 200:
        raise SetUnreadable(f"its server answered {answer.status}")
    return answer.body
