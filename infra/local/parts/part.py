"""What the supervisor has to know about a part."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    from infra.local.processes import Launch

    Say = Callable[[str], None]

ANSWER_SECONDS = 2


class Part(Protocol):
    """A server program of the stack, on a loopback port."""

    @property
    def name(self) -> str:
        """One word; also names its folder, its log and its <NAME>_PORT."""

    @property
    def port(self) -> int | None:
        """Where it listens; None for a part that doesn't."""

    @property
    def url(self) -> str:
        """What its clients are told."""

    @property
    def stop_signal(self) -> signal.Signals:
        """Asks it to end; SIGKILL for one that has nothing to save."""

    @property
    def boot_seconds(self) -> float:
        """How long it may take until it is ready."""

    @property
    def passing_faults(self) -> tuple[str, ...]:
        """What its log says when it should be started once more."""

    def prepare(self, say: Say) -> None:
        """Makes ready what the start needs; says what it does that takes long.

        Raises:
            StackTrouble: it can't.
        """

    def launch(self) -> Launch:
        """How it is started; always the same for the same settings and sources.

        Raises:
            StackTrouble: it can't be started on this machine.
        """

    def is_ready(self, pid: int) -> bool:
        """Whether the process PID itself, not a stranger on its port, serves clients."""


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    return status_of(url) == 200


def status_of(url: str, *, seconds: float = ANSWER_SECONDS) -> int | None:
    """The HTTP status of a GET, asked without any proxy; None where nobody answers in time."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=seconds) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return None
