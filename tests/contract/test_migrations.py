"""F44: a migration takes over the rows there are, and the code of the release before works on."""

from __future__ import annotations

from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from infra.migrate import MIGRATIONS, migrate
from made_runs import TENANT, WORKBENCH, close_to, moved, now_of, submit
from runs.model import ErrorCategory, Finding, Observation, PipelineRun, RunError, transition
from runs.ports import Breaker, RunFilter
from runs.status import PipelineRunStatus
from runs.submission import workflow_input
from runs_stores import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Iterator

S = PipelineRunStatus
WEEK_SECONDS = 7 * 24 * 60 * 60
MINUTE = timedelta(minutes=1)

PIPELINE = "INSERT INTO pipelines (name, mode, workflow_name) VALUES ('daily', 'BATCH', 'w')"
CREATE = """
    INSERT INTO pipeline_runs (
        id, tenant_id, pipeline_id, mode, workflow_name, workflow_version,
        user_storage_input_path_prefix, user_storage_output_path_prefix,
        user_storage_report_path_prefix, parameters, tags, submit_lease_until, submit_attempts)
    SELECT nextval(pg_get_serial_sequence('pipeline_runs', 'id')), tenant_id, id, mode,
        workflow_name, workflow_version, 'in', 'out', NULL, NULL, '{"team": "blue"}',
        runs_now() + INTERVAL '20 seconds', 1
    FROM pipelines RETURNING id
"""
SUBMIT = """
    UPDATE pipeline_runs SET status = 'SUBMITTED', version = version + 1,
        workbench_job_id = 'job-' || id, started_at = GREATEST(runs_now(), updated_at),
        updated_at = GREATEST(runs_now(), updated_at), submit_lease_until = NULL
    WHERE id = :run_id AND status = 'CREATED'
"""
FAIL = """
    UPDATE pipeline_runs SET status = 'FAILED', version = version + 1, error_code = 'c',
        error_category = 'LOST', error_message = 'm', submit_lease_until = NULL,
        completed_at = GREATEST(runs_now(), updated_at),
        updated_at = GREATEST(runs_now(), updated_at)
    WHERE id = :run_id
"""
OBSERVE = """
    INSERT INTO run_observations AS seen (
        run_id, tenant_id, last_checked_at, upstream_status, progress_done, progress_total,
        logs_url, consecutive_failures, last_error)
    VALUES (:run_id, 'default', NULL, NULL, NULL, NULL, NULL, 1, 'time-out')
    ON CONFLICT (run_id) DO UPDATE SET
        consecutive_failures = seen.consecutive_failures + 1, last_error = EXCLUDED.last_error
"""
NOTE = """
    INSERT INTO stray_checks (run_id, tenant_id, reason) VALUES (:run_id, 'default', 'why')
    ON CONFLICT DO NOTHING
"""


RECORD_BEFORE_0004 = """
    WITH new AS MATERIALIZED (
        SELECT nextval(pg_get_serial_sequence('pipeline_runs', 'id')) AS run_id, pipelines.*
        FROM pipelines WHERE tenant_id = 'default'
    ), keyed AS (
        INSERT INTO idempotency_keys (tenant_id, route, key, fingerprint, run_id)
        SELECT tenant_id, 'POST /pipeline-run', 'key-' || run_id, 'f', run_id FROM new
        ON CONFLICT DO NOTHING
        RETURNING run_id, admit_run((SELECT id FROM new), 'default', 10) AS admitted
    ), run AS (
        INSERT INTO pipeline_runs (
            id, tenant_id, pipeline_id, mode, workflow_name, workflow_version,
            user_storage_input_path_prefix, user_storage_output_path_prefix,
            user_storage_report_path_prefix, parameters, tags, timeout_seconds, retry_of,
            submit_lease_until, submit_attempts)
        SELECT run_id, tenant_id, id, mode, workflow_name, workflow_version, 'in', 'out', NULL,
            NULL, '{}', COALESCE(timeout_seconds, 604800), NULL, NULL, 0
        FROM new JOIN keyed USING (run_id) WHERE admitted
        RETURNING *
    ), event AS (
        INSERT INTO pipeline_run_events (run_id, version, tenant_id, status, at)
        SELECT id, version, tenant_id, status, created_at FROM run
    )
    SELECT run.*, CAST(installation.namespace AS text) || '-' || run.id AS correlation_id
    FROM run CROSS JOIN installation
"""
"""How the release of migration 0003 records a run; its other writes are today's."""


@pytest.fixture
def old_store(own_database_url: sa.URL) -> Iterator[PostgresStore]:
    """A database as the first release leaves it."""
    with store_of(own_database_url, "0001") as store:
        yield store


@pytest.fixture
def store_before_0004(own_database_url: sa.URL) -> Iterator[PostgresStore]:
    """A database as the release leaves it that knew no request ids and deleted nothing."""
    with store_of(own_database_url, "0003") as store:
        yield store


@contextmanager
def store_of(url: sa.URL, revision: str) -> Iterator[PostgresStore]:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    with closing(PostgresStore(url)) as store:
        store.execute(PIPELINE)
        yield store


def bring_up_to_date(store: PostgresStore) -> None:
    migrate(store.url.render_as_string(hide_password=False))


def written(store: PostgresStore, *statements: str) -> int:
    """The id of a run that the first release's code recorded and wrote to."""
    [(run_id,)] = store.execute(CREATE)
    for statement in statements:
        store.execute(statement, run_id=run_id)
    assert isinstance(run_id, int)
    return run_id


