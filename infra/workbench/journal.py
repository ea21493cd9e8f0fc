"""The journal: one line of JSON for each call received, for tests and for the curious."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Journal:
    """A file that each call adds a line to; without a path it forgets."""

    def __init__(self, path: Path | None) -> None:
        self._file = None
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", buffering=1, encoding="utf-8")

    def note(self, **facts: Any) -> None:
        """Adds a line; it is in the file when this returns."""
        if self._file:
            self._file.write(json.dumps(facts) + "\n")

    def close(self) -> None:
        """Gives the file back."""
        if self._file:
            self._file.close()
