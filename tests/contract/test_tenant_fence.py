"""S5: row-level security keeps tenants apart, though a method forget to; S12: roles without more.

The functions' users are as the local stack makes them: `migrator` owns, `api` is fenced in.
"""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from infra.local.keys import Login
from infra.local.logins import make_logins
from infra.local.trouble import StackTrouble
from infra.migrate import migrate
from made_runs import (
    ROUTE,
    WORKBENCH,
    make_pipeline,
    moved,
    new_run,
    record,
    recorded,
    submit,
    submitted,
)
from real_parts import execute
from runs.adapters.postgres import PostgresPipelines, PostgresRuns
from runs.adapters.postgres.statements import BREAKER_FAILED, CLAIM
from runs.adapters.postgres.tables import pipeline_runs
from runs.errors import PipelineNotFound, RunNotFound
from runs.model import Finding, Stray, transition
from runs.ports import RunFilter
from runs.status import PipelineMode, PipelineRunStatus
from runs.wiring import Wiring
from runs_stores import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from real_parts import RealPart
    from runs.adapters.postgres import Database

S = PipelineRunStatus
OURS: Final = "ours"
THEIRS: Final = "theirs"
TABLES: Final = (
    "pipelines",
    "pipeline_runs",
    "run_observations",
    "pipeline_run_events",
    "idempotency_keys",
    "stray_checks",
)
SENT: Final = "set_config('app.tenant'"


@pytest.fixture
def store(database_url: sa.URL) -> Iterator[PostgresStore]:
    with closing(PostgresStore(database_url)) as store:
        yield store


@pytest.fixture
def api(store: PostgresStore) -> Iterator[Database]:
    """The API's one connection."""
    yield from connected("api", store)


@pytest.fixture
def poller(store: PostgresStore) -> Iterator[Database]:
    """That of a function of the poller's."""
    yield from connected("poller", store)


def connected(role: str, store: PostgresStore) -> Iterator[Database]:
    with store.as_user_of(role) as database:
        yield database


def two_tenants(store: PostgresStore) -> None:
    """A row of each in every table."""
    for tenant_id in (OURS, THEIRS):
        run = submitted(store, make_pipeline(store, tenant_id=tenant_id))
        store.runs.observe([Finding(run_id=run.id, upstream_status="RUNNING")])
        change = transition(run, S.CANCELLED, stray=Stray(reason="r"))
        assert change
        assert store.runs.move([change])


def tenants(database: Database, table: str) -> list[str]:
    """As a method that forgets its tenant would see them."""
    rows = database.rows(sa.text(f"SELECT DISTINCT tenant_id FROM {table} ORDER BY 1"))  # noqa: S608
    return [row["tenant_id"] for row in rows]


# -- what is seen ---------------------------------------------------------------------------------


def test_s5_p29_a_read_that_forgets_its_tenant_sees_its_rows_alone(
    store: PostgresStore, api: Database
) -> None:
    two_tenants(store)
    for table in TABLES:
        assert tenants(api, table) == []
        with api.acting_for(OURS):
            assert tenants(api, table) == [OURS]
        assert tenants(api, table) == []
        with api.acting_for(""):
            assert tenants(api, table) == []


def test_s5_p29_a_write_that_forgets_its_tenant_changes_its_rows_alone(
    store: PostgresStore, api: Database
) -> None:
    two_tenants(store)
    with api.acting_for(OURS):
        api.rows(sa.text("UPDATE pipelines SET name = 'mine now'"))
        api.rows(sa.text("UPDATE pipeline_runs SET cancel_reason = 'mine now'"))
    assert store.execute("SELECT tenant_id FROM pipelines WHERE name = 'mine now'") == [(OURS,)]
    changed = "SELECT tenant_id FROM pipeline_runs WHERE cancel_reason = 'mine now'"
    assert store.execute(changed) == [(OURS,)]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO idempotency_keys SELECT 'theirs', '', key, '', run_id FROM idempotency_keys",
        "UPDATE pipelines SET tenant_id = 'theirs'",
        "UPDATE pipeline_runs SET tenant_id = 'theirs'",
    ],
)
def test_s5_p29_nothing_is_written_for_another_tenant(
    store: PostgresStore, api: Database, statement: str
) -> None:
    two_tenants(store)
    with api.acting_for(OURS), pytest.raises(DBAPIError, match="row-level security policy"):
        api.rows(sa.text(statement))


