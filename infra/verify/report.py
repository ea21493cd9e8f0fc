"""The judgement: every property over the facts, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from infra.verify.properties.table import PROPERTIES, Property

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.verify.facts import Facts

TESTS_ALONE: Final = "told by tests only"
NOBODY_WAIVED: Final[Mapping[int, str]] = MappingProxyType({})


class Demand(Enum):
    """Of which properties it is an error that there was nothing to judge them on."""

    NOTHING = "of none: after a single test only what is there can be judged"
    USUAL = "of those that any stack which has run something can be judged on"
    EVERYTHING = "of all: something of every kind has happened"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One property's.

    Attributes:
        of: The property.
        judged: How many runs, jobs, events, … it was judged on.
        violations: A sentence each.
        not_judged: Why it could not be judged; empty if it was.
        lacks: It was judged on nothing, and that is an error.
    """

    of: Property
    judged: int = 0
    violations: tuple[str, ...] = ()
    not_judged: str = ""
    lacks: bool = False

    @property
    def holds(self) -> bool:
        """Whether there is nothing to complain about."""
        return not self.violations and not self.lacks


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the checker has to say of a stack."""

    facts: Facts
    results: tuple[Result, ...]

    @property
    def holds(self) -> bool:
        """Whether every property does, as far as it could be judged."""
        return all(result.holds for result in self.results)

    @property
    def broken(self) -> list[str]:
        """Every complaint, its property's number before it: `assert not report.broken`."""
        complaints = []
        for result in self.results:
            name = f"P{result.of.number}"
            complaints += [f"{name}: {sentence}" for sentence in result.violations]
            if result.lacks:
                complaints.append(f"{name}: there were no {result.of.counts} to judge.")
        return complaints

    @property
    def judged(self) -> dict[int, int]:
        """On how many things each property was judged, by its number; to add up over tests."""
        return {result.of.number: result.judged for result in self.results}


def verify(
    facts: Facts,
    *,
    demand: Demand = Demand.NOTHING,
    waived: Mapping[int, str] = NOBODY_WAIVED,
) -> Report:
    """Judges every property.

    Args:
        facts: What was read of the stack.
        demand: Where zero judged is an error.
        waived: Why a property isn't judged this time, by its number: it can't hold in this story.
    """
    results = tuple(_result(one, facts, demand, waived) for one in PROPERTIES)
    return Report(facts=facts, results=results)


def _result(one: Property, facts: Facts, demand: Demand, waived: Mapping[int, str]) -> Result:
    if one.judge is None:
        return Result(of=one, not_judged=TESTS_ALONE)
    if one.number in waived:
        return Result(of=one, not_judged=f"waived: {waived[one.number]}")
    for need in one.needs:
        if not facts.has(need):
            return Result(of=one, not_judged=need.value)
    verdicts = [*one.judge(facts)]
    is_demanded = demand is Demand.EVERYTHING or (demand is Demand.USUAL and not one.rare)
    return Result(
        of=one,
        judged=len(verdicts),
        violations=tuple(sentence for verdict in verdicts for sentence in verdict),
        lacks=is_demanded and not verdicts,
    )
