"""The composition root: builds each part on first use, and keeps it for the environment.

Whatever is heavy is imported where it is built, so that a function loads only what it uses.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from runs.settings import (
    ApiSettings,
    CheckSettings,
    HuntSettings,
    RelaySettings,
    Settings,
    SubmissionSettings,
    TickSettings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runs.cancelling import Cancelling
    from runs.checking import Checking
    from runs.hunting import Hunting
    from runs.ports import (
        Breakers,
        CheckQueue,
        Conductor,
        EventBus,
        Pipelines,
        Runs,
        Strays,
        TickQueue,
        Workbench,
    )
    from runs.publishing import Publishing
    from runs.submission import Submission
    from runs.sweeping import Sweeping

T = TypeVar("T")
R = TypeVar("R")

RESOLVED_SIDE_BY_SIDE: Final = 8


class Wiring:
    """One environment's settings, foreign systems and use cases.

    A subclass may put other foreign systems in their place; the use cases are built of them alike.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Reads and builds nothing yet.

        Args:
            environment: the variables that the settings are read from; None: the process's own.
        """
        self._environment = environment
        self._clients: dict[str, Any] = {}

    # -- use cases --------------------------------------------------------------------------------

    @cached_property
    def submission(self) -> Submission:
        """For the API: submits."""
        settings = self.api_settings
        return self._submission(settings, settings.check_queue_url, settings.event_bus_name)

    @cached_property
    def cancelling(self) -> Cancelling:
        """For the API."""
        from runs.cancelling import Cancelling

        settings = self.api_settings
        return Cancelling(
            runs=self.runs,
            check_queue=self.check_queue(settings.check_queue_url),
            publish=self._publishing(settings.event_bus_name).publish,
        )

    @cached_property
    def sweeping(self) -> Sweeping:
        """For the tick."""
        from runs.sweeping import Sweeping

        settings = TickSettings.from_environment(self._environment)
        return Sweeping(
            runs=self.runs,
            breakers=self.breakers,
            workbench_api_url=settings.workbench_api_url,
            check_queue=self.check_queue(settings.check_queue_url),
            retry_queue=self.check_queue(settings.retry_queue_url),
            tick_queue=self.tick_queue(settings.tick_queue_url),
            clock=self.clock,
            poll_interval=settings.poll_interval,
        )

    @cached_property
    def checking(self) -> Checking:
        """For the check: asks, and resolves."""
        from runs.checking import Checking

        settings = self._check_settings
        submission = self._submission(settings, settings.check_queue_url, settings.event_bus_name)
        return Checking(
            runs=self.runs,
            breakers=self.breakers,
            workbench=submission.workbench,
            workbench_api_url=settings.workbench_api_url,
            retry_queue=self.check_queue(settings.retry_queue_url),
            resolve=submission.resolve,
            publish=submission.publish,
            side_by_side=self.side_by_side,
            clock=self.clock,
            poll_interval=settings.poll_interval,
            max_attempts=settings.max_check_attempts,
            retry_delay=timedelta(seconds=settings.retry_delay_seconds),
            submit_deadline=timedelta(seconds=settings.submit_deadline_seconds),
        )

    @cached_property
    def publishing(self) -> Publishing:
        """For the relay."""
        return self._publishing(RelaySettings.from_environment(self._environment).event_bus_name)

    @cached_property
    def hunting(self) -> Hunting:
        """For the hunt."""
        from runs.hunting import Hunting

        settings = HuntSettings.from_environment(self._environment)
        workbench = self.workbench(settings.workbench_api_url)
        return Hunting(strays=self.strays, workbench=workbench, clock=self.clock)

    def queue_of(self, event_source_arn: str) -> CheckQueue:
        """The one of the two check queues that a message came from."""
        settings = self._check_settings
        urls = (settings.check_queue_url, settings.retry_queue_url)
        name = event_source_arn.rpartition(":")[2]
        return self.check_queue(next(url for url in urls if url.rpartition("/")[2] == name))

    # -- settings ---------------------------------------------------------------------------------

    @cached_property
    def api_settings(self) -> ApiSettings:
        """For `api.app`."""
        return ApiSettings.from_environment(self._environment)

    @cached_property
    def _check_settings(self) -> CheckSettings:
        return CheckSettings.from_environment(self._environment)

    # -- foreign systems --------------------------------------------------------------------------

    @cached_property
    def runs(self) -> Runs:
        """The runs of the database that the environment names."""
        from runs.adapters.postgres import PostgresRuns

        return PostgresRuns(self._database)

    @cached_property
    def breakers(self) -> Breakers:
        """The breakers of the database that the environment names."""
        from runs.adapters.postgres import PostgresBreakers

        return PostgresBreakers(self._database)

    @cached_property
    def strays(self) -> Strays:
        """The stray checks of the database that the environment names."""
        from runs.adapters.postgres import PostgresStrays

        return PostgresStrays(self._database)

    @cached_property
    def pipelines(self) -> Pipelines:
        """The pipelines of the database that the environment names."""
        from runs.adapters.postgres import PostgresPipelines

        return PostgresPipelines(self._database)

    def conductor(self, url: str) -> Conductor:
        """Conductor at this address."""
        from runs.adapters.conductor import HttpConductor

        return HttpConductor(url)

    def workbench(self, url: str) -> Workbench:
        """The Workbench at this address."""
        from runs.adapters.workbench import HttpWorkbench

        return HttpWorkbench(url)

    def check_queue(self, url: str) -> CheckQueue:
        """The check or the retry queue."""
        from runs.adapters.sqs import SqsCheckQueue

        return SqsCheckQueue(partial(self.aws, "sqs"), url)

    def tick_queue(self, url: str) -> TickQueue:
        """The tick queue."""
        from runs.adapters.sqs import SqsTickQueue

        return SqsTickQueue(partial(self.aws, "sqs"), url)

    def event_bus(self, name: str) -> EventBus:
        """The bus of this name."""
        from runs.adapters.eventbridge import EventBridgeBus

        return EventBridgeBus(partial(self.aws, "events"), name)

    def aws(self, service: str) -> Any:
        """AWS's client of this name: short time-outs, for the next sweep is the retry."""
        if service not in self._clients:
            import boto3  # 332 ms
            from botocore.config import Config

            config = Config(
                connect_timeout=2,
                read_timeout=4,
                retries={"mode": "standard", "total_max_attempts": 2},
                max_pool_connections=10,
            )
            make: Any = boto3.client  # noqa: TID251  # the one place
            self._clients[service] = make(service, config=config, **self.aws_endpoint())
        return self._clients[service]

    def aws_endpoint(self) -> dict[str, str]:
        """Where AWS is, if boto3 isn't to find out by itself."""
        return {}

    def pause(self, seconds: float) -> None:
        """`ports.Pause`: all waiting goes through it."""
        time.sleep(seconds)  # noqa: TID251  # the one place

    def clock(self) -> float:
        """`ports.Clock`."""
        return time.monotonic()

    def side_by_side(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`ports.SideBySide`, in threads: what is called waits on the network."""
        if len(items) <= 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(min(RESOLVED_SIDE_BY_SIDE, len(items))) as pool:
            return list(pool.map(function, items))

    # -- how they go together ---------------------------------------------------------------------

    def _submission(
        self, settings: SubmissionSettings, check_queue_url: str, bus_name: str
    ) -> Submission:
        from runs.submission import Submission

        return Submission(
            runs=self.runs,
            conductor=self.conductor(settings.conductor_url),
            workbench=self.workbench(settings.workbench_api_url),
            check_queue=self.check_queue(check_queue_url),
            publish=self._publishing(bus_name).publish,
            pause=self.pause,
            clock=self.clock,
            workbench_api_url=settings.workbench_api_url,
            workbench_honours_keys=settings.workbench_honours_keys,
            submit_wait=timedelta(seconds=settings.submit_wait_seconds),
            submit_deadline=timedelta(seconds=settings.submit_deadline_seconds),
        )

    def _publishing(self, bus_name: str) -> Publishing:
        from runs.publishing import Publishing

        return Publishing(self.runs, self.event_bus(bus_name))

    def _secret_url(self, arn: str) -> str:
        from runs.adapters.secrets import database_url

        return database_url(self.aws("secretsmanager"), arn)

    @cached_property
    def _database(self) -> Any:
        from runs.adapters.postgres import Database

        settings = Settings.from_environment(self._environment)
        url = partial(self._secret_url, settings.database_secret_arn)
        return Database(
            (lambda: settings.database_url) if settings.database_url else url,
            application_name="pipeline-runs",
        )


_wirings: Final = [Wiring()]


def wired() -> Wiring:
    """What the handlers of this environment work with."""
    return _wirings[-1]


@contextmanager
def using(other: Wiring) -> Iterator[None]:
    """Has the handlers work with another wiring for a while: a test's, with fakes."""
    _wirings.append(other)
    try:
        yield
    finally:
        _wirings.pop()
