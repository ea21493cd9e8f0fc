"""An example consumer of the event bus: a queue behind a rule, as a service of one's own has it.

The bus delivers at least once and in any order; `(run_id, version)` tells events apart and orders
them.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME: Final = "example-consumer"
PATTERN: Final = {"source": ["pipeline-runs"], "detail-type": ["Pipeline Run Status Changed"]}
PATIENCE_SECONDS: Final = 60


@dataclass
class Consumer:
    """A queue, and all that was received from it, in that order."""

    sqs: Any
    queue_url: str
    received: list[dict[str, Any]] = field(default_factory=list)

    def receive_until(self, condition: Callable[[], bool]) -> None:
        """Takes messages until the condition holds."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < until, self.received
            answer = self.sqs.receive_message(
                QueueUrl=self.queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1
            )
            for message in answer.get("Messages", ()):
                self.received.append(json.loads(message["Body"]))
                self.sqs.delete_message(
                    QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"]
                )

    def events_of(self, run_id: int) -> list[dict[str, Any]]:
        """As they came: some perhaps twice, some perhaps before earlier ones."""
        return [event for event in self.received if event["detail"]["run_id"] == run_id]

    def history_of(self, run_id: int) -> list[dict[str, Any]]:
        """The details of a run's events, each once, in their order."""
        by_version = {
            event["detail"]["version"]: event["detail"] for event in self.events_of(run_id)
        }
        return [by_version[version] for version in sorted(by_version)]


@contextmanager
def consuming(*, sqs: Any, events: Any, bus: str) -> Iterator[Consumer]:
    """Sets up the queue, the rule and what lets the rule write to the queue; takes them away."""
    queue_url = sqs.create_queue(QueueName=NAME)["QueueUrl"]
    told = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
    queue_arn = told["Attributes"]["QueueArn"]
    rule = events.put_rule(Name=NAME, EventBusName=bus, EventPattern=json.dumps(PATTERN))
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue_arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": rule["RuleArn"]}},
            }
        ],
    }
    sqs.set_queue_attributes(QueueUrl=queue_url, Attributes={"Policy": json.dumps(policy)})
    events.put_targets(Rule=NAME, EventBusName=bus, Targets=[{"Id": NAME, "Arn": queue_arn}])
    try:
        yield Consumer(sqs, queue_url)
    finally:
        events.remove_targets(Rule=NAME, EventBusName=bus, Ids=[NAME])
        events.delete_rule(Name=NAME, EventBusName=bus)
        sqs.delete_queue(QueueUrl=queue_url)
