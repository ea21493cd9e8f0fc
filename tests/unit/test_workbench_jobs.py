"""The reference Workbench's jobs are kept in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.workbench.bodies import Submission
from infra.workbench.jobs import Job, JobStatus, JobStore
from infra.workbench.prefixes import Prefix

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUBMISSION = Submission(
    pipeline_run_id=42,
    input_prefix=Prefix("user-data", "in"),
    output_prefix=Prefix("user-data", "out"),
    report_prefix=None,
    parameters={"colour": "blue"},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[JobStore]:
    opened = JobStore(path)
    yield opened
    opened.close()


def add(store: JobStore, job_id: str, key: str | None = None, at: float = 100) -> tuple[Job, bool]:
    return store.add(SUBMISSION, job_id=job_id, idempotency_key=key, at=at)


def test_a_new_job_is_queued_and_remembers_what_it_is_to_do(store: JobStore) -> None:
    job, is_new = add(store, "job-1", "key")
    assert is_new
    assert job == Job(
        id="job-1",
        submission=SUBMISSION,
        status=JobStatus.QUEUED,
        error_message=None,
        objects_done=None,
        objects_total=None,
        cancel_requested=False,
        submitted_at=100,
        started_at=None,
    )


def test_a_key_names_one_job_whatever_comes_later(store: JobStore) -> None:
    first, _ = add(store, "job-1", "key")
    store.end("job-1", JobStatus.FAILED, message="broken", at=101)
    again, is_new = add(store, "job-2", "key")
    assert (again.id, is_new, again.status) == (first.id, False, JobStatus.FAILED)
    assert store.get("job-2") is None
    assert [job.id for job in store.with_key("key")] == ["job-1"]


def test_two_openers_of_the_file_agree_on_a_key(store: JobStore, path: Path) -> None:
    other = JobStore(path)
    add(store, "job-1", "key")
    assert add(other, "job-2", "key")[0].id == "job-1"
    other.close()


def test_without_a_key_every_job_is_new(store: JobStore) -> None:
    assert [add(store, job_id)[1] for job_id in ("job-1", "job-2")] == [True, True]


def test_many_are_read_in_the_order_asked_for_without_the_unknown(store: JobStore) -> None:
    for job_id in ("job-1", "job-2", "job-3"):
        add(store, job_id)
    found = store.get_many(["job-3", "nobody", "job-1", "job-3"])
    assert [job.id for job in found] == ["job-3", "job-1"]
    assert store.get_many([]) == []


def test_a_job_taken_up_again_keeps_the_time_it_started_at(store: JobStore) -> None:
    add(store, "job-1")
    assert store.start("job-1", at=110).started_at == 110
    again = store.start("job-1", at=200)
    assert (again.started_at, again.status) == (110, JobStatus.RUNNING)


def test_what_has_ended_stays_as_it_is(store: JobStore) -> None:
    add(store, "job-1")
    store.end("job-1", JobStatus.CANCELLED, message=None, at=120)
    store.end("job-1", JobStatus.COMPLETED, message="no", at=121)
    job = store.get("job-1")
    assert job is not None
    assert (job.status, job.error_message, job.has_ended) == (JobStatus.CANCELLED, None, True)


def test_jobs_wishes_and_progress_outlive_the_opener(store: JobStore, path: Path) -> None:
    for number, job_id in enumerate(("ended", "younger", "older")):
        add(store, job_id, at=100 - number)
    store.end("ended", JobStatus.COMPLETED, message=None, at=120)
    store.start("older", at=110)
    store.note_progress("older", done=1, total=3)
    store.request_cancel("younger")
    later = JobStore(path)
    older, younger = later.unfinished()
    assert (older.id, older.objects_done, older.objects_total) == ("older", 1, 3)
    assert (younger.id, younger.cancel_requested) == ("younger", True)
    later.close()


def test_a_long_message_is_cut(store: JobStore) -> None:
    add(store, "job-1")
    store.end("job-1", JobStatus.FAILED, message="x" * 5000, at=120)
    job = store.get("job-1")
    assert job is not None
    assert len(job.error_message or "") == 1000
