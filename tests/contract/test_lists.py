"""P27: a list's pages are exact, whatever it is filtered by; and each costs a bounded look.

On both stores, but for what is Postgres's own: which indexes it searches.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from made_runs import ERROR, S, make_pipeline, moved, record, submit
from runs.adapters.postgres import listing
from runs.adapters.postgres.listing import page_of
from runs.ports import RunFilter
from runs_stores import MemoryStore, PostgresStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from runs.adapters.postgres import Database
    from runs.model import PipelineRun
    from runs_stores import Store

TENANT: Final = "default"
DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own


def walk(store: Store, where: RunFilter, *, page_size: int, insert: Any = None) -> list[int]:
    """The ids on all pages of a list, while other runs come in."""
    seen: list[int] = []
    before: int | None = None
    while True:
        page = store.runs.page(where, tenant_id=TENANT, page_size=page_size, before=before)
        assert len(page.runs) <= page_size
        seen += [run.id for run in page.runs]
        if page.before is None:
            return seen
        assert before is None or page.before < before
        before = page.before
        if insert:
            insert()


def fits(run: PipelineRun, where: RunFilter) -> bool:
    return (
        where.status in {None, run.status}
        and where.pipeline_id in {None, run.pipeline_id}
        and where.workbench_job_id in {None, run.workbench_job_id}
        and (where.tag is None or run.tags.get(where.tag[0]) == where.tag[1])
        and (where.created_after is None or run.created_at > where.created_after)
        and (where.created_before is None or run.created_at < where.created_before)
    )


class Fleet:
    """Two pipelines, runs of both in several statuses over an hour, some with tags."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.pipelines = [make_pipeline(store, name=name) for name in ("one", "two")]
        made = []
        for number in range(24):
            tags = {"team": "ocean" if number % 3 else "air"}
            tags |= {"rare": "1"} if number == 5 else {}
            run = record(store, self.pipelines[number % 2], tags=tags)
            if number % 4 == 1:
                submit(store, run)
            if number % 4 == 2:
                moved(store, run, S.FAILED, error=ERROR)
            made.append(run.id)
            store.move_time(timedelta(minutes=5))
        make_pipeline(store, tenant_id="other")
        self.runs = [store.runs.run(one, tenant_id=TENANT) for one in made]
        self.times: list[datetime | None] = [None, *(run.created_at for run in self.runs[::5])]

    def insert(self) -> None:
        record(self.store, self.pipelines[0], tags={"team": "new"})


@pytest.fixture
def postgres_store(database_url: sa.URL) -> Iterator[PostgresStore]:
    with closing(PostgresStore(database_url)) as store:
        yield store


@pytest.fixture
def fleet(store: Store) -> Fleet:
    return Fleet(store)


def test_p27_every_combination_of_filters_gives_each_of_its_runs_once(fleet: Fleet) -> None:
    job = next(run.workbench_job_id for run in fleet.runs if run.workbench_job_id)
    for status, pipeline, tag, bounds, held in product(
        [None, S.CREATED, S.FAILED, S.RUNNING],
        [None, fleet.pipelines[1].id],
        [None, ("team", "air"), ("rare", "1"), ("rare", "2")],
        [(None, None), (fleet.times[1], fleet.times[3]), (fleet.times[4], None)],
        [None, job],
    ):
        where = RunFilter(
            status=status,
            pipeline_id=pipeline,
            tag=tag,
            created_after=bounds[0],
            created_before=bounds[1],
            workbench_job_id=held,
        )
        expected = [run.id for run in reversed(fleet.runs) if fits(run, where)]
        assert walk(fleet.store, where, page_size=4) == expected, where


