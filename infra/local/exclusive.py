"""One command at a time changes the stack: a lock that ends with its holder, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOOK_AGAIN_SECONDS = 0.1


@contextmanager
def exclusive(
    path: Path, *, purpose: str, on_wait: Callable[[str], None], pause: Callable[[float], None]
) -> Iterator[None]:
    """Holds the lock file PATH; waits while another process does.

    Args:
        path: The lock file; it stays when the lock is given back.
        purpose: What others that have to wait are told.
        on_wait: Called once, with who holds the lock, when this has to wait.
        pause: Called with seconds between two looks; may raise to give up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        told = False
        while not _take(file.fileno()):
            if not told:
                on_wait(file.read().strip() or "another process")
                told = True
            pause(LOOK_AGAIN_SECONDS)
        file.seek(0)
        file.truncate()
        file.write(f"{purpose} (process {os.getpid()})")
        file.flush()
        yield


def patiently(seconds: float) -> None:
    """A pause that never gives up."""
    time.sleep(seconds)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
