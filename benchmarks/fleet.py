"""Databases with a year of runs in them, made by the database itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

if TYPE_CHECKING:
    from runs_stores import PostgresStore

ASKED: Final = "asked"
"""The tenant whose lists are read."""
FREQUENT_PIPELINE: Final = 1
"""It has a quarter of the tenant's runs."""
COMMON_TAG: Final = ("team", "air")
"""A third of the runs have it."""
RARE_TAG: Final = ("rare", "1")
"""One run in about a thousand has it."""

TRUSTED: Final = "SET session_replication_role = replica"
"""What is loaded refers to itself rightly: no foreign key is looked up."""
PIPELINES: Final = """
    INSERT INTO pipelines (id, tenant_id, name, mode, workflow_name)
    SELECT n, CASE WHEN n <= :asked THEN 'asked' ELSE 'other-' || n END,
        'pipeline-' || n, 'BATCH', 'batch_pipeline_workflow'
    FROM generate_series(1, CAST(:asked AS bigint) + 3) AS n
"""
# One run in five is another tenant's. What is asked for is spread by numbers that have no divisor
# in common, so that every combination occurs in its share.
RUNS: Final = """
    INSERT INTO pipeline_runs (id, tenant_id, pipeline_id, mode, workflow_name, status, version,
        workbench_job_id, conductor_workflow_id, error_message, error_code, error_category,
        user_storage_input_path_prefix, user_storage_output_path_prefix, parameters, tags,
        created_at, updated_at, started_at, completed_at)
    SELECT n,
        CASE WHEN mod(n, 5) > 0 THEN 'asked' ELSE 'other-' || :pipelines + 1 + mod(n, 3) END,
        CASE WHEN mod(n, 5) = 0 THEN :pipelines + 1 + mod(n, 3) WHEN mod(n, 4) = 1 THEN 1
            ELSE 2 + mod(n, :pipelines - 1) END,
        'BATCH', 'batch_pipeline_workflow', status, 2,
        CASE WHEN status <> 'CREATED' THEN 'job-' || n END, 'workflow-' || n,
        CASE WHEN status = 'FAILED' THEN 'The job ran out of memory.' END,
        CASE WHEN status = 'FAILED' THEN 'job_failed' END,
        CASE WHEN status = 'FAILED' THEN 'UPSTREAM' END,
        's3://bucket/measurements/' || n || '/in', 's3://bucket/measurements/' || n || '/out',
        jsonb_build_object('threshold', mod(n, 17), 'columns', '["mass", "island"]'::jsonb),
        jsonb_build_object('team', (ARRAY['ocean', 'air', 'land'])[1 + mod(n, 3)], 'night', n / 100)
            || CASE WHEN mod(n, 1009) = 7 THEN '{"rare": "1"}' ELSE '{}' END::jsonb,
        at, at, CASE WHEN status <> 'CREATED' THEN at END,
        CASE WHEN status IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN at END
    FROM (
        SELECT n, runs_now() - (CAST(:total AS bigint) - n) * INTERVAL '365 days' / :total AS at,
            CAST(CASE WHEN mod(n * 7919, 101) < 86 THEN 'COMPLETED'
                WHEN mod(n * 7919, 101) < 94 THEN 'FAILED'
                WHEN mod(n * 7919, 101) < 97 THEN 'CANCELLED'
                WHEN mod(n * 7919, 101) < 98 THEN 'CREATED'
                WHEN mod(n * 7919, 101) < 99 THEN 'SUBMITTED'
                ELSE 'RUNNING' END AS pipeline_run_status) AS status
        FROM generate_series(1, CAST(:total AS bigint)) AS n) AS made
"""
OBSERVATIONS: Final = """
    INSERT INTO run_observations (run_id, tenant_id, last_checked_at, upstream_status)
    SELECT id, tenant_id, updated_at, status_text FROM pipeline_runs WHERE started_at IS NOT NULL
"""
FIRST_EVENTS: Final = """
    INSERT INTO pipeline_run_events (run_id, version, tenant_id, status, at, published_at)
    SELECT id, 1, tenant_id, 'CREATED', created_at, created_at FROM pipeline_runs
"""
LAST_EVENTS: Final = """
    INSERT INTO pipeline_run_events
        (run_id, version, tenant_id, previous_status, status, at, published_at)
    SELECT id, 2, tenant_id, 'CREATED', status, created_at, created_at FROM pipeline_runs
"""
"""Two events of each run, so as not to take longer: a run's own are read by its id alone."""
KNOWN_RUN: Final = """
    SELECT max(id) FROM pipeline_runs
    WHERE id < :middle AND tenant_id = 'asked' AND pipeline_id = 1 AND status = 'COMPLETED'
"""


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many runs of how many pipelines the asked tenant has, and how many there are of all."""

    runs: int

    @property
    def total(self) -> int:
        """With those of three other tenants."""
        return self.runs * 5 // 4

    @property
    def pipelines(self) -> int:
        """Of the asked tenant: more than a page of the longest in both fleets."""
        return max(250, self.runs // 1_000)

    @property
    def middle(self) -> int:
        """The id that half of the runs lie below."""
        return self.total // 2

    def fill(self, store: PostgresStore) -> None:
        """Makes them in an empty database."""
        with store.owner.connect() as connection:
            connection.execute(sa.text(TRUSTED))
            connection.execute(sa.text(PIPELINES), {"asked": self.pipelines})
            made = {"total": self.total, "pipelines": self.pipelines}
            connection.execute(_typed(RUNS), made)
            connection.execute(sa.text(OBSERVATIONS))
            connection.execute(sa.text(FIRST_EVENTS))
            connection.execute(sa.text(LAST_EVENTS))
            connection.execute(sa.text("VACUUM (ANALYZE)"))
            connection.invalidate()

    def known_run(self, store: PostgresStore) -> int:
        """A run of the asked tenant and its frequent pipeline, older than the middle; it ended."""
        [[known]] = store.execute(KNOWN_RUN, middle=self.middle)
        return int(known)


def _typed(statement: str) -> sa.TextClause:
    numbers = [sa.bindparam(name, type_=sa.BigInteger) for name in ("total", "pipelines")]
    return sa.text(statement).bindparams(*numbers)
