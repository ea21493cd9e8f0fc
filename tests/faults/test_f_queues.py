"""F19-F21, F39-F41: queues that refuse, lose time, deliver twice, and deliver what nobody can read.

F42, a mapping that would lose messages, is told by the template: `tests/unit/test_template.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from failpoints import run_function
from fault_bench import Bench, BenchWiring
from fault_proxy import aws, statement
from function_process import Function, FunctionPool
from made_runs import trouble
from mapping_runner import Delivery, Outcome
from poller import tick
from runs.messages import CheckMessage
from runs.status import PipelineRunStatus
from scripted_workbench import State
from wired import Invocation, logged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wired import Log

CREATED, SUBMITTED = PipelineRunStatus.CREATED, PipelineRunStatus.SUBMITTED
RUNNING, COMPLETED = PipelineRunStatus.RUNNING, PipelineRunStatus.COMPLETED
FAILED = PipelineRunStatus.FAILED
WHOLE_WAY: Final = [CREATED, SUBMITTED, RUNNING, COMPLETED]
MOVE: Final = statement("UPDATE pipeline_runs run SET status")
TICK_SECONDS: Final = 25
"""The tick's time-out, as in the template."""
PAGES: Final = 16
MOST_RECEIVED: Final = 3
"""`maxReceiveCount` of the check queue."""


# -- what happened --------------------------------------------------------------------------------


def looks(bench: Bench, run_id: int) -> int:
    """How often the Workbench was asked about the run's job."""
    kinds = ("status", "bulk_status")
    return sum(len(bench.workbench.calls_of(kind, run=run_id)) for kind in kinds)


def looks_at(bench: Bench, run_ids: Sequence[int]) -> list[int]:
    return [looks(bench, run_id) for run_id in run_ids]


def statuses(bench: Bench, run_ids: Sequence[int]) -> set[PipelineRunStatus]:
    return {bench.run(run_id).status for run_id in run_ids}


def line_of(log: Log, message: str) -> dict[str, Any]:
    """The one line that tells of this."""
    [line] = [line for line in log.lines if line["message"] == message]
    return line


def send(bench: Bench, *bodies: str, to: str = "CheckQueue") -> None:
    for body in bodies:
        bench.queues.sqs.send_message(QueueUrl=bench.queues.urls[to], MessageBody=body)


def pack(bench: Bench, *run_ids: int) -> str:
    """A check message of this moment."""
    return CheckMessage(run_ids=run_ids, sent_at=bench.store.true_now()).to_json()


# -- SQS refuses ----------------------------------------------------------------------------------


class SqsThatRefusesThree:
    """Takes a batch but for its last three messages, so many times."""

    def __init__(self, sqs: Any, times: int) -> None:
        self.sizes: list[int] = []
        self._sqs = sqs
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sqs, name)

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        entries = request["Entries"]
        self.sizes.append(len(entries))
        if len(self.sizes) > self._times:
            return dict(self._sqs.send_message_batch(**request))
        taken, refused = entries[:-3], entries[-3:]
        failed = [{"Id": one["Id"], "Code": "InternalError"} for one in refused]
        if not taken:
            return {"Failed": failed}
        answer = self._sqs.send_message_batch(**request | {"Entries": taken})
        return {**answer, "Failed": failed}


class RefusingWiring(BenchWiring):
    """Has such an SQS, and all else of the bench."""

    def __init__(self, environment: Mapping[str, str], times: int) -> None:
        super().__init__(environment)
        self.sqs = SqsThatRefusesThree(super().aws("sqs"), times)

    def aws(self, service: str) -> Any:
        return self.sqs if service == "sqs" else super().aws(service)


