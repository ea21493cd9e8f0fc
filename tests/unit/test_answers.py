"""What comes back from other services: its Retry-After, and Conductor's words for a failed call."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.adapters.answers import is_secure, retry_after
from runs.adapters.conductor import call_end_of
from runs.ports import CallEnd

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def waits(value: str, date: str | None = None) -> timedelta | None:
    headers = {"Retry-After": value} | ({} if date is None else {"Date": date})
    return retry_after(httpx.Headers([(k.encode(), v.encode()) for k, v in headers.items()]))


# -- Retry-After ----------------------------------------------------------------------------------


@given(st.integers(0, 86_400))
def test_f26_seconds_are_taken_as_they_are(seconds: int) -> None:
    assert waits(str(seconds)) == timedelta(seconds=seconds)


@given(st.timedeltas(timedelta(seconds=1), 300 * DAY).map(lambda d: d // timedelta(seconds=1)))
def test_f26_f43_a_date_counts_from_the_answers_own(seconds: int) -> None:
    until = NOON + timedelta(seconds=seconds)
    value, date = (format_datetime(one, usegmt=True) for one in (until, NOON))
    assert waits(value, date) == timedelta(seconds=seconds)


@pytest.mark.parametrize("late", [timedelta(0), timedelta(seconds=1), 1_000 * DAY])
def test_f26_a_date_that_is_past_asks_for_nothing(late: timedelta) -> None:
    value, date = (format_datetime(one, usegmt=True) for one in (NOON - late, NOON))
    assert waits(value, date) is None


@pytest.mark.parametrize("date", [None, "", "noon", "12:00"])
def test_f26_without_the_answers_date_another_makes_no_sense(date: str | None) -> None:
    assert waits(format_datetime(NOON, usegmt=True), date) is None


def test_f26_a_date_without_a_zone_makes_no_sense() -> None:
    assert waits("Sun, 01 Mar 2026 12:00:00 -0000", format_datetime(NOON, usegmt=True)) is None


def test_f26_without_the_header_nothing_is_asked_for() -> None:
    assert retry_after(httpx.Headers({"Date": format_datetime(NOON, usegmt=True)})) is None


@given(st.text(), st.none() | st.text())
def test_f26_garbage_is_bounded_or_nothing(value: str, date: str | None) -> None:
    wait = waits(value, date)
    assert wait is None or timedelta(0) <= wait


# -- Conductor's words ----------------------------------------------------------------------------

FAILED = "Failed to invoke HTTP task due to: java.lang.Exception: "
URL = '"http://w/batch/submit"'
BROKEN = f"{FAILED}500 Internal Server Error on POST request for {URL}"
UNREACHED = f"{FAILED}I/O error on POST request for {URL}"
WORDS = [
    (f'{FAILED}400 Bad Request on POST request for {URL}: "no"', CallEnd.CLIENT_ERROR),
    (f'{FAILED}429 Too Many Requests on POST request for {URL}: "x"', CallEnd.CLIENT_ERROR),
    (f'{BROKEN}: "x"', CallEnd.SERVER_ERROR),
    (f"{BROKEN}: [no body]", CallEnd.SERVER_ERROR),
    (f'{FAILED}599  on POST request for {URL}: "x"', CallEnd.SERVER_ERROR),
    (f'{FAILED}502 Bad Gateway on POST request for {URL}: "x"', CallEnd.UNCLEAR),
    (f'{FAILED}504 Gateway Timeout on POST request for {URL}: "x"', CallEnd.UNCLEAR),
    (f'{FAILED}302 Found on POST request for {URL}: "x"', CallEnd.UNCLEAR),
    (f"{UNREACHED}: Connect to http://w failed: Connection refused", CallEnd.CONNECTION_REFUSED),
    (f"{UNREACHED}: w: Name or service not known", CallEnd.CONNECTION_REFUSED),
    (f"{UNREACHED}: Read timed out", CallEnd.UNCLEAR),
    (f"{UNREACHED}: Connection reset", CallEnd.UNCLEAR),
    (f"{UNREACHED}: Unexpected end of file", CallEnd.UNCLEAR),
    (f"{FAILED}Something new", CallEnd.UNCLEAR),
    ("Workflow timed out after 20 seconds", CallEnd.UNCLEAR),
    ("500 Internal Server Error", CallEnd.UNCLEAR),
    ("", CallEnd.UNCLEAR),
]


@pytest.mark.parametrize(("reason", "end"), WORDS)
def test_p12_conductors_words_tell_how_the_call_ended(reason: str, end: CallEnd) -> None:
    assert call_end_of(reason)[0] is end


@given(st.sampled_from(["", FAILED]), st.text())
def test_p12_words_that_are_not_known_are_unclear(before: str, words: str) -> None:
    assert call_end_of(before + words)[0] is CallEnd.UNCLEAR


@pytest.mark.parametrize("forged", [reason for reason, _ in WORDS])
def test_p12_the_workbenchs_own_words_are_not_taken_for_conductors(forged: str) -> None:
    end, words = call_end_of(f'{BROKEN}: "{forged}"')
    assert end is CallEnd.SERVER_ERROR
    assert words.startswith("The Workbench answered 500 Internal Server Error: ")


@pytest.mark.parametrize(("reason", "end"), WORDS)
def test_what_is_told_of_a_call_is_short(reason: str, end: CallEnd) -> None:
    long = reason + "x" * 10_000
    assert len(call_end_of(long)[1]) <= 300
    assert call_end_of(reason)[0] is end


@pytest.mark.parametrize(
    ("url", "secure"),
    [("https://a.test", True), ("HTTPS://a.test", True), ("http://a.test", False)],
)
def test_s10_a_certificate_is_looked_at_however_the_scheme_is_written(
    url: str, *, secure: bool
) -> None:
    assert is_secure(url) is secure
