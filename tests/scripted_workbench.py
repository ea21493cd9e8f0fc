"""A Workbench for tests: by default it keeps the contract, and it does whatever a script says.

    with ScriptedWorkbench() as workbench:
        … give workbench.url to the code under test …
        [job] = workbench.jobs_of(42)

**Without a script** it honours Idempotency-Key, holds its jobs in memory, and a job's life goes
with the looks at it: QUEUED when submitted, RUNNING at the first status call, COMPLETED from the
second on. `ScriptedWorkbench(life=["RUNNING"])` makes jobs that don't end by themselves.
`become("FAILED", run=42, error_message="…")` decides what the next look sees; `forget(run=42)`
makes its jobs unknown (404). Both optional calls are there; `bulk_status`, `client_reference` and
`capabilities` turn them, or the telling of them, off. `honours_keys = False` makes every submit a
new job. `stop()` refuses connections, `start()` takes them again at the same port with the same
jobs.

**A script** gives the answers to come, for each kind of call, for all or for one run or job:

    workbench.script(submit=[Answer(500, "out of disk")])
    workbench.script(run=42, status=["RUNNING", Answer(503), State("FAILED", error_message="…")])
    workbench.script(status=[always(html())])

Each item answers one call; after the last the contract goes on; `always(item)` never ends. The
story of a job comes before that of its run, and that before the one for all. A new script takes
the place of the old one of its kinds; an empty list ends it. An item is

- a word or a `State`: the job's truth from now on (its life stops), told as the contract says;
  of a submit it is the status the job begins with, of a cancel what the cancel makes of it. The
  word may be anything that JSON can hold: `State(None)`, `State("x" * 1_000_000)`;
- an `Answer`: what goes over the wire. With a status or body of its own nothing is done, unless
  it says `executes=True`; without them, the call is done and answered by the contract.

The usual troubles have names: `late`, `drop`, `execute_and_drop`, `drip`, `huge`, `html`,
`redirect`, `retry_after`, `not_found`. In a bulk status call the jobs' own status stories count: a
word or `State` becomes the job's truth, an `Answer` leaves the job out, as if unknown.

**The journal**: `calls` holds every call in the order received, and is complete before the answer
begins; `calls_of("status", run=42)` picks. `wait_for_calls("status", run=42, count=3)` waits for
calls, `wait_for(condition)` for anything that calls bring about; both fail after a deadline.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MEBIBYTE = 1024 * 1024
ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
KINDS: Final = frozenset(
    {"submit", "status", "bulk_status", "cancel", "find", "realtime", "capabilities"}
)
JSON = "application/json"


class _ByContract:
    """Stands for a body that the contract decides."""


BY_CONTRACT: Final = _ByContract()


@dataclass(frozen=True)
class State:
    """What a job's status call tells; `status` may be any JSON, right or wrong."""

    status: Any
    error_message: str | None = None
    progress: tuple[int, int] | None = None
    logs_url: str | None = None


@dataclass(frozen=True)
class Answer:
    """What goes over the wire in place of, or around, the contract's answer.

    Attributes:
        status: None is the contract's; with a body of its own, 200.
        body: bytes or str as they are, any other JSON value encoded, or a function of the call.
        content_type: None is JSON, and text/plain for a str.
        headers: More headers; a Content-Length here is sent in place of the true one.
        delay_seconds: How long the caller waits, after the call was done.
        drip_seconds: A pause before each byte of the body.
        pad_to_bytes: The body is filled up with leading white space, which JSON allows.
        drops: The connection is reset in place of an answer.
        executes: Whether the call is done; None is yes if status and body are the contract's.
    """

    status: int | None = None
    body: Any = BY_CONTRACT
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: float = 0
    drip_seconds: float = 0
    pad_to_bytes: int = 0
    drops: bool = False
    executes: bool | None = None

    @property
    def takes_effect(self) -> bool:
        if self.executes is not None:
            return self.executes
        return self.status is None and self.body is BY_CONTRACT and not self.drops


@dataclass(frozen=True)
class Always:
    """An item that answers every call from here on."""

    item: str | State | Answer


Item = str | State | Answer | Always


def always(item: str | State | Answer) -> Always:
    return Always(item)


def late(seconds: float) -> Answer:
    """Done at once, answered late."""
    return Answer(delay_seconds=seconds)


def drop() -> Answer:
    """Not done; the connection is reset."""
    return Answer(drops=True)