@pytest.mark.parametrize(("times", "unsent"), [(1, 0), (2, 3)])
def test_f19_p20_three_of_ten_messages_that_are_refused_are_sent_once_more_and_counted(
    bench: Bench, times: int, unsent: int
) -> None:
    runs = bench.fleet(10)
    trouble(bench.store, [bench.run(run_id) for run_id in runs])  # So each is asked about alone.
    bench.workbench.become("RUNNING")
    body = {"minute": bench.store.true_now().isoformat(), "wave": 0, "shards": [0, PAGES - 1]}
    one_page = {"Records": [{"messageId": "1", "body": json.dumps({"v": 1, **body})}]}
    wiring = RefusingWiring(bench.environment, times)

    with bench.functions(wiring), logged() as log:
        tick.handler(one_page, Invocation(seconds_left=TICK_SECONDS))
    wiring.close()
    bench.deliver()

    assert wiring.sqs.sizes == [10, 3]
    swept = line_of(log, "swept")
    assert (swept["runs"], swept["messages"], swept["unsent"]) == (10, 10, unsent)
    sent = 10 - unsent
    assert looks_at(bench, runs) == [1] * sent + [0] * unsent
    bench.let_an_interval_pass()
    assert looks_at(bench, runs) == [2] * sent + [1] * unsent


Trouble = Callable[[Bench], AbstractContextManager[object]]


def throttled(bench: Bench) -> AbstractContextManager[object]:
    body = json.dumps({"__type": "com.amazonaws.sqs#RequestThrottled", "message": "Slow down."})
    kind = "application/x-amz-json-1.0"
    return bench.to_aws.status(400, aws_sends, body=body, content_type=kind)


def broken(bench: Bench) -> AbstractContextManager[object]:
    return bench.to_aws.status(503, aws_sends, body="<html>Service Unavailable</html>")


def refused(bench: Bench) -> AbstractContextManager[object]:
    return bench.to_aws.refuse()


def silent(bench: Bench) -> AbstractContextManager[object]:
    return bench.to_aws.black_hole(aws_sends)


def aws_sends(call: Any) -> bool:
    return aws("SendMessage")(call) or aws("SendMessageBatch")(call)


def a_tick_without_sqs(bench: Bench, why: Trouble, *, runs: Sequence[int]) -> None:
    """Ends before Lambda ends it, and the next one repairs what it left."""
    time = bench.store.true_now().strftime("%Y-%m-%dT%H:%M:%SZ")
    with why(bench):
        end = run_function(
            "poller.tick.handler", {"time": time}, bench.environment, seconds_left=TICK_SECONDS
        )
    assert end.exit_code == 0, end.log
    assert bench.deliver() == []
    assert looks_at(bench, runs) == [0] * len(runs)

    bench.let_an_interval_pass()

    assert looks_at(bench, runs) == [1] * len(runs)


@pytest.mark.parametrize("why", [throttled, broken, refused])
def test_f20_p20_a_tick_that_sqs_refuses_ends_in_time_and_the_next_repairs_it(
    bench: Bench, why: Trouble
) -> None:
    a_tick_without_sqs(bench, why, runs=bench.fleet(PAGES))


@pytest.mark.prove  # It takes as long as the tick may take.
def test_f20_p20_a_tick_that_sqs_never_answers_ends_in_time_and_the_next_repairs_it(
    bench: Bench,
) -> None:
    a_tick_without_sqs(bench, silent, runs=bench.fleet(PAGES))


# -- delivered twice ------------------------------------------------------------------------------


@pytest.fixture
def checks(bench: Bench) -> Iterator[FunctionPool]:
    """The check as processes; nothing of theirs is shared."""
    function = Function(handler="poller.check.handler", variables=bench.environment)
    with FunctionPool(function) as pool:
        pool.warm(2)
        yield pool


def test_f21_p19_a_message_delivered_to_two_handlers_at_once_is_one_transition(
    bench: Bench, checks: FunctionPool
) -> None:
    [run_id] = bench.fleet(1)
    bench.workbench.become("COMPLETED")
    bench.sweep()
    runner = bench.runner("CheckQueue", checks.invoke, deliveries=lambda _: Delivery.TWICE)

    with bench.to_database.hold(MOVE) as gate, runner:
        bench.to_database.wait_for_calls(MOVE, count=2)  # Both have seen it SUBMITTED.
        gate.end()
        runner.drain()

    one, other = runner.batches
    assert one.overlaps(other)
    assert (one.outcome, other.outcome) == (Outcome.SUCCEEDED, Outcome.SUCCEEDED)
    assert looks(bench, run_id) == 2
    assert bench.history(run_id) == WHOLE_WAY
    assert bench.run(run_id).version == len(WHOLE_WAY)
    told: list[tuple[int, str]] = []

    def all_are_told() -> bool:
        told.extend((event["version"], event["status"]) for event in bench.queues.told())
        return len(told) >= 2

    runner.wait_until(all_are_told, "the bus has told of both steps")
    assert sorted(told) == [(3, "RUNNING"), (4, "COMPLETED")]


