"""Cancel, retry and time-out, from the request to the Workbench's job and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

    from chain import Chain


def running(chain: Chain, **more: Any) -> int:
    """The id of a run that is RUNNING and stays so."""
    answer = chain.post(**more)
    assert answer.status_code == 201, answer.text
    run_id = int(answer.json()["id"])
    chain.workbench.become("RUNNING", run=run_id)
    chain.wait_for_status(run_id, "RUNNING")
    return run_id


def failed(chain: Chain, **more: Any) -> int:
    """The id of a run whose job FAILED."""
    answer = chain.post(**more)
    run_id = int(answer.json()["id"])
    chain.workbench.become("FAILED", run=run_id, error_message="row 7 is broken")
    chain.wait_for_status(run_id, "FAILED")
    return run_id


def cancel(chain: Chain, run_id: int, **request: Any) -> httpx.Response:
    return chain.api.request("POST", f"/pipeline-run/{run_id}/cancel", **request)


def test_p23_a_cancelled_run_ends_and_so_does_its_job(chain: Chain) -> None:
    run_id = running(chain)
    answer = cancel(chain, run_id, json={"reason": "wrong input"})
    assert answer.status_code == 202
    assert answer.json()["status"] == "RUNNING"
    assert answer.json()["cancel_requested_at"] is not None
    # The cancel's own check comes at once, whatever the schedule says.
    chain.workbench.wait_for_calls("cancel", run=run_id, within_seconds=30)
    run = chain.wait_for_status(run_id, "CANCELLED")
    assert run["error"] is None
    [job] = chain.workbench.jobs_of(run_id)
    assert (job.status, job.cancel_requested) == ("CANCELLED", True)
    assert chain.history(run_id) == ["CREATED", "SUBMITTED", "RUNNING", "CANCELLED"]


def test_a_cancel_needs_no_body_and_again_is_the_same_as_once(chain: Chain) -> None:
    run_id = running(chain)
    assert cancel(chain, run_id).status_code == 202
    ended = chain.wait_for_status(run_id, "CANCELLED")
    again = cancel(chain, run_id)
    assert again.status_code == 200
    assert again.json()["version"] == ended["version"]


def test_a_run_that_has_ended_otherwise_cannot_be_cancelled(chain: Chain) -> None:
    run_id = failed(chain)
    answer = cancel(chain, run_id)
    assert (answer.status_code, answer.json()["code"]) == (409, "run_already_terminal")
    assert chain.run(run_id)["status"] == "FAILED"
    assert chain.workbench.calls_of("cancel", run=run_id) == []


def test_a_retry_is_a_new_run_with_a_job_of_its_own(chain: Chain) -> None:
    first_id = failed(chain, parameters={"colour": "blue"}, tags={"team": "a"})
    answer = chain.api.post(f"/pipeline-run/{first_id}/retry")
    assert answer.status_code == 201
    second = answer.json()
    assert second["id"] != first_id
    assert second["retry_of"] == first_id
    assert (second["parameters"], second["tags"]) == ({"colour": "blue"}, {"team": "a"})
    [first_job], [second_job] = (
        chain.workbench.jobs_of(first_id),
        chain.workbench.jobs_of(second["id"]),
    )
    assert first_job.idempotency_key != second_job.idempotency_key
    chain.wait_for_status(second["id"], "COMPLETED")
    assert chain.run(first_id)["status"] == "FAILED"


def test_a_run_that_may_still_end_well_cannot_be_retried(chain: Chain) -> None:
    run_id = running(chain)
    answer = chain.api.post(f"/pipeline-run/{run_id}/retry")
    assert (answer.status_code, answer.json()["code"]) == (409, "run_not_terminal")
    chain.workbench.become("COMPLETED", run=run_id)
    chain.wait_for_status(run_id, "COMPLETED")


def test_p32_a_run_past_its_timeout_is_cancelled_at_the_workbench_and_failed(
    chain: Chain,
) -> None:
    run_id = running(chain, timeout_seconds=60)
    chain.move_time(60)
    run = chain.wait_for_status(run_id, "FAILED")
    assert (run["error"]["code"], run["error"]["category"]) == ("run_timed_out", "TIMEOUT")
    assert "60 s" in run["error_message"]
    [job] = chain.workbench.jobs_of(run_id)
    assert (job.status, job.cancel_requested) == ("CANCELLED", True)
    assert chain.history(run_id) == ["CREATED", "SUBMITTED", "RUNNING", "FAILED"]