@given(page_size=st.integers(1, 7), inserts=st.lists(st.booleans(), max_size=30), data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_p27_what_is_inserted_between_two_pages_changes_nothing(
    page_size: int, inserts: list[bool], data: st.DataObject
) -> None:
    fleet = Fleet(MemoryStore())
    where = RunFilter(
        pipeline_id=data.draw(st.sampled_from([None, fleet.pipelines[0].id])),
        tag=data.draw(st.sampled_from([None, ("team", "ocean"), ("team", "air")])),
        created_after=data.draw(st.sampled_from(fleet.times)),
    )
    coming = iter(inserts)

    def insert() -> None:
        if next(coming, False):
            fleet.insert()

    expected = [run.id for run in reversed(fleet.runs) if fits(run, where)]
    assert walk(fleet.store, where, page_size=page_size, insert=insert) == expected


def test_p27_on_postgres_too(store: Store) -> None:
    fleet = Fleet(store)
    where = RunFilter(tag=("team", "ocean"))
    expected = [run.id for run in reversed(fleet.runs) if fits(run, where)]
    assert walk(store, where, page_size=3, insert=fleet.insert) == expected


def test_p27_ids_that_fall_while_time_rises_are_found_by_their_time(
    postgres_store: PostgresStore,
) -> None:
    """Statements that overlap take their time and their id in another order."""
    pipeline = make_pipeline(postgres_store)
    first, second = record(postgres_store, pipeline), record(postgres_store, pipeline)
    postgres_store.execute(
        "UPDATE pipeline_runs SET created_at = created_at + INTERVAL '5 seconds' WHERE id = :id",
        id=first.id,
    )
    late = postgres_store.runs.run(first.id, tenant_id=TENANT).created_at
    assert walk(postgres_store, RunFilter(created_before=late), page_size=1) == [second.id]
    after = RunFilter(created_after=late - timedelta(seconds=2))
    assert walk(postgres_store, after, page_size=1) == [first.id]


def test_a_page_looks_at_a_bounded_piece_and_says_where_to_go_on(
    postgres_store: PostgresStore,
) -> None:
    pipeline = make_pipeline(postgres_store)
    wanted = record(postgres_store, pipeline, tags={"rare": "1"})
    others = 3 * listing.EXAMINED_PER_ROW
    for _ in range(others):
        record(postgres_store, pipeline)
    where, before = RunFilter(tag=("rare", "1")), None
    pages = []
    for _ in range(9):
        page = postgres_store.runs.page(where, tenant_id=TENANT, page_size=1, before=before)
        pages.append([run.id for run in page.runs])
        before = page.before
        if before is None:
            break
    # A full page can't know that nothing follows it.
    assert pages == [[], [], [], [wanted.id], []]


@dataclass
class Meddling:
    """Something happens after each statement."""

    database: Database
    happen: Callable[[], None]

    def rows(self, statement: sa.Select[Any]) -> Sequence[Mapping[str, Any]]:
        found = self.database.rows(statement)
        self.happen()
        return found


def test_p27_runs_that_end_while_a_page_is_made_hide_no_other(
    postgres_store: PostgresStore,
) -> None:
    """A page that isn't full goes on behind what it has looked at, and nowhere else."""
    store, size = postgres_store, listing.EXAMINED_PER_ROW
    pipeline = make_pipeline(store)
    wanted = record(store, pipeline, tags={"rare": "1"})
    others = [record(store, pipeline).id for _ in range(size + 9)]

    def happen() -> None:
        """The newest ten end."""
        for run_id in others[-10:]:
            run = store.runs.run(run_id, tenant_id=TENANT)
            if not run.is_terminal:
                moved(store, run, S.FAILED, error=ERROR)

    database = cast("Database", Meddling(store.database, happen))
    where, before, seen = RunFilter(tag=("rare", "1"), status=S.CREATED), None, []
    for _ in range(5):
        page = page_of(database, where, tenant_id=TENANT, page_size=1, before=before)
        seen += [run.id for run in page.runs]
        before = page.before
        if before is None:
            break
    assert seen == [wanted.id]


def test_a_long_page_looks_at_no_more_than_the_largest_piece(postgres_store: PostgresStore) -> None:
    pipeline = make_pipeline(postgres_store)
    postgres_store.execute(
        "INSERT INTO pipeline_runs (pipeline_id, mode, workflow_name)"
        " SELECT :pipeline, 'BATCH', 'w' FROM generate_series(1, :number)",
        pipeline=pipeline.id,
        number=listing.MOST_EXAMINED + 10,
    )
    [[newest]] = postgres_store.execute("SELECT max(id) FROM pipeline_runs")
    page = postgres_store.runs.page(
        RunFilter(tag=("rare", "1")), tenant_id=TENANT, page_size=200, before=None
    )
    assert page.runs == []
    assert page.before == newest - listing.MOST_EXAMINED + 1


CHOICES: Final[dict[str, Any]] = {
    "status": S.COMPLETED,
    "pipeline_id": 1,
    "tag": ("a", "b"),
    "created_after": "three days ago",
    "created_before": "three days ago",
    "workbench_job_id": "job-1",
    "before": 10**6,
}
COMBINATIONS: Final = [
    {name: CHOICES[name] for name, is_chosen in zip(CHOICES, chosen, strict=True) if is_chosen}
    for chosen in product([False, True], repeat=len(CHOICES))
]


@dataclass
class Explaining:
    """Has the plan of each statement told in place of carrying it out."""

    database: Database
    plans: list[str] = field(default_factory=list)

    def rows(self, statement: sa.Select[Any]) -> Sequence[Mapping[str, Any]]:
        compiled = str(statement.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True}))
        told = self.database.rows(sa.text("EXPLAIN " + compiled.replace(":", "\\:")))
        self.plans.append("\n".join(row["QUERY PLAN"] for row in told))
        if "coalesce" in compiled:  # Ids for times, by which the next statement searches.
            return self.database.rows(statement)
        return [{"number": 0, "last": None, "id": None}] if "count(*)" in compiled else []


def test_s5_no_list_scans_a_table_or_sorts_it(postgres_store: PostgresStore) -> None:
    """As the API's own user, behind row-level security."""
    store = postgres_store
    make_pipeline(store)
    store.execute(
        "INSERT INTO pipeline_runs (pipeline_id, mode, workflow_name, created_at, status,"
        " started_at, completed_at, workbench_job_id)"
        " SELECT (SELECT id FROM pipelines), 'BATCH', 'w', now() - (20000 - n) * INTERVAL '1 min',"
        " 'COMPLETED', now(), now(), 'job-' || n FROM generate_series(1, 20000) n"
    )
    store.execute("INSERT INTO run_observations (run_id) SELECT id FROM pipeline_runs")
    store.execute("ANALYZE")
    at = store.true_now() - timedelta(days=3)
    with store.as_user_of("api") as connection, connection.acting_for(TENANT):
        # Of so few rows it may read all; what counts is that it need not.
        connection.rows(sa.text("SET enable_seqscan = off"))
        database = Explaining(connection)
        for chosen in COMBINATIONS:
            told: dict[str, Any] = {
                name: at if "created" in name else chosen[name] for name in chosen
            }
            before = told.pop("before", None)
            where = RunFilter(**told)
            as_it_is = cast("Database", database)
            page_of(as_it_is, where, tenant_id=TENANT, page_size=50, before=before)
    by_time = [one for one in COMBINATIONS if one.keys() & {"created_after", "created_before"}]
    assert len(database.plans) == len(COMBINATIONS) + len(by_time)
    for plan in database.plans:
        assert "Seq Scan on pipeline_runs" not in plan
        assert "Seq Scan on run_observations" not in plan
