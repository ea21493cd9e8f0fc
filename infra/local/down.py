"""`make down`: ends everything of this stack, and makes sure that nothing is left."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from infra.local.exclusive import exclusive, patiently
from infra.local.processes import end_families, forget, marked, read_records
from infra.local.strays import end_strays
from infra.local.supervisor import STOP_SECONDS

if TYPE_CHECKING:
    import psutil

    from infra.local.layout import Layout


def down(layout: Layout) -> int:
    """Stops the stack; what it keeps (runs, files, logs) stays.

    Returns:
        The exit code: 0 when no process of the stack is left.
    """
    began = time.monotonic()
    if not layout.state.exists():
        print("The stack is down already.")
        return 0
    with exclusive(layout.lock_file, purpose="make down", on_wait=_wait, pause=patiently):
        layout.stack_file.unlink(missing_ok=True)
        left, ended = _end_all(layout)
    if left:
        names = ", ".join(f"{process.name()} ({process.pid})" for process in left)
        print(f"error: these processes can't be ended: {names}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - began
    print(f"The stack is down ({seconds:.1f} s)." if ended else "The stack is down already.")
    return 0


def _end_all(layout: Layout) -> tuple[list[psutil.Process], bool]:
    """Ends every part, and then what else carries the mark.

    Returns:
        The processes that live on, and whether there were any.
    """
    records = read_records(layout)
    roots = [(process, record.stop_signal) for record in records if (process := record.process)]
    left = end_families(roots, grace_seconds=STOP_SECONDS)
    for record in records:
        forget(layout, record.part)
    strays = marked(layout.marker)
    left += [process for process in end_strays(layout) if process not in left]
    return left, bool(roots or strays)


def _wait(holder: str) -> None:
    print(f"Waiting for {holder} …", file=sys.stderr, flush=True)
