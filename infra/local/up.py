"""`make up`: everything side by side, until the stack is healthy and deployed."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from infra.local.deployment import Cloud, Deployment, deploy, refuse_fallback, tick
from infra.local.exclusive import exclusive, patiently
from infra.local.issuer import issuer_of
from infra.local.layout import FUNCTIONS, TEMPLATE
from infra.local.parts.part import status_of
from infra.local.parts.storage import BUCKET
from infra.local.plan import REGION, make_plan
from infra.local.processes import LOOPBACK_HOSTS, end_families, forget, read_records
from infra.local.progress import make_progress
from infra.local.report import print_summary
from infra.local.stack_file import Stack, write_stack
from infra.local.steps import Failure, Halt, Step, run_steps
from infra.local.strays import end_strays
from infra.local.supervisor import STOP_SECONDS, bring_up, end_of
from infra.local.template import (
    api_url,
    custom_api_id,
    load_template,
    parameters_for,
    with_code_from,
)
from infra.local.trouble import PartFailed, StackTrouble

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType
    from typing import NoReturn

    from infra.local.layout import Layout
    from infra.local.parts.part import Part
    from infra.local.plan import Plan
    from infra.local.processes import ProcessRecord
    from infra.local.progress import Progress

HEALTH_SECONDS = 30
"""For the API's first answer: its function starts with it."""
INTERRUPTED = 130
POLL_INTERVAL_SECONDS = "30"
TOKEN_LIFETIME = timedelta(days=30)
"""Of the one in stack.json, which every `up` renews."""
LABELS = {"migrate": "postgres", "register": "conductor", "deploy": "deployment"}
"""Which line of the display a step writes to."""
LOGS = {"migrate": "postgres", "register": "conductor", "workbench": "workbench"}
"""Whose log tells more about a step; LocalStack's about all others."""


