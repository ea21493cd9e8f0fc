"""Small files that several processes read while one writes them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE = 0o600


def write_json(path: Path, content: object) -> None:
    """Replaces the file whole, readable by its owner alone: a reader sees the old or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE), "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    new.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file; empty when there is no file or it holds anything else."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
