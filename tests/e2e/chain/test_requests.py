"""What the API answers to, over the real chain."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from scripted_workbench import Answer, late

if TYPE_CHECKING:
    from chain import Chain


def test_an_unknown_pipeline_is_told_in_the_originals_words(chain: Chain) -> None:
    answer = chain.post(pipeline_id=999_999)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "Pipeline not found"


def test_an_unknown_run_is_told_in_the_originals_words(chain: Chain) -> None:
    answer = chain.api.get("/pipeline-run/999999")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "Pipeline run not found"


def test_p13_an_invalid_body_is_pointed_at_and_writes_nothing(chain: Chain) -> None:
    pipeline_id = chain.pipeline()
    answer = chain.post(pipeline_id, input_path_prefix="../up", timeout_seconds=59)
    assert answer.status_code == 422
    pointers = {error["pointer"] for error in answer.json()["errors"]}
    assert pointers == {"/input_path_prefix", "/timeout_seconds"}
    listed = chain.api.get("/pipeline-run", params={"pipeline_id": pipeline_id}).json()
    assert listed == {"items": [], "next_page_token": ""}


def test_a_batch_run_is_submitted_and_walks_to_its_end(chain: Chain) -> None:
    answer = chain.post(parameters={"colour": "blue ${workflow.input.x}"}, tags={"team": "a"})
    assert answer.status_code == 201
    run = answer.json()
    assert answer.headers["location"].endswith(f"/pipeline-run/{run['id']}")
    assert chain.api.get(answer.headers["location"]).json()["id"] == run["id"]
    assert run["status"] == "SUBMITTED"
    assert run["started_at"] is not None
    [job] = chain.workbench.jobs_of(run["id"])
    assert run["workbench_job_id"] == job.id
    assert job.submission["report_path_prefix"] is None
    assert job.submission["parameters"] == {"colour": "blue ${workflow.input.x}"}
    ended = chain.wait_for_status(run["id"], "COMPLETED")
    assert ended["completed_at"] is not None
    assert chain.history(run["id"]) == ["CREATED", "SUBMITTED", "RUNNING", "COMPLETED"]


def test_p7_one_key_is_one_run_however_often_and_at_once(chain: Chain) -> None:
    pipeline_id = chain.pipeline()
    with ThreadPoolExecutor(10) as pool:
        answers = list(
            pool.map(
                lambda _: chain.post(pipeline_id, Idempotency_Key=f"k{pipeline_id}"), range(10)
            )
        )
    assert {answer.status_code for answer in answers} <= {200, 201, 202}
    [run_id] = {answer.json()["id"] for answer in answers}
    assert len(chain.workbench.jobs_of(run_id)) == 1
    again = chain.post(pipeline_id, Idempotency_Key=f"k{pipeline_id}")
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    other = chain.post(pipeline_id, Idempotency_Key=f"k{pipeline_id}", tags={"x": "y"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_who_prefers_not_to_wait_is_answered_at_once_and_submitted_soon(chain: Chain) -> None:
    answer = chain.post(Prefer="respond-async")
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.json()["status"] == "CREATED"
    run = chain.wait(answer.json()["id"], lambda run: run["workbench_job_id"] is not None)
    assert len(chain.workbench.jobs_of(run["id"])) == 1


def test_a_realtime_run_is_executed_at_once(chain: Chain) -> None:
    chain.workbench.script(realtime=[Answer(200, {"output": {"rows": 7}})])
    answer = chain.post(chain.pipeline("REALTIME"))
    assert answer.status_code == 201
    run = answer.json()
    assert (run["status"], run["output"]) == ("COMPLETED", {"rows": 7})
    assert chain.history(run["id"]) == ["CREATED", "SUBMITTED", "RUNNING", "COMPLETED"]


def test_a_realtime_run_that_fails_is_told_in_the_originals_words(chain: Chain) -> None:
    chain.workbench.script(realtime=[Answer(500, "out of memory")])
    answer = chain.post(chain.pipeline("REALTIME"))
    assert answer.status_code == 500
    assert answer.json()["detail"].startswith("Realtime workflow failed: ")
    assert chain.run(answer.json()["pipeline_run_id"])["status"] == "FAILED"


def test_p31_a_realtime_run_that_outlasts_the_wait_is_taken_over_by_the_poller(
    chain: Chain,
) -> None:
    chain.workbench.script(realtime=[late(13)])
    answer = chain.post(chain.pipeline("REALTIME"))
    assert answer.status_code == 202
    run = chain.wait_for_status(answer.json()["id"], "COMPLETED")
    assert len(chain.workbench.calls_of("realtime", run=run["id"])) == 1
    assert chain.history(run["id"]) == ["CREATED", "SUBMITTED", "RUNNING", "COMPLETED"]
