"""Tables: read from CSV, JSON Lines and Parquet, and cleaned.

Of a CSV file every value is read as text first, and a column becomes a number, a date or a
boolean only if all its values are: so "007" stays what it is, and no sample decides. Markers
such as NA are taken for missing values there, as pandas and R do, and are counted.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, count
from typing import TYPE_CHECKING, Final

import polars as pl
from polars.exceptions import PanicException, PolarsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

MISSING_MARKERS: Final = ("NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "None")
DELIMITERS: Final = (",", ";", "\t", "|")
EXACT_DIGITS = 15  # A 64-bit float keeps so many.

INTEGER = r"^[+-]?(0|[1-9]\d*)$"
DECIMAL = r"^[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$"
DATE = r"^\d{4}-\d{2}-\d{2}$"
DATETIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}"
OFFSET = r"(Z|[+-]\d{2}:?\d{2})$"
BOOLEAN = r"^(?i)(true|false)$"


class TableKind(StrEnum):
    """The table formats that are understood."""

    CSV = "CSV"
    JSON_LINES = "JSON Lines"
    PARQUET = "Parquet"


KINDS: Final[Mapping[str, TableKind]] = {
    ".csv": TableKind.CSV,
    ".tsv": TableKind.CSV,
    ".jsonl": TableKind.JSON_LINES,
    ".ndjson": TableKind.JSON_LINES,
    ".parquet": TableKind.PARQUET,
}


class BrokenTable(Exception):
    """A file isn't a table of its kind; the text says what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What cleaning did to a table.

    Attributes:
        renamed_columns: New name → name in the file.
        typed_columns: Name → the type that its texts were given.
    """

    renamed_columns: Mapping[str, str] = field(default_factory=dict)
    typed_columns: Mapping[str, str] = field(default_factory=dict)
    trimmed_cells: int = 0
    cells_set_to_missing: int = 0
    empty_rows_dropped: int = 0
    duplicate_rows_dropped: int = 0


@dataclass(frozen=True)
class CleanTable:
    """A cleaned table; `original_names` are its columns' names before."""

    frame: pl.DataFrame
    original_names: tuple[str, ...]
    changes: Changes


def kind_of(name: str) -> TableKind | None:
    """What a file's name says it is; None is no table."""
    return next((kind for end, kind in KINDS.items() if name.lower().endswith(end)), None)


def read_table(path: Path, kind: TableKind) -> pl.DataFrame:
    """Reads a file whole.

    Raises:
        BrokenTable: It isn't what its kind says.
    """
    if path.stat().st_size == 0:
        raise BrokenTable("it is empty")
    try:
        match kind:
            case TableKind.CSV:
                return pl.read_csv(path, infer_schema=False, separator=_delimiter_of(path))
            case TableKind.JSON_LINES:
                return pl.read_ndjson(path, infer_schema_length=None)
            case TableKind.PARQUET:
                return pl.read_parquet(path)
    except (PolarsError, PanicException) as error:
        reason = _broken_line(path) if kind is TableKind.JSON_LINES else None
        raise BrokenTable(reason or _first_line(error)) from error


def names_in_file(frame: pl.DataFrame, kind: TableKind) -> tuple[str, ...]:
    """The columns' names as the file has them: polars numbers those that a CSV file repeats."""
    if kind is not TableKind.CSV:
        return tuple(frame.columns)
    return tuple(re.sub(r"_duplicated_\d+$", "", name) for name in frame.columns)


def clean(frame: pl.DataFrame, kind: TableKind) -> CleanTable:
    """Gives columns snake_case names, trims texts, and drops empty rows and duplicates."""
    original_names = names_in_file(frame, kind)
    names = snake_case_names(original_names)
    frame = frame.rename(dict(zip(frame.columns, names, strict=True)))
    trimmed = frame.with_columns(pl.col(pl.String).str.strip_chars())
    marked = trimmed.with_columns(_without_markers(kind), *_without_nan(frame))
    typed = _with_types(marked) if kind is TableKind.CSV else marked
    filled = typed.filter(~pl.all_horizontal(pl.all().is_null())) if names else typed
    unique = filled.unique(keep="first", maintain_order=True) if names else filled
    return CleanTable(
        frame=unique,
        original_names=original_names,
        changes=Changes(
            renamed_columns={
                after: before
                for before, after in zip(original_names, names, strict=True)
                if before != after
            },
            typed_columns={
                name: str(dtype)
                for name, dtype in typed.schema.items()
                if dtype != marked.schema[name]
            },
            trimmed_cells=_count_differences(frame, trimmed),
            cells_set_to_missing=_count_missing(marked) - _count_missing(trimmed),
            empty_rows_dropped=typed.height - filled.height,
            duplicate_rows_dropped=filled.height - unique.height,
        ),
    )


