"""Facts about columns, worked out by hand for small ones."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from infra.workbench.profiles import ColumnKind, ColumnProfile, ValueCount, profile_columns
from infra.workbench.tables import Changes, CleanTable


def profile(values: list[Any], dtype: Any = None) -> ColumnProfile:
    frame = pl.DataFrame({"x": pl.Series(values, dtype=dtype, strict=False)})
    [column] = profile_columns(CleanTable(frame, ("X",), Changes()))
    json.dumps(asdict(column), allow_nan=False)
    return column


def test_numbers_have_their_five_figures() -> None:
    column = profile([float(number) for number in range(1, 102)] + [None])
    assert (column.kind, column.missing, column.distinct) == (ColumnKind.DECIMAL, 1, 101)
    assert (column.minimum, column.maximum, column.median, column.mean) == (1, 101, 51, 51)
    assert (column.lower_quartile, column.upper_quartile) == (26, 76)
    # The variance of 1…n is n(n+1)/12 in a sample.
    assert column.standard_deviation == pytest.approx((101 * 102 / 12) ** 0.5)
    assert column.original_name == "X"


def test_a_histogram_holds_every_number_once_between_its_edges() -> None:
    column = profile([number / 4 for number in range(400)])
    assert column.histogram is not None
    assert sum(column.histogram.counts) == 400
    assert len(column.histogram.edges) == len(column.histogram.counts) + 1
    assert column.histogram.edges[0] == 0
    assert column.histogram.edges[-1] == pytest.approx(99.75)


def test_bins_of_whole_numbers_have_whole_widths_and_show_no_comb() -> None:
    column = profile([*range(1, 31)] * 30)
    assert column.histogram is not None
    # 900 numbers would make 24 bins; 30 values fit 15 bins of two.
    assert column.histogram.edges == tuple(float(edge) for edge in range(1, 32, 2))
    assert set(column.histogram.counts) == {60}


def test_few_whole_numbers_are_counted_one_by_one_in_their_order() -> None:
    column = profile([2009, 2007, 2009, None])
    assert column.counts == (ValueCount("2007", 1), ValueCount("2009", 2))
    assert column.histogram is None


def test_texts_have_their_commonest_values() -> None:
    column = profile(["b", "a", "b", None, "c", "a"])
    assert (column.kind, column.missing, column.distinct) == (ColumnKind.TEXT, 1, 3)
    assert column.counts == (ValueCount("a", 2), ValueCount("b", 2), ValueCount("c", 1))


def test_texts_that_never_repeat_have_no_commonest_ones() -> None:
    assert profile(["a", "b", "c"]).counts == ()


def test_a_long_text_is_cut() -> None:
    assert len(profile(["x" * 1000] * 2).counts[0].value) == 120


def test_booleans_are_counted() -> None:
    column = profile([True, False, True])
    assert column.kind is ColumnKind.BOOLEAN
    assert column.counts == (ValueCount("true", 2), ValueCount("false", 1))


def test_dates_have_ends_and_a_histogram() -> None:
    days = [date(2024, 1, 1) + timedelta(days=day) for day in range(60)]
    column = profile(days)
    assert (column.kind, column.minimum, column.maximum) == (
        ColumnKind.DATE,
        "2024-01-01",
        "2024-02-29",
    )
    assert column.histogram is not None
    assert sum(column.histogram.counts) == 60


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([], pl.Float64),
        ([None, None], pl.Int64),
        ([None], pl.Null),
        ([None], pl.Date),
        ([float("inf"), float("-inf"), float("nan")], pl.Float64),
        ([1.7e308, -1.7e308, 0.0], pl.Float64),
        ([2**63 - 1, -(2**63)], pl.Int64),
        ([5.0, 5.0], pl.Float64),
        ([date(1, 1, 1), date(9999, 12, 31)], pl.Date),
        ([[1], [2], None], pl.List(pl.Int64)),
        ([{"a": 1}, None], pl.Struct({"a": pl.Int64})),
        ([b"\x00", b"\xff"], pl.Binary),
        ([timedelta(1)], pl.Duration),
        (["1.5", "2.5"], pl.Decimal(10, 2)),
        (["a", "b", "a"], pl.Categorical),
    ],
)
def test_odd_columns_have_facts_that_json_can_hold(values: list[Any], dtype: Any) -> None:
    assert profile(values, dtype).name == "x"
