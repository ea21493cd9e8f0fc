"""Places in the user storage: `s3://bucket/key…`, or relative to the Workbench's bucket."""

from __future__ import annotations

from dataclasses import dataclass

MAX_LENGTH = 1024
SCHEME = "s3://"


class InvalidPrefix(ValueError):
    """A text names no place in the storage; the message ends a sentence about it."""


@dataclass(frozen=True)
class Prefix:
    """A place that objects lie below; `key` has no slash at its ends, "" is the whole bucket."""

    bucket: str
    key: str

    @property
    def folder(self) -> str:
        """What the key of everything below begins with."""
        return f"{self.key}/" if self.key else ""

    def key_of(self, name: str) -> str:
        """The key of the object NAME below this prefix."""
        return self.folder + name

    def uri_of(self, name: str) -> str:
        """The address of the object NAME below this prefix."""
        return f"{SCHEME}{self.bucket}/{self.key_of(name)}"

    def covers(self, other: Prefix) -> bool:
        """Whether OTHER is this place or lies below it."""
        return self.bucket == other.bucket and other.folder.startswith(self.folder)

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


def parse_prefix(text: str, *, default_bucket: str | None) -> Prefix:
    """Reads a prefix; slashes at its ends mean nothing.

    Raises:
        InvalidPrefix: It is empty, too long, of another scheme, steps out of its place by `..`,
            or is relative where there is no default bucket.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidPrefix(f"must not be longer than {MAX_LENGTH} characters")
    if any(ord(character) < ord(" ") for character in text):
        raise InvalidPrefix("must not contain control characters")
    bucket, key = _split(text, default_bucket)
    if any(segment in {".", ".."} for segment in key.split("/")):
        raise InvalidPrefix("must not contain the segments . or ..")
    return Prefix(bucket, key.strip("/"))


def _split(text: str, default_bucket: str | None) -> tuple[str, str]:
    if text.startswith(SCHEME):
        bucket, _, key = text.removeprefix(SCHEME).partition("/")
        if not bucket:
            raise InvalidPrefix("names no bucket: write s3://bucket/key")
        return bucket, key
    if "://" in text:
        raise InvalidPrefix("must be s3://bucket/key or relative")
    if not text.strip("/"):
        raise InvalidPrefix("must not be empty")
    if default_bucket is None:
        raise InvalidPrefix("is relative, and this Workbench has no STORAGE_BUCKET of its own")
    return default_bucket, text
