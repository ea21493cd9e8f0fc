"""What only real Postgres can show: locks, fences, plans, lost connections and its errors."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from functools import partial
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import DBAPIError

import fault_proxy
from infra.migrate import migrate
from runs.adapters.postgres import (
    Database,
    PostgresBreakers,
    PostgresPipelines,
    PostgresRuns,
    PostgresStrays,
)
from runs.adapters.postgres.database import DataRefused, RowLocked
from runs.adapters.postgres.statements import (
    BREAKER_FAILED,
    BREAKER_PROBES,
    CLAIM,
    MOVE_AND_WAIT,
    STRAYS_DUE,
)
from runs.adapters.postgres.tables import metadata
from runs.errors import DatabaseUnavailable
from runs.model import Finding, NewRun, Pipeline, PipelineRun, transition
from runs.ports import RunNow
from runs.status import PipelineMode, PipelineRunStatus
from runs_stores import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runs.events import RunEvent
    from runs.ports import Recorded, StrayCheck

S = PipelineRunStatus
T = TypeVar("T")
TENANT = "default"
WORKBENCH = "http://workbench.test"
LEASE = timedelta(seconds=20)
# What never takes this long unless something is wrong.
DEADLINE_SECONDS = 20


@pytest.fixture
def store(database_url: sa.URL) -> Iterator[PostgresStore]:
    with closing(PostgresStore(database_url)) as store:
        yield store


@pytest.fixture
def own_store(own_database_url: sa.URL) -> Iterator[PostgresStore]:
    """For a test that does more to its database than functions do."""
    with closing(PostgresStore(own_database_url)) as store:
        yield store


@pytest.fixture
def new(store: PostgresStore) -> NewRun:
    return new_run(store)


def make_pipeline(pipelines: PostgresPipelines) -> Pipeline:
    return pipelines.create_pipeline(
        tenant_id=TENANT,
        name="daily",
        mode=PipelineMode.BATCH,
        workflow_name="w",
        workflow_version=None,
    )


def new_run(store: PostgresStore) -> NewRun:
    pipeline = make_pipeline(store.pipelines)
    return NewRun(
        tenant_id=TENANT,
        pipeline_id=pipeline.id,
        input_path_prefix="in",
        output_path_prefix="out",
        report_path_prefix=None,
        parameters=None,
        tags={},
    )


def record(runs: PostgresRuns, new: NewRun, key: str = "k") -> Recorded:
    return runs.record(new, route="r", key=key, fingerprint="f", lease=None)


def submit(store: PostgresStore, run: PipelineRun) -> PipelineRun:
    change = transition(run, S.SUBMITTED, workbench_job_id=f"job-{run.id}")
    assert change
    assert store.runs.move([change])
    return read(store, run)


def read(store: PostgresStore, run: PipelineRun) -> PipelineRun:
    return store.runs.run(run.id, tenant_id=TENANT)


def submitted(store: PostgresStore, new: NewRun, count: int) -> list[PipelineRun]:
    return [submit(store, record(store.runs, new, f"k{n}").run) for n in range(count)]


def eventually(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)  # between two looks


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Calls all of them at the same moment, each in a thread."""
    ready = threading.Barrier(len(calls))

    def call(one: Callable[[], T]) -> T:
        ready.wait(DEADLINE_SECONDS)
        return one()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


# -- many at once ---------------------------------------------------------------------------------


