"""A World on a real Postgres, its messages brought by the mapping runner to the real handlers.

Conductor, Workbench and bus are twins still, and so is SQS, for time is the World's: the database's
clock follows it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from fakes import TENANT, WORKBENCH_URL, Waiting, World
from mapping_runner import MappingRunner
from memory_database import NotedStray
from memory_sqs import MemorySqs
from poller import check, hunt, relay, tick
from runs.adapters.postgres import (
    Database,
    PostgresBreakers,
    PostgresPipelines,
    PostgresRuns,
    PostgresStrays,
)
from runs.adapters.sqs import SqsCheckQueue, SqsTickQueue
from runs.errors import DatabaseUnavailable
from runs.hunting import HuntReport
from runs.messages import CheckMessage, TickMessage
from runs.ports import RunFilter
from runs.sweeping import SweepReport
from runs.wiring import using
from wired import ENVIRONMENT, Invocation, WorldWiring

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from memory_database import FakeTime, Steps
    from runs.checking import CheckReport
    from runs.events import RunEvent
    from runs.model import PipelineRun
    from runs.ports import Claim, Delayed

MANY: Final = 1_000
SECONDS_LEFT: Final = 70


@dataclass(frozen=True)
class TimelyRuns(PostgresRuns):
    """Whether a tick is late is judged by the true time: for a World's ticks by the World's."""

    time: FakeTime

    def claim(self, shards: Sequence[int], *, older_than: timedelta, not_after: datetime) -> Claim:
        [row] = self.database.rows(sa.text("SELECT statement_timestamp() AS now"))
        truly_not_after = row["now"] + (not_after - self.time.now)
        return super().claim(shards, older_than=older_than, not_after=truly_not_after)


class SteppedPort:
    """A real port whose calls pass the steps of its twin, and fail while the database is down."""

    def __init__(self, name: str, port: object, tables: RealTables) -> None:
        self._name, self._port, self._tables = name, port, tables

    def __getattr__(self, name: str) -> Any:
        call: Callable[..., Any] = getattr(self._port, name)

        def stepping(*args: Any, **kwargs: Any) -> Any:
            self._tables.steps.reach(f"before {self._name}.{name}")
            self._tables.reach()
            result = call(*args, **kwargs)
            self._tables.steps.reach(f"after {self._name}.{name}")
            return result

        return stepping


class RealTables:
    """What the model looks at and does to the database, of a real one."""

    def __init__(self, url: sa.URL, time: FakeTime, steps: Steps) -> None:
        self.time, self.steps = time, steps
        self.url = url
        self.owner = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        self.connection = self._connect()
        self.down = False
        self.locked: set[int] = set()
        self.refused: list[str] = []
        self._skew = timedelta(0)
        self._log = _Refusals(self.refused)
        logging.getLogger("runs.adapters.postgres").addHandler(self._log)
        time.on_advance = self.follow
        self.follow()

    def close(self) -> None:
        logging.getLogger("runs.adapters.postgres").removeHandler(self._log)
        self.connection.close()
        self.owner.dispose()

    def crash(self) -> None:
        """What the process held in the database ends with it."""
        self.connection.close()

    def reach(self) -> None:
        if self.down:
            raise DatabaseUnavailable("the database is down")

    @property
    def skew(self) -> timedelta:
        return self._skew

    @skew.setter
    def skew(self, skew: timedelta) -> None:
        self._skew = skew
        self.follow()

    def follow(self) -> None:
        """Sets the database's clock by the World's."""
        text = 'UPDATE runs_clock SET "offset" = :now - statement_timestamp()'
        self._execute(text, now=self.time.now + self._skew)

    @property
    def runs(self) -> dict[int, PipelineRun]:
        page = PostgresRuns(self.connection).page(
            RunFilter(), tenant_id=TENANT, page_size=MANY, before=None
        )
        return {run.id: run for run in reversed(page.runs)}

    @property
    def events(self) -> dict[int, Sequence[RunEvent]]:
        runs = PostgresRuns(self.connection)
        return {run_id: runs.history(run_id, tenant_id=TENANT) for run_id in self.runs}

    @property
    def keys(self) -> list[Any]:
        return self._execute("SELECT key FROM idempotency_keys")

    @property
    def pipelines(self) -> dict[int, Any]:
        found = PostgresPipelines(self.connection).pipelines(
            tenant_id=TENANT, page_size=MANY, before=None
        )
        return {one.id: one for one in found}

    @property
    def strays(self) -> dict[int, NotedStray]:
        columns = "run_id, reason, job_ids, created_at, next_look_at, looks, jobs_cancelled"
        rows = self._execute(f"SELECT {columns} FROM stray_checks")  # noqa: S608  # no input
        return {
            run_id: NotedStray(
                reason=reason,
                job_ids=tuple(job_ids),
                noted_at=noted_at,
                next_look_at=next_look_at,
                looks=looks,
                jobs_cancelled=cancelled,
            )
            for run_id, reason, job_ids, noted_at, next_look_at, looks, cancelled in rows
        }

    def seen(self, run: PipelineRun) -> PipelineRun:
        return run

    def _connect(self) -> Database:
        text = self.url.render_as_string(hide_password=False)
        return Database(lambda: text, application_name="model")

    def _execute(self, text: str, **parameters: Any) -> list[Any]:
        with self.owner.connect() as connection:
            result = connection.execute(sa.text(text), parameters)
            return [tuple(row) for row in result] if result.returns_rows else []


class RealCheckQueue:
    """A check queue by our adapter, with what the model does to a twin."""

    def __init__(self, sqs: MemorySqs, url: str, steps: Steps) -> None:
        self.sqs, self.url, self.steps = sqs, url, steps
        self._queue = SqsCheckQueue(lambda: sqs, url)

    @property
    def refuses(self) -> int:
        return self.sqs.refuses.get(self.url, 0)

    @refuses.setter
    def refuses(self, refuses: int) -> None:
        self.sqs.refuses[self.url] = 2 * refuses  # What is refused is sent once more.

    @property
    def waiting(self) -> _Waiting:
        return _Waiting(self.sqs, self.url)

    @property
    def next_due_at(self) -> float:
        return self.sqs.next_due_at(self.url)

    def send(self, messages: Sequence[Delayed]) -> int:
        self.steps.reach("before MemoryCheckQueue.send")
        unsent = self._queue.send(messages)
        self.steps.reach("after MemoryCheckQueue.send")
        return unsent

    def release(self, receipt_handles: Sequence[str]) -> None:
        self._queue.release(receipt_handles)


class _Waiting(list[Waiting]):
    """The messages of a queue; what is taken out here is gone from it."""

    def __init__(self, sqs: MemorySqs, url: str) -> None:
        self._sqs, self._url = sqs, url
        self._held = list(sqs.queue(url))
        super().__init__(
            Waiting(CheckMessage.from_json(one.body), one.visible_at) for one in self._held
        )

    def remove(self, waiting: Waiting, /) -> None:
        self._sqs.queue(self._url).remove(self._held[self.index(waiting)])

    def clear(self) -> None:
        self._sqs.queue(self._url).clear()


class RealTickQueue:
    """The tick queue by our adapter."""

    def __init__(self, sqs: MemorySqs, url: str) -> None:
        self.sqs, self.url = sqs, url
        self._queue = SqsTickQueue(lambda: sqs, url)

    @property
    def waiting(self) -> list[Any]:
        return self.sqs.queue(self.url)

    @property
    def next_due_at(self) -> float:
        return self.sqs.next_due_at(self.url)

    def send(self, message: TickMessage, *, delay_seconds: int) -> None:
        self._queue.send(message, delay_seconds=delay_seconds)


class RealWorld(World):
    """The World of the model on real Postgres."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        super().__init__()
        self._wiring = WorldWiring(self)
        self._runners = [
            MappingRunner(
                self.sqs,  # type: ignore[arg-type]  # as much of a client as it calls
                queue_url=queue_url,
                invoke=lambda event: check.handler(event, Invocation(seconds_left=SECONDS_LEFT)),
                reports_batch_item_failures=True,
            )
            for queue_url in (ENVIRONMENT["CHECK_QUEUE_URL"], ENVIRONMENT["RETRY_QUEUE_URL"])
        ]
        self._ticks = MappingRunner(
            self.sqs,  # type: ignore[arg-type]  # as much of a client as it calls
            queue_url=ENVIRONMENT["TICK_QUEUE_URL"],
            invoke=lambda event: tick.handler(event, Invocation(seconds_left=SECONDS_LEFT)),
            batch_size=1,
        )

    def close(self) -> None:
        self.tables.close()

    def _make_stores(self) -> None:
        self.tables = RealTables(self._url, self.time, self.steps)
        self.database: Any = self.tables
        connection = self.tables.connection
        ports: dict[str, Any] = {
            "runs": TimelyRuns(connection, self.time),
            "pipelines": PostgresPipelines(connection),
            "breakers": PostgresBreakers(connection),
            "strays": PostgresStrays(connection),
        }
        for name, port in ports.items():
            setattr(self, name, SteppedPort(f"Memory{name.capitalize()}", port, self.tables))

    def _make_queues(self) -> None:
        self.sqs = MemorySqs(self.time)
        made: dict[str, Any] = {
            name: RealCheckQueue(self.sqs, ENVIRONMENT[f"{name.upper()}_URL"], self.steps)
            for name in ("check_queue", "retry_queue")
        }
        made["tick_queue"] = RealTickQueue(self.sqs, ENVIRONMENT["TICK_QUEUE_URL"])
        for name, queue in made.items():
            setattr(self, name, queue)

    def run(self, run_id: int) -> PipelineRun:
        return self.tables.runs[run_id]

    # -- what happens, by the handlers ------------------------------------------------------------

    def begin_minute(self, minute: datetime | None = None) -> SweepReport:
        with using(self._wiring):
            event = {"time": (minute or self.time.now).isoformat()}
            tick.handler(event, Invocation(seconds_left=SECONDS_LEFT))
        return SweepReport()

    def sweep(self) -> list[SweepReport]:
        with using(self._wiring):
            while self._ticks.deliver():
                pass
        return []

    def deliver(self, *, within: timedelta = timedelta(minutes=1)) -> list[CheckReport]:
        del within
        with using(self._wiring):
            for runner in self._runners:
                while runner.deliver():
                    pass
        return []

    def relay(self) -> None:
        with using(self._wiring):
            relay.handler({}, Invocation(seconds_left=SECONDS_LEFT))

    def hunt(self) -> HuntReport:
        with using(self._wiring):
            hunt.handler({}, Invocation(seconds_left=SECONDS_LEFT))
        return HuntReport()

    def restart(self) -> None:
        self.tables.crash()


class _Refusals(logging.Handler):
    """Keeps what the database refused for what it holds."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__()
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "data_refused":
            self._kept.append(str(record.__dict__.get("error")))


assert ENVIRONMENT["WORKBENCH_API_URL"] == WORKBENCH_URL
