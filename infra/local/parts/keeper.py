"""The keeper: looks after logs and the boot cache while the stack is up."""

from __future__ import annotations

import hashlib
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.local import keeper
from infra.local.environments import CACHE, ROOT
from infra.local.processes import Launch, living, make_surroundings, surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.local.layout import Layout
    from infra.local.parts.part import Say


@dataclass(frozen=True, kw_only=True)
class Keeper:
    """A process without a port that nothing else depends on."""

    layout: Layout
    environment: Mapping[str, str]
    name: str = "keeper"
    port: None = None
    url: str = ""
    stop_signal: signal.Signals = signal.SIGKILL
    boot_seconds: float = 10
    passing_faults: tuple[str, ...] = ()

    def prepare(self, say: Say) -> None:
        """Makes its folders."""
        make_surroundings(self.layout.part(self.name))
        say("booting")

    def launch(self) -> Launch:
        """This interpreter, on the state folder."""
        folder = self.layout.part(self.name)
        cache = {"XDG_CACHE_HOME": str(CACHE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        return Launch(
            command=(sys.executable, "-m", "infra.local.keeper", str(self.layout.state)),
            environment=surroundings(folder, self.environment) | cache | {"PYTHONPATH": str(ROOT)},
            folder=folder,
            revision=hashlib.sha256(keeper.SOURCE.read_bytes()).hexdigest(),
        )

    def is_ready(self, pid: int) -> bool:
        """It lives."""
        return living(pid) is not None
