"""Looks after the stack while it is up, in idle time: `python -m infra.local.keeper FOLDER`.

Logs: parts write theirs without end, and much of it when something is down. A log that has grown
too long keeps its newest part beside itself and goes on empty.

Conductor's boot cache: making it takes half a minute of processor time, which no start should wait
for; so it is made while the stack runs, by the lowest of priorities, and serves from then on.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from infra.local.conductor_server import ConductorServer
from infra.local.layout import Layout

if TYPE_CHECKING:
    from typing import NoReturn

SOURCE = Path(__file__)
LOOK_AGAIN_SECONDS = 5
LOG_BYTES = 16 * 1024 * 1024
KEPT_BYTES = 4 * 1024 * 1024
LOWEST_PRIORITY = 19


def keep(layout: Layout) -> NoReturn:
    """Goes on until it is ended."""
    _step_back()
    asked = False
    while True:
        for log in layout.logs.glob("*.log"):
            cap_log(log)
        if not asked and layout.stack_file.exists():
            asked = True
            threading.Thread(target=_make_boot_cache, daemon=True).start()
        time.sleep(LOOK_AGAIN_SECONDS)


def cap_log(log: Path) -> None:
    """Empties a log that is too long; its last lines stay in a file beside it.

    Its writers append, so they go on at the new end.
    """
    size = log.stat().st_size
    if size <= LOG_BYTES:
        return
    with log.open("rb") as file:
        file.seek(size - KEPT_BYTES)
        file.readline()
        log.with_suffix(".log.old").write_bytes(file.read())
    os.truncate(log, 0)


def _make_boot_cache() -> None:
    server = ConductorServer.in_cache()
    if server.jar.exists() and not server.boot_cache.exists():
        server.make_boot_cache()


def _step_back() -> None:
    """Runs only when nobody else wants the processor, and so do the processes it starts."""
    os.nice(LOWEST_PRIORITY)
    if hasattr(os, "sched_setscheduler"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


if __name__ == "__main__":
    keep(Layout(Path(sys.argv[1])))
