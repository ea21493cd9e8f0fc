"""What `make audit` makes of what pip-audit says, and the bills of materials."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from infra import audit, sbom
from infra.locked import Locked, LockUnclear, packages_of

if TYPE_CHECKING:
    from pathlib import Path

LOCK = f"""\
beta==2.0 ; python_full_version < '3.12' \\
    --hash=sha256:{"b" * 64} \\
    --hash=sha256:{"a" * 64}
beta==2.1 ; python_full_version >= '3.12' \\
    --hash=sha256:{"c" * 64}
Alpha_One==1.0 \\
    --hash=sha256:{"d" * 64}
"""
PACKAGES = [
    Locked("alpha-one", "1.0", ("d" * 64,)),
    Locked("beta", "2.0", ("a" * 64, "b" * 64), "python_full_version < '3.12'"),
    Locked("beta", "2.1", ("c" * 64,), "python_full_version >= '3.12'"),
]
ADVISORY = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.2"], "description": "x"}
# It answers for each package that it is asked for by what stands in the file beside it.
FAKE = """\
#!/bin/sh
for argument; do asked=$argument; done
exec "{python}" -I - "$asked" "{answers}" <<'PROGRAM'
import json, re, sys
answers = json.load(open(sys.argv[2]))
if isinstance(answers, str):
    sys.exit(answers)
found = [re.match(r"(\\S+)==(\\S+) --hash=sha256:", line) for line in open(sys.argv[1])]
pairs = [(one[1], one[2]) for one in found]
assert len({{name for name, _ in pairs}}) == len(pairs), "pip-audit takes no name twice"
told = []
for name, version in pairs:
    vulns = answers.get(f"{{name}} {{version}}")
    if vulns is None:
        told.append({{"name": name, "skip_reason": f"Dependency not found on PyPI: {{name}}"}})
    else:
        told.append({{"name": name, "version": version, "vulns": vulns}})
print(json.dumps({{"dependencies": told, "fixes": []}}))
sys.exit(any(one.get("vulns") for one in told))
PROGRAM
"""


def fake(folder: Path, answers: object) -> Path:
    """A pip-audit whose source of advisories gives these answers, or ends with this text."""
    (folder / "answers.json").write_text(json.dumps(answers))
    program = folder / "pip-audit"
    program.write_text(FAKE.format(python=sys.executable, answers=folder / "answers.json"))
    program.chmod(0o755)
    return program


def judged(folder: Path, answers: object, ignored: dict[str, str] | None = None) -> int:
    return audit.verdict(PACKAGES, audit.audit(PACKAGES, fake(folder, answers)), ignored or {})


def test_a_lock_is_read_whole() -> None:
    assert packages_of(LOCK) == PACKAGES


@pytest.mark.parametrize(
    "line",
    [
        "alpha==1.0",
        f"alpha>=1.0 --hash=sha256:{'a' * 64}",
        f"--index-url elsewhere alpha==1.0 --hash=sha256:{'a' * 64}",
        f"alpha==1.0 --hash=sha256:{'a' * 64} --pre",
        "--index-url elsewhere",
        "-e ./somewhere",
    ],
)
def test_s20_a_lock_with_anything_else_in_it_is_refused(line: str) -> None:
    with pytest.raises(LockUnclear):
        packages_of(line)


def test_s20_an_audit_passes_only_if_all_were_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: dict[str, list[object]] = {"alpha-one 1.0": [], "beta 2.0": [], "beta 2.1": []}
    assert judged(tmp_path, answers) == audit.CLEAN
    assert capsys.readouterr().out == "No known vulnerability in 3 locked packages.\n"


def test_s20_a_vulnerable_package_fails_the_audit_and_says_what_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {"alpha-one 1.0": [], "beta 2.0": [], "beta 2.1": [ADVISORY]}
    assert judged(tmp_path, answers) == audit.VULNERABLE
    assert "VULNERABLE  beta 2.1: PYSEC-1, CVE-1; fixed in 2.2\n" in capsys.readouterr().out


def test_s20_an_audit_without_an_answer_does_not_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(tmp_path, "ERROR: could not connect to the feed") == audit.UNKNOWN
    told = capsys.readouterr().out
    assert "answered for none of 3 locked packages" in told
    assert "could not connect to the feed" in told


def test_s20_a_source_that_knows_no_package_is_no_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pip-audit itself says "No known vulnerabilities found" here, and ends with 0."""
    assert judged(tmp_path, {}) == audit.UNKNOWN
    assert "NOT AUDITED alpha-one 1.0, beta 2.0, beta 2.1\n" in capsys.readouterr().out


def test_s20_an_answer_for_some_does_not_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(tmp_path, {"alpha-one 1.0": [], "beta 2.0": []}) == audit.UNKNOWN
    told = capsys.readouterr().out
    assert "NOT AUDITED beta 2.1\n" in told
    assert "answered for only 2 of 3" in told


def test_s20_what_is_known_to_be_vulnerable_counts_more_than_what_is_unknown(
    tmp_path: Path,
) -> None:
    assert judged(tmp_path, {"beta 2.0": [ADVISORY]}) == audit.VULNERABLE


def test_s20_an_advisory_is_ignored_by_any_of_its_ids_and_shown_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {"alpha-one 1.0": [], "beta 2.0": [ADVISORY], "beta 2.1": []}
    ignored = {"CVE-1": "we never call it", "CVE-2": "was mended"}
    assert judged(tmp_path, answers, ignored) == audit.CLEAN
    told = capsys.readouterr().out
    assert "ignored     beta 2.0: CVE-1: we never call it\n" in told
    assert "unneeded    CVE-2: nothing has it any more" in told


@pytest.mark.parametrize("text", ['"CVE-1" = ""', '"CVE-1" = true', "CVE-1"])
def test_s20_nothing_is_ignored_without_a_reason(text: str) -> None:
    with pytest.raises(audit.IgnoredUnclear):
        audit.ignored_in(text)


def test_s20_what_is_ignored_in_this_project_has_reasons() -> None:
    audit.ignored_in(audit.IGNORED.read_text())


def test_s20_a_bill_of_materials_names_each_package_with_its_hashes() -> None:
    bill = sbom.bill_of("lambda", PACKAGES)
    assert bill["components"][1] == {
        "type": "library",
        "bom-ref": "pkg:pypi/beta@2.0",
        "name": "beta",
        "version": "2.0",
        "purl": "pkg:pypi/beta@2.0",
        "hashes": [{"alg": "SHA-256", "content": letter * 64} for letter in "ab"],
        "properties": [
            {"name": "pipeline-runs:marker", "value": "python_full_version < '3.12'"},
        ],
    }


def test_s20_the_same_locks_give_the_same_bills_to_the_byte(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    names = [file.name for file in sbom.write(first)]
    assert {"lambda.cdx.json", "stack.cdx.json"} < set(names)
    assert [file.name for file in sbom.write(second)] == names
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_another_version_gives_another_serial_number() -> None:
    one = sbom.bill_of("lambda", PACKAGES[:1])
    other = sbom.bill_of("lambda", PACKAGES[:2])
    assert one["serialNumber"] != other["serialNumber"]
