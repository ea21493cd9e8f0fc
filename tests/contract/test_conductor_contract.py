"""Conductor's adapter on the real server, whose workflows call a scripted Workbench.

What each of its answers shows is what the table of outcomes decides by.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest

from runs.adapters.conductor import HttpConductor
from runs.errors import ConductorError, ConductorUnclear, ConductorUnreachable, WorkflowRefused
from runs.outcomes import Seen, sight_of
from runs.ports import CallEnd, WorkflowExecution, WorkflowStatus
from runs.status import PipelineMode
from scripted_workbench import (
    Answer,
    ScriptedWorkbench,
    always,
    drop,
    execute_and_drop,
    html,
    huge,
    late,
    redirect,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scripted_workbench import Call, Item

BATCH, REALTIME = PipelineMode.BATCH, PipelineMode.REALTIME
WORKFLOWS = {BATCH: "batch_pipeline_workflow", REALTIME: "realtime_pipeline_workflow"}
CALL = timedelta(seconds=10)
# What never takes this long unless something is wrong.
DEADLINE_SECONDS = 40
LOOK_AGAIN_SECONDS = 0.05
RUN_IDS = count(1)
PAGE = "<html><body>Welcome to nginx!</body></html>"


@dataclass(frozen=True)
class Bench:
    """A Conductor and a Workbench, and runs that are submitted from the one to the other."""

    url: str
    conductor: HttpConductor
    workbench: ScriptedWorkbench

    def start(
        self, mode: PipelineMode = BATCH, *, correlation_id: str | None = None, **more: Any
    ) -> tuple[str, str]:
        """Starts a workflow; returns its id and its correlation id."""
        own = correlation_id or f"{uuid4()}-{next(RUN_IDS)}"
        workflow_id = self.conductor.start(
            workflow_name=WORKFLOWS[mode],
            workflow_version=None,
            correlation_id=own,
            workflow_input={
                "pipeline_run_id": int(own.rpartition("-")[2]),
                "input_path_prefix": "in/1",
                "output_path_prefix": "out/1",
                "report_path_prefix": None,
                "parameters": None,
                "workbench_api_url": self.workbench.url,
                "idempotency_key": own,
                **more,
            },
            timeout=CALL,
        )
        return workflow_id, own

    def ended(self, workflow_id: str) -> WorkflowExecution:
        """Waits for the workflow to end."""
        end = time.monotonic() + DEADLINE_SECONDS
        while True:
            execution = self.conductor.execution(workflow_id, timeout=CALL)
            if execution.status is not WorkflowStatus.RUNNING:
                return execution
            assert time.monotonic() < end, "the workflow runs on"
            time.sleep(LOOK_AGAIN_SECONDS)  # between two looks

    def submitted(
        self, mode: PipelineMode = BATCH, **more: Any
    ) -> tuple[WorkflowExecution, list[Call]]:
        """A workflow's end, and the calls that the Workbench received for it."""
        workflow_id, correlation_id = self.start(mode, **more)
        execution = self.ended(workflow_id)
        kind = "submit" if mode is BATCH else "realtime"
        run_id = int(correlation_id.rpartition("-")[2])
        return execution, self.workbench.calls_of(kind, run=run_id)

    def found(self, correlation_id: str, mode: PipelineMode = BATCH) -> list[WorkflowExecution]:
        return list(
            self.conductor.find(
                workflow_name=WORKFLOWS[mode], correlation_id=correlation_id, timeout=CALL
            )
        )

    def end(self, workflow_id: str) -> None:
        """Ends a workflow from outside."""
        httpx.delete(f"{self.url}/api/workflow/{workflow_id}?reason=ended").raise_for_status()


@pytest.fixture
def bench(conductor_url: str) -> Iterator[Bench]:
    with ScriptedWorkbench() as workbench, closing(HttpConductor(conductor_url)) as conductor:
        yield Bench(conductor_url, conductor, workbench)


# -- what a submission shows ----------------------------------------------------------------------


