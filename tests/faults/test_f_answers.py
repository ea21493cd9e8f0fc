"""F22-F24, F26, F28-F31: a Workbench that answers, and answers wrongly."""

from __future__ import annotations

import gzip
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from failpoints import begin_function
from fault_bench import POLL_INTERVAL
from fault_proxy import http, statement
from function_process import Function, FunctionPool
from runs.messages import CheckMessage
from runs.status import PipelineRunStatus
from scripted_workbench import (
    MEBIBYTE,
    Answer,
    ScriptedWorkbench,
    State,
    always,
    html,
    huge,
    redirect,
    retry_after,
)
from wired import logged

if TYPE_CHECKING:
    from fault_bench import Bench

CREATED, SUBMITTED = PipelineRunStatus.CREATED, PipelineRunStatus.SUBMITTED
RUNNING, COMPLETED = PipelineRunStatus.RUNNING, PipelineRunStatus.COMPLETED
FAILED = PipelineRunStatus.FAILED
WHOLE_WAY = [CREATED, SUBMITTED, RUNNING, COMPLETED]
MOVE = statement("UPDATE pipeline_runs run SET status")
RETRY_SLACK = timedelta(seconds=20)
"""What two slow answers may take; then the sweep steps in."""
LONGEST_BACK_OFF = timedelta(minutes=15)
ANSWER_SECONDS = 8
LARGEST_GROWTH = 32 * MEBIBYTE
SIDE_BY_SIDE = 6
"""Bad answers at once: together they are worth more than the growth that is allowed."""


def stays(bench: Bench, run_id: int, *, because: str = "") -> None:
    """Its last try failed and was counted; the run is as it was when it got its job."""
    run = bench.run(run_id)
    assert (run.status, run.version, run.error) == (SUBMITTED, 2, None)
    assert run.observation.consecutive_failures == 1
    assert run.observation.last_error
    assert because in run.observation.last_error


def warned_about(lines: list[dict[str, Any]], run_id: int) -> list[str]:
    """The reasons of the warnings."""
    return [
        line["reason"]
        for line in lines
        if line["message"] == "check_troubled"
        and line["level"] == "WARNING"
        and line["run_id"] == run_id
    ]


def goes_on(bench: Bench, *run_ids: int) -> None:
    """Right answers from now on: nothing is left of the trouble."""
    bench.workbench.script(status=[], bulk_status=[])
    for run_id in run_ids:
        bench.workbench.script(run=run_id, status=[])
        bench.workbench.become("COMPLETED", run=run_id)
    bench.let_an_interval_pass()
    for run_id in run_ids:
        assert bench.history(run_id) == WHOLE_WAY
        observation = bench.run(run_id).observation
        assert (observation.consecutive_failures, observation.last_error) == (0, None)


# -- the order of statuses ------------------------------------------------------------------------


def test_f22_p1_a_job_that_ends_between_two_checks_is_told_with_every_step(bench: Bench) -> None:
    run_id = bench.submitted()
    bench.workbench.become("COMPLETED", run=run_id)

    bench.let_an_interval_pass()

    events = bench.events(run_id)
    assert [event.status for event in events] == WHOLE_WAY
    assert [event.version for event in events] == [1, 2, 3, 4]
    assert events[-2].at == events[-1].at


def told_running_after_completed(bench: Bench, run_id: int) -> list[dict[str, Any]]:
    """Two checks at once: one is told RUNNING, and writes that when the other has seen the end.

    Returns:
        What the late one logged.
    """
    bench.workbench.script(run=run_id, status=["RUNNING", "COMPLETED"])
    message = CheckMessage(run_ids=(run_id,), sent_at=bench.store.true_now())
    event = {"Records": [{"messageId": "1", "body": message.to_json(), "eventSourceARN": "arn"}]}
    with (
        bench.to_database.hold(MOVE, times=1),
        begin_function("poller.check.handler", event, bench.environment) as late_one,
    ):
        bench.to_database.wait_for_calls(MOVE)
        bench.check(message)
        assert bench.run(run_id).status is COMPLETED
        bench.to_database.release()
        end = late_one.end()
    assert end.exit_code == 0
    told = [json.loads(line) for line in end.log.splitlines() if line.startswith("{")]
    return [line for line in told if "message" in line]  # The others are figures.