def up(layout: Layout, environment: Mapping[str, str], *, since: float) -> int:
    """Brings the stack up, or mends it; harmless when it is up.

    Args:
        layout: Where its state lies.
        environment: The user's: ports, parts from outside, template parameters.
        since: When the command began, by time.monotonic().

    Returns:
        The exit code. After an interrupt, all that this call has started is ended.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    _shield_clients()
    try:
        with exclusive(layout.lock_file, purpose="make up", on_wait=_wait, pause=patiently):
            return _up_alone(_Rising(layout, environment, since))
    except StackTrouble as trouble:
        print(f"\nerror: {trouble}", file=sys.stderr, flush=True)
        print("What runs goes on. `make up` tries again, `make down` stops it.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _up_alone(rising: _Rising) -> int:
    """With the lock held: else undoing could end what another `up` is about to start."""
    try:
        rising.run()
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        print("\nInterrupted: stopping what was started …", file=sys.stderr, flush=True)
        rising.undo()
        return INTERRUPTED
    return 0


@dataclass
class _Rising:
    """One `up` and what it has done so far."""

    layout: Layout
    environment: Mapping[str, str]
    since: float
    halt: Halt = field(default_factory=Halt)
    started: list[ProcessRecord] = field(default_factory=list)
    deployment: Deployment | None = None

    def run(self) -> None:
        """Everything.

        Raises:
            StackTrouble: the text says what is wrong.
        """
        end_strays(self.layout)
        plan = make_plan(self.layout, self.environment)
        for name in plan.external.urls:
            plan.external.refuse_unreachable(name)
        self._end_replaced(plan)
        with make_progress(since=self.since) as progress:
            failures = run_steps(self._steps(plan, progress), self.halt)
            for failure in failures:
                progress.failed(LABELS.get(failure.step, failure.step), "failed")
        if failures or self.deployment is None:
            self.layout.stack_file.unlink(missing_ok=True)
            raise self._as_trouble(failures[0])
        write_stack(self.layout, self._stack(plan, self.deployment))
        print_summary(self.layout)

    def undo(self) -> None:
        """Ends what this `up` has started, written down or not."""
        self.halt.order()
        if self.started:
            self.layout.stack_file.unlink(missing_ok=True)
        self._end(self.started)
        end_strays(self.layout)

    def _as_trouble(self, failure: Failure) -> StackTrouble:
        if isinstance(failure.error, StackTrouble):
            return failure.error
        log = self.layout.log(LOGS.get(failure.step, "localstack"))
        what = f"{type(failure.error).__name__}: {failure.error}"
        return PartFailed(failure.step, what, log, end_of(log))

    def _end_replaced(self, plan: Plan) -> None:
        """Parts of ours in whose place others are given now."""
        self._end([r for r in read_records(self.layout) if r.part in plan.external.urls])

    def _end(self, records: list[ProcessRecord]) -> None:
        roots = [(process, r.stop_signal) for r in records if (process := r.process)]
        end_families(roots, grace_seconds=STOP_SECONDS)
        for record in records:
            forget(self.layout, record.part)

    def _steps(self, plan: Plan, progress: Progress) -> list[Step]:
        """Each begins as soon as what it needs is there."""
        own = [Step(p.name, partial(self._bring_up, p, progress)) for p in plan.own]
        given = [
            Step(name, partial(progress.done, name, "given from outside"))
            for name in plan.external.urls
        ]
        return [
            *own,
            *given,
            Step("migrate", partial(self._migrate, plan, progress), after=("postgres",)),
            Step("register", partial(self._register, plan, progress), after=("conductor",)),
            Step("deploy", partial(self._deploy, plan, progress), after=("localstack",)),
            Step("api", partial(self._wait_for_api, plan, progress), after=("deploy", "migrate")),
            Step(
                "tick",
                partial(self._tick, plan, progress),
                after=("deploy", "migrate", "register", "workbench"),
            ),
        ]

    def _bring_up(self, part: Part, progress: Progress) -> None:
        def say(what: str) -> None:
            self.halt.check()
            progress.doing(part.name, what)

        _, new = bring_up(part, self.layout, self.halt, say, on_start=self.started.append)
        progress.done(part.name, "ready" if new else "was ready")

    def _migrate(self, plan: Plan, progress: Progress) -> None:
        from infra.local.logins import hand_over, make_logins  # noqa: PLC0415 - the same
        from infra.migrate import migrate  # noqa: PLC0415 - takes 400 ms to load

        progress.doing("postgres", "migrating")
        if plan.postgres:
            hand_over(plan.postgres.superuser_url, plan.postgres.url)
        try:
            migrate(plan.database_url)
        except PermissionError as error:
            raise StackTrouble(str(error)) from error
        make_logins(plan.database_url, (plan.api_login, plan.poller_login))
        progress.done("postgres", "ready, migrated")

    def _register(self, plan: Plan, progress: Progress) -> None:
        from infra.register import register  # noqa: PLC0415 - belongs to the step

        progress.doing("conductor", "registering workflows")
        token = self.environment.get("CONDUCTOR_TOKEN", "")
        count = len(register(plan.conductor_url, token=token))
        progress.done("conductor", f"ready, {count} workflows registered")

    def _deploy(self, plan: Plan, progress: Progress) -> None:
        template = load_template(TEMPLATE)
        issuer = issuer_of(self.layout)
        ours = {
            "Stage": "local",
            "Tracing": "false",
            "ApiDatabaseUrl": plan.api_login.url(plan.database_url),
            "PollerDatabaseUrl": plan.poller_login.url(plan.database_url),
            "ConductorUrl": plan.conductor_url,
            "WorkbenchApiUrl": plan.workbench_url,
            "StorageBucket": plan.storage.bucket,
            "StorageEndpointUrl": plan.storage.endpoint_url,
            "StorageAccessKeyId": plan.storage.access_key_id,
            "StorageSecretAccessKey": plan.storage.secret_access_key,
            "OidcIssuer": issuer.issuer,
            "OidcAudience": issuer.audience,
            "OidcJwksUrl": issuer.jwks_url,
            "ApiBaseUrl": api_url(plan.localstack.url, custom_api_id(template)),
        }
        progress.doing("deployment", "deploying")
        self.deployment = deploy(
            Cloud(plan.localstack.url, REGION),
            with_code_from(template, FUNCTIONS),
            parameters_for(template, ours, self.environment),
            halt=self.halt,
            say=partial(progress.doing, "deployment"),
        )
        refuse_fallback(self.layout.log("localstack"))
        progress.done("deployment", "deployed" if self.deployment.changed else "unchanged")

    def _wait_for_api(self, plan: Plan, progress: Progress) -> None:
        url = self._api_url(plan)
        progress.doing("api", "asking GET /health")
        status = status_of(f"{url}/health", seconds=HEALTH_SECONDS)
        if status != 200:
            log = self.layout.log("localstack")
            why = f"answers {status or 'nothing'} to GET {url}/health"
            raise PartFailed("api", why, log, end_of(log))
        progress.done("api", "healthy")

    def _tick(self, plan: Plan, progress: Progress) -> None:
        """After a deployment only: else the rule ticks already."""
        if self.deployment and self.deployment.changed:
            progress.doing("tick", "asking for the first")
            tick(Cloud(plan.localstack.url, REGION), self.deployment.outputs["TickFunctionName"])
            progress.done("tick", "the poller goes")

    def _api_url(self, plan: Plan) -> str:
        api = self.deployment.outputs["ApiId"] if self.deployment else ""
        return api_url(plan.localstack.url, api)

    def _stack(self, plan: Plan, deployment: Deployment) -> Stack:
        outputs = deployment.outputs
        interval = self.environment.get("POLL_INTERVAL_SECONDS") or POLL_INTERVAL_SECONDS
        return Stack(
            api_url=self._api_url(plan),
            api_token=issuer_of(self.layout).token(lifetime=TOKEN_LIFETIME),
            dashboard_url=f"{self._api_url(plan)}/dashboard",
            database_url=plan.database_url,
            conductor_url=plan.conductor_url,
            workbench_url=plan.workbench_url,
            storage_endpoint_url=plan.storage.endpoint_url,
            storage_bucket=plan.storage.bucket,
            storage_path=str(self.layout.storage / BUCKET) if plan.storage_server else None,
            storage_access_key_id=plan.storage.access_key_id,
            storage_secret_access_key=plan.storage.secret_access_key,
            workbench_journal_path=str(plan.workbench.journal) if plan.workbench else None,
            aws_endpoint_url=plan.localstack.url,
            aws_region=REGION,
            check_queue_url=outputs["CheckQueueUrl"],
            retry_queue_url=outputs["RetryQueueUrl"],
            check_dlq_url=outputs["CheckDlqUrl"],
            tick_queue_url=outputs["TickQueueUrl"],
            event_bus_name=outputs["EventBusName"],
            api_function_name=outputs["ApiFunctionName"],
            tick_function_name=outputs["TickFunctionName"],
            check_function_name=outputs["CheckFunctionName"],
            relay_function_name=outputs["RelayFunctionName"],
            hunt_function_name=outputs["HuntFunctionName"],
            survey_function_name=outputs["SurveyFunctionName"],
            purge_function_name=outputs["PurgeFunctionName"],
            poll_interval_seconds=int(interval),
            external_parts=tuple(plan.external.urls),
            up_seconds=round(time.monotonic() - self.since, 1),
        )


def _shield_clients() -> None:
    """Our own HTTP and AWS clients: no proxy to the loopback address, no setting of the user's."""
    for name in [n for n in os.environ if n.startswith("AWS_") and n != "AWS_CA_BUNDLE"]:
        del os.environ[name]
    os.environ.update(
        NO_PROXY=LOOPBACK_HOSTS,
        no_proxy=LOOPBACK_HOSTS,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    )


def _wait(holder: str) -> None:
    print(f"Waiting for {holder} …", file=sys.stderr, flush=True)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
