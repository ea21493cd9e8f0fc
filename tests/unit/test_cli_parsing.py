"""What people write on the command line, and what they see."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer
from rich.console import Console

from pipeline_runs.cli import parsing, screens
from pipeline_runs.models import Status

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7_200), ("1d", 86_400), ("0", 0)],
)
def test_durations(text: str, seconds: int) -> None:
    assert parsing.duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "h", "-1", "1w", "1h30", "inf", "1e3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no duration"):
        parsing.duration(text)


def test_moments_are_said_outright_or_by_how_long_ago() -> None:
    assert parsing.moment("2026-11-24T10:00:00Z", NOW) == NOW - timedelta(hours=2)
    assert parsing.moment("2026-11-24T10:00:00+02:00", NOW) == NOW - timedelta(hours=4)
    assert parsing.moment("2h", NOW) == NOW - timedelta(hours=2)


def test_a_day_without_an_offset_is_of_this_machine() -> None:
    told = parsing.moment("2026-11-24", NOW)
    assert told.tzinfo is not None
    assert told == datetime(2026, 11, 24).astimezone()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n=3", 3),
        ("n=abc", "abc"),
        ('n="3"', "3"),
        ("n=true", True),
        ("n=[1,null]", [1, None]),
        ("n=a=b", "a=b"),
        ("n=", ""),
        ("n=NaN", "NaN"),
    ],
)
def test_parameters_are_json_where_they_can_be(text: str, value: Any) -> None:
    assert parsing.parameters([text]) == {"n": value}


def test_a_tag_is_written_either_way_and_split_once() -> None:
    assert parsing.tags(["a=b:c", "d:e=f", "g="]) == {"a": "b:c", "d": "e=f", "g": ""}


@pytest.mark.parametrize("text", ["", "a", "=b", ":b"])
def test_what_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no name=value"):
        parsing.tags([text])
    with pytest.raises(typer.BadParameter, match="no name=value"):
        parsing.parameters([text])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (12, "12 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7_800, "2 h 10 min"),
        (86_400 * 3 + 4 * 3_600, "3 d 4 h"),
    ],
)
def test_durations_are_shown_as_exactly_as_they_matter(seconds: float, text: str) -> None:
    assert screens.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s ago"), (59, "59 s ago"), (60, "1 min ago"), (3_600, "1 h ago"), (90_000, "1 d ago")],
)
def test_ages_are_shown_roughly(seconds: float, text: str) -> None:
    assert screens.age_text(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1_023, "1,023 B"), (1_024, "1.0 KiB"), (1_572_864, "1.5 MiB")],
)
def test_sizes_are_in_binary_units(size: int, text: str) -> None:
    assert screens.size_text(size) == text


def test_a_status_says_without_colour_what_it_says_with_it() -> None:
    signs = {screens.SIGNS[status] for status in Status}
    assert len(signs) == len(Status)
    assert screens.status_text(Status.FAILED).plain == "✗ FAILED"


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_is_respected(variables: dict[str, str]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, _environ=variables)
    console.print(screens.status_text(Status.FAILED))
    file = console.file
    assert isinstance(file, io.StringIO)
    assert "\x1b[31m" not in file.getvalue()
    assert "31" not in file.getvalue()
