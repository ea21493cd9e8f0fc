"""A run while it goes on: a bar on a terminal, plain lines elsewhere; both on standard error."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline_runs.cli.screens import age_text, duration_text, foreign, status_text
from pipeline_runs.errors import (
    ApiUnreachable,
    LimitReached,
    ServiceUnavailable,
    WaitTimedOut,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from rich.console import Console, RenderableType

    from pipeline_runs.cli.session import Session
    from pipeline_runs.models import PipelineRun

LOOK_SECONDS: Final = 5.0
"""Between two looks at a run: its progress changes with the service's checks alone."""
LONGEST_OUTAGE_SECONDS: Final = 300
"""Without an answer, a wait goes on for so long."""
REDRAWS_PER_SECOND: Final = 8
BAR_WIDTH: Final = 32


class Screen(Protocol):
    """Shows a run as it is now."""

    def show(self, run: PipelineRun) -> None:
        """Takes in how it is."""


def watched(session: Session, run: PipelineRun, *, timeout_seconds: float | None) -> PipelineRun:
    """The run once it has ended; shown meanwhile.

    An API that is away for some minutes ends no wait.

    Raises:
        WaitTimedOut: the time is over; the run goes on.
        ApiUnreachable, LimitReached, ServiceUnavailable: for so long.
    """
    clock, pause = session.outside.surroundings.clock, session.outside.surroundings.pause
    began = heard = clock()
    away = False
    with screen(session.aside, session.outside.now) as shown:
        shown.show(run)
        while not run.has_ended:
            left = None if timeout_seconds is None else timeout_seconds - (clock() - began)
            try:
                for one in _looks(session, run, left):
                    run, heard, away = one, clock(), False
                    shown.show(run)
            except (ApiUnreachable, LimitReached, ServiceUnavailable) as error:
                if clock() - heard > LONGEST_OUTAGE_SECONDS:
                    raise
                if not away:
                    away = True
                    session.aside.print(foreign(f"{error}; trying on …", style="yellow"))
                pause(LOOK_SECONDS)
    return run


def _looks(session: Session, run: PipelineRun, left: float | None) -> Iterator[PipelineRun]:
    if left is not None and left <= 0:
        raise WaitTimedOut(run)
    return session.client.watch(run.id, timeout_seconds=left, look_seconds=LOOK_SECONDS)


@contextmanager
def screen(console: Console, now: Callable[[], datetime]) -> Iterator[Screen]:
    """What fits the console."""
    if not console.is_terminal:
        yield Lines(console)
        return
    moving = Bar(console, now)
    live = Live(
        console=console,
        get_renderable=moving.view,
        refresh_per_second=REDRAWS_PER_SECOND,
        transient=True,
    )
    with live:
        yield moving


class History:
    """Prints each status as it is entered."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._version = 0

    def note(self, run: PipelineRun) -> None:
        """Prints the status if it is a new one."""
        if run.version <= self._version:
            return
        self._version = run.version
        after = duration_text((run.updated_at - run.created_at).total_seconds())
        self.console.print(Text.assemble((f"{after:>12}", "dim"), "  ", status_text(run.status)))


class Lines:
    """A line for each status and for each progress."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._history = History(console)
        self._progress: tuple[int, int] | None = None

    def show(self, run: PipelineRun) -> None:
        """See `Screen`."""
        self._history.note(run)
        seen = run.observation.progress
        progress = (seen.done, seen.total) if seen else None
        if progress and progress != self._progress and not run.has_ended:
            self._console.print(f"{'':>12}  {progress[0]} of {progress[1]} objects")
        self._progress = progress


class Bar:
    """The history, and below it how far the job is and how old that news is."""

    def __init__(self, console: Console, now: Callable[[], datetime]) -> None:
        self._history = History(console)
        self._now = now
        self._run: PipelineRun | None = None
        self._spinner = Spinner("dots", style="dim")

    def show(self, run: PipelineRun) -> None:
        """See `Screen`."""
        self._run = run
        self._history.note(run)

    def view(self) -> RenderableType:
        """What stands below the history now."""
        run = self._run
        if run is None or run.has_ended:
            return Text()
        seen = run.observation
        line = Table.grid(padding=(0, 1))
        taken = duration_text((self._now() - run.created_at).total_seconds())
        cells: list[RenderableType] = [Text(f"{taken:>12}", style="dim"), self._spinner]
        if seen.progress:
            done, total = seen.progress.done, seen.progress.total
            bar = ProgressBar(total=max(total, 1), completed=done, width=BAR_WIDTH)
            cells += [bar, Text(f"{done}/{total}")]
        cells.append(Text(_age_of_news(run, self._now()), style="dim"))
        line.add_row(*cells)
        if not seen.last_error:
            return line
        return Group(line, foreign(f"{'':>12}  {seen.last_error}", style="yellow"))


def _age_of_news(run: PipelineRun, now: datetime) -> str:
    if run.cancel_requested_at is not None:
        return "being cancelled"
    checked = run.observation.last_checked_at
    return f"checked {age_text(checked, now)}" if checked else "waiting for the first check"