def test_a_submission_that_succeeds_shows_its_job(bench: Bench) -> None:
    execution, [call] = bench.submitted()

    [job] = bench.workbench.jobs
    assert execution.status is WorkflowStatus.COMPLETED
    assert execution.output == {"workbench_job_id": job.id, "status": "QUEUED"}
    assert sight_of(BATCH, execution).seen is Seen.DONE
    assert sight_of(BATCH, execution).job_id == job.id
    assert call.method == "POST"


@pytest.mark.parametrize("status", [200, 201, 202])
def test_any_2xx_is_a_success(bench: Bench, status: int) -> None:
    bench.workbench.script(submit=[Answer(status, {"workbench_job_id": "job-1"})])
    execution, _ = bench.submitted()
    assert sight_of(BATCH, execution).job_id == "job-1"


INVALID = {
    "HTML": (html(), repr(PAGE)),
    "text that could be an id": (Answer(200, "job-1"), "'job-1'"),
    "broken JSON": (Answer(200, b"{broken"), "'{broken'"),
    "a list": (Answer(200, ["job-1"]), "['job-1']"),
    "nothing": (Answer(200, b""), "None"),
    "204": (Answer(204, b""), "None"),
    "{}": (Answer(200, {}), "None"),
    "null": (Answer(200, {"workbench_job_id": None}), "None"),
    "a number": (Answer(200, {"workbench_job_id": 42}), "42"),
    "an object": (Answer(200, {"workbench_job_id": {"id": 1}}), "{'id': 1}"),
    "a path": (Answer(200, {"workbench_job_id": "../x"}), "'../x'"),
    "300 characters": (Answer(200, {"workbench_job_id": "x" * 300}), repr("x" * 300)[:200]),
}


@pytest.mark.parametrize(("answer", "quoted"), INVALID.values(), ids=INVALID.keys())
def test_f10_an_answer_without_a_valid_job_id_is_none(
    bench: Bench, answer: Item, quoted: str
) -> None:
    bench.workbench.script(submit=[answer])

    execution, _ = bench.submitted()

    sight = sight_of(BATCH, execution)
    assert (sight.seen, sight.job_id) == (Seen.DONE_WITHOUT_RESULT, None)
    told = "The Workbench's answer has no valid workbench_job_id"
    assert sight.message == f"{told}, but {quoted}"


def test_f10_a_page_behind_a_redirect_is_no_job(bench: Bench) -> None:
    """Conductor follows a 302 by GET, wherever it leads."""
    bench.workbench.script(submit=[redirect(f"{bench.workbench.url}/health")])
    execution, _ = bench.submitted()
    assert sight_of(BATCH, execution).seen is Seen.DONE_WITHOUT_RESULT


REFUSALS = {
    "400": (Answer(400, {"error": 'no "input"'}), '400 Bad Request: {"error": "no \\"input\\""}'),
    "404": (Answer(404, "no"), "404 Not Found: no"),
    "409": (Answer(409, "no"), "409 Conflict: no"),
    "422": (Answer(422, "no such bucket"), "422 Unprocessable Entity: no such bucket"),
    "429": (always(Answer(429, "slow down")), "429 Too Many Requests: slow down"),
}