def test_p7_f13_fifty_at_once_with_one_key_make_one_run(store: PostgresStore, new: NewRun) -> None:
    callers = [store.another() for _ in range(50)]

    answers = at_once([partial(record, runs, new) for runs in callers])

    assert len({answer.run.id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert store.execute("SELECT count(*) FROM pipeline_runs") == [(1,)]
    assert store.execute("SELECT count(*) FROM pipeline_run_events") == [(1,)]


def test_of_many_at_once_who_ask_for_the_same_pipeline_all_get_the_one(
    store: PostgresStore,
) -> None:
    callers = [PostgresPipelines(store.connect()) for _ in range(20)]

    made = at_once([partial(make_pipeline, pipelines) for pipelines in callers])

    assert len({pipeline.id for pipeline in made}) == 1
    assert store.execute("SELECT count(*) FROM pipelines") == [(1,)]


def test_a_pipeline_whose_commit_was_not_answered_is_given_at_the_second_try(
    store: PostgresStore, database_url: sa.URL
) -> None:
    with fault_proxy.FaultProxy(f"postgresql://{database_url.host}:{database_url.port}") as proxy:
        way = PostgresPipelines(store.connect(database_url.set(port=proxy.port)))
        insertion = fault_proxy.statement("INSERT INTO pipelines")
        lost = proxy.execute_and_drop(insertion, times=1)
        made = make_pipeline(way)

    assert lost.struck == 1
    assert made.name == "daily"
    assert store.execute("SELECT id FROM pipelines") == [(made.id,)]


def test_p8_of_many_at_once_one_takes_the_submit_lease(store: PostgresStore, new: NewRun) -> None:
    run = record(store.runs, new).run
    callers = [store.another() for _ in range(20)]

    taken = at_once([partial(runs.take_submit_lease, run, LEASE) for runs in callers])

    assert sorted(taken) == [False] * 19 + [True]
    assert read(store, run).submit_attempts == 1


@pytest.mark.parametrize("wait", [True, False])
def test_p19_f21_of_many_at_once_one_carries_a_transition_out(
    store: PostgresStore, new: NewRun, *, wait: bool
) -> None:
    [run] = submitted(store, new, 1)
    change = transition(run, S.COMPLETED)
    assert change
    callers = [store.another() for _ in range(20)]

    told = at_once([partial(runs.move, [change], wait=wait) for runs in callers])

    assert sorted(len(events) for events in told) == [0] * 19 + [2]
    assert read(store, run).version == 4


def test_f15_ticks_at_once_share_the_shards_and_the_runs(store: PostgresStore, new: NewRun) -> None:
    runs = [record(store.runs, new, f"k{n}").run.id for n in range(300)]
    not_after = store.true_now() + timedelta(seconds=45)

    def sweep(caller: PostgresRuns) -> tuple[int, list[int]]:
        claims = [
            caller.claim(range(page, 256, 16), older_than=LEASE, not_after=not_after)
            for page in range(16)
        ]
        due = [due.run_id for claim in claims for due in claim.due]
        return sum(claim.shards for claim in claims), due

    swept = at_once([partial(sweep, store.another()) for _ in range(8)])

    assert sum(shards for shards, _ in swept) == 256
    assert sorted(run_id for _, due in swept for run_id in due) == runs


def test_f38_bulk_writes_of_the_same_runs_in_any_order_do_not_deadlock(
    own_store: PostgresStore,
) -> None:
    store = own_store
    runs = submitted(store, new_run(store), 40)

    def write(caller: PostgresRuns, ordered: list[PipelineRun]) -> int:
        for number in range(20):
            now = caller.active([], workbench=WORKBENCH).now
            findings = [
                Finding(run_id=run.id, trouble=f"t{number}", next_check_at=now) for run in ordered
            ]
            caller.observe(findings)
        changes = [transition(run, S.RUNNING) for run in ordered]
        return len(caller.move([change for change in changes if change]))

    orders = [runs, runs[::-1]] * 2
    moved = at_once([partial(write, store.another(), ordered) for ordered in orders])

    assert sum(moved) <= 40
    seen = [read(store, run).observation.consecutive_failures for run in runs]
    assert seen == [80] * 40
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert store.execute(deadlocks) == [(0,)]


def test_p25_a_run_is_cancelled_before_its_first_submission_or_submitted_never_both(
    store: PostgresStore, new: NewRun
) -> None:
    """Who reads the wish and no attempt may end the run at once: no lease is given any more."""
    submitter, user = store.another(), store.another()

    for number in range(25):
        run = record(store.runs, new, f"k{number}").run
        calls: list[Callable[[], object]] = [
            partial(submitter.take_submit_lease, run, LEASE),
            partial(user.request_cancel, run.id, tenant_id=TENANT, reason=None),
        ]

        given, answer = at_once(calls)

        assert isinstance(answer, RunNow)
        asked = answer.run
        assert asked.cancel_requested_at
        assert asked.submit_attempts or not given
        assert read(store, run).submit_attempts == int(bool(given))


def test_p9_hunts_at_once_share_the_stray_checks(store: PostgresStore, new: NewRun) -> None:
    runs = [record(store.runs, new, f"k{n}").run.id for n in range(40)]
    store.execute("INSERT INTO stray_checks (run_id, reason) SELECT id, 'r' FROM pipeline_runs")
    store.move_time(timedelta(minutes=1))
    hunters = [PostgresStrays(store.connect()) for _ in range(4)]

    def hunt(hunter: PostgresStrays) -> list[StrayCheck]:
        return [check for _ in range(8) for check in hunter.due(3)]

    hunted = at_once([partial(hunt, hunter) for hunter in hunters])

    given = [check.run.id for checks in hunted for check in checks]
    rest = [check.run.id for check in store.stray_checks.due(40)]
    assert sorted(given + rest) == runs


def test_p21_sweeps_at_once_take_one_turn_to_probe(store: PostgresStore, new: NewRun) -> None:
    [run] = submitted(store, new, 1)
    now = store.runs.active([], workbench=WORKBENCH).now
    store.runs.observe([Finding(run_id=run.id, trouble="time-out", next_check_at=now)])
    callers = [PostgresBreakers(store.connect()) for _ in range(8)]
    fail = [partial(one.failed, WORKBENCH, only_unknown=False) for one in callers]
    at_once(fail)
    store.move_time(timedelta(minutes=1))
    at_once(fail)

    probes = at_once([partial(one.probes, WORKBENCH, most=3, every=LEASE) for one in callers])

    assert sorted(map(list, probes)) == [[]] * 7 + [[run.id]]


# -- locks ----------------------------------------------------------------------------------------


@contextmanager
def holding(store: PostgresStore, run: PipelineRun) -> Iterator[sa.Connection]:
    """A transaction that holds the run's row until the block is left."""
    with store.owner.connect() as connection:
        connection.execution_options(isolation_level="READ COMMITTED")
        with connection.begin():
            lock = sa.text("SELECT 1 FROM pipeline_runs WHERE id = :id FOR UPDATE")
            connection.execute(lock, {"id": run.id})
            yield connection


def waiting(store: PostgresStore) -> list[int]:
    """The processes that wait for a lock."""
    rows = store.execute(
        "SELECT pid FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return [pid for (pid,) in rows]


def moving(
    store: PostgresStore, run: PipelineRun, to: PipelineRunStatus
) -> Callable[[], Sequence[RunEvent]]:
    """Moves the run by a connection of its own, waiting for its row."""
    change = transition(run, to)
    assert change
    return partial(store.another().move, [change], wait=True)


def test_f36_a_locked_run_is_waited_for(store: PostgresStore, new: NewRun) -> None:
    [run] = submitted(store, new, 1)
    with ThreadPoolExecutor(1) as pool:
        with holding(store, run):
            events = pool.submit(moving(store, run, S.RUNNING))
            eventually(lambda: waiting(store))
        assert len(events.result(DEADLINE_SECONDS)) == 1
    assert read(store, run).status is S.RUNNING


def test_p20_a_run_that_its_holder_only_backed_off_is_moved(
    store: PostgresStore, new: NewRun
) -> None:
    [run] = submitted(store, new, 1)
    with ThreadPoolExecutor(1) as pool:
        with holding(store, run) as holder:
            events = pool.submit(moving(store, run, S.COMPLETED))
            eventually(lambda: waiting(store))
            holder.execute(sa.text("UPDATE pipeline_runs SET next_check_at = runs_now()"))
        assert len(events.result(DEADLINE_SECONDS)) == 2
    assert read(store, run).next_check_at


def test_p1_p2_a_run_that_its_holder_moved_is_not_moved_again(
    store: PostgresStore, new: NewRun
) -> None:
    [run] = submitted(store, new, 1)
    with ThreadPoolExecutor(1) as pool:
        with holding(store, run) as holder:
            events = pool.submit(moving(store, run, S.CANCELLED))
            eventually(lambda: waiting(store))
            holder.execute(sa.text("UPDATE pipeline_runs SET status = 'RUNNING', version = 3"))
        assert len(events.result(DEADLINE_SECONDS)) == 0
    assert read(store, run).status is S.RUNNING


def test_p25_a_lease_is_not_given_once_the_runs_holder_stored_a_wish_to_end_it(
    store: PostgresStore, new: NewRun
) -> None:
    run = record(store.runs, new).run
    wish = "UPDATE pipeline_runs SET cancel_requested_at = runs_now(), cancel_cause = 'USER'"
    with ThreadPoolExecutor(1) as pool:
        with holding(store, run) as holder:
            given = pool.submit(store.another().take_submit_lease, run, LEASE)
            eventually(lambda: waiting(store))
            holder.execute(sa.text(wish))
        assert not given.result(DEADLINE_SECONDS)
    assert read(store, run).submit_attempts == 0


def test_p25_a_wish_that_waited_for_a_lease_tells_of_the_attempt(
    store: PostgresStore, new: NewRun
) -> None:
    run = record(store.runs, new).run
    cancel = partial(store.another().request_cancel, run.id, tenant_id=TENANT, reason="r")
    with ThreadPoolExecutor(1) as pool:
        with holding(store, run) as holder:
            asked = pool.submit(cancel)
            eventually(lambda: waiting(store))
            holder.execute(sa.text("UPDATE pipeline_runs SET submit_attempts = 1"))
        told = asked.result(DEADLINE_SECONDS).run
    assert (told.submit_attempts, told.cancel_reason) == (1, "r")


def test_p3_p23_a_wish_that_waited_for_the_runs_end_is_none(
    store: PostgresStore, new: NewRun
) -> None:
    run = record(store.runs, new).run
    cancel = partial(store.another().request_cancel, run.id, tenant_id=TENANT, reason="r")
    with ThreadPoolExecutor(1) as pool:
        with holding(store, run) as holder:
            asked = pool.submit(cancel)
            eventually(lambda: waiting(store))
            holder.execute(
                sa.text("UPDATE pipeline_runs SET status = 'CANCELLED', completed_at = now()")
            )
        told = asked.result(DEADLINE_SECONDS).run
    assert (told.status, told.cancel_requested_at) == (S.CANCELLED, None)


def test_f36_a_locked_run_is_not_waited_for_when_many_are_written(
    store: PostgresStore, new: NewRun, caplog: pytest.LogCaptureFixture
) -> None:
    [run] = submitted(store, new, 1)
    store.runs.observe([Finding(run_id=run.id, upstream_status="QUEUED")])
    now = store.runs.active([], workbench=WORKBENCH).now
    change = transition(run, S.RUNNING)
    assert change

    with holding(store, run):
        assert list(store.runs.move([change])) == []
        store.runs.observe([Finding(run_id=run.id, trouble="time-out", next_check_at=now)])

    assert read(store, run).observation.last_error == "time-out"
    assert "row_locked" not in caplog.messages


def test_f36_a_run_that_is_being_written_keeps_nobody_from_its_first_observation(
    store: PostgresStore, new: NewRun
) -> None:
    """The foreign key's look at the run does not wait for the lock that a move takes."""
    [run] = submitted(store, new, 1)
    change = {"run_id": run.id, "seen_version": 2, "seen_status": "SUBMITTED", "path": ["RUNNING"]}
    with store.owner.connect() as connection:
        connection.execution_options(isolation_level="READ COMMITTED")
        with connection.begin():
            moved = connection.execute(MOVE_AND_WAIT, {"changes": json.dumps([change])})
            assert len(moved.all()) == 1
            store.runs.observe([Finding(run_id=run.id, upstream_status="RUNNING")])
            assert read(store, run).observation.upstream_status == "RUNNING"


# -- fences ---------------------------------------------------------------------------------------

AN_ERROR = "error_message = 'm', error_code = 'c', error_category = 'USER'"
ENDS = "status = 'CANCELLED', completed_at = now()"


def change_runs(store: PostgresStore, change: str) -> None:
    """Changes all runs past all code that would know better."""
    store.database.rows(sa.text(f"UPDATE pipeline_runs SET {change}"))  # noqa: S608  # a test's own


@pytest.mark.parametrize(
    ("fence", "change"),
    [
        ("started_in_time", "status = 'SUBMITTED', started_at = created_at - interval '1 s'"),
        (
            "completed_in_time",
            "status = 'CANCELLED', completed_at = created_at - interval '1 s'",
        ),
        ("completed_in_time", f"{ENDS}, started_at = now() + interval '1 h'"),
        ("started_once_submitted", "started_at = now()"),
        ("started_once_submitted", "status = 'SUBMITTED'"),
        ("started_once_submitted", "status = 'RUNNING'"),
        ("started_once_submitted", "status = 'COMPLETED', completed_at = now()"),
        ("completed_when_terminal", "status = 'CANCELLED'"),
        ("completed_when_terminal", "completed_at = now()"),
        ("message_when_failed", "status = 'FAILED', completed_at = now()"),
        ("message_when_failed", "status = 'FAILED', completed_at = now(), error_message = 'm'"),
        ("message_when_failed", f"{ENDS}, {AN_ERROR}"),
        ("message_when_failed", "error_message = 'm'"),
        ("message_when_failed", "error_code = 'c'"),
        ("message_when_failed", "error_category = 'USER'"),
    ],
)
def test_p5_p6_the_table_refuses_what_breaks_a_constraint(
    store: PostgresStore, new: NewRun, fence: str, change: str
) -> None:
    run = record(store.runs, new).run

    with pytest.raises(DataRefused, match=fence):
        change_runs(store, change)

    assert read(store, run) == run


@pytest.mark.parametrize(
    "change",
    [
        "status = 'RUNNING', completed_at = NULL",
        f"status = 'FAILED', {AN_ERROR}",
        "version = version + 1",
        "output = '{}'",
        "started_at = created_at",
        "completed_at = completed_at + interval '1 s'",
    ],
)
def test_p3_the_table_keeps_an_ended_run_as_it_is(
    store: PostgresStore, new: NewRun, change: str
) -> None:
    [run] = submitted(store, new, 1)
    end = transition(run, S.COMPLETED)
    assert end
    store.runs.move([end])
    ended = read(store, run)

    with pytest.raises(DataRefused, match="it has ended and stays as it is"):
        change_runs(store, change)

    assert read(store, run) == ended


@pytest.mark.parametrize("field", ["error_message", "error_code", "error_category"])
def test_p3_the_table_keeps_a_failed_runs_error(
    store: PostgresStore, new: NewRun, field: str
) -> None:
    record(store.runs, new)
    change_runs(store, f"status = 'FAILED', completed_at = now(), {AN_ERROR}")
    with pytest.raises(DataRefused, match="it has ended and stays as it is"):
        change_runs(store, f"{field} = 'LOST'")


@pytest.mark.parametrize("job_id", ["'another'", "NULL", "''"])
def test_p10_the_table_keeps_a_runs_job(store: PostgresStore, new: NewRun, job_id: str) -> None:
    submitted(store, new, 1)
    with pytest.raises(DataRefused, match="it has a job and keeps it"):
        change_runs(store, f"workbench_job_id = {job_id}")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO runs_clock VALUES (false)",
        "INSERT INTO runs_clock DEFAULT VALUES",
        "INSERT INTO installation VALUES (false)",
        "INSERT INTO installation DEFAULT VALUES",
        "INSERT INTO poll_shards VALUES (256)",
        "INSERT INTO poll_shards VALUES (-1)",
        "INSERT INTO poll_shards VALUES (0)",
        "INSERT INTO pipelines (name, mode, workflow_name) VALUES ('daily', 'BATCH', 'w')",
        "INSERT INTO pipeline_runs (pipeline_id, mode, workflow_name) VALUES (99, 'BATCH', 'w')",
        "INSERT INTO pipeline_run_events SELECT * FROM pipeline_run_events",
        "UPDATE pipeline_run_events SET run_id = 99",
        "INSERT INTO idempotency_keys SELECT * FROM idempotency_keys",
        "UPDATE idempotency_keys SET run_id = 99",
        "INSERT INTO run_observations (run_id) VALUES (99)",
        "INSERT INTO stray_checks (run_id, reason) VALUES (99, 'r')",
        "DELETE FROM pipelines",
    ],
)
def test_the_tables_refuse_what_makes_no_sense(
    store: PostgresStore, new: NewRun, statement: str
) -> None:
    record(store.runs, new)
    with pytest.raises(DataRefused):
        store.connect(store.url).rows(sa.text(statement))


# -- the schema -----------------------------------------------------------------------------------


# Alembic stumbles over the dialect's options of a unique partial index, which isn't compared here.
@pytest.mark.filterwarnings("ignore:Can't validate argument 'dialect_options'")
def test_the_tables_that_queries_are_built_on_are_those_that_the_migrations_make(
    store: PostgresStore,
) -> None:
    def is_queried(_object: Any, name: str | None, kind: str, *_: Any) -> bool:
        return kind == "column" or (kind == "table" and name in metadata.tables)

    options = {"compare_type": True, "include_object": is_queried}
    with store.owner.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        differences = compare_metadata(context, metadata)
    # Comments are for who looks at the database.
    changes = [one for many in differences for one in (many if type(many) is list else [many])]
    comments = {"remove_table_comment", "modify_comment"}
    assert [one for one in changes if one[0] not in comments] == []


def test_every_column_of_the_original_design_is_there(store: PostgresStore) -> None:
    rows = store.execute(
        "SELECT column_name, data_type, character_maximum_length "
        "FROM information_schema.columns WHERE table_name = 'pipeline_runs'"
    )
    found = {name: (kind, length) for name, kind, length in rows}
    moment = ("timestamp with time zone", None)
    original = {
        "id": ("bigint", None),
        "pipeline_id": ("bigint", None),
        "status": ("USER-DEFINED", None),
        "workbench_job_id": ("character varying", 255),
        "error_message": ("text", None),
        "user_storage_input_path_prefix": ("character varying", 1024),
        "user_storage_output_path_prefix": ("character varying", 1024),
        "user_storage_report_path_prefix": ("character varying", 1024),
        "started_at": moment,
        "completed_at": moment,
        "created_at": moment,
        "updated_at": moment,
    }
    assert {name: found.get(name) for name in original} == original


def test_p29_every_table_of_a_tenants_rows_names_the_tenant(store: PostgresStore) -> None:
    rows = store.execute(
        "SELECT table_name, bool_or(column_name = 'tenant_id' AND is_nullable = 'NO') "
        "FROM information_schema.columns WHERE table_schema = 'public' GROUP BY table_name"
    )
    without = {name for name, has_tenant in rows if not has_tenant}
    ours = {"installation", "runs_clock", "poll_shards", "workbench_breakers"}
    assert without == ours | {"alembic_version"}


def test_migrating_again_and_at_once_is_harmless(store: PostgresStore, new: NewRun) -> None:
    run = record(store.runs, new).run
    url = store.url.render_as_string(hide_password=False)

    at_once([partial(migrate, url)] * 3)

    assert read(store, run) == run


# -- plans ----------------------------------------------------------------------------------------


@pytest.fixture
def full(own_store: PostgresStore) -> PostgresStore:
    """A database with 20,000 runs, of which 2,000 are active."""
    own_store.execute(
        "INSERT INTO pipeline_runs (pipeline_id, mode, workflow_name, status, completed_at) "
        "SELECT :pipeline, 'BATCH', 'w', CAST(status AS pipeline_run_status), "
        "CASE status WHEN 'CANCELLED' THEN runs_now() END FROM generate_series(1, 20000) AS n, "
        "LATERAL (SELECT CASE mod(n, 10) WHEN 0 THEN 'CREATED' ELSE 'CANCELLED' END AS status)",
        pipeline=new_run(own_store).pipeline_id,
    )
    own_store.execute("VACUUM ANALYZE")
    return own_store


def plan_of(store: PostgresStore, statement: str) -> list[dict[str, Any]]:
    """All nodes of the plan that the statement has for the functions' user."""
    [found] = store.database.rows(sa.text(f"EXPLAIN (FORMAT JSON) {statement}"))
    plan = found["QUERY PLAN"]
    pending = [plan[0]["Plan"]]
    nodes = []
    while pending:
        nodes.append(pending.pop())
        pending += nodes[-1].get("Plans", ())
    return nodes


def test_a_claim_reads_its_runs_from_the_index_alone(full: PostgresStore) -> None:
    page = "'{0,16,32,48,64,80,96,112,128,144,160,176,192,208,224,240}'"
    sql = CLAIM.text.replace(":not_after", "now()").replace(":shards", page)
    sql = sql.replace(":older_than", "interval '15 s'")

    nodes = plan_of(full, sql)

    reads = {
        (node["Node Type"], node.get("Index Name"))
        for node in nodes
        if node.get("Relation Name") == "pipeline_runs"
    }
    assert reads == {("Index Only Scan", "pipeline_runs_claimable")}


def test_stray_checks_that_are_due_are_found_by_their_index(full: PostgresStore) -> None:
    full.execute(
        "INSERT INTO stray_checks (run_id, reason, next_look_at) "
        "SELECT id, 'r', CASE WHEN id % 100 = 0 THEN runs_now() END FROM pipeline_runs"
    )
    full.execute("VACUUM ANALYZE")

    nodes = plan_of(full, STRAYS_DUE.text.replace(":most", "20"))

    assert {
        (node["Node Type"], node.get("Index Name"))
        for node in nodes
        if node.get("Relation Name") == "stray_checks" and node["Node Type"] != "ModifyTable"
    } == {("Index Scan", "stray_checks_due"), ("Index Scan", "stray_checks_pkey")}


def test_what_is_asked_of_the_active_runs_does_not_read_all_runs(full: PostgresStore) -> None:
    values = {
        ":workbench": f"'{WORKBENCH}'",
        ":only_unknown": "false",
        ":most": "6",
        ":every": "interval '15 s'",
    }
    statements = [BREAKER_PROBES.text, BREAKER_FAILED.text]
    for name, value in values.items():
        statements = [statement.replace(name, value) for statement in statements]
    with statements_of(full) as sent:
        full.runs.is_alone(1)

    for statement in statements + sent:
        reads = {
            node["Node Type"]
            for node in plan_of(full, statement)
            if node.get("Relation Name") == "pipeline_runs"
        }
        assert reads, statement
        assert reads <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, statement


@contextmanager
def statements_of(store: PostgresStore) -> Iterator[list[str]]:
    """What its functions send meanwhile, with the parameters in their places."""
    sent: list[str] = []

    def note(_connection: object, statement: sa.Executable, *_: object) -> None:
        dialect = store.owner.dialect
        compiled = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})  # type: ignore[attr-defined]  # every one that is sent has it
        sent.append(str(compiled))

    engine = store.database._engine  # noqa: SLF001  # what is sent is known to it alone
    sa.event.listen(engine, "before_execute", note)
    yield sent
    sa.event.remove(engine, "before_execute", note)


