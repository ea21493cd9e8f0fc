"""Registers the workflows with Conductor: `python -m infra.register [CONDUCTOR_URL]`.

CONDUCTOR_TOKEN in the environment is sent along as a bearer token.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows"
TIMEOUT_SECONDS = 30


def register(conductor_url: str, *, token: str = "") -> list[str]:
    """Writes all definitions to Conductor; harmless when they are there already.

    Args:
        conductor_url: Conductor's address, without `/api`.
        token: What lets us in; empty: everybody may.

    Returns:
        The names of the registered workflows.

    Raises:
        OSError: Conductor can't be reached or refused a definition.
    """
    tasks = json.loads((WORKFLOWS / "task_definitions.json").read_text())
    workflows = [json.loads(p.read_text()) for p in sorted(WORKFLOWS.glob("*_workflow.json"))]
    _send("POST", f"{conductor_url}/api/metadata/taskdefs", tasks, token)
    _send("PUT", f"{conductor_url}/api/metadata/workflow", workflows, token)
    return [workflow["name"] for workflow in workflows]


def _send(method: str, url: str, definitions: object, token: str) -> None:
    request = urllib.request.Request(  # noqa: S310  # the operator's own address
        url,
        json.dumps(definitions).encode(),
        {"Content-Type": "application/json"},
        method=method,
    )
    if token:  # Not to where it may be sent on to.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
        answer.read()


if __name__ == "__main__":
    url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("CONDUCTOR_URL", "")
    if not url:
        sys.exit("error: name Conductor: python -m infra.register CONDUCTOR_URL")
    given = os.environ.get("CONDUCTOR_TOKEN", "")
    print("Registered:", ", ".join(register(url.rstrip("/"), token=given)))