@pytest.mark.parametrize(("answer", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_f12_a_4xx_is_a_refusal_in_the_workbenchs_words(
    bench: Bench, answer: Item, message: str
) -> None:
    bench.workbench.script(submit=[answer])

    execution, _ = bench.submitted()

    assert execution.status is WorkflowStatus.FAILED
    assert execution.call_end is CallEnd.CLIENT_ERROR
    sight = sight_of(BATCH, execution)
    assert sight.seen is Seen.WORKBENCH_REFUSED
    assert sight.message == f"The Workbench answered {message}"


LOOKS_LIKE_A_REFUSAL = 'I/O error on POST request for "x": Connect to x failed: Connection refused'
BREAKS = {
    "500": (Answer(500, "out of disk"), "500 Internal Server Error: out of disk"),
    "500 without a body": (Answer(500, b""), "500 Internal Server Error: [no body]"),
    "500 with a page": (html(500), f"500 Internal Server Error: {PAGE}"),
    "503": (always(Answer(503, "busy")), "503 Service Unavailable: busy"),
    "599": (Answer(599, "?"), "599 : ?"),
    "500 that looks like something else": (
        Answer(500, LOOKS_LIKE_A_REFUSAL),
        f"500 Internal Server Error: {LOOKS_LIKE_A_REFUSAL}",
    ),
}


@pytest.mark.parametrize(("answer", "message"), BREAKS.values(), ids=BREAKS.keys())
def test_p12_a_5xx_is_a_breakdown_in_the_workbenchs_words(
    bench: Bench, answer: Item, message: str
) -> None:
    bench.workbench.script(submit=[answer])

    execution, _ = bench.submitted()

    assert execution.call_end is CallEnd.SERVER_ERROR
    sight = sight_of(BATCH, execution)
    assert sight.seen is Seen.WORKBENCH_BROKE
    assert sight.message == f"The Workbench answered {message}"


LOSSES = {
    "502": (Answer(502, "bad gateway"), "The Workbench answered 502 Bad Gateway: bad gateway"),
    "504": (Answer(504, "slow"), "The Workbench answered 504 Gateway Timeout: slow"),
    "reset": (drop(), "The Workbench's answer was lost: Connection reset"),
    "reset after it was done": (
        execute_and_drop(),
        "The Workbench's answer was lost: Connection reset",
    ),
    "slower than 8 s": (late(9), "The Workbench's answer was lost: Read timed out"),
}


@pytest.mark.parametrize(("answer", "message"), LOSSES.values(), ids=LOSSES.keys())
def test_p12_f11_an_answer_that_was_lost_leaves_it_open(
    bench: Bench, answer: Item, message: str
) -> None:
    bench.workbench.script(submit=[answer])

    execution, _ = bench.submitted()

    assert (execution.status, execution.call_end) == (WorkflowStatus.FAILED, CallEnd.UNCLEAR)
    sight = sight_of(BATCH, execution)
    assert sight.seen is Seen.ANSWER_LOST
    assert sight.message == f"The workflow FAILED: {message}"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1", "no connection"),
        ("http://nowhere.invalid", "nobody knows its name"),
    ],
)
def test_p12_a_workbench_that_is_not_there_got_nothing(bench: Bench, url: str, why: str) -> None:
    execution, calls = bench.submitted(workbench_api_url=url)

    assert execution.call_end is CallEnd.CONNECTION_REFUSED
    assert not calls
    sight = sight_of(BATCH, execution)
    assert sight.seen is Seen.WORKBENCH_REFUSED
    assert sight.message == f"The Workbench can't be reached: {why}"


def test_a_workbench_that_takes_six_seconds_is_waited_for(bench: Bench) -> None:
    bench.workbench.script(submit=[late(6)])
    execution, _ = bench.submitted()
    assert sight_of(BATCH, execution).seen is Seen.DONE
    assert len(bench.workbench.jobs) == 1


def test_s10_an_answer_that_is_too_large_brings_its_job_all_the_same(bench: Bench) -> None:
    bench.workbench.script(submit=[huge(1_000_000)])

    workflow_id, correlation_id = bench.start()

    [job_id] = [bench.ended(workflow_id).output["workbench_job_id"]]
    assert job_id == bench.workbench.jobs[0].id
    assert [sight_of(BATCH, one).job_id for one in bench.found(correlation_id)] == [job_id]


def test_s10_an_answer_that_is_too_large_and_has_no_job_id_is_not_quoted(bench: Bench) -> None:
    bench.workbench.script(submit=[Answer(200, "x" * 1_000_000)])

    execution, _ = bench.submitted()

    sight = sight_of(BATCH, execution)
    assert sight.seen is Seen.DONE_WITHOUT_RESULT
    assert sight.message.endswith(", but None")


# -- what the Workbench is sent -------------------------------------------------------------------