def snake_case_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Lower-case words joined by underscores, each name once: "Body Mass (g)" → body_mass_g."""
    given: dict[str, None] = {}
    for name in names:
        wanted = _snake_case(name)
        numbered = (f"{wanted}_{number}" for number in count(2))
        given[next(free for free in chain([wanted], numbered) if free not in given)] = None
    return tuple(given)


def _snake_case(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.sub(r"[\W_]+", "_", words.lower()).strip("_") or "column"


def _delimiter_of(path: Path) -> str:
    """The one that stands most often in the first line, outside quotes."""
    with path.open(encoding="utf-8", errors="replace") as file:
        first_line = file.readline(65_536)
    header = re.sub(r'"[^"]*"', "", first_line)
    return max(DELIMITERS, key=header.count)


def _without_markers(kind: TableKind) -> pl.Expr:
    """Empty texts, and in CSV the markers too, become missing."""
    texts = pl.col(pl.String)
    missing = ("", *MISSING_MARKERS) if kind is TableKind.CSV else ("",)
    return pl.when(~texts.is_in(missing)).then(texts)


def _without_nan(frame: pl.DataFrame) -> list[pl.Expr]:
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    return [pl.col(name).fill_nan(None) for name in floats]


def _with_types(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame([_typed(frame[name]) for name in frame.columns])


def _typed(column: pl.Series) -> pl.Series:
    """The column as what all its texts are, or as it is."""
    texts = column.drop_nulls()
    if texts.is_empty():
        return column
    for pattern, convert in CONVERSIONS:
        if texts.str.contains(pattern).all():
            converted = convert(column)
            # A text may look like a number or a date, and be too large or of no calendar.
            return converted if converted.null_count() == column.null_count() else column
    return column


def _to_decimals(column: pl.Series) -> pl.Series:
    """Leaves a column alone that has longer integers than a decimal keeps exactly."""
    long = column.str.contains(INTEGER) & (column.str.len_chars() > EXACT_DIGITS)
    return column if long.any() else column.cast(pl.Float64, strict=False)


def _to_datetimes(column: pl.Series) -> pl.Series:
    """Without offsets times stay local ones; with offsets they become UTC."""
    has_offset = column.str.contains(OFFSET)
    if has_offset.any() and not has_offset.all():
        return column
    time_zone = "UTC" if has_offset.any() else None
    try:
        return column.str.to_datetime(time_zone=time_zone, strict=False)
    except PolarsError:
        return column


CONVERSIONS: Final[tuple[tuple[str, Callable[[pl.Series], pl.Series]], ...]] = (
    (BOOLEAN, lambda column: column.str.to_lowercase() == "true"),
    (INTEGER, lambda column: column.cast(pl.Int64, strict=False)),
    (DECIMAL, _to_decimals),
    (DATE, lambda column: column.str.to_date("%Y-%m-%d", strict=False)),
    (DATETIME, _to_datetimes),
)


def _count_differences(before: pl.DataFrame, after: pl.DataFrame) -> int:
    texts = [name for name, dtype in before.schema.items() if dtype == pl.String]
    return sum(int((before[name] != after[name]).sum()) for name in texts)


def _count_missing(frame: pl.DataFrame) -> int:
    return sum(column.null_count() for column in frame)


def _broken_line(path: Path) -> str | None:
    """Where JSON Lines stop being such, which polars doesn't say."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                value = json.loads(line) if line.strip() else {}
            except (ValueError, RecursionError) as error:
                return f"line {number}: {error}"
            if not isinstance(value, dict):
                return f"line {number} is not a JSON object"
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
