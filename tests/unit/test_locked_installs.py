"""S20: whatever the project installs, its hash was known before."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from infra.local.environments import ROOT
from infra.locked import locks, packages_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCKS = locks()
OF_PROGRAMS = {"pip", "uv"}


def installers(source: str) -> Iterator[set[str]]:
    """The words of each function that has pip or uv install something."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            constants = (one.value for one in ast.walk(node) if isinstance(one, ast.Constant))
            words = {word for word in constants if isinstance(word, str)}
            if words & OF_PROGRAMS and words & {"install", "sync"}:
                yield words


def commands_of(makefile: str) -> list[str]:
    """Its lines, with those that go on joined."""
    return makefile.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("lock", LOCKS, ids=[lock.name for lock in LOCKS])
def test_s20_every_locked_line_has_a_hash_and_no_lock_names_an_index(lock: Path) -> None:
    text = lock.read_text()
    assert len(packages_of(text)) == text.count("==") - text.count("== '") > 0
    assert "://" not in text


def test_s20_every_install_checks_hashes() -> None:
    found = [
        words
        for file in sorted((ROOT / "infra").rglob("*.py"))
        for words in installers(file.read_text())
    ]
    assert len(found) == 2, "the installer, and all environments"
    for words in found:
        assert "--require-hashes" in words


def test_s20_what_runs_in_lambda_is_installed_with_hashes_checked() -> None:
    commands = [
        line
        for makefile in (ROOT / "Makefile", ROOT / "functions" / "Makefile")
        for line in commands_of(makefile.read_text())
        if re.search(r"\bpip3? .*install\b|\bpip3? .*sync\b", line)
    ]
    assert len(commands) == 1
    assert "--require-hashes" in commands[0]
    assert "requirements.txt" in commands[0]
