"""P14 to P22: how active runs are looked at, and what is made of the answers."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Final

from infra.verify.properties.verdicts import unless
from infra.verify.rules import (
    CLAIM_SLACK,
    GIVEN_UP,
    LONGEST_BACK_OFF,
    LOSS_AFTER,
    LOSS_ANSWERS,
    MOST_ASKS,
    RANK,
    SHARDS,
    TERMINAL,
    status_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.verify.facts import Facts, Job, Run
    from infra.verify.properties.verdicts import Verdicts

QUOTED_CHARACTERS: Final = 200
ASKS_OVER_INTERVALS: Final = 4
"""Asks are counted over so many intervals, and one interval's worth more may fall into them."""


def bounded_staleness(facts: Facts) -> Verdicts:
    """P14: an active run with a job was observed lately, unless it is backed off."""
    within = 2 * facts.poll_interval + CLAIM_SLACK
    for run in facts.runs.values():
        if run.has_ended or run.started_at is None or run.mode != "BATCH" or run.next_check_at:
            continue
        seen = facts.observations.get(run.id)
        checked_at = (seen.last_checked_at if seen else None) or run.started_at
        yield unless(
            not facts.is_late(checked_at, within),
            f"Run {run.id} is {run.status} and was last observed at {checked_at}, more than "
            f"{within.total_seconds():g} s ago.",
        )


def eventually_told(facts: Facts) -> Verdicts:
    """P15: a run has ended soon after its job, unless it is backed off."""
    within = facts.poll_interval + CLAIM_SLACK
    for run, job in _runs_with_jobs(facts):
        if job.ended_at is None or (run.next_check_at and not run.has_ended):
            continue
        yield unless(
            run.has_ended or not facts.is_late(job.ended_at, within),
            f"Job {job.id} is {job.word} since {job.ended_at}, and run {run.id} is still "
            f"{run.status} more than {within.total_seconds():g} s later.",
        )


def trouble_is_not_failure(facts: Facts) -> Verdicts:
    """P16: a run with a job FAILED because its job did, or because it was given up."""
    for run, job in _runs_with_jobs(facts):
        if run.status == "FAILED":
            yield unless(
                job.status == "FAILED" or run.error_category in GIVEN_UP,
                f"Run {run.id} FAILED ({run.error_code}), but its job {job.id} is {job.word}.",
            )


def loss_needs_persistence(facts: Facts) -> Verdicts:
    """P17: a job was declared lost only after enough answers over long enough."""
    for run in facts.runs.values():
        if run.error_code != "job_lost" or run.completed_at is None:
            continue
        seen = facts.observations.get(run.id)
        count = seen.unknown_count if seen else 0
        since = seen.unknown_since if seen else None
        yield [
            *unless(
                count >= LOSS_ANSWERS,
                f"Run {run.id} lost its job after {count} answers; {LOSS_ANSWERS} are needed.",
            ),
            *unless(
                since is not None and run.completed_at - since >= LOSS_AFTER,
                f"Run {run.id} lost its job at {run.completed_at}; it was unknown since {since}.",
            ),
            *unless(
                run.error_category == "LOST",
                f"Run {run.id} lost its job, with the category {run.error_category}.",
            ),
        ]


def isolation(facts: Facts) -> Verdicts:
    """P18: the DLQ holds poison alone; a readable message there was taken along by another."""
    for body in facts.dead_letters:
        told = f"A message that can be read lies in the DLQ: {body[:QUOTED_CHARACTERS]}"
        yield unless(not _is_readable(body), told)


def duplicates_are_harmless(facts: Facts) -> Verdicts:
    """P19: each version of a run, and each status, was entered once."""
    versions = Counter((event.run_id, event.version) for event in facts.events)
    statuses = Counter(
        (run_id, event.status) for run_id, history in facts.histories.items() for event in history
    )
    for (run_id, version), count in versions.items():
        yield unless(count == 1, f"Run {run_id} has {count} events of version {version}.")
    for (run_id, status), count in statuses.items():
        if count > 1:
            yield [f"Run {run_id} was {status} {count} times."]


def nobody_is_forgotten(facts: Facts) -> Verdicts:
    """P20: all shards are there and swept; no active run is outside them or backed off for long."""
    within = facts.poll_interval + CLAIM_SLACK
    for shard in range(SHARDS):
        if shard not in facts.shards:
            yield [f"Shard {shard} is missing: its runs are never swept."]
            continue
        swept_at = facts.shards[shard]
        is_late = facts.is_late(swept_at or facts.well_since or facts.now, within)
        yield unless(not is_late, f"Shard {shard} was last swept at {swept_at}.")
    for run in facts.runs.values():
        if run.has_ended:
            continue
        latest = facts.now + LONGEST_BACK_OFF
        yield [
            *unless(run.shard == run.id % SHARDS, f"Run {run.id} is in shard {run.shard}."),
            *unless(
                run.next_check_at is None or run.next_check_at <= latest,
                f"Run {run.id} is backed off until {run.next_check_at}; no more than "
                f"{LONGEST_BACK_OFF} ahead of {facts.now} is allowed.",
            ),
        ]


def retries_are_bounded(facts: Facts) -> Verdicts:
    """P21: a job is asked about three times an interval at most."""
    window = ASKS_OVER_INTERVALS * facts.poll_interval.total_seconds()
    most = MOST_ASKS * (ASKS_OVER_INTERVALS + 1)
    for job_id, times in _asks(facts):
        spans = (later - earlier for earlier, later in zip(times, times[most:], strict=False))
        narrowest = min(spans, default=None)
        yield unless(
            narrowest is None or narrowest > window,
            f"Job {job_id} was asked about more than {most} times in {window:g} s.",
        )


def total_mapping(facts: Facts) -> Verdicts:
    """P22: what the Workbench said last has reached the run, or is unknown: trouble."""
    for seen in facts.observations.values():
        run, word = facts.runs.get(seen.run_id), seen.upstream_status
        if run is None or word is None:
            continue
        status = status_of(word)
        if status is None:
            in_trouble = bool(seen.last_error) and seen.consecutive_failures > 0
            quiet = f"Run {run.id} took the unknown status {word!r} for a valid answer."
            yield unless(in_trouble, quiet)
            continue
        reached = RANK[status] <= RANK[run.status]
        same = status not in TERMINAL or run.status == status or run.error_category in GIVEN_UP
        unheard = f"Run {run.id} is {run.status}, but the Workbench said {word!r}."
        yield unless(reached and same, unheard)


def _runs_with_jobs(facts: Facts) -> Iterator[tuple[Run, Job]]:
    for run in facts.runs.values():
        if job := facts.job_of(run):
            yield run, job


def _asks(facts: Facts) -> Iterator[tuple[str, list[float]]]:
    """When the Workbench was asked about each of the runs' jobs, in order."""
    asks: dict[str, list[float]] = {}
    for call in facts.workbench.calls if facts.workbench else ():
        if call.kind in {"status", "bulk_status"}:
            for job_id in call.job_ids:
                asks.setdefault(job_id, []).append(call.at)
    ours = {run.workbench_job_id for run in facts.runs.values()}
    for job_id, times in asks.items():
        if job_id in ours:
            yield job_id, sorted(times)


def _is_readable(body: str) -> bool:
    """Whether it is a check message as we send them."""
    try:
        message = json.loads(body)
    except ValueError:
        return False
    if not isinstance(message, dict) or message.get("v") != 1:
        return False
    run_ids = message.get("run_ids")
    named = isinstance(run_ids, list) and bool(run_ids)
    return named and isinstance(message.get("attempt"), int) and "sent_at" in message
