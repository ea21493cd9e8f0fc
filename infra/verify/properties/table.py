"""The table of all properties: what each is called, counts, needs, and who judges it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from infra.verify.facts import Facts, Need
from infra.verify.properties import commands, observation, status, submission
from infra.verify.properties.verdicts import Verdicts

Judge = Callable[[Facts], Verdicts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One of P1 to P32.

    Attributes:
        counts: What it is judged on.
        judge: None: it can't be read off the state, only tests tell.
        needs: What the judge can't do without.
        rare: It speaks of what need not have happened, such as a cancel.
    """

    number: int
    name: str
    counts: str = ""
    judge: Judge | None = None
    needs: tuple[Need, ...] = ()
    rare: bool = False


def _property(
    number: int, name: str, counts: str, judge: Judge, *needs: Need, rare: bool = False
) -> Property:
    return Property(number=number, name=name, counts=counts, judge=judge, needs=needs, rare=rare)


PROPERTIES: Final = (
    _property(1, "legal transitions", "events", status.legal_transitions),
    _property(2, "monotonic", "events", status.monotonic),
    _property(3, "terminal sticks", "ended runs", status.terminal_sticks),
    _property(4, "history is the truth", "runs", status.history_is_the_truth),
    _property(5, "timestamps", "runs", status.timestamps),
    _property(6, "error message", "runs", status.error_message),
    _property(7, "one run per key", "keys", submission.one_run_per_key),
    _property(8, "at most one job", "runs", submission.at_most_one_job, Need.WORKBENCH),
    _property(9, "no orphan", "jobs", submission.no_orphan, Need.WORKBENCH),
    _property(10, "job identity", "runs", submission.job_identity),
    _property(11, "no lost run", "BATCH runs", submission.no_lost_run, Need.WELL),
    _property(
        12, "failure is definite", "failed starts", submission.failure_is_definite, rare=True
    ),
    _property(
        13, "nothing on refusal", "jobs", submission.nothing_written_on_refusal, Need.WORKBENCH
    ),
    _property(
        14, "bounded staleness", "active runs", observation.bounded_staleness, Need.WELL, rare=True
    ),
    _property(
        15,
        "eventually told",
        "ended jobs",
        observation.eventually_told,
        Need.END_TIMES,
        Need.TRUE_CLOCK,
        Need.WELL,
    ),
    _property(
        16,
        "trouble is not failure",
        "FAILED runs",
        observation.trouble_is_not_failure,
        Need.WORKBENCH,
        rare=True,
    ),
    _property(
        17, "loss needs persistence", "lost runs", observation.loss_needs_persistence, rare=True
    ),
    _property(18, "isolation", "dead letters", observation.isolation, rare=True),
    _property(19, "duplicates are harmless", "events", observation.duplicates_are_harmless),
    _property(20, "nobody is forgotten", "shards, runs", observation.nobody_is_forgotten),
    _property(
        21,
        "retries are bounded",
        "jobs",
        observation.retries_are_bounded,
        Need.WORKBENCH,
        Need.TRUE_CLOCK,
    ),
    _property(22, "total mapping", "runs", observation.total_mapping),
    _property(23, "cancel is durable", "cancelled runs", commands.cancel_is_durable, rare=True),
    _property(
        24, "cancel tells the truth", "ended runs", commands.cancel_tells_the_truth, Need.WORKBENCH
    ),
    _property(
        25, "cancel before submit", "early cancels", commands.cancel_before_submit, rare=True
    ),
    Property(number=26, name="read your write"),
    Property(number=27, name="pages are exact"),
    _property(28, "events get out", "events", commands.events_get_out),
    Property(number=29, name="tenants are strangers"),
    Property(number=30, name="errors have one shape"),
    _property(31, "REALTIME ends", "REALTIME runs", commands.realtime_ends, rare=True),
    _property(32, "bounded life", "BATCH runs", commands.bounded_life, Need.WELL),
)
