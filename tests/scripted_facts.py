"""The scripted Workbench, as the invariant checker reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from infra.verify.facts import Call, Job, WorkbenchFacts

if TYPE_CHECKING:
    from scripted_workbench import ScriptedWorkbench

NOTHING_SAID: Final = "null"
"""A script may say that a job's status is null; a job without a word is a forgotten one."""


@dataclass(frozen=True)
class ScriptedReader:
    """Its jobs are those it has and those it made and was told to forget."""

    workbench: ScriptedWorkbench

    def read(self) -> WorkbenchFacts:
        """All jobs and calls, as of now."""
        noted = list(self.workbench.calls)
        jobs = {
            job.id: Job(
                id=job.id,
                idempotency_key=job.idempotency_key,
                word=NOTHING_SAID if job.status is None else job.status,
                cancel_requested=job.cancel_requested,
            )
            for job in self.workbench.jobs
        }
        misled = set()
        for call in noted:
            if call.kind != "submit":
                continue
            for job_id in call.job_ids:
                forgotten = Job(id=job_id, idempotency_key=call.idempotency_key, word=None)
                jobs.setdefault(job_id, forgotten)
            if not call.job_ids and call.run_id is not None and call.answered in {200, 202}:
                misled.add(call.run_id)
        calls = [Call(at=call.at, kind=call.kind, job_ids=call.job_ids) for call in noted]
        return WorkbenchFacts(jobs=jobs, calls=calls, misled=frozenset(misled))
