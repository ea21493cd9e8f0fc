"""`docs/properties.md` names what there is: every property and fault has tests that carry it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "properties.md").read_text()
NAMES = frozenset(
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
)
ROW = re.compile(r"^\| \*\*P(\d+)\*\* [^|]+\| `(\w+)` \| ([A-Z ]+) \|", re.MULTILINE)
ROWS = {int(number): (test, signs.split()) for number, test, signs in ROW.findall(DOC)}
FOLDERS = {"U": "unit", "H": "model", "R": "contract", "F": "faults", "E": "e2e"}


def carrying(mark: str, folder: str = "") -> list[str]:
    """The tests below a folder whose name has this mark."""
    return [
        name
        for path in (ROOT / "tests" / folder).rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
        if mark in name.removeprefix("test").split("_")
    ]


@pytest.mark.parametrize("number", range(1, 33))
def test_every_property_has_a_row_whose_test_is_there_and_carries_it(number: int) -> None:
    test, _ = ROWS[number]
    assert test in NAMES
    assert f"p{number}" in test.split("_")


@pytest.mark.parametrize("number", range(1, 33))
def test_the_evidence_that_a_row_claims_is_there(number: int) -> None:
    _, signs = ROWS[number]
    for sign, folder in FOLDERS.items():
        if sign in signs and sign != "H":  # The model's tests carry all of them.
            assert carrying(f"p{number}", folder), f"{folder} has no test of P{number}"
    assert ("M" in signs) is any(number in mutant.properties for mutant in MUTANTS)


@pytest.mark.parametrize("number", range(1, 49))
def test_every_fault_has_a_test_that_carries_it(number: int) -> None:
    assert carrying(f"f{number}")


def test_every_test_that_the_document_names_is_there() -> None:
    assert set(re.findall(r"`(test_\w+)`", DOC)) <= NAMES


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_takes_away_is_there(mutant: Mutant) -> None:
    assert mutant.old in (ROOT / mutant.file).read_text()
    assert all((ROOT / test).exists() for test in mutant.tests)
