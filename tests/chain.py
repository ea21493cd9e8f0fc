"""The deployed service and its scripted Workbench, for tests: what it is and how to look at it."""

from __future__ import annotations

import contextlib
import json
import signal
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psutil
import sqlalchemy as sa

from infra.local.deployment import Cloud
from infra.local.processes import family, marked, read_record, send
from infra.local.stack_file import read_stack
from infra.verify.report import Demand, Report, verify
from infra.verify.stack import facts_of
from local_stack import POLL_INTERVAL_SECONDS
from scripted_facts import ScriptedReader

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from infra.local.stack_file import Stack
    from local_stack import LocalStack
    from scripted_workbench import ScriptedWorkbench

PATIENCE_SECONDS = 60
LOOKS_PER_INTERVAL = 5
KILLED_SECONDS = 10


@dataclass(frozen=True)
class Chain:
    """The deployed service, its scripted Workbench, and ways to look at both."""

    workbench: ScriptedWorkbench
    api: httpx.Client
    database: sa.Engine
    local: LocalStack

    @property
    def stack(self) -> Stack:
        """As it is deployed now: names of functions and queues change with every deployment."""
        stack = read_stack(self.local.layout)
        assert stack is not None
        return stack

    def pipeline(self, mode: str = "BATCH") -> int:
        body = {
            "name": f"{mode} {uuid.uuid4()}",
            "mode": mode,
            "workflow_name": f"{mode.lower()}_pipeline_workflow",
        }
        answer = self.api.post("/pipeline", json=body)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def post(self, pipeline_id: int | None = None, **more: Any) -> httpx.Response:
        """POSTs a run; keyword arguments in capitals are headers, the others the body's."""
        headers = {k.replace("_", "-"): v for k, v in more.items() if k[0].isupper()}
        body = {
            "pipeline_id": pipeline_id or self.pipeline(),
            "input_path_prefix": "in/",
            "output_path_prefix": "out/",
        } | {k: v for k, v in more.items() if not k[0].isupper()}
        return self.api.post("/pipeline-run", json=body, headers=headers)

    def submitted(self, pipeline_id: int | None = None) -> int:
        """The id of a run that was POSTed and is SUBMITTED."""
        answer = self.post(pipeline_id)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def run(self, run_id: int) -> dict[str, Any]:
        answer = self.api.get(f"/pipeline-run/{run_id}")
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def history(self, run_id: int) -> list[str]:
        events = self.api.get(f"/pipeline-run/{run_id}/events").json()["items"]
        return [event["status"] for event in events]

    def wait(
        self,
        run_id: int,
        condition: Callable[[dict[str, Any]], bool],
        *,
        within_seconds: float = PATIENCE_SECONDS,
        by_schedule: bool = False,
    ) -> dict[str, Any]:
        """Looks at the run until the condition holds, and returns it.

        Meanwhile the database's clock is moved and the tick fired, so that intervals pass quickly;
        or with `by_schedule` only the real schedule acts.
        """
        until = time.monotonic() + within_seconds
        look = 0
        while not condition(run := self.run(run_id)):
            assert time.monotonic() < until, f"not within {within_seconds} s: {run}"
            if not by_schedule and look % LOOKS_PER_INTERVAL == 0:
                self.let_an_interval_pass()
            look += 1
            time.sleep(0.2)
        return run

    def wait_for_status(self, run_id: int, status: str, **how: Any) -> dict[str, Any]:
        return self.wait(run_id, lambda run: run["status"] == status, **how)

    def move_time(self, seconds: float) -> None:
        """Moves `runs_now()`."""
        move = 'UPDATE runs_clock SET "offset" = "offset" + make_interval(secs => :seconds)'
        with self.database.begin() as connection:
            connection.execute(sa.text(move), {"seconds": seconds})

    def let_an_interval_pass(self) -> None:
        """Moves `runs_now()` by the poll interval and has a sweep made."""
        self.move_time(POLL_INTERVAL_SECONDS)
        body = {"v": 1, "minute": datetime.now(UTC).isoformat(), "wave": 0, "shards": [0, 255]}
        event = {"Records": [{"messageId": "test", "body": json.dumps(body)}]}
        self.client("lambda").invoke(
            FunctionName=self.stack.tick_function_name, Payload=json.dumps(event)
        )

    def client(self, service: str) -> Any:
        """An AWS client of the stack's LocalStack."""
        return Cloud(self.stack.aws_endpoint_url, self.stack.aws_region).client(service)

    def up(self) -> None:
        """Brings the stack up, or mends it."""
        self.local.up(WORKBENCH_API_URL=self.workbench.url)

    def kill_functions(self, handler: str) -> int:
        """Kills the processes that run a handler, as a crash would; returns how many there were."""
        killed = 0
        for process in marked(self.local.layout.marker):
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[-2:] == ["awslambdaric", handler]:
                    process.kill()
                    killed += 1
        return killed

    def kill(self, part: str) -> None:
        """Ends a part and all that it has started at once, as a crash would; `up` mends it."""
        record = read_record(self.local.layout, part)
        assert record is not None
        assert record.process is not None
        members = family(record.process)
        send(members, signal.SIGKILL)
        # Until nothing of it is left: a process with threads still listens when it counts as dead.
        _, left = psutil.wait_procs(members, timeout=KILLED_SECONDS)
        assert left == []

    def verified(
        self, demand: Demand = Demand.NOTHING, *, well_since: datetime | None = None
    ) -> Report:
        """What the invariant checker says of all that has happened in this stack so far.

        Time is judged only if it is told since when all parts have been well.
        """
        reader = ScriptedReader(self.workbench)
        return verify(facts_of(self.stack, workbench=reader, well_since=well_since), demand=demand)
