"""F44: this code with messages and a schema of another version than its own.

A deployment migrates first, so for a while yesterday's code meets today's schema; and messages of
either version wait in the queues. What a migration does to rows is `test_migrations`' matter.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fault_bench import tick_event
from fault_proxy import aws
from poller import tick
from runs.status import PipelineRunStatus
from wired import Invocation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fault_bench import Bench

CREATED, SUBMITTED = PipelineRunStatus.CREATED, PipelineRunStatus.SUBMITTED
RUNNING, COMPLETED = PipelineRunStatus.RUNNING, PipelineRunStatus.COMPLETED
CANCELLED = PipelineRunStatus.CANCELLED
CHANGED_TABLES = ("pipelines", "pipeline_runs", "run_observations", "pipeline_run_events")


def message(bench: Bench, run_id: int, **members: Any) -> str:
    """A check's body, spelled out as the first release sends it, but for the members named."""
    [[now]] = bench.store.execute("SELECT runs_now()")
    body = {"v": 1, "run_ids": [run_id], "attempt": 0, "sent_at": now.isoformat()}
    return json.dumps(body | members)


def send(bench: Bench, queue: str, body: str) -> None:
    bench.queues.sqs.send_message(QueueUrl=bench.queues.urls[queue], MessageBody=body)


# -- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", ["CheckQueue", "RetryQueue"])
def test_f44_p19_a_message_of_the_first_release_is_understood(bench: Bench, queue: str) -> None:
    run_id = bench.submitted()
    send(bench, queue, message(bench, run_id))
    bench.deliver()
    assert bench.run(run_id).status is RUNNING


def test_f44_p19_a_tick_of_the_first_release_is_understood(bench: Bench) -> None:
    run_id = bench.submitted()
    with bench.functions():
        tick.handler(tick_event(), Invocation(seconds_left=25))
    bench.deliver()
    assert bench.run(run_id).status is RUNNING


def test_f44_p19_what_a_later_release_adds_to_a_message_is_passed_over(bench: Bench) -> None:
    run_id = bench.submitted()
    send(bench, "CheckQueue", message(bench, run_id, priority=3, trace={"id": "x"}))
    bench.deliver()
    assert bench.run(run_id).status is RUNNING


def test_f44_p18_a_message_of_a_later_version_is_kept_for_people_and_hurts_no_neighbour(
    bench: Bench,
) -> None:
    run_id, other_id = bench.submitted(), bench.submitted()
    later = message(bench, run_id, v=2)
    send(bench, "CheckQueue", later)
    send(bench, "CheckQueue", message(bench, other_id))

    bench.deliver()

    assert bench.run(run_id).status is SUBMITTED
    assert not bench.workbench.calls_of("status", run=run_id)
    assert bench.run(other_id).status is RUNNING
    assert bench.queues.texts("CheckDlq") == [later]
    bench.until(run_id, RUNNING, intervals=1)


def test_f44_p19_a_tick_of_a_later_version_does_nothing_and_fails_nothing(bench: Bench) -> None:
    run_id = bench.submitted()
    event = tick_event()
    body = json.loads(event["Records"][0]["body"]) | {"v": 2}
    event["Records"][0]["body"] = json.dumps(body)

    with bench.functions():
        tick.handler(event, Invocation(seconds_left=25))

    assert bench.deliver() == []
    bench.until(run_id, RUNNING, intervals=1)


def test_f44_every_message_that_is_sent_carries_its_version(bench: Bench) -> None:
    run_id = bench.submitted()
    with bench.functions():
        tick.handler({"time": "2999-01-01T00:00:00+00:00"}, Invocation(seconds_left=25))
    bench.command(run_id, "cancel")

    packs = [json.loads(call.body) for call in bench.to_aws.calls_of(aws("SendMessageBatch"))]
    alone = [json.loads(call.body) for call in bench.to_aws.calls_of(aws("SendMessage"))]
    sent = [entry for pack in packs for entry in pack["Entries"]] + alone
    told = [json.loads(one["MessageBody"]) for one in sent]
    assert [one["v"] for one in told] == [1] * len(told)
    assert {"run_ids" in one for one in told} == {True, False}  # Checks and ticks.


# -- the schema -----------------------------------------------------------------------------------


@pytest.fixture
def warm(bench: Bench) -> Iterator[Bench]:
    """Functions that have been at work for a while when a later release's schema comes."""
    run_id = bench.submitted()
    bench.let_an_interval_pass()
    bench.command(run_id, "cancel")
    bench.deliver()
    try:
        for table in CHANGED_TABLES:
            bench.store.execute(f"ALTER TABLE {table} ADD COLUMN later text")
            bench.store.execute(f"ALTER TABLE {table} ADD COLUMN sooner int NOT NULL DEFAULT 7")
        yield bench
    finally:
        for table in CHANGED_TABLES:
            bench.store.execute(f"ALTER TABLE {table} DROP COLUMN IF EXISTS later")
            bench.store.execute(f"ALTER TABLE {table} DROP COLUMN IF EXISTS sooner")


def test_f44_p7_warm_functions_go_on_when_a_migration_adds_columns(warm: Bench) -> None:
    key = "after-the-migration"
    body = warm.wish()
    answer = warm.post(key=key, **body)
    assert answer.status == 201, answer.text
    assert warm.post(key=key, **body).json["id"] == answer.json["id"]
    run_id = answer.json["id"]
    warm.until(run_id, COMPLETED)
    assert warm.history(run_id) == [CREATED, SUBMITTED, RUNNING, COMPLETED]


def test_f44_p23_warm_functions_cancel_when_a_migration_adds_columns(warm: Bench) -> None:
    run_id = warm.submitted()
    assert warm.command(run_id, "cancel").status == 202
    warm.deliver()
    warm.until(run_id, CANCELLED, intervals=2)
    warm.relay()
    warm.hunt()


def test_f44_cold_functions_work_on_a_later_schema(warm: Bench) -> None:
    warm.close()  # The next call makes a new environment.
    run_id = warm.submitted()
    warm.until(run_id, COMPLETED)
    assert warm.history(run_id) == [CREATED, SUBMITTED, RUNNING, COMPLETED]