def test_f22_p2_a_running_that_comes_after_completed_changes_nothing(bench: Bench) -> None:
    [run_id] = bench.fleet(1)

    told_running_after_completed(bench, run_id)

    run = bench.run(run_id)
    assert bench.history(run_id) == WHOLE_WAY
    assert (run.status, run.version, run.error) == (COMPLETED, 4, None)
    assert run.completed_at == bench.events(run_id)[-1].at


def test_f22_p3_a_running_that_comes_after_completed_is_not_shown_as_the_newest_word(
    bench: Bench,
) -> None:
    [run_id] = bench.fleet(1)

    told_running_after_completed(bench, run_id)

    assert bench.run(run_id).observation.upstream_status == "COMPLETED"


def test_f22_a_running_that_comes_after_completed_is_not_counted_as_a_move(bench: Bench) -> None:
    [run_id] = bench.fleet(1)

    lines = told_running_after_completed(bench, run_id)

    [checked] = [line for line in lines if line["message"] == "checked"]
    assert (checked["asked"], checked["moved"]) == (1, 0)


def test_f22_p3_a_check_of_a_run_that_has_ended_is_counted_and_asks_nobody(bench: Bench) -> None:
    run_id = bench.submitted()
    bench.workbench.become("COMPLETED", run=run_id)
    bench.let_an_interval_pass()
    bench.workbench.become("RUNNING", run=run_id)
    asked = len(bench.workbench.calls_of("status"))

    with logged() as log:
        bench.check(CheckMessage(run_ids=(run_id,), sent_at=datetime.now(UTC) + POLL_INTERVAL))

    assert [line["gone"] for line in log.lines if line["message"] == "checked"] == [1]
    assert len(bench.workbench.calls_of("status")) == asked
    assert bench.history(run_id) == WHOLE_WAY
    bench.workbench.become("COMPLETED", run=run_id)  # What it was all along.


def test_f23_p2_a_job_that_is_queued_again_leaves_its_run_running(bench: Bench) -> None:
    run_id = bench.submitted()
    bench.workbench.script(run=run_id, status=["RUNNING", "QUEUED"])
    bench.let_an_interval_pass()
    running = bench.run(run_id)

    bench.let_an_interval_pass()

    run = bench.run(run_id)
    assert (run.status, run.version) == (running.status, running.version) == (RUNNING, 3)
    assert run.observation.upstream_status == "QUEUED"
    assert run.observation.consecutive_failures == 0
    goes_on(bench, run_id)


# -- words that nobody knows ----------------------------------------------------------------------


UNKNOWN_WORDS: dict[str, tuple[Any, str | None]] = {
    "no word of ours": ("Exploded", "Exploded"),
    "empty": ("", ""),
    "long": ("x" * 100_000, "x" * 63 + "…"),
    "NUL": ("RUNNING\0", "RUNNING\N{REPLACEMENT CHARACTER}"),
    "lone surrogate": ("\ud800", "?"),
    "null": (None, None),
    "number": (2, None),
    "boolean": (True, None),
    "list": (["COMPLETED"], None),
    "object": ({"COMPLETED": True}, None),
    "a megabyte": ("x" * MEBIBYTE, None),
}
"""Of each what is stored of it."""


def test_f24_p22_a_status_is_known_in_any_case(bench: Bench) -> None:
    words = ["running", "Running", "  rUnNiNg\n", "In_Progress"]
    run_ids = bench.fleet(len(words))
    for run_id, word in zip(run_ids, words, strict=True):
        bench.workbench.script(run=run_id, status=[word])

    bench.let_an_interval_pass()

    assert [bench.run(run_id).status for run_id in run_ids] == [RUNNING] * len(words)


