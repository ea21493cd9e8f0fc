"""Path prefixes in the user's storage: `s3://bucket/key…`, or relative to the configured bucket.

They travel as text through Conductor, which fills in `${…}`, to a Workbench that joins them with
other text. So what could mean something else there is refused here.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

LONGEST: Final = 1_024
_BUCKET: Final = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<key>.*))?", re.DOTALL
)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\\]")


class PrefixRefused(ValueError):
    """A prefix that can't be used; the text says why."""


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
        parts = _BUCKET.fullmatch(prefix)
        if not parts:
            raise PrefixRefused("must be s3://bucket/key or relative to the storage bucket")
        key = parts["key"] or ""
    elif _SCHEME.match(prefix):
        raise PrefixRefused("must be s3://bucket/key or relative to the storage bucket")
    elif prefix.startswith("/"):
        raise PrefixRefused("must not begin with '/'")
    if any(segment in {".", ".."} for segment in _decoded(key).split("/")):
        raise PrefixRefused("must not contain '.' or '..' segments")
    if "//" in f"/{key}":
        raise PrefixRefused("must not contain '//'")
    return prefix


def _decoded(key: str) -> str:
    """The key as someone might read it who decodes it, however often."""
    while (plain := unquote(key)) != key:
        key = plain
    return key.replace("\\", "/")
