"""A run's parameters: any JSON, passed through as it is by Conductor, but for one text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

FILLED_IN: Final = "${workflow.secrets."
"""In any text, Conductor puts one of its own secrets in place of what begins so; all else stays."""


def refusal(value: object) -> str | None:
    """Why Conductor must not be given this JSON value, to follow its name; None: it may."""
    if any(FILLED_IN in text for text in texts(value)):
        return f"must not contain '{FILLED_IN}'"
    return None


def texts(value: object) -> Iterator[str]:
    """Every text in a JSON value, keys too."""
    pending = [value]
    while pending:
        match pending.pop():
            case str() as text:
                yield text
            case dict() as members:
                pending += [*members.keys(), *members.values()]
            case list() as items:
                pending += items
