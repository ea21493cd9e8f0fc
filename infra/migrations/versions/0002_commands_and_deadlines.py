"""Cancel and time-outs, what tells a lost job, the circuit breaker, and the search for strays.

Expand only: code of the release before it runs on as before. Constraints are not validated, for
that would read all rows under a lock that nobody passes; the defaults keep them.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

RUNS = """
ALTER TABLE pipeline_runs
    ADD COLUMN timeout_seconds integer NOT NULL DEFAULT 604800,
    ADD COLUMN cancel_cause varchar(16),
    ADD COLUMN cancel_reason text,
    ADD CONSTRAINT timeout_in_range CHECK (timeout_seconds BETWEEN 60 AND 2592000) NOT VALID,
    ADD CONSTRAINT cancel_has_cause CHECK
        ((cancel_cause IS NULL) = (cancel_requested_at IS NULL)) NOT VALID;
CREATE UNIQUE INDEX pipeline_runs_active_job ON pipeline_runs (workbench_job_id)
    WHERE workbench_job_id IS NOT NULL AND status IN ('SUBMITTED', 'RUNNING');
CREATE INDEX pipeline_runs_in_trouble ON pipeline_runs (next_check_at, id)
    WHERE next_check_at IS NOT NULL AND status IN ('SUBMITTED', 'RUNNING');
COMMENT ON INDEX pipeline_runs_active_job IS
    'Of active runs alone: a Workbench that was set up anew may begin its ids anew.';
"""

OBSERVATIONS = """
ALTER TABLE run_observations
    ADD COLUMN unknown_since timestamptz,
    ADD COLUMN unknown_count integer NOT NULL DEFAULT 0;
"""

BREAKERS = """
CREATE TABLE workbench_breakers (
    workbench      text PRIMARY KEY,
    last_valid_at  timestamptz,
    failing_since  timestamptz,
    opened_at      timestamptz,
    closed_at      timestamptz,
    probe_at       timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE workbench_breakers IS
    'While one is open, of the runs in trouble its Workbench is asked about a few probes only.';
"""

STRAYS = """
ALTER TABLE stray_checks
    ADD COLUMN job_ids jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN looks smallint NOT NULL DEFAULT 0,
    ADD COLUMN next_look_at timestamptz DEFAULT runs_now() + INTERVAL '1 minute',
    ADD COLUMN jobs_cancelled integer NOT NULL DEFAULT 0;
CREATE INDEX stray_checks_due ON stray_checks (next_look_at) WHERE next_look_at IS NOT NULL;
"""


def upgrade() -> None:
    """Adds; each constant is one subject."""
    for subject in (RUNS, OBSERVATIONS, BREAKERS, STRAYS):
        op.execute(subject)