def test_a_check_reads_its_runs_the_time_and_the_breaker_in_one_statement(
    store: PostgresStore, new: NewRun
) -> None:
    runs = submitted(store, new, 3)
    store.breakers.answered(WORKBENCH)

    with statements_of(store) as sent:
        found = store.runs.active([run.id for run in runs], workbench=WORKBENCH)

    assert (len(found.runs), found.breaker.last_valid_at is not None) == (3, True)
    assert len(sent) == 1


def test_p27_a_page_is_read_in_order_from_an_index(full: PostgresStore) -> None:
    conditions = ("", "AND id < 10000", "AND pipeline_id = 1", "AND status_text = 'RUNNING'")
    for condition in conditions:
        nodes = plan_of(
            full,
            "SELECT * FROM pipeline_runs "  # noqa: S608  # a test's own
            f"WHERE tenant_id = 'default' {condition} ORDER BY id DESC LIMIT 50",
        )
        assert [node["Node Type"] for node in nodes] == ["Limit", "Index Scan"], condition


def test_an_observation_is_written_in_place(own_store: PostgresStore) -> None:
    """Without any index to keep up with, an update stays on its page (HOT)."""
    store = own_store
    runs = submitted(store, new_run(store), 20)
    for number in range(5):
        store.runs.observe([Finding(run_id=run.id, upstream_status=f"S{number}") for run in runs])
    store.database.rows(sa.text("SELECT pg_stat_force_next_flush()"))
    store.runs.ping()

    statistics = (
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables "
        "WHERE relname = 'run_observations'"
    )
    eventually(lambda: store.execute(statistics)[0][0] == 80)
    assert store.execute(statistics) == [(80, 80)]


