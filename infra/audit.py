"""Asks pip-audit whether anything in the locks has a known vulnerability: `make audit`.

Exits with 0 if every locked package was judged and none is vulnerable, with 1 if one is, and with 2
if that can't be told: the source of advisories didn't answer, or not for all. pip-audit itself ends
with 0 for what its source doesn't know, so what it says is held against what it was asked.

Advisories that don't concern us stand in `locks/ignored-advisories.toml`, each with its reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.local.environments import CACHE, ENVIRONMENTS, LOCKS
from infra.locked import LockUnclear, locks, packages_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from infra.locked import Locked

CLEAN, VULNERABLE, UNKNOWN = 0, 1, 2
IGNORED = LOCKS / "ignored-advisories.toml"
PIP_AUDIT = ENVIRONMENTS / "audit" / "bin" / "pip-audit"
LONGEST_SECONDS = 600
SHOWN = 10


class IgnoredUnclear(Exception):
    """The file of ignored advisories can't be read; the text says what to write."""


@dataclass(frozen=True, slots=True)
class Advisory:
    """A known vulnerability of a locked package."""

    package: str
    """With its version."""
    ids: tuple[str, ...]
    """Its own first, then those that others gave it."""
    fixed_in: tuple[str, ...]


@dataclass(slots=True)
class Findings:
    """What was found out about the packages asked for."""

    judged: set[tuple[str, str]] = field(default_factory=set)
    """Names and versions that the source knows."""
    advisories: list[Advisory] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    """What pip-audit said where it gave no answer."""


def audit(packages: Sequence[Locked], program: Path) -> Findings:
    """Has pip-audit judge packages, each once, whatever platform it is locked for."""
    findings = Findings()
    for batch in _batches(packages):
        _take_in(findings, *_ask(batch, program))
    return findings


def _batches(packages: Iterable[Locked]) -> list[list[Locked]]:
    """As few as possible with no name twice, which pip-audit refuses."""
    versions: dict[str, dict[str, Locked]] = defaultdict(dict)
    for package in packages:
        versions[package.name].setdefault(package.version, package)
    batches: list[list[Locked]] = []
    for of_one_name in versions.values():
        for number, package in enumerate(of_one_name.values()):
            if number == len(batches):
                batches.append([])
            batches[number].append(package)
    return batches


def _ask(batch: Sequence[Locked], program: Path) -> tuple[str, str]:
    """Returns what pip-audit answers, and what it says beside it."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "requirements.txt"
        # Without markers: it would leave out what isn't for this Python.
        asked.write_text("".join(map(_line, batch)))
        options = ["--require-hashes", "--disable-pip", "--format=json", "--progress-spinner=off"]
        where = ["--cache-dir", str(CACHE / "pip-audit"), "--requirement", str(asked)]
        try:
            done = subprocess.run(
                [str(program), *options, *where],
                capture_output=True,
                text=True,
                check=False,
                timeout=LONGEST_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return "", f"It gave no answer within {LONGEST_SECONDS} s."
    return done.stdout, done.stderr


def _line(package: Locked) -> str:
    hashes = " ".join(f"--hash=sha256:{one}" for one in package.hashes)
    return f"{package.name}=={package.version} {hashes}\n"


def _take_in(findings: Findings, answer: str, said: str) -> None:
    try:
        dependencies = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = said.strip().splitlines()[-1:] or ["It said nothing."]
        findings.troubles += last
        return
    for dependency in dependencies:
        if "skip_reason" in dependency:
            findings.troubles.append(str(dependency["skip_reason"]))
            continue
        name, version = dependency["name"], dependency["version"]
        findings.judged.add((name, version))
        findings.advisories += [_advisory(name, version, told) for told in dependency["vulns"]]


def _advisory(name: str, version: str, told: Mapping[str, Any]) -> Advisory:
    ids = (told["id"], *told.get("aliases", ()))
    return Advisory(f"{name} {version}", ids, tuple(told.get("fix_versions", ())))


def ignored_in(text: str) -> dict[str, str]:
    """The reasons by id.

    Raises:
        IgnoredUnclear: an advisory has no reason, or this is no TOML.
    """
    try:
        reasons = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise IgnoredUnclear(f'Write "GHSA-…" = "reason" on each line: {error}') from error
    for advisory, reason in reasons.items():
        if not isinstance(reason, str) or not reason.strip():
            raise IgnoredUnclear(f"Say why {advisory} doesn't concern us.")
    return reasons


def verdict(packages: Sequence[Locked], findings: Findings, ignored: Mapping[str, str]) -> int:
    """Says what was found; returns the exit code."""
    asked = {(package.name, package.version) for package in packages}
    missing = sorted(asked - findings.judged)
    standing = [one for one in findings.advisories if not ignored.keys() & set(one.ids)]
    for one in standing:
        fixed = " or ".join(one.fixed_in) or "no version yet"
        print(f"VULNERABLE  {one.package}: {', '.join(one.ids)}; fixed in {fixed}")
    for one in findings.advisories:
        for name in ignored.keys() & set(one.ids):
            print(f"ignored     {one.package}: {name}: {ignored[name]}")
    if not missing:
        met = {name for one in findings.advisories for name in one.ids}
        for name in sorted(ignored.keys() - met):
            print(f"unneeded    {name}: nothing has it any more; take it out of {IGNORED.name}")
    else:
        _say_what_is_missing(missing, asked, findings.troubles)
    if standing:
        return VULNERABLE
    if missing:
        return UNKNOWN
    print(f"No known vulnerability in {len(asked)} locked packages.")
    return CLEAN


def _say_what_is_missing(
    missing: Sequence[tuple[str, str]], asked: set[tuple[str, str]], troubles: Sequence[str]
) -> None:
    names = ", ".join(f"{name} {version}" for name, version in missing[:SHOWN])
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    how_far = "none" if len(missing) == len(asked) else f"only {len(asked) - len(missing)}"
    print(
        f"NOT AUDITED {names}{more}\n"
        f"The source of advisories answered for {how_far} of {len(asked)} locked packages, so "
        "nothing is proven.\n"
        "Try again where the package index can be reached (or set HTTPS_PROXY). pip-audit said:"
    )
    for trouble in list(dict.fromkeys(troubles))[:SHOWN]:
        print(f"  {trouble[:200]}")


def main(program: Path = PIP_AUDIT, ignored: Path = IGNORED) -> int:
    """Judges all locks.

    Args:
        program: pip-audit.
        ignored: the file of ignored advisories.
    """
    try:
        packages = [package for lock in locks() for package in packages_of(lock.read_text())]
        reasons = ignored_in(ignored.read_text())
    except (LockUnclear, IgnoredUnclear) as error:
        print(f"error: {error}", file=sys.stderr)
        return UNKNOWN
    return verdict(packages, audit(packages, program), reasons)


if __name__ == "__main__":
    sys.exit(main())
