"""The tests' own Workbench does what its script says; that it keeps the contract without one is
told by test_workbench_contract.py.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from scripted_workbench import (
    Answer,
    ScriptedWorkbench,
    State,
    always,
    drip,
    drop,
    execute_and_drop,
    html,
    huge,
    late,
    not_found,
    redirect,
    retry_after,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def workbench() -> Iterator[ScriptedWorkbench]:
    with ScriptedWorkbench() as scripted:
        yield scripted


def submit(workbench: ScriptedWorkbench, run: int = 42, key: str | None = None) -> httpx.Response:
    body = {"pipeline_run_id": run, "input_path_prefix": "in", "output_path_prefix": "out"}
    headers = {"Idempotency-Key": key or f"key-{run}"}
    return httpx.post(f"{workbench.url}/batch/submit", json=body, headers=headers)


def submitted(workbench: ScriptedWorkbench, run: int = 42) -> str:
    return str(submit(workbench, run).json()["workbench_job_id"])


def look(workbench: ScriptedWorkbench, job_id: str) -> httpx.Response:
    return httpx.get(f"{workbench.url}/batch/status/{job_id}")


def word(workbench: ScriptedWorkbench, job_id: str) -> Any:
    return look(workbench, job_id).json()["status"]


def test_a_job_lives_on_with_each_look_at_it(workbench: ScriptedWorkbench) -> None:
    assert submit(workbench).json()["status"] == "QUEUED"
    [job] = workbench.jobs_of(42)
    seen = [word(workbench, job.id) for _ in range(3)]
    assert seen == ["RUNNING", "COMPLETED", "COMPLETED"]


def test_a_life_may_be_without_end() -> None:
    with ScriptedWorkbench(life=["RUNNING"]) as workbench:
        job_id = submitted(workbench)
        assert {word(workbench, job_id) for _ in range(4)} == {"RUNNING"}


def test_each_item_answers_one_call_and_then_the_contract_goes_on(
    workbench: ScriptedWorkbench,
) -> None:
    workbench.script(submit=[Answer(500, "out of disk"), Answer(400, {"error": "no"})])
    first, second, third = (submit(workbench) for _ in range(3))
    assert (first.status_code, first.text) == (500, "out of disk")
    assert first.headers["content-type"].startswith("text/plain")
    assert (second.status_code, second.json()) == (400, {"error": "no"})
    assert third.status_code == 202
    assert len(workbench.jobs_of(42)) == 1


def test_always_goes_on_until_another_script_comes(workbench: ScriptedWorkbench) -> None:
    job_id = submitted(workbench)
    workbench.script(status=[always(Answer(503))])
    assert [look(workbench, job_id).status_code for _ in range(3)] == [503, 503, 503]
    workbench.script(status=[])
    assert word(workbench, job_id) == "RUNNING"


def test_the_narrower_story_comes_first(workbench: ScriptedWorkbench) -> None:
    one, other = submitted(workbench, 1), submitted(workbench, 2)
    workbench.script(status=[always(Answer(500))])
    workbench.script(run=1, status=["RUNNING"])
    workbench.script(job=one, status=["FAILED"])
    assert look(workbench, other).status_code == 500
    assert [word(workbench, one), word(workbench, one)] == ["FAILED", "RUNNING"]
    assert look(workbench, one).status_code == 500
    workbench.script(run=3, submit=[Answer(418, "")])
    assert [submit(workbench, run).status_code for run in (4, 3)] == [202, 418]


def test_words_and_states_become_the_jobs_truth(workbench: ScriptedWorkbench) -> None:
    job_id = submitted(workbench)
    failed = State("FAILED", error_message="out of disk", progress=(1, 3), logs_url="s3://logs")
    workbench.script(run=42, status=["PROCESSING", State(None), failed])
    assert [word(workbench, job_id), word(workbench, job_id)] == ["PROCESSING", None]
    for _ in range(2):
        assert look(workbench, job_id).json() == {
            "workbench_job_id": job_id,
            "status": "FAILED",
            "error_message": "out of disk",
            "progress": {"done": 1, "total": 3},
            "logs_url": "s3://logs",
        }
    workbench.become("CANCELLED", run=42)
    assert word(workbench, job_id) == "CANCELLED"


def test_a_submit_and_a_cancel_can_be_told_what_the_job_becomes(
    workbench: ScriptedWorkbench,
) -> None:
    workbench.script(submit=["DONE"], cancel=["RUNNING"])
    assert submit(workbench).json()["status"] == "DONE"
    [job] = workbench.jobs_of(42)
    answer = httpx.post(f"{workbench.url}/batch/cancel/{job.id}")
    assert (answer.status_code, answer.json()["status"]) == (202, "RUNNING")
    assert workbench.jobs_of(42)[0].cancel_requested


def test_a_dropped_submit_makes_no_job_unless_it_is_executed(workbench: ScriptedWorkbench) -> None:
    workbench.script(submit=[drop(), execute_and_drop()])
    with pytest.raises(httpx.NetworkError):
        submit(workbench)
    assert workbench.jobs_of(42) == []
    with pytest.raises(httpx.NetworkError):
        submit(workbench)
    [job] = workbench.jobs_of(42)
    answer = submit(workbench)
    assert (answer.status_code, answer.json()["workbench_job_id"]) == (200, job.id)
    assert [call.answered for call in workbench.calls] == [None, None, 200]
    assert [call.job_id for call in workbench.calls] == [None, job.id, job.id]


def test_an_error_may_hide_a_job(workbench: ScriptedWorkbench) -> None:
    workbench.script(submit=[Answer(500, "but it is there", executes=True)])
    assert submit(workbench).status_code == 500
    assert len(workbench.jobs_of(42)) == 1


def test_a_late_answer_is_done_at_once(workbench: ScriptedWorkbench) -> None:
    workbench.script(submit=[late(60)])

    def call() -> None:
        with pytest.raises(httpx.HTTPError):
            submit(workbench)

    caller = threading.Thread(target=call)
    caller.start()
    workbench.wait_for_calls("submit")
    assert len(workbench.jobs_of(42)) == 1
    workbench.stop()
    caller.join(timeout=20)
    assert not caller.is_alive()


def test_a_dripping_answer_outlives_a_time_out_between_bytes(workbench: ScriptedWorkbench) -> None:
    job_id = submitted(workbench)
    workbench.script(status=[drip(0.01)])
    begun_at = time.monotonic()
    answer = httpx.get(f"{workbench.url}/batch/status/{job_id}", timeout=httpx.Timeout(5))
    assert answer.json()["status"] == "RUNNING"
    assert time.monotonic() - begun_at >= 0.01 * len(answer.content)


def test_a_huge_answer_is_json_all_the_same(workbench: ScriptedWorkbench) -> None:
    job_id = submitted(workbench)
    workbench.script(status=[huge()])
    answer = look(workbench, job_id)
    assert len(answer.content) == 32 * 1024 * 1024
    assert answer.json()["workbench_job_id"] == job_id


def test_the_usual_troubles(workbench: ScriptedWorkbench) -> None:
    job_id = submitted(workbench)
    gzipped = Answer(200, b"\x1f\x8b", headers={"X-Odd": "yes"}, content_type="application/odd")
    troubles = [html(), redirect("http://127.0.0.1:9/x"), retry_after("soon"), not_found(), gzipped]
    workbench.script(status=troubles)
    page, moved, limited, missing, odd = (look(workbench, job_id) for _ in troubles)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html")
    assert (moved.status_code, moved.headers["location"]) == (302, "http://127.0.0.1:9/x")
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "soon")
    assert missing.status_code == 404
    assert (odd.content, odd.headers["x-odd"]) == (b"\x1f\x8b", "yes")
    assert odd.headers["content-type"] == "application/odd"


def test_an_answer_may_lie_about_its_length(workbench: ScriptedWorkbench) -> None:
    job_id = submitted(workbench)
    workbench.script(status=[Answer(headers={"Content-Length": "5000"})])
    with pytest.raises(httpx.RemoteProtocolError):
        look(workbench, job_id)


def test_a_body_may_be_made_from_the_call(workbench: ScriptedWorkbench) -> None:
    job_id = submitted(workbench)
    other = Answer(body=lambda call: {"workbench_job_id": f"not-{call.job_id}", "status": "DONE"})
    workbench.script(status=[other])
    assert look(workbench, job_id).json()["workbench_job_id"] == f"not-{job_id}"


def test_in_a_bulk_status_call_the_jobs_have_their_own_stories(
    workbench: ScriptedWorkbench,
) -> None:
    jobs = [submitted(workbench, run) for run in (1, 2, 3)]
    workbench.script(run=1, status=["FAILED"])
    workbench.script(run=2, status=[Answer(500)])
    url = f"{workbench.url}/batch/status"
    told = httpx.post(url, json={"workbench_job_ids": jobs}).json()["jobs"]
    assert [(job["workbench_job_id"], job["status"]) for job in told] == [
        (jobs[0], "FAILED"),
        (jobs[2], "RUNNING"),
    ]
    workbench.script(bulk_status=[Answer(503)])
    assert httpx.post(url, json={"workbench_job_ids": jobs}).status_code == 503


def test_keys_may_be_ignored_and_found_all_the_same(workbench: ScriptedWorkbench) -> None:
    workbench.honours_keys = False
    jobs = {submitted(workbench), submitted(workbench)}
    assert len(jobs) == 2
    found = httpx.get(f"{workbench.url}/batch/jobs", params={"idempotency_key": "key-42"}).json()
    assert {job["workbench_job_id"] for job in found["jobs"]} == jobs


def test_forgotten_jobs_are_unknown(workbench: ScriptedWorkbench) -> None:
    job_id = submitted(workbench)
    workbench.forget(run=42)
    assert look(workbench, job_id).status_code == 404


def test_optional_calls_can_be_taken_away(workbench: ScriptedWorkbench) -> None:
    workbench.bulk_status = workbench.client_reference = False
    url = f"{workbench.url}/batch"
    told = httpx.get(f"{url}/capabilities").json()
    assert told == {"bulk_status": False, "client_reference": False}
    assert httpx.post(f"{url}/status", json={"workbench_job_ids": []}).status_code == 404
    assert httpx.get(f"{url}/jobs", params={"idempotency_key": "x"}).status_code == 404
    workbench.capabilities = False
    assert httpx.get(f"{url}/capabilities").status_code == 404


def test_stopped_it_refuses_and_started_again_it_knows_its_jobs(
    workbench: ScriptedWorkbench,
) -> None:
    job_id = submitted(workbench)
    url = workbench.url
    workbench.stop()
    with pytest.raises(httpx.ConnectError):
        look(workbench, job_id)
    workbench.start()
    assert workbench.url == url
    assert word(workbench, job_id) == "RUNNING"


def test_the_journal_tells_what_was_received(workbench: ScriptedWorkbench) -> None:
    job_id = submitted(workbench)
    look(workbench, job_id)
    look(workbench, "nobody")
    first, second, third = workbench.calls
    assert (first.kind, first.run_id, first.job_id) == ("submit", 42, job_id)
    assert (first.idempotency_key, first.header("idempotency-key")) == ("key-42", "key-42")
    assert first.body == json.loads(first.raw_body)
    assert (first.answered, second.answered, third.answered) == (202, 200, 404)
    assert first.at < second.at < third.at
    assert workbench.calls_of("status", run=42) == [second]
    assert workbench.calls_of("status", job="nobody") == [third]


def test_waiting_in_vain_says_what_came_instead(workbench: ScriptedWorkbench) -> None:
    submitted(workbench)
    with pytest.raises(AssertionError, match=r"2 submit call\(s\): .* 1 calls came: \['submit'\]"):
        workbench.wait_for_calls("submit", count=2, within_seconds=0.05)


def test_a_misspelt_kind_of_call_is_refused(workbench: ScriptedWorkbench) -> None:
    with pytest.raises(ValueError, match="statuss"):
        workbench.script(statuss=[])