# -- connections ----------------------------------------------------------------------------------


def backends(store: PostgresStore) -> list[int]:
    """The processes that serve connections of functions, not the owner's."""
    rows = store.execute(
        "SELECT pid FROM pg_stat_activity "
        "WHERE application_name = 'tests' AND datname = current_database()"
    )
    return [pid for (pid,) in rows]


def kill(store: PostgresStore, pid: int) -> None:
    store.execute("SELECT pg_terminate_backend(:pid)", pid=pid)
    eventually(lambda: pid not in backends(store))


@pytest.fixture
def mended(store: PostgresStore, new: NewRun) -> Iterator[PostgresStore]:
    """A store whose connection was killed since its last call."""
    submit(store, record(store.runs, new).run)
    [pid] = backends(store)
    kill(store, pid)
    yield store
    [another] = backends(store)
    assert another != pid


def test_f37_after_an_idle_connection_was_killed_the_next_read_succeeds(
    mended: PostgresStore,
) -> None:
    assert mended.runs.run(1, tenant_id=TENANT).status is S.SUBMITTED


def test_f37_after_an_idle_connection_was_killed_the_next_write_succeeds(
    mended: PostgresStore, new: NewRun
) -> None:
    assert not record(mended.runs, new, "another").replayed


def test_f37_after_an_idle_connection_was_killed_the_next_move_succeeds(
    mended: PostgresStore,
) -> None:
    [run] = mended.another().active([1], workbench=WORKBENCH).runs
    change = transition(run, S.RUNNING)
    assert change
    for pid in backends(mended):
        kill(mended, pid)
    assert len(mended.runs.move([change])) == 1


