"""`make lint`: every checker side by side, a line each, and in full what those say that fail."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping  # noqa: TC003 - a dataclass's field
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from infra.local.environments import ENVIRONMENTS, ROOT

PYTHON_SOURCES = ("benchmarks", "client/src", "functions", "infra", "tests")


@dataclass(frozen=True)
class Checker:
    """One program and what it looks at."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """How one checker ended."""

    name: str
    passed: bool
    seconds: float
    output: str


CHECKERS = (
    Checker("ruff", ("ruff", "check", "--quiet", ".")),
    Checker("format", ("ruff", "format", "--check", "--quiet", ".")),
    Checker("mypy", ("mypy", *PYTHON_SOURCES)),
    Checker("imports", ("lint-imports",), {"PYTHONPATH": "functions"}),
    Checker("dependencies", ("deptry", "functions")),
    Checker("template", ("cfn-lint", "template.yaml")),
)


def lint() -> bool:
    """Runs all checkers and prints what they found.

    Returns:
        Whether all are content.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # Each is told of as soon as it and those before it are through.
        findings = []
        for finding in pool.map(_run, CHECKERS):
            print(f"{'✓' if finding.passed else '✗'} {finding.name:<13} {finding.seconds:5.1f} s")
            findings.append(finding)
    failed = [finding for finding in findings if not finding.passed]
    for finding in failed:
        print(f"\n-- {finding.name} {'-' * (96 - len(finding.name))}\n{finding.output.strip()}")
    return not failed


def _run(checker: Checker) -> Finding:
    program, *arguments = checker.command
    began = time.monotonic()
    done = subprocess.run(
        [str(ENVIRONMENTS / "dev" / "bin" / program), *arguments],
        cwd=ROOT,
        env=os.environ | checker.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Finding(checker.name, done.returncode == 0, time.monotonic() - began, done.stdout)


if __name__ == "__main__":
    sys.exit(0 if lint() else 1)