def test_f24_p16_p22_an_unknown_status_is_stored_warned_of_and_changes_nothing(
    bench: Bench,
) -> None:
    bench.workbench.bulk_status = False
    run_ids = dict(zip(UNKNOWN_WORDS, bench.fleet(len(UNKNOWN_WORDS)), strict=True))
    for name, (word, _) in UNKNOWN_WORDS.items():
        bench.workbench.script(run=run_ids[name], status=[State(word)])

    with logged() as log:
        bench.let_an_interval_pass()

    for run_id in run_ids.values():
        stays(bench, run_id)
        assert len(warned_about(log.lines, run_id)) == 1
    stored = {name: bench.run(run_ids[name]).observation.upstream_status for name in run_ids}
    assert stored == {name: kept for name, (_, kept) in UNKNOWN_WORDS.items()}
    goes_on(bench, *run_ids.values())


def test_f24_p18_unknown_statuses_in_a_bulk_answer_spoil_no_other(bench: Bench) -> None:
    words = [word for name, (word, _) in UNKNOWN_WORDS.items() if name != "a megabyte"]
    healthy, *poison = bench.fleet(1 + len(words))
    for run_id, word in zip(poison, words, strict=True):
        bench.workbench.script(run=run_id, status=[State(word)])

    bench.let_an_interval_pass()

    assert bench.workbench.calls_of("bulk_status")
    for run_id in poison:
        stays(bench, run_id)
    assert bench.run(healthy).status is RUNNING


def test_f24_p18_a_status_of_a_megabyte_in_a_bulk_answer_spoils_no_other(bench: Bench) -> None:
    healthy, poison = bench.fleet(2)
    bench.workbench.become("RUNNING", run=healthy)
    bench.workbench.script(run=poison, status=[always(State("x" * MEBIBYTE))])

    bench.let_an_interval_pass()

    assert bench.workbench.calls_of("bulk_status")
    stays(bench, poison, because="256 KiB")
    assert bench.run(healthy).status is RUNNING


def test_f29_p15_a_bulk_answer_that_is_too_large_is_asked_for_job_by_job(bench: Bench) -> None:
    run_ids = bench.fleet(3)
    for run_id in run_ids:
        bench.workbench.become("FAILED", run=run_id, error_message="x" * 100_000)

    bench.let_an_interval_pass()

    assert [bench.run(run_id).status for run_id in run_ids] == [FAILED] * 3


# -- too many calls -------------------------------------------------------------------------------


def in_ten_minutes() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        pytest.param("120", timedelta(seconds=120), id="seconds"),
        pytest.param(in_ten_minutes, timedelta(minutes=10), id="date"),
        pytest.param("1000000000", LONGEST_BACK_OFF, id="32 years"),
    ],
)
def test_f26_p20_retry_after_is_honoured_up_to_a_quarter_of_an_hour(
    bench: Bench, header: Any, wait: timedelta
) -> None:
    run_ids = bench.fleet(2)
    busy = always(retry_after(header if isinstance(header, str) else header()))
    bench.workbench.script(status=[busy], bulk_status=[busy])
    bench.let_an_interval_pass()
    asked_at = bench.store.runs.active([], workbench="").now

    for run_id in run_ids:
        stays(bench, run_id, because="429")
        until = bench.run(run_id).next_check_at
        assert until is not None
        assert abs(until - asked_at - wait) < timedelta(seconds=10)
    assert not bench.sent("RetryQueue")
    asked = len(bench.workbench.calls)
    bench.move_time(wait - POLL_INTERVAL - timedelta(seconds=15))
    for _ in range(2):
        bench.sweep()
        bench.deliver()
        bench.move_time(timedelta(seconds=16))
    assert len(bench.workbench.calls) == asked
    bench.move_time(timedelta(seconds=14))
    goes_on(bench, *run_ids)


@pytest.mark.parametrize("header", ["soon", "-30", "Tue, 99 Nov 2026 99:99:99 GMT"])
def test_f26_p16_a_retry_after_without_sense_slows_down_as_any_trouble_does(
    bench: Bench, header: str
) -> None:
    [run_id] = bench.fleet(1)
    bench.workbench.script(run=run_id, status=[always(retry_after(header))])

    bench.let_an_interval_pass()

    stays(bench, run_id, because="429")
    [retry] = bench.sent("RetryQueue")
    assert (retry.message.run_ids, retry.message.attempt) == ((run_id,), 1)
    assert retry.delay_seconds == 5
    run = bench.run(run_id)
    assert run.next_check_at is not None
    assert run.next_check_at == retry.message.sent_at + RETRY_SLACK


