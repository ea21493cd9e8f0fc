"""What has to be done to a database that was restored, on a real Postgres."""

from __future__ import annotations

import os
import subprocess
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from infra.local.environments import ROOT, python_of
from infra.restored import AHEAD, make_copy, take_over
from infra.verify.reading import gather
from infra.verify.report import verify
from made_runs import TENANT, S, make_pipeline, moved, record, submitted
from real_parts import execute
from runs.adapters.postgres import Database
from runs.adapters.secrets import PAUSE_SECONDS, Secret
from runs.errors import DatabaseUnavailable
from runs.model import ErrorCategory, RunError, Stray
from runs_stores import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Iterator

P = timedelta(seconds=30)
ERROR = RunError("workbench_failed", ErrorCategory.UPSTREAM, "the Workbench answered 500")


@pytest.fixture
def store(own_database_url: sa.URL) -> Iterator[PostgresStore]:
    with closing(PostgresStore(own_database_url)) as store:
        yield store


@contextmanager
def backup_of(store: PostgresStore) -> Iterator[PostgresStore]:
    """Another database, as this one is at the moment; nobody is connected to it."""
    store.database.close()
    store.owner.dispose()
    server = store.url.set(database="postgres")
    name = f"{store.url.database}_restored"
    execute(server, f"CREATE DATABASE {name} TEMPLATE {store.url.database}")
    try:
        with closing(PostgresStore(store.url.set(database=name))) as restored:
            yield restored
    finally:
        execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def text(store: PostgresStore) -> str:
    return store.url.render_as_string(hide_password=False)


# -- in the place of the original -----------------------------------------------------------------


def test_p8_no_run_of_a_restored_database_has_the_key_of_a_run_made_since_the_backup(
    store: PostgresStore,
) -> None:
    pipeline = make_pipeline(store)
    record(store, pipeline)
    with backup_of(store) as restored:
        lost = {record(store, pipeline).correlation_id for _ in range(3)}
        assert record(restored, pipeline).correlation_id in lost  # What has to be prevented.

        take_over(text(restored))

        assert record(restored, pipeline).correlation_id not in lost


def test_p8_p9_a_run_that_was_being_submitted_when_the_backup_was_taken_keeps_its_key(
    store: PostgresStore,
) -> None:
    run = record(store, make_pipeline(store))
    with backup_of(store) as restored:
        submitted_since = moved(store, run, S.SUBMITTED, workbench_job_id="job-1")

        take_over(text(restored))

        as_restored = restored.runs.run(run.id, tenant_id=TENANT)
        assert as_restored.status is S.CREATED
        assert as_restored.correlation_id == submitted_since.correlation_id


def test_no_pipeline_of_a_restored_database_has_the_id_of_one_made_since(
    store: PostgresStore,
) -> None:
    with backup_of(store) as restored:
        lost = make_pipeline(store)
        take_over(text(restored))
        assert make_pipeline(restored, name="another").id > lost.id


def test_ids_go_on_a_million_further_and_it_may_be_done_again(store: PostgresStore) -> None:
    run = record(store, make_pipeline(store))
    first, second = take_over(text(store)), take_over(text(store))
    assert (first.last_run_id, first.next_run_id) == (run.id, run.id + AHEAD + 1)
    assert second.next_run_id == first.next_run_id + AHEAD
    assert second.namespace == first.namespace
    pipeline = make_pipeline(store, name="later")
    assert record(store, pipeline).id == second.next_run_id


def test_a_database_without_a_run_can_be_restored_too(store: PostgresStore) -> None:
    done = take_over(text(store))
    assert (done.last_run_id, done.next_run_id) == (0, 1 + AHEAD + 1)


def test_a_function_that_the_old_database_turns_away_goes_on_with_the_one_in_its_secret(
    store: PostgresStore,
) -> None:
    old, new = store.user_of("poller"), store.user_of("api").set(database="postgres")
    kept, now = [old], [0.0]
    secret = Secret(
        lambda: kept[0].render_as_string(hide_password=False),
        clock=lambda: now[0],
        wall_clock=lambda: now[0],
    )
    database = Database(secret.text, renew=secret.renew, application_name="tests")
    where = sa.select(sa.func.current_database().label("name"))
    try:
        assert database.rows(where)[0]["name"] == store.url.database

        kept[0] = new
        store.execute(f"ALTER ROLE {old.username} NOLOGIN")
        sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :user"
        store.execute(sessions, user=old.username)
        with pytest.raises(DatabaseUnavailable):
            database.rows(where)  # The secret was read a moment ago.
        now[0] += PAUSE_SECONDS

        assert database.rows(where)[0]["name"] == "postgres"
    finally:
        database.close()
        for user in (old, new):
            store.execute(f"DROP ROLE {user.username}")


# -- beside the original --------------------------------------------------------------------------


def test_p8_a_copy_shares_no_key_with_its_original(store: PostgresStore) -> None:
    pipeline = make_pipeline(store)
    run = record(store, pipeline)
    with backup_of(store) as copy:
        namespace = make_copy(text(copy)).namespace
        assert not run.correlation_id.startswith(namespace)
        assert record(copy, pipeline).correlation_id.startswith(f"{namespace}-")


def test_a_copy_leaves_the_originals_runs_jobs_and_events_alone(store: PostgresStore) -> None:
    pipeline = make_pipeline(store)
    active = [record(store, pipeline), submitted(store, pipeline)]
    active.append(moved(store, submitted(store, pipeline), S.RUNNING))
    failed = moved(
        store, record(store, pipeline), S.FAILED, error=ERROR, stray=Stray(reason="a job may exist")
    )
    with backup_of(store) as copy:
        assert make_copy(text(copy)).ended == len(active)

        assert not copy.runs.active([run.id for run in active], workbench="any").runs
        waiting = "SELECT count(*) FROM pipeline_run_events WHERE published_at IS NULL"
        assert copy.execute(waiting) == [(0,)]
        assert copy.execute("SELECT next_look_at FROM stray_checks") == [(None,)]
        for before in active:
            run = copy.runs.run(before.id, tenant_id=TENANT)
            assert (run.status, run.version) == (S.FAILED, before.version + 1)
            assert run.error
            assert run.error.code == "copied"
        assert copy.runs.run(failed.id, tenant_id=TENANT).error == ERROR
        report = verify(gather(copy.owner, poll_interval=P))
        assert report.broken == []


# -- the command ----------------------------------------------------------------------------------


def command(store: PostgresStore | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python_of("stack")), "-m", "infra.restored", *arguments],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": text(store) if store else ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_tells_what_the_database_is_like_now(store: PostgresStore) -> None:
    record(store, make_pipeline(store))
    done = command(store)
    assert (done.returncode, done.stderr) == (0, "")
    namespace = store.execute("SELECT CAST(namespace AS text) FROM installation")[0][0]
    assert done.stdout.splitlines() == [
        f"Newest run in it: 1. Next run: {1 + AHEAD + 1}.",
        f"Keys at the Workbench begin with {namespace}-.",
    ]


def test_the_command_makes_a_copy_if_that_is_said(store: PostgresStore) -> None:
    before = store.execute("SELECT CAST(namespace AS text) FROM installation")[0][0]
    submitted(store, make_pipeline(store))
    done = command(store, "--as-copy")
    assert done.returncode == 0
    assert before not in done.stdout
    assert done.stdout.splitlines()[-1].endswith("go on in the original: 1.")


def test_the_command_needs_a_database() -> None:
    done = command(None)
    assert done.returncode == 1
    assert "DATABASE_URL" in done.stderr
