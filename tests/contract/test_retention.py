"""What is deleted once it is old, on both stores."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from made_runs import ERROR, TENANT, S, make_pipeline, moved, record, submitted
from runs.adapters.postgres import PostgresRetention
from runs.errors import RunNotFound
from runs.model import Finding, Stray
from runs_stores import PostgresStore

if TYPE_CHECKING:
    from runs.model import PipelineRun
    from runs_stores import Store

KEPT = timedelta(days=90)


def ended(store: Store, name: str = "daily", **parts: object) -> PipelineRun:
    """A run that is over, and whose events have all reached the bus."""
    run = moved(store, submitted(store, make_pipeline(store, name=name), **parts), S.COMPLETED)
    publish_all(store)
    return run


def publish_all(store: Store) -> None:
    store.move_time(timedelta(seconds=15))
    while events := store.runs.unpublished(100):
        store.runs.mark_published(events)


def purge(store: Store) -> int:
    return store.retention.purge(older_than=KEPT, most=100)


def is_there(store: Store, run: PipelineRun) -> bool:
    try:
        store.runs.run(run.id, tenant_id=TENANT)
    except RunNotFound:
        return False
    return True


def test_a_run_is_kept_for_as_long_as_was_said_and_then_goes_with_its_events_and_key(
    store: Store,
) -> None:
    run = ended(store)
    store.runs.observe([Finding(run_id=run.id, upstream_status="COMPLETED", is_last=True)])
    store.move_time(KEPT - timedelta(minutes=5))
    assert (purge(store), is_there(store, run)) == (0, True)
    store.move_time(timedelta(minutes=10))
    assert (purge(store), is_there(store, run)) == (1, False)
    assert store.keys() == []
    with pytest.raises(RunNotFound):
        store.runs.history(run.id, tenant_id=TENANT)
    assert purge(store) == 0


def test_a_run_that_has_not_ended_stays_however_old_it_is(store: Store) -> None:
    pipeline = make_pipeline(store)
    created, running = record(store, pipeline), submitted(store, pipeline)
    publish_all(store)
    store.move_time(10 * KEPT)
    assert purge(store) == 0
    assert is_there(store, created)
    assert is_there(store, running)


def test_a_run_waits_for_its_events_to_reach_the_bus(store: Store) -> None:
    moved(store, submitted(store, make_pipeline(store)), S.FAILED, error=ERROR)
    store.move_time(2 * KEPT)
    assert purge(store) == 0
    publish_all(store)
    assert purge(store) == 1


def test_a_run_waits_until_its_stray_job_is_no_longer_hunted(store: Store) -> None:
    pipeline = make_pipeline(store)
    run = record(store, pipeline)
    moved(store, run, S.FAILED, error=ERROR, stray=Stray(reason="a job may exist"))
    publish_all(store)
    store.move_time(2 * KEPT)
    assert purge(store) == 0
    [check] = store.stray_checks.due(10)
    store.stray_checks.looked(check, cancelled=0, next_look_at=None)
    assert purge(store) == 1


def test_a_run_waits_for_those_that_are_retries_of_it(store: Store) -> None:
    first = ended(store)
    store.move_time(KEPT)
    again = ended(store, name="again", retry_of=first.id)
    store.move_time(timedelta(hours=1))
    assert (purge(store), is_there(store, first)) == (0, True)
    store.move_time(KEPT)
    assert (purge(store), is_there(store, again)) == (1, False)
    assert (purge(store), is_there(store, first)) == (1, False)


def test_no_more_than_a_page_goes_at_once_and_the_oldest_first(store: Store) -> None:
    runs = [ended(store, name=f"pipeline {number}") for number in range(3)]
    store.move_time(2 * KEPT)
    assert store.retention.purge(older_than=KEPT, most=2) == 2
    assert [is_there(store, run) for run in runs] == [False, False, True]


def test_s5_the_poller_may_purge_all_tenants_runs(database_url: sa.URL) -> None:
    with closing(PostgresStore(database_url)) as store:
        ended(store)
        store.move_time(2 * KEPT)
        with store.as_user_of("poller") as database:
            assert PostgresRetention(database).purge(older_than=KEPT, most=10) == 1
        for table in ("pipeline_run_events", "idempotency_keys", "run_observations"):
            assert store.execute(f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608


def test_s5_the_api_may_not_delete_a_run(database_url: sa.URL) -> None:
    with closing(PostgresStore(database_url)) as store:
        ended(store)
        store.move_time(2 * KEPT)
        with store.as_user_of("api") as database, pytest.raises(sa.exc.ProgrammingError):
            PostgresRetention(database).purge(older_than=KEPT, most=10)


def test_a_retry_of_a_run_that_was_purged_meanwhile_finds_none(store: Store) -> None:
    pipeline = make_pipeline(store)
    old = moved(store, submitted(store, pipeline), S.COMPLETED)
    publish_all(store)
    store.move_time(2 * KEPT)
    assert purge(store) == 1
    with pytest.raises(RunNotFound):
        record(store, pipeline, retry_of=old.id)


def test_a_run_that_is_being_retried_is_passed_over(database_url: sa.URL) -> None:
    with closing(PostgresStore(database_url)) as store:
        old = ended(store)
        store.move_time(2 * KEPT)
        with store.locked(old.id):
            assert purge(store) == 0
        assert purge(store) == 1
