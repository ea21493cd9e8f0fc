"""The event bus on EventBridge: what arrives, in which order, and what it doesn't take."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from runs.adapters.eventbridge import EventBridgeBus
from runs.events import RunEvent
from runs.status import PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

S = PipelineRunStatus
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BUS = "runs-bus"
LIFE = (S.CREATED, S.SUBMITTED, S.RUNNING, S.COMPLETED)


def event(run_id: int, version: int = 1) -> RunEvent:
    return RunEvent(
        run_id=run_id,
        pipeline_id=1,
        version=version,
        previous_status=LIFE[version - 2] if version > 1 else None,
        status=LIFE[version - 1],
        at=NOON,
        error_message=None,
        tags={"team": "blue"},
    )


class ScriptedBus:
    """Notes what it is asked, and refuses what `refuse` says of each event's detail."""

    def __init__(self, refuse: Callable[[dict[str, Any]], bool] = lambda _: False) -> None:
        self.requests: list[list[dict[str, Any]]] = []
        self._refuse = refuse

    def put_events(self, *, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803  # boto3's
        self.requests.append(Entries)
        answers = [
            {"ErrorCode": "InternalFailure"}
            if self._refuse(json.loads(entry["Detail"]))
            else {"EventId": str(number)}
            for number, entry in enumerate(Entries)
        ]
        return {"Entries": answers}

    @property
    def asked(self) -> list[list[tuple[int, int]]]:
        """The `(run_id, version)` of each request's events."""
        details = [[json.loads(entry["Detail"]) for entry in request] for request in self.requests]
        return [[(one["run_id"], one["version"]) for one in request] for request in details]


def test_an_event_arrives_on_its_bus_as_the_design_says() -> None:
    with mock_aws():
        session = boto3.session.Session(region_name="eu-central-1")
        events, sqs = session.client("events"), session.client("sqs")
        url = sqs.create_queue(QueueName="told")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
        events.create_event_bus(Name=BUS)
        pattern = json.dumps({"source": ["pipeline-runs"]})
        events.put_rule(Name="all", EventBusName=BUS, EventPattern=pattern)
        events.put_targets(
            Rule="all", EventBusName=BUS, Targets=[{"Id": "q", "Arn": arn["QueueArn"]}]
        )

        told = [event(1), event(1, 2)]
        assert EventBridgeBus(lambda: events, BUS).publish(told) == told

        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    arrived = sorted(
        (json.loads(m["Body"]) for m in messages), key=lambda e: e["detail"]["version"]
    )
    assert [one["detail-type"] for one in arrived] == ["Pipeline Run Status Changed"] * 2
    assert [one["source"] for one in arrived] == ["pipeline-runs"] * 2
    assert arrived[1]["detail"] == {
        "run_id": 1,
        "pipeline_id": 1,
        "status": "SUBMITTED",
        "previous_status": "CREATED",
        "version": 2,
        "at": "2026-03-01T12:00:00+00:00",
        "tags": {"team": "blue"},
    }


def test_events_go_by_ten_to_a_request() -> None:
    bus = ScriptedBus()
    told = [event(n) for n in range(25)]

    assert EventBridgeBus(lambda: bus, BUS).publish(told) == told

    assert [len(request) for request in bus.asked] == [10, 10, 5]
    entry = bus.requests[0][0]
    assert (entry["EventBusName"], entry["Time"]) == (BUS, NOON)


def test_f46_no_request_holds_a_run_twice_for_it_may_be_taken_in_part() -> None:
    bus = ScriptedBus()

    EventBridgeBus(lambda: bus, BUS).publish([event(1, 1), event(2), event(1, 2), event(1, 3)])

    assert bus.asked == [[(1, 1), (2, 1)], [(1, 2)], [(1, 3)]]


def test_f46_what_was_refused_is_not_among_what_was_taken() -> None:
    bus = ScriptedBus(lambda detail: detail["run_id"] in {1, 3})

    taken = EventBridgeBus(lambda: bus, BUS).publish([event(n) for n in range(5)])

    assert [one.run_id for one in taken] == [0, 2, 4]


def test_f46_a_runs_later_events_wait_while_an_earlier_one_is_not_taken() -> None:
    bus = ScriptedBus(lambda detail: (detail["run_id"], detail["version"]) == (1, 1))

    taken = EventBridgeBus(lambda: bus, BUS).publish([event(1, 1), event(1, 2), event(2)])

    assert [(one.run_id, one.version) for one in taken] == [(2, 1)]
    assert bus.asked == [[(1, 1)], [(2, 1)]]


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "ThrottlingException"}}, "PutEvents"),
        EndpointConnectionError(endpoint_url="http://events"),
    ],
)
def test_f46_a_bus_that_does_not_answer_took_nothing(error: Exception) -> None:
    class DeadBus:
        def put_events(self, **_: Any) -> dict[str, Any]:
            raise error

    assert EventBridgeBus(DeadBus, BUS).publish([event(1), event(2)]) == []


def test_nothing_to_publish_asks_for_no_client() -> None:
    def none_needed() -> Any:
        raise AssertionError("a client was made")

    assert EventBridgeBus(none_needed, BUS).publish([]) == []
