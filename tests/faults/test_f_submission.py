"""F1-F6, F9, F10, F12-F14: a submission whose API, database, Conductor or Workbench fails."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from failpoints import api_event, begin_function, run_function
from fault_bench import POLL_INTERVAL, TENANT, BenchWiring
from fault_proxy import http, statement
from function_process import Function, FunctionPool
from runs.errors import IdempotencyKeyReused
from runs.model import ErrorCategory, NewRun
from runs.status import PipelineMode, PipelineRunStatus
from scripted_workbench import Answer, html, redirect

if TYPE_CHECKING:
    from collections.abc import Callable

    from fault_bench import Bench
    from fault_proxy import Where
    from runs.ports import Recorded

CREATED, SUBMITTED = PipelineRunStatus.CREATED, PipelineRunStatus.SUBMITTED
FAILED = PipelineRunStatus.FAILED
KEY = "tonight"
A_MINUTE = timedelta(minutes=1)
START = http("POST", "/api/workflow")
LOOK = http("GET", "/api/workflow/*")
INSERT = statement("INSERT INTO idempotency_keys")
WITHIN_A_MINUTE = 2
"""Intervals."""
SUBMIT_DEADLINE = timedelta(seconds=300)
PROCESSES = 8
POSTS = 50
DEADLINE_SECONDS = 20
LOOK_AGAIN_SECONDS = 0.05


def post_event(body: dict[str, Any], *, key: str = KEY) -> dict[str, Any]:
    return api_event("POST", "/pipeline-run", body, headers={"Idempotency-Key": key})


def assert_one_run_with_one_job(bench: Bench, run_id: int) -> None:
    """There is no other run, key or job, and the run has the job."""
    assert bench.run_ids() == [run_id]
    assert bench.store.execute("SELECT run_id FROM idempotency_keys") == [(run_id,)]
    [job] = bench.workbench.jobs
    assert (job.run_id, job.id) == (run_id, bench.run(run_id).workbench_job_id)


# -- the API dies ---------------------------------------------------------------------------------


def dies_before_the_insert(bench: Bench, event: dict[str, Any]) -> None:
    end = run_function(
        "api.app.app", event, bench.environment, failpoints="before runs.record=exit"
    )
    assert end.died, end.log


def dies_in_the_insert(bench: Bench, event: dict[str, Any]) -> None:
    """Its statement waits for a lock, and gives up when nobody is there any more."""
    waiting = """
        SELECT 1 FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """
    with bench.store.owner.connect() as other:
        other.execution_options(isolation_level="READ COMMITTED")
        with other.begin(), begin_function("api.app.app", event, bench.environment) as function:
            other.exec_driver_sql("LOCK TABLE idempotency_keys")
            wait_until(lambda: bool(bench.store.execute(waiting)))
            assert function.kill().died
            wait_until(lambda: not bench.store.execute(waiting))


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(LOOK_AGAIN_SECONDS)  # between two looks


@pytest.mark.parametrize("die", [dies_before_the_insert, dies_in_the_insert])
def test_f1_p7_an_api_that_dies_before_its_insert_commits_leaves_nothing_and_a_retry_makes_one_run(
    bench: Bench, die: Callable[[Bench, dict[str, Any]], None]
) -> None:
    body = bench.wish()
    die(bench, post_event(body))

    assert bench.run_ids() == []
    assert bench.store.execute("SELECT * FROM idempotency_keys") == []
    assert not bench.to_conductor.calls

    answer = bench.post(key=KEY, **body)
    assert answer.status == 201
    assert "Idempotent-Replayed" not in answer.headers
    assert_one_run_with_one_job(bench, answer.json["id"])


def test_f2_p7_p11_a_run_whose_api_died_after_the_commit_is_resolved_within_a_minute(
    bench: Bench,
) -> None:
    body = bench.wish()
    end = run_function(
        "api.app.app", post_event(body), bench.environment, failpoints="after runs.record=exit"
    )
    assert end.died, end.log
    [run_id] = bench.run_ids()
    assert bench.run(run_id).status is CREATED
    assert not bench.to_conductor.calls_of(START)

    early = bench.post(key=KEY, **body)
    assert (early.status, early.json["id"], early.json["status"]) == (202, run_id, "CREATED")
    assert early.headers["Idempotent-Replayed"] == "true"

    bench.until(run_id, SUBMITTED, intervals=WITHIN_A_MINUTE)
    late = bench.post(key=KEY, **body)
    assert (late.status, late.json["id"], late.json["status"]) == (200, run_id, "SUBMITTED")
    assert bench.history(run_id) == [CREATED, SUBMITTED]
    assert_one_run_with_one_job(bench, run_id)
    assert len(bench.to_conductor.calls_of(START)) == 1


# -- the database's answer is lost ----------------------------------------------------------------


def test_f3_p7_a_commit_whose_answer_was_lost_is_read_again_by_its_key(bench: Bench) -> None:
    body = bench.wish()
    with bench.to_database.execute_and_drop(INSERT, times=1):
        answer = bench.post(key=KEY, **body)

    [run_id] = bench.run_ids()
    assert (answer.status, answer.json["id"]) == (202, run_id)
    again = bench.post(key=KEY, **body)
    assert (again.status, again.json["id"]) == (202, run_id)

    bench.until(run_id, SUBMITTED, intervals=WITHIN_A_MINUTE)
    assert bench.history(run_id) == [CREATED, SUBMITTED]
    assert_one_run_with_one_job(bench, run_id)


def test_f3_p7_a_caller_without_a_key_gets_one_run_all_the_same(bench: Bench) -> None:
    with bench.to_database.execute_and_drop(INSERT, times=1):
        answer = bench.post()

    [run_id] = bench.run_ids()
    assert (answer.status, answer.json["id"]) == (202, run_id)
    bench.until(run_id, SUBMITTED, intervals=WITHIN_A_MINUTE)
    assert_one_run_with_one_job(bench, run_id)


def test_f3_p7_if_no_answer_comes_at_all_the_caller_may_ask_again_with_the_key(
    bench: Bench,
) -> None:
    body = bench.wish()
    with bench.to_database.execute_and_drop(INSERT, times=2):
        answer = bench.post(key=KEY, **body)
    answer.problem(503, "database_unavailable")
    assert "Retry-After" in answer.headers
    [run_id] = bench.run_ids()

    again = bench.post(key=KEY, **body)
    assert (again.status, again.json["id"]) == (202, run_id)
    bench.until(run_id, SUBMITTED, intervals=WITHIN_A_MINUTE)
    assert_one_run_with_one_job(bench, run_id)


# -- Conductor fails ------------------------------------------------------------------------------


def test_f4_p12_a_first_submission_without_conductor_fails_at_once(bench: Bench) -> None:
    with bench.to_conductor.refuse():
        answer = bench.post(key=KEY)

    problem = answer.problem(500, "submission_failed")
    assert problem["detail"].startswith("Batch workflow submission failed: Conductor can't be re")
    run = bench.run(problem["pipeline_run_id"])
    assert (run.status, run.submit_attempts) == (FAILED, 1)
    assert run.error
    assert run.error.category is ErrorCategory.PLATFORM
    assert problem["detail"].endswith(run.error.message)
    assert not bench.workbench.calls


def test_f4_p11_the_poller_waits_for_conductor_until_the_submit_deadline(bench: Bench) -> None:
    run_id = bench.post(headers={"Prefer": "respond-async"}).json["id"]
    with bench.to_conductor.refuse():
        for wait in (timedelta(0), SUBMIT_DEADLINE - 3 * POLL_INTERVAL):
            bench.move_time(wait)
            bench.let_an_interval_pass()
            run = bench.run(run_id)
            assert run.status is CREATED
            assert run.observation.last_error
            assert run.observation.last_error.startswith("Conductor can't be reached")
        bench.let_an_interval_pass()

    run = bench.run(run_id)
    assert run.status is FAILED
    assert run.error
    assert run.error.category is ErrorCategory.LOST
    told = f"It is not known whether the Workbench started a job for run {run_id}"
    assert run.error.message == told
    assert run_id in bench.store.strays()
    assert not bench.workbench.jobs


def test_f4_p11_a_run_that_waits_for_conductor_goes_on_when_it_is_back(bench: Bench) -> None:
    run_id = bench.post(headers={"Prefer": "respond-async"}).json["id"]
    with bench.to_conductor.refuse():
        bench.let_an_interval_pass()
        assert bench.run(run_id).status is CREATED

    bench.until(run_id, SUBMITTED, intervals=WITHIN_A_MINUTE)
    assert_one_run_with_one_job(bench, run_id)


def test_f5_p12_a_workflow_whose_start_was_answered_to_nobody_is_found_by_its_correlation_id(
    bench: Bench,
) -> None:
    with bench.to_conductor.execute_and_drop(START, times=1):
        answer = bench.post(key=KEY)
    assert (answer.status, answer.json["status"]) == (202, "CREATED")
    run_id = answer.json["id"]
    [workflow] = bench.workflows(run_id)

    run = bench.until(run_id, SUBMITTED, intervals=WITHIN_A_MINUTE)

    assert run.conductor_workflow_id == workflow.workflow_id
    assert len(bench.to_conductor.calls_of(START)) == 1
    assert_one_run_with_one_job(bench, run_id)


@pytest.mark.parametrize("late", [START, LOOK], ids=["the start", "every look"])
def test_f6_p12_the_api_does_not_wait_for_a_conductor_that_is_late(
    bench: Bench, late: Where
) -> None:
    """By a shorter wait than the default of 10 s, so that the test needs not wait for that."""
    wait_seconds = 1
    bench.settings["SUBMIT_WAIT_SECONDS"] = str(wait_seconds)
    with bench.to_conductor.hold(late):
        began = time.monotonic()
        answer = bench.post(key=KEY)
        assert time.monotonic() - began < wait_seconds + 2
        assert (answer.status, answer.json["status"]) == (202, "CREATED")

    run_id = answer.json["id"]
    bench.workbench.wait_for_calls("submit", run=run_id)
    bench.until(run_id, SUBMITTED, intervals=WITHIN_A_MINUTE)
    assert len(bench.to_conductor.calls_of(START)) == 1
    assert_one_run_with_one_job(bench, run_id)


# -- the Workbench's answers ----------------------------------------------------------------------

RESENT = {
    "503": Answer(503, "busy"),
    "429": Answer(429, "too many"),
    "503 though it made the job": Answer(503, "busy", executes=True),
}


@pytest.mark.parametrize("first", RESENT)
def test_f9_p8_a_submit_that_conductor_sends_again_has_the_same_key_and_makes_one_job(
    bench: Bench, first: str
) -> None:
    bench.workbench.script(submit=[RESENT[first]])

    run_id = bench.submitted()

    one, other = bench.workbench.calls_of("submit", run=run_id)
    assert one.idempotency_key == other.idempotency_key == bench.run(run_id).correlation_id
    assert one.raw_body == other.raw_body
    assert_one_run_with_one_job(bench, run_id)


PAGE = "x" * 5_000
NO_JOBS: dict[str, Answer] = {
    "a redirect": redirect("/health"),  # Conductor follows it, by GET.
    "HTML": Answer(200, f"<html>{PAGE}</html>", content_type="text/html"),
    "{}": Answer(200, {}),
    "null": Answer(200, {"workbench_job_id": None}),
    "a number": Answer(200, {"workbench_job_id": 17}),
    "a path": Answer(200, {"workbench_job_id": "../x"}),
    "300 characters": Answer(200, {"workbench_job_id": "x" * 300}),
}
QUOTED = {
    "a redirect": "",
    "HTML": "<html>xxx",
    "{}": "",
    "null": "",
    "a number": "17",
    "a path": "../x",
    "300 characters": "xxx",
}


@pytest.mark.parametrize("name", NO_JOBS)
def test_f10_p12_an_answer_that_names_no_job_fails_the_run_and_is_quoted_in_part(
    bench: Bench, name: str
) -> None:
    bench.workbench.script(submit=[NO_JOBS[name]])

    answer = bench.post()

    problem = answer.problem(500, "submission_failed")
    run = bench.run(problem["pipeline_run_id"])
    assert bench.history(run.id) == [CREATED, FAILED]
    assert run.workbench_job_id is None
    assert run.error
    assert run.error.category is ErrorCategory.UPSTREAM
    assert problem["detail"] == f"Batch workflow submission failed: {run.error.message}"
    said, quote = run.error.message.split(", but ")
    assert said == "The Workbench's answer has no valid workbench_job_id"
    assert QUOTED[name] in quote
    assert len(quote) <= 200
    assert len(bench.workbench.calls_of("submit")) == 1


def test_f10_p10_a_redirect_that_leads_to_another_runs_job_does_not_make_it_this_runs(
    bench: Bench,
) -> None:
    theirs = bench.run(bench.submitted()).workbench_job_id
    bench.workbench.script(submit=[redirect(f"/batch/status/{theirs}")])

    answer = bench.post()

    problem = answer.problem(500, "submission_failed")
    assert bench.history(problem["pipeline_run_id"]) == [CREATED, FAILED]


@pytest.mark.parametrize("answer", [Answer(200, {}, executes=True), html()], ids=["job", "none"])
def test_f10_p9_a_job_behind_an_answer_that_does_not_name_it_is_cancelled(
    bench: Bench, answer: Answer
) -> None:
    bench.workbench.script(submit=[answer])
    run_id = bench.post().problem(500, "submission_failed")["pipeline_run_id"]
    assert run_id in bench.store.strays()

    bench.move_time(A_MINUTE)
    bench.hunt()

    jobs = bench.workbench.jobs
    assert [job.status for job in jobs] == ["CANCELLED"] * len(jobs)
    assert bench.store.strays_cancelled() == {run_id: len(jobs)}
    assert len(jobs) == (1 if answer.takes_effect else 0)


@pytest.mark.parametrize("status", [400, 422])
def test_f12_p12_a_refused_submit_fails_the_run_at_once_with_the_workbenchs_message(
    bench: Bench, status: int
) -> None:
    bench.workbench.script(submit=[Answer(status, {"error": "no such bucket: attic"})])

    answer = bench.post()

    problem = answer.problem(500, "submission_failed")
    run = bench.run(problem["pipeline_run_id"])
    assert bench.history(run.id) == [CREATED, FAILED]
    assert run.error
    assert run.error.message.startswith(f"The Workbench answered {status} ")
    assert "no such bucket: attic" in run.error.message
    assert problem["detail"] == f"Batch workflow submission failed: {run.error.message}"
    assert len(bench.workbench.calls_of("submit")) == 1
    assert bench.store.strays() == {}


# -- one key --------------------------------------------------------------------------------------


def test_f13_p7_fifty_posts_with_one_key_by_eight_processes_make_one_run(bench: Bench) -> None:
    """Eight at once: fifty processes would take two cores a minute to start."""
    event = post_event(bench.wish())
    function = Function(handler="api.app.app", variables=bench.environment)
    with FunctionPool(function) as pool, ThreadPoolExecutor(PROCESSES) as side_by_side:
        pool.warm(PROCESSES)
        answers = list(side_by_side.map(pool.invoke, [event] * POSTS))
        assert len(pool.environments) == PROCESSES

    [run_id] = bench.run_ids()
    statuses = sorted(answer["statusCode"] for answer in answers)
    assert statuses.count(201) == 1
    assert set(statuses) <= {200, 201, 202}
    assert all(f'"id":{run_id},' in answer["body"].replace(" ", "") for answer in answers)
    replayed = [answer["headers"].get("Idempotent-Replayed") for answer in answers]
    assert replayed.count("true") == POSTS - 1
    assert_one_run_with_one_job(bench, run_id)
    assert len(bench.to_conductor.calls_of(START)) == 1


def test_f13_p7_fifty_submissions_with_one_key_at_the_very_same_moment_make_one_run(
    bench: Bench,
) -> None:
    """Fifty environments with a connection each, in threads: so many can begin at once."""
    new = new_run(bench.pipeline())
    begin = Barrier(POSTS)

    def submit(wiring: BenchWiring) -> Recorded:
        wiring.runs.ping()
        begin.wait()
        return submit_by(wiring, new)

    with ExitStack() as stack, ThreadPoolExecutor(POSTS) as side_by_side:
        wirings = [
            stack.enter_context(closing(BenchWiring(bench.environment))) for _ in range(POSTS)
        ]
        recorded = list(side_by_side.map(submit, wirings))

    [run_id] = bench.run_ids()
    assert {one.run.id for one in recorded} == {run_id}
    assert [one.replayed for one in recorded].count(False) == 1
    assert_one_run_with_one_job(bench, run_id)
    assert len(bench.to_conductor.calls_of(START)) == 1


def test_f14_p7_a_key_with_another_body_is_refused_and_nothing_written(bench: Bench) -> None:
    body = bench.wish()
    run_id = bench.submitted(key=KEY, **body)

    answer = bench.post(key=KEY, **body | {"output_path_prefix": "elsewhere/"})

    problem = answer.problem(422, "idempotency_key_reused")
    assert str(run_id) in problem["detail"]
    assert_one_run_with_one_job(bench, run_id)
    assert len(bench.to_conductor.calls_of(START)) == 1


def test_f14_p7_of_two_bodies_with_one_key_at_the_same_moment_one_is_refused(
    bench: Bench,
) -> None:
    pipeline_id = bench.pipeline()
    begin = Barrier(2)

    def submit(wiring: BenchWiring, output: str) -> Recorded | IdempotencyKeyReused:
        wiring.runs.ping()
        begin.wait()
        try:
            return submit_by(wiring, new_run(pipeline_id, output=output), fingerprint=output)
        except IdempotencyKeyReused as refused:
            return refused

    with ExitStack() as stack, ThreadPoolExecutor(2) as side_by_side:
        wirings = [stack.enter_context(closing(BenchWiring(bench.environment))) for _ in "ab"]
        ends = list(side_by_side.map(submit, wirings, ["a/", "b/"]))

    assert sum(isinstance(end, IdempotencyKeyReused) for end in ends) == 1
    [run_id] = bench.run_ids()
    assert_one_run_with_one_job(bench, run_id)


def test_f14_p29_the_same_key_of_another_tenant_makes_a_run_of_its_own(bench: Bench) -> None:
    """By the use case: the API knows one tenant as yet."""
    run_id = bench.submitted(key=KEY)
    theirs = bench.store.pipelines.create_pipeline(
        tenant_id="another",
        name="theirs",
        mode=PipelineMode.BATCH,
        workflow_name="batch_pipeline_workflow",
        workflow_version=1,
    )

    recorded = submit_by(bench.wiring, new_run(theirs.id, tenant_id="another"))

    assert not recorded.replayed
    assert recorded.run.status is SUBMITTED
    assert bench.run_ids() == [run_id, recorded.run.id]
    assert len(bench.workbench.jobs) == 2
    assert bench.run(run_id).workbench_job_id != recorded.run.workbench_job_id


def new_run(pipeline_id: int, *, tenant_id: str = TENANT, output: str = "out/") -> NewRun:
    return NewRun(
        tenant_id=tenant_id,
        pipeline_id=pipeline_id,
        input_path_prefix="in/",
        output_path_prefix=output,
        report_path_prefix=None,
        parameters=None,
        tags={},
    )


def submit_by(wiring: BenchWiring, new: NewRun, *, fingerprint: str = "one") -> Recorded:
    return wiring.submission.submit(new, key=KEY, fingerprint=fingerprint, respond_async=False)
