"""What is deleted: runs that ended long ago, and by their foreign keys all that hangs on them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from runs.adapters.postgres.database import DataRefused

if TYPE_CHECKING:
    from datetime import timedelta

    from runs.adapters.postgres.database import Database

LOG = logging.getLogger(__name__)

# A retry that is being made holds its run's row, so that the run is passed over.
_PURGE: Final = sa.text(
    """
    WITH due AS (
        SELECT id FROM pipeline_runs run
        WHERE completed_at < runs_now() - :older_than
            AND NOT EXISTS (
                SELECT FROM pipeline_run_events WHERE run_id = run.id AND published_at IS NULL)
            AND NOT EXISTS (
                SELECT FROM stray_checks WHERE run_id = run.id AND next_look_at IS NOT NULL)
            AND NOT EXISTS (SELECT FROM pipeline_runs again WHERE again.retry_of = run.id)
        ORDER BY completed_at, id
        LIMIT :most
        FOR UPDATE SKIP LOCKED
    )
    DELETE FROM pipeline_runs run USING due WHERE run.id = due.id RETURNING run.id
    """
).bindparams(
    sa.bindparam("older_than", type_=sa.Interval()), sa.bindparam("most", type_=sa.Integer())
)


@dataclass(frozen=True, slots=True)
class PostgresRetention:
    """`ports.Retention` on Postgres."""

    database: Database

    def purge(self, *, older_than: timedelta, most: int) -> int:
        """See `ports.Retention`."""
        try:
            return len(self.database.rows(_PURGE, {"older_than": older_than, "most": most}))
        except DataRefused as error:  # One of them was retried at this very moment.
            LOG.info("purge_postponed", extra={"error": str(error)})
            return 0
