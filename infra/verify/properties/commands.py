"""P23 to P32: cancels, events and the ends of things."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from infra.verify.properties.verdicts import unless
from infra.verify.rules import CANCEL_DEADLINE, RELAY_WITHIN

if TYPE_CHECKING:
    from infra.verify.facts import Delivery, Event, Facts, Run
    from infra.verify.properties.verdicts import Verdicts


def cancel_is_durable(facts: Facts) -> Verdicts:
    """P23: a cancelled run ends in time, and its job was told, has ended, or is looked for."""
    within = CANCEL_DEADLINE + 4 * facts.poll_interval
    for run in facts.runs.values():
        if run.cancel_requested_at is None:
            continue
        job = facts.job_of(run)
        told = job is None or job.has_ended or job.id in facts.cancel_called
        yield [
            *unless(
                run.has_ended or not facts.is_late(run.cancel_requested_at, within),
                f"Run {run.id} was cancelled at {run.cancel_requested_at} and is still "
                f"{run.status}.",
            ),
            *unless(
                not run.has_ended or told or run.id in facts.strays,
                f"Run {run.id} was cancelled and is {run.status}, but its job "
                f"{run.workbench_job_id} was never asked to end and is still going.",
            ),
        ]


def cancel_tells_the_truth(facts: Facts) -> Verdicts:
    """P24: a run that is COMPLETED or CANCELLED is what its job is; one that timed out FAILED."""
    for run in facts.runs.values():
        job = facts.job_of(run)
        if run.status not in {"COMPLETED", "CANCELLED"} or job is None:
            continue
        yield [
            *unless(
                job.status == run.status,
                f"Run {run.id} is {run.status}, but its job {job.id} is {job.word}.",
            ),
            *unless(
                run.status != "CANCELLED" or run.cancel_cause != "TIMEOUT",
                f"Run {run.id} was cancelled for its time-out: it has to be FAILED.",
            ),
        ]


def cancel_before_submit(facts: Facts) -> Verdicts:
    """P25: a run cancelled before anybody tried to submit it never gets a job."""
    for run in facts.runs.values():
        if run.status != "CANCELLED" or run.started_at is not None:
            continue
        jobs = [job.id for job in facts.jobs_by_run.get(run.id, ())]
        yield [
            *unless(
                run.submit_attempts > 0 or not jobs,
                f"Run {run.id} was cancelled before it was submitted, and got {', '.join(jobs)}.",
            ),
            *unless(
                run.cancel_requested_at is not None,
                f"Run {run.id} was never submitted and is CANCELLED, though nobody asked for it.",
            ),
        ]


def events_get_out(facts: Facts) -> Verdicts:
    """P28: every event is published soon, and reached the consumer, if there is one, as it is."""
    received: dict[tuple[int, int], Delivery] = {}
    for arrival in facts.deliveries or ():
        received.setdefault((arrival.run_id, arrival.version), arrival)
    for event in facts.events:
        name = f"Event {event.version} of run {event.run_id} ({event.status})"
        if event.published_at is None:
            is_late = facts.is_late(event.at, RELAY_WITHIN)
            yield unless(not is_late, f"{name} of {event.at} has not been published.")
            continue
        delivery = received.get((event.run_id, event.version))
        yield [
            *unless(event.published_at >= event.at, f"{name} was published before it happened."),
            *unless(
                facts.deliveries is None or delivery is not None,
                f"{name} was published, and the consumer never got it.",
            ),
            *unless(
                delivery is None or _tells(delivery, event),
                f"{name} reached the consumer as {delivery}.",
            ),
        ]
    happened = {(event.run_id, event.version) for event in facts.events}
    for run_id, version in received.keys() - happened:
        if run_id not in facts.purged:
            yield [f"The consumer got event {version} of run {run_id}, which never happened."]


def realtime_ends(facts: Facts) -> Verdicts:
    """P31: a REALTIME run ends in time, with its output and without a job."""
    within = facts.submit_deadline + 4 * facts.poll_interval
    for run in facts.runs.values():
        if run.mode != "REALTIME":
            continue
        yield [
            *unless(
                run.has_ended or not facts.is_late(run.created_at, within),
                f"REALTIME run {run.id} of {run.created_at} is still {run.status}.",
            ),
            *unless(
                run.status != "COMPLETED" or run.has_output,
                f"REALTIME run {run.id} is COMPLETED and has no output.",
            ),
            *unless(
                run.workbench_job_id is None,
                f"REALTIME run {run.id} has job {run.workbench_job_id}, which nobody asks about.",
            ),
        ]


def bounded_life(facts: Facts) -> Verdicts:
    """P32: a run ends within its time-out, the time of a cancel and four intervals."""
    for run in facts.runs.values():
        if run.mode != "BATCH" or run.started_at is None:
            continue
        yield unless(
            run.has_ended or not facts.is_late(run.started_at, _life(facts, run)),
            f"Run {run.id} has {run.timeout_seconds} s, started at {run.started_at} and is "
            f"still {run.status}.",
        )


def _life(facts: Facts, run: Run) -> timedelta:
    return timedelta(seconds=run.timeout_seconds) + CANCEL_DEADLINE + 4 * facts.poll_interval


def _tells(delivery: Delivery, event: Event) -> bool:
    told = (delivery.status, delivery.previous_status)
    return told == (event.status, event.previous_status)