def test_f21_p8_a_message_about_a_new_run_delivered_to_two_handlers_at_once_is_one_job(
    bench: Bench, checks: FunctionPool
) -> None:
    lease = statement("submit_attempts = submit_attempts + 1")
    answer = bench.post(headers={"Prefer": "respond-async"})
    run_id = int(answer.json["id"])
    runner = bench.runner("CheckQueue", checks.invoke, deliveries=lambda _: Delivery.TWICE)

    with bench.to_database.hold(lease) as gate, runner:
        bench.to_database.wait_for_calls(lease, count=2)
        gate.end()
        runner.drain()

    bench.until(run_id, SUBMITTED, intervals=1)
    assert bench.history(run_id) == [CREATED, SUBMITTED]
    [job] = bench.workbench.jobs_of(run_id)
    assert bench.run(run_id).workbench_job_id == job.id
    assert len(bench.workbench.calls_of("submit", run=run_id)) == 1


# -- out of time ----------------------------------------------------------------------------------


def test_f39_p18_a_batch_whose_time_is_over_ends_by_itself_and_leaves_the_rest_to_the_next_sweep(
    bench: Bench,
) -> None:
    bench.workbench.bulk_status = False
    runs = bench.fleet(8)
    quick, slow = runs[::2], runs[1::2]
    created = int(bench.post(headers={"Prefer": "respond-async"}).json["id"])
    bench.queues.texts("CheckQueue")
    bench.workbench.become("COMPLETED")
    paths = {f"/batch/status/{bench.run(run_id).workbench_job_id}" for run_id in slow}
    function = Function(
        handler="poller.check.handler", variables=bench.environment, timeout_seconds=13
    )
    with FunctionPool(function) as pool:
        pool.invoke({"Records": []})
        send(bench, pack(bench, *runs, created))
        with bench.to_workbench.black_hole(lambda call: call.path in paths):
            [batch] = bench.runner("CheckQueue", pool.invoke).deliver()

    assert batch.outcome is Outcome.SUCCEEDED, batch.error
    assert '"left":5' in pool.log
    assert statuses(bench, quick) == {COMPLETED}
    for run_id in slow:
        seen = bench.run(run_id).observation
        assert (seen.last_checked_at, seen.consecutive_failures) == (None, 0)
    assert statuses(bench, slow) == {SUBMITTED}
    assert bench.run(created).status is CREATED
    assert bench.to_conductor.calls == []

    bench.let_an_interval_pass()

    assert statuses(bench, runs) == {COMPLETED}
    assert bench.run(created).status is SUBMITTED
    assert bench.queues.texts("CheckDlq") == []


# -- poison ---------------------------------------------------------------------------------------

