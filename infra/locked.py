"""What the lock files hold, as audit and bill of materials see it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.local.environments import LOCKS, ROOT

if TYPE_CHECKING:
    from pathlib import Path

RUNTIME = ROOT / "functions" / "requirements.txt"
"""What runs in Lambda."""
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(?:\[.*?\])?==(?P<version>[^\s;]+)\s*(?:;(?P<marker>.*))?"
)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class LockUnclear(Exception):
    """A line of a lock isn't an exact version with its hashes; the text names it."""


@dataclass(frozen=True, slots=True, order=True)
class Locked:
    """A package in exactly one version."""

    name: str
    """As package indexes write it: lower case, with hyphens."""
    version: str
    hashes: tuple[str, ...]
    """SHA-256 of every file that may be installed, ascending."""
    marker: str = ""
    """Where it is installed; empty: everywhere."""


def locks() -> list[Path]:
    """All lock files of the project."""
    return [RUNTIME, *sorted(LOCKS.glob("*.txt"))]


def packages_of(lock: str) -> list[Locked]:
    """The packages in the text of a lock, ascending.

    Raises:
        LockUnclear: there is anything else in it, or a package without a hash.
    """
    joined = lock.replace("\\\n", " ")
    lines = (line.strip() for line in joined.splitlines())
    return sorted(_package_of(line) for line in lines if line and not line.startswith("#"))


def _package_of(line: str) -> Locked:
    requirement, *_ = line.split("--hash", 1)
    found = _REQUIREMENT.fullmatch(requirement.strip())
    hashes = tuple(sorted(_HASH.findall(line)))
    if found is None or not hashes or _HASH.sub("", line).strip() != requirement.strip():
        raise LockUnclear(f"Not an exact version with SHA-256 hashes: {line[:80]}")
    name = re.sub(r"[-_.]+", "-", found["name"]).lower()
    return Locked(name, found["version"], hashes, (found["marker"] or "").strip())
