"""An issuer of tokens in the test's own process, which also makes every kind of bad ones.

    maker = TokenMaker()
    tokens = maker.tokens()                    # `ports.Tokens` that believes this issuer
    tokens.caller_of(maker.token(tenant="t1", scopes=["runs:read"]))
    for kind, token in maker.broken().items(): …  # each is to be refused

Over HTTP or as a file its keys are `maker.jwks_text`. Time is `maker.now()`: the real one, unless
another is given.
"""

from __future__ import annotations

import atexit
import base64
import hashlib
import hmac
import json
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import PyJWS
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from runs.adapters.tokens import OidcTokens
from runs.callers import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    SigningKey = EllipticCurvePrivateKey | RSAPrivateKey

ISSUER: Final = "https://issuer.test"
AUDIENCE: Final = "pipeline-runs"
TENANT_CLAIM: Final = "tenant"
JWKS_URL: Final = "https://issuer.test/jwks.json"
EVERY_SCOPE: Final = tuple(Scope)
LIFETIME_SECONDS: Final = 3_600
LEEWAY_SECONDS: Final = 60


@cache
def rsa_key(name: str, bits: int = 2_048) -> RSAPrivateKey:
    """One key per name: making them takes a while."""
    assert name
    return generate_rsa(65_537, bits)


@cache
def ec_key(name: str) -> EllipticCurvePrivateKey:
    """One key per name."""
    assert name
    return generate_ec(SECP256R1())


def public_jwk(key: SigningKey, **members: object) -> dict[str, Any]:
    """A key as a key set shows it, with further members."""
    if isinstance(key, EllipticCurvePrivateKey):
        told = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        told = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    told.pop("key_ops", None)
    return told | members


@cache
def token_of_tests() -> str:
    """Of the issuer that `issuer_of_tests` tells functions of, whose clocks may go wrong."""
    now, day = time.time(), 24 * 3_600
    return TokenMaker(kid="of the tests").token(iat=now - day, nbf=now - day, exp=now + day)


@cache
def issuer_of_tests() -> Mapping[str, str]:
    """The variables by which functions in processes of their own believe the tests' tokens."""
    keys = Path(tempfile.mkdtemp(prefix="pipeline-runs-keys-")) / "jwks.json"
    atexit.register(shutil.rmtree, keys.parent)
    keys.write_bytes(TokenMaker(kid="of the tests").jwks_text)
    return {"OIDC_ISSUER": ISSUER, "OIDC_JWKS_URL": keys.as_uri()}


