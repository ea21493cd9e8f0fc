"""How the Workbench's adapter has jobs cancelled, on scripted Workbenches and the reference one."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from reference_workbench import serve_user_storage, start_workbench, wait_until
from runs.adapters.workbench import HttpWorkbench
from runs.ports import CancelAnswer, CancelEnd, JobStatus
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
    from pathlib import Path

    from scripted_workbench import Item

ACCEPTED, NOTHING, UNCLEAR = (
    CancelEnd.ACCEPTED,
    CancelEnd.NOTHING_TO_CANCEL,
    CancelEnd.UNCLEAR,
)
LONG = timedelta(seconds=30)
ANSWER_TIME = timedelta(seconds=0.5)
# What never takes this long unless something is wrong.
DEADLINE_SECONDS = 20


@pytest.fixture
def scripted() -> Iterator[ScriptedWorkbench]:
    with ScriptedWorkbench(life=["RUNNING"]) as workbench:
        yield workbench


@pytest.fixture
def workbench(scripted: ScriptedWorkbench) -> Iterator[HttpWorkbench]:
    with closing(HttpWorkbench(scripted.url)) as workbench:
        yield workbench


@pytest.fixture
def hasty(scripted: ScriptedWorkbench) -> Iterator[HttpWorkbench]:
    """One that doesn't wait long for an answer."""
    with closing(HttpWorkbench(scripted.url, answer_time=ANSWER_TIME)) as workbench:
        yield workbench


def submitted(url: str, count: int, **parameters: object) -> list[str]:
    """So many jobs, for the runs 1, 2, …"""
    with httpx.Client() as client:
        made = [
            client.post(
                f"{url}/batch/submit",
                json={
                    "pipeline_run_id": run_id,
                    "input_path_prefix": "in/",
                    "output_path_prefix": f"out/{run_id}/",
                    "parameters": parameters,
                },
            )
            for run_id in range(1, count + 1)
        ]
    return [str(answer.raise_for_status().json()["workbench_job_id"]) for answer in made]


def cancel_one(workbench: HttpWorkbench, job_id: str) -> CancelAnswer:
    answers = workbench.cancel([job_id], within=LONG)
    assert list(answers) == [job_id]
    return answers[job_id]


# -- one job --------------------------------------------------------------------------------------