def test_s4_s5_the_ports_find_nothing_outside_their_tenant(
    store: PostgresStore, api: Database
) -> None:
    two_tenants(store)
    [(run_id, pipeline_id)] = store.execute(
        "SELECT id, pipeline_id FROM pipeline_runs WHERE tenant_id = 'theirs'"
    )
    runs, pipelines = PostgresRuns(api), PostgresPipelines(api)
    with api.acting_for(OURS):
        for tenant_id in (OURS, THEIRS):  # Also when the wrong one is asked for.
            with pytest.raises(RunNotFound):
                runs.run(run_id, tenant_id=tenant_id)
            with pytest.raises(RunNotFound):
                runs.history(run_id, tenant_id=tenant_id)
            with pytest.raises(RunNotFound):
                runs.request_cancel(run_id, tenant_id=tenant_id, reason=None)
            with pytest.raises(PipelineNotFound):
                pipelines.pipeline(pipeline_id, tenant_id=tenant_id)
        assert not runs.page(RunFilter(), tenant_id=THEIRS, page_size=9, before=None).runs


def test_s5_the_poller_has_all_tenants(store: PostgresStore, poller: Database) -> None:
    two_tenants(store)
    for table in set(TABLES) - {"idempotency_keys"}:
        assert tenants(poller, table) == [OURS, THEIRS]


def test_s5_the_owner_has_all_tenants_and_is_no_superuser(postgres_part: RealPart) -> None:
    url = sa.make_url(postgres_part.url)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        insert = (
            "INSERT INTO pipelines (tenant_id, name, mode, workflow_name) "
            "VALUES ('any', 'n', 'BATCH', 'w') RETURNING id"
        )
        made = connection.scalar(sa.text(insert))
        assert connection.scalars(sa.text("SELECT id FROM pipelines")).all() == [made]
        is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
        assert connection.scalar(sa.text(is_superuser)) is False
        connection.rollback()


class ForgetfulRuns(PostgresRuns):
    """Has a method that forgets its tenant."""

    def everything(self) -> set[str]:
        rows = self.database.rows(sa.select(pipeline_runs.c.tenant_id))
        return {row["tenant_id"] for row in rows}


def test_s5_a_method_that_forgets_its_tenant_is_fenced_in_by_the_wired_connection(
    store: PostgresStore,
) -> None:
    two_tenants(store)
    user = store.user_of("api")
    text = user.render_as_string(hide_password=False)
    wiring = Wiring({"STAGE": "test", "DATABASE_URL": text})
    assert isinstance(wiring.runs, PostgresRuns)
    runs = ForgetfulRuns(wiring.runs.database)

    assert runs.everything() == set()
    with wiring.acting_for(OURS):
        assert runs.everything() == {OURS}
    with wiring.acting_for(THEIRS):
        assert runs.everything() == {THEIRS}
    assert runs.everything() == set()
    runs.database.close()
    store.execute(f"DROP ROLE {user.username}")


# -- when the connection is told ------------------------------------------------------------------


