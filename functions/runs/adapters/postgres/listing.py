"""A page of a tenant's runs: by indexes alone, and never more than a bounded piece of one.

What an index can tell (job, pipeline, status, pipeline and status) chooses the index. What none
can (tags, the exact times) is looked for in a piece of it; a page is short when the piece held
less than a page of what was asked for, and says where to go on.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from runs.adapters.postgres.rows import RUNS, run_of
from runs.adapters.postgres.tables import pipeline_runs
from runs.ports import RunPage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from runs.adapters.postgres.database import Database
    from runs.ports import RunFilter

EXAMINED_PER_ROW: Final = 50
"""How many entries of an index are looked at for each run of a full page, at most."""
MOST_EXAMINED: Final = 1_000
"""And for a page of any size: as many as a small list has, so that a page costs the same at any
number of runs. docs/performance.md has the figures."""
SLACK: Final = timedelta(minutes=10)
"""Ids rise with `created_at`, but for statements that overlap and clocks that are set."""

_RUN: Final = pipeline_runs.c
_AT: Final = sa.DateTime(timezone=True)
_BEYOND: Final = sa.literal(2**63 - 1, sa.BigInteger)


def page_of(
    database: Database, where: RunFilter, *, tenant_id: str, page_size: int, before: int | None
) -> RunPage:
    """See `ports.Runs.page`."""
    entries = (
        sa.select(_RUN.id, _RUN.created_at, _RUN.tags)
        .where(*_by_index(where, tenant_id, before), *_by_time(database, where, tenant_id))
        .order_by(_RUN.id.desc())
    )
    if not _needs_looking(where):
        chosen = entries.limit(page_size).subquery()
        statement = RUNS.join(chosen, chosen.c.id == _RUN.id).order_by(_RUN.id.desc())
        runs = [run_of(row) for row in database.rows(statement)]
        return RunPage(runs=runs, before=runs[-1].id if len(runs) == page_size else None)
    size = _size_of_piece(page_size)
    rows = database.rows(_looked_for(where, entries.limit(size), page_size))
    runs = [run_of(row) for row in rows if row["id"] is not None]
    if len(runs) == page_size:
        return RunPage(runs=runs, before=runs[-1].id)
    return RunPage(runs=runs, before=rows[0]["last"] if rows[0]["number"] == size else None)


def _looked_for(where: RunFilter, entries: sa.Select[Any], page_size: int) -> sa.Select[Any]:
    """The runs of a piece that fit, and how far the piece goes; one row without a run for none.

    One statement: whoever looked at the piece again might find another one, and go on behind runs
    that nobody has looked at.
    """
    piece = entries.cte("piece")
    chosen = (
        sa.select(piece.c.id)
        .where(*_by_looking(where, piece))
        .order_by(piece.c.id.desc())
        .limit(page_size)
        .subquery()
    )
    found = RUNS.join(chosen, chosen.c.id == _RUN.id).subquery()
    extent = (
        sa.select(sa.func.count().label("number"), sa.func.min(piece.c.id).label("last"))
        .select_from(piece)
        .subquery()
    )
    return (
        sa.select(extent, found)
        .select_from(extent.outerjoin(found, sa.true()))
        .order_by(found.c.id.desc())
    )


def _size_of_piece(page_size: int) -> int:
    return min(page_size * EXAMINED_PER_ROW, MOST_EXAMINED)


def _by_index(
    where: RunFilter, tenant_id: str, before: int | None
) -> Iterator[sa.ColumnElement[bool]]:
    yield _RUN.tenant_id == tenant_id
    if before is not None:
        yield _RUN.id < before
    if where.workbench_job_id is not None:
        yield _RUN.workbench_job_id == where.workbench_job_id
    if where.pipeline_id is not None:
        yield _RUN.pipeline_id == where.pipeline_id
    if where.status is not None:
        yield _RUN.status_text == str(where.status)


def _by_time(
    database: Database, where: RunFilter, tenant_id: str
) -> Iterator[sa.ColumnElement[bool]]:
    """Ids for times, looked up beforehand.

    Between ids that it would have to find out by itself, Postgres expects hardly any run and plans
    for so few: at a million runs such a page took a second.
    """
    bounds = []
    if where.created_before is not None:
        bounds.append(_surely_later(tenant_id, where.created_before).label("before"))
    if where.created_after is not None:
        bounds.append(_surely_earlier(tenant_id, where.created_after).label("after"))
    if not bounds:
        return
    [row] = database.rows(sa.select(*bounds))
    if "before" in row:
        yield _RUN.id < row["before"]
    if "after" in row:
        yield _RUN.id > row["after"]


def _surely_later(tenant_id: str, at: datetime) -> sa.ColumnElement[int]:
    """An id above those of all runs before a time."""
    other = pipeline_runs.alias().c
    first = sa.select(other.id).where(
        other.tenant_id == tenant_id, other.created_at >= _moment(at + SLACK)
    )
    found = first.order_by(other.created_at).limit(1).scalar_subquery()
    return sa.func.coalesce(found, _BEYOND)


def _surely_earlier(tenant_id: str, at: datetime) -> sa.ColumnElement[int]:
    """An id below those of all runs after a time."""
    other = pipeline_runs.alias().c
    last = sa.select(other.id).where(
        other.tenant_id == tenant_id, other.created_at <= _moment(at - SLACK)
    )
    found = last.order_by(other.created_at.desc()).limit(1).scalar_subquery()
    return sa.func.coalesce(found, sa.literal(0, sa.BigInteger))


def _needs_looking(where: RunFilter) -> bool:
    """Whether the filter has something that no index tells."""
    return (where.tag, where.created_after, where.created_before) != (None, None, None)


def _by_looking(where: RunFilter, piece: sa.CTE) -> Iterator[sa.ColumnElement[bool]]:
    if where.created_before is not None:
        yield piece.c.created_at < _moment(where.created_before)
    if where.created_after is not None:
        yield piece.c.created_at > _moment(where.created_after)
    if where.tag is not None:
        name, value = where.tag
        yield piece.c.tags[name].astext == value


def _moment(at: datetime) -> sa.ColumnElement[datetime]:
    return sa.literal(at, _AT)
