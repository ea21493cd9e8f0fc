"""Every alarm of the template goes off by the metric it watches, when that happens which it is for.

LocalStack looks at an alarm once in its period of a minute, so this takes some.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from infra.local.deployment import Cloud
from infra.local.layout import TEMPLATE
from infra.local.template import load_template
from local_stack import api_of, fresh_local_stack
from scripted_workbench import Answer, ScriptedWorkbench, always, late

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infra.local.stack_file import Stack

ALARM = "AWS::CloudWatch::Alarm"
WITHIN_SECONDS = 9 * 60
"""An alarm on missing data goes off once there was none for two minutes more than it says."""
NOWHERE = "http://127.0.0.1:1"
NO_DATABASE = "postgresql+pg8000://nobody:nothing@127.0.0.1:1/none"
PREFIXES = {"input_path_prefix": "i/", "output_path_prefix": "o/"}


class Alarms:
    """The alarms of a stack, by their names in the template."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.cloud = Cloud(stack.aws_endpoint_url, stack.aws_region)
        self._watch = self.cloud.client("cloudwatch")
        found = self._watch.describe_alarms()["MetricAlarms"]
        resources = load_template(TEMPLATE)["Resources"]
        self._names = {
            logical: next(one["AlarmName"] for one in found if f"-{logical}-" in one["AlarmName"])
            for logical, resource in resources.items()
            if resource["Type"] == ALARM
        }

    @property
    def all(self) -> set[str]:
        return set(self._names)

    def firing(self) -> set[str]:
        states = {
            one["AlarmName"]: one["StateValue"]
            for one in self._watch.describe_alarms()["MetricAlarms"]
        }
        return {logical for logical, name in self._names.items() if states[name] == "ALARM"}

    def wait_for(self, *logical: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Until they all have gone off.

        Args:
            logical: their names in the template.
            meanwhile: what is done again and again.
        """
        seen: set[str] = set()
        end = time.monotonic() + WITHIN_SECONDS
        while not seen >= set(logical):
            assert time.monotonic() < end, f"{set(logical) - seen} did not go off"
            meanwhile()
            time.sleep(2)
            seen |= self.firing()

    def wait_for_quiet(self) -> None:
        end = time.monotonic() + WITHIN_SECONDS
        while self.firing():
            assert time.monotonic() < end, f"{self.firing()} goes on"
            time.sleep(2)


@pytest.fixture(scope="module")
def workbench() -> Iterator[ScriptedWorkbench]:
    """Its jobs never end by themselves."""
    with ScriptedWorkbench(life=["RUNNING"]) as workbench:
        yield workbench


@pytest.fixture(scope="module")
def alarms(workbench: ScriptedWorkbench) -> Iterator[Alarms]:
    with fresh_local_stack("alarms") as local:
        yield Alarms(local.up(WORKBENCH_API_URL=workbench.url))


@pytest.mark.prove
def test_every_alarm_goes_off_when_that_happens_which_it_is_for(
    alarms: Alarms, workbench: ScriptedWorkbench
) -> None:
    stack, cloud = alarms.stack, alarms.cloud
    sqs, lambdas, events = (cloud.client(name) for name in ("sqs", "lambda", "events"))
    with api_of(stack) as api:
        wanted = {"name": "p", "mode": "BATCH", "workflow_name": "batch_pipeline_workflow"}
        body = {"pipeline_id": api.post("/pipeline", json=wanted).json()["id"], **PREFIXES}
        for _ in range(5):
            assert api.post("/pipeline-run", json=body).status_code == 201
        alarms.wait_for_quiet()
        told: set[str] = set()

        sqs.send_message(QueueUrl=stack.check_queue_url, MessageBody="not a check")
        told |= {"CheckDlqNotEmpty"}

        [taken] = workbench.jobs_of(1)
        workbench.script(submit=[Answer(200, {"workbench_job_id": taken.id, "status": "QUEUED"})])
        assert api.post("/pipeline-run", json=body).status_code == 500
        told |= {"JobsTwice"}

        set_api_seconds(lambdas, stack, 1)
        workbench.script(submit=[late(6)])
        assert api.post("/pipeline-run", json=body).status_code >= 500
        set_api_seconds(lambdas, stack, 29)
        told |= {"ApiFunctionFails"}

        told |= {"ApiFails"}
        url = set_variable(lambdas, stack.api_function_name, "DATABASE_URL", NO_DATABASE)

        def fail() -> None:
            assert api.get("/pipeline-run/1").status_code == 503

        alarms.wait_for(*told, meanwhile=fail)
        set_variable(lambdas, stack.api_function_name, "DATABASE_URL", url)

        for function in (stack.api_function_name, stack.relay_function_name):
            set_variable(lambdas, function, "AWS_ENDPOINT_URL_EVENTBRIDGE", NOWHERE)
        assert api.post("/pipeline-run", json=body).status_code == 201
        workbench.script(
            status=[always(Answer(status=500))], bulk_status=[always(Answer(status=500))]
        )
        alarms.wait_for("EventsUnpublished", "BreakerOpen")

        [rule] = [
            one["Name"]
            for one in events.list_rules()["Rules"]
            if targets_of(events, one["Name"]) & {stack.tick_function_name}
        ]
        targets = events.list_targets_by_rule(Rule=rule)["Targets"]
        events.remove_targets(Rule=rule, Ids=[target["Id"] for target in targets])
        alarms.wait_for("NoTick", "StatusesStale")
    assert told | {"EventsUnpublished", "BreakerOpen", "NoTick", "StatusesStale"} == alarms.all


def set_variable(lambdas: Any, function: str, name: str, value: str) -> str:
    """Sets a variable of a function's environment; returns what it was."""
    there = lambdas.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    variables = {**there, name: value}
    lambdas.update_function_configuration(
        FunctionName=function, Environment={"Variables": variables}
    )
    lambdas.get_waiter("function_updated_v2").wait(FunctionName=function)
    return str(there.get(name, ""))


def set_api_seconds(lambdas: Any, stack: Stack, seconds: int) -> None:
    """Changes what the API's function may take."""
    name = stack.api_function_name
    lambdas.update_function_configuration(FunctionName=name, Timeout=seconds)
    lambdas.get_waiter("function_updated_v2").wait(FunctionName=name)


def targets_of(events: Any, rule: str) -> set[str]:
    """The functions that a rule starts."""
    targets = events.list_targets_by_rule(Rule=rule)["Targets"]
    return {target["Arn"].rpartition(":")[2] for target in targets}