def test_p23_a_cancel_is_carried_to_the_workbench(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    [job_id] = submitted(scripted.url, 1)

    assert cancel_one(workbench, job_id) == CancelAnswer(end=ACCEPTED)

    [call] = scripted.calls_of("cancel")
    assert (call.method, call.path, call.job_id) == ("POST", f"/batch/cancel/{job_id}", job_id)
    assert scripted.jobs[0].cancel_requested


@pytest.mark.parametrize("job_id", ["a", "7", "x:1.2_3-4", "..." + "x" * 252])
def test_a_jobs_id_is_sent_as_it_is(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, job_id: str
) -> None:
    assert cancel_one(workbench, job_id).end is NOTHING
    assert scripted.calls_of("cancel")[0].path == f"/batch/cancel/{job_id}"


@pytest.mark.parametrize(
    "item",
    [
        Answer(200),
        Answer(202),
        Answer(200, {"workbench_job_id": "job-1-1", "status": "CANCELLING"}),
        Answer(200, b""),
        Answer(202, b""),
        Answer(204, b""),
    ],
)
def test_p23_any_2xx_that_is_no_page_accepts_a_cancel(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, item: Item
) -> None:
    [job_id] = submitted(scripted.url, 1)
    scripted.script(cancel=[item])
    assert cancel_one(workbench, job_id) == CancelAnswer(end=ACCEPTED)


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELLED"])
def test_p24_a_job_that_has_ended_is_nothing_to_cancel(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, status: str
) -> None:
    [job_id] = submitted(scripted.url, 1)
    scripted.become(status, run=1)

    answer = cancel_one(workbench, job_id)

    assert answer.end is NOTHING
    assert answer.reason.startswith("The Workbench answered 409: ")
    assert status in answer.reason
    assert scripted.jobs[0].status == status


def test_p24_a_job_that_nobody_knows_is_nothing_to_cancel(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    [job_id] = submitted(scripted.url, 1)
    scripted.forget(run=1)
    answer = cancel_one(workbench, job_id)
    assert answer.end is NOTHING
    assert answer.reason.startswith("The Workbench answered 404: ")


UNCLEAR_ENDS: dict[str, tuple[Item, str]] = {
    "400": (Answer(400, "no"), "answered 400: no"),
    "401": (Answer(401, "who?"), "answered 401: who?"),
    "410": (Answer(410, "gone"), "answered 410: gone"),
    "429": (retry_after("10"), "answered 429: "),
    "500": (Answer(500, "oops"), "answered 500: oops"),
    "500 that tells of a 404": (Answer(500, "404"), "answered 500: 404"),
    "502": (Answer(502, "bad gateway"), "answered 502: bad gateway"),
    "503": (html(503), "answered 503: "),
    "504": (Answer(504, "slow"), "answered 504: slow"),
    "late": (late(DEADLINE_SECONDS), "gave no whole answer within 0.5 s"),
    "dripping": (drip(0.2), "gave no whole answer within 0.5 s"),
    "reset": (always(drop()), "can't be reached: "),
    "reset after it was done": (execute_and_drop(), "can't be reached: "),
    "huge": (huge(1_000_000), "larger than 256 KiB"),
}


@pytest.mark.parametrize(("item", "why"), UNCLEAR_ENDS.values(), ids=UNCLEAR_ENDS.keys())
def test_p23_without_a_valid_answer_a_cancel_is_unclear(
    scripted: ScriptedWorkbench, hasty: HttpWorkbench, item: Item, why: str
) -> None:
    [job_id] = submitted(scripted.url, 1)
    scripted.script(cancel=[item])

    answer = cancel_one(hasty, job_id)

    assert answer.end is UNCLEAR
    assert why in answer.reason
    assert len(answer.reason) < 400


def test_p23_f30_a_page_accepts_no_cancel(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    [job_id] = submitted(scripted.url, 1)
    scripted.script(cancel=[html()])
    assert cancel_one(workbench, job_id).end is UNCLEAR


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_f30_a_redirect_is_not_followed(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, status: int
) -> None:
    [job_id] = submitted(scripted.url, 1)
    with ScriptedWorkbench() as elsewhere:
        scripted.script(cancel=[redirect(f"{elsewhere.url}/batch/cancel/{job_id}", status)])

        answer = cancel_one(workbench, job_id)

        assert (answer.end, elsewhere.calls) == (UNCLEAR, [])


def test_f27_a_workbench_that_is_not_there_leaves_a_cancel_unclear(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    [job_id] = submitted(scripted.url, 1)
    scripted.stop()
    answer = cancel_one(workbench, job_id)
    assert answer.end is UNCLEAR
    assert answer.reason.startswith("The Workbench can't be reached: ")

    scripted.start()
    assert cancel_one(workbench, job_id).end is ACCEPTED


def test_connections_that_the_workbench_closed_meanwhile_are_no_trouble(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    """As between two warm invocations."""
    [job_id] = submitted(scripted.url, 1)
    scripted.script(cancel=[always(State("RUNNING"))])
    for _ in range(3):
        assert cancel_one(workbench, job_id).end is ACCEPTED
        scripted.stop()
        scripted.start()


# -- again, and many at once ----------------------------------------------------------------------


def test_p23_a_cancel_whose_answer_was_lost_may_be_carried_again(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    [job_id] = submitted(scripted.url, 1)
    scripted.script(cancel=[execute_and_drop()])

    ends = [cancel_one(workbench, job_id).end for _ in range(2)]

    assert ends == [UNCLEAR, NOTHING]
    assert scripted.jobs[0].status == "CANCELLED"


def test_p23_a_job_that_takes_its_time_to_end_accepts_every_cancel(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    [job_id] = submitted(scripted.url, 1)
    scripted.script(cancel=[State("RUNNING"), State("CANCELLING"), "CANCELLED"])

    ends = [cancel_one(workbench, job_id).end for _ in range(4)]

    assert ends == [ACCEPTED, ACCEPTED, ACCEPTED, NOTHING]


def test_a_hundred_jobs_are_cancelled_side_by_side(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    """One after the other they would take a minute."""
    jobs = submitted(scripted.url, 120)
    scripted.script(cancel=[always(late(0.5))])

    before = time.monotonic()
    answers = workbench.cancel(jobs, within=LONG)

    assert time.monotonic() - before < DEADLINE_SECONDS
    assert answers == dict.fromkeys(jobs, CancelAnswer(end=ACCEPTED))
    assert {job.status for job in scripted.jobs} == {"CANCELLED"}


def test_p18_each_jobs_cancel_has_an_end_of_its_own(
    scripted: ScriptedWorkbench, hasty: HttpWorkbench
) -> None:
    jobs = submitted(scripted.url, 6)
    items: list[Item] = [not_found(), Answer(500, "no"), always(drop()), late(DEADLINE_SECONDS)]
    for job_id, item in zip(jobs, items, strict=False):
        scripted.script(job=job_id, cancel=[item])
    scripted.become("COMPLETED", job=jobs[4])

    answers = hasty.cancel(jobs, within=LONG)

    assert [answers[job_id].end for job_id in jobs] == [
        NOTHING,
        UNCLEAR,
        UNCLEAR,
        UNCLEAR,
        NOTHING,
        ACCEPTED,
    ]


def test_p18_a_job_that_there_was_no_time_for_is_left_out(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    slow, quick = submitted(scripted.url, 2)
    scripted.script(job=slow, cancel=[late(DEADLINE_SECONDS)])

    answers = workbench.cancel([slow, quick], within=timedelta(seconds=1))

    assert answers == {quick: CancelAnswer(end=ACCEPTED)}
    assert cancel_one(workbench, slow).end is NOTHING  # Only the answer was late.


def test_without_time_nothing_is_cancelled(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    jobs = submitted(scripted.url, 2)
    for within in (timedelta(0), -LONG):
        assert workbench.cancel(jobs, within=within) == {}
    assert workbench.cancel([], within=LONG) == {}
    assert {job.status for job in scripted.jobs} == {"QUEUED"}


# -- the reference Workbench ----------------------------------------------------------------------


def test_p23_the_reference_workbenchs_jobs_are_cancelled(tmp_path: Path) -> None:
    with (
        serve_user_storage(tmp_path) as storage,
        start_workbench(tmp_path, storage) as reference,
        closing(HttpWorkbench(reference.url)) as workbench,
    ):
        jobs = submitted(reference.url, 3, queue_seconds=600)

        ends = workbench.cancel([*jobs, "unknown"], within=LONG)

        def have_ended() -> bool:
            answers = workbench.ask(jobs, within=LONG).values()
            words = [one.upstream_status for one in answers if isinstance(one, JobStatus)]
            return words == ["CANCELLED"] * 3

        wait_until(have_ended, "the jobs' end")
        again = workbench.cancel(jobs, within=LONG)

    assert {job_id: answer.end for job_id, answer in ends.items()} == {
        **dict.fromkeys(jobs, ACCEPTED),
        "unknown": NOTHING,
    }
    assert [again[job_id].end for job_id in jobs] == [NOTHING] * 3
