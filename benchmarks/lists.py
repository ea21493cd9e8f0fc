"""How much longer a list's page takes at a million runs than at a thousand: `make bench-lists`.

Each page is asked for as the API does it: by `PostgresRuns.page`, as the API's own database user,
behind row-level security. The two databases take turns, so that whatever else the machine does
meets both alike. Exits with 1 if a page takes more than three times as long as one that holds
about as many runs. A filter that a thousand runs can't fill a page by is told apart: there, most of
the difference is runs that the longer page holds and the shorter doesn't.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.fleet import ASKED, COMMON_TAG, FREQUENT_PIPELINE, RARE_TAG, Fleet
from infra.local.layout import Layout
from real_parts import execute, migrated, new_database, superuser
from runs.adapters.postgres import PostgresPipelines, PostgresRuns
from runs.ports import RunFilter
from runs.status import PipelineRunStatus
from runs_stores import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    import sqlalchemy as sa

    from runs.adapters.postgres import Database

FEW: Final = 1_000
TARGET: Final = 3.0
PAGE_SIZES: Final = (50, 200)
WORST: Final = 10
AS_MANY: Final = 25
"""Runs that one page may hold more than another that is as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a page is asked for; the same words mean the same share of either fleet."""

    status: PipelineRunStatus | None = None
    is_of_pipeline: bool = False
    has_job: bool = False
    tag: tuple[str, str] | None = None
    is_after: bool = False
    is_before: bool = False
    is_deep: bool = False
    page_size: int

    def __str__(self) -> str:
        parts = [
            f"status={self.status}" if self.status else "",
            "pipeline_id" if self.is_of_pipeline else "",
            "workbench_job_id" if self.has_job else "",
            {None: "", COMMON_TAG: "tag (1 in 3)", RARE_TAG: "tag (1 in 1,000)"}[self.tag],
            "created_after" if self.is_after else "",
            "created_before" if self.is_before else "",
        ]
        filters = ", ".join(filter(None, parts)) or "no filter"
        return f"{filters}; {'deep' if self.is_deep else 'first'} page of {self.page_size}"


BOTH: Final = (False, True)
DIMENSIONS: Final[list[Sequence[Any]]] = [
    (None, PipelineRunStatus.COMPLETED, PipelineRunStatus.FAILED),
    BOTH,
    BOTH,
    (None, COMMON_TAG, RARE_TAG),
    BOTH,
    BOTH,
    BOTH,
    PAGE_SIZES,
]
CHOICES: Final = [
    Choice(
        status=status,
        is_of_pipeline=is_of_pipeline,
        has_job=has_job,
        tag=tag,
        is_after=is_after,
        is_before=is_before,
        is_deep=is_deep,
        page_size=page_size,
    )
    for status, is_of_pipeline, has_job, tag, is_after, is_before, is_deep, page_size in product(
        *DIMENSIONS
    )
]


@dataclass(frozen=True, slots=True)
class Side:
    """A fleet in a database, and the API's connection to it."""

    fleet: Fleet
    database: Database
    now: datetime
    known_run: int

    def where(self, choice: Choice) -> RunFilter:
        """The filter that this is on this side."""
        year = timedelta(days=365)
        return RunFilter(
            status=choice.status,
            pipeline_id=FREQUENT_PIPELINE if choice.is_of_pipeline else None,
            workbench_job_id=f"job-{self.known_run}" if choice.has_job else None,
            tag=choice.tag,
            created_after=self.now - 0.9 * year if choice.is_after else None,
            created_before=self.now - 0.1 * year if choice.is_before else None,
        )

    def page(self, choice: Choice) -> int:
        """Reads a page; returns how many runs it holds."""
        page = PostgresRuns(self.database).page(
            self.where(choice),
            tenant_id=ASKED,
            page_size=choice.page_size,
            before=self.fleet.middle if choice.is_deep else None,
        )
        return len(page.runs)

    def walk(self, choice: Choice) -> tuple[int, int]:
        """Reads a list to its end; returns how many calls that took, and how many runs it held."""
        calls, found, before = 0, 0, None
        where = self.where(choice)
        while calls == 0 or before is not None:
            page = PostgresRuns(self.database).page(
                where, tenant_id=ASKED, page_size=choice.page_size, before=before
            )
            calls, found, before = calls + 1, found + len(page.runs), page.before
        return calls, found


OTHER_READS: Final[dict[str, Callable[[Side], object]]] = {
    "GET /pipeline-run/{pipeline_run_id}": lambda side: PostgresRuns(side.database).run(
        side.known_run, tenant_id=ASKED
    ),
    "GET /pipeline-run/{pipeline_run_id}/events": lambda side: PostgresRuns(side.database).history(
        side.known_run, tenant_id=ASKED
    ),
    "GET /pipeline, first page of 200": lambda side: PostgresPipelines(side.database).pipelines(
        tenant_id=ASKED, page_size=200, before=None
    ),
}


HEADING: Final = """\
| page | runs on it, few / many | ms at few | ms at many | ratio |
|---|---|---|---|---|"""


