"""The report as one HTML page that needs nothing else: styles and pictures stand inside it.

Names and values come from other people's files, so everything is escaped on its way into the
page, and the page itself forbids scripts and foreign hosts.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

from infra.workbench.pictures import compact, draw_counts, draw_histogram, draw_shares
from infra.workbench.profiles import ColumnKind, ColumnProfile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.workbench.facts import FileFacts, JobFacts, ObjectFacts, TableFacts
    from infra.workbench.tables import Changes

STYLES = Path(__file__).with_name("report.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
MAX_TABLES_SHOWN = 40
MAX_COLUMNS_LISTED = 200
MAX_PICTURES_PER_TABLE = 24
MAX_TABLES_WITH_PICTURES = 12
MAX_FILES_LISTED = 500
MIN_SHARE_TOLD = 0.1
MAX_GAPS_SHOWN = 12
TIMES: Final = frozenset({ColumnKind.DATE, ColumnKind.DATETIME})
BINARY_STEP = 1024


def render(facts: JobFacts) -> str:
    """The whole page."""
    title = f"Data report of run {facts.pipeline_run_id}"
    sections = [
        _table_section(one, table, with_pictures=place < MAX_TABLES_WITH_PICTURES)
        for place, (one, table) in enumerate(facts.tables[:MAX_TABLES_SHOWN])
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<style>
{STYLES.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{_origin(facts)}
{_tiles(facts)}
{_left_out(len(facts.tables) - len(sections), "more tables")}
{"".join(sections)}
{_copied_section(facts.copied)}
<footer>Every figure of this page is in report.json beside it; checksums of all files are in
manifest.json beside the results.</footer>
</main>
</body>
</html>
"""


def _origin(facts: JobFacts) -> str:
    shown = [
        ("From", _code(facts.input)),
        ("To", _code(facts.output)),
        ("Started", escape(facts.started_at[:19].replace("T", " ") + " UTC")),
        ("Job", _code(facts.workbench_job_id)),
    ]
    return _definitions(shown)


