"""F7, F8, F11: submissions that leave it open whether a job exists, and which one counts."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from fault_proxy import http
from runs.ports import WorkflowStatus
from runs.status import PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fault_bench import Bench
    from real_parts import RealPart

CREATED, SUBMITTED = PipelineRunStatus.CREATED, PipelineRunStatus.SUBMITTED
START = http("POST", "/api/workflow")
LOOK = http("GET", "/api/workflow/*")
SUBMIT = http("POST", "/batch/submit")
WITHIN_A_MINUTE = 2
"""Intervals."""
A_MINUTE = timedelta(minutes=1)
BACK_SECONDS = 120
"""What a killed Conductor takes, at the very most, to end the workflow that it left behind."""

honours_keys = pytest.mark.parametrize("honours_keys", [True, False], ids=["keys", "no keys"])
client_reference = pytest.mark.parametrize(
    "client_reference", [True, False], ids=["reference", "no reference"]
)


@contextmanager
def nobody_watches(bench: Bench) -> Iterator[None]:
    """The API never sees what becomes of the workflows that it starts, and soon gives up."""
    bench.settings["SUBMIT_WAIT_SECONDS"] = "1"
    with bench.to_conductor.hold(LOOK):
        yield


def left_created(bench: Bench) -> int:
    """The id of a run whose submission is not known to have succeeded or failed."""
    answer = bench.post()
    assert (answer.status, answer.json["status"]) == (202, "CREATED"), answer.text
    return int(answer.json["id"])


def assert_the_only_job_left(bench: Bench, run_id: int, *, extra: int) -> None:
    """The hunt leaves the run its job, cancels all others of it, and has counted them."""
    bench.move_time(A_MINUTE)
    bench.hunt()
    kept = bench.run(run_id).workbench_job_id
    jobs = {job.id: job.cancel_requested for job in bench.workbench.jobs_of(run_id)}
    assert kept in jobs
    assert jobs == {job_id: job_id != kept for job_id in jobs}
    assert len(jobs) == 1 + extra
    assert bench.store.strays_cancelled().get(run_id, 0) == extra


# -- two workflows --------------------------------------------------------------------------------


def test_f7_p8_a_start_that_reaches_conductor_twice_makes_one_job(bench: Bench) -> None:
    with bench.to_conductor.duplicate(START, times=1):
        run_id = bench.submitted()

    one, other = bench.workbench.wait_for_calls("submit", count=2)
    assert one.idempotency_key == other.idempotency_key
    assert len(bench.workflows(run_id)) == 2
    [job] = bench.workbench.jobs
    assert bench.run(run_id).workbench_job_id == job.id


def test_f7_p8_p9_without_keys_the_second_job_of_a_doubled_start_is_found_and_cancelled(
    bench: Bench,
) -> None:
    """Nothing tells of the second workflow, so that it has to be said that keys aren't honoured."""
    bench.workbench.honours_keys = False
    bench.settings["WORKBENCH_HONOURS_KEYS"] = "false"
    with bench.to_conductor.duplicate(START, times=1):
        run_id = bench.submitted()
    bench.workbench.wait_for_calls("submit", count=2)

    assert_the_only_job_left(bench, run_id, extra=1)


@honours_keys
def test_f7_p8_p9_the_workflow_that_is_under_way_when_another_gave_the_job_is_terminated(
    bench: Bench, *, honours_keys: bool
) -> None:
    bench.workbench.honours_keys = honours_keys
    with bench.to_workbench.hold(SUBMIT, times=1):
        with nobody_watches(bench), bench.to_conductor.duplicate(START, times=1):
            run_id = left_created(bench)
        bench.workbench.wait_for_calls("submit")
        bench.until(run_id, SUBMITTED, intervals=WITHIN_A_MINUTE)
        statuses = sorted(workflow.status for workflow in bench.workflows(run_id))
        assert statuses == [WorkflowStatus.COMPLETED, WorkflowStatus.TERMINATED]
    bench.workbench.wait_for_calls("submit", count=2)

    assert_the_only_job_left(bench, run_id, extra=0 if honours_keys else 1)