def test_f9_conductors_second_post_has_the_same_key(bench: Bench) -> None:
    """It repeats a 503 and a 429 within one attempt, whatever its retry count says."""
    bench.workbench.script(submit=[Answer(503, "busy")])

    execution, calls = bench.submitted()

    first, second = calls
    assert first.idempotency_key == second.idempotency_key is not None
    assert first.body == second.body
    assert len(bench.workbench.jobs) == 1
    assert sight_of(BATCH, execution).job_id == bench.workbench.jobs[0].id


def test_the_original_designs_fields_arrive_with_the_runs_key(bench: Bench) -> None:
    key = f"{uuid4()}-4711"

    _, [call] = bench.submitted(correlation_id=key)

    assert call.body == {
        "pipeline_run_id": 4711,
        "input_path_prefix": "in/1",
        "output_path_prefix": "out/1",
        "report_path_prefix": None,
        "parameters": None,
    }
    assert call.idempotency_key == key
    assert call.header("Content-Type") == "application/json"


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"text": "\"quoted\" 'too' \\ \n \t ü \N{GRINNING FACE} </script>"},
        {"text": "${workflow.input.idempotency_key}", "more": "a ${x} ${ $${y} } #{z} %s {0}"},
        {"${key}": ["${workflow.workflowId}", {"deep": ["${CPEWF_TASK_ID}", "${workflow.env.X}"]}]},
        {"n": [0, -1, 1.5, 2**53, 1e300, True, False, None], "empty": [{}, [], ""]},
    ],
)
def test_parameters_arrive_as_they_are(bench: Bench, parameters: dict[str, Any]) -> None:
    _, [call] = bench.submitted(parameters=parameters)
    assert call.body["parameters"] == parameters


def test_s8_a_prefix_arrives_as_it_is(bench: Bench) -> None:
    prefixes: dict[str, Any] = {
        "input_path_prefix": "s3://bucket/a b/'\"ü%2e{x}/",
        "output_path_prefix": "$x/{}/\N{GRINNING FACE}",
        "report_path_prefix": "report",
    }
    _, [call] = bench.submitted(**prefixes)
    assert {name: call.body[name] for name in prefixes} == prefixes


def test_s8_conductor_puts_its_secrets_in_place_of_one_text_alone(bench: Bench) -> None:
    """Why the API refuses this one text in parameters: were it literal, it might be let pass."""
    _, [call] = bench.submitted(parameters={"text": "a ${workflow.secrets.x} b"})
    assert call.body["parameters"] == {"text": "a  b"}


# -- REALTIME -------------------------------------------------------------------------------------


def test_p31_a_realtime_workflow_shows_its_output(bench: Bench) -> None:
    execution, [call] = bench.submitted(REALTIME)

    assert execution.status is WorkflowStatus.COMPLETED
    assert sight_of(REALTIME, execution).output == {"input": "in/1", "objects": 1}
    assert call.idempotency_key


@pytest.mark.parametrize("output", [{"a": [1, None, "ü"]}, [1, 2], "text", 0, False])
def test_p31_any_output_but_null_is_one(bench: Bench, output: object) -> None:
    bench.workbench.script(realtime=[Answer(200, {"output": output})])
    execution, _ = bench.submitted(REALTIME)
    sight = sight_of(REALTIME, execution)
    assert (sight.seen, sight.output) == (Seen.DONE, output)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (html(), Seen.DONE_WITHOUT_RESULT),
        (Answer(200, {}), Seen.DONE_WITHOUT_RESULT),
        (Answer(200, {"output": None}), Seen.DONE_WITHOUT_RESULT),
        (Answer(400, "no"), Seen.WORKBENCH_REFUSED),
        (Answer(500, "no"), Seen.WORKBENCH_BROKE),
        (drop(), Seen.ANSWER_LOST),
    ],
)
def test_p31_without_an_output_a_realtime_workflow_shows_why(
    bench: Bench, answer: Item, seen: Seen
) -> None:
    bench.workbench.script(realtime=[answer])
    execution, _ = bench.submitted(REALTIME)
    assert sight_of(REALTIME, execution).seen is seen


# -- start, find, decide --------------------------------------------------------------------------


def test_a_started_workflow_has_an_id(bench: Bench) -> None:
    workflow_id, _ = bench.start()
    assert str(UUID(workflow_id)) == workflow_id


