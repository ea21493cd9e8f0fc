"""Where Conductor and the Workbench are is no business of whoever has a run made."""

from __future__ import annotations

import json
import re
import socket
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from api_client import ApiClient
from fakes import Course, World
from runs.adapters.conductor import HttpConductor, call_end_of
from runs.adapters.workbench import HttpWorkbench
from runs.errors import WorkbenchUnavailable
from runs.messages import CheckMessage
from runs.status import PipelineMode
from runs.wiring import using
from wired import WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api_client import Answer
    from runs.ports import Conductor, Workbench

DEADLINE_SECONDS = 20
LONG = timedelta(seconds=60)
WISH = {"pipeline_id": 1, "input_path_prefix": "in", "output_path_prefix": "out"}
UNKNOWN = "conductor-7d9f.prod.invalid"
ADDRESS = re.compile(r"127\.0\.0\.1|localhost|\.invalid|\.internal|https?://|:\d{4,5}\b")
REFUSAL = {
    "status": 400,
    "message": "redis.prod.internal:6379 and http://10.0.0.7:8080/x are no place for it",
    "instance": UNKNOWN,
}


class RealCallers(WorldWiring):
    """A World's API and poller, whose calls to Conductor and the Workbench are real ones."""

    def __init__(self, world: World, conductor: Conductor, workbench: Workbench) -> None:
        super().__init__(world)
        self._conductor = conductor
        self._workbench = workbench

    def conductor(self, url: str) -> Conductor:
        del url
        return self._conductor

    def workbench(self, url: str) -> Workbench:
        del url
        return self._workbench


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """Where every request is answered so, and the line cut."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        connection.recv(65_536)
                        connection.sendall(answer)

        thread = Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(DEADLINE_SECONDS)


def refusing(status: int) -> bytes:
    body = json.dumps(REFUSAL)
    return (
        f"HTTP/1.1 {status} No\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


SERVERS = {
    "hangs up": b"",
    "is no HTTP": b"SSH-2.0-OpenSSH 127.0.0.1\r\n",
    "has a broken header": b"HTTP/1.1 200 OK\r\n127.0.0.1 is no header\r\n\r\n",
    "has no TLS": b"",
    "refuses": refusing(400),
    "lets nobody in": refusing(401),
    "breaks": refusing(500),
}
OWN_WORDS = ["refuses", "lets nobody in", "breaks"]
"""Of a Workbench such words are quoted: they are meant for whoever made the run."""
PLACES = ["is not there", "has no name", *SERVERS]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a Conductor, or Workbench, that is in trouble."""
    match request.param:
        case "is not there":
            with socket.create_server(("127.0.0.1", 0)) as gone:
                port = gone.getsockname()[1]
            yield f"http://127.0.0.1:{port}"
        case "has no name":
            yield f"http://{UNKNOWN}:8080"
        case how:
            with server(SERVERS[how]) as url:
                yield url.replace("http:", "https:") if how == "has no TLS" else url


def told_of_a_run(world: World, wiring: WorldWiring, prefer: str) -> list[Answer]:
    """All that whoever makes a run, and cancels it, is told of it."""
    api = ApiClient()
    with using(wiring):
        told = [api.post("/pipeline-run", WISH, Prefer=prefer)]
        for after_the_lease in (60, 60, 60):
            world.pass_time(after_the_lease)
            again = CheckMessage(run_ids=(1,), sent_at=world.time.now)
            wiring.checking.check([again], within=LONG)
            told += [api.get("/pipeline-run/1"), api.get("/pipeline-run/1/events")]
            told.append(api.post("/pipeline-run/1/cancel", {}))
    return told


@pytest.fixture(params=PipelineMode)
def world(request: pytest.FixtureRequest) -> World:
    world = World()
    world.pipeline(request.param)
    return world


@pytest.mark.parametrize("prefer", ["wait=1", "respond-async"])
def test_s16_no_trouble_with_conductor_tells_where_it_is(
    world: World, place: str, prefer: str
) -> None:
    with closing(HttpConductor(place)) as conductor:
        told = told_of_a_run(world, RealCallers(world, conductor, world.workbench), prefer)
    assert "Conductor" in "".join(answer.text for answer in told)
    for answer in told:
        assert not ADDRESS.search(answer.text), answer.text


@pytest.mark.parametrize("place", [how for how in PLACES if how not in OWN_WORDS], indirect=True)
def test_s16_no_trouble_with_the_workbench_tells_where_it_is(place: str) -> None:
    world = World()
    world.pipeline()
    with closing(HttpWorkbench(place)) as workbench:
        told = told_of_a_run(world, RealCallers(world, world.conductor, workbench), "wait=1")
        with pytest.raises(WorkbenchUnavailable) as unavailable:
            workbench.jobs_of("key", within=LONG)
    assert "The Workbench" in "".join(answer.text for answer in told)
    for text in (str(unavailable.value), *(answer.text for answer in told)):
        assert not ADDRESS.search(text), text


FAILED = "Failed to invoke HTTP task due to: java.lang.Exception: "
CALL = f'{FAILED}I/O error on POST request for "http://{UNKNOWN}:8080/batch/submit": '
REASONS = [
    f"{CALL}Connect to http://{UNKNOWN}:8080 [{UNKNOWN}/127.0.0.1] failed: Connection refused",
    f"{CALL}{UNKNOWN}: Name or service not known",
    f"{CALL}{UNKNOWN}: Temporary failure in name resolution",
    f"{CALL}Certificate for <{UNKNOWN}> doesn't match any of the names: [a.internal]",
    f"{CALL}Read timed out",
    f'{FAILED}500 Internal Server Error on POST request for "http://{UNKNOWN}:8080/x": "oops"',
    f"{FAILED}Something new about http://{UNKNOWN}:8080/batch/submit",
    f"{FAILED}127.0.0.1:8080 and workbench.prod.internal are new",
]


@pytest.mark.parametrize("reason", REASONS)
def test_s16_no_reason_of_a_failed_workflow_tells_where_the_workbench_is(
    world: World, reason: str
) -> None:
    call_end, words = call_end_of(reason)
    assert words
    assert not ADDRESS.search(words), words
    world.conductor.courses.append(Course.failed(call_end, words))
    wiring = RealCallers(world, world.conductor, world.workbench)
    for answer in told_of_a_run(world, wiring, "wait=1"):
        assert not ADDRESS.search(answer.text), answer.text