@dataclass(slots=True)
class Measured:
    """One page, or another read, on both sides."""

    name: str
    milliseconds: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    rows: tuple[int, int] = (0, 0)

    @property
    def medians(self) -> tuple[float, float]:
        """At few runs, and at many."""
        few, many = self.milliseconds
        return median(few), median(many)

    @property
    def ratio(self) -> float:
        """How many times as long it takes at many."""
        few, many = self.medians
        return many / few

    @property
    def is_as_long(self) -> bool:
        """Whether the page holds about as many runs at few as at many."""
        return abs(self.rows[1] - self.rows[0]) <= AS_MANY

    def __str__(self) -> str:
        few, many = self.medians
        rows = f"{self.rows[0]} / {self.rows[1]}"
        return f"| {self.name} | {rows} | {few:.1f} | {many:.1f} | {self.ratio:.2f} |"


def measure(sides: Sequence[Side], rounds: int) -> tuple[list[Measured], list[Measured]]:
    """Takes turns between the sides, round by round; the first round warms up and isn't counted.

    Returns:
        The pages, and the other reads.
    """
    pages = [Measured(str(choice)) for choice in CHOICES]
    others = [Measured(name) for name in OTHER_READS]
    for number in range(rounds + 1):
        for measured, choice in zip(pages, CHOICES, strict=True):
            found = []
            for side, times in zip(sides, measured.milliseconds, strict=True):
                began = time.perf_counter()
                found.append(side.page(choice))
                _note(times, began, number)
            measured.rows = (found[0], found[1])
        for measured, read in zip(others, OTHER_READS.values(), strict=True):
            for side, times in zip(sides, measured.milliseconds, strict=True):
                began = time.perf_counter()
                read(side)
                _note(times, began, number)
    return pages, others


def _note(times: list[float], began: float, number: int) -> None:
    if number:
        times.append((time.perf_counter() - began) * 1_000)


@contextmanager
def sides_of(server: sa.URL, sizes: Sequence[int]) -> Iterator[list[Side]]:
    """A database for each size."""
    with ExitStack() as stack:
        sides = []
        for size in sizes:
            began = time.monotonic()
            store = stack.enter_context(
                closing(PostgresStore(stack.enter_context(new_database(server))))
            )
            fleet = Fleet(size)
            fleet.fill(store)
            database = stack.enter_context(store.as_user_of("api"))
            stack.enter_context(database.acting_for(ASKED))
            sides.append(Side(fleet, database, store.true_now(), fleet.known_run(store)))
            say(f"{size:,} runs of {fleet.total:,} made in {time.monotonic() - began:.0f} s")
        yield sides


def report(pages: list[Measured], others: list[Measured]) -> bool:
    """Says what was found; returns whether no page of the same length takes too much longer."""
    as_long = [measured for measured in pages if measured.is_as_long]
    longer = [measured for measured in pages if not measured.is_as_long]
    _report_group("pages that hold as many runs at few", as_long)
    _report_group("pages that hold more runs at many than there are at few", longer)
    say(f"\nOther reads\n\n{HEADING}")
    for measured in others:
        say(str(measured))
    return all(measured.ratio <= TARGET for measured in as_long)


def _report_group(name: str, group: list[Measured]) -> None:
    if not group:
        return
    ratios = [measured.ratio for measured in group]
    say(
        f"\n{len(group)} {name}: ratio median {median(ratios):.2f}, largest {max(ratios):.2f}, "
        f"over {TARGET:.0f}: {sum(ratio > TARGET for ratio in ratios)}; "
        f"slowest at many {max(measured.medians[1] for measured in group):.1f} ms\n\n{HEADING}"
    )
    for measured in sorted(group, key=lambda one: one.ratio, reverse=True)[:WORST]:
        say(str(measured))


def report_walks(side: Side) -> None:
    """Says what it takes to find all runs that have a rare tag."""
    for choice in (
        Choice(tag=RARE_TAG, page_size=200),
        Choice(tag=RARE_TAG, is_of_pipeline=True, page_size=200),
    ):
        began = time.monotonic()
        calls, found = side.walk(choice)
        say(f"A walk, {choice}: {calls} calls, {found} runs, {time.monotonic() - began:.1f} s")


def say(line: str) -> None:
    """To the one who started it."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Fills, measures, reports."""
    parser = argparse.ArgumentParser(prog="make bench-lists", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="of the larger fleet")
    parser.add_argument("--rounds", type=int, default=9, help="a figure is their median")
    told: Any = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as folder,
        migrated(Layout(Path(folder))) as real,
    ):
        server = superuser(real)
        # What is thrown away needs not survive.
        execute(server.set(database="postgres"), "ALTER SYSTEM SET fsync = off")
        execute(server.set(database="postgres"), "SELECT pg_reload_conf()")
        with sides_of(server, (FEW, told.runs)) as sides:
            kept = report(*measure(sides, told.rounds))
            report_walks(sides[1])
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
