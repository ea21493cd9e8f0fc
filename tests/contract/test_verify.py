"""The invariant checker's readers: of a real Postgres, Workbenches and queues."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import boto3
import httpx
import pytest
import sqlalchemy as sa
from moto import mock_aws

from infra.local.environments import ROOT, python_of
from infra.verify.facts import Event, Job, Key, Need, StrayCheck, WorkbenchFacts
from infra.verify.queues import StackQueues
from infra.verify.reading import gather
from infra.verify.report import Demand, verify
from infra.verify.workbench import ReferenceWorkbench
from reference_workbench import start_workbench, wait_until
from scripted_facts import ScriptedReader
from scripted_workbench import Answer, ScriptedWorkbench, State, drop, execute_and_drop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from infra.verify.facts import Facts
    from infra.verify.reading import WorkbenchReader

P = timedelta(seconds=30)
BEGUN_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)

PIPELINES = """
    INSERT INTO pipelines (id, name, mode, workflow_name) VALUES
        (1, 'batch', 'BATCH', 'batch_pipeline_workflow'),
        (2, 'realtime', 'REALTIME', 'realtime_pipeline_workflow')
"""
RUNS = """
    INSERT INTO pipeline_runs (
        id, pipeline_id, mode, status, version, workflow_name, workbench_job_id, output,
        error_message, error_code, error_category, created_at, started_at, completed_at,
        cancel_requested_at, cancel_cause, submit_attempts, next_check_at)
    SELECT id, CASE mode WHEN 'BATCH' THEN 1 ELSE 2 END, CAST(mode AS pipeline_mode),
        CAST(status AS pipeline_run_status), version, 'w', job, CAST(output AS jsonb), message,
        CASE WHEN message IS NOT NULL THEN 'job_failed' END,
        CASE WHEN message IS NOT NULL THEN 'UPSTREAM' END,
        begun_at, begun_at + started, begun_at + completed,
        CASE WHEN cause IS NOT NULL THEN begun_at END, cause, 1, NULL
    FROM (VALUES
        (1, 'BATCH', 'COMPLETED', 4, 'job-1', NULL, NULL, '1 s', '3 s', NULL),
        (2, 'BATCH', 'FAILED', 3, 'job-2', NULL, 'row 7', '1 s', '2 s', NULL),
        (3, 'REALTIME', 'COMPLETED', 4, NULL, '{"rows": 7}', NULL, '1 s', '3 s', NULL),
        (300, 'BATCH', 'SUBMITTED', 2, 'job-300', NULL, NULL, '1 s', NULL, 'USER')
    ) AS run (id, mode, status, version, job, output, message, started_s, completed_s, cause)
    CROSS JOIN LATERAL (SELECT CAST(:begun_at AS timestamptz) AS begun_at,
        CAST(started_s AS interval) AS started, CAST(completed_s AS interval) AS completed) AS times
"""
EVENTS = """
    INSERT INTO pipeline_run_events (
        run_id, version, previous_status, status, at, error, published_at)
    SELECT id, version, CAST(way[version - 1] AS pipeline_run_status),
        CAST(way[version] AS pipeline_run_status), at,
        CASE WHEN way[version] = 'FAILED' THEN 'row 7' END, at
    FROM (VALUES
        (1, ARRAY['CREATED', 'SUBMITTED', 'RUNNING', 'COMPLETED']),
        (2, ARRAY['CREATED', 'SUBMITTED', 'FAILED']),
        (3, ARRAY['CREATED', 'SUBMITTED', 'RUNNING', 'COMPLETED']),
        (300, ARRAY['CREATED', 'SUBMITTED'])
    ) AS run (id, way)
    CROSS JOIN LATERAL generate_series(1, cardinality(way)) AS version
    CROSS JOIN LATERAL (SELECT
        CAST(:begun_at AS timestamptz) + make_interval(secs => version - 1) AS at) AS times
"""
OBSERVATIONS = """
    INSERT INTO run_observations (run_id, last_checked_at, upstream_status, unknown_count)
    VALUES (1, :begun_at, 'DONE', 0), (2, :begun_at, 'FAILED', 0), (300, :begun_at, 'QUEUED', 0)
