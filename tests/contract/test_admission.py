"""Which runs a pipeline and a tenant admit; on both stores, and many at once on the real one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from made_runs import (
    ROUTE,
    TENANT,
    at,
    make_pipeline,
    new_run,
    now_of,
    read,
    record,
    recorded,
)
from runs.errors import (
    IdempotencyKeyReused,
    PipelineDisabled,
    PipelineFull,
    RequestRefused,
    TenantFull,
)
from runs.status import ACTIVE, TERMINAL, PipelineRunStatus
from runs_stores import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import sqlalchemy as sa

    from runs.model import NewRun, Pipeline
    from runs.ports import Recorded, Runs
    from runs_stores import Store

S = PipelineRunStatus
DEADLINE_SECONDS: Final = 20
WEEK_SECONDS: Final = 604_800


def change(store: Store, pipeline: Pipeline, **changes: object) -> None:
    store.pipelines.change_pipeline(pipeline.id, changes, tenant_id=pipeline.tenant_id)


def within(store: Store, pipeline: Pipeline, most_active: int, key: str = "k") -> Recorded:
    """A run of a tenant that may have so many."""
    return store.runs.record(
        new_run(pipeline),
        route=ROUTE,
        key=key,
        fingerprint="f",
        lease=None,
        most_active=most_active,
    )


# -- a pipeline's own settings --------------------------------------------------------------------


def test_a_pipeline_is_made_with_its_settings_and_changed(store: Store) -> None:
    plain = make_pipeline(store)
    assert (plain.enabled, plain.disabled_reason) == (True, None)
    assert (plain.max_active_runs, plain.timeout_seconds) == (None, None)
    bound = make_pipeline(store, name="bound", max_active_runs=2, timeout_seconds=60)
    assert (bound.max_active_runs, bound.timeout_seconds) == (2, 60)

    change(store, bound, enabled=False, disabled_reason="moving", max_active_runs=None)

    kept = store.pipelines.pipeline(bound.id, tenant_id=TENANT)
    assert (kept.enabled, kept.disabled_reason) == (False, "moving")
    assert (kept.max_active_runs, kept.timeout_seconds) == (None, 60)


def test_a_run_that_names_no_time_out_has_its_pipelines_or_a_week(store: Store) -> None:
    plain = make_pipeline(store)
    quick = make_pipeline(store, name="quick", timeout_seconds=600)
    assert record(store, plain).timeout_seconds == WEEK_SECONDS
    kept = record(store, quick)
    assert kept.timeout_seconds == 600
    assert record(store, quick, timeout_seconds=60).timeout_seconds == 60

    change(store, quick, timeout_seconds=None)

    assert record(store, quick).timeout_seconds == WEEK_SECONDS
    assert read(store, kept).timeout_seconds == 600


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["moving; ask \"ops\" 'today' \\", None])
def test_a_disabled_pipeline_admits_no_run_and_says_why(store: Store, reason: str | None) -> None:
    pipeline = make_pipeline(store)
    change(store, pipeline, enabled=False, disabled_reason=reason)

    with pytest.raises(PipelineDisabled) as refused:
        record(store, pipeline)

    assert (refused.value.pipeline_id, refused.value.reason) == (pipeline.id, reason)
    assert f"Pipeline {pipeline.id} is disabled" in str(refused.value)
    assert (reason or "Enable") in str(refused.value)
    change(store, pipeline, enabled=True)
    assert record(store, pipeline).id


def test_a_pipeline_has_no_more_active_runs_than_its_limit(store: Store) -> None:
    pipeline = make_pipeline(store, max_active_runs=2)
    other = make_pipeline(store, name="other")
    first, _ = record(store, pipeline), record(store, pipeline)
    record(store, other)

    with pytest.raises(PipelineFull) as refused:
        record(store, pipeline)

    assert (refused.value.pipeline_id, refused.value.limit) == (pipeline.id, 2)
    at(store, first, S.CANCELLED)
    record(store, pipeline)
    change(store, pipeline, max_active_runs=1)
    with pytest.raises(PipelineFull):
        record(store, pipeline)


@pytest.mark.parametrize("status", PipelineRunStatus)
def test_the_active_runs_are_counted_and_no_others(store: Store, status: S) -> None:
    pipeline = make_pipeline(store, max_active_runs=1)
    at(store, record(store, pipeline), status)
    if status in TERMINAL:
        assert record(store, pipeline)
        return
    assert status in ACTIVE
    with pytest.raises(PipelineFull):
        record(store, pipeline)


def test_a_tenant_has_no_more_active_runs_than_its_limit(store: Store) -> None:
    one, two = make_pipeline(store), make_pipeline(store, name="two")
    stranger = make_pipeline(store, tenant_id="stranger")
    first = record(store, one)
    record(store, two)
    record(store, stranger)

    with pytest.raises(TenantFull) as refused:
        within(store, two, 2)

    assert refused.value.limit == 2
    at(store, first, S.CANCELLED)
    assert not within(store, two, 2).replayed


def test_what_was_refused_left_nothing_and_its_key_is_free(store: Store) -> None:
    pipeline = make_pipeline(store, enabled=False)
    for _ in range(2):
        with pytest.raises(PipelineDisabled):
            recorded(store, new_run(pipeline), key="k", fingerprint="one")
    change(store, pipeline, enabled=True)

    made = recorded(store, new_run(pipeline), key="k", fingerprint="another")

    assert not made.replayed
    assert len(store.runs.history(made.run.id, tenant_id=TENANT)) == 1


def test_p7_a_replay_is_answered_whatever_is_admitted_now(store: Store) -> None:
    pipeline = make_pipeline(store, max_active_runs=1)
    made = recorded(store, new_run(pipeline), key="k")
    again = recorded(store, new_run(pipeline), key="k")
    assert (again.run.id, again.replayed) == (made.run.id, True)
    assert within(store, pipeline, 1).replayed

    change(store, pipeline, enabled=False)

    assert recorded(store, new_run(pipeline), key="k").run.id == made.run.id
    with pytest.raises(IdempotencyKeyReused):
        recorded(store, new_run(pipeline), key="k", fingerprint="another")


# -- many at once ---------------------------------------------------------------------------------


@pytest.fixture
def postgres(database_url: sa.URL) -> Iterator[PostgresStore]:
    with closing(PostgresStore(database_url)) as store:
        yield store


def at_once(store: PostgresStore, calls: Sequence[Callable[[Runs], Recorded]]) -> list[object]:
    """What becomes of calls by as many connections at the same moment."""
    ready = threading.Barrier(len(calls))

    def call(one: Callable[[Runs], Recorded]) -> object:
        runs = store.another()
        runs.ping()
        ready.wait(DEADLINE_SECONDS)
        try:
            return one(runs)
        except RequestRefused as refused:
            return refused

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def creation(new: NewRun, number: int, most_active: int | None) -> Callable[[Runs], Recorded]:
    def create(runs: Runs) -> Recorded:
        return runs.record(
            new,
            route=ROUTE,
            key=f"at once {number}",
            fingerprint="f",
            lease=None,
            most_active=most_active,
        )

    return create


@pytest.mark.parametrize("limit", [1, 5])
def test_of_many_at_once_no_more_get_into_a_pipeline_than_its_limit(
    postgres: PostgresStore, limit: int
) -> None:
    pipeline = make_pipeline(postgres, max_active_runs=limit)

    ends = at_once(postgres, [creation(new_run(pipeline), n, None) for n in range(24)])

    assert sum(isinstance(end, PipelineFull) for end in ends) == 24 - limit
    assert postgres.execute("SELECT count(*) FROM pipeline_runs") == [(limit,)]
    assert postgres.execute("SELECT count(*) FROM idempotency_keys") == [(limit,)]


def test_of_many_at_once_no_more_get_into_a_tenant_than_its_limit(
    postgres: PostgresStore,
) -> None:
    pipelines = [
        make_pipeline(postgres, name=f"p{n}", max_active_runs=5 if n % 2 else None)
        for n in range(4)
    ]
    stranger = make_pipeline(postgres, tenant_id="stranger")
    calls = [creation(new_run(pipelines[n % 4]), n, 7) for n in range(24)]
    calls += [creation(new_run(stranger), n, 7) for n in range(4)]

    ends = at_once(postgres, calls)

    refused = (PipelineFull, TenantFull)
    assert sum(not isinstance(end, refused) for end in ends[:24]) == 7
    assert not [end for end in ends[24:] if isinstance(end, refused)]
    now = now_of(postgres)
    counts = postgres.execute(
        "SELECT tenant_id, count(*) FROM pipeline_runs WHERE created_at <= :now GROUP BY 1", now=now
    )
    assert dict(counts) == {TENANT: 7, "stranger": 4}


def test_f13_of_many_at_once_with_one_key_the_first_is_admitted_and_the_others_are_its_replays(
    postgres: PostgresStore,
) -> None:
    pipeline = make_pipeline(postgres, max_active_runs=1)

    ends = at_once(postgres, [creation(new_run(pipeline), 0, 1)] * 16)

    assert [end for end in ends if isinstance(end, RequestRefused)] == []
    assert postgres.execute("SELECT count(*) FROM pipeline_runs") == [(1,)]