@pytest.mark.parametrize(
    ("name", "version"), [("no_such_workflow", None), (WORKFLOWS[BATCH], 99), ("a/b?c", None)]
)
def test_p12_an_unknown_workflow_is_refused(bench: Bench, name: str, version: int | None) -> None:
    with pytest.raises(WorkflowRefused, match=r"Conductor answered 404: .*No such workflow"):
        bench.conductor.start(
            workflow_name=name,
            workflow_version=version,
            correlation_id="x-1",
            workflow_input={},
            timeout=CALL,
        )


def test_a_version_may_be_named(bench: Bench) -> None:
    workflow_id = bench.conductor.start(
        workflow_name=WORKFLOWS[BATCH],
        workflow_version=1,
        correlation_id=f"{uuid4()}-1",
        workflow_input={"workbench_api_url": bench.workbench.url},
        timeout=CALL,
    )
    assert bench.ended(workflow_id).call_end is CallEnd.CLIENT_ERROR


def test_f7_all_workflows_of_a_run_are_found_newest_first(bench: Bench) -> None:
    bench.workbench.script(submit=[Answer(500, "oops"), drop()])
    key = f"{uuid4()}-1"
    started = []
    for _ in range(3):
        started.append(bench.start(correlation_id=key)[0])
        bench.ended(started[-1])

    found = bench.found(key)

    assert [one.workflow_id for one in found] == started[::-1]
    assert [sight_of(BATCH, one).seen for one in found] == [
        Seen.DONE,
        Seen.ANSWER_LOST,
        Seen.WORKBENCH_BROKE,
    ]
    assert sight_of(BATCH, found[2]).message == (
        "The Workbench answered 500 Internal Server Error: oops"
    )


def test_a_run_without_a_workflow_has_none(bench: Bench) -> None:
    assert bench.found(f"{uuid4()}-1") == []
    assert bench.found(bench.start()[1], REALTIME) == []


def test_s10_the_workflows_of_a_run_with_the_largest_parameters_can_be_read(bench: Bench) -> None:
    bench.workbench.script(submit=[always(Answer(500, "oops"))])
    key = f"{uuid4()}-1"
    for _ in range(5):
        bench.ended(bench.start(correlation_id=key, parameters={"text": "x" * 32_000})[0])

    assert [one.call_end for one in bench.found(key)] == [CallEnd.SERVER_ERROR] * 5


def test_a_workflow_that_runs_is_shown_running(bench: Bench) -> None:
    bench.workbench.script(submit=[late(3)])
    workflow_id, key = bench.start()
    bench.workbench.wait_for_calls("submit")

    assert bench.conductor.execution(workflow_id, timeout=CALL).status is WorkflowStatus.RUNNING
    assert [one.status for one in bench.found(key)] == [WorkflowStatus.RUNNING]
    bench.conductor.decide(workflow_id, timeout=CALL)

    assert sight_of(BATCH, bench.ended(workflow_id)).seen is Seen.DONE


def test_p9_the_job_of_a_workflow_that_was_ended_in_its_call_is_in_its_task(bench: Bench) -> None:
    """Ending it doesn't end the call; the job then stands in the task alone."""
    bench.workbench.script(submit=[late(1)])
    workflow_id, key = bench.start()
    bench.workbench.wait_for_calls("submit")
    bench.end(workflow_id)
    [job] = bench.workbench.jobs

    end = time.monotonic() + DEADLINE_SECONDS
    while bench.conductor.execution(workflow_id, timeout=CALL).submitted_job_id is None:
        assert time.monotonic() < end, "the job never appeared"
        time.sleep(LOOK_AGAIN_SECONDS)  # between two looks

    execution = bench.conductor.execution(workflow_id, timeout=CALL)
    assert execution.status is WorkflowStatus.TERMINATED
    assert execution.submitted_job_id == job.id
    for one in (execution, *bench.found(key)):
        assert (sight_of(BATCH, one).seen, sight_of(BATCH, one).job_id) == (Seen.DONE, job.id)


