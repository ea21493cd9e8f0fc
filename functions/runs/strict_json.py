"""JSON that means one thing: Python's own reader would let more pass."""

from __future__ import annotations

import json
from math import isinf
from typing import Any, Final

DEEPEST: Final = 100
"""Levels of nesting: what walks a value may call itself for each."""


class JsonInvalid(ValueError):
    """No JSON, too deep, NaN or an infinite number in it, or a key twice."""


def read(text: str | bytes) -> Any:
    """The value that a text stands for.

    Raises:
        JsonInvalid: it stands for none, or for more than one.
    """
    try:
        value = json.loads(
            text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique
        )
    except (ValueError, RecursionError) as error:
        raise JsonInvalid(str(error)[:200]) from error
    if _is_deep(value):
        raise JsonInvalid(f"it is nested more than {DEEPEST} levels deep")
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return any(isinstance(outer, dict | list) for outer in level)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise ValueError("a number is too large")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found
