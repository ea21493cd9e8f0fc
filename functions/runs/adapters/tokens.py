"""Whom a bearer token speaks for: OIDC's signed tokens (JWT), checked as RFC 8725 asks."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from jwt import PyJWS, PyJWTError

from runs import strict_json
from runs.adapters.jwks import SigningKeys, check_address, fetch_set
from runs.callers import Caller, Scope
from runs.errors import TokenRefused
from runs.strict_json import JsonInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runs.ports import Clock

ALGORITHMS: Final = ("RS256", "ES256")
LONGEST_TOKEN: Final = 8 * 1024
LONGEST_SUBJECT: Final = 255
LEEWAY_SECONDS: Final = 60
"""How far the issuer's clock and ours may be apart."""

_TOKEN: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
"""Stricter than PyJWT, which takes padding: no token has a second spelling."""
_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""Of the same issuer there may be others, which aren't to be taken for tokens of access."""
_KEYS_OF_ITS_OWN: Final = ("jku", "jwk", "x5u", "x5c", "crit")
"""Headers that name another key, or ask for what we don't know."""


class OidcTokens:
    """`ports.Tokens` for the tokens of one issuer."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        jwks_url: str,
        tenant_claim: str,
        clock: Clock,
        wall_clock: Callable[[], float],
        fetch: Callable[[str], bytes] = fetch_set,
    ) -> None:
        """Fetches nothing yet.

        Args:
            issuer: the claim `iss`, exactly.
            audience: must be in the claim `aud`.
            jwks_url: where the issuer's keys are; the only place they are taken from.
            tenant_claim: the name of the claim that names the tenant.
            clock: monotonic seconds.
            wall_clock: seconds since 1970.
            fetch: answers the text at an address; a test's may raise `jwks.SetUnreadable`.

        Raises:
            SettingsInvalid: the keys' address isn't one to be trusted.
        """
        check_address(jwks_url)
        self._issuer = issuer
        self._audience = audience
        self._tenant_claim = tenant_claim
        self._wall_clock = wall_clock
        self._keys = SigningKeys(partial(fetch, jwks_url), clock=clock, wall_clock=wall_clock)
        self._jws = PyJWS(algorithms=ALGORITHMS)

    def caller_of(self, token: str) -> Caller:
        """See `ports.Tokens`."""
        claims = self._signed_claims(token)
        if claims.get("iss") != self._issuer:
            raise TokenRefused("The token is another issuer's")
        if self._audience not in _texts(claims, "aud"):
            raise TokenRefused("The token is for another audience")
        self._check_times(claims)
        return Caller(
            tenant_id=self._tenant(claims), subject=_subject(claims), scopes=_scopes(claims)
        )

    def _signed_claims(self, token: str) -> Mapping[str, Any]:
        if len(token) > LONGEST_TOKEN:
            raise TokenRefused(f"The token is longer than {LONGEST_TOKEN // 1024} KiB")
        if not _TOKEN.fullmatch(token):
            raise TokenRefused("The token is no signed JWT")
        try:
            kid, algorithm = _key_named(self._jws.get_unverified_header(token))
            key = self._keys.key(kid, algorithm)
            payload = self._jws.decode_complete(token, key, ALGORITHMS)["payload"]
        except PyJWTError as error:
            raise TokenRefused("The token can't be read, or its signature is wrong") from error
        try:
            claims = strict_json.read(payload)
        except JsonInvalid as error:
            raise TokenRefused("The token's claims are no JSON") from error
        if not isinstance(claims, dict):
            raise TokenRefused("The token's claims are no JSON object")
        return claims

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._wall_clock()
        if now >= _time(claims, "exp") + LEEWAY_SECONDS:
            raise TokenRefused("The token has expired")
        for name in ("nbf", "iat"):
            if name in claims and now < _time(claims, name) - LEEWAY_SECONDS:
                raise TokenRefused("The token is not valid yet")

    def _tenant(self, claims: Mapping[str, Any]) -> str:
        tenant = claims.get(self._tenant_claim)
        if not (isinstance(tenant, str) and _TENANT.fullmatch(tenant)):
            raise TokenRefused(f"The token names no tenant in its claim {self._tenant_claim}")
        return tenant


def _key_named(header: Mapping[str, Any]) -> tuple[str, str]:
    """The `kid` and the algorithm that a token claims for itself: a name, no more."""
    if (algorithm := header.get("alg")) not in ALGORITHMS:
        raise TokenRefused(f"The token must be signed with {' or '.join(ALGORITHMS)}")
    for name in _KEYS_OF_ITS_OWN:
        if name in header:
            raise TokenRefused(f"The token has a header {name}, which is not accepted")
    if str(header.get("typ", "JWT")).lower() not in _TYPES:
        raise TokenRefused("The token is of another type than JWT or at+jwt")
    if not isinstance(kid := header.get("kid"), str):
        raise TokenRefused("The token does not name its key (kid)")
    return kid, str(algorithm)


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefused(f"The token's claim {name} is missing or no time")
    return value


def _subject(claims: Mapping[str, Any]) -> str:
    subject = claims.get("sub")
    if not (isinstance(subject, str) and 0 < len(subject) <= LONGEST_SUBJECT):
        raise TokenRefused("The token names no subject (sub)")
    if not subject.isprintable():
        raise TokenRefused("The token's subject (sub) has characters that can't be shown")
    return subject


def _scopes(claims: Mapping[str, Any]) -> frozenset[Scope]:
    """Those of our scopes that it names; issuers write them into either claim, as text or list."""
    named = {
        word for name in ("scope", "scp") for text in _texts(claims, name) for word in text.split()
    }
    return frozenset(scope for scope in Scope if scope in named)


def _texts(claims: Mapping[str, Any], name: str) -> list[str]:
    """What a claim says that may hold one text or several; empty: it isn't there."""
    match claims.get(name, []):
        case str(text):
            return [text]
        case list(texts) if all(isinstance(text, str) for text in texts):
            return texts
        case _:
            raise TokenRefused(f"The token's claim {name} is no text and no list of texts")
