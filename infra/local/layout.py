"""Where the stack keeps what: one folder of state, inside the clone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.local.environments import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TEMPLATE = ROOT / "template.yaml"
FUNCTIONS = ROOT / "functions"
WORKBENCH = ROOT / "infra" / "workbench"


@dataclass(frozen=True)
class Layout:
    """The places below one folder of state; two folders are two stacks."""

    state: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Layout:
        """PIPELINE_RUNS_LOCAL, from the project's root, or `.local`."""
        return cls((ROOT / (environment.get("PIPELINE_RUNS_LOCAL") or ".local")).resolve())

    @property
    def marker(self) -> str:
        """What every process of this stack carries in its environment."""
        return str(self.state)

    @property
    def stack_file(self) -> Path:
        """Tells other programs what runs where; there while the stack is up."""
        return self.state / "stack.json"

    @property
    def ports_file(self) -> Path:
        """The ports chosen last time, so that addresses stay."""
        return self.state / "ports.json"

    @property
    def keys_file(self) -> Path:
        """Generated passwords and keys."""
        return self.state / "keys.json"

    @property
    def lock_file(self) -> Path:
        """Held by the one command that changes the stack."""
        return self.state / "lock"

    @property
    def logs(self) -> Path:
        """One log file per part."""
        return self.state / "logs"

    @property
    def processes(self) -> Path:
        """One file per part that was started."""
        return self.state / "processes"

    @property
    def storage(self) -> Path:
        """Buckets of the user storage, a folder each."""
        return self.state / "storage"

    def log(self, part: str) -> Path:
        """The log of a part."""
        return self.logs / f"{part}.log"

    def part(self, part: str) -> Path:
        """What a part keeps over restarts, its home and its temporary files."""
        return self.state / part
