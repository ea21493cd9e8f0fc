"""P8, P9: jobs that no run wants, of a Workbench that makes a new one of every submit."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from fault_proxy import http
from runs.status import PipelineRunStatus
from scripted_workbench import Answer, execute_and_drop
from wired import logged

if TYPE_CHECKING:
    from fault_bench import Bench

SUBMITTED, RUNNING = PipelineRunStatus.SUBMITTED, PipelineRunStatus.RUNNING
COMPLETED, FAILED = PipelineRunStatus.COMPLETED, PipelineRunStatus.FAILED
START = http("POST", "/api/workflow")
SUBMIT = http("POST", "/batch/submit")
FIRST_LOOK = timedelta(minutes=1)
SECOND_LOOK = timedelta(minutes=15)
NOT_NOW = Answer(503, {"error": "The catalogue is being rebuilt."})


def submitted_twice(bench: Bench) -> int:
    """A run with a second job: the answer about its first was lost, and none could be asked for."""
    bench.workbench.honours_keys = False
    bench.workbench.script(submit=[execute_and_drop()], find=[NOT_NOW])
    answer = bench.post()
    assert answer.status == 202, answer.text
    run_id = int(answer.json["id"])
    bench.let_an_interval_pass()  # The submit lease is over.
    run = bench.run(run_id)
    first, second = bench.workbench.jobs_of(run_id)
    assert (run.status, run.workbench_job_id) == (SUBMITTED, second.id)
    assert not first.has_ended
    bench.workbench.script(find=[])
    bench.workbench.become("RUNNING", run=run_id)
    return run_id


def hunt(bench: Bench, *, after: timedelta) -> list[str]:
    """The jobs that a hunt reports as cancelled, so much later; the runs are checked as usual."""
    bench.move_time(after)
    bench.sweep()
    bench.deliver()
    with logged() as log:
        bench.hunt()
    return [
        line["workbench_job_id"]
        for line in log.lines
        if (line["message"], line["level"]) == ("stray_job_cancelled", "WARNING")
    ]


def cancels(bench: Bench) -> list[str | None]:
    """The jobs that the Workbench was asked to cancel."""
    return [call.job_id for call in bench.workbench.calls_of("cancel")]


def completes(bench: Bench, run_id: int) -> None:
    """The run goes on to its end, by its own job."""
    own = bench.run(run_id).workbench_job_id
    bench.workbench.become("COMPLETED", job=own)
    bench.let_an_interval_pass()
    assert bench.run(run_id).status is COMPLETED
    bench.relay()


def test_p8_p9_an_extra_job_is_found_by_its_key_cancelled_and_reported(bench: Bench) -> None:
    run_id = submitted_twice(bench)
    first, second = bench.workbench.jobs_of(run_id)

    assert hunt(bench, after=timedelta(seconds=10)) == []  # Its time hasn't come.
    assert hunt(bench, after=FIRST_LOOK) == [first.id]

    assert cancels(bench) == [first.id]
    assert bench.store.strays_cancelled() == {run_id: 1}
    assert bench.store.strays() == {run_id: "The Workbench's answer to an earlier call was lost"}
    assert [job.status for job in bench.workbench.jobs_of(run_id)] == ["CANCELLED", "RUNNING"]
    assert bench.run(run_id).workbench_job_id == second.id
    completes(bench, run_id)


def test_p9_an_extra_job_that_comes_late_is_found_by_the_second_look(bench: Bench) -> None:
    run_id = submitted_twice(bench)
    first, _ = bench.workbench.jobs_of(run_id)
    assert hunt(bench, after=FIRST_LOOK) == [first.id]

    [again] = bench.workbench.calls_of("submit", run=run_id)[:1]
    httpx.post(
        f"{bench.workbench.url}/batch/submit",
        content=again.raw_body,
        headers={"Idempotency-Key": bench.run(run_id).correlation_id},
    ).raise_for_status()
    late = bench.workbench.jobs_of(run_id)[-1]

    assert hunt(bench, after=FIRST_LOOK) == []
    assert hunt(bench, after=SECOND_LOOK - FIRST_LOOK) == [late.id]
    assert bench.store.strays_cancelled() == {run_id: 2}
    assert hunt(bench, after=SECOND_LOOK) == []
    completes(bench, run_id)


def test_p9_an_extra_job_stays_noted_where_the_workbench_cannot_be_asked_by_key(
    bench: Bench,
) -> None:
    bench.waived[9] = "Without the client reference nobody can tell which job is the extra one."
    bench.workbench.client_reference = False
    run_id = submitted_twice(bench)

    assert hunt(bench, after=FIRST_LOOK) == []
    assert hunt(bench, after=SECOND_LOOK) == []

    assert cancels(bench) == []
    assert bench.store.strays() == {run_id: "The Workbench's answer to an earlier call was lost"}
    assert bench.store.strays_cancelled() == {run_id: 0}
    completes(bench, run_id)


@pytest.mark.parametrize("client_reference", [True, False])
def test_p8_p9_of_two_workflows_with_two_jobs_the_extra_one_is_known_and_cancelled(
    bench: Bench, *, client_reference: bool
) -> None:
    bench.workbench.honours_keys = False
    bench.workbench.client_reference = client_reference
    bench.settings["SUBMIT_WAIT_SECONDS"] = "1"
    with bench.to_conductor.latency(1.2, START, times=1), bench.to_conductor.duplicate(START):
        answer = bench.post()
        assert answer.status == 202, answer.text
        run_id = int(answer.json["id"])
        bench.workbench.wait_for_calls("submit", run=run_id, count=2)
        bench.to_workbench.wait_for_calls(lambda call: SUBMIT(call) and call.end is not None)

    bench.let_an_interval_pass()
    run = bench.run(run_id)
    [extra] = [job for job in bench.workbench.jobs_of(run_id) if job.id != run.workbench_job_id]
    assert run.status is SUBMITTED
    assert hunt(bench, after=FIRST_LOOK) == [extra.id]

    assert cancels(bench) == [extra.id]
    completes(bench, run_id)


def test_p8_p9_a_submit_that_arrives_twice_unseen_leaves_no_extra_job(bench: Bench) -> None:
    """As Conductor's HTTP client may send it: nobody but the Workbench knows."""
    bench.workbench.honours_keys = False
    bench.settings["WORKBENCH_HONOURS_KEYS"] = "false"
    with bench.to_workbench.duplicate(SUBMIT, times=1):
        run_id = bench.submitted()
    bench.workbench.become("RUNNING", run=run_id)
    extra, own = bench.workbench.jobs_of(run_id)
    assert bench.run(run_id).workbench_job_id == own.id

    assert hunt(bench, after=FIRST_LOOK) == [extra.id]

    assert cancels(bench) == [extra.id]
    completes(bench, run_id)


