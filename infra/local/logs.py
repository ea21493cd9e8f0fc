"""`make logs`: follows what the parts say."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from infra.local.layout import Layout

LOOK_AGAIN_SECONDS = 0.2
LAST_LINES = 10
LAST_BYTES = 16_384
COLOURS = (36, 33, 35, 32, 34, 31)


def follow(layout: Layout, part: str | None) -> int:
    """Prints the last lines of one log or of all, and then each new one, until interrupted.

    Args:
        layout: Where the logs lie.
        part: Whose log; None for all of them, each line with its part's name before it.

    Returns:
        The exit code: 1 when there is no such log.
    """
    there = sorted(path.stem for path in layout.logs.glob("*.log"))
    if not there or (part and part not in there):
        names = f"There are logs of {', '.join(there)}." if there else "`make up` starts the stack."
        print(f"error: no log of {part or 'any part'}. {names}", file=sys.stderr)
        return 1
    tails = [_Tail(layout.log(name)) for name in ([part] if part else there)]
    width = max(len(tail.path.stem) for tail in tails)
    try:
        while True:
            for number, tail in enumerate(tails):
                prefix = "" if part else _prefix(tail.path.stem, width, number)
                for line in tail.new_lines():
                    print(f"{prefix}{line}")
            sys.stdout.flush()
            time.sleep(LOOK_AGAIN_SECONDS)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # Whoever read this has had enough; nothing is left to say to them at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


@dataclass
class _Tail:
    """One log and how far it was read; at first its last lines."""

    path: Path
    position: int = -1
    _rest: bytes = field(default=b"")

    def new_lines(self) -> list[str]:
        """The complete lines that came since the last call."""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            first = self.position < 0
            if first:
                self.position = max(0, size - LAST_BYTES)
            elif size < self.position:
                self.position = 0  # The log was emptied because it had grown too long.
            file.seek(self.position)
            content = self._rest + file.read()
            self.position = file.tell()
        *lines, self._rest = content.split(b"\n")
        shown = lines[-LAST_LINES:] if first else lines
        return [line.decode(errors="replace") for line in shown]


def _prefix(name: str, width: int, number: int) -> str:
    padded = f"{name:<{width}} | "
    if not sys.stdout.isatty():
        return padded
    return f"\033[{COLOURS[number % len(COLOURS)]}m{padded}\033[0m"
