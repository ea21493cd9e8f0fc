"""The user's storage in memory: `ports.Storage`, proven by the same suite as the real thing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from memory_database import Steps, stepped
from runs.errors import StorageRefused, StorageUnavailable
from runs.ports import StoredObject, StoredPage

if TYPE_CHECKING:
    from runs.prefixes import Location

MODIFIED_AT: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class MemoryStorage:
    """Buckets and what is in them.

    Attributes:
        steps: Where its calls can be made to fail.
        buckets: The objects' bytes, by key.
        forbidden: Buckets that nobody may look into.
        down: Nobody reaches it.
    """

    steps: Steps = field(default_factory=Steps)
    buckets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    down: bool = False

    def put(self, bucket: str, key: str, content: bytes = b"") -> None:
        self.buckets.setdefault(bucket, {})[key] = content

    @stepped
    def objects(self, place: Location, *, page_size: int, after: str, inline: bool) -> StoredPage:
        if self.down:
            raise StorageUnavailable("The user's storage can't be reached at the moment")
        if place.bucket not in self.buckets or place.bucket in self.forbidden:
            raise StorageRefused(f"There is no bucket {place.bucket!r} for us")
        content = self.buckets[place.bucket]
        keys = sorted(
            (key for key in content if key.startswith(place.folder) and key > after),
            key=str.encode,
        )
        page = keys[:page_size]
        return StoredPage(
            objects=[
                StoredObject(
                    bucket=place.bucket,
                    key=key,
                    name=key.removeprefix(place.folder),
                    size_bytes=len(content[key]),
                    modified_at=MODIFIED_AT,
                    url=f"memory://{place.bucket}/{key}#{'inline' if inline else 'attachment'}",
                )
                for key in page
                if not key.endswith("/")
            ],
            next_after=page[-1] if len(keys) > len(page) else None,
        )
