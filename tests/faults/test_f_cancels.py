"""F45: cancels that race the job's completion or the submission, or that the Workbench fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from failpoints import api_event, begin_function, run_function
from fault_bench import POLL_INTERVAL
from fault_proxy import http, statement
from runs.messages import CheckMessage
from runs.model import ErrorCategory
from runs.status import PipelineRunStatus
from scripted_workbench import Answer, always

if TYPE_CHECKING:
    from failpoints import RunningFunction
    from fault_bench import Bench

CREATED, SUBMITTED = PipelineRunStatus.CREATED, PipelineRunStatus.SUBMITTED
RUNNING, COMPLETED = PipelineRunStatus.RUNNING, PipelineRunStatus.COMPLETED
FAILED, CANCELLED = PipelineRunStatus.FAILED, PipelineRunStatus.CANCELLED
START = http("POST", "/api/workflow")
STATUS = http("GET", "/batch/status/*")
CANCEL = http("POST", "/batch/cancel/*")
MOVE = statement("FROM change, taken")
TAKE_LEASE = statement("submit_attempts = submit_attempts + 1")
CANCEL_DEADLINE = timedelta(minutes=15)
A_MINUTE = timedelta(minutes=1)
WITHIN_A_MINUTE = 2
"""Intervals."""
LATER = {"Prefer": "respond-async"}


def running(bench: Bench) -> int:
    """The id of a run whose job runs and doesn't end by itself."""
    run_id = bench.submitted()
    bench.workbench.become("RUNNING", run=run_id)
    bench.check(check_of(bench, run_id))
    assert bench.run(run_id).status is RUNNING
    return run_id


def assert_accepted(bench: Bench, run_id: int) -> None:
    """A cancel that is asked for now is stored, and the run isn't CANCELLED by that alone."""
    answer = bench.command(run_id, "cancel", {"reason": "no longer wanted"})
    assert answer.status == 202, answer.text
    assert answer.json["cancel_requested_at"]


def check_of(bench: Bench, run_id: int) -> CheckMessage:
    """A message that is sent now."""
    [[now]] = bench.store.execute("SELECT runs_now()")
    return CheckMessage(run_ids=(run_id,), sent_at=now)


def begin_check(bench: Bench, run_id: int) -> RunningFunction:
    """A check of the run by a process of its own."""
    body, arn = check_of(bench, run_id).to_json(), bench.queues.arn("CheckQueue")
    event = {"Records": [{"messageId": "1", "body": body, "eventSourceARN": arn}]}
    return begin_function("poller.check.handler", event, bench.environment)


# -- the job ends at the same time ----------------------------------------------------------------


def test_f45_p24_a_job_that_completed_before_its_cancel_came_is_completed(bench: Bench) -> None:
    run_id = running(bench)
    bench.workbench.become("COMPLETED", run=run_id)

    assert_accepted(bench, run_id)
    bench.deliver()

    assert bench.history(run_id) == [CREATED, SUBMITTED, RUNNING, COMPLETED]
    bench.command(run_id, "cancel").problem(409, "run_already_terminal")


@pytest.mark.parametrize(
    ("word", "status"), [("COMPLETED", COMPLETED), ("FAILED", FAILED), ("CANCELLED", CANCELLED)]
)
def test_f45_p24_after_an_accepted_cancel_the_run_ends_as_the_workbench_says(
    bench: Bench, word: str, status: PipelineRunStatus
) -> None:
    run_id = running(bench)
    bench.workbench.script(run=run_id, cancel=[word])

    assert_accepted(bench, run_id)
    bench.deliver()

    assert len(bench.workbench.calls_of("cancel", run=run_id)) == 1
    bench.until(run_id, status, intervals=WITHIN_A_MINUTE)
    assert bench.history(run_id) == [CREATED, SUBMITTED, RUNNING, status]


