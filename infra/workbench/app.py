"""The HTTP side: a call is parsed, answered and noted in the journal.

`openapi.yaml` is what the routes promise.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from infra.workbench import bodies
from infra.workbench.errors import InputTrouble, JobTrouble
from infra.workbench.gate import TokenGate
from infra.workbench.jobs import JobStore
from infra.workbench.journal import Journal
from infra.workbench.runner import JobRunner, Processor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from infra.workbench.jobs import Job
    from infra.workbench.settings import Settings

MAX_BODY_BYTES = 256 * 1024
LONGEST_REQUEST_ID = 128

log = logging.getLogger("workbench.calls")


class CallRefused(Exception):
    """A call gets an error for an answer; the text says what to do."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code


@dataclass(frozen=True)
class Answer:
    """What a call is answered, and whom it was about."""

    status_code: int
    body: dict[str, Any]
    workbench_job_ids: tuple[str, ...] = ()


@dataclass
class Call:
    """A call as it comes in, and what is learnt of it on the way to its answer."""

    request: Request
    pipeline_run_id: int | None = None
    idempotency_key: str | None = None
    workbench_job_ids: tuple[str, ...] = field(default=())


def make_app(
    settings: Settings, make_processor: Callable[[], Processor], *, clock: Callable[[], float]
) -> Starlette:
    """The Workbench as an application; it opens its files when it starts.

    Args:
        settings: Where its files are, and who may call.
        make_processor: Called once, on the first job: what it loads is heavy.
        clock: Seconds since the epoch.
    """
    workbench = _Workbench(settings, make_processor, clock)
    gate = [Middleware(TokenGate, token=settings.token)] if settings.token else []
    return Starlette(
        routes=workbench.routes(),
        middleware=gate,
        lifespan=workbench.lifespan,
        exception_handlers={HTTPException: _answer_http_exception},
    )