def execute_and_drop() -> Answer:
    """Done, but the caller never hears of it: the connection is reset."""
    return Answer(drops=True, executes=True)


def drip(pause_seconds: float = 0.5) -> Answer:
    """The right answer, byte by byte."""
    return Answer(drip_seconds=pause_seconds)


def huge(size_bytes: int = 32 * MEBIBYTE) -> Answer:
    """The right answer, after a lot of white space."""
    return Answer(pad_to_bytes=size_bytes)


def html(status: int = 200) -> Answer:
    """A page, as proxies send them."""
    return Answer(status, "<html><body>Welcome to nginx!</body></html>", content_type="text/html")


def redirect(location: str, status: int = 302) -> Answer:
    """Somewhere else."""
    return Answer(status, "", headers={"Location": location})


def retry_after(value: str, status: int = 429) -> Answer:
    """Too many calls; VALUE is the header's text, right or wrong."""
    return Answer(status, {"error": "Too many calls."}, headers={"Retry-After": value})


def not_found() -> Answer:
    """The job, or the call, isn't known."""
    return Answer(404, {"error": "There is no such job."})


@dataclass(frozen=True)
class Call:
    """One call as it was received.

    Attributes:
        at: time.monotonic() when it had been read.
        kind: One of the contract's calls, "health", or "other".
        job_ids: The jobs it is about; of a submit that took effect, the job it made or found.
        headers: As sent, repeated ones repeatedly.
        body: What the JSON held; None if there was none.
        answered: The status that the answer has; None if the connection is dropped.
    """

    at: float
    kind: str
    method: str
    path: str
    run_id: int | None
    job_ids: tuple[str, ...]
    idempotency_key: str | None
    headers: tuple[tuple[str, str], ...]
    body: Any
    raw_body: bytes
    answered: int | None = None

    @property
    def job_id(self) -> str | None:
        """The one job it is about."""
        return self.job_ids[0] if len(self.job_ids) == 1 else None

    def header(self, name: str) -> str | None:
        """The first header of this name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True)
class Job:
    """A job as it was when it was read; `submission` is the body that made it."""

    id: str
    run_id: int
    idempotency_key: str | None
    submission: Mapping[str, Any]
    state: State
    looks: int | None = 0
    cancel_requested: bool = False

    @property
    def status(self) -> Any:
        return self.state.status

    @property
    def has_ended(self) -> bool:
        return isinstance(self.status, str) and self.status in ENDED


@dataclass(frozen=True)
class _Reply:
    """What the contract answers."""

    status: int
    body: Any
    job_ids: tuple[str, ...] = ()


class ScriptedWorkbench:
    """See the module's text.

    Args:
        life: What successive looks at a job see, when no script says otherwise; the last stays.
        port: 0 is a free one.
    """

    def __init__(self, *, life: Sequence[str] = ("RUNNING", "COMPLETED"), port: int = 0) -> None:
        self.bulk_status = True
        self.client_reference = True
        self.capabilities = True
        self.honours_keys = True
        self.calls: list[Call] = []
        self._life = tuple(life)
        self._port = port
        self._jobs: dict[str, Job] = {}
        self._count = 0
        self._stories: dict[tuple[str, str | int | None], deque[Item]] = {}
        # Held while a call is done, told whenever one was.
        self._changed = threading.Condition()
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it listens; the same after stop() and start()."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Takes connections."""
        self._server = _Server(self, self._port)
        self._port = self._server.server_address[1]

    def stop(self) -> None:
        """Cuts all connections and refuses new ones; jobs, scripts and journal are kept."""
        if self._server:
            self._server.stop()
            self._server = None

    def script(
        self, *, run: int | None = None, job: str | None = None, **stories: Sequence[Item]
    ) -> None:
        """Sets the answers to come, by kind of call; for all, or for one run or job."""
        if unknown := stories.keys() - KINDS:
            raise ValueError(f"no such kind of call: {', '.join(sorted(unknown))}")
        with self._changed:
            for kind, items in stories.items():
                self._stories[kind, job if job is not None else run] = deque(items)

    def become(
        self,
        status: Any,
        *,
        run: int | None = None,
        job: str | None = None,
        error_message: str | None = None,
        progress: tuple[int, int] | None = None,
        logs_url: str | None = None,
    ) -> None:
        """From now on this is the truth about the run's jobs, or about one job."""
        state = State(status, error_message, progress, logs_url)
        with self._changed:
            for one in self._chosen(run, job):
                self._jobs[one.id] = replace(one, state=state, looks=None)

    def forget(self, *, run: int | None = None, job: str | None = None) -> None:
        """Makes the run's jobs, or one job, unknown."""
        with self._changed:
            for one in self._chosen(run, job):
                del self._jobs[one.id]

    def jobs_of(self, run: int) -> list[Job]:
        """Every job ever created for the run and not forgotten, oldest first."""
        with self._changed:
            return [job for job in self._jobs.values() if job.run_id == run]

    @property
    def jobs(self) -> list[Job]:
        """All jobs, oldest first."""
        with self._changed:
            return list(self._jobs.values())

    def calls_of(self, kind: str, *, run: int | None = None, job: str | None = None) -> list[Call]:
        """The calls of a kind received so far, of all, or about one run or job."""
        with self._changed:
            return self._picked(kind, run, job)

    def wait_for_calls(
        self,
        kind: str,
        *,
        count: int = 1,
        run: int | None = None,
        job: str | None = None,
        within_seconds: float = 20,
    ) -> list[Call]:
        """Waits until so many calls have been received, and returns all there are.

        Raises:
            AssertionError: They didn't come in time.
        """
        self.wait_for(
            lambda: len(self._picked(kind, run, job)) >= count,
            within_seconds=within_seconds,
            what=f"{count} {kind} call(s)",
        )
        return self.calls_of(kind, run=run, job=job)

    def wait_for(
        self,
        condition: Callable[[], bool],
        *,
        within_seconds: float = 20,
        what: str = "the condition",
    ) -> None:
        """Waits until the condition holds; it is looked at whenever a call has been received.

        Raises:
            AssertionError: It didn't hold in time.
        """
        with self._changed:
            if not self._changed.wait_for(condition, within_seconds):
                kinds = [call.kind for call in self.calls]
                raise AssertionError(
                    f"{what}: not within {within_seconds} s; {len(kinds)} calls came: {kinds[-20:]}"
                )

    def _chosen(self, run: int | None, job: str | None) -> list[Job]:
        return [
            one
            for one in self._jobs.values()
            if (run is None or one.run_id == run) and (job is None or one.id == job)
        ]

    def _picked(self, kind: str, run: int | None, job: str | None) -> list[Call]:
        return [
            call
            for call in self.calls
            if call.kind == kind
            and (run is None or call.run_id == run or self._is_about(call, run))
            and (job is None or job in call.job_ids)
        ]

    def _is_about(self, call: Call, run: int) -> bool:
        return any(
            self._jobs[job_id].run_id == run for job_id in call.job_ids if job_id in self._jobs
        )

    def _receive(self, call: Call) -> tuple[Answer, _Reply]:
        """Does what a call asks, as far as the script lets it, and notes it in the journal."""
        with self._changed:
            item = self._next_item(call)
            answer = item if isinstance(item, Answer) else Answer()
            state = State(item) if isinstance(item, str) else item
            if answer.takes_effect:
                reply = self._do(call, state if isinstance(state, State) else None)
            else:
                reply = _Reply(200, {"error": "The script says so."})
            status = answer.status or (reply.status if answer.body is BY_CONTRACT else 200)
            self.calls.append(
                replace(
                    call,
                    job_ids=reply.job_ids or call.job_ids,
                    answered=None if answer.drops else status,
                )
            )
            self._changed.notify_all()
            return replace(answer, status=status), reply

    def _next_item(self, call: Call) -> str | State | Answer | None:
        job = self._jobs.get(call.job_id or "")
        return self._told_next(call.kind, job=call.job_id, run=job.run_id if job else call.run_id)

    def _told_next(
        self, kind: str, *, job: str | None, run: int | None
    ) -> str | State | Answer | None:
        """The first item of the narrowest story there is."""
        narrow = [one for one in (job, run) if one is not None]
        for about in (*narrow, None):
            story = self._stories.get((kind, about))
            if story:
                first = story[0]
                if isinstance(first, Always):
                    return first.item
                story.popleft()
                return first
        return None

    def _do(self, call: Call, state: State | None) -> _Reply:
        match call.kind:
            case "submit":
                return self._submit(call, state)
            case "status" if call.job_id in self._jobs:
                return _Reply(200, self._told(self._look(call.job_id, state)))
            case "cancel" if call.job_id in self._jobs:
                return self._cancel(self._jobs[call.job_id], state)
            case "bulk_status" if self.bulk_status:
                return self._tell_many(call)
            case "find" if self.client_reference:
                return self._find(call)
            case "realtime":
                return self._run(call)
            case "capabilities" if self.capabilities:
                told = {"bulk_status": self.bulk_status, "client_reference": self.client_reference}
                return _Reply(200, told)
            case "health":
                return _Reply(200, {"status": "ok"})
        return _Reply(404, {"error": "There is no such job, or no such call."})

    def _submit(self, call: Call, state: State | None) -> _Reply:
        if refusal := _refusal(call):
            return refusal
        known = [
            job
            for job in self._jobs.values()
            if self.honours_keys and call.idempotency_key == job.idempotency_key is not None
        ]
        job = known[0] if known else self._new_job(call, state or State("QUEUED"))
        named = {"workbench_job_id": job.id, "status": job.status}
        return _Reply(200 if known else 202, named, (job.id,))

    def _new_job(self, call: Call, state: State) -> Job:
        self._count += 1
        job = Job(
            id=f"job-{call.run_id}-{self._count}",
            run_id=call.body["pipeline_run_id"],
            idempotency_key=call.idempotency_key,
            submission=call.body,
            state=state,
            looks=0,
        )
        self._jobs[job.id] = job
        return job

    def _look(self, job_id: str, state: State | None) -> Job:
        """Each look lets the job live on, unless a script or a call has decided."""
        job = self._jobs[job_id]
        if state:
            job = replace(job, state=state, looks=None)
        elif job.looks is not None and not job.has_ended:
            word = self._life[min(job.looks, len(self._life) - 1)]
            job = replace(job, state=State(word), looks=job.looks + 1)
        self._jobs[job_id] = job
        return job

    def _cancel(self, job: Job, state: State | None) -> _Reply:
        if job.has_ended:
            return _Reply(409, {"error": f"Job {job.id} has ended already: it is {job.status}."})
        became = state or State("CANCELLED")
        job = replace(job, state=became, looks=None, cancel_requested=True)
        self._jobs[job.id] = job
        return _Reply(202, {"workbench_job_id": job.id, "status": job.status})

    def _tell_many(self, call: Call) -> _Reply:
        if not isinstance(call.body, dict) or len(call.job_ids) > 100:
            return _Reply(422, {"error": "workbench_job_ids must be a list of at most 100 texts"})
        told = []
        for job in [self._jobs[job_id] for job_id in call.job_ids if job_id in self._jobs]:
            item = self._told_next("status", job=job.id, run=job.run_id)
            state = State(item) if isinstance(item, str) else item
            if not isinstance(state, Answer):
                told.append(self._told(self._look(job.id, state)))
        return _Reply(200, {"jobs": told})

    def _find(self, call: Call) -> _Reply:
        if call.idempotency_key is None:
            return _Reply(422, {"error": "Name the jobs: /batch/jobs?idempotency_key=…"})
        found = [job for job in self._jobs.values() if job.idempotency_key == call.idempotency_key]
        told = {"jobs": [self._told(job) for job in found]}
        return _Reply(200, told, tuple(job.id for job in found))

    def _run(self, call: Call) -> _Reply:
        if not isinstance(call.body, dict) or call.run_id is None:
            return _refusal(call) or _Reply(422, {"error": "pipeline_run_id must be a number"})
        return _Reply(200, {"output": {"input": call.body.get("input_path_prefix"), "objects": 1}})

    def _told(self, job: Job) -> dict[str, Any]:
        told = {"workbench_job_id": job.id, "status": job.status}
        if job.state.error_message is not None:
            told["error_message"] = job.state.error_message
        if job.state.progress is not None:
            told["progress"] = dict(zip(("done", "total"), job.state.progress, strict=True))
        if job.state.logs_url is not None:
            told["logs_url"] = job.state.logs_url
        return told


