"""`docs/security.md` names what there is: every rule has tests that carry its number."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "security.md").read_text()
NAMES = frozenset(
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
)
ROWS = {
    int(number): re.findall(r"`(test_\w+)`", tests)
    for number, tests in re.findall(
        r"^\| \*\*S(\d+)\*\* [^|]+\| [^|]+\| ([^|]+) \|$", DOC, re.MULTILINE
    )
}


@pytest.mark.parametrize("number", range(1, 22))
def test_every_rule_has_a_row_whose_tests_are_there_and_carry_it(number: int) -> None:
    assert ROWS[number]
    for test in ROWS[number]:
        assert test in NAMES
        assert f"s{number}" in test.split("_")


def test_no_row_is_too_many() -> None:
    assert sorted(ROWS) == list(range(1, 22))


def test_every_test_that_the_document_names_is_there() -> None:
    assert set(re.findall(r"`(test_\w+)`", DOC)) <= NAMES
