"""Reads the facts: the database in one snapshot, between two looks at the Workbench."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import sqlalchemy as sa

from infra.verify.facts import Event, Facts, Key, Observation, Run, StrayCheck

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from infra.verify.facts import Delivery, WorkbenchFacts

Row = TypeVar("Row", Run, Event, Observation, Key, StrayCheck)

DERIVED: Final = MappingProxyType({"has_output": "output IS NOT NULL AS has_output"})
"""What isn't a column of its own."""
CLOCK: Final = """
    SELECT runs_now(), runs_clock."offset", CAST(installation.namespace AS text)
    FROM runs_clock CROSS JOIN installation
"""
SHARDS: Final = "SELECT shard, NULLIF(last_polled_at, '-infinity') FROM poll_shards"


class WorkbenchReader(Protocol):
    """A Workbench whose jobs and journal can be read."""

    def read(self) -> WorkbenchFacts:
        """All jobs and calls, as of now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """What waits in the queues.

    Attributes:
        waiting: How many messages, by queue.
        dead_letters: The bodies of those in the DLQ.
    """

    waiting: Mapping[str, int]
    dead_letters: Sequence[str]


class QueueReader(Protocol):
    """The stack's queues."""

    def read(self) -> QueueFacts:
        """What waits in them now; nothing is taken away."""


def gather(
    database: sa.Engine,
    *,
    poll_interval: timedelta,
    workbench: WorkbenchReader | None = None,
    queues: QueueReader | None = None,
    deliveries: Sequence[Delivery] | None = None,
    well_since: datetime | None = None,
) -> Facts:
    """Reads everything; nothing is changed, and nothing need stand still meanwhile.

    The Workbench is looked at before the database, for no job may be older than its run, and after
    it, for no run may be ahead of its job.

    Args:
        database: of the runs.
        poll_interval: as the stack has it.
        workbench: None: it is not ours.
        queues: None: they aren't looked at.
        deliveries: what a consumer of the bus received, in that order; None: there was none.
        well_since: since when all parts have been well, by the true clock; None: time isn't judged.
    """
    before = workbench.read().jobs.keys() if workbench else frozenset()
    facts = _database_facts(database, poll_interval=poll_interval)
    after = workbench.read() if workbench else None
    if after:
        jobs = {name: replace(job, is_new=name not in before) for name, job in after.jobs.items()}
        after = replace(after, jobs=jobs)
    waiting = queues.read() if queues else QueueFacts(waiting={}, dead_letters=())
    return replace(
        facts.facts,
        workbench=after,
        waiting=waiting.waiting,
        dead_letters=waiting.dead_letters,
        deliveries=deliveries,
        well_since=well_since and well_since + facts.offset,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _DatabaseFacts:
    facts: Facts
    offset: timedelta


def _database_facts(database: sa.Engine, *, poll_interval: timedelta) -> _DatabaseFacts:
    snapshot = database.execution_options(isolation_level="REPEATABLE READ")
    with snapshot.connect() as connection:
        connection.execute(sa.text("SET TRANSACTION READ ONLY"))
        now, offset, namespace = connection.execute(sa.text(CLOCK)).one()
        runs = _read(connection, Run, "pipeline_runs")
        observations = _read(connection, Observation, "run_observations")
        strays = _read(connection, StrayCheck, "stray_checks")
        facts = Facts(
            now=now,
            clock_moved=offset != timedelta(0),
            namespace=namespace,
            poll_interval=poll_interval,
            runs={run.id: run for run in runs},
            events=_read(connection, Event, "pipeline_run_events"),
            observations={seen.run_id: seen for seen in observations},
            keys=_read(connection, Key, "idempotency_keys"),
            strays={stray.run_id: stray for stray in strays},
            shards={row[0]: row[1] for row in connection.execute(sa.text(SHARDS))},
        )
        return _DatabaseFacts(facts=facts, offset=offset)


def _read(connection: sa.Connection, row_type: type[Row], table: str) -> list[Row]:
    """All rows of a table, as objects that have the names of its columns."""
    names = [field.name for field in fields(row_type)]
    columns = ", ".join(DERIVED.get(name, name) for name in names)
    rows = connection.execute(sa.text(f"SELECT {columns} FROM {table}"))  # noqa: S608 - names of ours
    made: list[Row] = []
    for row in rows.mappings():
        values: dict[str, Any] = dict(row)
        made.append(row_type(**values))
    return made