POISON: Final = {
    "not JSON": "{",
    "no object": "null",
    "an unknown version": '{"v": 2, "run_ids": [1], "attempt": 0, "sent_at": "2026-01-01T00:00Z"}',
    "no run ids": '{"v": 1, "attempt": 0, "sent_at": "2026-01-01T00:00:00Z"}',
    "256 kB": "x" * 262_144,
    "deeply nested": "[" * 100_000,
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
def test_f40_p18_what_cannot_be_read_is_tried_three_times_and_buried_and_its_neighbours_are_done(
    bench: Bench, poison: str
) -> None:
    runs = bench.fleet(3)
    bench.workbench.become("COMPLETED")
    send(bench, poison)
    bench.sweep()

    batches = bench.deliver()

    assert statuses(bench, runs) == {COMPLETED}
    assert looks_at(bench, runs) == [1, 1, 1]
    counts = [
        count
        for batch in batches
        for body, count in zip(batch.bodies, batch.receive_counts, strict=True)
        if body == poison
    ]
    assert counts == [*range(1, MOST_RECEIVED + 1)]
    assert bench.queues.texts("CheckDlq") == [poison]
    assert bench.queues.texts("CheckQueue") == []


def test_f40_p18_runs_of_a_pack_that_are_not_there_are_counted_and_dropped_and_the_others_done(
    bench: Bench,
) -> None:
    runs = bench.fleet(2)
    bench.workbench.become("COMPLETED")
    send(bench, pack(bench, 999_999, *runs, 2**63 - 1))

    with logged() as log:
        [batch] = bench.deliver()

    assert batch.outcome is Outcome.SUCCEEDED
    checked = line_of(log, "checked")
    assert (checked["gone"], checked["asked"], checked["moved"]) == (2, 2, 2)
    assert statuses(bench, runs) == {COMPLETED}
    assert bench.queues.texts("CheckDlq") == []


def test_f40_p18_an_upstream_text_with_a_nul_is_kept_without_it_and_its_neighbours_are_done(
    bench: Bench,
) -> None:
    poisoned, *others = bench.fleet(3)
    bench.workbench.become("COMPLETED")
    told = State("FAILED", error_message="out\x00of\udc00memory", logs_url="http://logs\x00/")
    bench.workbench.script(run=poisoned, status=[told])
    send(bench, pack(bench, poisoned, *others))

    [batch] = bench.deliver()

    assert batch.outcome is Outcome.SUCCEEDED
    assert statuses(bench, others) == {COMPLETED}
    run = bench.run(poisoned)
    assert run.status is FAILED
    assert run.error
    assert "\x00" not in run.error.message
    assert run.error.message.startswith("out")
    assert run.error.message.endswith("memory")
    assert bench.history(poisoned) == [CREATED, SUBMITTED, FAILED]
    assert bench.queues.texts("CheckDlq") == []


# -- the dead letter queue ------------------------------------------------------------------------


TABLES: Final = {
    "pipeline_runs": "id",
    "run_observations": "run_id",
    "pipeline_run_events": "run_id",
}


def test_f41_p3_p19_a_dead_letter_queue_that_is_redriven_days_later_changes_nothing(
    bench: Bench,
) -> None:
    ended, active = runs = bench.fleet(2)
    bench.workbench.become("RUNNING")
    bench.sweep()
    old = bench.queues.texts("CheckQueue")
    assert len(old) == 2
    bench.workbench.become("COMPLETED", run=ended)
    bench.let_an_interval_pass()
    send(bench, *old, "{", to="CheckDlq")
    bench.move_time(timedelta(days=3))
    bench.workbench.become("COMPLETED", run=active)
    before = [as_written(bench, run_id) for run_id in runs]
    assert [bench.run(run_id).status for run_id in runs] == [COMPLETED, RUNNING]
    asked = looks_at(bench, runs)

    bench.queues.sqs.start_message_move_task(
        SourceArn=bench.queues.arn("CheckDlq"), DestinationArn=bench.queues.arn("CheckQueue")
    )
    runner = bench.runner("CheckQueue")
    with bench.functions(), runner:
        runner.wait_until(lambda: len(runner.batches) > 0, "the redrive has begun")
        runner.wait_until(lambda: bodies_of(runner) >= {*old, "{"}, "all have come")
        runner.drain()

    assert looks_at(bench, runs) == asked
    assert [as_written(bench, run_id) for run_id in runs] == before
    assert bench.queues.texts("CheckDlq") == ["{"]
    bench.let_an_interval_pass()
    assert statuses(bench, runs) == {COMPLETED}
    assert looks_at(bench, runs) == [asked[0], asked[1] + 1]


def as_written(bench: Bench, run_id: int) -> list[Any]:
    """The run's rows in all tables that a check writes."""
    return [
        bench.store.execute(f"SELECT * FROM {table} WHERE {key} = :id", id=run_id)  # noqa: S608  # no input
        for table, key in TABLES.items()
    ]


def bodies_of(runner: Any) -> set[str]:
    return {body for batch in runner.batches for body in batch.bodies}
