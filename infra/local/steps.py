"""Work that goes side by side, each piece after those it needs."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infra.local.trouble import Halted

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_AGAIN_SECONDS = 0.05
GIVE_UP_SECONDS = 2
"""How long a step that is told to give up is waited for: a call under way may take longer."""


@dataclass(frozen=True)
class Step:
    """One piece of work.

    Attributes:
        name: What others refer to it by.
        work: Does it; raises to stop everything.
        after: The names of the steps that have to be done before.
    """

    name: str
    work: Callable[[], None]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A step that raised."""

    step: str
    error: BaseException


@dataclass
class Halt:
    """Tells all steps to give up; they look here whenever they wait."""

    event: threading.Event = field(default_factory=threading.Event)

    def order(self) -> None:
        """From now on every `pause` and `check` raises."""
        self.event.set()

    def check(self) -> None:
        """Returns only if it wasn't ordered.

        Raises:
            Halted: it was.
        """
        if self.event.is_set():
            raise Halted

    def pause(self, seconds: float) -> None:
        """Waits.

        Raises:
            Halted: it was ordered, before or meanwhile.
        """
        if self.event.wait(seconds):
            raise Halted


def run_steps(steps: list[Step], halt: Halt) -> list[Failure]:
    """Runs all steps; after the first failure no further one is begun, and the others give up.

    The threads are daemons, so that an interrupted program never hangs on one of them.

    Returns:
        The steps that failed by themselves; nothing if all are done.
    """
    done = {step.name: threading.Event() for step in steps}
    failures: list[Failure] = []

    def run(step: Step) -> None:
        try:
            for name in step.after:
                while not done[name].wait(LOOK_AGAIN_SECONDS):
                    halt.check()
            halt.check()
            step.work()
            done[step.name].set()
        except Halted:
            return
        except BaseException as error:  # noqa: BLE001 - it is reported, whatever it is
            failures.append(Failure(step.name, error))
            halt.order()

    threads = [threading.Thread(target=run, args=[step], daemon=True) for step in steps]
    for thread in threads:
        thread.start()
    try:
        _wait_for(threads, lambda: bool(failures))
    except BaseException:
        halt.order()
        _wait_for(threads, lambda: True)
        raise
    return failures


def _wait_for(threads: list[threading.Thread], given_up: Callable[[], bool]) -> None:
    """Until all have ended; once it is given up, only for a moment more.

    By sleeping, not by join(): a signal has to reach the thread that waits.
    """
    end: float | None = None
    while any(thread.is_alive() for thread in threads):
        if end is None and given_up():
            end = time.monotonic() + GIVE_UP_SECONDS
        if end is not None and time.monotonic() >= end:
            return
        time.sleep(LOOK_AGAIN_SECONDS)
