"""Writes `docs/problems.md` from the API's catalogue: `python -m infra.problems`."""

from __future__ import annotations

from pathlib import Path

from api.catalogue import KINDS

DOC = Path(__file__).parents[1] / "docs" / "problems.md"
HEAD = """\
# Problems

What the API answers in place of what was asked for: `application/problem+json` (RFC 9457) with
`type`, `title`, `status`, `detail`, `code` and `request_id`. Programs go by `code`, which stays as
it is; `detail` is for people and may change. `make problems` makes this of
`functions/api/catalogue.py`.

| code | status | what it means, and what to do |
| --- | --- | --- |
"""


def page() -> str:
    """The whole document."""
    kinds = sorted(KINDS.values(), key=lambda kind: (kind.status, kind.code))
    return HEAD + "".join(f"| `{k.code}` | {k.status} | {k.remedy} |\n" for k in kinds)


if __name__ == "__main__":
    DOC.write_text(page())
    print(f"{DOC.name} has {len(KINDS)} problems.")