def test_a_workflow_that_is_not_there_is_refused(bench: Bench) -> None:
    unknown = str(uuid4())
    with pytest.raises(WorkflowRefused):
        bench.conductor.execution(unknown, timeout=CALL)
    with pytest.raises(WorkflowRefused):
        bench.conductor.decide(unknown, timeout=CALL)
    with pytest.raises(WorkflowRefused):
        bench.conductor.terminate(unknown, reason="r", timeout=CALL)


# -- terminate ------------------------------------------------------------------------------------


def terminate(bench: Bench, workflow_id: str, reason: str = "r") -> None:
    bench.conductor.terminate(workflow_id, reason=reason, timeout=CALL)


def test_p23_a_workflow_that_runs_is_terminated_with_the_reason(bench: Bench) -> None:
    reason = 'cancelled by "ü" & b=c?d/e#f %20+1'
    bench.workbench.script(submit=[late(1)])
    workflow_id, _ = bench.start()
    bench.workbench.wait_for_calls("submit")

    terminate(bench, workflow_id, reason)

    execution = bench.conductor.execution(workflow_id, timeout=CALL)
    assert execution.status is WorkflowStatus.TERMINATED
    told = httpx.get(f"{bench.url}/api/workflow/{workflow_id}").raise_for_status().json()
    assert told["reasonForIncompletion"] == reason


def test_p23_terminating_does_not_wait_for_the_call_that_is_under_way(bench: Bench) -> None:
    bench.workbench.script(submit=[late(6)])
    workflow_id, _ = bench.start()
    bench.workbench.wait_for_calls("submit")

    before = time.monotonic()
    terminate(bench, workflow_id)

    assert time.monotonic() - before < 4
    assert bench.conductor.execution(workflow_id, timeout=CALL).status is WorkflowStatus.TERMINATED
    assert len(bench.workbench.jobs) == 1
    assert len(bench.workbench.calls_of("submit")) == 1


def test_p23_a_workflow_that_completed_is_not_terminated_any_more(bench: Bench) -> None:
    workflow_id, _ = bench.start()
    before = bench.ended(workflow_id)

    with pytest.raises(WorkflowRefused, match=r"answered 409: .*Cannot terminate a COMPLETED"):
        terminate(bench, workflow_id)

    assert bench.conductor.execution(workflow_id, timeout=CALL) == before
    assert before.status is WorkflowStatus.COMPLETED


def test_p23_terminating_a_workflow_that_failed_hides_how_it_failed(bench: Bench) -> None:
    """So only one that was seen running is terminated, and a moment may lie between."""
    bench.workbench.script(submit=[Answer(422, "no such bucket")])
    workflow_id, _ = bench.start()
    before = bench.ended(workflow_id)
    assert sight_of(BATCH, before).seen is Seen.WORKBENCH_REFUSED

    terminate(bench, workflow_id)

    after = bench.conductor.execution(workflow_id, timeout=CALL)
    assert (after.status, after.call_end) == (WorkflowStatus.TERMINATED, CallEnd.UNCLEAR)
    assert sight_of(BATCH, after).seen is Seen.ANSWER_LOST


def test_p23_to_terminate_twice_is_the_same_as_once(bench: Bench) -> None:
    bench.workbench.script(submit=[late(1)])
    workflow_id, _ = bench.start()
    bench.workbench.wait_for_calls("submit")

    for _ in range(2):
        terminate(bench, workflow_id)

    assert bench.conductor.execution(workflow_id, timeout=CALL).status is WorkflowStatus.TERMINATED


# -- a Conductor that is not well -----------------------------------------------------------------

WHOLE = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    # The server serves a connection once; a client that keeps it would race with its end.
    "Connection: close\r\nContent-Length: {}\r\n\r\n"
)


def answering(body: str, head: str = WHOLE) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall((head.format(len(body.encode())) + body).encode())

    return serve


