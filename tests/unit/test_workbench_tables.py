"""Tables are read as what they are, and cleaned with every change counted."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from infra.workbench.tables import (
    BrokenTable,
    CleanTable,
    TableKind,
    clean,
    kind_of,
    read_table,
    snake_case_names,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def clean_csv(tmp_path: Path) -> Callable[[str], CleanTable]:
    def read_and_clean(text: str) -> CleanTable:
        path = tmp_path / "table.csv"
        path.write_text(text, encoding="utf-8")
        return clean(read_table(path, TableKind.CSV), TableKind.CSV)

    return read_and_clean


@pytest.fixture
def one_column(clean_csv: Callable[[str], CleanTable]) -> Callable[..., pl.Series]:
    def column(*values: str) -> pl.Series:
        rows = "".join(f"{number},{value}\n" for number, value in enumerate(values))
        return clean_csv(f"n,x\n{rows}").frame["x"]

    return column


def test_names_become_snake_case_and_stay_apart() -> None:
    names = ("Body Mass (g)", "bodyMass", "ID", "", "body_mass_g", "Größe", "__a - b__", "x_2", "x")
    assert snake_case_names((*names, "x")) == (
        "body_mass_g",
        "body_mass",
        "id",
        "column",
        "body_mass_g_2",
        "größe",
        "a_b",
        "x_2",
        "x",
        "x_3",
    )


def test_the_name_of_a_file_tells_its_kind() -> None:
    assert kind_of("a/b.CSV") is TableKind.CSV
    assert kind_of("b.tsv") is TableKind.CSV
    assert kind_of("b.ndjson") is TableKind.JSON_LINES
    assert kind_of("b.parquet") is TableKind.PARQUET
    assert kind_of("csv") is None
    assert kind_of("b.csv.gz") is None


def test_every_change_is_counted(clean_csv: Callable[[str], CleanTable]) -> None:
    table = clean_csv('Full Name,n\n Ada ,1\nAda,1\n,\nBob,NA\n"  ",2\n')
    assert table.frame.to_dicts() == [
        {"full_name": "Ada", "n": 1},
        {"full_name": "Bob", "n": None},
        {"full_name": None, "n": 2},
    ]
    assert table.original_names == ("Full Name", "n")
    changes = table.changes
    assert changes.renamed_columns == {"full_name": "Full Name"}
    assert changes.typed_columns == {"n": "Int64"}
    assert changes.trimmed_cells == 2  # " Ada " and "  ".
    assert changes.cells_set_to_missing == 2  # NA and "  ".
    assert (changes.empty_rows_dropped, changes.duplicate_rows_dropped) == (1, 1)


def test_names_that_a_csv_file_repeats_are_told_apart(
    clean_csv: Callable[[str], CleanTable],
) -> None:
    table = clean_csv("a,a,A\n1,2,3\n")
    assert table.frame.columns == ["a", "a_2", "a_3"]
    assert table.original_names == ("a", "a", "A")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("1", "-2", "+3"), [1, -2, 3]),
        (("1", "2.5", "1e3", ".5"), [1.0, 2.5, 1000.0, 0.5]),
        (("true", "False"), [True, False]),
        (("2024-02-29", "2023-01-01"), [date(2024, 2, 29), date(2023, 1, 1)]),
        (("2024-01-02T03:04:05", "2024-01-02 03:04:05"), [datetime(2024, 1, 2, 3, 4, 5)] * 2),  # noqa: DTZ001 - local times
        (
            ("2024-01-02T03:04:05Z", "2024-01-02T05:04:05+02:00"),
            [datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)] * 2,
        ),
    ],
)
def test_texts_become_what_all_of_them_are(
    one_column: Callable[..., pl.Series], values: tuple[str, ...], expected: list[object]
) -> None:
    assert one_column(*values).to_list() == expected


@pytest.mark.parametrize(
    "values",
    [
        ("007", "008"),  # A code, not a number.
        ("1", "x"),
        ("12345678901234567890", "1"),  # More than 64 bits hold.
        ("12345678901234567890", "1.5"),
        ("2023-02-29", "2024-02-29"),  # No such day.
        ("2024-01-02T03:04:05", "2024-01-02T03:04:05Z"),  # Local and absolute.
        ("yes", "true"),
        ("0x10", "1"),
    ],
)
def test_texts_that_only_look_like_something_stay_texts(
    one_column: Callable[..., pl.Series], values: tuple[str, ...]
) -> None:
    assert one_column(*values).to_list() == list(values)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(clean_csv: Callable[[str], CleanTable], delimiter: str) -> None:
    table = clean_csv(f'a{delimiter}"b,;|c"\n1{delimiter}2\n')
    assert table.frame.row(0) == (1, 2)


def test_a_header_alone_is_a_table_without_rows(clean_csv: Callable[[str], CleanTable]) -> None:
    assert clean_csv("a,b\n").frame.shape == (0, 2)


def test_nan_is_missing_and_nested_values_are_left_alone() -> None:
    frame = pl.DataFrame({"x": [1.0, float("nan"), 1.0], "Tags": [["a "], None, ["a "]]})
    table = clean(frame, TableKind.PARQUET)
    assert table.frame.to_dicts() == [{"x": 1.0, "tags": ["a "]}]
    assert table.changes.cells_set_to_missing == 1
    assert table.changes.empty_rows_dropped == 1


def test_markers_of_missing_values_are_values_outside_csv() -> None:
    table = clean(pl.DataFrame({"country": ["NA", " DE"]}), TableKind.JSON_LINES)
    assert table.frame["country"].to_list() == ["NA", "DE"]


def test_a_table_without_columns_stays_one() -> None:
    assert clean(pl.DataFrame(), TableKind.JSON_LINES).frame.shape == (0, 0)


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        (TableKind.CSV, b"", "it is empty"),
        (TableKind.CSV, b"a\n\xff\n", "invalid utf-8"),
        (TableKind.CSV, b"a,b\n1,2,3\n", "more fields"),
        (TableKind.JSON_LINES, b'{"a": 1}\n\n{"a"\n', "line 3"),
        (TableKind.JSON_LINES, b"3\n", "line 1 is not a JSON object"),
        (TableKind.PARQUET, b"PAR1", "parquet"),
    ],
)
def test_a_broken_file_is_refused_with_its_reason(
    tmp_path: Path, kind: TableKind, content: bytes, reason: str
) -> None:
    path = tmp_path / "broken"
    path.write_bytes(content)
    with pytest.raises(BrokenTable, match=reason):
        read_table(path, kind)
