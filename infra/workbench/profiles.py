"""Facts about the columns of a table: what `report.json` holds and `report.html` shows.

Every value is fit for JSON: numbers are finite, times are ISO 8601 texts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from infra.workbench.tables import CleanTable

MIN_BINS = 6
MAX_BINS = 24
MAX_COMMONEST = 8
MAX_VALUES_COUNTED_SINGLY = 12
MAX_TEXT_LENGTH = 120

Scalar = str | int | float | None


class ColumnKind(StrEnum):
    """What a column's values are, in a person's words."""

    INTEGER = "integer"
    DECIMAL = "decimal"
    TEXT = "text"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "date and time"
    OTHER = "other"


@dataclass(frozen=True)
class ValueCount:
    """How often a value occurs."""

    value: str
    count: int


@dataclass(frozen=True)
class Histogram:
    """Counts between edges: one edge more than counts; times are seconds since the epoch."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ColumnProfile:
    """One column's facts; what a kind doesn't have is None or empty.

    Attributes:
        distinct: Different values, missing ones aside.
        counts: Every value by itself where there are few, else the commonest ones.
    """

    name: str
    original_name: str
    kind: ColumnKind
    data_type: str
    missing: int
    distinct: int | None = None
    minimum: Scalar = None
    maximum: Scalar = None
    mean: float | None = None
    standard_deviation: float | None = None
    lower_quartile: float | None = None
    median: float | None = None
    upper_quartile: float | None = None
    histogram: Histogram | None = None
    counts: tuple[ValueCount, ...] = ()


def profile_columns(table: CleanTable) -> tuple[ColumnProfile, ...]:
    """The facts of every column, in the table's order."""
    return tuple(
        _profile(column, original_name)
        for column, original_name in zip(table.frame, table.original_names, strict=True)
    )


def _profile(column: pl.Series, original_name: str) -> ColumnProfile:
    kind = _kind_of(column.dtype)
    present = column.drop_nulls()
    facts: dict[str, Any] = {}
    match kind:
        case ColumnKind.INTEGER | ColumnKind.DECIMAL:
            facts = _number_facts(present, kind)
        case ColumnKind.DATE | ColumnKind.DATETIME:
            facts = _time_facts(present)
        case ColumnKind.TEXT | ColumnKind.BOOLEAN:
            facts = {"counts": _commonest(present)}
        case ColumnKind.OTHER:
            pass
    return ColumnProfile(
        name=column.name,
        original_name=original_name,
        kind=kind,
        data_type=str(column.dtype),
        missing=column.null_count(),
        distinct=None if column.dtype.is_nested() else present.n_unique(),
        **facts,
    )


def _kind_of(dtype: pl.DataType) -> ColumnKind:
    if dtype.is_integer():
        return ColumnKind.INTEGER
    if dtype.is_float() or dtype.is_decimal():
        return ColumnKind.DECIMAL
    if dtype in {pl.String, pl.Categorical, pl.Enum, pl.Null}:
        return ColumnKind.TEXT
    kinds = {
        pl.Boolean: ColumnKind.BOOLEAN,
        pl.Date: ColumnKind.DATE,
        pl.Datetime: ColumnKind.DATETIME,
    }
    return kinds.get(dtype.base_type(), ColumnKind.OTHER)


def _number_facts(present: pl.Series, kind: ColumnKind) -> dict[str, Any]:
    numbers = present.cast(pl.Float64)
    numbers = numbers.filter(numbers.is_finite())
    if numbers.is_empty():
        return {}
    whole = kind is ColumnKind.INTEGER
    exact = present if whole else numbers
    facts = {
        "minimum": exact.min(),
        "maximum": exact.max(),
        "mean": _finite(numbers.mean()),
        "standard_deviation": _finite(numbers.std()),
        "lower_quartile": _finite(numbers.quantile(0.25, "linear")),
        "median": _finite(numbers.median()),
        "upper_quartile": _finite(numbers.quantile(0.75, "linear")),
    }
    if whole and present.n_unique() <= MAX_VALUES_COUNTED_SINGLY:
        return facts | {"counts": _counted(present.value_counts(name="times").sort(present.name))}
    return facts | {"histogram": histogram(numbers, whole=whole)}


def _time_facts(present: pl.Series) -> dict[str, Any]:
    if present.is_empty():
        return {}
    in_order = present.sort()
    seconds = present.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1_000_000
    return {
        "minimum": in_order[0].isoformat(),
        "maximum": in_order[-1].isoformat(),
        "histogram": histogram(seconds, whole=False),
    }


def histogram(numbers: pl.Series, *, whole: bool) -> Histogram | None:
    """Counts in bins of one width; None if all numbers are the same, or too far apart for bins.

    Args:
        numbers: Finite numbers, at least one.
        whole: They are integers: bins have a whole width, or a comb would show.
    """
    in_order = numbers.sort()
    low, high = float(in_order[0]), float(in_order[-1])
    bins = min(MAX_BINS, max(MIN_BINS, math.isqrt(numbers.len())))
    width = (high - low) / bins
    if whole:
        width = float(math.ceil((high - low + 1) / bins))
        bins = math.ceil((high - low + 1) / width)
    if low == high or not 0 < width < math.inf:
        return None
    places = ((numbers - low) / width).floor().clip(0, bins - 1).cast(pl.Int64)
    found = dict(places.alias("place").value_counts().iter_rows())
    return Histogram(
        edges=tuple(low + width * edge for edge in range(bins + 1)),
        counts=tuple(found.get(place, 0) for place in range(bins)),
    )


def _commonest(present: pl.Series) -> tuple[ValueCount, ...]:
    """Nothing if no value comes twice: then there are no common ones."""
    texts = present.cast(pl.String)
    counted = texts.alias("value").value_counts(name="times")
    if counted.is_empty() or counted["times"].max() == 1 < counted.height:
        return ()
    return _counted(counted.sort(["times", "value"], descending=[True, False]).head(MAX_COMMONEST))


def _counted(table: pl.DataFrame) -> tuple[ValueCount, ...]:
    return tuple(
        ValueCount(str(value)[:MAX_TEXT_LENGTH], times) for value, times in table.iter_rows()
    )


def _finite(number: Any) -> float | None:
    return float(number) if number is not None and math.isfinite(number) else None
