"""What options hold, as people write it."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNIT_SECONDS: Final = MappingProxyType({"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400})
_DURATION: Final = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>[smhd]?)")


def duration(text: str) -> timedelta:
    """`90`, `90s`, `15m`, `2h`, `1d`.

    Raises:
        typer.BadParameter: it is none.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no duration: write 90s, 15m, 2h or 1d")
    return timedelta(seconds=float(found["number"]) * _UNIT_SECONDS[found["unit"]])


def moment(text: str, now: datetime) -> datetime:
    """A moment, or how long ago it was.

    Args:
        text: RFC 3339 (`2026-11-24T12:00:00Z`), a day or a time without an offset, which are of
            this machine's time zone, or a duration.
        now: what "ago" is counted from.

    Raises:
        typer.BadParameter: it is none.
    """
    if _DURATION.fullmatch(text):
        return now - duration(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no moment: write 2026-11-24T12:00:00Z, 2026-11-24, or 2h for 2 hours ago"
        ) from error
    return found if found.tzinfo else found.astimezone()


def pair(text: str) -> tuple[str, str]:
    """`name=value`, or `name:value` as the API writes it.

    Raises:
        typer.BadParameter: it is none.
    """
    found = re.fullmatch(r"([^=:]+)[=:](.*)", text, re.DOTALL)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no name=value")
    return found[1], found[2]


def tags(texts: Iterable[str]) -> dict[str, str]:
    """Each `name=value`.

    Raises:
        typer.BadParameter: one isn't.
    """
    return dict(map(pair, texts))


def parameters(texts: Iterable[str]) -> dict[str, Any]:
    """Each `name=value`, whose value is JSON if it can be, else a text: `n=3`, `s=abc`, `l=[1]`.

    Raises:
        typer.BadParameter: one isn't.
    """
    told = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{text!r} is no name=value")
        try:
            told[name] = json.loads(value, parse_constant=_no_constant)
        except ValueError:
            told[name] = value
    return told


def _no_constant(name: str) -> None:
    """NaN and Infinity are no JSON."""
    raise ValueError(name)
