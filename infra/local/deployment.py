"""Deploys the template to LocalStack with a CloudFormation change set, as AWS would be."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from infra.local.parts.localstack import ACCESS_KEY_ID, FALLBACK, SECRET_ACCESS_KEY
from infra.local.trouble import StackTrouble

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from infra.local.steps import Halt

STACK = "pipeline-runs"
LOOK_AGAIN_SECONDS = 0.1
DEPLOY_SECONDS = 180
CALL_SECONDS = 60
# Fixed, so that what a tick costs never hides in a client's waiting and trying again.
TICK_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What is deployed.

    Attributes:
        outputs: The template's outputs.
        changed: Whether this deployment changed anything.
    """

    outputs: Mapping[str, str]
    changed: bool


@dataclass(frozen=True)
class Cloud:
    """LocalStack at one endpoint, asked by sessions of localstack-client."""

    endpoint_url: str
    region: str

    def client(self, service: str) -> Any:
        """A boto3 client that neither waits long nor tries again by itself."""
        from botocore.config import Config  # noqa: PLC0415 - boto3 takes 300 ms to load
        from localstack_client.session import Session  # noqa: PLC0415 - the same

        session = Session(
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            region_name=self.region,
            localstack_host=self.endpoint_url.removeprefix("http://"),
        )
        once = Config(connect_timeout=5, read_timeout=CALL_SECONDS, retries={"max_attempts": 0})
        return session.client(service, config=once)


def deploy(
    cloud: Cloud,
    template: dict[str, Any],
    parameters: Mapping[str, str],
    *,
    halt: Halt,
    say: Callable[[str], None],
) -> Deployment:
    """Creates or changes the stack and waits until it is complete, outputs and all.

    Raises:
        StackTrouble: it didn't work; the text says which resources failed and why.
        Halted: everything is to be given up.
    """
    return _Deploying(cloud.client("cloudformation"), halt, say).run(template, parameters)


def refuse_fallback(log: Path) -> None:
    """Returns only if functions run in our executor.

    Raises:
        StackTrouble: LocalStack says in its log that it took its own.
    """
    if log.exists() and f'Falling back to "{FALLBACK}"' in log.read_text(errors="replace"):
        raise StackTrouble(
            "LocalStack didn't find our Lambda executor and took Docker's.\n"
            "  Make its environment anew: make down && rm -r .local/envs/localstack && make up\n"
            f"  log: {log}"
        )


def tick(cloud: Cloud, function: str) -> None:
    """Invokes the tick once, as the rule would: a new rule fires only after a minute.

    Raises:
        StackTrouble: the tick failed; the text quotes it.
    """
    now = datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
    event = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": now,
        "region": cloud.region,
        "resources": [],
        "detail": {},
    }
    answer = cloud.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
    if "FunctionError" in answer:
        said = answer["Payload"].read().decode(errors="replace")
        raise StackTrouble(f"The first tick failed: {said[:2000]}")


@dataclass
class _Deploying:
    cloudformation: Any
    halt: Halt
    say: Callable[[str], None]
    waited_seconds: float = 0

    def run(self, template: dict[str, Any], parameters: Mapping[str, str]) -> Deployment:
        before = self._settled()
        if before.endswith(("FAILED", "ROLLBACK_COMPLETE")) and not before.startswith("UPDATE"):
            self.say("taking away what a failed deployment left")
            self.cloudformation.delete_stack(StackName=STACK)
            before = self._settled()
        new = before in {"", "DELETE_COMPLETE", "REVIEW_IN_PROGRESS"}
        self.say("deploying")
        change_set = self._change_set(template, parameters, "CREATE" if new else "UPDATE")
        if not change_set:
            return Deployment(outputs=self._outputs(), changed=False)
        self.cloudformation.execute_change_set(StackName=STACK, ChangeSetName=change_set)
        after = self._settled()
        if after not in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
            raise StackTrouble(f"The deployment failed ({after}):{self._reasons()}")
        return Deployment(outputs=self._outputs(), changed=True)

    def _change_set(
        self, template: dict[str, Any], parameters: Mapping[str, str], kind: str
    ) -> str:
        """Its name, or nothing when nothing would change."""
        name = f"change-{uuid.uuid4().hex}"
        self.cloudformation.create_change_set(
            StackName=STACK,
            ChangeSetName=name,
            ChangeSetType=kind,
            TemplateBody=json.dumps(template),
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
        )
        while True:
            change_set = self.cloudformation.describe_change_set(
                StackName=STACK, ChangeSetName=name
            )
            if change_set["Status"] == "FAILED":
                reason = change_set.get("StatusReason", "")
                # AWS's way to say that nothing would change; LocalStack's is an empty list.
                if "didn't contain changes" in reason or "No updates" in reason:
                    return ""
                raise StackTrouble(f"template.yaml can't be deployed: {reason}")
            if change_set["Status"] == "CREATE_COMPLETE":
                return name if change_set.get("Changes") else ""
            self._pause()

    def _settled(self) -> str:
        """The stack's status once nothing goes on; empty when there is no stack."""
        while True:
            status = str(self._description().get("StackStatus", ""))
            if status == "REVIEW_IN_PROGRESS" or not status.endswith("_IN_PROGRESS"):
                return status
            self._pause()

    def _outputs(self) -> dict[str, str]:
        """Complete is told a moment before the outputs are."""
        while True:
            outputs = self._description().get("Outputs")
            if outputs:
                return {one["OutputKey"]: one["OutputValue"] for one in outputs}
            self._pause()

    def _description(self) -> dict[str, Any]:
        try:
            answer = self.cloudformation.describe_stacks(StackName=STACK)
        except self.cloudformation.exceptions.ClientError as error:
            if "does not exist" in str(error):
                return {}
            raise
        return dict(answer["Stacks"][0]) if answer["Stacks"] else {}

    def _reasons(self) -> str:
        events = self.cloudformation.describe_stack_events(StackName=STACK)["StackEvents"]
        return "".join(
            f"\n    {event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason')}"
            for event in events
            if event["ResourceStatus"].endswith("FAILED")
        )

    def _pause(self) -> None:
        self.halt.pause(LOOK_AGAIN_SECONDS)
        self.waited_seconds += LOOK_AGAIN_SECONDS
        if self.waited_seconds > DEPLOY_SECONDS:
            raise StackTrouble(f"The deployment takes longer than {DEPLOY_SECONDS} s; gave up.")
