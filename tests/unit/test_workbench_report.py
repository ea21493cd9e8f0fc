"""The report is one page that stands by itself, whatever the files hold."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest

from infra.workbench.facts import FileFacts, JobFacts, ObjectFacts, TableFacts
from infra.workbench.pictures import compact
from infra.workbench.profiles import profile_columns
from infra.workbench.report import bytes_in_words, changes_in_words, render
from infra.workbench.tables import Changes, TableKind, clean

HOSTILE = "<script>alert(1)</script>\"'&$x^2$\x00\u202e\ud7ff日本"
VOID = {"meta", "br", "path", "link"}


class Page(HTMLParser):
    """Tags, attributes and texts of a page, and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def file(name: str) -> FileFacts:
    return FileFacts(name=name, uri=f"s3://bucket/{name}", size_bytes=2048, sha256="ab" * 32)


def table_object(frame: pl.DataFrame, name: str = "a.csv") -> ObjectFacts:
    table = clean(frame, TableKind.PARQUET)
    facts = TableFacts(
        kind=TableKind.CSV,
        rows_read=frame.height,
        rows_written=table.frame.height,
        changes=table.changes,
        columns=profile_columns(table),
    )
    return ObjectFacts(source=file(name), target=file(f"{name}.parquet"), table=facts)


def job_facts(*objects: ObjectFacts) -> JobFacts:
    return JobFacts(
        workbench_job_id="job-1",
        pipeline_run_id=42,
        input="s3://bucket/in",
        output="s3://bucket/out",
        started_at="2024-01-02T03:04:05.678+00:00",
        objects=objects,
    )


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    numbers = [number % 37 for number in range(200)]
    return pl.DataFrame(
        {
            "Size": [*numbers[:-1], None],
            "colour": [("red", "blue")[number % 2] for number in numbers],
            "day": pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 7, 18), eager=True),
            "code": [f"c{number}" for number in range(200)],
        }
    )


def test_the_page_tells_what_was_found_and_what_was_done(frame: pl.DataFrame) -> None:
    page = Page(render(job_facts(table_object(frame))))
    assert page.open == []
    text = re.sub(r"\s+", " ", " ".join(page.texts))
    for told in (
        "Data report of run 42",
        "2024-01-02 03:04:05 UTC",
        "rows kept of 200",
        "1 column renamed",
        "was Size",
        "1 · 0.5%",
        "Missing values",
        "red",
    ):
        assert told in text


def test_there_is_a_picture_for_each_column_that_has_something_to_see(
    frame: pl.DataFrame,
) -> None:
    page = Page(render(job_facts(table_object(frame))))
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert labels == [
        "What was done",
        "Distribution of size",
        "Distribution of colour",
        "Distribution of day",
        "Missing values by column",
    ]


def test_neither_one_value_alone_nor_a_few_repeats_among_many_are_drawn() -> None:
    ids = [f"c{number}" for number in range(199)]
    frame = pl.DataFrame({"nearly_unique": [*ids, "c7"], "constant": ["a"] * 200})
    assert "<svg" not in render(job_facts(table_object(frame)))


def test_the_page_needs_and_names_no_other_host(frame: pl.DataFrame) -> None:
    html = render(job_facts(table_object(frame)))
    page = Page(html)
    assert "http:" not in html
    assert "https:" not in html
    assert not {"script", "link", "img", "iframe", "object", "use"} & set(page.tags)
    assert not {"src", "href", "id", "clip-path"} & {name for name, _ in page.attributes}
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_pictures_take_the_colours_of_the_page(frame: pl.DataFrame) -> None:
    html = render(job_facts(table_object(frame)))
    pictures = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(pictures) == 4
    for picture in pictures:
        assert "var(--accent)" in picture
        assert not re.search(r"#[0-9a-f]{6}|font-family", picture)


def test_names_and_values_from_files_are_shown_not_obeyed() -> None:
    frame = pl.DataFrame({HOSTILE: [HOSTILE, HOSTILE, "b"], "n": [1, 2, 2]})
    hostile = table_object(frame, name=HOSTILE)
    copied = ObjectFacts(source=file(HOSTILE), target=file(HOSTILE), note=HOSTILE)
    page = Page(render(job_facts(hostile, copied)))
    assert page.open == []
    assert "script" not in page.tags
    assert sum(HOSTILE.replace("\x00", "") in text.replace("\x00", "") for text in page.texts) >= 4


def test_a_job_without_tables_and_one_with_an_empty_table_have_a_page() -> None:
    nothing = render(job_facts(ObjectFacts(source=file("a.bin"), target=file("a.bin"))))
    assert "Copied as they are" in nothing
    empty = table_object(pl.DataFrame({"a": pl.Series([], dtype=pl.String)}))
    assert "nothing needed cleaning" in render(job_facts(empty))


def test_very_many_columns_and_tables_are_cut_and_the_page_says_so() -> None:
    columns = {f"c{number}": ["a", "a", "b"] for number in range(209)}
    wide = table_object(pl.DataFrame({"id": ["1", "2", "3"]} | columns))
    page = render(job_facts(*[wide] * 2, *[table_object(pl.DataFrame({"a": [1]}))] * 40))
    assert "10 more columns: see report.json." in page
    assert "185 more columns could be drawn: see report.json." in page
    assert "2 more tables: see report.json." in page


def test_the_facts_are_json(frame: pl.DataFrame) -> None:
    facts = job_facts(table_object(frame), ObjectFacts(source=file("b"), target=file("b")))
    report: dict[str, Any] = json.loads(facts.report())
    manifest: dict[str, Any] = json.loads(facts.manifest())
    totals = {
        "objects": 2,
        "tables": 1,
        "bytes_read": 4096,
        "bytes_written": 4096,
        "rows_read": 200,
        "rows_written": 200,
        "cells": 800,
        "missing_cells": 1,
    }
    assert report["totals"] == manifest["totals"] == totals
    assert report["objects"][0]["table"]["columns"][0]["name"] == "size"
    assert manifest["objects"][0]["columns"] == ["size", "colour", "day", "code"]


def test_changes_are_told_with_their_counts() -> None:
    assert changes_in_words(Changes()) == []
    assert changes_in_words(Changes(trimmed_cells=1, duplicate_rows_dropped=1200)) == [
        "1,200 duplicate rows dropped",
        "1 cell trimmed",
    ]


def test_sizes_and_numbers_are_short() -> None:
    sizes = [0, 1023, 1024, 15_770, 5 * 1024**3]
    assert [bytes_in_words(size) for size in sizes] == [
        "0 B",
        "1,023 B",
        "1.0 KiB",
        "15.4 KiB",
        "5.0 GiB",
    ]
    numbers = [2007, 12_345.6, 1_500_000, -0.25, 1e300]
    assert [compact(number) for number in numbers] == [
        "2007",
        "12,345.6",
        "1.5M",
        "-0.25",
        "1e+300",
    ]
