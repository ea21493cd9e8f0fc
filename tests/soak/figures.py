"""What is measured each minute, and what must not have grown in the end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psutil
import sqlalchemy as sa

from infra.local.processes import family, marked, memory_bytes, read_records

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chain import Chain

MEGABYTE: Final = 1_000_000
GROWN_UP_SECONDS: Final = 60
"""A function process's memory is compared from this age on: before, it still loads."""
GROWTH_BYTES: Final = 32 * MEGABYTE
"""More than any may grow by after that; an AWS client, made on its first use, takes 20 MB."""
BY_STATUS: Final = (
    "SELECT status, count(*) AS many FROM pipeline_runs GROUP BY status ORDER BY status"
)
CONNECTIONS: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
UNPUBLISHED: Final = """
    SELECT count(*), coalesce(extract(epoch FROM max(runs_now() - at)), 0)
    FROM pipeline_run_events WHERE published_at IS NULL
"""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The stack at one moment.

    Attributes:
        runs: How many, by status.
        connections: To the database, but for the one that asks.
        unpublished: Events.
        oldest_seconds: The age of the oldest of them.
        functions: Function processes.
        part_bytes: The memory of each part and all it has started, by its name.
    """

    runs: Mapping[str, int]
    connections: int
    unpublished: int
    oldest_seconds: float
    functions: int
    part_bytes: Mapping[str, int]

    @property
    def active(self) -> int:
        return sum(self.runs.get(name, 0) for name in ("CREATED", "SUBMITTED", "RUNNING"))

    def line(self) -> str:
        runs = " ".join(f"{name.lower()} {count}" for name, count in self.runs.items())
        memory = " ".join(f"{name} {size / MEGABYTE:.0f}" for name, size in self.part_bytes.items())
        return (
            f"{runs} | {self.connections} connections, {self.functions} function processes | "
            f"{self.unpublished} unpublished ({self.oldest_seconds:.0f} s) | MB: {memory}"
        )


@dataclass(frozen=True)
class Birth:
    """A process by what nobody else has."""

    pid: int
    created: float


@dataclass
class Sizes:
    """One function process's memory: when it had grown up, and at the last look."""

    handler: str
    grown_up: int
    last: int
    seconds: float = 0


@dataclass
class Figures:
    """All samples of one soak."""

    chain: Chain
    samples: list[Sample] = field(default_factory=list)
    sizes: dict[Birth, Sizes] = field(default_factory=dict)

    def take(self) -> Sample:
        """Looks at the database and the processes."""
        with self.chain.database.connect() as connection:
            runs = {row.status: row.many for row in connection.execute(sa.text(BY_STATUS))}
            connections = connection.execute(sa.text(CONNECTIONS)).scalar_one()
            unpublished, oldest = connection.execute(sa.text(UNPUBLISHED)).one()
        sample = Sample(
            runs=runs,
            connections=connections,
            unpublished=unpublished,
            oldest_seconds=float(oldest),
            functions=self._look_at_functions(),
            part_bytes=self._part_bytes(),
        )
        self.samples.append(sample)
        return sample

    @property
    def growth_bytes(self) -> dict[str, int]:
        """The most that a function process has grown by, by its handler."""
        found: dict[str, int] = {}
        for sizes in self.sizes.values():
            found[sizes.handler] = max(
                found.get(sizes.handler, -sizes.last), sizes.last - sizes.grown_up
            )
        return found

    @property
    def grown(self) -> list[str]:
        """What has grown, in sentences."""
        last = self.samples[-1]
        complaints = [
            f"A process of {handler} has grown by {growth / MEGABYTE:.1f} MB."
            for handler, growth in self.growth_bytes.items()
            if growth > GROWTH_BYTES
        ]
        if last.connections > last.functions:
            complaints.append(
                f"{last.connections} connections are open, by {last.functions} function processes."
            )
        if last.unpublished:
            complaints.append(f"{last.unpublished} events are unpublished.")
        return complaints

    def _look_at_functions(self) -> int:
        count = 0
        for process in marked(self.chain.local.layout.marker):
            try:
                words = process.cmdline()
                if "awslambdaric" not in words:
                    continue
                count += 1
                created = process.create_time()
            except psutil.Error:
                continue
            age = time.time() - created
            if age < GROWN_UP_SECONDS:
                continue
            size = memory_bytes([process])
            if not size:
                continue
            birth = Birth(process.pid, created)
            sizes = self.sizes.setdefault(birth, Sizes(words[-1], size, size))
            sizes.last, sizes.seconds = size, age
        return count

    def _part_bytes(self) -> dict[str, int]:
        """LocalStack's is without the functions."""
        found = {}
        for record in read_records(self.chain.local.layout):
            process = record.process
            if process and record.part in {"postgres", "conductor", "localstack"}:
                members = [process] if record.part == "localstack" else family(process)
                found[record.part] = memory_bytes(members)
        return found
