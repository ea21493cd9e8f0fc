"""What a consumer of the event bus gets to know of a run."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from bus_consumer import Consumer, consuming

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chain import Chain

WRITERS_SECONDS = 10
"""For so long an event is left to whoever wrote it; then the relay takes it."""


@pytest.fixture
def consumer(chain: Chain) -> Iterator[Consumer]:
    with consuming(
        sqs=chain.client("sqs"), events=chain.client("events"), bus=chain.stack.event_bus_name
    ) as consumer:
        yield consumer


def test_p28_a_consumer_of_the_bus_is_told_every_status_of_a_run(
    chain: Chain, consumer: Consumer
) -> None:
    run = chain.post(tags={"team": "a", "customer": "Zoë"}).json()
    run_id = run["id"]
    chain.wait_for_status(run_id, "COMPLETED")
    consumer.receive_until(lambda: len(consumer.history_of(run_id)) == 4)
    events = chain.api.get(f"/pipeline-run/{run_id}/events").json()["items"]
    assert [
        {**detail, "at": datetime.fromisoformat(detail["at"])}
        for detail in consumer.history_of(run_id)
    ] == [
        {
            "run_id": run_id,
            "pipeline_id": run["pipeline_id"],
            "status": status,
            "previous_status": previous_status,
            "version": version,
            "at": datetime.fromisoformat(events[version - 1]["at"]),
            "tags": {"team": "a", "customer": "Zoë"},
        }
        for version, (previous_status, status) in enumerate(
            [
                (None, "CREATED"),
                ("CREATED", "SUBMITTED"),
                ("SUBMITTED", "RUNNING"),
                ("RUNNING", "COMPLETED"),
            ],
            start=1,
        )
    ]
    for event in consumer.events_of(run_id):
        assert event["source"] == "pipeline-runs"
        assert event["detail-type"] == "Pipeline Run Status Changed"


def test_p28_an_event_that_is_published_twice_is_one_to_its_consumer(
    chain: Chain, consumer: Consumer
) -> None:
    run_id = chain.submitted()
    chain.workbench.become("FAILED", run=run_id, error_message="row 7 is broken")
    chain.wait_for_status(run_id, "FAILED")
    consumer.receive_until(lambda: len(consumer.history_of(run_id)) == 3)
    history = consumer.history_of(run_id)
    forget_publishing(chain, run_id)
    chain.move_time(WRITERS_SECONDS)
    chain.client("lambda").invoke(FunctionName=chain.stack.relay_function_name, Payload="{}")
    consumer.receive_until(lambda: len(consumer.events_of(run_id)) == 6)
    versions = Counter(event["detail"]["version"] for event in consumer.events_of(run_id))
    assert versions == {1: 2, 2: 2, 3: 2}
    assert consumer.history_of(run_id) == history


def forget_publishing(chain: Chain, run_id: int) -> None:
    """As if the writers had died between publishing and writing it down."""
    forget = "UPDATE pipeline_run_events SET published_at = NULL WHERE run_id = :run_id"
    with chain.database.begin() as connection:
        connection.execute(sa.text(forget), {"run_id": run_id})