def test_p9_the_job_of_a_run_that_failed_though_it_was_made_is_cancelled(bench: Bench) -> None:
    bench.workbench.script(submit=[Answer(500, executes=True)])
    answer = bench.post()
    run_id = answer.problem(500, "submission_failed")["pipeline_run_id"]
    [job] = bench.workbench.jobs_of(run_id)

    assert bench.run(run_id).status is FAILED
    assert hunt(bench, after=FIRST_LOOK) == [job.id]

    assert [one.status for one in bench.workbench.jobs_of(run_id)] == ["CANCELLED"]
    assert bench.run(run_id).status is FAILED
    bench.relay()


def test_p9_a_hunt_that_gets_no_answer_is_repeated_a_minute_later(bench: Bench) -> None:
    run_id = submitted_twice(bench)
    first, _ = bench.workbench.jobs_of(run_id)
    bench.workbench.script(find=[NOT_NOW], cancel=[NOT_NOW])

    assert hunt(bench, after=FIRST_LOOK) == []  # It couldn't be asked …
    assert hunt(bench, after=FIRST_LOOK) == []  # … and didn't take the cancel.
    assert hunt(bench, after=FIRST_LOOK) == [first.id]

    assert bench.store.strays_cancelled() == {run_id: 1}
    completes(bench, run_id)
