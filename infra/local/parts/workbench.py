"""The reference Workbench, from this clone's sources."""

from __future__ import annotations

import hashlib
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infra.local.environments import ROOT, python_of
from infra.local.layout import WORKBENCH
from infra.local.parts.part import answers
from infra.local.ports import LOOPBACK
from infra.local.processes import Launch, listens, make_surroundings, surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from infra.local.layout import Layout
    from infra.local.parts.part import Say


@dataclass(frozen=True, kw_only=True)
class StorageAccess:
    """How the Workbench reaches the user storage."""

    endpoint_url: str
    bucket: str
    region: str
    access_key_id: str
    secret_access_key: str


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """Runs jobs on what lies in the user storage; takes up unfinished ones when it starts."""

    layout: Layout
    environment: Mapping[str, str]
    port: int
    storage: StorageAccess
    token: str = field(default="", repr=False)
    """What callers must have; empty lets everybody in."""
    name: str = "workbench"
    stop_signal: signal.Signals = signal.SIGTERM
    boot_seconds: float = 60
    passing_faults: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def journal(self) -> Path:
        """Where it notes each call, a line of JSON each."""
        return self._folder / "journal.jsonl"

    def prepare(self, say: Say) -> None:
        """Makes its folders."""
        make_surroundings(self._folder)
        say("booting")

    def launch(self) -> Launch:
        """A new start follows a change of its sources."""
        return Launch(
            command=(str(python_of("workbench")), "-m", "infra.workbench"),
            environment=surroundings(self._folder, self.environment)
            | {
                "PYTHONPATH": str(ROOT),
                "PYTHONPYCACHEPREFIX": str(self._folder / "pycache"),
                "WORKBENCH_HOST": LOOPBACK,
                "WORKBENCH_PORT": str(self.port),
                "WORKBENCH_DATA_PATH": str(self._folder / "data"),
                "WORKBENCH_JOURNAL_PATH": str(self.journal),
                "WORKBENCH_TOKEN": self.token,
                "STORAGE_ENDPOINT_URL": self.storage.endpoint_url,
                "STORAGE_BUCKET": self.storage.bucket,
                "AWS_ACCESS_KEY_ID": self.storage.access_key_id,
                "AWS_SECRET_ACCESS_KEY": self.storage.secret_access_key,
                "AWS_DEFAULT_REGION": self.storage.region,
            },
            folder=self._folder,
            revision=_revision(),
        )

    def is_ready(self, pid: int) -> bool:
        """By its own health check."""
        return listens(pid, self.port) and answers(f"{self.url}/health")

    @property
    def _folder(self) -> Path:
        return self.layout.part(self.name)


def _revision() -> str:
    sources = sorted(path for path in WORKBENCH.rglob("*") if path.suffix in {".py", ".css"})
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
