"""Reads the reference Workbench: its journal and, without disturbing it, its store of jobs."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from infra.verify.facts import Call, Job, WorkbenchFacts

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY_SECONDS: Final = 5.0
JOBS: Final = "SELECT id, idempotency_key, status, ended_at, cancel_requested FROM jobs"


@dataclass(frozen=True, slots=True)
class ReferenceWorkbench:
    """Its files."""

    journal_path: Path
    jobs_path: Path

    @classmethod
    def beside(cls, journal_path: str) -> ReferenceWorkbench:
        """The files of a local stack's Workbench, found by its journal."""
        journal = Path(journal_path)
        return cls(journal, journal.parent / "data" / "jobs.sqlite")

    def read(self) -> WorkbenchFacts:
        """All jobs and calls; those that it gave out and has no more are forgotten ones."""
        jobs = {job.id: job for job in self._stored()}
        calls = []
        for noted in self._noted():
            calls.append(_call(noted))
            if noted["call"] == "submit" and noted["status_code"] < 300:
                key = noted["idempotency_key"]
                for job_id in noted["workbench_job_ids"]:
                    jobs.setdefault(job_id, Job(id=job_id, idempotency_key=key, word=None))
        return WorkbenchFacts(jobs=jobs, calls=calls, tells_ends=True)

    def _stored(self) -> Iterator[Job]:
        if not self.jobs_path.exists():
            return
        address = f"{self.jobs_path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as store:
            for job_id, key, word, ended_at, cancel_requested in store.execute(JOBS):
                yield Job(
                    id=job_id,
                    idempotency_key=key,
                    word=word,
                    ended_at=None if ended_at is None else datetime.fromtimestamp(ended_at, UTC),
                    cancel_requested=bool(cancel_requested),
                )

    def _noted(self) -> Iterator[dict[str, Any]]:
        if not self.journal_path.exists():
            return
        with self.journal_path.open(encoding="utf-8") as journal:
            for line in journal:
                if line.endswith("\n"):  # Else it is being written.
                    yield json.loads(line)


def _call(noted: dict[str, Any]) -> Call:
    return Call(at=noted["at"], kind=noted["call"], job_ids=tuple(noted["workbench_job_ids"]))
