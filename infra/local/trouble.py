"""What goes wrong with the stack on one machine, told to the person who started it.

StackTrouble          the text says what is wrong and what to do
└── PartFailed        a part didn't come up; the text also names its log and quotes its end
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

QUOTED_LINES = 15
QUOTED_CHARACTERS = 300
"""Of each line: those of a function may be thousands long."""


class StackTrouble(Exception):
    """Something that a person has to know or to change; the text says what."""


class PartFailed(StackTrouble):
    """A part of the stack didn't start, or isn't there any more."""

    def __init__(self, name: str, why: str, log: Path, end_of_log: str = "") -> None:
        lines = end_of_log.strip().splitlines()[-QUOTED_LINES:]
        quote = "".join(f"\n    {line[:QUOTED_CHARACTERS]}" for line in lines)
        super().__init__(f"{name}: {why}\n  log: {log}{quote}")
        self.name = name


class Halted(Exception):
    """This piece of work was given up because another failed or the user stopped it all."""
