"""P1 to P6: a run's status, its history and its timestamps."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from infra.verify.properties.verdicts import unless
from infra.verify.rules import CATEGORIES, EDGES, RANK, TERMINAL

if TYPE_CHECKING:
    from infra.verify.facts import Facts
    from infra.verify.properties.verdicts import Verdicts


def legal_transitions(facts: Facts) -> Verdicts:
    """P1: consecutive statuses of a history are legal edges, from its very beginning."""
    for run_id, history in facts.histories.items():
        statuses = [None, *(event.status for event in history)]
        for earlier, later in pairwise(statuses):
            legal = later in EDGES.get(earlier, frozenset())
            way = f"went from {earlier} to {later}" if earlier else f"began as {later}"
            yield unless(legal, f"Run {run_id} {way}, which is no legal edge.")


def monotonic(facts: Facts) -> Verdicts:
    """P2: the rank never falls, neither in the history nor from it to the row."""
    for run_id, history in facts.histories.items():
        statuses = [event.status for event in history]
        if run_id in facts.runs:
            statuses.append(facts.runs[run_id].status)
        for earlier, later in pairwise(statuses):
            falls = f"Run {run_id} fell back from {earlier} to {later}."
            yield unless(RANK[later] >= RANK[earlier], falls)


def terminal_sticks(facts: Facts) -> Verdicts:
    """P3: nothing comes after an end, and the row ended when its history says."""
    for run_id, history in facts.histories.items():
        ends = [event for event in history if event.status in TERMINAL]
        if not ends:
            continue
        end, after = ends[0], [event.status for event in history if event.version > ends[0].version]
        run = facts.runs.get(run_id)
        ended_at = run.completed_at if run else end.at
        yield [
            *unless(
                not after, f"Run {run_id} went on to {', '.join(after)} after it was {end.status}."
            ),
            *unless(
                ended_at == end.at,
                f"Run {run_id} ended at {end.at} by its history, and its row says {ended_at}.",
            ),
        ]


def history_is_the_truth(facts: Facts) -> Verdicts:
    """P4: versions have no gap, each event names the one before, and all folded are the row."""
    for run in facts.runs.values():
        history = facts.histories[run.id]
        versions = [event.version for event in history]
        named = [event.previous_status for event in history]
        before = [None, *(event.status for event in history)][: len(named)]
        last = history[-1] if history else None
        status, error = (last.status, last.error) if last else (None, None)
        yield [
            *unless(
                versions == [*range(1, run.version + 1)],
                f"Run {run.id} has version {run.version} and events of the versions {versions}.",
            ),
            *unless(
                named == before,
                f"Run {run.id} has events that name {named} before them; {before} were there.",
            ),
            *unless(
                run.status == status,
                f"Run {run.id} is {run.status}, but its last event says {status}.",
            ),
            *unless(
                run.error_message == error,
                f"Run {run.id} has the error {run.error_message!r}, its last event {error!r}.",
            ),
        ]


def timestamps(facts: Facts) -> Verdicts:
    """P5: created, started, completed come in this order, each exactly when it has to be there."""
    for run in facts.runs.values():
        history = facts.histories[run.id]
        times = [event.at for event in history]
        was_submitted = any(event.status == "SUBMITTED" for event in history)
        moments = [at for at in (run.created_at, run.started_at, run.completed_at) if at]
        yield [
            *unless(
                moments == sorted(moments),
                f"Run {run.id} was created at {run.created_at}, started at {run.started_at} "
                f"and completed at {run.completed_at}.",
            ),
            *unless(
                times == sorted(times),
                f"Run {run.id} has a history that steps back in time: {times}.",
            ),
            *unless(
                (run.started_at is not None) == was_submitted,
                f"Run {run.id} has started_at {run.started_at}, and its history has "
                f"{'a' if was_submitted else 'no'} SUBMITTED.",
            ),
            *unless(
                (run.completed_at is not None) == run.has_ended,
                f"Run {run.id} is {run.status} and has completed_at {run.completed_at}.",
            ),
        ]


def error_message(facts: Facts) -> Verdicts:
    """P6: a run has an error with code and category, and something to read, exactly if FAILED."""
    for run in facts.runs.values():
        error = (run.error_message, run.error_code, run.error_category)
        if run.status != "FAILED":
            yield unless(error == (None, None, None), f"Run {run.id} is {run.status}: {error}.")
            continue
        yield [
            *unless(
                bool(run.error_message and run.error_message.strip()),
                f"Run {run.id} FAILED and doesn't say why: {run.error_message!r}.",
            ),
            *unless(bool(run.error_code), f"Run {run.id} FAILED without an error code."),
            *unless(
                run.error_category in CATEGORIES,
                f"Run {run.id} FAILED with the category {run.error_category!r}, which is none.",
            ),
        ]