"""
KEYS = """
    INSERT INTO idempotency_keys (route, key, fingerprint, run_id)
    SELECT 'POST /pipeline-run', 'key-' || id, 'f', id FROM pipeline_runs
"""
STRAYS = """
    INSERT INTO stray_checks (run_id, reason, next_look_at) VALUES (2, 'two workflows', NULL)
"""


@pytest.fixture
def database(database_url: sa.URL) -> Iterator[sa.Engine]:
    """Runs of several kinds, as the service leaves them."""
    with filled(database_url) as engine:
        yield engine


@pytest.fixture
def own_database(own_database_url: sa.URL) -> Iterator[sa.Engine]:
    """The same, in a database that the test may break."""
    with filled(own_database_url) as engine:
        yield engine


@contextmanager
def filled(url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        for statement in (PIPELINES, RUNS, EVENTS, OBSERVATIONS, KEYS, STRAYS):
            values = {"begun_at": BEGUN_AT} if ":begun_at" in statement else {}
            connection.execute(sa.text(statement), values)
    yield engine
    engine.dispose()


def execute(database: sa.Engine, statement: str) -> None:
    with database.begin() as connection:
        connection.execute(sa.text(statement))


def facts_of(database: sa.Engine, workbench: WorkbenchReader | None = None) -> Facts:
    return gather(database, poll_interval=P, workbench=workbench)


# -- the database ---------------------------------------------------------------------------------


def test_what_the_service_leaves_in_the_database_holds(database: sa.Engine) -> None:
    report = verify(facts_of(database))
    assert report.broken == []
    # 4 + 3 + 4 + 2 events; ended are runs 1, 2 and 3; 256 shards and the one active run.
    assert {n: report.judged[n] for n in (1, 2, 3, 4, 7, 19, 20, 22, 23, 31)} == {
        1: 13,
        2: 13,
        3: 3,
        4: 4,
        7: 4,
        19: 13,
        20: 257,
        22: 3,
        23: 1,
        31: 1,
    }


def test_rows_are_read_as_they_are(database: sa.Engine) -> None:
    facts = facts_of(database)
    run = facts.runs[300]
    assert (run.mode, run.status, run.version, run.shard) == ("BATCH", "SUBMITTED", 2, 300 - 256)
    assert (run.created_at, run.started_at) == (BEGUN_AT, BEGUN_AT + timedelta(seconds=1))
    assert (run.cancel_requested_at, run.cancel_cause) == (BEGUN_AT, "USER")
    assert (run.timeout_seconds, run.completed_at) == (604_800, None)
    assert facts.runs[3].has_output
    assert not facts.runs[1].has_output
    assert facts.histories[2][-1] == Event(
        run_id=2,
        version=3,
        previous_status="SUBMITTED",
        status="FAILED",
        at=BEGUN_AT + timedelta(seconds=2),
        error="row 7",
        published_at=BEGUN_AT + timedelta(seconds=2),
    )
    assert facts.observations[1].upstream_status == "DONE"
    assert Key(tenant_id="default", route="POST /pipeline-run", key="key-300", run_id=300) in list(
        facts.keys
    )
    assert facts.strays == {2: StrayCheck(run_id=2, next_look_at=None)}
    assert facts.shards == dict.fromkeys(range(256))  # None: never swept.
    assert abs(facts.now - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("UPDATE pipeline_run_events SET status = 'RUNNING' WHERE (run_id, version) = (300, 2)", 1),
        ("UPDATE pipeline_run_events SET at = now() WHERE (run_id, version) = (2, 3)", 3),
        ("DELETE FROM pipeline_run_events WHERE (run_id, version) = (1, 2)", 4),
        ("UPDATE pipeline_run_events SET at = 'epoch' WHERE (run_id, version) = (1, 3)", 5),
        ("UPDATE idempotency_keys SET run_id = 1", 7),
        ("UPDATE pipeline_runs SET workbench_job_id = 'job-9' WHERE id = 3", 31),
        ("DELETE FROM poll_shards WHERE shard = 255", 20),
        ("UPDATE pipeline_runs SET next_check_at = now() + interval '1 h' WHERE id = 300", 20),
        ("UPDATE run_observations SET upstream_status = 'DONE' WHERE run_id = 300", 22),
    ],
)
def test_a_violation_seeded_by_sql_is_found(
    own_database: sa.Engine, statement: str, number: int
) -> None:
    execute(own_database, statement)
    broken = {
        result.of.number for result in verify(facts_of(own_database)).results if result.violations
    }
    assert number in broken


def test_a_moved_clock_is_noticed_and_moves_since_when_all_has_been_well(
    database: sa.Engine,
) -> None:
    assert not facts_of(database).clock_moved
    execute(database, """UPDATE runs_clock SET "offset" = interval '1 day'""")
    facts = gather(database, poll_interval=P, well_since=BEGUN_AT)
    assert facts.clock_moved
    assert facts.well_since == BEGUN_AT + timedelta(days=1)


def test_reading_waits_for_no_writer(database: sa.Engine) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("LOCK TABLE pipeline_runs IN EXCLUSIVE MODE"))
        assert len(facts_of(database).runs) == 4


# -- the scripted Workbench -----------------------------------------------------------------------


def submit(workbench_url: str, run_id: int, key: str) -> None:
    body = {
        "pipeline_run_id": run_id,
        "input_path_prefix": "s3://user-data/in/",
        "output_path_prefix": "s3://user-data/out/",
        "report_path_prefix": None,
    }
    try:
        httpx.post(
            f"{workbench_url}/batch/submit",
            json=body,
            headers={"Idempotency-Key": key},
            trust_env=False,
        )
    except httpx.TransportError:
        return  # Dropped, as the script wants it.


def test_a_scripted_workbench_tells_of_every_job_it_ever_made() -> None:
    with ScriptedWorkbench() as workbench:
        workbench.script(submit=[State("QUEUED"), execute_and_drop(), drop(), State("QUEUED")])
        for run_id in (1, 2, 3, 4):
            submit(workbench.url, run_id, f"n-{run_id}")
        workbench.script(submit=[Answer(200, {"workbench_job_id": "job-x"})])
        submit(workbench.url, 5, "n-5")
        httpx.post(f"{workbench.url}/batch/cancel/job-1-1", trust_env=False)
        workbench.become(None, run=2)
        workbench.forget(run=4)
        facts = ScriptedReader(workbench).read()
    told = {job.idempotency_key: (job.word, job.cancel_requested) for job in facts.jobs.values()}
    assert told == {"n-1": ("CANCELLED", True), "n-2": ("null", False), "n-4": (None, False)}
    assert facts.misled == {5}
    assert [call.kind for call in facts.calls] == ["submit"] * 5 + ["cancel"]
    assert not facts.tells_ends


def test_the_workbenchs_side_is_judged_with_the_database(database: sa.Engine) -> None:
    with ScriptedWorkbench() as workbench:
        with database.connect() as connection:
            namespace = connection.execute(sa.text("SELECT namespace FROM installation")).scalar()
        for run_id in (1, 2, 404):
            submit(workbench.url, run_id, f"{namespace}-{run_id}")
        workbench.become("RUNNING")
        report = verify(facts_of(database, ScriptedReader(workbench)))
    # The scripted Workbench's jobs are called otherwise than the rows say.
    broken = {result.of.number: result.violations for result in report.results}
    assert len(broken[10]) == 3
    whose = "is RUNNING and nobody's"
    assert broken[9] == (
        f"Job job-1-1 {whose}: run 1 is COMPLETED with job job-1, and no stray check is due.",
        f"Job job-2-2 {whose}: run 2 is FAILED with job job-2, and no stray check is due.",
    )
    assert broken[13] == ("Job job-404-3 was made for run 404, which doesn't exist.",)


def test_a_job_made_while_the_database_was_read_is_not_judged_by_it(database: sa.Engine) -> None:
    class Growing:
        """A Workbench that gets a job between two looks."""

        looks = 0

        def read(self) -> WorkbenchFacts:
            self.looks += 1
            made = [
                Job(id=f"job-{n}", idempotency_key=None, word="DONE") for n in range(self.looks)
            ]
            return WorkbenchFacts(jobs={job.id: job for job in made})

    facts = facts_of(database, Growing())
    assert {job.id: job.is_new for job in facts.jobs.values()} == {"job-0": False, "job-1": True}


# -- the reference Workbench ----------------------------------------------------------------------


def test_the_reference_workbench_tells_by_its_files(tmp_path: Path) -> None:
    with start_workbench(tmp_path) as running:
        submit(running.url, 1, "n-1")
        submit(running.url, 1, "n-1")
        reader = ReferenceWorkbench(running.journal_path, running.data_path / "jobs.sqlite")
        [job] = reader.read().jobs.values()
        # There is no user storage: the job fails by itself.
        wait_until(lambda: reader.read().jobs[job.id].has_ended, "the job's end")
        httpx.get(f"{running.url}/batch/status/{job.id}", trust_env=False)
        facts = reader.read()
    ended = facts.jobs[job.id]
    assert (ended.idempotency_key, ended.status) == ("n-1", "FAILED")
    assert ended.ended_at is not None
    assert abs(ended.ended_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert [(call.kind, call.job_ids) for call in facts.calls] == [
        ("submit", (job.id,)),
        ("submit", (job.id,)),
        ("status", (job.id,)),
    ]


def test_a_job_in_the_journal_that_the_store_has_lost_is_a_forgotten_one(tmp_path: Path) -> None:
    journal = tmp_path / "workbench" / "journal.jsonl"
    journal.parent.mkdir()
    line = {
        "at": 1.5,
        "call": "submit",
        "idempotency_key": "n-1",
        "workbench_job_ids": ["job-1"],
        "status_code": 202,
    }
    journal.write_text(json.dumps(line) + "\n" + json.dumps(line)[:20])  # One is being written.
    facts = ReferenceWorkbench.beside(str(journal)).read()
    assert [asdict(job) for job in facts.jobs.values()] == [
        asdict(Job(id="job-1", idempotency_key="n-1", word=None))
    ]
    assert len(facts.calls) == 1


def test_a_workbench_that_nobody_has_called_has_no_files_yet(tmp_path: Path) -> None:
    facts = ReferenceWorkbench.beside(str(tmp_path / "journal.jsonl")).read()
    assert (facts.jobs, facts.calls) == ({}, [])


def test_a_workbench_of_others_leaves_its_side_unjudged(database: sa.Engine) -> None:
    facts = facts_of(database)
    assert not facts.has(Need.WORKBENCH)
    report = verify(facts, demand=Demand.USUAL)
    assert report.broken == []
    told = {result.of.number: result.not_judged for result in report.results}
    assert told[8] == "nothing to judge here: the Workbench is not ours"


# -- the queues -----------------------------------------------------------------------------------


def test_messages_are_counted_and_those_in_the_dlq_read_and_left_there() -> None:
    with mock_aws():
        sqs = boto3.session.Session(region_name="eu-central-1").client("sqs")
        urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("check", "dlq")}
        sqs.send_message(QueueUrl=urls["check"], MessageBody="1")
        sqs.send_message(QueueUrl=urls["check"], MessageBody="2", DelaySeconds=60)
        for number in range(12):
            sqs.send_message(QueueUrl=urls["dlq"], MessageBody=f"poison {number}")
        queues = StackQueues(sqs, urls, urls["dlq"])
        for _ in range(2):
            facts = queues.read()
            assert facts.waiting == {"check": 2, "dlq": 12}
            assert sorted(facts.dead_letters) == sorted(f"poison {number}" for number in range(12))


# -- the command ----------------------------------------------------------------------------------


def test_without_a_stack_the_command_says_how_to_start_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(python_of("stack")), "-m", "infra.verify"],
        cwd=ROOT,
        env=os.environ | {"PIPELINE_RUNS_LOCAL": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "There is no stack to verify: start one with `make up`.\n"
