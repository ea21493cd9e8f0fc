"""The Workbench's adapter on scripted Workbenches, good and bad, and on the reference one."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import tracemalloc
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from reference_workbench import serve_user_storage, start_workbench, wait_until
from runs.adapters.workbench import HttpWorkbench
from runs.errors import WorkbenchUnavailable
from runs.model import Progress
from runs.ports import JobStatus, NoAnswer
from scripted_workbench import (
    Answer,
    ScriptedWorkbench,
    State,
    always,
    drip,
    drop,
    html,
    huge,
    late,
    not_found,
    redirect,
    retry_after,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runs.ports import JobAnswer
    from scripted_workbench import Item

LONG = timedelta(seconds=30)
ANSWER_TIME = timedelta(seconds=0.5)
# What never takes this long unless something is wrong.
DEADLINE_SECONDS = 20
PAGE = "<html><body>Welcome to nginx!</body></html>"


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


def submitted(scripted: ScriptedWorkbench, count: int) -> list[str]:
    """So many jobs, for the runs 1, 2, …"""
    with httpx.Client() as client:
        made = [submit(client, scripted.url, run_id) for run_id in range(1, count + 1)]
    scripted.calls.clear()
    return made


def submit(client: httpx.Client, url: str, run_id: int, input_path_prefix: str = "in/") -> str:
    body = {
        "pipeline_run_id": run_id,
        "input_path_prefix": input_path_prefix,
        "output_path_prefix": f"out/{run_id}/",
    }
    headers = {"Idempotency-Key": f"key-{run_id}"}
    answer = client.post(f"{url}/batch/submit", json=body, headers=headers)
    return str(answer.raise_for_status().json()["workbench_job_id"])


def ask_one(workbench: HttpWorkbench, job_id: str) -> JobAnswer:
    answers = workbench.ask([job_id], within=LONG)
    assert list(answers) == [job_id]
    return answers[job_id]


def trouble(answer: JobAnswer) -> str:
    """Why there is no valid answer."""
    assert isinstance(answer, NoAnswer), answer
    return answer.reason


def word(answer: JobAnswer) -> str:
    assert isinstance(answer, JobStatus), answer
    return answer.upstream_status


# -- one job --------------------------------------------------------------------------------------


def test_a_job_is_told_with_all_that_is_known_of_it(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.become(
        "Running", run=1, error_message="so far so good", progress=(3, 4), logs_url="https://l/1?a"
    )

    assert ask_one(workbench, job_id) == JobStatus(
        upstream_status="Running",
        error_message="so far so good",
        progress=Progress(3, 4),
        logs_url="https://l/1?a",
    )
    [call] = scripted.calls
    assert (call.method, call.path) == ("GET", f"/batch/status/{job_id}")


def test_p17_f25_an_unknown_job_is_told_apart(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[not_found(), Answer(410, "gone"), Answer(500, "404")])

    answers = [ask_one(workbench, job_id) for _ in range(3)]

    assert [isinstance(one, NoAnswer) and one.unknown_job for one in answers] == [
        True,
        False,
        False,
    ]
    assert trouble(answers[0]).startswith("The Workbench answered 404: ")


@pytest.mark.parametrize("status", [400, 401, 403, 409, 429, 500, 502, 503, 504, 599])
def test_p16_f27_a_refusal_is_trouble_in_the_workbenchs_words(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, status: int
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[Answer(status, "out of disk " + "x" * 10_000)])

    reason = trouble(ask_one(workbench, job_id))

    assert reason.startswith(f"The Workbench answered {status}: out of disk xxx")
    assert len(reason) <= 250


@pytest.mark.parametrize("kind", [200, 500])
def test_p16_f30_a_page_is_trouble(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, kind: int
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[html(kind)])
    reason = trouble(ask_one(workbench, job_id))
    assert "no JSON" in reason or PAGE in reason


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_f30_a_redirect_is_not_followed(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, status: int
) -> None:
    [job_id] = submitted(scripted, 1)
    with ScriptedWorkbench() as elsewhere:
        scripted.script(status=[redirect(f"{elsewhere.url}/batch/status/{job_id}", status)])

        reason = trouble(ask_one(workbench, job_id))

        assert reason.startswith(f"The Workbench answered {status}")
        assert elsewhere.calls == []


@pytest.mark.parametrize("named", ["job-9", "", None, 7, ["job-1"], "JOB"])
def test_f31_an_answer_about_another_job_is_refused(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, named: object
) -> None:
    [job_id] = submitted(scripted, 1)
    body = {"workbench_job_id": named, "status": "COMPLETED"}
    scripted.script(status=[Answer(200, body)])
    assert trouble(ask_one(workbench, job_id)) == (
        f"The Workbench's answer is about another job, {named!r}"
    )


def test_an_answer_need_not_name_its_job(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[Answer(200, {"status": "RUNNING"})])
    assert word(ask_one(workbench, job_id)) == "RUNNING"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(None, "NoneType"), (7, "int"), (1.5, "float"), (True, "bool"), (["RUNNING"], "list")],
)
def test_p16_f24_a_status_that_is_no_text_is_trouble(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, status: object, kind: str
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[State(status)])
    reason = trouble(ask_one(workbench, job_id))
    assert reason == f"The Workbench's answer has no status but {kind}"


def test_f24_f40_texts_are_cut_and_cleaned(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[State("S\0" + "x" * 100_000, error_message="\ud800" + "m" * 10_000)])

    answer = ask_one(workbench, job_id)

    assert isinstance(answer, JobStatus)
    assert answer.upstream_status == "S\N{REPLACEMENT CHARACTER}" + "x" * 61 + "…"
    assert answer.error_message == "?" + "m" * 1_998 + "…"


@pytest.mark.parametrize(
    "progress",
    [
        None,
        7,
        "1/2",
        [1, 2],
        {},
        {"done": 1},
        {"done": "1", "total": "2"},
        {"done": 1.5, "total": 2},
        {"done": True, "total": True},
        {"done": -1, "total": 2},
        {"done": 3, "total": 2},
        {"done": 0, "total": 2**53 + 1},
        {"done": 10**400, "total": 10**400},
    ],
)
def test_a_progress_that_makes_no_sense_is_none(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, progress: object
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[Answer(200, {"status": "RUNNING", "progress": progress})])
    assert ask_one(workbench, job_id) == JobStatus(upstream_status="RUNNING")


@pytest.mark.parametrize(
    "logs_url",
    [
        None,
        7,
        ["http://l"],
        "",
        "javascript:alert(1)",
        "/logs",
        "file:///l",
        "http://" + "l" * 2_048,
    ],
)
def test_a_logs_url_that_leads_nowhere_is_none(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, logs_url: object
) -> None:
    [job_id] = submitted(scripted, 1)
    body = {"status": "RUNNING", "logs_url": logs_url, "error_message": 5}
    scripted.script(status=[Answer(200, body)])
    assert ask_one(workbench, job_id) == JobStatus(upstream_status="RUNNING")


# -- bodies ---------------------------------------------------------------------------------------

BAD_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "broken": b'{"status": "RUNN',
    "a list": b'[{"status": "RUNNING"}]',
    "a text": b'"RUNNING"',
    "null": b"null",
    "NaN": b'{"status": "RUNNING", "x": NaN}',
    "infinite": b'{"status": "RUNNING", "x": 1e999}',
    "a key twice": b'{"status": "RUNNING", "status": "COMPLETED"}',
    "a million levels": b'{"status": "RUNNING", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "200 levels": b'{"status": "RUNNING", "x": ' + b"[" * 200 + b"]" * 200 + b"}",
    "no UTF-8": b'{"status": "\xc3\x28"}',
    "packed": gzip.compress(b'{"status": "RUNNING"}'),
    "a number without end": b'{"status": "RUNNING", "x": ' + b"9" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_p16_f29_a_body_that_does_not_mean_one_thing_is_trouble(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, body: bytes
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[Answer(200, body, content_type="application/json")])

    reason = trouble(ask_one(workbench, job_id))

    assert reason.startswith("The Workbench's answer ")
    assert len(reason) < 400


def test_f29_a_byte_order_mark_is_passed_over(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    """A receiver may (RFC 8259, section 8.1)."""
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[Answer(200, b'\xef\xbb\xbf{"status": "RUNNING"}')])
    assert word(ask_one(workbench, job_id)) == "RUNNING"


def test_f29_a_packed_body_is_not_unpacked(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    """200 MiB of blanks, in 200 KiB."""
    [job_id] = submitted(scripted, 1)
    bomb = gzip.compress(b" " * (200 * 2**20), compresslevel=9)
    assert len(bomb) < 256 * 1024
    scripted.script(status=[Answer(200, bomb, headers={"Content-Encoding": "gzip"})])

    tracemalloc.start()
    reason = trouble(ask_one(workbench, job_id))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert "packed" in reason
    assert peak < 32 * 2**20
    assert scripted.calls[-1].header("Accept-Encoding") == "identity"


@pytest.mark.parametrize(("size", "fits"), [(256 * 1024, True), (256 * 1024 + 1, False)])
def test_s10_f29_a_body_may_have_256_kib(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, size: int, *, fits: bool
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[huge(size)])
    answer = ask_one(workbench, job_id)
    assert isinstance(answer, JobStatus) is fits
    if not fits:
        assert trouble(answer).endswith("the answer is larger than 256 KiB")


class Flood:
    """A server whose answer has no end; it counts what is taken of it."""

    def __init__(self, head: bytes) -> None:
        self.sent_bytes = 0
        self._head = head

    def __call__(self, connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(self._head)
        while True:
            connection.sendall(b" " * 65_536)
            self.sent_bytes += 65_536


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 33554432\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\n\r\n",
    ],
    ids=["32 MiB", "no length", "500"],
)
def test_f29_of_a_body_without_end_little_is_read(head: bytes) -> None:
    flood = Flood(head)
    with server_that(flood) as url, closing(HttpWorkbench(url)) as workbench:
        tracemalloc.start()
        reason = trouble(ask_one(workbench, "job-1"))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert "larger than 256 KiB" in reason
    assert flood.sent_bytes < 16 * 2**20  # What sockets hold.
    assert peak < 32 * 2**20


# -- time -----------------------------------------------------------------------------------------


def test_f28_a_body_that_drips_is_cut_at_the_deadline(
    scripted: ScriptedWorkbench, hasty: HttpWorkbench
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[drip(0.1)])

    before = time.monotonic()
    reason = trouble(ask_one(hasty, job_id))

    assert reason == "The Workbench gave no whole answer within 0.5 s"
    assert time.monotonic() - before < DEADLINE_SECONDS / 4


def test_f28_headers_that_drip_are_cut_at_the_deadline() -> None:
    def drips(connection: socket.socket) -> None:
        connection.recv(65_536)
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Padding: x\r\n" * 100:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)  # drips

    with (
        server_that(drips) as url,
        closing(HttpWorkbench(url, answer_time=ANSWER_TIME)) as workbench,
    ):
        assert "no whole answer" in trouble(ask_one(workbench, "job-1"))


def test_p16_an_answer_that_comes_too_late_is_trouble(
    scripted: ScriptedWorkbench, hasty: HttpWorkbench
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[late(DEADLINE_SECONDS)])
    assert "no whole answer" in trouble(ask_one(hasty, job_id))
    assert word(ask_one(hasty, job_id)) == "RUNNING"


def test_p18_a_job_that_there_was_no_time_for_is_left_out(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    scripted.bulk_status = False
    slow, quick = submitted(scripted, 2)
    scripted.script(job=slow, status=[late(DEADLINE_SECONDS)])

    answers = workbench.ask([slow, quick], within=timedelta(seconds=1))

    assert {job_id: word(answer) for job_id, answer in answers.items()} == {quick: "RUNNING"}
    assert word(ask_one(workbench, slow)) == "RUNNING"


def test_without_time_nobody_is_asked(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    jobs = submitted(scripted, 2)
    assert workbench.ask(jobs, within=timedelta(0)) == {}
    assert workbench.ask([], within=LONG) == {}


def test_a_hundred_jobs_are_asked_side_by_side(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    """One after the other they would take a minute."""
    scripted.bulk_status = False
    jobs = submitted(scripted, 120)
    scripted.script(status=[always(late(0.5))])

    before = time.monotonic()
    answers = workbench.ask(jobs, within=LONG)

    assert time.monotonic() - before < DEADLINE_SECONDS
    assert sorted(answers) == sorted(jobs)
    assert {word(answer) for answer in answers.values()} == {"RUNNING"}


# -- the line -------------------------------------------------------------------------------------


def test_p16_f27_a_workbench_that_is_not_there_is_trouble(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.stop()
    assert trouble(ask_one(workbench, job_id)).startswith("The Workbench can't be reached: ")
    scripted.start()
    assert word(ask_one(workbench, job_id)) == "RUNNING"


def test_p16_f27_a_name_that_nobody_has_is_trouble() -> None:
    with closing(HttpWorkbench("http://nowhere.invalid")) as workbench:
        assert "can't be reached" in trouble(ask_one(workbench, "job-1"))


def test_p16_f27_a_reset_is_trouble(scripted: ScriptedWorkbench, workbench: HttpWorkbench) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[drop(), drop()])
    assert "can't be reached" in trouble(ask_one(workbench, job_id))


def test_p16_f27_without_tls_on_the_other_side_there_is_trouble(
    scripted: ScriptedWorkbench,
) -> None:
    with closing(HttpWorkbench(scripted.url.replace("http:", "https:"))) as workbench:
        assert "can't be reached" in trouble(ask_one(workbench, "job-1"))
    assert not scripted.calls


@pytest.mark.parametrize("count", [1, 3])
def test_connections_that_the_workbench_closed_meanwhile_are_no_trouble(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, count: int
) -> None:
    """As between two warm invocations."""
    jobs = submitted(scripted, count)
    for _ in range(3):
        answers = workbench.ask(jobs, within=LONG)
        assert {word(answer) for answer in answers.values()} == {"RUNNING"}
        scripted.stop()
        scripted.start()


OK = b"HTTP/1.1 200 OK\r\n"
NO_HTTP = {
    "another protocol": b"SSH-2.0-OpenSSH_9\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "status 99": b"HTTP/1.1 99 X\r\nContent-Length: 0\r\n\r\n",
    "a header without end": OK + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    "headers without end": OK + b"X: 1\r\n" * 100_000 + b"\r\n",
    "no header": OK + b"no colon here\r\n\r\n",
    "NUL in a header": OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "no chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    "half a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n10\r\nabc",
    "negative length": OK + b"Content-Length: -5\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}",
    "half a body": OK + b"Content-Length: 50\r\n\r\n{}",
    "nothing": b"",
    "an upgrade": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "unknown packing": OK + b"Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("answer", NO_HTTP.values(), ids=NO_HTTP.keys())
@pytest.mark.parametrize("jobs", [["job-1"], ["job-1", "job-2"]], ids=["one", "two"])
def test_p16_p18_f27_an_answer_that_breaks_http_is_trouble(answer: bytes, jobs: list[str]) -> None:
    def breaks(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(answer)

    with server_that(breaks) as url, closing(HttpWorkbench(url)) as workbench:
        answers = workbench.ask(jobs, within=LONG)
    assert sorted(answers) == jobs
    assert all(trouble(one) for one in answers.values())


@contextmanager
def server_that(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that treats every connection so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def treat(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                serve(connection)

        def accept() -> None:
            threads = []
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threads.append(threading.Thread(target=treat, args=[connection]))
                    threads[-1].start()
            for thread in threads:
                thread.join(DEADLINE_SECONDS)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(DEADLINE_SECONDS)


# -- Retry-After ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("0", 0),
        ("1", 1),
        ("120", 120),
        (" 7 ", 7),
        ("1000000000", 86_400),
        ("9" * 5_000, None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("\u00b2", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("Wed, 32 Oct 2015 07:28:00 GMT", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_f26_retry_after_is_seconds_or_makes_no_sense(
    scripted: ScriptedWorkbench,
    workbench: HttpWorkbench,
    value: str,
    wait: int | None,
    status: int,
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[retry_after(value, status)])
    answer = ask_one(workbench, job_id)
    assert isinstance(answer, NoAnswer)
    assert answer.retry_after == (None if wait is None else timedelta(seconds=wait))


# -- many jobs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "requests"), [(2, 1), (100, 1), (101, 2), (250, 3)])
def test_where_it_is_offered_jobs_are_asked_by_the_hundred(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, count: int, requests: int
) -> None:
    jobs = submitted(scripted, count)

    answers = workbench.ask(jobs, within=LONG)

    assert sorted(answers) == sorted(jobs)
    assert {word(answer) for answer in answers.values()} == {"RUNNING"}
    assert len(scripted.calls_of("bulk_status")) == requests
    assert len(scripted.calls_of("capabilities")) == 1
    assert not scripted.calls_of("status")


def test_a_single_job_is_asked_singly(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    [job_id] = submitted(scripted, 1)
    ask_one(workbench, job_id)
    assert [call.kind for call in scripted.calls] == ["status"]


def test_what_is_offered_is_asked_once(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    jobs = submitted(scripted, 2)
    for _ in range(3):
        workbench.ask(jobs, within=LONG)
    workbench.jobs_of("key-1", within=LONG)
    assert len(scripted.calls_of("capabilities")) == 1


@pytest.mark.parametrize(
    "capabilities",
    [
        Answer(200, {}),
        Answer(200, {"bulk_status": False}),
        Answer(200, {"bulk_status": "yes"}),
        Answer(200, {"bulk_status": 1}),
        Answer(200, []),
        Answer(200, None),
        Answer(404, "no such page"),
        Answer(405, "no"),
        html(),
        redirect("http://nowhere.invalid"),
    ],
)
def test_where_it_is_not_offered_each_is_asked_and_that_is_remembered(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, capabilities: Answer
) -> None:
    jobs = submitted(scripted, 3)
    scripted.script(capabilities=[always(capabilities)])

    for _ in range(2):
        assert len(workbench.ask(jobs, within=LONG)) == 3

    assert len(scripted.calls_of("capabilities")) == 1
    assert len(scripted.calls_of("status")) == 6
    assert not scripted.calls_of("bulk_status")


@pytest.mark.parametrize(
    "capabilities", [Answer(500, "no"), Answer(503, "no"), Answer(429, "no"), drop(), huge()]
)
def test_what_could_not_be_told_now_is_asked_again(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, capabilities: Answer
) -> None:
    jobs = submitted(scripted, 3)
    scripted.script(capabilities=[capabilities, capabilities])  # A dropped GET is sent again.

    assert len(workbench.ask(jobs, within=LONG)) == 3
    assert len(scripted.calls_of("status")) == 3
    scripted.script(capabilities=[])
    assert len(workbench.ask(jobs, within=LONG)) == 3

    assert len(scripted.calls_of("bulk_status")) == 1


@pytest.mark.parametrize("capabilities", [Answer(500, "no"), Answer(503, "no"), Answer(429, "no")])
def test_p9_what_is_offered_could_not_be_told_does_not_mean_that_there_is_no_job(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, capabilities: Answer
) -> None:
    """Else a hunt during an outage would end as if nothing had been found."""
    [job_id] = submitted(scripted, 1)
    scripted.script(capabilities=[capabilities])
    [job] = scripted.jobs
    assert job.idempotency_key

    with pytest.raises(WorkbenchUnavailable):
        workbench.jobs_of(job.idempotency_key, within=LONG)

    assert workbench.jobs_of(job.idempotency_key, within=LONG) == [job_id]


def test_p18_a_cookie_that_cannot_be_sent_back_spoils_no_later_call(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    """Nothing is kept of an answer but what is read of it."""
    [job_id] = submitted(scripted, 1)
    scripted.script(status=[Answer(headers={"Set-Cookie": "a=\xff"})])

    for _ in range(2):
        assert word(workbench.ask([job_id], within=LONG)[job_id])

    calls = scripted.calls_of("status")
    assert len(calls) == 2
    assert not [name for call in calls for name, _ in call.headers if name.lower() == "cookie"]


def test_a_job_that_the_bulk_answer_leaves_out_is_asked_singly(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    jobs = submitted(scripted, 3)
    scripted.forget(run=2)

    answers = workbench.ask(jobs, within=LONG)

    unknown = answers[jobs[1]]
    assert isinstance(unknown, NoAnswer)
    assert unknown.unknown_job
    assert [word(answers[job_id]) for job_id in (jobs[0], jobs[2])] == ["RUNNING"] * 2
    assert [call.job_id for call in scripted.calls_of("status")] == [jobs[1]]


SPOILT: dict[str, Item] = {
    "HTML": html(),
    "nothing": Answer(200, b""),
    "no list": Answer(200, {"jobs": None}),
    "a number": Answer(200, {"jobs": 7}),
    "texts": Answer(200, {"jobs": ["job-1"]}),
    "an object": Answer(200, {"jobs": {"job-1": "RUNNING"}}),
    "a job without an id": Answer(200, {"jobs": [{"status": "RUNNING"}]}),
    "an id of another kind": Answer(200, {"jobs": [{"workbench_job_id": ["x"]}]}),
    "another shape": Answer(200, [{"workbench_job_id": "job-1"}]),
    "a key twice": Answer(200, b'{"jobs": [], "jobs": []}'),
    "400": Answer(400, "no"),
    "404": Answer(404, "no"),
    "405": Answer(405, "no"),
    "413": Answer(413, "no"),
    "too large for all": huge(),
    "a redirect": redirect("http://nowhere.invalid"),
}


@pytest.mark.parametrize("answer", SPOILT.values(), ids=SPOILT.keys())
def test_p18_a_bulk_answer_that_makes_no_sense_is_made_up_for_singly(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, answer: Item
) -> None:
    jobs = submitted(scripted, 3)
    scripted.script(bulk_status=[answer])

    answers = workbench.ask(jobs, within=LONG)

    assert {word(one) for one in answers.values()} == {"RUNNING"}
    assert len(answers) == len(scripted.calls_of("status")) == 3


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, "no"),
        Answer(503, "no"),
        Answer(429, "no"),
        Answer(503, "no", pad_to_bytes=10**6),
    ],
)
def test_p21_a_bulk_call_that_is_refused_is_not_made_a_hundred_calls(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, answer: Answer
) -> None:
    jobs = submitted(scripted, 3)
    scripted.script(bulk_status=[answer])

    answers = workbench.ask(jobs, within=LONG)

    assert len(answers) == 3
    assert all(trouble(one) for one in answers.values())
    assert not scripted.calls_of("status")


def test_f26_a_bulk_calls_retry_after_holds_for_all_its_jobs(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    jobs = submitted(scripted, 2)
    scripted.script(bulk_status=[retry_after("60")])
    for answer in workbench.ask(jobs, within=LONG).values():
        assert isinstance(answer, NoAnswer)
        assert answer.retry_after == timedelta(seconds=60)


def test_p16_a_bulk_call_that_is_too_slow_is_trouble_for_all_its_jobs(
    scripted: ScriptedWorkbench, hasty: HttpWorkbench
) -> None:
    jobs = submitted(scripted, 2)
    scripted.script(bulk_status=[late(DEADLINE_SECONDS)])
    answers = hasty.ask(jobs, within=LONG)
    assert ["no whole answer" in trouble(answers[job_id]) for job_id in jobs] == [True, True]


def test_p18_f24_a_job_that_makes_no_sense_spoils_no_other_in_a_bulk_answer(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    jobs = submitted(scripted, 3)
    scripted.become(None, run=2)

    answers = workbench.ask(jobs, within=LONG)

    assert "no status but NoneType" in trouble(answers[jobs[1]])
    assert [word(answers[job_id]) for job_id in (jobs[0], jobs[2])] == ["RUNNING"] * 2
    assert not scripted.calls_of("status")


def test_f31_jobs_that_nobody_asked_about_are_passed_over(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    jobs = submitted(scripted, 2)
    told = [{"workbench_job_id": name, "status": "DONE"} for name in (*jobs, "another")]
    scripted.script(bulk_status=[Answer(200, {"jobs": told})])
    assert sorted(workbench.ask(jobs, within=LONG)) == sorted(jobs)


TROUBLE: dict[str, Item] = {
    "404": not_found(),
    "500": Answer(500, "oops"),
    "429": retry_after("10"),
    "HTML": html(),
    "huge": huge(1_000_000),
    "late": late(DEADLINE_SECONDS),
    "dripping": drip(0.2),
    "reset": always(drop()),
    "redirect": redirect("http://nowhere.invalid"),
    "another job": Answer(200, {"workbench_job_id": "x", "status": "DONE"}),
    "no JSON": Answer(200, b"{"),
    "no text": State(7),
}


@pytest.mark.parametrize("item", TROUBLE.values(), ids=TROUBLE.keys())
def test_p18_a_job_in_trouble_changes_nothing_for_its_neighbours(
    scripted: ScriptedWorkbench, hasty: HttpWorkbench, item: Item
) -> None:
    scripted.bulk_status = False
    jobs = submitted(scripted, 3)
    scripted.script(job=jobs[1], status=[item])

    answers = hasty.ask(jobs, within=LONG)

    assert trouble(answers[jobs[1]])
    assert [word(answers[job_id]) for job_id in (jobs[0], jobs[2])] == ["RUNNING"] * 2


# -- the client reference -------------------------------------------------------------------------


def test_p9_the_jobs_of_a_key_are_told(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    jobs = submitted(scripted, 2)
    assert workbench.jobs_of("key-2", within=LONG) == [jobs[1]]
    assert workbench.jobs_of("key-3", within=LONG) == []


def test_a_key_is_asked_for_as_it_is(scripted: ScriptedWorkbench, workbench: HttpWorkbench) -> None:
    key = "a&b=c#d?e/ü %20"
    assert workbench.jobs_of(key, within=LONG) == []
    assert scripted.calls_of("find")[0].idempotency_key == key


def test_where_it_is_not_offered_nobody_can_tell(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    scripted.client_reference = False
    assert workbench.jobs_of("key-1", within=LONG) is None
    assert not scripted.calls_of("find")


def test_f10_an_id_that_is_none_is_not_among_the_jobs(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    ids = ["job-1", "../x", "", 7, None, "x" * 300]
    told = {"jobs": [*({"workbench_job_id": one} for one in ids), "job-2", {}]}
    scripted.script(find=[Answer(200, told)])
    assert workbench.jobs_of("key-1", within=LONG) == ["job-1"]


UNREAD: dict[str, Item] = {
    "huge": huge(1_000_000),
    "reset": drop(),
    "late": late(DEADLINE_SECONDS),
    "dripping": drip(0.2),
}
UNTOLD: dict[str, Item] = UNREAD | {
    "404": Answer(404, {"jobs": []}),
    "500": Answer(500, {"jobs": []}),
    "503": Answer(503, {}),
    "302": redirect("http://nowhere.invalid"),
    "HTML": html(),
    "no JSON": Answer(200, b"{"),
}


@pytest.mark.parametrize("item", UNTOLD.values(), ids=UNTOLD.keys())
def test_p9_what_is_no_valid_answer_does_not_mean_that_there_is_no_job(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, item: Item
) -> None:
    scripted.script(find=[item])
    with pytest.raises(WorkbenchUnavailable, match=r"^The Workbench "):
        workbench.jobs_of("key-1", within=ANSWER_TIME)


@pytest.mark.parametrize("item", UNREAD.values(), ids=UNREAD.keys())
def test_p9_what_is_offered_is_asked_again_where_no_answer_was_read(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, item: Item
) -> None:
    [job_id] = submitted(scripted, 1)
    scripted.script(capabilities=[item])

    with pytest.raises(WorkbenchUnavailable, match=r"^The Workbench "):
        workbench.jobs_of("key-1", within=ANSWER_TIME)

    scripted.script(capabilities=[])
    assert workbench.jobs_of("key-1", within=LONG) == [job_id]


def test_p9_f27_a_workbench_that_is_not_there_cannot_tell(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    scripted.stop()
    with pytest.raises(WorkbenchUnavailable):
        workbench.jobs_of("key-1", within=LONG)
    scripted.start()
    assert workbench.jobs_of("key-1", within=LONG) == []


# -- the reference Workbench ----------------------------------------------------------------------


def test_the_reference_workbench_is_understood(tmp_path: Path) -> None:
    with (
        serve_user_storage(tmp_path) as storage,
        start_workbench(tmp_path, storage) as reference,
        closing(HttpWorkbench(reference.url)) as workbench,
    ):
        storage.put("in/a.csv", b"x,y\n1,2\n3,4\n")
        with httpx.Client() as client:
            jobs = [submit(client, reference.url, n, p) for n, p in ((1, "in/"), (2, "no/"))]

        def have_ended() -> bool:
            answers = workbench.ask([*jobs, "unknown"], within=LONG)
            assert isinstance(unknown := answers["unknown"], NoAnswer)
            assert unknown.unknown_job
            return {word(answers[job_id]) for job_id in jobs} <= {"COMPLETED", "FAILED"}

        wait_until(have_ended, "both jobs ended")
        done, failed = (ask_one(workbench, job_id) for job_id in jobs)
        assert workbench.jobs_of("key-1", within=LONG) == jobs[:1]

    assert isinstance(done, JobStatus)
    assert done.upstream_status == "COMPLETED"
    assert done.progress
    assert done.progress.done == done.progress.total
    assert isinstance(failed, JobStatus)
    assert failed.upstream_status == "FAILED"
    assert failed.error_message
