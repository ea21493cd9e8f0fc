"""F46: an event bus that is down, and writers that die before they have told it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from failpoints import begin_function, run_function
from fault_bench import POLL_INTERVAL
from fault_proxy import aws
from runs.messages import CheckMessage
from runs.status import PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from failpoints import FunctionEnd
    from fault_bench import Bench
    from fault_proxy import Fault

CREATED, SUBMITTED = PipelineRunStatus.CREATED, PipelineRunStatus.SUBMITTED
RUNNING, COMPLETED = PipelineRunStatus.RUNNING, PipelineRunStatus.COMPLETED
WHOLE_WAY = [CREATED, SUBMITTED, RUNNING, COMPLETED]
PUT = aws("PutEvents")
THROTTLED = {"__type": "ThrottlingException", "message": "Rate exceeded"}
REFUSED = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}
WRITERS_TIME = timedelta(seconds=10)
"""What a writer has to publish its events itself."""
DEADLINE_SECONDS = 20
LOOK_AGAIN_SECONDS = 0.05


@dataclass
class Consumer:
    """An example: what listens on the bus, and orders and de-duplicates by (run id, version).

    Attributes:
        histories: Of each run its statuses, by version.
        doubles: How many events came once more.
    """

    histories: dict[int, dict[int, str]] = field(default_factory=dict)
    doubles: int = 0

    def hear(self, details: Iterable[dict[str, Any]]) -> None:
        """Takes events in any order, any number of times."""
        for detail in details:
            history = self.histories.setdefault(detail["run_id"], {})
            self.doubles += detail["version"] in history
            assert history.setdefault(detail["version"], detail["status"]) == detail["status"]

    @property
    def statuses(self) -> dict[int, str]:
        """Of each run that of its newest version, whatever came last."""
        return {run_id: history[max(history)] for run_id, history in self.histories.items()}

    def whole(self, run_id: int) -> list[str]:
        """The run's statuses in order; a gap is a KeyError."""
        history = self.histories.get(run_id, {})
        return [history[version] for version in range(1, len(history) + 1)]


