"""A stack for tests, in a folder of its own, beside whatever stack a developer has running."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from infra.local.environments import ROOT, python_of
from infra.local.exclusive import exclusive, patiently
from infra.local.external import VARIABLES
from infra.local.layout import Layout
from infra.local.plan import SERVERS
from infra.local.ports import variable_of
from infra.local.stack_file import Stack, read_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_INTERVAL_SECONDS = 10
VERB_SECONDS = 600


@dataclass(frozen=True)
class LocalStack:
    """A stack in a folder of its own, and the verbs that `make` has for it."""

    layout: Layout

    def up(self, **environment: str) -> Stack:
        """Brings it up.

        Args:
            environment: Set for this call, beside the environment of the tests.
        """
        quickly = {"POLL_INTERVAL_SECONDS": str(POLL_INTERVAL_SECONDS)}
        done = self.run("up", **(quickly | environment))
        assert done.returncode == 0, done.stdout + done.stderr
        stack = read_stack(self.layout)
        assert stack is not None
        return stack

    def down(self) -> None:
        """Stops it."""
        done = self.run("down")
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, verb: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Calls a verb as `make` does, with no part or port given from outside."""
        return subprocess.run(
            self._command(verb),
            cwd=ROOT,
            env=self.environment() | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=VERB_SECONDS,
            check=False,
        )

    def begin(self, verb: str) -> subprocess.Popen[str]:
        """The same, not waited for."""
        return subprocess.Popen(
            self._command(verb),
            cwd=ROOT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def environment(self) -> dict[str, str]:
        """The tests' own, but for what would set parts and ports from outside."""
        ours = {*VARIABLES.values(), *map(variable_of, SERVERS)}
        everything = os.environ.items()
        inherited = {name: value for name, value in everything if name not in ours}
        return inherited | {"PIPELINE_RUNS_LOCAL": str(self.layout.state)}

    def _command(self, verb: str) -> list[str]:
        return [str(python_of("stack")), "-m", "infra.local", verb]


def api_of(stack: Stack) -> httpx.Client:
    """Its API, called as the tenant `default`, by as many at once as there may be."""
    return httpx.Client(
        base_url=stack.api_url,
        headers={"Authorization": f"Bearer {stack.api_token}"},
        timeout=40,
        trust_env=False,
        limits=httpx.Limits(max_connections=None),
    )


@contextmanager
def fresh_local_stack(name: str) -> Iterator[LocalStack]:
    """A stack that has never run, below `.local`; stopped at the end, its logs are kept."""
    layout = Layout(ROOT / ".local" / name)
    lock = layout.state.with_suffix(".lock")
    with exclusive(lock, purpose="tests", on_wait=lambda _: None, pause=patiently):
        local_stack = LocalStack(layout)
        local_stack.down()
        shutil.rmtree(layout.state, ignore_errors=True)
        try:
            yield local_stack
        finally:
            local_stack.down()
