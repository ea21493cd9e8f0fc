"""The composition root: builds each part on first use, and keeps it for the environment.

Whatever is heavy is imported where it is built, so that a function loads only what it uses.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from runs.prefixes import StorageRules
from runs.settings import (
    ApiSettings,
    CheckSettings,
    ConductorTokenSettings,
    DatabaseSettings,
    HuntSettings,
    PurgeSettings,
    RelaySettings,
    Settings,
    SubmissionSettings,
    SurveySettings,
    TickSettings,
    TokenSettings,
    WorkbenchTokenSettings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from aws_lambda_powertools import Tracer

    from runs.adapters.secrets import Secret
    from runs.cancelling import Cancelling
    from runs.checking import Checking
    from runs.hunting import Hunting
    from runs.ports import (
        Breakers,
        CheckQueue,
        Conductor,
        EventBus,
        Meter,
        Overviews,
        Pipelines,
        Retention,
        Runs,
        Storage,
        Strays,
        TickQueue,
        Tokens,
        Waiters,
        Workbench,
    )
    from runs.publishing import Publishing
    from runs.purging import Purging
    from runs.results import Results
    from runs.submission import Submission
    from runs.surveying import Surveying
    from runs.sweeping import Sweeping
    from runs.watching import Watching

P = TypeVar("P")
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
        self._clients: dict[tuple[object, ...], Any] = {}

    # -- use cases --------------------------------------------------------------------------------

    @cached_property
    def submission(self) -> Submission:
        """For the API: submits."""
        settings = self.api_settings
        made = self._submission(settings, settings.check_queue_url, settings.event_bus_name)
        return replace(
            made,
            rules=self.storage_rules,
            most_active=settings.max_active_runs_per_tenant or None,
        )

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
    def watching(self) -> Watching:
        """For the API."""
        from runs.watching import Watching

        return Watching(runs=self.runs, waiters=self.waiters, pause=self.pause, clock=self.clock)

    @cached_property
    def results(self) -> Results:
        """For the API."""
        from runs.results import Results

        return Results(runs=self.runs, storage=self.storage, rules=self.storage_rules)

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
            meter=self.meter,
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
            meter=self.meter,
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
        return Hunting(strays=self.strays, workbench=workbench, meter=self.meter, clock=self.clock)

    @cached_property
    def surveying(self) -> Surveying:
        """For the survey."""
        from runs.surveying import Surveying

        settings = SurveySettings.from_environment(self._environment)
        return Surveying(
            overviews=self.overviews,
            meter=self.meter,
            workbench_api_url=settings.workbench_api_url,
        )

    @cached_property
    def purging(self) -> Purging:
        """For the purge."""
        from runs.purging import Purging

        settings = PurgeSettings.from_environment(self._environment)
        return Purging(
            retention=self.retention,
            meter=self.meter,
            clock=self.clock,
            kept_for=timedelta(days=settings.retention_days) if settings.retention_days else None,
        )

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
    def overviews(self) -> Overviews:
        """The runs as a whole, of the database that the environment names."""
        from runs.adapters.postgres import PostgresOverviews

        return PostgresOverviews(self._database)

    @cached_property
    def retention(self) -> Retention:
        """The ended runs of the database that the environment names."""
        from runs.adapters.postgres import PostgresRetention

        return PostgresRetention(self._database)

    @cached_property
    def waiters(self) -> Waiters:
        """The places for callers that wait, in the database that the environment names."""
        from runs.adapters.postgres import PostgresWaiters

        return PostgresWaiters(self._database)

    @cached_property
    def pipelines(self) -> Pipelines:
        """The pipelines of the database that the environment names."""
        from runs.adapters.postgres import PostgresPipelines

        return PostgresPipelines(self._database)

    @cached_property
    def tokens(self) -> Tokens:
        """The tokens of the issuer that the environment names."""
        from runs.adapters.tokens import OidcTokens

        settings = TokenSettings.from_environment(self._environment)
        return OidcTokens(
            issuer=settings.oidc_issuer,
            audience=settings.oidc_audience,
            jwks_url=settings.oidc_jwks_url,
            tenant_claim=settings.oidc_tenant_claim,
            clock=self.clock,
            wall_clock=time.time,
        )

    def acting_for(self, tenant_id: str) -> AbstractContextManager[None]:
        """Meanwhile the database shows nothing but what is this tenant's."""
        fence: AbstractContextManager[None] = self._database.acting_for(tenant_id)
        return fence

    @cached_property
    def storage_rules(self) -> StorageRules:
        """Which places callers may name."""
        settings = self.api_settings
        return StorageRules.from_settings(
            bucket=settings.storage_bucket,
            allowed_buckets=settings.allowed_buckets,
            tenant_prefix=settings.tenant_prefix,
        )

    @cached_property
    def storage(self) -> Storage:
        """The user's storage that the environment names."""
        from runs.adapters.storage import S3Storage

        return S3Storage(self._storage_client, renew=self._storage_has_other_keys)

    def conductor(self, url: str) -> Conductor:
        """Conductor at this address."""
        from runs.adapters.conductor import HttpConductor

        settings = ConductorTokenSettings.from_environment(self._environment)
        token = self._token(settings.conductor_token, settings.conductor_token_secret_arn)
        return self._followed("Conductor", HttpConductor(url, token=token))

    def workbench(self, url: str) -> Workbench:
        """The Workbench at this address."""
        from runs.adapters.workbench import HttpWorkbench

        settings = WorkbenchTokenSettings.from_environment(self._environment)
        token = self._token(settings.workbench_token, settings.workbench_token_secret_arn)
        return self._followed("Workbench", HttpWorkbench(url, token=token))

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

    @cached_property
    def tracer(self) -> Tracer | None:
        """X-Ray's, by Powertools; None: nothing is traced."""
        if not Settings.from_environment(self._environment).tracing:
            return None
        from aws_lambda_powertools import Tracer

        return Tracer(service="pipeline-runs", auto_patch=False)

    def _followed(self, name: str, part: P) -> P:
        """The part; where calls are traced, with each of its own in the trace."""
        if self.tracer is None:
            return part
        from runs.adapters.traces import Followed

        return cast("P", Followed(part, name, self.tracer))

    @cached_property
    def meter(self) -> Meter:
        """Where this installation's figures go."""
        from runs.adapters.emf import EmfMeter

        return EmfMeter(Settings.from_environment(self._environment).stage)

    def aws(self, service: str) -> Any:
        """AWS's client of this name: short time-outs, for the next sweep is the retry."""
        return self._client(service, self.aws_endpoint())

    def _client(
        self,
        service: str,
        place: Mapping[str, str | None],
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> Any:
        name = (service, *place.values())
        if name not in self._clients:
            if self.tracer:
                self.tracer.patch(modules=("botocore",))
            import boto3  # 332 ms
            from botocore.config import Config

            config = Config(
                connect_timeout=2,
                read_timeout=4,
                retries={"mode": "standard", "total_max_attempts": 2},
                max_pool_connections=10,
                **options,
            )
            make: Any = boto3.client  # noqa: TID251  # the one place
            self._clients[name] = make(service, config=config, **place)
        return self._clients[name]

    def _storage_client(self) -> Any:
        """S3's client at the user's storage, which may be elsewhere than the other services.

        On AWS a bucket is part of the host: else links lead to no bucket's region.
        """
        settings = self.api_settings
        elsewhere = settings.storage_endpoint_url
        key_id, key = settings.storage_access_key_id, settings.storage_secret_access_key
        if settings.storage_secret_arn:
            from runs.adapters.secrets import storage_keys

            key_id, key = storage_keys(self._storage_secret.text())
        place = {
            "endpoint_url": elsewhere or None,
            "aws_access_key_id": key_id or None,
            "aws_secret_access_key": key or None,
        }
        style = {"addressing_style": "path" if elsewhere else "virtual"}
        return self._client("s3", place, {"signature_version": "s3v4", "s3": style})

    def _storage_has_other_keys(self) -> bool:
        """Whether the storage's secret holds others by now than those which were just refused."""
        if not self.api_settings.storage_secret_arn:
            return False
        secret = self._storage_secret
        return secret.renew(secret.known or "")

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
            meter=self.meter,
            pause=self.pause,
            clock=self.clock,
            workbench_api_url=settings.workbench_api_url,
            workbench_honours_keys=settings.workbench_honours_keys,
            submit_wait=timedelta(seconds=settings.submit_wait_seconds),
            submit_deadline=timedelta(seconds=settings.submit_deadline_seconds),
        )

    def _publishing(self, bus_name: str) -> Publishing:
        from runs.publishing import Publishing

        return Publishing(self.runs, self.event_bus(bus_name), self.meter)

    def _token(self, text: str, arn: str) -> Secret | None:
        """What lets us in; None: everybody may."""
        from runs.adapters.secrets import token_of

        return self._secret(text, arn, token_of) if text or arn else None

    def _secret(self, text: str, arn: str, understood: Callable[[str], str]) -> Secret:
        """As it stands in the settings, or else where they say that it is kept."""
        from runs.adapters.secrets import Secret, secret_text

        return Secret(
            lambda: understood(text or secret_text(self.aws, arn)),
            clock=self.clock,
            wall_clock=time.time,
        )

    @cached_property
    def _storage_secret(self) -> Secret:
        return self._secret("", self.api_settings.storage_secret_arn, str)

    @cached_property
    def _database(self) -> Any:
        from runs.adapters.postgres import Database
        from runs.adapters.secrets import database_url

        settings = DatabaseSettings.from_environment(self._environment)
        url = self._secret(settings.database_url, settings.database_secret_arn, database_url)
        return Database(url.text, renew=url.renew, application_name="pipeline-runs")


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
