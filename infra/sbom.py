"""Writes bills of materials from the locks: `make sbom`.

One for each lock, as CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/). The same lock gives the
same bytes: no time stands in it, and its serial number is made of what it holds.
"""

from __future__ import annotations

import json
import sys
import uuid
from typing import TYPE_CHECKING, Any

from infra.local.environments import ROOT
from infra.locked import RUNTIME, locks, packages_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from infra.locked import Locked

FOLDER = ROOT / ".local" / "sbom"
_NAMESPACE = uuid.UUID("341c868d-1123-45ee-9406-2d5aa0fce920")
"""Ours alone, drawn once."""


def bill_of(name: str, packages: Sequence[Locked]) -> dict[str, Any]:
    """The bill of materials of an environment."""
    components = [_component(package) for package in packages]
    content = json.dumps([name, components], sort_keys=True)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, content)}",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "pre-build"}],
            "component": {"type": "application", "bom-ref": name, "name": f"pipeline-runs-{name}"},
        },
        "components": components,
    }


def _component(package: Locked) -> dict[str, Any]:
    address = f"pkg:pypi/{package.name}@{package.version}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": address,
        "name": package.name,
        "version": package.version,
        "purl": address,
        "hashes": [{"alg": "SHA-256", "content": one} for one in package.hashes],
    }
    if package.marker:
        component["properties"] = [{"name": "pipeline-runs:marker", "value": package.marker}]
    return component


def name_of(lock: Path) -> str:
    """What the bill of a lock is called: `lambda` for what runs in Lambda."""
    return "lambda" if lock == RUNTIME else lock.stem


def write(folder: Path) -> list[Path]:
    """Writes every bill; returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for lock in locks():
        name = name_of(lock)
        file = folder / f"{name}.cdx.json"
        bill = bill_of(name, packages_of(lock.read_text()))
        file.write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n")
        files.append(file)
    return files


def main() -> int:
    """Writes them where `make sbom` says."""
    for file in write(FOLDER):
        print(file.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