def told(api: Database) -> list[str]:
    """What is sent from now on; the tenant where it is told one."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, sql: str, parameters: Any, *_: Any) -> None:
        sent.append(parameters[0] if SENT in sql else "statement")

    sa.event.listen(api._engine, "before_cursor_execute", note)  # noqa: SLF001  # see its docstring
    return sent


def test_s5_the_connection_is_told_the_tenant_when_it_changes_and_not_again(
    api: Database,
) -> None:
    sent = told(api)
    one = sa.text("SELECT 1")
    api.rows(one)
    with api.acting_for(OURS):
        pass  # Nothing is sent in here.
    with api.acting_for(OURS):
        api.rows(one)
        api.rows(one)
    with api.acting_for(OURS):
        api.rows(one)
    with api.acting_for(THEIRS):
        api.rows(one)
    api.rows(one)
    api.rows(one)
    assert sent == [
        *("statement", OURS, "statement", "statement", "statement"),
        *(THEIRS, "statement", "", "statement", "statement"),
    ]


def test_s5_the_fence_holds_after_an_error_and_on_a_new_connection(
    store: PostgresStore, api: Database
) -> None:
    two_tenants(store)
    with pytest.raises(DBAPIError), api.acting_for(OURS):
        api.rows(sa.text("SELECT 1 FROM pipelines, nowhere"))
    assert tenants(api, "pipelines") == []
    with api.acting_for(OURS):
        assert tenants(api, "pipelines") == [OURS]
        api.close()
        assert tenants(api, "pipelines") == [OURS]
        with api.acting_for(THEIRS):
            assert tenants(api, "pipelines") == [THEIRS]
        assert tenants(api, "pipelines") == [OURS]
    api.close()
    assert tenants(api, "pipelines") == []


def test_s5_f33_a_lost_connection_is_told_anew(store: PostgresStore, api: Database) -> None:
    two_tenants(store)
    with api.acting_for(OURS):
        [[pid]] = [list(row.values()) for row in api.rows(sa.text("SELECT pg_backend_pid()"))]
        store.execute("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
        assert tenants(api, "pipelines") == [OURS]


def test_s5_another_thread_acts_for_nobody(store: PostgresStore, api: Database) -> None:
    two_tenants(store)
    seen: list[list[str]] = []
    with api.acting_for(OURS):
        thread = threading.Thread(target=lambda: seen.append(tenants(api, "pipelines")))
        thread.start()
        thread.join()
        assert tenants(api, "pipelines") == [OURS]
    assert seen == [[]]


# -- searches -------------------------------------------------------------------------------------


@pytest.fixture
def full(own_database_url: sa.URL) -> Iterator[PostgresStore]:
    """A database with 20,000 runs of one tenant that ended, one that FAILED and one active."""
    with closing(PostgresStore(own_database_url)) as store:
        pipeline = make_pipeline(store, tenant_id=OURS)
        store.execute(
            "INSERT INTO pipeline_runs (tenant_id, pipeline_id, mode, workflow_name, status, "
            "started_at, completed_at, workbench_job_id) SELECT 'ours', :pipeline, 'BATCH', 'w', "
            "'COMPLETED', runs_now(), runs_now(), 'job-' || n FROM generate_series(1, 20000) AS n",
            pipeline=pipeline.id,
        )
        moved(store, record(store, pipeline), S.FAILED)
        submitted(store, pipeline)
        store.execute("VACUUM ANALYZE")
        yield store


def reads(database: Database, statement: str) -> list[dict[str, Any]]:
    """How the plan of a statement reads the runs."""
    [found] = database.rows(sa.text(f"EXPLAIN (FORMAT JSON) {statement}"))
    pending = [found["QUERY PLAN"][0]["Plan"]]
    nodes = []
    while pending:
        nodes.append(pending.pop())
        pending += nodes[-1].get("Plans", ())
    return [node for node in nodes if node.get("Relation Name") == "pipeline_runs"]


@pytest.mark.parametrize(
    "condition",
    [
        "status_text = 'FAILED'",
        "pipeline_id = 1 AND status_text = 'FAILED'",
        "workbench_job_id = 'job-7'",
        "created_at < runs_now() - INTERVAL '1 day'",
        "status_text IN ('CREATED', 'SUBMITTED', 'RUNNING')",
    ],
)
def test_s5_behind_the_fence_what_is_rare_is_found_by_an_index(
    full: PostgresStore, condition: str
) -> None:
    connection = connected("api", full)
    api = next(connection)
    with api.acting_for(OURS):
        [read] = reads(
            api,
            "SELECT * FROM pipeline_runs "  # noqa: S608  # a test's own
            f"WHERE tenant_id = 'ours' AND {condition} ORDER BY id DESC LIMIT 50",
        )
    assert "Scan" in read["Node Type"]
    assert read["Node Type"] != "Seq Scan"
    assert read["Plan Rows"] < 100
    assert next(connection, None) is None


def test_s5_the_poller_reads_active_runs_by_their_indexes(full: PostgresStore) -> None:
    connection = connected("poller", full)
    poller = next(connection)
    claim = CLAIM.text.replace(":not_after", "now()").replace(":older_than", "interval '15 s'")
    page = "'{0,16,32,48,64,80,96,112,128,144,160,176,192,208,224,240}'"
    [read] = reads(poller, claim.replace(":shards", page))
    assert (read["Node Type"], read["Index Name"]) == ("Index Only Scan", "pipeline_runs_claimable")
    failed = BREAKER_FAILED.text.replace(":workbench", "'w'").replace(":only_unknown", "false")
    assert {"Seq Scan"}.isdisjoint(read["Node Type"] for read in reads(poller, failed))
    assert next(connection, None) is None


# -- what each role may do ------------------------------------------------------------------------


def test_s12_the_api_can_do_all_that_it_has_to(api: Database) -> None:
    runs, pipelines = PostgresRuns(api), PostgresPipelines(api)
    with api.acting_for(OURS):
        made = pipelines.create_pipeline(
            tenant_id=OURS,
            name="n",
            mode=PipelineMode.BATCH,
            workflow_name="w",
            workflow_version=None,
        )
        pipelines.change_pipeline(made.id, {"max_active_runs": 5}, tenant_id=OURS)
        assert len(pipelines.pipelines(tenant_id=OURS, page_size=9, before=None)) == 1
        for lease in (None, timedelta(seconds=20)):
            first = runs.record(
                new_run(made),
                route=ROUTE,
                key=f"k{lease}",
                fingerprint="f",
                lease=lease,
                most_active=5,
            )
        again = runs.record(
            new_run(made), route=ROUTE, key=f"k{lease}", fingerprint="f", lease=lease
        )
        assert again.replayed
        change = transition(first.run, S.SUBMITTED, workbench_job_id="job")
        assert change
        events = runs.move([change])
        runs.mark_published(events)
        assert runs.holder_of("job") == first.run.id
        runs.request_cancel(first.run.id, tenant_id=OURS, reason="r")
        ended = transition(
            runs.run(first.run.id, tenant_id=OURS), S.CANCELLED, stray=Stray(reason="r")
        )
        assert ended
        assert runs.move([ended])
        assert runs.active([first.run.id], workbench=WORKBENCH).runs == []
        assert len(runs.history(first.run.id, tenant_id=OURS)) == 3
        assert runs.page(RunFilter(status=S.CREATED), tenant_id=OURS, page_size=9, before=None).runs
    runs.ping()


def test_s12_the_poller_can_do_all_that_it_has_to(store: PostgresStore) -> None:
    user = store.user_of("poller")
    with closing(PostgresStore(store.url, user)) as theirs:
        poll(store, theirs)
    store.execute(f"DROP ROLE {user.username}")


def poll(store: PostgresStore, theirs: PostgresStore) -> None:
    """Everything that the poller does, once."""
    pipeline = make_pipeline(store)
    created, waiting = (record(store, pipeline) for _ in range(2))
    runs = theirs.runs

    now = store.true_now()
    claim = runs.claim(range(256), older_than=timedelta(0), not_after=now + timedelta(minutes=1))
    assert {due.run_id for due in claim.due} == {created.id, waiting.id}
    assert runs.take_submit_lease(waiting, timedelta(seconds=1))
    run = submit(theirs, created)
    runs.observe([Finding(run_id=run.id, trouble="time-out", next_check_at=now)])
    assert runs.is_alone(run.id)
    assert runs.pressing([waiting.id], outage=timedelta(0)) == [waiting.id]
    runs.time_out([run.id])
    for _ in range(2):
        theirs.breakers.failed(WORKBENCH, only_unknown=False)
        store.move_time(timedelta(minutes=1))
    assert theirs.breakers.breaker(WORKBENCH).opened_at
    assert theirs.breakers.probes(WORKBENCH, most=1, every=timedelta(seconds=9)) == [run.id]
    theirs.breakers.answered(WORKBENCH)
    moved(theirs, run, S.FAILED, stray=Stray(reason="r"))
    store.move_time(timedelta(minutes=1))
    [check] = theirs.stray_checks.due(9)
    theirs.stray_checks.looked(check, cancelled=1, next_look_at=None)
    assert runs.relaying()
    runs.mark_published(runs.unpublished(9))
    assert runs.unpublished(9) == []
    runs.relayed()


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("api", "DELETE FROM pipeline_runs"),
        ("api", "TRUNCATE idempotency_keys"),
        ("api", "UPDATE pipeline_run_events SET status = 'FAILED'"),
        ("api", "UPDATE run_observations SET last_error = NULL"),
        ("api", "UPDATE runs_clock SET only_row = true"),
        ("api", "UPDATE poll_shards SET last_polled_at = now()"),
        ("api", "CREATE TABLE mine ()"),
        ("api", "ALTER TABLE pipelines DISABLE ROW LEVEL SECURITY"),
        ("api", "SET ROLE poller"),
        ("poller", "DELETE FROM pipeline_run_events"),
        ("poller", "INSERT INTO pipelines (name, mode, workflow_name) VALUES ('n', 'BATCH', 'w')"),
        ("poller", "SELECT * FROM idempotency_keys"),
        ("poller", "UPDATE installation SET namespace = gen_random_uuid()"),
        ("poller", "DROP TABLE stray_checks"),
        ("poller", "SET ROLE api"),
    ],
)
def test_s12_a_role_may_not_do_more(store: PostgresStore, role: str, statement: str) -> None:
    connection = connected(role, store)
    database = next(connection)
    with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
        database.rows(sa.text(statement))
    assert next(connection, None) is None


def test_s5_every_table_with_a_tenant_is_fenced_by_force(store: PostgresStore) -> None:
    found = store.execute(
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity, "
        "array_agg(p.polname::text ORDER BY p.polname) FROM pg_attribute a "
        "JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r' "
        "LEFT JOIN pg_policy p ON p.polrelid = c.oid "
        "WHERE a.attname = 'tenant_id' AND c.relnamespace = 'public'::regnamespace GROUP BY 1, 2"
    )
    assert {name: (forced, policies) for name, forced, policies in found} == dict.fromkeys(
        TABLES, (True, ["all_tenants", "one_tenant"])
    )


# -- the roles and their users --------------------------------------------------------------------


def test_s12_a_user_whose_password_is_another_now_gets_the_new_one(store: PostgresStore) -> None:
    old = store.user_of("api")
    url = store.url.render_as_string(hide_password=False)
    login = Login(user=str(old.username), password="q", role="api")  # noqa: S106
    make_logins(url, [login])
    make_logins(url, [login])
    with pytest.raises(DBAPIError, match="password"):
        execute(old, "SELECT 1")
    execute(sa.make_url(login.url(url)), "SELECT 1")
    store.execute(f"DROP ROLE {old.username}")


def test_s12_who_may_not_make_roles_is_told_what_an_administrator_has_to_run(
    postgres_url: sa.URL, own_database_url: sa.URL
) -> None:
    name = str(own_database_url.database)
    execute(postgres_url, f"CREATE ROLE plain_{name} LOGIN PASSWORD 'p'")
    plain = own_database_url.set(username=f"plain_{name}", password="p")  # noqa: S106
    login = Login(user=f"api_{name}", password="q", role="api")  # noqa: S106

    with pytest.raises(StackTrouble, match=f"CREATE ROLE api_{name} LOGIN PASSWORD '…' IN ROLE"):
        make_logins(plain.render_as_string(hide_password=False), [login])
    execute(postgres_url, f"CREATE ROLE api_{name} LOGIN PASSWORD 'q' IN ROLE api")
    make_logins(plain.render_as_string(hide_password=False), [login])
    execute(postgres_url, f"DROP ROLE plain_{name}, api_{name}")


def test_a_key_that_comes_again_is_answered_behind_the_fence(
    store: PostgresStore, api: Database
) -> None:
    pipeline = make_pipeline(store, tenant_id=OURS)
    made = recorded(store, new_run(pipeline), key="k")
    with api.acting_for(OURS):
        again = PostgresRuns(api).record(
            new_run(pipeline), route=ROUTE, key="k", fingerprint="f", lease=None
        )
    assert (again.run.id, again.replayed) == (made.run.id, True)


def test_s5_migrating_again_leaves_the_fence_up(store: PostgresStore, api: Database) -> None:
    two_tenants(store)
    migrate(store.url.render_as_string(hide_password=False))
    assert tenants(api, "pipelines") == []
