"""Every link of the documents that stays in the project leads to something."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from infra.local.environments import ROOT

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS: Final = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "client" / "README.md"]
)
CODE: Final = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
LINK: Final = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCED: Final = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
HEADING: Final = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
LONGEST_README: Final = 150


def anchors_of(document: str) -> set[str]:
    """What GitHub makes of the headings: small letters, no punctuation, dashes for spaces."""
    headings = HEADING.findall(FENCED.sub("", document))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> list[str]:
    broken = []
    for link in LINK.findall(CODE.sub("", document.read_text())):
        place, _, anchor = link.partition("#")
        target = document.parent / place if place else document
        if re.match(r"\w+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors_of(target.read_text())):
            broken.append(link)
    return broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert broken_links(document) == []


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("[a](there.md#two-words-its-3)", []),
        ("[a](https://example.com/gone) and `[b](gone.md)`", []),
        ("[a](gone.md)", ["gone.md"]),
        ("![a](there.md#three)", ["there.md#three"]),
    ],
)
def test_one_that_leads_nowhere_is_seen(tmp_path: Path, text: str, broken: list[str]) -> None:
    (tmp_path / "there.md").write_text("# One\n\n## Two words: it's 3\n\n```\n# three\n```\n")
    document = tmp_path / "document.md"
    document.write_text(text)
    assert broken_links(document) == broken


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= LONGEST_README
