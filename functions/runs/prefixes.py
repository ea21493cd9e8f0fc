"""Path prefixes in the user's storage: `s3://bucket/key…`, or relative to the configured bucket.

They travel as text through Conductor, which fills in `${…}`, to a Workbench that joins them with
other text. So what could mean something else there is refused here; and so is what this service's
own keys or the Workbench's could reach, but the caller shall not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple, Self
from urllib.parse import unquote

LONGEST: Final = 1_024
_BUCKET: Final = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<key>.*))?", re.DOTALL
)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\\]")
_NO_PLACE: Final = "must be s3://bucket/key or relative to the storage bucket"
_TENANT: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,255}\Z")
"""A tenant's name that is one segment of a key, however it is read."""
_TENANTS_PLACE: Final = "{tenant}"


class PrefixRefused(ValueError):
    """A prefix that can't be used; the text says why."""


class Location(NamedTuple):
    """Where objects lie."""

    bucket: str
    folder: str
    """What their keys begin with: it ends in a slash, or is empty for the whole bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageRules:
    """Which places in the user's storage a caller may name."""

    bucket: str
    """The one that relative prefixes are in; always allowed."""
    allowed_buckets: frozenset[str] = frozenset()
    """Further ones."""
    tenant_prefix: str = ""
    """Where a tenant's keys lie, such as `tenants/{tenant}/`, in every bucket; empty: anywhere."""

    def __post_init__(self) -> None:
        """Checks the rules themselves.

        Raises:
            PrefixRefused: a tenant's prefix that is no relative prefix, or is every tenant's.
        """
        if not self.tenant_prefix:
            return
        if _TENANTS_PLACE not in self.tenant_prefix:
            raise PrefixRefused(f"must contain {_TENANTS_PLACE}")
        if "://" in checked(self.tenant_prefix):
            raise PrefixRefused("must be without a bucket: it holds for each of them")

    @classmethod
    def from_settings(cls, *, bucket: str, allowed_buckets: str, tenant_prefix: str) -> Self:
        """The rules as variables tell them.

        Args:
            bucket: `STORAGE_BUCKET`.
            allowed_buckets: `ALLOWED_BUCKETS`: names with commas between them.
            tenant_prefix: `TENANT_PREFIX`.

        Raises:
            PrefixRefused: the tenant's prefix makes no sense; the text names the variable.
        """
        names = {name.strip() for name in allowed_buckets.split(",")} - {""}
        try:
            return cls(bucket=bucket, allowed_buckets=frozenset(names), tenant_prefix=tenant_prefix)
        except PrefixRefused as refusal:
            raise PrefixRefused(f"TENANT_PREFIX {refusal}") from None

    def refusal(self, prefix: str, tenant_id: str) -> str | None:
        """Why this tenant can't use the prefix, to follow a field's name; None: it can."""
        try:
            place = self.location(checked(prefix))
        except PrefixRefused as refusal:
            return str(refusal)
        if place.bucket not in {self.bucket, *self.allowed_buckets}:
            return f"must not be in the bucket {place.bucket!r}: this service may not use it"
        if not self.tenant_prefix:
            return None
        if not _TENANT.match(tenant_id):
            return "can't be used: the tenant's name in the token can't stand in a path"
        home = f"{self.tenant_prefix.rstrip('/')}/".replace(_TENANTS_PLACE, tenant_id)
        # With the slash of both: tenants/t1 doesn't cover tenants/t10.
        return None if place.folder.startswith(home) else f"must begin with {home!r} in its bucket"

    def location(self, prefix: str) -> Location:
        """Where the prefix leads, with or without a slash at its end.

        Raises:
            PrefixRefused: it begins with a scheme, and names no bucket.
        """
        bucket, key = self.bucket, prefix
        if "://" in prefix:
            bucket, key = _split(prefix)
        key = key.rstrip("/")
        return Location(bucket, f"{key}/" if key else "")


def checked(prefix: str) -> str:
    """The prefix as it is, if it can be used.

    Raises:
        PrefixRefused: it can't.
    """
    if not prefix or len(prefix) > LONGEST:
        raise PrefixRefused(f"must have 1 to {LONGEST} characters")
    if _UNSAFE.search(prefix):
        raise PrefixRefused("must not contain control characters or backslashes")
    if "${" in prefix:
        raise PrefixRefused("must not contain '${'")
    key = prefix
    if "://" in prefix:
        _, key = _split(prefix)
    elif _SCHEME.match(prefix):
        raise PrefixRefused(_NO_PLACE)
    elif prefix.startswith("/"):
        raise PrefixRefused("must not begin with '/'")
    read = _decoded(key)
    if any(segment in {".", ".."} for segment in read.replace("\\", "/").split("/")):
        raise PrefixRefused("must not contain '.' or '..' segments")
    if _UNSAFE.search(read) or "${" in read:
        raise PrefixRefused("must not contain control characters, backslashes or '${', encoded")
    if "//" in f"/{read}":
        raise PrefixRefused("must not contain '//'")
    return prefix


def _split(prefix: str) -> tuple[str, str]:
    """Bucket and key of one with a scheme."""
    parts = _BUCKET.fullmatch(prefix)
    if not parts:
        raise PrefixRefused(_NO_PLACE)
    return parts["bucket"], parts["key"] or ""


def _decoded(key: str) -> str:
    """The key as someone might read it who decodes it, however often."""
    while (plain := unquote(key)) != key:
        key = plain
    return key
