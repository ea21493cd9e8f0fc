"""How a tenant's runs fare as a whole, on both stores; and the places for callers that wait."""

from __future__ import annotations

from contextlib import ExitStack, closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from made_runs import (
    ERROR,
    TENANT,
    WORKBENCH,
    S,
    make_pipeline,
    moved,
    record,
    submitted,
    trouble,
)
from runs.adapters.postgres import PostgresWaiters
from runs.adapters.postgres.waiters import PLACES, PLACES_OF_A_TENANT
from runs.model import Finding
from runs.ports import Breaker
from runs_stores import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runs.ports import Overview
    from runs_stores import Store


def overview(store: Store, tenant_id: str = TENANT) -> Overview:
    return store.overviews.overview(tenant_id=tenant_id, workbench=WORKBENCH)


def test_of_nothing_there_is_nothing_to_tell(store: Store) -> None:
    told = overview(store)
    assert (dict(told.active), dict(told.ended_of_late)) == ({}, {})
    assert (told.worst_staleness_seconds, told.last_sweep_at) == (None, None)
    assert told.breaker == Breaker()


def test_p29_a_tenants_own_runs_are_counted_by_status(store: Store) -> None:
    pipeline, other = make_pipeline(store), make_pipeline(store, tenant_id="other")
    record(store, pipeline)
    record(store, pipeline)
    submitted(store, pipeline)
    moved(store, record(store, pipeline), S.FAILED, error=ERROR)
    record(store, other)

    told = overview(store)

    assert dict(told.active) == {S.CREATED: 2, S.SUBMITTED: 1}
    assert dict(told.ended_of_late) == {S.FAILED: 1}
    assert dict(overview(store, "other").active) == {S.CREATED: 1}


def test_what_ended_a_day_ago_is_of_late_no_more(store: Store) -> None:
    moved(store, record(store, make_pipeline(store)), S.FAILED, error=ERROR)
    store.move_time(timedelta(hours=23, minutes=59))
    assert dict(overview(store).ended_of_late) == {S.FAILED: 1}
    store.move_time(timedelta(minutes=2))
    assert dict(overview(store).ended_of_late) == {}


def test_the_worst_staleness_is_that_of_the_run_with_the_oldest_news(store: Store) -> None:
    pipeline = make_pipeline(store)
    seen, unseen = submitted(store, pipeline), submitted(store, pipeline)
    store.move_time(timedelta(seconds=100))
    store.runs.observe([Finding(run_id=seen.id, upstream_status="RUNNING")])
    store.move_time(timedelta(seconds=50))

    # Of a run that nobody has seen yet the news is that it was submitted.
    worst = overview(store).worst_staleness_seconds
    assert worst == pytest.approx(150, abs=5)
    moved(store, unseen, S.COMPLETED)
    worst = overview(store).worst_staleness_seconds
    assert worst == pytest.approx(50, abs=5)


def test_a_sweep_and_the_breaker_are_told(store: Store) -> None:
    now = overview(store).now
    store.runs.claim([7], older_than=timedelta(0), not_after=store.true_now() + timedelta(hours=1))
    store.breakers.answered(WORKBENCH)
    told = overview(store)
    assert told.last_sweep_at
    assert told.last_sweep_at >= now
    assert told.breaker.last_valid_at


# -- callers that wait ----------------------------------------------------------------------------


@pytest.fixture
def postgres_store(database_url: sa.URL) -> Iterator[PostgresStore]:
    with closing(PostgresStore(database_url)) as store:
        yield store


def test_so_many_wait_and_no_more_over_all_environments(postgres_store: PostgresStore) -> None:
    environments = [PostgresWaiters(postgres_store.connect()) for _ in range(PLACES + 1)]
    *seated, late = environments
    with ExitStack() as waiting:
        for number, one in enumerate(seated):
            assert waiting.enter_context(one.place(f"tenant-{number}"))()
        with late.place("late") as is_kept:
            assert not is_kept()
    with late.place("late") as is_kept:
        assert is_kept()


def test_a_tenant_leaves_places_for_others(postgres_store: PostgresStore) -> None:
    *seated, other = [
        PostgresWaiters(postgres_store.connect()) for _ in range(PLACES_OF_A_TENANT + 2)
    ]
    with ExitStack() as waiting:
        kept = [waiting.enter_context(one.place("greedy")) for one in seated]
        assert [is_kept() for is_kept in kept] == [True] * PLACES_OF_A_TENANT + [False]
        assert waiting.enter_context(other.place("modest"))()
    with seated[-1].place("greedy") as is_kept:
        assert is_kept()


