"""Registers the workflows with Conductor: `python -m infra.register [CONDUCTOR_URL]`."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows"
TIMEOUT_SECONDS = 30


def register(conductor_url: str) -> list[str]:
    """Writes all definitions to Conductor; harmless when they are there already.

    Args:
        conductor_url: Conductor's address, without `/api`.

    Returns:
        The names of the registered workflows.

    Raises:
        OSError: Conductor can't be reached or refused a definition.
    """
    tasks = json.loads((WORKFLOWS / "task_definitions.json").read_text())
    workflows = [json.loads(p.read_text()) for p in sorted(WORKFLOWS.glob("*_workflow.json"))]
    _send("POST", f"{conductor_url}/api/metadata/taskdefs", tasks)
    _send("PUT", f"{conductor_url}/api/metadata/workflow", workflows)
    return [workflow["name"] for workflow in workflows]


def _send(method: str, url: str, definitions: object) -> None:
    request = urllib.request.Request(  # noqa: S310  # the operator's own address
        url,
        json.dumps(definitions).encode(),
        {"Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
        answer.read()


if __name__ == "__main__":
    url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("CONDUCTOR_URL", "")
    if not url:
        sys.exit("error: name Conductor: python -m infra.register CONDUCTOR_URL")
    print("Registered:", ", ".join(register(url.rstrip("/"))))