def hear_until(bench: Bench, consumer: Consumer, condition: Callable[[], bool]) -> None:
    """Listens until the consumer has heard what it should: the bus takes its time."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        consumer.hear(bench.queues.told())
        if condition():
            return
        assert time.monotonic() < deadline, consumer
        time.sleep(LOOK_AGAIN_SECONDS)


def unpublished(bench: Bench) -> list[tuple[int, int]]:
    """(run id, version) of the events that the bus is not known to have taken."""
    return bench.store.execute(
        "SELECT run_id, version FROM pipeline_run_events WHERE published_at IS NULL ORDER BY 1, 2"
    )


def taken(bench: Bench, run_id: int) -> list[int]:
    """The versions of the run that the bus has taken, in its order."""
    entries = [
        json.loads(entry["Detail"])
        for call in bench.to_aws.calls_of(PUT)
        if call.replies and call.status == 200
        for entry in json.loads(call.body)["Entries"]
    ]
    return [detail["version"] for detail in entries if detail["run_id"] == run_id]


def relay_what_is_left(bench: Bench) -> None:
    """The writers had their time."""
    bench.move_time(WRITERS_TIME)
    bench.relay()


def event_of_check(bench: Bench, run_id: int) -> dict[str, Any]:
    message = CheckMessage(run_ids=(run_id,), sent_at=bench.store.true_now())
    return {"Records": [{"messageId": "1", "body": message.to_json(), "eventSourceARN": "arn"}]}


def refusing(bench: Bench) -> Fault:
    return bench.to_aws.status(503, PUT)


def throttling(bench: Bench) -> Fault:
    return bench.to_aws.status(400, PUT, body=json.dumps(THROTTLED))


def resetting(bench: Bench) -> Fault:
    return bench.to_aws.reset(PUT)


@pytest.mark.parametrize("fails", [refusing, throttling, resetting])
def test_f46_p28_runs_go_on_while_the_bus_is_down_and_their_events_are_sent_later_in_order(
    bench: Bench, fails: Callable[[Bench], Fault]
) -> None:
    with fails(bench):
        run_id = bench.submitted()
        bench.workbench.become("COMPLETED", run=run_id)
        bench.let_an_interval_pass()
        assert bench.history(run_id) == WHOLE_WAY
        bench.relay()
        assert unpublished(bench) == [(run_id, version) for version in (1, 2, 3, 4)]

    relay_what_is_left(bench)

    assert unpublished(bench) == []
    assert taken(bench, run_id) == [1, 2, 3, 4]
    consumer = Consumer()
    hear_until(bench, consumer, lambda: len(consumer.whole(run_id)) == 4)
    assert consumer.whole(run_id) == WHOLE_WAY


def test_f46_p28_later_events_of_a_run_wait_while_the_bus_refuses_an_earlier_one(
    bench: Bench,
) -> None:
    with refusing(bench):
        held, other = bench.submitted(), bench.submitted()
        bench.workbench.become("COMPLETED")
        bench.let_an_interval_pass()

    with bench.to_aws.status(200, PUT, times=1, body=json.dumps(REFUSED)) as refusal:
        relay_what_is_left(bench)
    assert refusal.struck == 1
    assert unpublished(bench) == [(held, version) for version in (1, 2, 3, 4)]
    assert taken(bench, held) == []
    bench.relay()

    assert unpublished(bench) == []
    assert taken(bench, held) == taken(bench, other) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("failpoint", "copies"),
    [
        ("after runs.move", 1),
        ("before event_bus.publish", 1),
        ("after event_bus.publish", 2),
        ("before runs.mark_published", 2),
    ],
)
def test_f46_p28_events_get_out_though_their_writer_dies_after_its_commit(
    bench: Bench, failpoint: str, copies: int
) -> None:
    [run_id] = bench.fleet(1)
    bench.workbench.become("COMPLETED", run=run_id)

    end = run_function(
        "poller.check.handler",
        event_of_check(bench, run_id),
        bench.environment,
        failpoints=f"{failpoint}=exit",
    )

    assert end.died
    assert bench.run(run_id).status is COMPLETED
    assert unpublished(bench) == [(run_id, 3), (run_id, 4)]
    bench.relay()  # Nothing goes out yet: the writer might still live.
    assert unpublished(bench) == [(run_id, 3), (run_id, 4)]
    relay_what_is_left(bench)
    assert unpublished(bench) == []
    assert taken(bench, run_id) == [3, 4] * copies
    consumer = Consumer()
    hear_until(bench, consumer, lambda: consumer.doubles == 2 * (copies - 1))
    hear_until(bench, consumer, lambda: consumer.statuses == {run_id: COMPLETED})
    assert consumer.histories == {run_id: {3: RUNNING, 4: COMPLETED}}


def test_f46_p28_a_lost_answer_of_the_bus_makes_doubles_that_a_consumer_can_tell(
    bench: Bench,
) -> None:
    with bench.to_aws.execute_and_drop(PUT):
        run_id = bench.submitted()
    doubled = len(bench.to_aws.calls_of(PUT))
    bench.workbench.become("COMPLETED", run=run_id)
    bench.let_an_interval_pass()

    relay_what_is_left(bench)

    assert doubled > 1
    assert unpublished(bench) == []
    consumer = Consumer()
    hear_until(bench, consumer, lambda: consumer.doubles >= doubled)
    assert consumer.whole(run_id) == WHOLE_WAY
    assert consumer.statuses == {run_id: COMPLETED}


def test_f46_p28_a_relay_that_dies_is_followed_by_the_next(bench: Bench) -> None:
    with refusing(bench):
        run_id = bench.submitted()
    bench.move_time(WRITERS_TIME)

    end = run_relay(bench, failpoints="before runs.mark_published=exit")

    assert end.died
    deadline = time.monotonic() + DEADLINE_SECONDS
    while unpublished(bench):  # Until Postgres has seen that the dead one is gone.
        assert time.monotonic() < deadline
        bench.relay()
    assert taken(bench, run_id)[-2:] == [1, 2]
    consumer = Consumer()
    hear_until(bench, consumer, lambda: consumer.doubles >= 1)
    hear_until(bench, consumer, lambda: consumer.statuses == {run_id: SUBMITTED})


def run_relay(bench: Bench, *, failpoints: str) -> FunctionEnd:
    return run_function("poller.relay.handler", {}, bench.environment, failpoints=failpoints)


def test_f46_p28_two_relays_at_once_send_each_event_once(bench: Bench) -> None:
    with refusing(bench):
        run_id = bench.submitted()
    bench.move_time(WRITERS_TIME)

    with begin_function(
        "poller.relay.handler",
        {},
        bench.environment,
        failpoints="before event_bus.publish=sleep 2",
    ) as first:
        first.wait_until_struck("before event_bus.publish")
        bench.relay()
        assert taken(bench, run_id) == []
        assert first.end().exit_code == 0

    assert taken(bench, run_id) == [1, 2]
    assert unpublished(bench) == []


def test_f46_p28_a_consumer_that_knows_only_the_bus_ends_with_every_runs_true_history(
    bench: Bench,
) -> None:
    run_ids = [bench.submitted() for _ in range(3)]
    with refusing(bench):
        bench.workbench.become("COMPLETED", run=run_ids[0])
        bench.workbench.become("FAILED", run=run_ids[1], error_message="out of memory")
        bench.let_an_interval_pass()
    bench.workbench.become("CANCELLED", run=run_ids[2])
    bench.move_time(POLL_INTERVAL)
    bench.sweep()
    with bench.to_aws.execute_and_drop(PUT, times=1):
        bench.deliver()

    relay_what_is_left(bench)

    consumer = Consumer()
    told = {run_id: bench.history(run_id) for run_id in run_ids}
    count = sum(map(len, told.values()))
    hear_until(bench, consumer, lambda: sum(map(len, consumer.histories.values())) == count)
    assert {run_id: consumer.whole(run_id) for run_id in run_ids} == told
    assert consumer.statuses == {run_id: bench.run(run_id).status for run_id in run_ids}