def test_who_was_turned_away_holds_nothing(postgres_store: PostgresStore) -> None:
    full = [PostgresWaiters(postgres_store.connect()) for _ in range(PLACES + 1)]
    *seated, late = full
    with ExitStack() as waiting:
        for number, one in enumerate(seated):
            waiting.enter_context(one.place(f"tenant-{number}"))
        with late.place("late"):
            pass
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        mine = f"{locks} AND pid = pg_backend_pid()"
        [row] = late.database.rows(sa.text(mine))
    assert row["count"] == 0


def test_whose_connection_was_lost_has_no_place_any_more(postgres_store: PostgresStore) -> None:
    connection = postgres_store.connect()
    with PostgresWaiters(connection).place("tenant") as is_kept:
        assert is_kept()
        connection.close()
        connection.rows(sa.text("SELECT 1"))  # Another look, by a new connection.
        assert not is_kept()


def test_who_dies_while_waiting_leaves_the_place(postgres_store: PostgresStore) -> None:
    with ExitStack() as waiting:
        connections = [postgres_store.connect() for _ in range(PLACES)]
        for connection in connections:
            waiting.enter_context(PostgresWaiters(connection).place(f"of {id(connection)}"))
        connections[0].close()
        with PostgresWaiters(postgres_store.connect()).place("late") as is_kept:
            assert is_kept()


# -- all tenants ----------------------------------------------------------------------------------


def test_of_an_idle_fleet_all_figures_are_zero(store: Store) -> None:
    fleet = store.overviews.fleet(workbench=WORKBENCH)
    assert dict(fleet.active) == {S.CREATED: 0, S.SUBMITTED: 0, S.RUNNING: 0}
    assert fleet.staleness_seconds == (0.0, 0.0, 0.0)
    assert (fleet.troubled, fleet.unpublished_seconds, fleet.is_spared) == (0, 0, False)


def test_the_fleet_is_all_tenants_active_runs(store: Store) -> None:
    mine, theirs = make_pipeline(store), make_pipeline(store, tenant_id="other")
    record(store, mine)
    submitted(store, theirs)
    moved(store, record(store, mine), S.FAILED, error=ERROR)
    assert dict(store.overviews.fleet(workbench=WORKBENCH).active) == {
        S.CREATED: 1,
        S.SUBMITTED: 1,
        S.RUNNING: 0,
    }


def test_the_fleets_staleness_is_of_runs_that_have_a_job(store: Store) -> None:
    pipeline = make_pipeline(store)
    record(store, pipeline)
    for _ in range(3):
        submitted(store, pipeline)
        store.move_time(timedelta(seconds=100))
    median, high, most = store.overviews.fleet(workbench=WORKBENCH).staleness_seconds
    assert median == pytest.approx(200, abs=5)
    assert high == pytest.approx(298, abs=5)  # 2 % below the oldest of 300 s, towards 200 s.
    assert most == pytest.approx(300, abs=5)


def test_the_fleet_knows_of_trouble_of_open_breakers_and_of_events_that_wait(
    store: Store,
) -> None:
    run = submitted(store, make_pipeline(store))
    store.move_time(timedelta(seconds=15))
    store.runs.mark_published(store.runs.unpublished(10)[:1])
    store.move_time(timedelta(seconds=40))
    trouble(store, [run])
    for _ in range(10):
        store.breakers.failed(WORKBENCH, only_unknown=False)
        store.move_time(timedelta(seconds=10))
    fleet = store.overviews.fleet(workbench=WORKBENCH)
    assert (fleet.troubled, fleet.is_spared) == (1, True)
    assert not store.overviews.fleet(workbench="http://another.test").is_spared
    assert fleet.unpublished_seconds == pytest.approx(155, abs=5)


def test_a_breaker_that_no_run_waits_for_is_nobodys_trouble(store: Store) -> None:
    run = submitted(store, make_pipeline(store))
    trouble(store, [run])
    for _ in range(10):
        store.breakers.failed(WORKBENCH, only_unknown=False)
        store.move_time(timedelta(seconds=10))
    assert store.overviews.fleet(workbench=WORKBENCH).is_spared
    moved(store, run, S.FAILED, error=ERROR)
    assert not store.overviews.fleet(workbench=WORKBENCH).is_spared


def test_active_runs_that_were_looked_at_within_a_minute_are_counted(store: Store) -> None:
    pipeline = make_pipeline(store)
    runs = [submitted(store, pipeline) for _ in range(3)]
    store.runs.observe([Finding(run_id=run.id, upstream_status="RUNNING") for run in runs[:2]])
    assert overview(store).runs_checked_of_late == 2
    store.move_time(timedelta(seconds=70))
    store.runs.observe([Finding(run_id=runs[2].id, upstream_status="RUNNING")])
    assert overview(store).runs_checked_of_late == 1
