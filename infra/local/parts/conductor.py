"""Conductor, the real server, with its state in a SQLite file of the clone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infra.local.environments import ROOT
from infra.local.parts.part import answers
from infra.local.ports import LOOPBACK
from infra.local.processes import Launch, listens, make_surroundings, surroundings
from infra.local.trouble import PartFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.local.conductor_server import ConductorServer
    from infra.local.layout import Layout
    from infra.local.parts.part import Say

WORKBENCH_AUTHORIZATION = "CONDUCTOR_SECRET_WORKBENCH_AUTHORIZATION"
"""Gives `${workflow.secrets.WORKBENCH_AUTHORIZATION}`; without it the header is left out."""


@dataclass(frozen=True, kw_only=True)
class Conductor:
    """Boots in seconds once its boot cache is made, which the keeper does in idle time."""

    layout: Layout
    environment: Mapping[str, str]
    port: int
    server: ConductorServer
    workbench_token: str = field(default="", repr=False)
    """What the Workbench asks of it; empty: nothing."""
    name: str = "conductor"
    stop_signal: signal.Signals = signal.SIGTERM
    boot_seconds: float = 240
    passing_faults: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Its address; `/api` follows."""
        return f"http://{LOOPBACK}:{self.port}"

    def prepare(self, say: Say) -> None:
        """Fetches the server in a process of its own, which can be ended in the middle.

        Raises:
            PartFailed: it can't be fetched; the text says why.
        """
        folder = self.layout.part(self.name)
        # Java unpacks libraries there, which it takes away only where it ends by itself.
        shutil.rmtree(folder / "tmp", ignore_errors=True)
        make_surroundings(folder)
        if not self.server.jar.exists():
            self._fetch(say)
        fast = self.server.boot_cache.exists()
        say("booting" if fast else "booting (faster from the next time on)")

    def launch(self) -> Launch:
        """The server in a JVM of its own."""
        folder = self.layout.part(self.name)
        flags = (f"-XX:AOTCache={self.server.boot_cache}",)
        return Launch(
            command=tuple(self.server.command(folder=folder, port=self.port, flags=flags)),
            environment=surroundings(folder, self.environment) | self._secrets(),
            folder=folder,
        )

    def is_ready(self, pid: int) -> bool:
        """By its own health check."""
        return listens(pid, self.port) and answers(f"{self.url}/health")

    def _secrets(self) -> dict[str, str]:
        """Of these the workflows know the names; what they stand for is in no store of its."""
        if not self.workbench_token:
            return {}
        return {WORKBENCH_AUTHORIZATION: f"Bearer {self.workbench_token}"}

    def _fetch(self, say: Say) -> None:
        say("looking for the server")
        with subprocess.Popen(
            [sys.executable, "-m", "infra.local.conductor_server"],
            cwd=ROOT,
            env=os.environ | {"PIPELINE_RUNS_STACK": self.layout.marker},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as fetch:
            try:
                for line in fetch.stdout or ():
                    say(line.strip())
                said = fetch.stderr.read() if fetch.stderr else ""
            finally:
                fetch.terminate()
        if fetch.returncode:
            raise PartFailed(self.name, said.strip(), self.layout.log(self.name))
