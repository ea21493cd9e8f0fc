"""A job's life in the reference Workbench, on a real event loop and threads, without storage."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from infra.workbench.bodies import ProfileRequest, Submission
from infra.workbench.errors import BrokenFile
from infra.workbench.jobs import Job, JobStatus, JobStore
from infra.workbench.prefixes import Prefix
from infra.workbench.runner import JobRunner
from infra.workbench.storage import StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

DEADLINE_SECONDS = 20
INPUT, OUTPUT = Prefix("user-data", "in"), Prefix("user-data", "out")


def sources(count: int) -> tuple[StoredObject, ...]:
    names = [f"{number}.txt" for number in range(count)]
    return tuple(
        StoredObject(name=name, bucket="user-data", key=f"in/{name}", size_bytes=1)
        for name in names
    )


@dataclass
class FakeWork:
    """Notes what is done; the gate, if closed, holds the workers."""

    sources: tuple[StoredObject, ...] = sources(3)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    trouble: Exception | None = None
    done: list[str] = field(default_factory=list)

    def process(self, source: StoredObject) -> None:
        self.entered.set()
        assert self.gate.wait(DEADLINE_SECONDS)
        if self.trouble:
            raise self.trouble
        self.done.append(source.name)

    def finish(self) -> None:
        self.done.append("finish")


@dataclass
class FakeProcessor:
    work: FakeWork

    def open(self, job: Job) -> FakeWork:
        self.work.done.append(f"open {job.submission.pipeline_run_id}")
        return self.work

    def profile(self, request: ProfileRequest) -> dict[str, object]:
        return {"run": request.pipeline_run_id}


@dataclass
class Bench:
    """A runner at work, with what a test looks at."""

    store: JobStore
    work: FakeWork
    runner: JobRunner

    def submit(self, job_id: str = "job-1", **parameters: Any) -> Job:
        submission = Submission(
            pipeline_run_id=42,
            input_prefix=INPUT,
            output_prefix=OUTPUT,
            report_prefix=None,
            parameters=parameters,
        )
        job, _ = self.store.add(submission, job_id=job_id, idempotency_key=None, at=time.time())
        self.runner.take_up(job)
        return job

    def job(self, job_id: str = "job-1") -> Job:
        [job] = self.store.get_many([job_id])
        return job

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():  # noqa: ASYNC110 - SQLite tells nobody of its changes
                await asyncio.sleep(0.005)

    async def end(self, job_id: str = "job-1") -> Job:
        await self.until(lambda: self.job(job_id).has_ended)
        return self.job(job_id)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    work = FakeWork()
    work.gate.set()
    store = JobStore(tmp_path / "jobs.sqlite")
    yield Bench(store, work, make_runner(store, work))
    work.gate.set()
    store.close()


def make_runner(store: JobStore, work: FakeWork) -> JobRunner:
    return JobRunner(store, lambda: FakeProcessor(work), clock=time.time, worker_count=1)


def run(bench: Bench, story: Callable[[], Coroutine[None, None, None]]) -> None:
    async def whole() -> None:
        try:
            await story()
        finally:
            await bench.runner.stop()

    asyncio.run(whole())


def test_a_job_works_on_its_objects_in_order_and_then_finishes(bench: Bench) -> None:
    async def story() -> None:
        bench.submit()
        ended = await bench.end()
        assert (ended.status, ended.error_message) == (JobStatus.COMPLETED, None)
        assert (ended.objects_done, ended.objects_total) == (3, 3)

    run(bench, story)
    assert bench.work.done == ["open 42", "0.txt", "1.txt", "2.txt", "finish"]


def test_trouble_fails_the_job_in_its_own_words(bench: Bench) -> None:
    async def story() -> None:
        bench.work.trouble = BrokenFile("a.csv is broken")
        bench.submit()
        ended = await bench.end()
        assert (ended.status, ended.error_message) == (JobStatus.FAILED, "a.csv is broken")

    run(bench, story)


def test_a_bug_of_ours_fails_the_job_too(bench: Bench) -> None:
    async def story() -> None:
        bench.work.trouble = ZeroDivisionError("oops")
        bench.submit()
        ended = await bench.end()
        assert ended.status is JobStatus.FAILED
        assert "The Workbench itself failed: ZeroDivisionError" in str(ended.error_message)

    run(bench, story)


def test_a_cancel_in_the_midst_of_an_object_takes_effect_after_it(bench: Bench) -> None:
    async def story() -> None:
        bench.work.gate.clear()
        bench.submit()
        await bench.until(bench.work.entered.is_set)
        bench.runner.cancel("job-1")
        assert bench.job().status is JobStatus.RUNNING
        bench.work.gate.set()
        ended = await bench.end()
        assert ended.status is JobStatus.CANCELLED
        assert ended.error_message == "Cancelled after 1 of 3 objects."

    run(bench, story)
    assert bench.work.done == ["open 42", "0.txt"]


def test_a_job_that_waits_for_a_worker_is_cancelled_at_once(bench: Bench) -> None:
    async def story() -> None:
        bench.work.gate.clear()
        bench.submit("holds the worker")
        await bench.until(bench.work.entered.is_set)
        bench.submit("waits")
        await bench.until(lambda: bench.job("waits").status is JobStatus.RUNNING)
        bench.runner.cancel("waits")
        ended = await bench.end("waits")
        assert ended.error_message == "Cancelled before any object was worked on."
        assert not bench.job("holds the worker").has_ended

    run(bench, story)


def test_pauses_hold_no_worker(bench: Bench) -> None:
    async def story() -> None:
        bench.submit("queued", queue_seconds=600)
        bench.submit("held", work_seconds=600)
        await bench.until(lambda: bench.job("held").objects_done == 1)
        bench.submit("quick")
        assert (await bench.end("quick")).status is JobStatus.COMPLETED
        assert bench.job("queued").status is JobStatus.QUEUED
        assert bench.job("held").status is JobStatus.RUNNING

    run(bench, story)


def test_a_job_is_running_at_least_as_long_as_asked(bench: Bench) -> None:
    async def story() -> None:
        begun_at = time.monotonic()
        bench.submit(queue_seconds=0.2, work_seconds=0.3)
        await bench.end()
        assert time.monotonic() - begun_at >= 0.5

    run(bench, story)


def test_what_is_left_is_taken_up_by_the_next_runner_also_a_cancel(bench: Bench) -> None:
    async def before() -> None:
        bench.submit("held", work_seconds=600)
        bench.submit("unwanted", queue_seconds=600)
        await bench.until(lambda: bench.job("held").objects_done == 1)

    async def after() -> None:
        bench.store.request_cancel("unwanted")
        bench.runner.resume()
        await bench.until(lambda: "1.txt" in bench.work.done or bench.work.done.count("0.txt") == 2)
        assert (await bench.end("unwanted")).status is JobStatus.CANCELLED
        assert bench.job("held").status is JobStatus.RUNNING
        bench.runner.cancel("held")
        assert (await bench.end("held")).status is JobStatus.CANCELLED

    run(bench, before)
    bench.runner = make_runner(bench.store, bench.work)
    run(bench, after)


def test_a_cancel_after_the_end_changes_nothing(bench: Bench) -> None:
    async def story() -> None:
        bench.submit()
        ended = await bench.end()
        bench.runner.cancel("job-1")
        assert bench.job() == ended

    run(bench, story)


def test_a_realtime_run_is_not_held_up_by_jobs(bench: Bench) -> None:
    request = ProfileRequest(pipeline_run_id=7, input_prefix=INPUT, work_seconds=0)

    async def story() -> None:
        bench.work.gate.clear()
        bench.submit()
        await bench.until(bench.work.entered.is_set)
        assert await bench.runner.profile(request) == {"run": 7}
        begun_at = time.monotonic()
        await bench.runner.profile(replace(request, work_seconds=0.2))
        assert time.monotonic() - begun_at >= 0.2
        bench.work.gate.set()

    run(bench, story)