def _refusal(call: Call) -> _Reply | None:
    """What the contract answers to a body that names no job; None if it does."""
    if call.body is None:
        return _Reply(400, {"error": "The body is not JSON."})
    body = call.body if isinstance(call.body, dict) else {}
    wrong = [
        name
        for name in ("input_path_prefix", "output_path_prefix")
        if not isinstance(body.get(name), str) or not body[name]
    ]
    if not isinstance(body.get("report_path_prefix"), str | None):
        wrong.append("report_path_prefix")
    if call.run_id is None:
        wrong.append("pipeline_run_id")
    key = call.idempotency_key
    if key is not None and not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        wrong.append("Idempotency-Key")
    return _Reply(422, {"error": f"wrong or missing: {', '.join(wrong)}"}) if wrong else None


class _Server(ThreadingHTTPServer):
    """Listens from its making on; every connection has a thread."""

    daemon_threads = False  # So that stop() waits for them all.
    request_queue_size = 256

    def __init__(self, workbench: ScriptedWorkbench, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.workbench = workbench
        self.stopping = threading.Event()
        self.connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self._thread.join()
        for connection in list(self.connections):
            _shut(connection)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Reads a call, lets the workbench decide, and writes what it decided."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)
        if self.server.stopping.is_set():
            _shut(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):  # The caller is gone, in the midst of its call or ours.
            self.close_connection = True

    def do_GET(self) -> None:
        call = self._read_call()
        answer, reply = self.server.workbench._receive(call)  # noqa: SLF001 - one thing in two classes
        if self.server.stopping.wait(answer.delay_seconds):
            self.close_connection = True
        elif answer.drops:
            self._reset()
        else:
            self._write(call, answer, reply)

    do_POST = do_GET  # noqa: N815 - the base class's names
    do_PUT = do_GET  # noqa: N815 - the base class's names
    do_DELETE = do_GET  # noqa: N815 - the base class's names

    def log_message(self, *_: object) -> None:
        """The journal is the log."""

    def _read_call(self) -> Call:
        raw_body = self._read_body()
        url = urlsplit(self.path)
        kind, job_ids = _kind_of(self.command, url.path)
        try:
            body = json.loads(raw_body) if raw_body else None
        except ValueError:
            body = None
        fields = body if isinstance(body, dict) else {}
        listed = fields.get("workbench_job_ids")
        if kind == "bulk_status" and isinstance(listed, list):
            job_ids = tuple(str(job_id) for job_id in listed)
        run_id = fields.get("pipeline_run_id")
        query_key = parse_qs(url.query).get("idempotency_key", [None])[0]
        return Call(
            at=time.monotonic(),
            kind=kind,
            method=self.command,
            path=self.path,
            run_id=run_id if type(run_id) is int else None,
            job_ids=job_ids,
            idempotency_key=query_key if kind == "find" else self.headers["Idempotency-Key"],
            headers=tuple(self.headers.items()),
            body=body,
            raw_body=raw_body,
        )

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # Trailers.
        return b"".join(chunks)

    def _write(self, call: Call, answer: Answer, reply: _Reply) -> None:
        body, content_type = _encoded(call, answer, reply)
        headers = {"Content-Type": content_type, "Content-Length": str(len(body))}
        headers |= dict(answer.headers)
        if headers["Content-Length"] != str(len(body)):
            self.close_connection = True
        self.send_response(answer.status or HTTPStatus.OK)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not answer.drip_seconds:
            self.wfile.write(body)
            return
        for place in range(len(body)):
            if self.server.stopping.wait(answer.drip_seconds):
                self.close_connection = True
                return
            self.wfile.write(body[place : place + 1])

    def _reset(self) -> None:
        """Closes at once and without a farewell: the caller sees a reset."""
        self.close_connection = True
        now = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        self.rfile.close()
        self.connection.close()


def _kind_of(method: str, path: str) -> tuple[str, tuple[str, ...]]:
    match method, [unquote(part) for part in path.strip("/").split("/")]:
        case "POST", ["batch", "submit"]:
            return "submit", ()
        case "POST", ["batch", "status"]:
            return "bulk_status", ()
        case "GET", ["batch", "status", job_id]:
            return "status", (job_id,)
        case "POST", ["batch", "cancel", job_id]:
            return "cancel", (job_id,)
        case "GET", ["batch", "capabilities"]:
            return "capabilities", ()
        case "GET", ["batch", "jobs"]:
            return "find", ()
        case "POST", ["realtime", "run"]:
            return "realtime", ()
        case "GET", ["health"]:
            return "health", ()
    return "other", ()


def _encoded(call: Call, answer: Answer, reply: _Reply) -> tuple[bytes, str]:
    body = reply.body if answer.body is BY_CONTRACT else answer.body
    if callable(body):
        body = body(call)
    content_type = JSON
    if isinstance(body, str) and answer.body is not BY_CONTRACT:
        body, content_type = body.encode(), "text/plain; charset=utf-8"
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
    padding = b" " * max(0, answer.pad_to_bytes - len(body))
    return padding + body, answer.content_type or content_type


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # The other side was faster.
