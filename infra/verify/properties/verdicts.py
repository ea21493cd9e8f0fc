"""What a judge gives: for each thing that it looked at, what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Verdicts = Iterator[Sequence[str]]
"""One for each run, job, event, …: a sentence for each thing that is wrong with it."""


def unless(holds: bool, sentence: str) -> Sequence[str]:  # noqa: FBT001 - reads as a sentence
    """The sentence, unless the claim holds."""
    return [] if holds else [sentence]
