"""The request that a run came by, and what the survey and the purge need.

Expand only: the release before neither reads nor writes the new column. Building the indexes has
writers wait; where that would be too long, make them before, by hand, of the same names and with
CREATE INDEX CONCURRENTLY.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

REQUEST_ID = """
ALTER TABLE pipeline_runs ADD COLUMN request_id text,
    ADD CONSTRAINT request_id_is_short CHECK (length(request_id) <= 128) NOT VALID;
COMMENT ON COLUMN pipeline_runs.request_id IS
    'The X-Request-Id of the request that made the run; finds it in all logs.';
"""

INDEXES = """
CREATE INDEX IF NOT EXISTS pipeline_runs_ended ON pipeline_runs (completed_at, id)
    WHERE completed_at IS NOT NULL;
COMMENT ON INDEX pipeline_runs_ended IS 'All tenants'' runs, oldest first: for the purge.';
CREATE INDEX IF NOT EXISTS pipeline_run_events_waiting ON pipeline_run_events (at)
    WHERE published_at IS NULL;
COMMENT ON INDEX pipeline_run_events_waiting IS 'How long the oldest has waited: for the survey.';
"""

GRANTS = "GRANT DELETE ON pipeline_runs TO poller"
"""What hangs on a run goes with it, by its foreign keys."""


def upgrade() -> None:
    """Adds and grants."""
    op.execute(INDEXES)  # First: what follows has readers wait, too, but takes no time.
    op.execute(REQUEST_ID)
    op.execute(GRANTS)