def _tiles(facts: JobFacts) -> str:
    totals = facts.totals()
    missing = totals["missing_cells"] / totals["cells"] if totals["cells"] else 0
    tiles = [
        (f"{totals['objects']:,}", _plural(totals["objects"], "object") + " read"),
        (f"{totals['tables']:,}", _plural(totals["tables"], "table") + " cleaned"),
        (f"{totals['rows_written']:,}", f"rows kept of {totals['rows_read']:,}"),
        (f"{missing:.1%}", "of cells are missing"),
        (bytes_in_words(totals["bytes_read"]), "read"),
        (bytes_in_words(totals["bytes_written"]), "written"),
    ]
    inner = "".join(
        f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _table_section(one: ObjectFacts, table: TableFacts, *, with_pictures: bool) -> str:
    size = bytes_in_words(one.source.size_bytes)
    shape = f"{table.rows_written:,} rows · {len(table.columns)} columns"
    return f"""<section class="card">
<header><h2>{escape(one.source.name)}</h2>
<span class="quiet">{escape(table.kind)} · {shape} · {size}</span></header>
{_changes(table)}
<h3>Columns</h3>
{_column_table(table)}
{_pictures(table) if with_pictures else ""}
<h3>Files</h3>
{_definitions([("Read", _file(one.source)), ("Written", _file(one.target))])}
</section>
"""


def _changes(table: TableFacts) -> str:
    done = changes_in_words(table.changes) or ["nothing needed cleaning"]
    items = "".join(f"<li>{escape(change)}</li>" for change in done)
    return f'<ul class="chips" aria-label="What was done">{items}</ul>'


def changes_in_words(changes: Changes) -> list[str]:
    """What cleaning did, each with its count; empty if it did nothing."""
    counted = [
        (changes.duplicate_rows_dropped, "duplicate row", "dropped"),
        (changes.empty_rows_dropped, "empty row", "dropped"),
        (changes.cells_set_to_missing, "cell", "read as missing"),
        (changes.trimmed_cells, "cell", "trimmed"),
        (len(changes.renamed_columns), "column", "renamed"),
        (len(changes.typed_columns), "column", "given a type"),
    ]
    return [f"{count:,} {_plural(count, noun)} {verb}" for count, noun, verb in counted if count]


def _column_table(table: TableFacts) -> str:
    rows = "".join(_column_row(column, table) for column in table.columns[:MAX_COLUMNS_LISTED])
    return f"""<div class="scroll"><table>
<thead><tr><th>Column</th><th>Type</th><th class="number">Missing</th>
<th class="number">Distinct</th><th class="number">Lowest</th><th class="number">Median</th>
<th class="number">Highest</th><th>Commonest</th></tr></thead>
<tbody>{rows}</tbody></table></div>
{_left_out(len(table.columns) - MAX_COLUMNS_LISTED, "more columns")}"""


def _column_row(column: ColumnProfile, table: TableFacts) -> str:
    name = f"<b>{escape(column.name)}</b>"
    if column.original_name != column.name:
        name += (
            f'<br><span class="quiet">was {escape(column.original_name) or "without name"}</span>'
        )
    distinct = "&ndash;" if column.distinct is None else f"{column.distinct:,}"
    return (
        f'<tr><td class="text">{name}</td><td class="type">{escape(column.kind)}</td>'
        f'<td class="number">{_missing(column, table)}</td><td class="number">{distinct}</td>'
        f'<td class="number">{_value(column.minimum)}</td>'
        f'<td class="number">{_value(column.median)}</td>'
        f'<td class="number">{_value(column.maximum)}</td>'
        f'<td class="text">{_commonest(column)}</td></tr>'
    )


def _missing(column: ColumnProfile, table: TableFacts) -> str:
    if not column.missing:
        return '<span class="whole">none</span>'
    share = column.missing / table.rows_written
    return f'<span class="gaps">{column.missing:,} · {share:.1%}</span>'


def _value(value: str | float | None) -> str:
    if value is None:
        return ""
    return escape(value[:19].replace("T", " ")) if isinstance(value, str) else compact(value)


def _commonest(column: ColumnProfile) -> str:
    if not column.counts:
        return ""
    top = max(column.counts, key=lambda one: one.count)
    return f'{escape(top.value)} <span class="quiet">&times; {top.count:,}</span>'


def _pictures(table: TableFacts) -> str:
    drawable = [column for column in table.columns if _is_worth_drawing(column, table)]
    shown = drawable[:MAX_PICTURES_PER_TABLE]
    gaps = _gaps_picture(table)
    if not shown and not gaps:
        return ""
    return f"""<h3>Pictures</h3>
<div class="pictures">{"".join(_picture(column) for column in shown)}{gaps}</div>
{_left_out(len(drawable) - len(shown), "more columns could be drawn")}"""


def _is_worth_drawing(column: ColumnProfile, table: TableFacts) -> bool:
    """Not one value alone, nor the few that repeat among thousands that don't."""
    told = sum(one.count for one in column.counts)
    present = table.rows_written - column.missing
    return bool(column.histogram) or (len(column.counts) > 1 and told >= present * MIN_SHARE_TOLD)


def _picture(column: ColumnProfile) -> str:
    label = f"Distribution of {column.name}"
    if column.histogram:
        picture = draw_histogram(column.histogram, label=label, times=column.kind in TIMES)
        return _figure(column.name, _spread(column), picture)
    fact = f"{column.distinct:,} {_plural(column.distinct or 0, 'value')}"
    return _figure(column.name, fact, draw_counts(column.counts, label=label))


def _spread(column: ColumnProfile) -> str:
    if column.mean is None:
        return ""
    if column.standard_deviation is None:
        return f"mean {_rounded(column.mean)}"
    return f"mean {_rounded(column.mean)} ± {_rounded(column.standard_deviation)}"


def _rounded(number: float) -> str:
    """Three digits are enough beside a picture."""
    return compact(float(f"{number:.3g}"))


def _gaps_picture(table: TableFacts) -> str:
    """The columns with the most missing values; "" if none misses any."""
    shares = [
        (column.name, column.missing / table.rows_written)
        for column in table.columns
        if column.missing
    ]
    worst = sorted(shares, key=lambda one: -one[1])[:MAX_GAPS_SHOWN]
    if not worst:
        return ""
    fact = f"in {len(shares)} of {len(table.columns)} columns"
    return _figure("Missing values", fact, draw_shares(worst, label="Missing values by column"))


def _figure(name: str, fact: str, picture: str) -> str:
    caption = f"<figcaption><b>{escape(name)}</b><span>{escape(fact)}</span></figcaption>"
    return f"<figure>{caption}{picture}</figure>"


def _copied_section(copied: tuple[ObjectFacts, ...]) -> str:
    if not copied:
        return ""
    rows = "".join(
        f'<tr><td class="text">{escape(one.source.name)}'
        f"{_note(one)}</td>"
        f'<td class="number">{bytes_in_words(one.source.size_bytes)}</td>'
        f'<td class="text">{_code(one.source.sha256)}</td></tr>'
        for one in copied[:MAX_FILES_LISTED]
    )
    return f"""<section class="card">
<header><h2>Copied as they are</h2>
<span class="quiet">{len(copied):,} {_plural(len(copied), "file")}</span></header>
<div class="scroll"><table>
<thead><tr><th>File</th><th class="number">Size</th><th>SHA-256</th></tr></thead>
<tbody>{rows}</tbody></table></div>
{_left_out(len(copied) - MAX_FILES_LISTED, "more files")}
</section>
"""


def _note(one: ObjectFacts) -> str:
    return f'<br><span class="quiet">{escape(one.note)}</span>' if one.note else ""


def _file(file: FileFacts) -> str:
    size = bytes_in_words(file.size_bytes)
    return f'{_code(file.uri)}<br><span class="quiet">{size} · SHA-256 {_code(file.sha256)}</span>'


def _definitions(pairs: Iterable[tuple[str, str]]) -> str:
    inner = "".join(f"<dt>{term}</dt><dd>{meaning}</dd>" for term, meaning in pairs)
    return f'<dl class="facts">{inner}</dl>'


def _left_out(count: int, what: str) -> str:
    return f'<p class="quiet">{count:,} {what}: see report.json.</p>' if count > 0 else ""


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


def bytes_in_words(size_bytes: int) -> str:
    """A size as people write it: 512 B, 15.4 KiB."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < BINARY_STEP:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= BINARY_STEP
    return f"{size:,.1f} TiB"