def test_f33_a_connection_that_is_killed_in_mid_statement_is_made_anew(
    store: PostgresStore, new: NewRun
) -> None:
    [run] = submitted(store, new, 1)
    with ThreadPoolExecutor(1) as pool:
        with holding(store, run):
            events = pool.submit(moving(store, run, S.RUNNING))
            eventually(lambda: waiting(store))
            [pid] = waiting(store)
            kill(store, pid)
            eventually(lambda: waiting(store) not in ([], [pid]))
        assert len(events.result(DEADLINE_SECONDS)) == 1


def test_f34_a_connection_to_what_became_read_only_is_dropped(
    store: PostgresStore, new: NewRun
) -> None:
    store.runs.ping()
    [pid] = backends(store)
    store.database.rows(sa.text("SET default_transaction_read_only = on"))

    assert not record(store.runs, new).replayed

    eventually(lambda: pid not in backends(store))


def test_f34_a_database_that_stays_read_only_is_unavailable(own_store: PostgresStore) -> None:
    new = new_run(own_store)
    name = own_store.url.database
    own_store.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    own_store.database.close()
    with pytest.raises(DatabaseUnavailable, match="read-only"):
        record(own_store.runs, new)


def test_f35_without_a_free_connection_the_database_is_unavailable_at_once(
    store: PostgresStore,
) -> None:
    role = f"few_{store.url.database}"
    store.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1 PASSWORD 'p'")
    url = store.url.set(username=role, password="p")  # noqa: S106  # on loopback, for a second
    first, second = store.connect(url), store.connect(url)
    first.rows(sa.select(1))

    before = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="too many connections"):
        second.rows(sa.select(1))
    assert time.monotonic() - before < 2

    first.close()
    eventually(lambda: not others_of(store, role))
    assert second.rows(sa.select(1))
    second.close()
    eventually(lambda: not others_of(store, role))
    store.execute(f"DROP ROLE {role}")


