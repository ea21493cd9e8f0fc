"""What a rule is, how it is judged, and what comes of it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from infra.conformance.trial import Trial


class Level(StrEnum):
    """How much depends on a rule (RFC 2119)."""

    MUST = "MUST"
    SHOULD = "SHOULD"


class Verdict(StrEnum):
    """What was seen of a rule."""

    KEPT = "kept"
    BROKEN = "broken"
    NOT_SEEN = "not seen"


class Broken(Exception):
    """The Workbench did something else than the rule asks; the text says what."""


class NotSeen(Exception):
    """It can't be judged, since what it needs didn't happen; the text says what is missing."""


@dataclass(frozen=True)
class Rule:
    """One thing that the contract asks for.

    Attributes:
        name: What it is called in the report.
        asks: The contract's sentence.
        otherwise: What becomes of runs while it is broken.
        judge: Returns a remark, or nothing; raises Broken or NotSeen.
    """

    name: str
    level: Level
    asks: str
    otherwise: str
    judge: Callable[[Trial], str]


@dataclass(frozen=True)
class Finding:
    """A rule and what was seen of it; `remark` says more, and may be empty."""

    rule: Rule
    verdict: Verdict
    remark: str

    @property
    def fails(self) -> bool:
        """Whether runs can't rely on this Workbench."""
        return self.verdict is Verdict.BROKEN and self.rule.level is Level.MUST


def rule(level: Level, otherwise: str) -> Callable[[Callable[[Trial], str]], Rule]:
    """Makes a rule of the function that judges it: named like it, asking what its docstring says.

    Args:
        level: How much depends on it.
        otherwise: What becomes of runs while it is broken.
    """

    def made(judge: Callable[[Trial], str]) -> Rule:
        asks = " ".join((inspect.getdoc(judge) or "").split())
        return Rule(judge.__name__.replace("_", "-"), level, asks, otherwise, judge)

    return made


def judged(trial: Trial, rules: Iterable[Rule]) -> Iterator[Finding]:
    """Judges the rules in their order, each as it is asked for."""
    for rule in rules:
        try:
            yield Finding(rule, Verdict.KEPT, rule.judge(trial))
        except Broken as error:
            yield Finding(rule, Verdict.BROKEN, str(error))
        except NotSeen as error:
            yield Finding(rule, Verdict.NOT_SEEN, str(error))
