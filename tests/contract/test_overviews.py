"""How a tenant's runs fare as a whole, on both stores; and the places for callers that wait."""

from __future__ import annotations

from contextlib import ExitStack, closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from made_runs import ERROR, TENANT, WORKBENCH, S, make_pipeline, moved, record, submitted
from runs.adapters.postgres import PostgresWaiters
from runs.adapters.postgres.waiters import PLACES
from runs.model import Finding
from runs.ports import Breaker
from runs_stores import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa

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
        assert [waiting.enter_context(one.place()) for one in seated] == [True] * PLACES
        with late.place() as free:
            assert free is False
    with late.place() as free:
        assert free is True


def test_who_dies_while_waiting_leaves_the_place(postgres_store: PostgresStore) -> None:
    with ExitStack() as waiting:
        connections = [postgres_store.connect() for _ in range(PLACES)]
        for connection in connections:
            waiting.enter_context(PostgresWaiters(connection).place())
        connections[0].close()
        with PostgresWaiters(postgres_store.connect()).place() as free:
            assert free is True