def others_of(store: PostgresStore, role: str) -> list[Any]:
    return store.execute("SELECT pid FROM pg_stat_activity WHERE usename = :role", role=role)


def test_a_statement_that_is_cancelled_is_not_repeated(store: PostgresStore, new: NewRun) -> None:
    """As by the statement time-out: it would only take as long again."""
    [run] = submitted(store, new, 1)
    with ThreadPoolExecutor(1) as pool, holding(store, run):
        events = pool.submit(moving(store, run, S.RUNNING))
        eventually(lambda: waiting(store))
        store.execute("SELECT pg_cancel_backend(:pid)", pid=waiting(store)[0])
        with pytest.raises(DatabaseUnavailable, match="cancel"):
            events.result(DEADLINE_SECONDS)


def test_s12_a_connection_has_its_time_outs_and_its_name(store: PostgresStore) -> None:
    setting = "SELECT name, setting FROM pg_settings WHERE name = ANY (:names)"
    wanted = {
        "statement_timeout": "5000",
        "lock_timeout": "2000",
        "TimeZone": "UTC",
        "application_name": "tests",
    }
    rows = store.database.rows(sa.text(setting), {"names": list(wanted)})
    assert {row["name"]: row["setting"] for row in rows} == wanted


def test_an_environment_has_one_connection_however_many_threads(store: PostgresStore) -> None:
    at_once([store.runs.ping] * 10)
    assert len(backends(store)) == 1


