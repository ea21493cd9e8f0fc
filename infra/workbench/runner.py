"""A job's life: QUEUED → RUNNING → COMPLETED, FAILED or CANCELLED.

Each unfinished job is one task on the event loop, which waits, counts and writes to the store;
what takes time happens object by object on a bounded pool of threads. So hundreds of jobs share
a few threads fairly, a pause occupies none, and a cancel takes effect between two objects.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from infra.workbench.errors import JobCancelled, JobTrouble
from infra.workbench.jobs import Job, JobStatus, JobStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infra.workbench.bodies import ProfileRequest
    from infra.workbench.storage import StoredObject

T = TypeVar("T")
PROFILE_THREADS = 2

log = logging.getLogger("workbench.jobs")


class Work(Protocol):
    """One job's objects, worked on one after another."""

    @property
    def sources(self) -> Sequence[StoredObject]:
        """What there is to work on."""

    def process(self, source: StoredObject) -> None:
        """Works on one object and writes its result."""

    def finish(self) -> None:
        """Writes what is told about all of them."""


class Processor(Protocol):
    """What jobs and realtime runs are carried out with; its calls may take long."""

    def open(self, job: Job) -> Work:
        """Finds out what a job has to work on."""

    def profile(self, request: ProfileRequest) -> dict[str, object]:
        """The output of a realtime run."""


class JobRunner:
    """Carries jobs through their lives.

    Args:
        store: Where their status is kept; used on the event loop's thread only.
        make_processor: Called once, on the first job: what it loads is heavy.
        clock: Seconds since the epoch.
        worker_count: How many objects are worked on at once.
    """

    def __init__(
        self,
        store: JobStore,
        make_processor: Callable[[], Processor],
        *,
        clock: Callable[[], float],
        worker_count: int,
    ) -> None:
        self._store = store
        self._processor = _MadeOnce(make_processor)
        self._clock = clock
        self._workers = ThreadPoolExecutor(worker_count, thread_name_prefix="job")
        self._profilers = ThreadPoolExecutor(PROFILE_THREADS, thread_name_prefix="profile")
        self._cancels: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def resume(self) -> None:
        """Takes up every job that an earlier process left unfinished, from its beginning."""
        for job in self._store.unfinished():
            log.info("job %s is taken up again", job.id)
            self.take_up(job)

    def take_up(self, job: Job) -> None:
        """Begins a job's life in the background."""
        cancel = self._cancels[job.id] = asyncio.Event()
        if job.cancel_requested:
            cancel.set()
        task = asyncio.create_task(self._carry_through(job, cancel))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self, job_id: str) -> None:
        """Asks a job to end; one that has ended doesn't mind."""
        if job_id in self._cancels:
            self._store.request_cancel(job_id)
            self._cancels[job_id].set()

    async def profile(self, request: ProfileRequest) -> dict[str, object]:
        """Carries out a realtime run; jobs don't hold it up.

        Raises:
            JobTrouble: There is nothing to look at, or no way to it.
        """
        begun_at = self._clock()
        loop = asyncio.get_running_loop()
        output = await loop.run_in_executor(
            self._profilers, lambda: self._processor.get().profile(request)
        )
        await asyncio.sleep(max(0.0, begun_at + request.work_seconds - self._clock()))
        return output

    async def stop(self) -> None:
        """Lets go of all jobs at once; the next process takes them up again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._profilers.shutdown(wait=False, cancel_futures=True)

    async def _carry_through(self, job: Job, cancel: asyncio.Event) -> None:
        try:
            await self._pause_until(job.submitted_at + job.submission.queue_seconds, cancel)
            await self._run(self._store.start(job.id, at=self._clock()), cancel)
        except JobCancelled:
            self._end(job, JobStatus.CANCELLED, self._how_far(job))
        except JobTrouble as trouble:
            self._end(job, JobStatus.FAILED, str(trouble))
        except Exception as error:  # The edge: no job may stay RUNNING for a bug of ours.
            log.exception("job %s failed unexpectedly", job.id)
            self._end(job, JobStatus.FAILED, f"The Workbench itself failed: {error!r}")
        else:
            self._end(job, JobStatus.COMPLETED, None)
        finally:
            del self._cancels[job.id]

    async def _run(self, job: Job, cancel: asyncio.Event) -> None:
        """Works on one object after another, spread over `work_seconds`."""
        started_at = job.started_at or self._clock()
        work = await self._in_pool(lambda: self._processor.get().open(job), cancel)
        total = len(work.sources)
        self._store.note_progress(job.id, done=0, total=total)
        for done, source in enumerate(work.sources, start=1):
            await self._in_pool(partial(work.process, source), cancel)
            self._store.note_progress(job.id, done=done, total=total)
            share = job.submission.work_seconds * done / total
            await self._pause_until(started_at + share, cancel)
        await self._in_pool(work.finish, cancel)

    async def _in_pool(self, function: Callable[[], T], cancel: asyncio.Event) -> T:
        """Waits for a worker and its result; a cancel ends the waiting, not the working."""
        if cancel.is_set():
            raise JobCancelled
        future = self._workers.submit(function)
        result = asyncio.wrap_future(future)
        watcher = asyncio.ensure_future(cancel.wait())
        either: list[asyncio.Future[Any]] = [result, watcher]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if watcher.done() and future.cancel():
                raise JobCancelled
            return await result
        finally:
            watcher.cancel()
            result.cancel()

    async def _pause_until(self, moment: float, cancel: asyncio.Event) -> None:
        """Waits without a worker; a cancel ends it at once."""
        try:
            async with asyncio.timeout(max(0.0, moment - self._clock())):
                await cancel.wait()
        except TimeoutError:
            return
        raise JobCancelled

    def _how_far(self, job: Job) -> str:
        now = self._store.get(job.id)
        if now is None or not now.objects_total:
            return "Cancelled before any object was worked on."
        return f"Cancelled after {now.objects_done} of {now.objects_total} objects."

    def _end(self, job: Job, status: JobStatus, message: str | None) -> None:
        self._store.end(job.id, status, message=message, at=self._clock())
        log.info("job %s is %s%s", job.id, status, f": {message}" if message else "")


class _MadeOnce:
    """A value made on first use, by whichever thread comes first."""

    def __init__(self, make: Callable[[], Processor]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._value: Processor | None = None

    def get(self) -> Processor:
        with self._lock:
            if self._value is None:
                self._value = self._make()
            return self._value