# -- answers that never end, or hold too much -----------------------------------------------------


def test_f28_p18_a_dripping_body_is_cut_after_eight_seconds_and_holds_up_nobody(
    bench: Bench,
) -> None:
    drips, other = bench.fleet(2)
    # Left out of the bulk answer, so that it is asked about alone.
    bench.workbench.script(run=drips, status=[Answer(404), Answer()])
    alone = http("GET", f"/batch/status/{bench.run(drips).workbench_job_id}")
    message = CheckMessage(run_ids=(drips, other), sent_at=bench.store.true_now())

    with bench.to_workbench.drip(0.5, alone):
        began = time.monotonic()
        bench.check(message)
        took = time.monotonic() - began

    assert ANSWER_SECONDS - 0.5 < took < ANSWER_SECONDS + 5
    stays(bench, drips, because="within 8 s")
    assert bench.run(other).status is RUNNING
    goes_on(bench, drips, other)


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def told(*members: str) -> Answer:
    """COMPLETED, if you believe it."""
    return Answer(body=f"{{{', '.join(members)}}}".encode())


def bomb(unpacked_bytes: int = 64 * MEBIBYTE) -> Answer:
    """The right answer after a lot of white space, packed into little."""
    packed = gzip.compress(b" " * unpacked_bytes + b'{"status": "COMPLETED"}')
    assert len(packed) < 256 * 1024
    return Answer(body=packed, headers={"Content-Encoding": "gzip"})


BAD_ANSWERS = {
    "10 MB": (huge(10 * MEBIBYTE), "256 KiB"),
    "gzip bomb": (bomb(), "packed"),
    "nested 10^6": (Answer(body=nested(1_000_000)), "256 KiB"),
    "nested 10^5": (Answer(body=nested(100_000)), "no JSON"),
    "NaN": (told('"status": "COMPLETED"', '"progress": NaN'), "NaN"),
    "infinite": (told('"status": "COMPLETED"', '"progress": 1e999'), "too large"),
    "duplicate key": (told('"status": "RUNNING"', '"status": "COMPLETED"'), "twice"),
}
"""Of each why it is refused."""


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_f29_p16_an_answer_that_holds_too_much_or_is_no_json_is_a_failed_try(
    bench: Bench, name: str
) -> None:
    answer, because = BAD_ANSWERS[name]
    [run_id] = bench.fleet(1)
    bench.workbench.script(run=run_id, status=[answer])

    bench.let_an_interval_pass()

    stays(bench, run_id, because=because)