def read(store: PostgresStore, run_id: int) -> PipelineRun:
    """As today's code sees it."""
    return store.runs.run(run_id, tenant_id=TENANT)


def test_f44_runs_of_the_first_release_have_a_week_and_nobody_wants_them_to_end(
    old_store: PostgresStore,
) -> None:
    ids = [written(old_store, *walk) for walk in ([], [SUBMIT], [SUBMIT, FAIL])]

    bring_up_to_date(old_store)

    runs = [read(old_store, run_id) for run_id in ids]
    assert [run.status for run in runs] == [S.CREATED, S.SUBMITTED, S.FAILED]
    assert [run.timeout_seconds for run in runs] == [WEEK_SECONDS] * 3
    assert {run.cancel_requested_at for run in runs} == {None}
    assert {(run.cancel_cause, run.cancel_reason) for run in runs} == {(None, None)}
    assert [run.version for run in runs] == [1, 2, 3]
    assert [run.tags for run in runs] == [{"team": "blue"}] * 3
    assert runs[2].error == RunError("c", ErrorCategory.LOST, "m")
    found = old_store.runs.active(ids, workbench=WORKBENCH)
    assert (len(found.runs), found.breaker) == (2, Breaker())


def test_f44_observations_of_the_first_release_tell_of_no_unknown_job(
    old_store: PostgresStore,
) -> None:
    run_id = written(old_store, SUBMIT, OBSERVE, OBSERVE)

    bring_up_to_date(old_store)

    seen = read(old_store, run_id).observation
    assert seen == Observation(consecutive_failures=2, last_error="time-out")
    old_store.runs.observe([Finding(run_id=run_id, trouble="404", unknown_job=True)])
    assert read(old_store, run_id).observation.unknown_count == 1


def test_f44_strays_that_the_first_release_noted_are_looked_into(
    old_store: PostgresStore,
) -> None:
    run_id = written(old_store, FAIL, NOTE)

    bring_up_to_date(old_store)

    assert old_store.stray_checks.due(9) == ()
    old_store.move_time(MINUTE)
    [check] = old_store.stray_checks.due(9)
    assert (check.run.id, list(check.job_ids), check.looks) == (run_id, [], 0)
    assert close_to(check.now, now_of(old_store))


def test_f44_runs_of_the_first_release_go_on_by_todays_code(old_store: PostgresStore) -> None:
    run_id = written(old_store, SUBMIT)
    bring_up_to_date(old_store)

    asked = old_store.runs.request_cancel(run_id, tenant_id=TENANT, reason="r").run
    change = transition(asked, S.CANCELLED)
    assert change
    assert len(old_store.runs.move([change])) == 1

    assert read(old_store, run_id).status is S.CANCELLED


def test_f44_the_first_releases_code_works_on_with_todays_tables(
    old_store: PostgresStore,
) -> None:
    bring_up_to_date(old_store)

    run = read(old_store, written(old_store, SUBMIT, OBSERVE, FAIL, NOTE, NOTE))

    assert (run.status, run.timeout_seconds) == (S.FAILED, WEEK_SECONDS)
    assert (run.observation.unknown_since, run.observation.unknown_count) == (None, 0)
    assert old_store.strays() == {run.id: "why"}
    old_store.move_time(MINUTE)
    assert [check.run for check in old_store.stray_checks.due(9)] == [run]


def test_f44_the_first_releases_code_ends_a_run_that_todays_code_was_asked_to_cancel(
    old_store: PostgresStore,
) -> None:
    bring_up_to_date(old_store)
    run_id = written(old_store, SUBMIT)
    asked = old_store.runs.request_cancel(run_id, tenant_id=TENANT, reason="r").run

    old_store.execute(FAIL, run_id=run_id)

    ended = read(old_store, run_id)
    assert (ended.status, ended.cancel_requested_at) == (S.FAILED, asked.cancel_requested_at)


# -- migration 0004: request ids and the purge ----------------------------------------------------


def recorded_before_0004(store: PostgresStore) -> int:
    """The id of a run that the release before recorded, with what role api may."""
    with store.as_user_of("api") as database, database.acting_for(TENANT):
        [row] = database.rows(sa.text(RECORD_BEFORE_0004))
    assert isinstance(row["id"], int)
    return row["id"]


def test_f44_runs_of_the_release_before_request_ids_are_read_go_on_and_are_purged(
    store_before_0004: PostgresStore,
) -> None:
    store = store_before_0004
    run_id = recorded_before_0004(store)

    bring_up_to_date(store)

    run = read(store, run_id)
    assert (run.status, run.request_id) == (S.CREATED, None)
    everything = store.runs.page(RunFilter(), tenant_id=TENANT, page_size=9, before=None)
    assert list(everything.runs) == [run]
    run = moved(store, submit(store, run), S.COMPLETED)
    store.move_time(MINUTE)
    store.runs.mark_published(store.runs.unpublished(9))
    store.move_time(timedelta(days=91))
    assert store.retention.purge(older_than=timedelta(days=90), most=9) == 1


def test_f44_the_release_before_request_ids_records_runs_with_todays_tables(
    store_before_0004: PostgresStore,
) -> None:
    store = store_before_0004
    bring_up_to_date(store)

    run = read(store, recorded_before_0004(store))

    assert (run.status, run.request_id) == (S.CREATED, None)
    assert workflow_input(run, WORKBENCH)["request_id"] is None
    assert list(store.runs.active([run.id], workbench=WORKBENCH).runs) == [run]
    assert submit(store, run).status is S.SUBMITTED