def test_f45_p24_a_job_that_completes_while_its_cancel_is_on_the_way_is_completed(
    bench: Bench,
) -> None:
    run_id = running(bench)
    assert_accepted(bench, run_id)
    with ThreadPoolExecutor(1) as beside, bench.to_workbench.hold(CANCEL, times=1):
        checked = beside.submit(bench.deliver)
        bench.to_workbench.wait_for_calls(CANCEL)
        bench.workbench.become("COMPLETED", run=run_id)
        bench.to_workbench.release()
        checked.result()

    assert [call.answered for call in bench.workbench.calls_of("cancel")] == [409]
    assert bench.run(run_id).status is RUNNING
    bench.until(run_id, COMPLETED, intervals=WITHIN_A_MINUTE)
    assert bench.history(run_id) == [CREATED, SUBMITTED, RUNNING, COMPLETED]


def test_f45_p24_a_cancel_between_a_checks_question_and_its_answer_does_not_change_the_end(
    bench: Bench,
) -> None:
    run_id = running(bench)
    with (
        bench.to_workbench.hold(STATUS, times=1),
        begin_check(bench, run_id) as function,
    ):
        asked = len(bench.to_workbench.calls_of(STATUS))
        bench.to_workbench.wait_for_calls(STATUS, count=asked + 1)
        assert_accepted(bench, run_id)
        bench.workbench.become("COMPLETED", run=run_id)
        bench.to_workbench.release()
        assert function.end().exit_code == 0

    bench.deliver()
    assert bench.history(run_id) == [CREATED, SUBMITTED, RUNNING, COMPLETED]
    assert not bench.workbench.calls_of("cancel")


def test_f45_p3_a_cancel_that_is_stored_just_before_a_completion_leaves_it_as_it_is(
    bench: Bench,
) -> None:
    """The check has its answer, and its write is on the way."""
    run_id = running(bench)
    bench.workbench.become("COMPLETED", run=run_id)
    moves = len(bench.to_database.calls_of(MOVE))
    with (
        bench.to_database.hold(MOVE, times=1),
        begin_check(bench, run_id) as function,
    ):
        bench.to_database.wait_for_calls(MOVE, count=moves + 1)
        assert_accepted(bench, run_id)
        bench.to_database.release()
        assert function.end().exit_code == 0

    assert bench.run(run_id).status is COMPLETED
    version = bench.run(run_id).version
    bench.deliver()
    bench.let_an_interval_pass()
    assert (bench.run(run_id).status, bench.run(run_id).version) == (COMPLETED, version)


# -- while CREATED --------------------------------------------------------------------------------


def test_f45_p25_a_run_cancelled_before_anybody_submitted_it_never_gets_a_job(
    bench: Bench,
) -> None:
    run_id = bench.post(headers=LATER).json["id"]

    answer = bench.command(run_id, "cancel")

    assert (answer.status, answer.json["status"]) == (200, "CANCELLED")
    bench.deliver()
    bench.let_an_interval_pass()
    assert bench.history(run_id) == [CREATED, CANCELLED]
    assert not bench.to_conductor.calls_of(START)
    assert bench.store.strays() == {}


def test_f45_p25_a_cancel_that_overtakes_the_first_submit_attempt_prevents_it(
    bench: Bench,
) -> None:
    run_id = bench.post(headers=LATER).json["id"]
    with (
        bench.to_database.hold(TAKE_LEASE, times=1),
        begin_check(bench, run_id) as function,
    ):
        bench.to_database.wait_for_calls(TAKE_LEASE)
        answer = bench.command(run_id, "cancel")
        assert (answer.status, answer.json["status"]) == (200, "CANCELLED")
        bench.to_database.release()
        assert function.end().exit_code == 0

    bench.deliver()
    bench.let_an_interval_pass()
    assert bench.history(run_id) == [CREATED, CANCELLED]
    assert not bench.to_conductor.calls_of(START)


def test_f45_p25_a_cancel_just_after_the_first_submit_attempt_ends_its_job(bench: Bench) -> None:
    """By the poller, which adopts the job that it has made."""
    run_id = bench.post(headers=LATER).json["id"]
    with (
        bench.to_conductor.hold(START, times=1),
        begin_check(bench, run_id) as function,
    ):
        bench.to_conductor.wait_for_calls(START)
        assert_accepted(bench, run_id)
        bench.to_conductor.release()
        assert function.end().exit_code == 0

    assert_cancelled_with_its_job(bench, run_id)


