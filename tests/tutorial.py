"""The tutorial as a program: its commands, and what it promises that they print.

A fenced `sh` block holds commands; the `text` block after it holds lines of their output, in their
order and abridged: other lines may stand between them. A line may be a part of a longer one, `…`
stands for anything, and one space for any number of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from infra.local.environments import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

TUTORIAL: Final = ROOT / "docs" / "tutorial.md"
_FENCED: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_END: Final = "-- the end of step {number} --"


@dataclass(frozen=True)
class Step:
    """One block of commands.

    Attributes:
        promised: Lines that their output has; none if nothing is said of it.
    """

    commands: str
    promised: tuple[str, ...] = ()


def steps_in(document: str) -> list[Step]:
    """All blocks of commands, in their order.

    Raises:
        ValueError: a block is of neither kind, or output is promised of no commands.
    """
    steps: list[Step] = []
    for kind, content in _FENCED.findall(document):
        if kind == "sh":
            steps.append(Step(content))
        elif kind == "text" and steps and not steps[-1].promised:
            steps[-1] = Step(steps[-1].commands, tuple(content.splitlines()))
        else:
            raise ValueError(f"A block of {kind or 'no kind'} follows no commands:\n{content}")
    return steps


def script_of(steps: Iterable[Step]) -> str:
    """One program of all commands, word for word, that says where the output of each step ends."""
    return "".join(
        f"{step.commands}echo '{_END.format(number=number)}'\n" for number, step in enumerate(steps)
    )


def outputs_of(output: str, count: int) -> Iterator[str]:
    """The output of each of so many steps; of those that weren't come to, nothing."""
    for number in range(count):
        of_this, _, output = output.partition(_END.format(number=number))
        yield of_this


def broken_promises(promised: Sequence[str], output: str) -> list[str]:
    """The lines that the output doesn't have where they should be."""
    broken = []
    lines = iter(output.splitlines())
    for promise in promised:
        looked_for = _pattern_of(promise)
        seen = []
        for line in lines:
            seen.append(line)
            if looked_for.search(line):
                break
        else:
            broken.append(promise)
            lines = iter(seen)
    return broken


def _pattern_of(promise: str) -> re.Pattern[str]:
    pieces = (r"\s+".join(map(re.escape, piece.split())) for piece in promise.split("…"))
    return re.compile(".*".join(pieces))