def dripping(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(WHOLE.format(100_000).encode())
    for _ in range(200):
        connection.sendall(b" ")
        time.sleep(0.05)  # drips


def dripping_headers(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(400):
        connection.sendall(b"X: y\r\n")
        time.sleep(0.05)  # drips


def silent(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.recv(1)  # Until the other side has had enough.


def hanging_up(connection: socket.socket) -> None:
    connection.recv(65_536)


def flooding(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(WHOLE.format(10**9).encode())
    while True:
        connection.sendall(b" " * 65_536)


@contextmanager
def server_that(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that treats every connection so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(DEADLINE_SECONDS)


@contextmanager
def conductor_that(
    serve: Callable[[socket.socket], None], scheme: str = "http"
) -> Iterator[HttpConductor]:
    """A client of such a server."""
    with (
        server_that(serve) as port,
        closing(HttpConductor(f"{scheme}://127.0.0.1:{port}/")) as conductor,
    ):
        yield conductor


def calls_of(conductor: HttpConductor, timeout: timedelta) -> dict[str, Callable[[], Any]]:
    return {
        "start": lambda: conductor.start(
            workflow_name="w",
            workflow_version=None,
            correlation_id="c",
            workflow_input={},
            timeout=timeout,
        ),
        "execution": lambda: conductor.execution("w", timeout=timeout),
        "find": lambda: conductor.find(workflow_name="w", correlation_id="c", timeout=timeout),
        "decide": lambda: conductor.decide("w", timeout=timeout),
        "terminate": lambda: conductor.terminate("w", reason="r", timeout=timeout),
    }


def told(conductor: HttpConductor, *, call: str, timeout: timedelta = CALL) -> ConductorError:
    """The error that a call ends in."""
    with pytest.raises(ConductorError) as error:
        calls_of(conductor, timeout)[call]()
    return error.value


def nobody() -> HttpConductor:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return HttpConductor(f"http://127.0.0.1:{port}")


every_call = pytest.mark.parametrize("call", ["start", "execution", "find", "decide", "terminate"])


@every_call
def test_p12_f4_where_nobody_listens_nothing_was_sent(call: str) -> None:
    with closing(nobody()) as conductor:
        error = told(conductor, call=call)
    assert type(error) is ConductorUnreachable
    assert "Conductor can't be reached" in str(error)


@every_call
def test_p12_f4_a_name_that_nobody_has_was_sent_nothing(call: str) -> None:
    with closing(HttpConductor("http://nowhere.invalid")) as conductor:
        assert type(told(conductor, call=call)) is ConductorUnreachable


def test_p12_f4_without_tls_on_the_other_side_nothing_was_sent() -> None:
    with conductor_that(hanging_up, scheme="https") as conductor:
        assert type(told(conductor, call="start")) is ConductorUnreachable


OK = "HTTP/1.1 200 OK"
UNCLEAR: dict[str, Callable[[socket.socket], None]] = {
    "hangs up": hanging_up,
    "is silent": silent,
    "drips": dripping,
    "drips headers": dripping_headers,
    "408": answering("", "HTTP/1.1 408 Slow\r\nContent-Length: {}\r\n\r\n"),
    "floods": flooding,
    "500": answering("oops", "HTTP/1.1 500 Oops\r\nContent-Length: {}\r\n\r\n"),
    "503": answering("", "HTTP/1.1 503 Busy\r\nContent-Length: {}\r\n\r\n"),
    "cut off": answering("abc", f"{OK}\r\nContent-Length: 9{{}}\r\n\r\n"),
    "no HTTP": answering("", "SSH-2.0-OpenSSH\r\n"),
    "packed": answering("x", f"{OK}\r\nContent-Encoding: gzip\r\nContent-Length: {{}}\r\n\r\n"),
    "a page": answering(PAGE),
}


@pytest.mark.parametrize("serve", UNCLEAR.values(), ids=UNCLEAR.keys())
@pytest.mark.parametrize("call", ["start", "execution", "find"])
def test_p12_f5_an_answer_that_was_lost_or_makes_no_sense_leaves_it_open(
    serve: Callable[[socket.socket], None], call: str
) -> None:
    before = time.monotonic()
    with conductor_that(serve) as conductor:
        error = told(conductor, call=call, timeout=timedelta(seconds=0.5))
    assert type(error) is ConductorUnclear
    assert time.monotonic() - before < DEADLINE_SECONDS / 4
    assert len(str(error)) < 400


@pytest.mark.parametrize("how", [one for one in UNCLEAR if one != "a page"])
def test_p12_f5_a_lost_answer_leaves_it_open_whether_a_workflow_was_terminated(how: str) -> None:
    """What a good answer to it says is of no interest."""
    with conductor_that(UNCLEAR[how]) as conductor:
        error = told(conductor, call="terminate", timeout=timedelta(seconds=0.5))
    assert type(error) is ConductorUnclear
    assert len(str(error)) < 400


@every_call
@pytest.mark.parametrize("status", [401, 403, 407, 429])
def test_p12_what_a_gate_before_conductor_does_not_let_in_was_not_started(
    call: str, status: int
) -> None:
    """Who is let in later can try again: a start that is refused for good ends its run."""
    head = f"HTTP/1.1 {status} No\r\nContent-Length: {{}}\r\n\r\n"
    with conductor_that(answering("why", head)) as conductor:
        error = told(conductor, call=call)
    assert type(error) is ConductorUnreachable
    assert str(error) == f"Conductor answered {status}: why"


@every_call
@pytest.mark.parametrize("status", [400, 404, 409, 302])
def test_p12_what_conductor_refuses_was_not_done(call: str, status: int) -> None:
    head = (
        f"HTTP/1.1 {status} No\r\nLocation: http://nowhere.invalid\r\nContent-Length: {{}}\r\n\r\n"
    )
    with conductor_that(answering("why", head)) as conductor:
        error = told(conductor, call=call)
    assert type(error) is WorkflowRefused
    assert str(error) == f"Conductor answered {status}: why"


NO_WORKFLOWS: dict[str, Any] = {
    "no id": {"status": "COMPLETED"},
    "no status": {"workflowId": "w"},
    "unknown status": {"workflowId": "w", "status": "MELTED"},
    "tasks of another kind": {"workflowId": "w", "status": "TIMED_OUT", "tasks": ["task"]},
    "a reason of another kind": {
        "workflowId": "w",
        "status": "TIMED_OUT",
        "reasonForIncompletion": 1,
    },
    "a text": "text",
    "a number": 1,
    "nothing": None,
}
no_workflows = pytest.mark.parametrize("answer", NO_WORKFLOWS.values(), ids=NO_WORKFLOWS.keys())


@no_workflows
def test_p12_json_that_is_no_workflow_leaves_it_open(answer: Any) -> None:
    with conductor_that(answering(json.dumps(answer))) as conductor:
        assert type(told(conductor, call="execution")) is ConductorUnclear


@no_workflows
def test_p12_json_that_holds_what_is_no_workflow_leaves_it_open(answer: Any) -> None:
    with conductor_that(answering(json.dumps([answer]))) as conductor:
        assert type(told(conductor, call="find")) is ConductorUnclear


def test_p9_without_its_task_a_workflow_that_timed_out_leaves_it_open() -> None:
    told_of = [answering(json.dumps({"workflowId": "w", "status": "TIMED_OUT"})), hanging_up]

    def serve(connection: socket.socket) -> None:
        told_of.pop(0)(connection)

    with conductor_that(serve) as conductor:
        assert type(told(conductor, call="execution")) is ConductorUnclear
    assert not told_of


@pytest.mark.parametrize("answer", [{}, {"a": 1}, "", "text", 0, None])
def test_p8_p12_json_that_is_no_list_does_not_mean_that_there_is_no_workflow(answer: Any) -> None:
    with conductor_that(answering(json.dumps(answer))) as conductor:
        assert type(told(conductor, call="find")) is ConductorUnclear


def test_a_start_is_answered_by_a_bare_or_a_quoted_id() -> None:
    for body in ("0a1b-2c", '"0a1b-2c"'):
        with conductor_that(answering(body)) as conductor:
            assert calls_of(conductor, CALL)["start"]() == "0a1b-2c"