def test_a_large_message_does_not_wait_for_the_last_ones_acknowledgement(
    store: PostgresStore,
) -> None:
    store.runs.ping()
    connection: Any = store.database._engine.raw_connection()  # noqa: SLF001  # no other way to its socket
    try:
        assert connection.driver_connection._usock.getsockopt(IPPROTO_TCP, TCP_NODELAY)  # noqa: SLF001
    finally:
        connection.close()


# -- what Postgres says ---------------------------------------------------------------------------


@pytest.fixture
def stumbling(own_store: PostgresStore) -> PostgresStore:
    """A store with a function that fails so many times with a code before it succeeds."""
    own_store.execute("CREATE SEQUENCE tries")
    own_store.execute("GRANT USAGE ON SEQUENCE tries TO api, poller")
    own_store.execute(
        "CREATE FUNCTION stumble(code text, times integer) RETURNS boolean LANGUAGE plpgsql AS $$ "
        "BEGIN IF nextval('tries') <= times THEN RAISE EXCEPTION 'stumbled' "
        "USING ERRCODE = code; END IF; RETURN true; END $$"
    )
    return own_store


def stumble(store: PostgresStore, code: str, times: int) -> None:
    statement = sa.text("SELECT stumble(:code, :times)")
    store.database.rows(statement, {"code": code, "times": times})


def tries(store: PostgresStore) -> int:
    [(count,)] = store.execute("SELECT last_value FROM tries")
    assert isinstance(count, int)
    return count


@pytest.mark.parametrize("code", ["40001", "40P01", "57P01", "57P02", "25006"])
def test_f33_f34_f38_what_may_pass_is_tried_once_more(stumbling: PostgresStore, code: str) -> None:
    stumble(stumbling, code, 1)
    assert tries(stumbling) == 2


@pytest.mark.parametrize("code", ["40001", "40P01", "57P01"])
def test_f38_what_does_not_pass_is_given_up(stumbling: PostgresStore, code: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="stumbled"):
        stumble(stumbling, code, 9)
    assert tries(stumbling) == 2


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("53300", DatabaseUnavailable),
        ("57P03", DatabaseUnavailable),
        ("3D000", DatabaseUnavailable),
        ("55000", DatabaseUnavailable),
        ("57014", DatabaseUnavailable),
        ("55P03", RowLocked),
        ("22001", DataRefused),
        ("22P05", DataRefused),
        ("23505", DataRefused),
        ("23514", DataRefused),
        ("XX000", DBAPIError),
        ("42501", DBAPIError),
    ],
)
def test_what_trying_again_would_not_mend_is_told_at_once(
    stumbling: PostgresStore, code: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match="stumbled"):
        stumble(stumbling, code, 1)
    assert tries(stumbling) == 1


@pytest.mark.parametrize(
    ("code", "error"),
    [("22001", DataRefused), ("23505", DataRefused), ("55P03", RowLocked), ("XX000", DBAPIError)],
)
def test_f37_what_a_statement_meets_after_a_lost_connection_is_told_as_ever(
    stumbling: PostgresStore, code: str, error: type[Exception]
) -> None:
    """The first request after a pause often finds its connection gone."""
    [row] = stumbling.database.rows(sa.text("SELECT pg_backend_pid() AS pid"))
    kill(stumbling, row["pid"])
    with pytest.raises(error, match="stumbled"):
        stumble(stumbling, code, 1)


def test_s16_an_error_does_not_tell_the_statement_or_its_values(stumbling: PostgresStore) -> None:
    with pytest.raises(DatabaseUnavailable) as told:
        stumble(stumbling, "53300", 4_711)
    assert "SELECT" not in str(told.value)
    assert "4711" not in str(told.value)


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A database's address where each connection is served so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"postgresql+pg8000://u:p@127.0.0.1:{listener.getsockname()[1]}/d"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(DEADLINE_SECONDS)