@client_reference
def test_f7_p8_p9_of_two_jobs_one_is_kept_and_the_other_cancelled_and_counted(
    bench: Bench, *, client_reference: bool
) -> None:
    bench.workbench.honours_keys = False
    bench.workbench.client_reference = client_reference
    with nobody_watches(bench), bench.to_conductor.duplicate(START, times=1):
        run_id = left_created(bench)
        bench.workbench.wait_for_calls("submit", count=2)

    bench.until(run_id, SUBMITTED, intervals=WITHIN_A_MINUTE)

    assert_the_only_job_left(bench, run_id, extra=1)


@honours_keys
def test_f7_p8_p9_a_start_that_arrives_after_it_was_repeated_leaves_no_second_job(
    bench: Bench, *, honours_keys: bool
) -> None:
    bench.workbench.honours_keys = honours_keys
    bench.settings["SUBMIT_WAIT_SECONDS"] = "1"
    with bench.to_conductor.hold(START, times=1):
        run_id = left_created(bench)
        bench.until(run_id, SUBMITTED, intervals=WITHIN_A_MINUTE)
        assert len(bench.workbench.jobs) == 1
    bench.workbench.wait_for_calls("submit", count=2)

    assert_the_only_job_left(bench, run_id, extra=0 if honours_keys else 1)


# -- Conductor dies -------------------------------------------------------------------------------


@client_reference
@pytest.mark.prove  # Conductor boots again, and ends the workflow when its 20 s are over.
def test_f8_p8_p9_a_conductor_killed_between_its_post_and_its_record_never_leads_to_a_second_job(
    bench: Bench, conductor_part: RealPart, *, client_reference: bool
) -> None:
    bench.workbench.client_reference = client_reference
    bench.settings["SUBMIT_DEADLINE_SECONDS"] = "86400"  # Intervals are quicker than Conductor.
    with bench.to_workbench.drip(1, SUBMIT, times=1):
        with nobody_watches(bench):
            run_id = left_created(bench)
        [job] = bench.workbench.jobs
        conductor_part.kill()
    try:
        bench.let_an_interval_pass()
        assert bench.run(run_id).status is CREATED
    finally:
        conductor_part.up()

    until = time.monotonic() + BACK_SECONDS
    while bench.run(run_id).status is CREATED:
        assert time.monotonic() < until, bench.run(run_id)
        bench.let_an_interval_pass()
        workflows = bench.workflows(run_id)
        assert len(workflows) == 1 or workflows[-1].status is WorkflowStatus.TIMED_OUT

    run = bench.run(run_id)
    assert (run.status, run.workbench_job_id) == (SUBMITTED, job.id)
    assert len(bench.workbench.jobs_of(run_id)) == 1
    assert len(bench.to_conductor.calls_of(START)) == (1 if client_reference else 2)


# -- the Workbench's answer is lost ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("honours_keys", "client_reference"),
    [(True, True), (True, False), (False, True)],
    ids=["keys and reference", "keys", "reference"],
)
def test_f11_p9_a_job_whose_answer_was_lost_is_adopted(
    bench: Bench, *, honours_keys: bool, client_reference: bool
) -> None:
    bench.workbench.honours_keys = honours_keys
    bench.workbench.client_reference = client_reference
    with bench.to_workbench.execute_and_drop(SUBMIT, times=1):
        run_id = left_created(bench)
    [job] = bench.workbench.jobs

    run = bench.until(run_id, SUBMITTED, intervals=WITHIN_A_MINUTE)

    assert run.workbench_job_id == job.id
    assert bench.history(run_id) == [CREATED, SUBMITTED]
    keys = [call.idempotency_key for call in bench.workbench.calls_of("submit")]
    assert keys == [run.correlation_id] * (1 if client_reference else 2)
    assert_the_only_job_left(bench, run_id, extra=0)
