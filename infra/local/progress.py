"""What `make up` shows while it works: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

    from rich.table import Table

LINE_SECONDS = 5
"""How often plain lines tell of something that goes on and on, such as a download."""
REDRAWS_PER_SECOND = 8


class Progress(Protocol):
    """Takes in what happens to whom; used as a context, from any thread."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def doing(self, who: str, what: str) -> None:
        """WHO is at WHAT now."""

    def done(self, who: str, what: str) -> None:
        """WHO is through; WHAT is how it ended well."""

    def failed(self, who: str, what: str) -> None:
        """WHO is through, and didn't end well."""


def make_progress(*, since: float) -> Progress:
    """The fitting one for standard output.

    Args:
        since: When the command began, by time.monotonic().
    """
    return LiveProgress(since=since) if sys.stdout.isatty() else PlainProgress(since=since)


@dataclass
class PlainProgress:
    """A line for each beginning and each end; one that goes on is told of now and then."""

    since: float
    _said: dict[str, tuple[str, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    def doing(self, who: str, what: str) -> None:
        """Says it unless the same kind of thing was just said."""
        kind, now = what.partition(",")[0], time.monotonic()
        with self._lock:
            said, at = self._said.get(who, ("", 0.0))
            if kind != said or now - at >= LINE_SECONDS:
                self._said[who] = (kind, now)
                self._say(who, f"{what} …")

    def done(self, who: str, what: str) -> None:
        """Says it."""
        with self._lock:
            self._say(who, what)

    def failed(self, who: str, what: str) -> None:
        """Says it."""
        with self._lock:
            self._say(who, what)

    def _say(self, who: str, what: str) -> None:
        print(f"{time.monotonic() - self.since:6.1f} s  {who:<11} {what}", flush=True)


@dataclass
class _Row:
    what: str
    began: float
    mark: str = ""
    took: float | None = None


class LiveProgress:
    """A line for each that moves until it is through."""

    def __init__(self, *, since: float) -> None:
        # Takes 60 ms, which the other commands needn't wait for.
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415
        from rich.spinner import Spinner  # noqa: PLC0415

        self._rows: dict[str, _Row] = {}
        self._since = since
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            console=Console(),
            get_renderable=self._table,
            refresh_per_second=REDRAWS_PER_SECOND,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def doing(self, who: str, what: str) -> None:
        """Shows it in WHO's row."""
        row = self._rows.setdefault(who, _Row(what, time.monotonic()))
        row.what, row.mark, row.took = what, "", None

    def done(self, who: str, what: str) -> None:
        """Shows it, with a tick and the time it took."""
        self._end(who, what, "[green]✓[/green]")

    def failed(self, who: str, what: str) -> None:
        """Shows it, with a cross."""
        self._end(who, what, "[red]✗[/red]")

    def _end(self, who: str, what: str, mark: str) -> None:
        row = self._rows.setdefault(who, _Row(what, time.monotonic()))
        row.what, row.mark, row.took = what, mark, time.monotonic() - row.began

    def _table(self) -> Table:
        from rich.markup import escape  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415

        table = Table.grid(padding=(0, 2))
        for who, row in list(self._rows.items()):
            took = time.monotonic() - row.began if row.took is None else row.took
            table.add_row(
                row.mark or self._spinner, who, escape(row.what), f"[dim]{took:.1f} s[/dim]"
            )
        return table