def refusing(code: str, text: str) -> Callable[[socket.socket], None]:
    """As Postgres refuses a connection."""

    def serve(connection: socket.socket) -> None:
        connection.recv(4_096)
        fields = (b"SFATAL", b"VFATAL", b"C" + code.encode(), b"M" + text.encode())
        body = b"\0".join(fields) + b"\0\0"
        connection.sendall(b"E" + struct.pack("!i", len(body) + 4) + body)

    return serve


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("57P03", "the database system is starting up"),
        ("53300", "sorry, too many clients already"),
    ],
)
def test_f33_f35_a_server_that_takes_no_connection_now_is_unavailable(code: str, text: str) -> None:
    with server(refusing(code, text)) as url:
        database = Database(lambda: url, application_name="tests")
        with pytest.raises(DatabaseUnavailable, match=text):
            PostgresRuns(database).ping()
        database.close()


def hang_up(_connection: socket.socket) -> None:
    """Takes a connection and says nothing."""


def test_f33_a_server_that_hangs_up_is_unavailable() -> None:
    with server(hang_up) as url:
        database = Database(lambda: url, application_name="tests")
        with pytest.raises(DatabaseUnavailable):
            PostgresRuns(database).ping()
        database.close()


def test_f33_where_nobody_listens_the_database_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    database = Database(lambda: f"postgresql+pg8000://u:p@127.0.0.1:{port}/d", application_name="t")
    with pytest.raises(DatabaseUnavailable):
        PostgresRuns(database).ping()
    database.close()


# -- answers that get lost ------------------------------------------------------------------------


DONE = re.compile(rb"C....(SELECT|INSERT 0|UPDATE) \d+\0", re.DOTALL)
"""Postgres's word that a statement was carried out."""


class LosingProxy:
    """Stands before a server; once told to, it cuts the connection when a statement is done."""

    def __init__(self, server_port: int) -> None:
        self.loses_next = False
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(DEADLINE_SECONDS)
        self._listener.close()

    def _accept(self) -> None:
        with ThreadPoolExecutor() as pool, suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                pool.submit(self._pass_on, client, server, self._keeps)
                pool.submit(self._pass_on, server, client, self._loses)

    @staticmethod
    def _pass_on(
        source: socket.socket, sink: socket.socket, loses: Callable[[bytes], bool]
    ) -> None:
        with suppress(OSError), source:
            while (piece := source.recv(65_536)) and not loses(piece):
                sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _keeps(_piece: bytes) -> bool:
        return False

    def _loses(self, answer: bytes) -> bool:
        loses = self.loses_next and bool(DONE.search(answer))
        self.loses_next = self.loses_next and not loses
        return loses


@pytest.fixture
def losing(store: PostgresStore) -> Iterator[LosingProxy]:
    with closing(LosingProxy(int(store.url.port or 0))) as proxy:
        yield proxy


@pytest.fixture
def runs(store: PostgresStore, losing: LosingProxy) -> Iterator[PostgresRuns]:
    """By way of the proxy, and connected already."""
    database = store.connect(store.url.set(port=losing.port))
    runs = PostgresRuns(database)
    runs.ping()
    yield runs
    database.close()


def test_p7_f3_a_record_whose_answer_was_lost_is_found_by_its_key(
    store: PostgresStore, new: NewRun, runs: PostgresRuns, losing: LosingProxy
) -> None:
    losing.loses_next = True

    answer = record(runs, new)

    assert not losing.loses_next
    assert answer.replayed
    assert answer.run.status is S.CREATED
    assert store.execute("SELECT count(*) FROM pipeline_runs") == [(1,)]


def test_p19_f33_a_move_whose_answer_was_lost_happens_once(
    store: PostgresStore, new: NewRun, runs: PostgresRuns, losing: LosingProxy
) -> None:
    [run] = submitted(store, new, 1)
    change = transition(run, S.COMPLETED)
    assert change
    losing.loses_next = True

    events = runs.move([change])

    assert not losing.loses_next
    assert list(events) == []
    assert read(store, run).status is S.COMPLETED
    assert len(store.runs.history(run.id, tenant_id=TENANT)) == 4


def test_p8_a_lease_whose_answer_was_lost_is_not_relied_upon(
    store: PostgresStore, new: NewRun, runs: PostgresRuns, losing: LosingProxy
) -> None:
    run = record(store.runs, new).run
    losing.loses_next = True

    assert not runs.take_submit_lease(run, LEASE)

    assert not losing.loses_next
    assert read(store, run).submit_attempts == 1


def test_p18_a_claim_whose_answer_was_lost_makes_its_page_a_sweep_late(
    store: PostgresStore, new: NewRun, runs: PostgresRuns, losing: LosingProxy
) -> None:
    run = record(store.runs, new).run
    not_after = store.true_now() + timedelta(minutes=5)
    losing.loses_next = True

    lost = runs.claim(range(256), older_than=LEASE, not_after=not_after)

    assert not losing.loses_next
    assert (lost.shards, list(lost.due)) == (0, [])
    store.move_time(LEASE)
    claimed = runs.claim(range(256), older_than=LEASE, not_after=not_after)
    assert [due.run_id for due in claimed.due] == [run.id]
