"""What the poller makes of the Workbench's answers, over the real schedule and queues."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from scripted_workbench import Answer, State, always, drip, html, huge, not_found

if TYPE_CHECKING:
    from chain import Chain

TROUBLES: dict[str, State | Answer] = {
    "500": Answer(500, "oops"),
    "HTML": html(),
    "32 MiB": huge(),
    "an unknown word": State("FLABBERGASTED"),
    "404": not_found(),
    "dripping": drip(),
}


def test_p16_p18_trouble_changes_nothing_and_neighbours_are_on_time(chain: Chain) -> None:
    pipeline_id = chain.pipeline()
    troubled: dict[str, int] = {}
    for name, trouble in TROUBLES.items():
        troubled[name] = chain.submitted(pipeline_id)
        chain.workbench.script(run=troubled[name], status=[always(trouble)])
    neighbours = [chain.submitted(pipeline_id) for _ in range(4)]
    for run_id in neighbours:
        chain.wait_for_status(run_id, "COMPLETED", within_seconds=45, by_schedule=True)
    for name, run_id in troubled.items():
        run = chain.wait(run_id, lambda run: run["observation"]["consecutive_failures"] >= 2)
        assert run["status"] == "SUBMITTED", (name, run)
        assert run["observation"]["last_error"], name
        assert run["error"] is None
        chain.workbench.script(run=run_id, status=[])
        chain.workbench.become("COMPLETED", run=run_id)
    for run_id in troubled.values():
        chain.wait_for_status(run_id, "COMPLETED")
        # The observation is written after the change of status.
        chain.wait(run_id, lambda run: run["observation"]["consecutive_failures"] == 0)


def test_an_answer_after_two_refusals_is_believed(chain: Chain) -> None:
    run_id = chain.submitted()
    refusals = [Answer(503), Answer(503)]
    chain.workbench.script(run=run_id, status=refusals, bulk_status=refusals)
    chain.wait_for_status(run_id, "COMPLETED")
    assert chain.history(run_id) == ["CREATED", "SUBMITTED", "RUNNING", "COMPLETED"]


@pytest.mark.parametrize(
    ("upstream", "status", "message"),
    [
        (State("failed", error_message="row 7 is broken"), "FAILED", "row 7 is broken"),
        (State("Canceled"), "CANCELLED", None),
        (State("SUCCEEDED"), "COMPLETED", None),
    ],
    ids=["FAILED", "CANCELLED", "COMPLETED"],
)
def test_f22_a_job_that_ended_between_two_checks_is_told_with_a_legal_history(
    chain: Chain, upstream: State, status: str, message: str | None
) -> None:
    run_id = chain.submitted()
    chain.workbench.become(upstream.status, run=run_id, error_message=upstream.error_message)
    run = chain.wait_for_status(run_id, status)
    assert run["error_message"] == message
    assert run["completed_at"] is not None
    between = ["RUNNING"] if status == "COMPLETED" else []
    assert chain.history(run_id) == ["CREATED", "SUBMITTED", *between, status]


def test_f40_what_cannot_be_read_comes_to_the_dlq_and_nothing_else_does(chain: Chain) -> None:
    sqs = chain.client("sqs")
    run_id = chain.submitted()
    unknown_run = {"v": 1, "run_ids": [999_999], "attempt": 0, "sent_at": "2026-01-01T00:00:00Z"}
    for body in ("not JSON", json.dumps({"v": 2}), json.dumps(unknown_run)):
        sqs.send_message(QueueUrl=chain.stack.check_queue_url, MessageBody=body)
    found: list[str] = []
    until = time.monotonic() + 60
    while len(found) < 2 and time.monotonic() < until:
        answer = sqs.receive_message(QueueUrl=chain.stack.check_dlq_url, WaitTimeSeconds=2)
        found += [message["Body"] for message in answer.get("Messages", ())]
    assert sorted(found) == sorted(["not JSON", json.dumps({"v": 2})])
    chain.wait_for_status(run_id, "COMPLETED")