class TokenMaker:
    """An issuer with one key."""

    def __init__(
        self,
        *,
        algorithm: str = "ES256",
        kid: str = "key-1",
        issuer: str = ISSUER,
        audience: str = AUDIENCE,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.issuer = issuer
        self.audience = audience
        self.now = now
        self.key: SigningKey = ec_key(kid) if algorithm == "ES256" else rsa_key(kid)

    # -- what it publishes ------------------------------------------------------------------------

    @property
    def jwks(self) -> dict[str, Any]:
        """Its key set."""
        return {"keys": [public_jwk(self.key, kid=self.kid, alg=self.algorithm, use="sig")]}

    @property
    def jwks_text(self) -> bytes:
        """The same, as it is served."""
        return json.dumps(self.jwks).encode()

    def fetch(self, _url: str) -> bytes:
        """For `OidcTokens(fetch=…)`."""
        return self.jwks_text

    def tokens(self, *, clock: Callable[[], float] = time.monotonic) -> OidcTokens:
        """`ports.Tokens` that believes this issuer and opens no socket."""
        return OidcTokens(
            issuer=self.issuer,
            audience=self.audience,
            jwks_url=JWKS_URL,
            tenant_claim=TENANT_CLAIM,
            clock=clock,
            wall_clock=self.now,
            fetch=self.fetch,
        )

    # -- what it signs ----------------------------------------------------------------------------

    def token(
        self,
        *,
        tenant: object = "default",
        scopes: Collection[str] = EVERY_SCOPE,
        headers: Mapping[str, object] | None = None,
        without: Collection[str] = (),
        **claims: object,
    ) -> str:
        """A good token, unless it is asked to be none.

        Args:
            tenant: the claim that names it.
            scopes: the claim `scope`.
            headers: further ones, or others in their place; None leaves one out.
            without: claims that are left out.
            claims: further ones, or others in their place.
        """
        every = self.claims(tenant=tenant, scopes=scopes) | claims
        kept = {name: value for name, value in every.items() if name not in without}
        return self.signed(json.dumps(kept).encode(), headers=headers)

    def claims(
        self, *, tenant: object = "default", scopes: Collection[str] = EVERY_SCOPE
    ) -> dict[str, object]:
        """Those of a good token."""
        now = int(self.now())
        return {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": "alice",
            TENANT_CLAIM: tenant,
            "scope": " ".join(scopes),
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME_SECONDS,
        }

    def signed(
        self,
        payload: bytes,
        *,
        headers: Mapping[str, object] | None = None,
        key: SigningKey | None = None,
    ) -> str:
        """Whatever the bytes are, signed."""
        header = {"typ": "JWT", "alg": self.algorithm, "kid": self.kid} | dict(headers or {})
        unsigned = _unsigned({n: v for n, v in header.items() if v is not None}, payload)
        signer = PyJWS().get_algorithm_by_name(self.algorithm)
        return f"{unsigned}.{_base64url(signer.sign(unsigned.encode(), key or self.key))}"

    # -- what has to be refused -------------------------------------------------------------------

    def broken(self) -> dict[str, str]:
        """A token of each bad kind, by the kind's name; every one would be good but for that."""
        now = int(self.now())
        claims = json.dumps(self.claims()).encode()
        header, payload, signature = self.token().split(".")
        other = json.dumps(self.claims(tenant="other")).encode()
        return {
            "nothing": "",
            "garbage": "garbage",
            "two parts": f"{header}.{payload}",
            "four parts": f"{header}.{payload}.{signature}.{signature}",
            "no signature": f"{header}.{payload}.",
            "padded": f"{header}.{payload}.{signature}==",
            "another payload": f"{header}.{_base64url(other)}.{signature}",
            "too long": self.token(more="x" * 8_192),
            "alg none": _unsigned({"alg": "none", "kid": self.kid}, claims) + ".",
            "alg none, signed": self._named("none", claims),
            "alg nOnE": self._named("nOnE", claims),
            "no alg": self.token(headers={"alg": None}),
            "HS256 with the public key as PEM": self._by_hmac(claims, self._public_pem),
            "HS256 with the public key as JWK": self._by_hmac(claims, self.jwks_text),
            "another algorithm": self._named("ES512", claims),
            "the other algorithm": self._named(
                "RS256" if self.algorithm == "ES256" else "ES256", claims
            ),
            "PS256": self._named("PS256", claims),
            "another's key": self.signed(claims, key=self._foreign_key),
            "unknown kid": self.token(headers={"kid": "key-2"}),
            "no kid": self.token(headers={"kid": None}),
            "kid no text": self.token(headers={"kid": 1}),
            "jku": self.token(headers={"jku": JWKS_URL}),
            "x5u": self.token(headers={"x5u": JWKS_URL}),
            "x5c": self.token(headers={"x5c": ["AAAA"]}),
            "jwk": self.signed(
                claims, headers={"jwk": public_jwk(self._foreign_key)}, key=self._foreign_key
            ),
            "crit": self.token(headers={"crit": ["exp"]}),
            "crit b64": self.token(headers={"crit": ["b64"], "b64": True}),
            "another type": self.token(headers={"typ": "logout+jwt"}),
            "no issuer": self.token(without=["iss"]),
            "another issuer": self.token(iss="https://other.test"),
            "almost the issuer": self.token(iss=f"{self.issuer}/"),
            "no audience": self.token(without=["aud"]),
            "another audience": self.token(aud="other"),
            "other audiences": self.token(aud=["other", "another"]),
            "audience no text": self.token(aud={self.audience: 1}),
            "no end": self.token(without=["exp"]),
            "end no number": self.token(exp=str(now + LIFETIME_SECONDS)),
            "end true": self.token(exp=True),
            "expired": self.token(exp=now - LEEWAY_SECONDS - 10),
            "not valid yet": self.token(nbf=now + LEEWAY_SECONDS + 10),
            "start no number": self.token(nbf="now"),
            "start true": self.token(nbf=True),
            "of the future": self.token(iat=now + LEEWAY_SECONDS + 10),
            "no subject": self.token(without=["sub"]),
            "empty subject": self.token(sub=""),
            "subject no text": self.token(sub=7),
            "long subject": self.token(sub="x" * 256),
            "subject that hides": self.token(sub="alice\n"),
            "no tenant": self.token(without=[TENANT_CLAIM]),
            "empty tenant": self.token(tenant=""),
            "tenant no text": self.token(tenant=["default"]),
            "tenant in capitals": self.token(tenant="Default"),
            "tenant with a line": self.token(tenant="default\n"),
            "tenant with a slash": self.token(tenant="a/b"),
            "tenant above": self.token(tenant="../b"),
            "long tenant": self.token(tenant="x" * 64),
            "scope no text": self.token(scope=7),
            "claims no object": self.signed(b"[]"),
            "claims no JSON": self.signed(claims[:-1]),
            "a claim twice": self.signed(b'{"tenant": "other", ' + claims[1:]),
            "a number that is none": self.token(exp=float("nan")),
            "an end that never comes": self.token(exp=float("inf")),
        }

    def expired(self, *, tenant: str = "default") -> str:
        """A token that was good until a little more than the leeway ago."""
        return self.token(tenant=tenant, exp=int(self.now()) - LEEWAY_SECONDS - 10)

    @property
    def _foreign_key(self) -> SigningKey:
        return ec_key("foreign") if self.algorithm == "ES256" else rsa_key("foreign")

    @property
    def _public_pem(self) -> bytes:
        public = self.key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def _named(self, algorithm: str, payload: bytes) -> str:
        """Signed as always, and called something else."""
        return self.signed(payload, headers={"alg": algorithm})

    def _by_hmac(self, payload: bytes, secret: bytes) -> str:
        unsigned = _unsigned({"alg": "HS256", "kid": self.kid}, payload)
        digest = hmac.new(secret, unsigned.encode(), hashlib.sha256).digest()
        return f"{unsigned}.{_base64url(digest)}"


def _unsigned(header: Mapping[str, object], payload: bytes) -> str:
    return f"{_base64url(json.dumps(header).encode())}.{_base64url(payload)}"


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