def test_f45_p25_a_cancel_during_the_apis_submission_ends_its_job(bench: Bench) -> None:
    event = api_event("POST", "/pipeline-run", bench.wish())
    with (
        bench.to_conductor.hold(START, times=1),
        begin_function("api.app.app", event, bench.environment) as function,
    ):
        bench.to_conductor.wait_for_calls(START)
        [run_id] = bench.run_ids()
        assert_accepted(bench, run_id)
        bench.deliver()
        assert bench.run(run_id).status is CREATED
        bench.to_conductor.release()
        assert function.end().answer["statusCode"] == 201

    assert_cancelled_with_its_job(bench, run_id)


def test_f45_p25_whoever_adopts_the_job_of_a_cancelled_run_cancels_it(bench: Bench) -> None:
    with bench.to_conductor.execute_and_drop(START, times=1):
        run_id = bench.post().json["id"]
    assert bench.run(run_id).status is CREATED

    assert_accepted(bench, run_id)

    assert_cancelled_with_its_job(bench, run_id)


def test_f45_p25_a_run_whose_api_died_before_it_was_submitted_is_cancelled_without_a_job(
    bench: Bench,
) -> None:
    event = api_event("POST", "/pipeline-run", bench.wish())
    end = run_function(
        "api.app.app", event, bench.environment, failpoints="before conductor.start=exit"
    )
    assert end.died, end.log
    [run_id] = bench.run_ids()

    assert_accepted(bench, run_id)
    bench.until(run_id, CANCELLED, intervals=WITHIN_A_MINUTE)

    assert bench.history(run_id) == [CREATED, CANCELLED]
    assert not bench.to_conductor.calls_of(START)
    assert not bench.workbench.jobs


def assert_cancelled_with_its_job(bench: Bench, run_id: int) -> None:
    bench.until(run_id, CANCELLED, intervals=2 * WITHIN_A_MINUTE)
    assert [status for status in bench.history(run_id) if status is not RUNNING] == [
        CREATED,
        SUBMITTED,
        CANCELLED,
    ]
    [job] = bench.workbench.jobs
    assert job.id == bench.run(run_id).workbench_job_id
    assert job.cancel_requested


# -- the Workbench fails --------------------------------------------------------------------------


def test_f45_p23_a_cancel_that_was_answered_500_five_times_is_sent_a_sixth_time(
    bench: Bench,
) -> None:
    run_id = running(bench)
    bench.workbench.script(run=run_id, cancel=[Answer(500, "not now")] * 5)

    assert_accepted(bench, run_id)
    bench.deliver()
    for tries in range(1, 6):
        assert len(bench.workbench.calls_of("cancel", run=run_id)) == tries
        assert bench.run(run_id).status is RUNNING
        bench.move_time(POLL_INTERVAL)
        bench.check(check_of(bench, run_id))

    bench.until(run_id, CANCELLED, intervals=WITHIN_A_MINUTE)
    answered = [call.answered for call in bench.workbench.calls_of("cancel", run=run_id)]
    assert answered == [500] * 5 + [202]
    assert bench.history(run_id) == [CREATED, SUBMITTED, RUNNING, CANCELLED]


def test_f45_p23_a_cancel_that_is_never_confirmed_fails_the_run_and_says_its_job_may_run(
    bench: Bench,
) -> None:
    run_id = running(bench)
    job_id = bench.run(run_id).workbench_job_id
    bench.workbench.script(run=run_id, cancel=[always(Answer(500, "never"))])
    assert_accepted(bench, run_id)
    bench.deliver()
    assert bench.workbench.calls_of("cancel", run=run_id)

    bench.move_time(CANCEL_DEADLINE - 2 * POLL_INTERVAL)
    bench.let_an_interval_pass()
    assert bench.run(run_id).status is RUNNING
    bench.let_an_interval_pass()

    run = bench.run(run_id)
    assert run.status is FAILED
    assert run.error
    assert run.error.category is ErrorCategory.LOST
    told = f"The cancel was not confirmed within 15 minutes; job {job_id} may still run"
    assert run.error.message == told

    bench.workbench.script(run=run_id, cancel=[])  # It is well again.
    bench.move_time(A_MINUTE)
    bench.hunt()
    [job] = bench.workbench.jobs
    assert job.status == "CANCELLED"
    assert bench.store.strays_cancelled() == {run_id: 1}
