"""Postgres, by SQLAlchemy Core on pg8000: the truth about runs."""

from runs.adapters.postgres.breakers import PostgresBreakers
from runs.adapters.postgres.database import Database
from runs.adapters.postgres.overviews import PostgresOverviews
from runs.adapters.postgres.pipelines import PostgresPipelines
from runs.adapters.postgres.retention import PostgresRetention
from runs.adapters.postgres.runs import PostgresRuns
from runs.adapters.postgres.strays import PostgresStrays
from runs.adapters.postgres.waiters import PostgresWaiters

__all__ = [
    "Database",
    "PostgresBreakers",
    "PostgresOverviews",
    "PostgresPipelines",
    "PostgresRetention",
    "PostgresRuns",
    "PostgresStrays",
    "PostgresWaiters",
]
