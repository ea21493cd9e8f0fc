"""Jobs and their store: one SQLite file, so that jobs outlive the process.

The store belongs to one thread. A statement commits by itself; a job accepted is on file before
its caller hears of it. (Write-ahead log without a sync per commit: a killed process loses
nothing, a machine that loses its power may lose the last moments.)
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from infra.workbench.bodies import Submission
from infra.workbench.prefixes import Prefix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

BUSY_SECONDS = 5.0
MAX_MESSAGE_LENGTH = 1000

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    idempotency_key TEXT UNIQUE,
    submission TEXT NOT NULL,
    status TEXT NOT NULL,
    error_message TEXT,
    objects_done INTEGER,
    objects_total INTEGER,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    submitted_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL
) STRICT
"""


class JobStatus(StrEnum):
    """A job's way: QUEUED, RUNNING, then one of the three ends."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ENDED: Final = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job as it stood when it was read; times are seconds since the epoch."""

    id: str
    submission: Submission
    status: JobStatus
    error_message: str | None
    objects_done: int | None
    objects_total: int | None
    cancel_requested: bool
    submitted_at: float
    started_at: float | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED


class JobStore:
    """The jobs of one file."""

    def __init__(self, path: Path) -> None:
        # One statement is one transaction.
        self._connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(SCHEMA)

    def close(self) -> None:
        """Gives the file back."""
        self._connection.close()

    def add(
        self, submission: Submission, *, job_id: str, idempotency_key: str | None, at: float
    ) -> tuple[Job, bool]:
        """Stores a new job, or finds the one that has this key already.

        Returns:
            The job under the key, and whether it is new.
        """
        self._connection.execute(
            "INSERT INTO jobs (id, idempotency_key, submission, status, submitted_at)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (idempotency_key) DO NOTHING",
            (job_id, idempotency_key, _to_text(submission), JobStatus.QUEUED, at),
        )
        [job] = self._read("WHERE id = ? OR idempotency_key = ?", job_id, idempotency_key)
        return job, job.id == job_id

    def get(self, job_id: str) -> Job | None:
        """The job, if there is one."""
        found = self.get_many([job_id])
        return found[0] if found else None

    def get_many(self, job_ids: Sequence[str]) -> list[Job]:
        """Those of the jobs that there are, in the order asked for."""
        marks = ", ".join("?" * len(job_ids))
        found = {job.id: job for job in self._read(f"WHERE id IN ({marks})", *job_ids)}
        return [found[job_id] for job_id in dict.fromkeys(job_ids) if job_id in found]

    def with_key(self, idempotency_key: str) -> list[Job]:
        """The job that was submitted under the key: one or none."""
        return self._read("WHERE idempotency_key = ?", idempotency_key)

    def unfinished(self) -> list[Job]:
        """All jobs that haven't ended, oldest first."""
        marks = ", ".join("?" * len(ENDED))
        return self._read(f"WHERE status NOT IN ({marks}) ORDER BY submitted_at", *ENDED)

    def start(self, job_id: str, *, at: float) -> Job:
        """QUEUED becomes RUNNING; a job taken up again keeps the time it started at."""
        self._connection.execute(
            "UPDATE jobs SET status = ?, started_at = coalesce(started_at, ?) WHERE id = ?",
            (JobStatus.RUNNING, at, job_id),
        )
        [job] = self.get_many([job_id])
        return job

    def note_progress(self, job_id: str, *, done: int, total: int) -> None:
        """How many of the job's objects are done."""
        self._connection.execute(
            "UPDATE jobs SET objects_done = ?, objects_total = ? WHERE id = ?",
            (done, total, job_id),
        )

    def request_cancel(self, job_id: str) -> None:
        """Remembers the wish, so that a restart doesn't forget it."""
        self._connection.execute("UPDATE jobs SET cancel_requested = 1 WHERE id = ?", (job_id,))

    def end(self, job_id: str, status: JobStatus, *, message: str | None, at: float) -> None:
        """The job's last word; a job that has ended stays as it is."""
        marks = ", ".join("?" * len(ENDED))
        self._connection.execute(
            "UPDATE jobs SET status = ?, error_message = ?, ended_at = ?"  # noqa: S608 - marks only
            f" WHERE id = ? AND status NOT IN ({marks})",
            (status, message and message[:MAX_MESSAGE_LENGTH], at, job_id, *ENDED),
        )

    def _read(self, condition: str, *values: str | None) -> list[Job]:
        rows = self._connection.execute(f"SELECT * FROM jobs {condition}", values)  # noqa: S608 - marks only
        return [_to_job(row) for row in rows]


def _to_job(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"],
        submission=_from_text(row["submission"]),
        status=JobStatus(row["status"]),
        error_message=row["error_message"],
        objects_done=row["objects_done"],
        objects_total=row["objects_total"],
        cancel_requested=bool(row["cancel_requested"]),
        submitted_at=row["submitted_at"],
        started_at=row["started_at"],
    )


def _to_text(submission: Submission) -> str:
    report = submission.report_prefix
    return json.dumps(
        {
            "pipeline_run_id": submission.pipeline_run_id,
            "input": [submission.input_prefix.bucket, submission.input_prefix.key],
            "output": [submission.output_prefix.bucket, submission.output_prefix.key],
            "report": report and [report.bucket, report.key],
            "parameters": submission.parameters,
        }
    )


def _from_text(text: str) -> Submission:
    stored: Mapping[str, Any] = json.loads(text)
    return Submission(
        pipeline_run_id=stored["pipeline_run_id"],
        input_prefix=Prefix(*stored["input"]),
        output_prefix=Prefix(*stored["output"]),
        report_prefix=Prefix(*stored["report"]) if stored["report"] else None,
        parameters=stored["parameters"],
    )