class _Workbench:
    store: JobStore
    runner: JobRunner
    journal: Journal

    def __init__(
        self,
        settings: Settings,
        make_processor: Callable[[], Processor],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._make_processor = make_processor
        self._clock = clock

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        settings = self._settings
        settings.data_path.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(settings.journal_path)
        self.store = JobStore(settings.data_path / "jobs.sqlite")
        self.runner = JobRunner(
            self.store,
            self._make_processor,
            clock=self._clock,
            worker_count=settings.worker_count,
        )
        self.runner.resume()
        yield
        await self.runner.stop()
        self.store.close()
        self.journal.close()

    def routes(self) -> list[Route]:
        noted = self._noted
        return [
            Route("/batch/submit", noted("submit", self.submit), methods=["POST"]),
            Route("/batch/status/{workbench_job_id}", noted("status", self.status)),
            Route("/batch/status", noted("bulk_status", self.bulk_status), methods=["POST"]),
            Route(
                "/batch/cancel/{workbench_job_id}", noted("cancel", self.cancel), methods=["POST"]
            ),
            Route("/batch/jobs", noted("find", self.find)),
            Route("/batch/capabilities", capabilities),
            Route("/realtime/run", noted("realtime", self.realtime), methods=["POST"]),
            Route("/health", health),
        ]

    async def submit(self, call: Call) -> Answer:
        call.idempotency_key = call.request.headers.get("idempotency-key")
        body = await _read_json(call)
        key = bodies.parse_idempotency_key(call.idempotency_key)
        submission = bodies.parse_submission(body, default_bucket=self._settings.storage_bucket)
        job, is_new = self.store.add(
            submission,
            job_id=f"job-{uuid.uuid4().hex}",
            idempotency_key=key,
            at=self._clock(),
        )
        call.workbench_job_ids = (job.id,)
        if is_new:
            self.runner.take_up(job)
        return Answer(202 if is_new else 200, _named(job))

    async def status(self, call: Call) -> Answer:
        return Answer(200, _told(self._job_of(call)))

    async def bulk_status(self, call: Call) -> Answer:
        job_ids = bodies.parse_job_ids(await _read_json(call))
        call.workbench_job_ids = job_ids
        return Answer(200, {"jobs": [_told(job) for job in self.store.get_many(job_ids)]})

    async def cancel(self, call: Call) -> Answer:
        job = self._job_of(call)
        if job.has_ended:
            raise CallRefused(409, f"Job {job.id} has ended already: it is {job.status}.")
        self.runner.cancel(job.id)
        return Answer(202, _named(job))

    async def find(self, call: Call) -> Answer:
        call.idempotency_key = call.request.query_params.get("idempotency_key")
        if call.idempotency_key is None:
            raise CallRefused(422, "Name the jobs: /batch/jobs?idempotency_key=…")
        found = self.store.with_key(call.idempotency_key)
        call.workbench_job_ids = tuple(job.id for job in found)
        return Answer(200, {"jobs": [_told(job) for job in found]})

    async def realtime(self, call: Call) -> Answer:
        call.idempotency_key = call.request.headers.get("idempotency-key")
        request = bodies.parse_profile_request(
            await _read_json(call), default_bucket=self._settings.storage_bucket
        )
        try:
            return Answer(200, {"output": await self.runner.profile(request)})
        except JobTrouble as trouble:
            status_code = 422 if isinstance(trouble, InputTrouble) else 503
            raise CallRefused(status_code, str(trouble)) from trouble

    def _job_of(self, call: Call) -> Job:
        job_id = call.request.path_params["workbench_job_id"]
        call.workbench_job_ids = (job_id,)
        job = self.store.get(job_id)
        if job is None:
            raise CallRefused(404, f"There is no job {job_id!r} here.")
        return job

    def _noted(
        self, name: str, handle: Callable[[Call], Awaitable[Answer]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Answers a call in any case, and adds it to the journal."""

        async def endpoint(request: Request) -> Response:
            received_at = self._clock()
            call = Call(request)
            try:
                answer = await handle(call)
            except CallRefused as refused:
                answer = Answer(refused.status_code, {"error": str(refused)})
            except bodies.MalformedBody as fault:
                answer = Answer(400, {"error": str(fault)})
            except bodies.InvalidBody as fault:
                answer = Answer(422, {"error": str(fault)})
            except Exception as error:  # The edge: callers get JSON, whatever happens.
                log.exception("%s failed unexpectedly", name)
                answer = Answer(500, {"error": f"The Workbench itself failed: {error!r}"})
            self.journal.note(
                at=received_at,
                call=name,
                pipeline_run_id=call.pipeline_run_id,
                idempotency_key=call.idempotency_key,
                request_id=request.headers.get("x-request-id", "")[:LONGEST_REQUEST_ID],
                workbench_job_ids=call.workbench_job_ids,
                status_code=answer.status_code,
            )
            return JSONResponse(answer.body, answer.status_code)

        return endpoint


async def capabilities(_request: Request) -> Response:
    """Which of the optional calls there are: both."""
    return JSONResponse({"bulk_status": True, "client_reference": True})


async def health(_request: Request) -> Response:
    """Whether the service is up."""
    return JSONResponse({"status": "ok"})


async def _read_json(call: Call) -> Any:
    """The body, whatever its Content-Type says: Conductor sends two of them."""
    raw = bytearray()
    async for chunk in call.request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise CallRefused(413, f"The body must not be larger than {MAX_BODY_BYTES} bytes.")
    body = bodies.parse_json(bytes(raw))
    if isinstance(body, dict) and type(body.get("pipeline_run_id")) is int:
        call.pipeline_run_id = body["pipeline_run_id"]
    return body


def _named(job: Job) -> dict[str, Any]:
    return {"workbench_job_id": job.id, "status": job.status}


def _told(job: Job) -> dict[str, Any]:
    told = _named(job)
    if job.error_message:
        told["error_message"] = job.error_message
    if job.objects_total is not None:
        told["progress"] = {"done": job.objects_done, "total": job.objects_total}
    return told


async def _answer_http_exception(_request: Request, exception: Exception) -> Response:
    """A path or method that isn't there; as JSON, like everything else."""
    assert isinstance(exception, HTTPException)  # noqa: S101 - registered for these only
    return JSONResponse(
        {"error": str(exception.detail)}, exception.status_code, headers=exception.headers
    )
