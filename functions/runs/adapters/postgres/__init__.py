"""Postgres, by SQLAlchemy Core on pg8000: the truth about runs."""

from runs.adapters.postgres.database import Database
from runs.adapters.postgres.pipelines import PostgresPipelines
from runs.adapters.postgres.runs import PostgresRuns

__all__ = ["Database", "PostgresPipelines", "PostgresRuns"]
