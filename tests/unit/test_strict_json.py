"""JSON that means one thing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.strict_json import DEEPEST, JsonInvalid, read

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_json_is_read_as_it_was_written(value: object) -> None:
    assert read(json.dumps(value)) == value
    assert read(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "nul",
        "'a'",
        "{a: 1}",
        "[1,]",
        "1 2",
        "<html></html>",
        b"\xff\xfe",
        b"\xc3\x28",
        "\ufeff{}",
    ],
)
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(JsonInvalid):
        read(text)


@pytest.mark.parametrize(
    "text",
    ["NaN", "Infinity", "-Infinity", '{"a": NaN}', "1e999", "-1e999", "[1E+400]", "9" * 10_000],
)
def test_f29_a_number_that_is_none_or_too_large_is_refused(text: str) -> None:
    with pytest.raises(JsonInvalid):
        read(text)


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 1}', '{"a": 1, "\\u0061": 2}', '[{"b": {"a": 1, "a": 2}}]']
)
def test_f29_a_key_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(JsonInvalid, match="twice"):
        read(text)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_f29_nesting_is_bounded(opening: str, closing: str) -> None:
    deepest = opening * DEEPEST + "1" + closing * DEEPEST
    assert read(deepest)
    with pytest.raises(JsonInvalid, match="nested"):
        read(opening + deepest + closing)


def test_f29_a_million_levels_are_refused_too() -> None:
    with pytest.raises(JsonInvalid):
        read("[" * 1_000_000)


def test_what_is_told_of_a_refusal_is_short() -> None:
    with pytest.raises(JsonInvalid) as refusal:
        read("NaN")
    assert str(refusal.value) == "NaN is no JSON"
