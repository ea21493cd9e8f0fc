"""Runs the tests over each mutant: `python -m mutation`, as `make mutants` does.

Each mutant is made in a copy of the project, so that nothing is changed where one works. The output
says which test caught it; one that survives, or whose text no longer stands in the code, fails the
whole.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from mutants import MUTANTS, Mutant

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT: Final = Path(__file__).parents[1]
COPIED: Final = (
    "functions",
    "infra",
    "locks",
    "tests",
    "workflows",
    "template.yaml",
    "pyproject.toml",
    "README.md",
    "Makefile",
)
SIDE_BY_SIDE: Final = 2
MUST_HAVE: Final = frozenset(range(1, 29))
LONGEST_SECONDS: Final = 180
FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
TESTS_FAILED: Final = 1
"""pytest's exit code."""


@dataclass(frozen=True)
class Verdict:
    """What the tests made of a mutant."""

    mutant: Mutant
    caught_by: str
    """Empty: it survived."""
    seconds: float
    trouble: str = ""


def main() -> int:
    """Tells of each mutant as it is done.

    Returns:
        0 if every one was caught, and every property from P1 to P28 has one.
    """
    chosen = _chosen()
    copies: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for number in range(SIDE_BY_SIDE):
            copies.put(_copy(Path(folder) / str(number)))
        print(
            f"{len(chosen)} mutants; first, their tests have to pass as the code stands", flush=True
        )
        every_test = sorted({test for mutant in chosen for test in mutant.tests})
        done = _pytest(every_test, Path(folder) / "0")
        if done.returncode:
            print(done.stdout[-3000:])
            return done.returncode
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            verdicts = []
            for verdict in pool.map(lambda mutant: _try(mutant, copies), chosen):
                verdicts.append(verdict)
                _tell(verdict, len(verdicts), len(chosen))
    caught = sum(bool(verdict.caught_by) for verdict in verdicts)
    print(f"\n{caught} of {len(chosen)} mutants caught")
    covered = {number for mutant in MUTANTS for number in mutant.properties}
    missing = sorted(MUST_HAVE - covered)
    if missing:
        print("No mutant for " + ", ".join(f"P{number}" for number in missing))
    return 0 if caught == len(chosen) and not missing else 1


def _chosen() -> list[Mutant]:
    parser = argparse.ArgumentParser(prog="python -m mutation", description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutants whose name has one of these")
    words = parser.parse_args().words
    return [one for one in MUTANTS if not words or any(word in one.name for word in words)]


def _copy(folder: Path) -> Path:
    """The project, with the environments of the original."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    (folder / ".local").mkdir()
    (folder / ".local" / "envs").symlink_to(ROOT / ".local" / "envs")
    return folder


def _try(mutant: Mutant, copies: SimpleQueue[Path]) -> Verdict:
    since = time.monotonic()
    copy = copies.get()
    path = copy / mutant.file
    sound = path.read_text()
    try:
        if mutant.old not in sound:
            return Verdict(mutant, "", 0, f"{mutant.file} no longer has the text to be replaced")
        path.write_text(sound.replace(mutant.old, mutant.new))
        caught_by, trouble = _run(mutant, copy)
        return Verdict(mutant, caught_by, time.monotonic() - since, trouble)
    finally:
        path.write_text(sound)
        copies.put(copy)


def _run(mutant: Mutant, copy: Path) -> tuple[str, str]:
    """The first test that fails, and what went wrong if it isn't the mutant's doing."""
    try:
        done = _pytest(mutant.tests, copy)
    except subprocess.TimeoutExpired:
        return "", f"its tests did not end within {LONGEST_SECONDS} s"
    failed = FAILED.search(done.stdout)
    if done.returncode == TESTS_FAILED and failed:
        return failed[1], ""
    if done.returncode == 0:
        return "", "all its tests pass"
    return "", f"pytest ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-500:]}"


def _pytest(tests: Iterable[str], copy: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", *tests],
        cwd=copy,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )


def _tell(verdict: Verdict, number: int, of: int) -> None:
    mutant = verdict.mutant
    guards = ", ".join(f"P{one}" for one in mutant.properties)
    mark = "caught  " if verdict.caught_by else "SURVIVED"
    print(f"{mark} {number:2}/{of} {guards:9} {mutant.name} ({verdict.seconds:.0f} s)", flush=True)
    print(f"            {verdict.caught_by or verdict.trouble}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