class Memory:
    """What a process holds, and the most that it has held since this was made."""

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc") / str(pid)
        (self._folder / "clear_refs").write_text("5")  # From now on: proc(5).
        self._before = self._bytes("VmRSS")

    @property
    def growth(self) -> int:
        """In bytes."""
        return self._bytes("VmHWM") - self._before

    def _bytes(self, name: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        [kibibytes] = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
        return int(kibibytes) * 1024


def test_f29_no_answer_makes_the_function_take_more_than_32_mebibytes(bench: Bench) -> None:
    run_ids = bench.fleet(SIDE_BY_SIDE)
    function = Function(handler="poller.check.handler", variables=bench.environment)
    message = CheckMessage(run_ids=tuple(run_ids), sent_at=bench.store.true_now())
    event = {"Records": [{"messageId": "1", "body": message.to_json(), "eventSourceARN": "arn"}]}

    with FunctionPool(function) as pool:
        pool.invoke(event)  # All that stays warm is there now.
        [process] = [one for one in psutil.Process().children() if "awslambdaric" in one.cmdline()]
        growth = {}
        for name, (answer, _) in BAD_ANSWERS.items():
            bench.workbench.script(status=[always(answer)])
            memory = Memory(process.pid)
            pool.invoke(event)
            growth[name] = memory.growth

    assert {name: grown for name, grown in growth.items() if grown > LARGEST_GROWTH} == {}
    asked = bench.workbench.calls_of("status")
    assert len(asked) == SIDE_BY_SIDE * len(BAD_ANSWERS)
    assert [bench.run(run_id).status for run_id in run_ids] == [RUNNING] * SIDE_BY_SIDE


def test_f29_p16_a_byte_order_mark_before_the_json_is_passed_over(bench: Bench) -> None:
    """As RFC 8259 allows."""
    [run_id] = bench.fleet(1)
    marked = Answer(body=b'\xef\xbb\xbf{"status": "RUNNING"}')
    bench.workbench.script(run=run_id, status=[marked])

    bench.let_an_interval_pass()

    run = bench.run(run_id)
    assert (run.status, run.observation.consecutive_failures) == (RUNNING, 0)


# -- answers that aren't ours ---------------------------------------------------------------------


@pytest.mark.parametrize("answers_in_bulk", [True, False])
def test_f30_p16_a_page_in_place_of_an_answer_is_a_failed_try(
    bench: Bench, *, answers_in_bulk: bool
) -> None:
    bench.workbench.bulk_status = answers_in_bulk
    run_ids = bench.fleet(2)
    bench.workbench.script(status=[always(html())], bulk_status=[always(html())])

    bench.let_an_interval_pass()

    for run_id in run_ids:
        stays(bench, run_id, because="no JSON")
    assert [retry.message.attempt for retry in bench.sent("RetryQueue")] == [1, 1]
    goes_on(bench, *run_ids)


@pytest.mark.parametrize("status", [302, 307])
def test_f30_p16_a_redirect_to_another_host_is_not_followed(bench: Bench, status: int) -> None:
    [run_id] = bench.fleet(1)

    with ScriptedWorkbench() as another:
        elsewhere = redirect(f"{another.url}/batch/status/job", status)
        bench.workbench.script(run=run_id, status=[elsewhere])
        bench.let_an_interval_pass()

        assert not another.calls
    stays(bench, run_id, because=str(status))
    assert [retry.message.attempt for retry in bench.sent("RetryQueue")] == [1]


def test_f30_p16_a_redirect_of_a_bulk_call_is_not_followed(bench: Bench) -> None:
    run_ids = bench.fleet(2)

    with ScriptedWorkbench() as another:
        elsewhere = always(redirect(f"{another.url}/batch/status", 307))
        bench.workbench.script(status=[elsewhere], bulk_status=[elsewhere])
        bench.let_an_interval_pass()

        assert not another.calls
    for run_id in run_ids:
        stays(bench, run_id, because="307")


def test_f31_p16_an_answer_about_another_job_is_refused_and_warned_of(bench: Bench) -> None:
    mine, other = bench.fleet(2)
    bench.workbench.bulk_status = False
    others_job = bench.run(other).workbench_job_id
    others_end = Answer(200, {"workbench_job_id": others_job, "status": "COMPLETED"})
    bench.workbench.script(run=mine, status=[others_end])

    with logged() as log:
        bench.let_an_interval_pass()

    stays(bench, mine, because=f"another job, {others_job!r}")
    assert bench.run(other).status is RUNNING
    [reason] = warned_about(log.lines, mine)
    assert "another job" in reason
    goes_on(bench, mine, other)


def test_f31_p16_a_bulk_answer_moves_only_runs_whose_job_it_names(bench: Bench) -> None:
    left_out, named = bench.fleet(2)
    strange = [
        {"workbench_job_id": "job-of-nobody", "status": "COMPLETED"},
        {"workbench_job_id": bench.run(named).workbench_job_id, "status": "RUNNING"},
    ]
    bench.workbench.script(bulk_status=[Answer(200, {"jobs": strange})])
    bench.workbench.script(run=left_out, status=["QUEUED"])

    bench.let_an_interval_pass()

    assert bench.run(named).status is RUNNING
    run = bench.run(left_out)
    assert (run.status, run.observation.upstream_status) == (SUBMITTED, "QUEUED")
