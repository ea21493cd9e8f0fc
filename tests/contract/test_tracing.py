"""With TRACING on, calls are seen in a trace, and go on as they do without."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scripted_workbench import Answer, ScriptedWorkbench, always

if TYPE_CHECKING:
    from collections.abc import Iterator

FUNCTIONS = Path(__file__).parents[2] / "functions"
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled={sampled}"
# X-Ray's SDK finds out at its import whether it is in Lambda: so a process of its own.
PROGRAM = """
import json, sys
from datetime import timedelta
from types import SimpleNamespace
from runs.tracing import traced
from runs.wiring import Wiring, using, wired

jobs = json.loads(sys.argv[2])

@traced
def handler(event, context):
    workbench = wired().workbench(sys.argv[1])
    asked = workbench.ask(jobs, within=timedelta(seconds=8))
    try:
        wired().conductor(sys.argv[1]).start(
            workflow_name="w", workflow_version=1, correlation_id="c", workflow_input={},
            timeout=timedelta(seconds=5))
    except Exception as error:
        print(type(error).__name__, file=sys.stderr)
    if event.get("fails"):
        raise ValueError("as it should")
    return {job: type(answer).__name__ for job, answer in asked.items()}

context = SimpleNamespace(aws_request_id="r", function_name="check", memory_limit_in_mb=1,
                          invoked_function_arn="a")
with using(Wiring({"STAGE": "test", "TRACING": "true"})):
    print(json.dumps(handler({}, context)))
    try:
        handler({"fails": True}, context)
    except ValueError:
        print(json.dumps("raised"))
"""


@pytest.fixture
def daemon() -> Iterator[socket.socket]:
    """Takes what X-Ray's daemon would."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(5)
        yield daemon


def traced_run(workbench: str, jobs: list[str], daemon: socket.socket, sampled: str) -> list[Any]:
    """What the program prints, in Lambda's surroundings."""
    port = daemon.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, workbench, json.dumps(jobs)],
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": str(FUNCTIONS),
            "LAMBDA_TASK_ROOT": str(FUNCTIONS),
            "AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{port}",
            "_X_AMZN_TRACE_ID": TRACE.format(sampled=sampled),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def segments(daemon: socket.socket, number: int) -> list[dict[str, Any]]:
    """So many, as they were sent: a header line, and JSON."""
    return [json.loads(daemon.recv(65_536).partition(b"\n")[2]) for _ in range(number)]


@pytest.mark.parametrize("sampled", ["0", "1"])
def test_jobs_that_are_asked_about_side_by_side_are_all_answered(
    daemon: socket.socket, sampled: str
) -> None:
    with ScriptedWorkbench(life=["RUNNING"]) as workbench:
        workbench.script(capabilities=[always(Answer(404))])
        jobs = [f"unknown-{number}" for number in range(20)]
        answered, raised = traced_run(workbench.url, jobs, daemon, sampled)
    assert len(answered) == 20
    assert raised == "raised"


def test_a_trace_shows_each_call_of_another_service_and_what_was_raised(
    daemon: socket.socket,
) -> None:
    with ScriptedWorkbench(life=["RUNNING"]) as workbench:
        traced_run(workbench.url, ["unknown-1", "unknown-2"], daemon, "1")
    told = segments(daemon, 6)
    well, failed = [one for one in told if one["name"] == "## handler"]
    calls = [one["name"] for one in told if one["parent_id"] == well["id"]]
    assert calls == ["Workbench.ask", "Conductor.start"]
    assert not well.get("fault")
    assert failed["fault"]
    assert failed["cause"]["exceptions"][0]["type"] == "ValueError"
    assert "unknown" not in json.dumps(told)  # What calls are about is no part of a trace.
