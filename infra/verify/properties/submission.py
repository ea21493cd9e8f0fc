"""P7 to P13: a run, its key and its job."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from infra.verify.facts import JOB_KEY
from infra.verify.properties.verdicts import unless
from infra.verify.rules import SUBMISSION_FAILURES

if TYPE_CHECKING:
    from infra.verify.facts import Facts
    from infra.verify.properties.verdicts import Verdicts


def one_run_per_key(facts: Facts) -> Verdicts:
    """P7: a key names one run, which is there and of its tenant, and which no other key names."""
    uses = Counter((key.tenant_id, key.route, key.key) for key in facts.keys)
    names = Counter(key.run_id for key in facts.keys)
    for key in facts.keys:
        run = facts.runs.get(key.run_id)
        what = f"Key {key.key!r} of {key.tenant_id!r} for {key.route}"
        yield [
            *unless(
                uses[key.tenant_id, key.route, key.key] == 1, f"{what} is there more than once."
            ),
            *unless(run is not None, f"{what} names run {key.run_id}, which doesn't exist."),
            *unless(names[key.run_id] == 1, f"{what} names run {key.run_id}, and so do others."),
            *unless(
                run is None or run.tenant_id == key.tenant_id,
                f"{what} names run {key.run_id}, which is another tenant's.",
            ),
        ]


def at_most_one_job(facts: Facts) -> Verdicts:
    """P8: a run has one job at most; where there are more they were noted for the hunt."""
    for run_id, jobs in facts.jobs_by_run.items():
        run = facts.runs.get(run_id)
        settled = [job.id for job in jobs if not job.is_new]
        unresolved = run is not None and run.status == "CREATED"
        excused = unresolved or run_id in facts.strays or run_id in facts.purged
        fine = len(settled) <= 1 or excused
        several = f"Run {run_id} has the jobs {', '.join(settled)}: one is right, and the others"
        yield unless(fine, f"{several} stand in no stray check.")


def no_orphan(facts: Facts) -> Verdicts:
    """P9: a job is its run's, has ended or been cancelled, or will still be looked for."""
    for run_id, jobs in facts.jobs_by_run.items():
        run, stray = facts.runs.get(run_id), facts.strays.get(run_id)
        is_expected = stray is not None and stray.next_look_at is not None
        for job in jobs:
            if run is None or job.is_new or job.word is None:
                continue
            wanted = run.workbench_job_id == job.id or run.status == "CREATED"
            ended = job.has_ended or job.id in facts.cancel_called
            yield unless(
                wanted or ended or is_expected,
                f"Job {job.id} is {job.word} and nobody's: run {run_id} is {run.status} with "
                f"job {run.workbench_job_id}, and no stray check is due.",
            )


def job_identity(facts: Facts) -> Verdicts:
    """P10: a run's job was made for it, and is no other run's."""
    misled = facts.workbench.misled if facts.workbench else frozenset()
    owners = Counter(run.workbench_job_id for run in facts.runs.values())
    for run in facts.runs.values():
        if run.workbench_job_id is None:
            continue
        job = facts.jobs.get(run.workbench_job_id)
        key = JOB_KEY.match(job.idempotency_key or "") if job else None
        is_told = facts.workbench is not None and run.id not in misled
        yield [
            *unless(
                owners[run.workbench_job_id] == 1,
                f"Run {run.id} has job {run.workbench_job_id}, and so have other runs.",
            ),
            *unless(
                not is_told or job is not None,
                f"Run {run.id} has job {run.workbench_job_id}, which the Workbench never made.",
            ),
            *unless(
                job is None or (key is not None and int(key["run_id"]) == run.id),
                f"Run {run.id} has job {run.workbench_job_id}, which was made for "
                f"{job.idempotency_key if job else None!r}.",
            ),
        ]


def no_lost_run(facts: Facts) -> Verdicts:
    """P11: a BATCH run leaves CREATED within the submit deadline and two intervals."""
    within = facts.submit_deadline + 2 * facts.poll_interval
    for run in facts.runs.values():
        if run.mode != "BATCH":
            continue
        left_at = next((event.at for event in facts.histories[run.id][1:]), None)
        until = f"until {left_at}" if left_at else "and still is"
        yield unless(
            not facts.is_late(run.created_at, within, until=left_at),
            f"Run {run.id} was CREATED at {run.created_at} {until}: more than "
            f"{within.total_seconds():g} s.",
        )


def failure_is_definite(facts: Facts) -> Verdicts:
    """P12: a run FAILED before its job only for a reason in the table of outcomes."""
    for run in facts.runs.values():
        if run.status != "FAILED" or run.started_at is not None or run.completed_at is None:
            continue
        code, waited = run.error_code, run.completed_at - run.created_at
        is_lost = code == "submission_lost"
        yield [
            *unless(
                run.mode in SUBMISSION_FAILURES.get(code or "", frozenset()),
                f"Run {run.id} ({run.mode}) FAILED before it was submitted, with {code!r}: "
                "the table of outcomes has no such end.",
            ),
            *unless(
                not is_lost or waited >= facts.submit_deadline,
                f"Run {run.id} was given up as lost after {waited}, before its submit deadline.",
            ),
            *unless(
                not is_lost or run.mode != "BATCH" or run.id in facts.strays,
                f"Run {run.id} was given up as lost, and no stray check looks for its job.",
            ),
        ]


def nothing_written_on_refusal(facts: Facts) -> Verdicts:
    """P13: a job is made only for a run that exists, or did until it was purged."""
    for run_id, jobs in facts.jobs_by_run.items():
        for job in jobs:
            if not job.is_new:
                missing = f"Job {job.id} was made for run {run_id}, which doesn't exist."
                yield unless(run_id in facts.runs or run_id in facts.purged, missing)
