"""The issuer of this stack's tokens: a key pair in a folder, in place of an identity provider."""

from __future__ import annotations

import os
import re
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from jwt import InvalidKeyError, encode
from jwt.algorithms import ECAlgorithm

from infra.local.files import read_json, write_json
from infra.local.trouble import StackTrouble

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from infra.local.layout import Layout

ISSUER: Final = "urn:pipeline-runs:local"
AUDIENCE: Final = "pipeline-runs"
TENANT_CLAIM: Final = "tenant"
ALGORITHM: Final = "ES256"
SCOPES: Final = ("runs:read", "runs:write", "pipelines:write", "admin")
"""Those that the API knows; a test holds them to it."""
TENANT: Final = "default"
SUBJECT: Final = "local"
LIFETIME: Final = timedelta(hours=12)

_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, kw_only=True)
class LocalIssuer:
    """Signs tokens with the stack's own key.

    Attributes:
        jwks_url: Where the functions find the public key: a file.
        kid: The key's name, new with every key.
    """

    issuer: str
    audience: str
    jwks_url: str
    kid: str
    private_key: EllipticCurvePrivateKey = field(repr=False)

    def token(
        self,
        *,
        tenant: str = TENANT,
        scopes: Collection[str] = SCOPES,
        subject: str = SUBJECT,
        lifetime: timedelta = LIFETIME,
    ) -> str:
        """A token that the API accepts from now on.

        Raises:
            StackTrouble: the API would refuse it; the text names what is wrong.
        """
        if not _TENANT.fullmatch(tenant):
            raise StackTrouble(
                f"TENANT is {tenant!r} and must be at most 63 of a-z, 0-9, '.', '_', '-', and "
                "begin with a letter or digit."
            )
        if unknown := sorted(set(scopes) - set(SCOPES)):
            raise StackTrouble(f"SCOPES has {', '.join(unknown)}; there are: {' '.join(SCOPES)}")
        if not (0 < len(subject) <= 255 and subject.isprintable()):
            raise StackTrouble("SUBJECT must have 1 to 255 characters that can be shown.")
        if lifetime <= timedelta(0):
            raise StackTrouble("HOURS must be more than 0.")
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": subject,
            TENANT_CLAIM: tenant,
            "scope": " ".join(scopes),
            "iat": now,
            "exp": now + int(lifetime.total_seconds()),
            "jti": str(uuid.uuid4()),
        }
        return encode(claims, self.private_key, ALGORITHM, headers={"kid": self.kid})


def issuer_of(layout: Layout) -> LocalIssuer:
    """The issuer of this stack, its key made on first use and its key set written anew.

    Without its folder it gets another key, and all tokens so far are void.

    Raises:
        StackTrouble: the key's file can't be read; the text says what to do.
    """
    folder = layout.part("issuer")
    key_file, jwks_file = folder / "key.json", folder / "jwks.json"
    if not key_file.exists():
        _make_key(key_file)
    kid, private_key = _read_key(key_file)
    jwks = {"keys": [_public_jwk(kid, private_key)]}
    if read_json(jwks_file) != jwks:
        write_json(jwks_file, jwks)
    return LocalIssuer(
        issuer=ISSUER,
        audience=AUDIENCE,
        jwks_url=jwks_file.resolve().as_uri(),
        kid=kid,
        private_key=private_key,
    )


def print_token(
    layout: Layout, *, tenant: str, scopes: Collection[str], subject: str, lifetime: timedelta
) -> int:
    """Prints a token and nothing else.

    Returns:
        The exit code.
    """
    try:
        issuer = issuer_of(layout)
        print(issuer.token(tenant=tenant, scopes=scopes, subject=subject, lifetime=lifetime))
    except StackTrouble as trouble:
        print(f"error: {trouble}", file=sys.stderr)
        return 1
    return 0


def _make_key(file: Path) -> None:
    """Leaves a key there; of several that do so at once, the first one's stays."""
    new = file.with_name(f".{file.name}.{uuid.uuid4()}")
    jwk = ECAlgorithm.to_jwk(generate_private_key(SECP256R1()), as_dict=True)
    write_json(new, jwk | {"kid": str(uuid.uuid4())})
    with suppress(FileExistsError):
        os.link(new, file)
    new.unlink()


def _read_key(file: Path) -> tuple[str, EllipticCurvePrivateKey]:
    jwk = read_json(file)
    with suppress(InvalidKeyError, ValueError):
        key = ECAlgorithm.from_jwk(jwk)
        if isinstance(key, EllipticCurvePrivateKey) and isinstance(kid := jwk.get("kid"), str):
            return kid, key
    raise StackTrouble(
        f"{file} holds no key. Remove the folder {file.parent}: `make up` then makes another one."
    )


def _public_jwk(kid: str, private_key: EllipticCurvePrivateKey) -> dict[str, Any]:
    jwk = ECAlgorithm.to_jwk(private_key.public_key(), as_dict=True)
    return jwk | {"kid": kid, "alg": ALGORITHM, "use": "sig", "key_ops": ["verify"]}
