"""What becomes of a submission when the Workbench, Conductor or the API fails, for real."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from scripted_workbench import Answer, execute_and_drop, html, late

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chain import Chain
    from scripted_workbench import Item

FAILURES: dict[str, tuple[Item, str]] = {
    "500": (Answer(500, "disk full"), "disk full"),
    "400": (Answer(400, {"error": "no such bucket"}), "no such bucket"),
    "HTML": (html(), "no valid workbench_job_id"),
    "no id": (Answer(200, {}), "no valid workbench_job_id"),
    "null": (Answer(200, {"workbench_job_id": None}), "no valid workbench_job_id"),
    "a path": (Answer(200, {"workbench_job_id": "../x"}), "no valid workbench_job_id"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_p12_an_answer_that_is_no_job_fails_the_run(chain: Chain, name: str) -> None:
    answer_of_workbench, told = FAILURES[name]
    chain.workbench.script(submit=[answer_of_workbench])
    answer = chain.post()
    assert answer.status_code == 500
    problem = answer.json()
    assert problem["detail"].startswith("Batch workflow submission failed: ")
    assert told in problem["detail"]
    run = chain.run(problem["pipeline_run_id"])
    assert run["status"] == "FAILED"
    assert problem["detail"].endswith(run["error_message"])
    assert run["completed_at"] is not None


def test_the_callers_request_id_reaches_the_workbench(chain: Chain) -> None:
    for mode, kind in (("BATCH", "submit"), ("REALTIME", "realtime")):
        name = f"from-afar-{mode.lower()}"
        answer = chain.post(chain.pipeline(mode), X_Request_Id=name)
        assert answer.status_code == 201, answer.text
        assert answer.json()["request_id"] == name
        [call] = chain.workbench.calls_of(kind, run=answer.json()["id"])
        assert call.header("X-Request-Id") == name


def test_a_workbench_that_takes_six_seconds_gives_one_job(chain: Chain) -> None:
    chain.workbench.script(submit=[late(6)])
    answer = chain.post()
    assert answer.status_code == 201
    assert len(chain.workbench.jobs_of(answer.json()["id"])) == 1


@pytest.mark.parametrize("trouble", [late(12), execute_and_drop()], ids=["too slow", "dropped"])
def test_f11_a_job_whose_reply_was_lost_is_adopted(chain: Chain, trouble: Answer) -> None:
    chain.workbench.script(submit=[trouble])
    answer = chain.post()
    assert answer.status_code == 202
    assert answer.json()["status"] == "CREATED"
    run = chain.wait(answer.json()["id"], lambda run: run["workbench_job_id"] is not None)
    assert [job.id for job in chain.workbench.jobs_of(run["id"])] == [run["workbench_job_id"]]


def test_f11_without_a_client_reference_the_same_key_finds_the_job(chain: Chain) -> None:
    chain.workbench.script(submit=[execute_and_drop()], find=[Answer(500)] * 9)
    answer = chain.post()
    assert answer.status_code == 202
    run = chain.wait(answer.json()["id"], lambda run: run["workbench_job_id"] is not None)
    keys = {call.idempotency_key for call in chain.workbench.calls_of("submit", run=run["id"])}
    assert len(keys) == 1
    assert [job.id for job in chain.workbench.jobs_of(run["id"])] == [run["workbench_job_id"]]


def test_f2_a_run_left_behind_by_a_killed_api_function_is_resolved(chain: Chain) -> None:
    pipeline_id = chain.pipeline()
    chain.workbench.script(submit=[late(6)])
    earlier = len(chain.workbench.calls_of("submit"))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(chain.post, pipeline_id)
        chain.workbench.wait_for_calls("submit", count=earlier + 1)
        assert chain.kill_functions("api.app.app") >= 1
        assert answer.result().status_code >= 500
    [run] = chain.api.get("/pipeline-run", params={"pipeline_id": pipeline_id}).json()["items"]
    assert run["status"] == "CREATED"
    found = chain.wait(
        run["id"], lambda run: run["status"] != "CREATED", within_seconds=90, by_schedule=True
    )
    [job] = chain.workbench.jobs_of(run["id"])
    assert found["workbench_job_id"] == job.id


@pytest.fixture
def without_conductor(chain: Chain) -> Iterator[Chain]:
    chain.kill("conductor")
    yield chain
    chain.up()


def test_f4_without_conductor_a_first_submission_fails(without_conductor: Chain) -> None:
    answer = without_conductor.post()
    assert answer.status_code == 500
    detail = answer.json()["detail"]
    assert detail.startswith("Batch workflow submission failed: Conductor can't be reached")
    assert without_conductor.run(answer.json()["pipeline_run_id"])["status"] == "FAILED"
