"""The service on real parts that can fail: Postgres, Conductor and SQS, and a scripted Workbench.

    run_id = bench.submitted()
    with bench.to_workbench.status(503, http("GET", "/batch/status/*")):
        bench.let_an_interval_pass()
    bench.workbench.become("COMPLETED", run=run_id)
    bench.let_an_interval_pass()
    assert bench.run(run_id).status is PipelineRunStatus.COMPLETED

Functions are called as Lambda calls them, in this process, over a fault proxy before each part; or,
to be killed, in processes of their own (`failpoints.run_function` with `bench.environment`). Time
goes on by moving the database's clock: nothing waits for an interval.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import boto3
import httpx
from botocore.config import Config

from api_client import ApiClient
from fault_proxy import aws
from infra.local.layout import TEMPLATE
from infra.local.template import load_template
from infra.verify.queues import StackQueues
from infra.verify.reading import gather
from infra.verify.report import verify
from mapping_runner import MappingRunner
from poller import check, hunt, relay, tick
from runs.adapters.conductor import HttpConductor
from runs.messages import CheckMessage
from runs.model import NewRun, transition
from runs.ports import Delayed
from runs.status import PipelineMode, PipelineRunStatus
from runs.submission import ROUTE, SUBMIT_LEASE, workflow_input
from runs.wiring import Wiring, using
from scripted_facts import ScriptedReader
from token_maker import issuer_of_tests
from wired import Invocation, SpokenTokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from api_client import Answer
    from fault_proxy import FaultProxy
    from infra.verify.report import Report
    from mapping_runner import Batch
    from runs.events import RunEvent
    from runs.model import PipelineRun, Transition
    from runs.ports import Conductor, Recorded, Workbench, WorkflowExecution
    from runs_stores import PostgresStore
    from scripted_workbench import ScriptedWorkbench

TENANT: Final = "default"
REGION: Final = "eu-central-1"
POLL_INTERVAL: Final = timedelta(seconds=30)
CHECK_SECONDS: Final = 30
NUMBERS: Final = count(1)
FLEET_PAGE: Final = 500
QUEUE_VARIABLES: Final = {"CheckQueue": "CHECK_QUEUE_URL", "RetryQueue": "RETRY_QUEUE_URL"}
CREDENTIALS: Final = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


@dataclass(frozen=True)
class Queues:
    """Queues as the template makes them, on an AWS of this machine, and a bus with a listener."""

    sqs: Any
    urls: Mapping[str, str]
    bus_name: str

    def close(self) -> None:
        """Lets go of its connections."""
        self.sqs.close()

    @classmethod
    def made(cls, aws_url: str) -> Queues:
        """New ones, which nobody else has."""
        sqs, events = _client("sqs", aws_url), _client("events", aws_url)
        number = next(NUMBERS)
        urls: dict[str, str] = {}
        for name, properties in _queues_of_template():
            attributes = {k: str(v) for k, v in properties.items() if not isinstance(v, dict)}
            if redrive := properties.get("RedrivePolicy"):
                dead_letters = {"deadLetterTargetArn": _arn(sqs, urls["CheckDlq"])}
                attributes["RedrivePolicy"] = json.dumps(redrive | dead_letters)
            made = sqs.create_queue(QueueName=f"{name}-{number}", Attributes=attributes)
            urls[name] = made["QueueUrl"]
        bus_name = f"events-{number}"
        urls["Listener"] = sqs.create_queue(QueueName=f"Listener-{number}")["QueueUrl"]
        events.create_event_bus(Name=bus_name)
        pattern = json.dumps({"source": ["pipeline-runs"]})
        events.put_rule(Name=f"all-{number}", EventBusName=bus_name, EventPattern=pattern)
        target = {"Id": "listener", "Arn": _arn(sqs, urls["Listener"])}
        events.put_targets(Rule=f"all-{number}", EventBusName=bus_name, Targets=[target])
        events.close()
        return cls(sqs, urls, bus_name)

    def arn(self, name: str) -> str:
        return _arn(self.sqs, self.urls[name])

    def texts(self, name: str) -> list[str]:
        """The bodies of the messages that can be received, which are gone then."""
        found: list[str] = []
        url = self.urls[name]
        while messages := self._received(url):
            for message in messages:
                found.append(message["Body"])
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def told(self) -> list[dict[str, Any]]:
        """What listeners of the bus got since the last call: the details of the events."""
        return [json.loads(text)["detail"] for text in self.texts("Listener")]

    def purge(self) -> None:
        """Loses all that waits."""
        for url in self.urls.values():
            self.sqs.purge_queue(QueueUrl=url)

    def _received(self, url: str) -> list[dict[str, Any]]:
        received = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        return list(received.get("Messages", ()))


class BenchWiring(Wiring):
    """Wiring to an AWS that the tests' own environment doesn't name; it can be let go."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.tokens = SpokenTokens()
        self._made = ExitStack()

    def close(self) -> None:
        """Closes all connections, as the end of an execution environment does."""
        self._made.close()
        self._database.close()

    def conductor(self, url: str) -> Conductor:
        made = super().conductor(url)
        self._made.callback(made.close)  # type: ignore[attr-defined]  # the real one has it
        return made

    def workbench(self, url: str) -> Workbench:
        made = super().workbench(url)
        self._made.callback(made.close)  # type: ignore[attr-defined]  # the real one has it
        return made

    def aws(self, service: str) -> Any:
        client = super().aws(service)
        self._made.callback(client.close)
        return client

    def aws_endpoint(self) -> dict[str, str]:
        environment = self._environment or {}
        endpoint = environment["AWS_ENDPOINT_URL"]
        return {"endpoint_url": endpoint, "region_name": REGION, **CREDENTIALS}


