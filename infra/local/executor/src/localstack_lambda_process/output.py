"""What a function prints: read all the time, kept within bounds."""

from __future__ import annotations

import os
import selectors
import threading
from typing import IO, Final

# A process may print without end, and LocalStack keeps every line in memory.
KEPT_BYTES: Final = 128 * 1024
KEPT_LINES: Final = 2_000
# More than any pipe holds, so one read takes all that is in it.
READ_BYTES: Final = 1024 * 1024


class BoundedLog:
    """The first and the last half of what was written since it was last taken.

    Args:
        kept_bytes: The most that is kept.
        kept_lines: The most lines that are given out.
    """

    def __init__(self, *, kept_bytes: int = KEPT_BYTES, kept_lines: int = KEPT_LINES) -> None:
        self._half_bytes = kept_bytes // 2
        self._half_lines = kept_lines // 2
        self._lock = threading.Lock()
        self._first = bytearray()
        self._last = bytearray()
        self._left_out = 0

    def append(self, chunk: bytes) -> None:
        """Adds output; what no longer fits is dropped from the middle."""
        with self._lock:
            room = self._half_bytes - len(self._first)
            self._first += chunk[:room]
            self._last += chunk[room:]
            excess = max(0, len(self._last) - self._half_bytes)
            del self._last[:excess]
            self._left_out += excess

    def take(self) -> str:
        """What was written since the last call, as whole lines."""
        with self._lock:
            first, last, left_out = self._first, self._last, self._left_out
            self._first, self._last, self._left_out = bytearray(), bytearray(), 0
        gap = f"\n… {left_out} bytes left out …\n".encode() if left_out else b""
        lines = (first + gap + last).decode(errors="replace").split("\n")
        return "".join(f"{line}\n" for line in self._fewer(lines) if line)

    def _fewer(self, lines: list[str]) -> list[str]:
        half = self._half_lines
        left_out = len(lines) - 2 * half
        if left_out <= 0:
            return lines
        return [*lines[:half], f"… {left_out} lines left out …", *lines[-half:]]


class OutputReader:
    """Moves what a process prints into a log, as it comes, until all its writers are gone."""

    def __init__(self, pipe: IO[bytes], log: BoundedLog) -> None:
        os.set_blocking(pipe.fileno(), False)
        self._pipe = pipe
        self._log = log
        self._lock = threading.Lock()
        threading.Thread(target=self._follow, name="lambda-output", daemon=True).start()

    def read_now(self) -> bool:
        """Moves what is in the pipe at this moment; False at its end.

        An answer is sent after what was printed before it, so a call that follows the answer
        completes the invocation's log.
        """
        with self._lock:
            if self._pipe.closed:
                return False
            try:
                chunk = os.read(self._pipe.fileno(), READ_BYTES)
            except BlockingIOError:
                return True
            self._log.append(chunk)
            return bool(chunk)

    def _follow(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while selector.select() and self.read_now():
                pass
        with self._lock:
            self._pipe.close()