@dataclass
class Bench:
    """The parts, a proxy before each, and the functions that work with them."""

    store: PostgresStore
    queues: Queues
    workbench: ScriptedWorkbench
    to_database: FaultProxy
    to_conductor: FaultProxy
    to_workbench: FaultProxy
    to_aws: FaultProxy
    settings: dict[str, str] = field(default_factory=dict)
    """More variables for the functions."""
    waived: dict[int, str] = field(default_factory=dict)
    """Why a property can't hold in a test's story, by its number: it isn't judged at the end."""

    # -- functions --------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """The variables of all functions."""

        def queue(name: str) -> str:
            return self.to_aws.url + urlsplit(self.queues.urls[name]).path

        return {
            "STAGE": "test",
            "DATABASE_URL": self.to_database.url,
            "CONDUCTOR_URL": self.to_conductor.url,
            "WORKBENCH_API_URL": self.to_workbench.url,
            "CHECK_QUEUE_URL": queue("CheckQueue"),
            "RETRY_QUEUE_URL": queue("RetryQueue"),
            "TICK_QUEUE_URL": queue("TickQueue"),
            "EVENT_BUS_NAME": self.queues.bus_name,
            "STORAGE_BUCKET": "user-data",
            "ALLOWED_BUCKETS": "bucket,other",
            **issuer_of_tests(),
            "AWS_ENDPOINT_URL": self.to_aws.url,
            "AWS_DEFAULT_REGION": REGION,
            **self.settings,
        }

    @cached_property
    def wiring(self) -> BenchWiring:
        """One execution environment, which all calls in this process share."""
        return BenchWiring(self.environment)

    def close(self) -> None:
        """Ends that environment, if there is one; the next call makes another."""
        if "wiring" in self.__dict__:
            self.wiring.close()
            del self.wiring

    @contextmanager
    def functions(self, wiring: Wiring | None = None) -> Iterator[None]:
        """Handlers work with these parts meanwhile."""
        with using(wiring or self.wiring):
            yield

    # -- what callers do --------------------------------------------------------------------------

    def pipeline(self, mode: PipelineMode = PipelineMode.BATCH) -> int:
        """A new one."""
        made = self.store.pipelines.create_pipeline(
            tenant_id=TENANT,
            name=f"{mode} {next(NUMBERS)}",
            mode=mode,
            workflow_name=f"{mode.lower()}_pipeline_workflow",
            workflow_version=1,
        )
        return made.id

    def wish(self, *, mode: PipelineMode = PipelineMode.BATCH, **fields: Any) -> dict[str, Any]:
        """A request's body; of a pipeline of its own unless `fields` names one."""
        if "pipeline_id" not in fields:
            fields["pipeline_id"] = self.pipeline(mode)
        return {"input_path_prefix": "in/", "output_path_prefix": "out/"} | fields

    def post(
        self,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        mode: PipelineMode = PipelineMode.BATCH,
        **fields: Any,
    ) -> Answer:
        """POSTs a run."""
        named = {"Idempotency-Key": key} if key else {}
        api = ApiClient(headers=named | dict(headers or {}))
        body = self.wish(mode=mode, **fields)
        with self.functions():
            return api.post("/pipeline-run", body)

    def submitted(self, **fields: Any) -> int:
        """The id of a run that was POSTed and is SUBMITTED."""
        answer = self.post(**fields)
        assert answer.status == 201, answer.text
        return int(answer.json["id"])

    def fleet(self, count: int) -> list[int]:
        """Ids of runs that are SUBMITTED, made quickly: past Conductor, and past the bus."""
        pipeline_id = self.pipeline()
        recorded = [self._recorded(pipeline_id) for _ in range(count)]
        runs = [one.run for one in recorded]
        events = [event for one in recorded for event in one.events]
        changes: list[Transition | None] = []
        with httpx.Client(base_url=self.workbench.url) as workbench:
            for run in runs:
                told = workbench.post(
                    "/batch/submit",
                    json=workflow_input(run, self.workbench.url),
                    headers={"Idempotency-Key": run.correlation_id},
                )
                job_id = told.json()["workbench_job_id"]
                changes.append(
                    transition(run, PipelineRunStatus.SUBMITTED, workbench_job_id=job_id)
                )
        for at in range(0, count, FLEET_PAGE):
            page = [one for one in changes[at : at + FLEET_PAGE] if one]
            events += self.store.runs.move(page)
        self.store.runs.mark_published(events)
        return [run.id for run in runs]

    def _recorded(self, pipeline_id: int) -> Recorded:
        new = NewRun(
            tenant_id=TENANT,
            pipeline_id=pipeline_id,
            input_path_prefix="in/",
            output_path_prefix="out/",
            report_path_prefix=None,
            parameters=None,
            tags={},
        )
        key = f"fleet-{next(NUMBERS)}"
        return self.store.runs.record(new, route=ROUTE, key=key, fingerprint="", lease=SUBMIT_LEASE)

    def command(self, run_id: int, command: str, body: object | None = None) -> Answer:
        """POSTs a cancel or a retry."""
        with self.functions():
            return ApiClient().post(f"/pipeline-run/{run_id}/{command}", body or {})

    # -- what time does ---------------------------------------------------------------------------

    def sweep(self) -> None:
        """A tick that is in time."""
        with self.functions():
            tick.handler(tick_event(), Invocation(seconds_left=25))

    def deliver(self) -> Sequence[Batch]:
        """Has all messages handled that can be received from the check and the retry queue."""
        batches: list[Batch] = []
        with self.functions():
            for name in ("CheckQueue", "RetryQueue"):
                runner = self.runner(name)
                while handled := runner.deliver():
                    batches += handled
        return batches

    def sent(self, name: str) -> list[Delayed]:
        """All that the functions ever sent to the check or the retry queue, refused or not."""
        return [
            Delayed(CheckMessage.from_json(entry["MessageBody"]), entry["DelaySeconds"])
            for call in self.to_aws.calls_of(aws("SendMessageBatch"))
            if (told := json.loads(call.body))["QueueUrl"]
            == self.environment[QUEUE_VARIABLES[name]]
            for entry in told["Entries"]
        ]

    def check(self, *messages: CheckMessage, wiring: Wiring | None = None) -> None:
        """Has messages handled as one batch, without a queue."""
        arn = self.queues.arn("RetryQueue")
        records = [
            {"messageId": str(number), "body": message.to_json(), "eventSourceARN": arn}
            for number, message in enumerate(messages)
        ]
        with self.functions(wiring):
            check.handler({"Records": records}, Invocation(seconds_left=CHECK_SECONDS))

    def runner(
        self, name: str, invoke: Callable[[dict[str, Any]], Any] | None = None, **how: Any
    ) -> MappingRunner:
        """The mapping of the check or the retry queue, by default to the function in here."""

        def check_here(event: dict[str, Any]) -> Any:
            return check.handler(event, Invocation(seconds_left=CHECK_SECONDS))

        return MappingRunner(
            self.queues.sqs,
            queue_url=self.queues.urls[name],
            invoke=invoke or check_here,
            reports_batch_item_failures=True,
            **how,
        )

    def move_time(self, by: timedelta) -> None:
        """Moves the database's clock, and so everybody's."""
        self.store.move_time(by)

    def let_an_interval_pass(self) -> None:
        """The next sweep is due, made, and what it asks for done."""
        self.move_time(POLL_INTERVAL)
        self.sweep()
        self.deliver()

    def until(self, run_id: int, status: PipelineRunStatus, *, intervals: int = 20) -> PipelineRun:
        """Lets intervals pass until the run is there."""
        for _ in range(intervals):
            if self.run(run_id).status is status:
                break
            self.let_an_interval_pass()
        run = self.run(run_id)
        assert run.status is status, run
        return run

    def relay(self) -> None:
        """As the schedule does."""
        with self.functions():
            relay.handler({}, Invocation(seconds_left=55))

    def hunt(self) -> None:
        """As the schedule does."""
        with self.functions():
            hunt.handler({}, Invocation(seconds_left=55))

    # -- what came of it --------------------------------------------------------------------------

    def run(self, run_id: int) -> PipelineRun:
        """As it is in the database, past all proxies."""
        return self.store.runs.run(run_id, tenant_id=TENANT)

    def verified(self) -> Report:
        """What the invariant checker says of all there is."""
        queues = StackQueues(self.queues.sqs, dict(self.queues.urls), self.queues.urls["CheckDlq"])
        facts = gather(
            self.store.owner,
            poll_interval=POLL_INTERVAL,
            workbench=ScriptedReader(self.workbench),
            queues=queues,
        )
        return verify(facts, waived=self.waived)

    def run_ids(self) -> list[int]:
        return [row[0] for row in self.store.execute("SELECT id FROM pipeline_runs ORDER BY id")]

    def workflows(self, run_id: int) -> Sequence[WorkflowExecution]:
        """All of the run that Conductor knows, newest first; looked up through the proxy."""
        run = self.run(run_id)
        with closing(HttpConductor(self.to_conductor.url)) as conductor:
            return conductor.find(
                workflow_name=run.workflow_name,
                correlation_id=run.correlation_id,
                timeout=timedelta(seconds=5),
            )

    def events(self, run_id: int) -> Sequence[RunEvent]:
        return self.store.runs.history(run_id, tenant_id=TENANT)

    def history(self, run_id: int) -> list[PipelineRunStatus]:
        return [event.status for event in self.events(run_id)]


def tick_event(*, wave: int = 0, minute: datetime | None = None) -> dict[str, Any]:
    """A tick as the tick queue delivers it; now, if no minute is given."""
    at = (minute or datetime.now(UTC)).isoformat()
    body = {"v": 1, "minute": at, "wave": wave, "shards": [0, 255]}
    return {"Records": [{"messageId": "1", "body": json.dumps(body)}]}


def _queues_of_template() -> Iterator[tuple[str, dict[str, Any]]]:
    """Their properties, as `create_queue` takes them; the DLQ first."""
    resources = load_template(TEMPLATE)["Resources"]
    queues = {k: v["Properties"] for k, v in resources.items() if v["Type"] == "AWS::SQS::Queue"}
    for name in sorted(queues, key=lambda name: name != "CheckDlq"):
        yield name, {k: v for k, v in queues[name].items() if k != "SqsManagedSseEnabled"}


def _arn(sqs: Any, url: str) -> str:
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(attributes["Attributes"]["QueueArn"])


def _client(service: str, url: str) -> Any:
    once = Config(retries={"total_max_attempts": 1}, read_timeout=20)
    make: Any = boto3.session.Session().client
    return make(service, endpoint_url=url, region_name=REGION, config=once, **CREDENTIALS)
