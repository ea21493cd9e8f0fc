"""The invariant checker is content with a well-formed world, and finds each property broken."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from infra.verify import rules
from infra.verify.display import show
from infra.verify.facts import (
    Call,
    Delivery,
    Event,
    Facts,
    Job,
    Key,
    Observation,
    Run,
    StrayCheck,
    WorkbenchFacts,
)
from infra.verify.properties.table import PROPERTIES
from infra.verify.report import Demand, verify
from runs.messages import CheckMessage
from runs.model import UPSTREAM_STATUSES, ErrorCategory
from runs.status import RANK, TRANSITIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
P = timedelta(seconds=30)
STEP = timedelta(seconds=10)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
NAMESPACE = "0f0e"
WAY = ("CREATED", "SUBMITTED", "RUNNING")
ERRORS = {
    "job_failed": ("UPSTREAM", "row 7 is broken"),
    "job_lost": ("LOST", "the Workbench does not know the job any more"),
    "run_timed_out": ("TIMEOUT", "it took longer than it was given"),
    "submission_lost": ("LOST", "it is not known whether a job was started"),
}
Seed = Callable[[Facts], Facts]


# -- a well-formed world --------------------------------------------------------------------------


def the_world() -> Facts:
    """A run of every kind, each with its job; all is as it should be."""
    lost_at = NOW - 30 * MINUTE
    told = [
        a_run(1, *WAY, "COMPLETED", job="job-1"),
        a_run(2, *WAY, "FAILED", job="job-2", error_code="job_failed"),
        a_run(3, *WAY, "CANCELLED", job="job-3", cancel_cause="USER"),
        a_run(4, *WAY, job="job-4"),
        a_run(5, "CREATED", begun_at=NOW - STEP),
        a_run(6, "CREATED", "CANCELLED", cancel_cause="USER", submit_attempts=0),
        a_run(7, "CREATED", "FAILED", error_code="submission_lost", step=6 * MINUTE),
        a_run(
            8,
            *WAY,
            "FAILED",
            job="job-8",
            error_code="job_lost",
            step=5 * MINUTE,
            begun_at=lost_at - 15 * MINUTE,
        ),
        a_run(9, *WAY, "COMPLETED", mode="REALTIME", has_output=True),
        a_run(10, *WAY, "FAILED", job="job-10", error_code="run_timed_out", cancel_cause="TIMEOUT"),
    ]
    jobs = [
        a_job(1, "SUCCEEDED", ended_at=NOW - 20 * MINUTE),
        a_job(2, "failed", ended_at=NOW - 20 * MINUTE),
        a_job(3, "CANCELLED", ended_at=NOW - 20 * MINUTE, cancel_requested=True),
        a_job(4, "RUNNING"),
        a_job(8, None),
        a_job(10, "CANCELLED", ended_at=NOW - 20 * MINUTE, cancel_requested=True),
    ]
    seen = [
        an_observation(1, "SUCCEEDED"),
        an_observation(2, "failed"),
        an_observation(3, "CANCELLED"),
        an_observation(4, "IN_PROGRESS"),
        an_observation(8, "RUNNING", unknown_since=lost_at - 16 * MINUTE, unknown_count=5),
    ]
    events = [event for _, history in told for event in history]
    calls = [Call(at=30.0 * minute, kind="status", job_ids=("job-4",)) for minute in range(60)]
    return Facts(
        now=NOW,
        clock_moved=False,
        namespace=NAMESPACE,
        poll_interval=P,
        runs={run.id: run for run, _ in told},
        events=events,
        observations={one.run_id: one for one in seen},
        keys=[
            Key(tenant_id="default", route="POST /pipeline-run", key=f"key-{run.id}", run_id=run.id)
            for run, _ in told
        ],
        strays={7: StrayCheck(run_id=7, next_look_at=NOW + MINUTE)},
        shards=dict.fromkeys(range(256), NOW - STEP),
        workbench=WorkbenchFacts(jobs={job.id: job for job in jobs}, calls=calls, tells_ends=True),
        dead_letters=["not JSON"],
        deliveries=[delivery_of(event) for event in events],
        well_since=NOW - timedelta(days=1),
    )


def a_run(
    run_id: int,
    *statuses: str,
    begun_at: datetime = NOW - 60 * MINUTE,
    step: timedelta = STEP,
    job: str | None = None,
    error_code: str | None = None,
    cancel_cause: str | None = None,
    **columns: Any,
) -> tuple[Run, Sequence[Event]]:
    """A run that went through the statuses, a step apart, and its history."""
    category, error = ERRORS[error_code] if error_code else (None, None)
    at = {status: begun_at + number * step for number, status in enumerate(statuses)}
    last = statuses[-1]
    usual: dict[str, Any] = {"mode": "BATCH", "has_output": False, "submit_attempts": 1}
    run = Run(
        id=run_id,
        tenant_id="default",
        status=last,
        version=len(statuses),
        workbench_job_id=job,
        error_message=error,
        error_code=error_code,
        error_category=category,
        created_at=begun_at,
        started_at=at.get("SUBMITTED"),
        completed_at=at[last] if last in rules.TERMINAL else None,
        timeout_seconds=604_800,
        cancel_requested_at=begun_at if cancel_cause else None,
        cancel_cause=cancel_cause,
        next_check_at=None,
        shard=run_id % 256,
        **(usual | columns),
    )
    history = [
        Event(
            run_id=run_id,
            version=version,
            previous_status=before,
            status=status,
            at=at[status],
            error=error if status == "FAILED" else None,
            published_at=at[status],
        )
        for version, (before, status) in enumerate(pairwise((None, *statuses)), start=1)
        if status
    ]
    return run, history


def a_job(run_id: int, word: object, *, name: str = "", **more: Any) -> Job:
    key = f"{NAMESPACE}-{run_id}"
    return Job(id=name or f"job-{run_id}", idempotency_key=key, word=word, **more)


def an_observation(
    run_id: int, word: str, unknown_since: datetime | None = None, unknown_count: int = 0
) -> Observation:
    return Observation(
        run_id=run_id,
        last_checked_at=NOW - STEP,
        upstream_status=word,
        consecutive_failures=unknown_count,
        last_error="404" if unknown_count else None,
        unknown_since=unknown_since,
        unknown_count=unknown_count,
    )


def delivery_of(event: Event) -> Delivery:
    return Delivery(
        run_id=event.run_id,
        version=event.version,
        status=event.status,
        previous_status=event.previous_status,
    )


# -- one violation each ---------------------------------------------------------------------------


def run(run_id: int, **columns: Any) -> Seed:
    """The run's row differs."""
    return lambda facts: replace(
        facts, runs={**facts.runs, run_id: replace(facts.runs[run_id], **columns)}
    )


def went(run_id: int, *statuses: str) -> Seed:
    """The run went another way."""

    def seed(facts: Facts) -> Facts:
        changed, history = a_run(run_id, *statuses, job=facts.runs[run_id].workbench_job_id)
        others = [event for event in facts.events if event.run_id != run_id]
        return replace(
            facts,
            runs={**facts.runs, run_id: changed},
            events=[*others, *history],
            deliveries=[delivery_of(event) for event in (*others, *history)],
        )

    return seed


def event(run_id: int, version: int, **columns: Any) -> Seed:
    """One of the run's events differs."""

    def seed(facts: Facts) -> Facts:
        events = [
            replace(one, **columns) if (one.run_id, one.version) == (run_id, version) else one
            for one in facts.events
        ]
        return replace(facts, events=events)

    return seed


def left_created_at(run_id: int, at: datetime) -> Seed:
    """The run was CREATED for longer; what came after was as quick as ever."""
    later = {version: at + (version - 2) * STEP for version in (2, 3, 4)}
    moved = [event(run_id, version, at=at, published_at=at) for version, at in later.items()]
    return both(run(run_id, started_at=later[2], completed_at=later[4]), *moved)


def seen(run_id: int, **columns: Any) -> Seed:
    """The run's observation differs."""
    return lambda facts: replace(
        facts,
        observations={
            **facts.observations,
            run_id: replace(facts.observations[run_id], **columns),
        },
    )


def job(made: Job) -> Seed:
    """There is this job, in place of the one of its name."""

    def seed(facts: Facts) -> Facts:
        assert facts.workbench is not None
        jobs = {**facts.workbench.jobs, made.id: made}
        return replace(facts, workbench=replace(facts.workbench, jobs=jobs))

    return seed


def calls(*noted: Call) -> Seed:
    """The Workbench noted these calls."""

    def seed(facts: Facts) -> Facts:
        assert facts.workbench is not None
        return replace(facts, workbench=replace(facts.workbench, calls=noted))

    return seed


def delivered(arrival: Delivery) -> Seed:
    """The consumer got this one, too."""
    return lambda facts: replace(facts, deliveries=[*(facts.deliveries or ()), arrival])


def key(**columns: Any) -> Seed:
    """Run 1's key differs."""
    return lambda facts: replace(facts, keys=[replace(facts.keys[0], **columns), *facts.keys[1:]])


def both(*seeds: Seed) -> Seed:
    """One after the other."""

    def seed(facts: Facts) -> Facts:
        for one in seeds:
            facts = one(facts)
        return facts

    return seed


def without(**members: Any) -> Seed:
    """Something of the facts is otherwise."""
    return lambda facts: replace(facts, **members)


LONG_AGO = NOW - 50 * MINUTE
CHECK = CheckMessage(run_ids=(4,), sent_at=NOW).to_json()
VIOLATIONS: list[tuple[str, set[int], Seed]] = [
    ("a status is left out", {1}, went(1, "CREATED", "SUBMITTED", "COMPLETED")),
    ("it begins in the middle", {1}, went(4, "SUBMITTED", "RUNNING")),
    # No rank falls along a legal edge, and then the Workbench is ahead.
    ("the rank falls", {1, 2, 22}, went(4, "CREATED", "RUNNING", "SUBMITTED")),
    ("it goes on after its end", {1, 3}, went(3, *WAY, "COMPLETED", "CANCELLED")),
    ("the row ends later", {3}, run(1, completed_at=NOW)),
    ("the version is ahead", {4}, run(1, version=5)),
    ("an event names a wrong status", {4, 28}, event(1, 3, previous_status="CREATED")),
    ("the row has another error", {4}, run(2, error_message="another")),
    ("it started before it was created", {5}, run(1, started_at=NOW - 61 * MINUTE)),
    ("it started and never did", {5}, run(4, started_at=None)),
    ("history steps back", {5}, event(1, 3, at=NOW, published_at=NOW)),
    ("no code", {6}, run(2, error_code=None)),
    ("no category", {6}, run(2, error_category="WEATHER")),
    ("a message of spaces", {6}, both(run(2, error_message=" "), event(2, 4, error=" "))),
    ("a key without a run", {7}, key(run_id=404)),
    ("a key of another tenant", {7}, key(tenant_id="other")),
    ("two keys for a run", {7}, key(run_id=2)),
    ("a second job that nobody noted", {8}, job(a_job(1, "CANCELLED", name="job-1b"))),
    (
        "a job of nobody",
        {9},
        both(
            job(a_job(7, "RUNNING")), without(strays={7: StrayCheck(run_id=7, next_look_at=None)})
        ),
    ),
    ("a job that never was", {10}, run(1, workbench_job_id="job-404")),
    ("a job of two runs", {10}, run(10, workbench_job_id="job-3")),
    ("another run's job", {8, 10}, job(a_job(2, "SUCCEEDED", name="job-1"))),
    ("CREATED for an hour", {11}, both(run(5, created_at=LONG_AGO), event(5, 1, at=LONG_AGO))),
    ("CREATED for seven minutes", {11}, left_created_at(10, LONG_AGO - 3 * MINUTE)),
    ("no outcome of the table", {12}, run(7, error_code="job_failed")),
    ("lost at once", {12}, run(7, created_at=NOW - 55 * MINUTE)),
    ("lost and not looked for", {12}, without(strays={})),
    ("a job of a run that isn't there", {13}, job(a_job(404, "RUNNING"))),
    ("the same, and the job has ended", {13}, job(a_job(404, "DONE", ended_at=LONG_AGO))),
    ("not observed for minutes", {14}, seen(4, last_checked_at=NOW - 2 * MINUTE)),
    ("never observed", {14}, seen(4, last_checked_at=None)),
    ("its job ended minutes ago", {15}, job(a_job(4, "DONE", ended_at=NOW - 2 * MINUTE))),
    ("FAILED while its job runs", {16}, job(a_job(2, "RUNNING"))),
    ("lost after four answers", {17}, seen(8, unknown_count=4)),
    ("lost after minutes", {17}, seen(8, unknown_since=NOW - 31 * MINUTE)),
    ("a readable message in the DLQ", {18}, without(dead_letters=["not JSON", CHECK])),
    ("an event twice", {19}, lambda facts: replace(facts, events=[*facts.events, facts.events[0]])),
    ("a status twice", {1, 19, 22}, went(4, "CREATED", "SUBMITTED", "SUBMITTED")),
    ("a shard is gone", {20}, without(shards=dict.fromkeys(range(255), NOW))),
    ("a shard isn't swept", {20}, lambda facts: replace(facts, shards={**facts.shards, 7: None})),
    ("backed off for long", {20}, run(4, next_check_at=NOW + 16 * MINUTE)),
    (
        "asked each second",
        {21},
        calls(*(Call(at=second, kind="bulk_status", job_ids=("job-4",)) for second in range(16))),
    ),
    ("an end that is not believed", {22}, seen(4, upstream_status="SUCCEEDED")),
    ("an unknown word believed", {22}, seen(4, upstream_status="FLABBERGASTED")),
    (
        "a cancel that never ends",
        {23},
        run(4, cancel_requested_at=NOW - 20 * MINUTE, cancel_cause="USER"),
    ),
    ("a cancel that no job heard", {23}, job(a_job(10, "RUNNING"))),
    ("CANCELLED, and the job is done", {24}, job(a_job(3, "DONE", cancel_requested=True))),
    ("CANCELLED by its time-out", {24}, run(3, cancel_cause="TIMEOUT")),
    ("a job after an early cancel", {25}, job(a_job(6, "CANCELLED"))),
    ("an early cancel that nobody asked for", {25}, run(6, cancel_requested_at=None)),
    ("an event that stays", {28}, event(1, 4, published_at=None)),
    ("an event told before it happened", {28}, event(1, 4, published_at=NOW - 70 * MINUTE)),
    ("an event that did not arrive", {28}, without(deliveries=())),
    (
        "an event that arrived and never happened",
        {28},
        delivered(Delivery(run_id=1, version=9, status="CREATED", previous_status=None)),
    ),
    ("REALTIME without an output", {31}, run(9, has_output=False)),
    ("REALTIME with a job", {10, 31}, run(9, workbench_job_id="job-9")),
    ("it outlives its time-out", {32}, run(4, timeout_seconds=60)),
]


def broken_in(facts: Facts) -> set[int]:
    return {result.of.number for result in verify(facts).results if result.violations}


def test_a_well_formed_world_breaks_nothing_and_every_property_is_judged_on_something() -> None:
    assert verify(the_world(), demand=Demand.EVERYTHING).broken == []


@pytest.mark.parametrize(
    ("numbers", "seed"), [pytest.param(p, seed, id=name) for name, p, seed in VIOLATIONS]
)
def test_a_seeded_violation_is_found_and_nothing_else(numbers: set[int], seed: Seed) -> None:
    assert broken_in(seed(the_world())) == numbers


def test_each_property_that_the_state_shows_has_a_seeded_violation() -> None:
    judged = {one.number for one in PROPERTIES if one.judge}
    assert judged == set.union(*(numbers for _, numbers, _ in VIOLATIONS))
    assert [one.number for one in PROPERTIES] == list(range(1, 33))
    assert set(range(1, 33)) - judged == {26, 27, 29, 30}


def test_a_violation_is_told_as_a_sentence_that_names_the_run_and_what_was_expected() -> None:
    [sentence] = verify(job(a_job(2, "RUNNING"))(the_world())).broken
    assert sentence == "P16: Run 2 FAILED (job_failed), but its job job-2 is RUNNING."


def test_a_delivery_is_read_from_the_envelope_of_the_bus() -> None:
    told = {"run_id": 1, "version": 4, "status": "COMPLETED", "previous_status": "RUNNING"}
    body = json.dumps({"source": "pipeline-runs", "detail": {**told, "tags": {}, "pipeline_id": 1}})
    assert Delivery.of_message(body) == Delivery(
        run_id=1, version=4, status="COMPLETED", previous_status="RUNNING"
    )


# -- what is no violation -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "story",
    [
        pytest.param(seen(4, upstream_status="QUEUED"), id="the job was pre-empted"),
        pytest.param(
            both(
                seen(4, last_checked_at=LONG_AGO, consecutive_failures=3, last_error="503"),
                run(4, next_check_at=NOW + MINUTE),
            ),
            id="a backed-off run is not observed",
        ),
        pytest.param(
            seen(4, upstream_status="HM", consecutive_failures=1, last_error="unknown: HM"),
            id="an unknown word is trouble",
        ),
        pytest.param(job(a_job(5, "RUNNING")), id="a CREATED run has yet to find its job"),
        pytest.param(job(a_job(7, "RUNNING")), id="a stray job is looked for"),
        pytest.param(
            both(
                job(a_job(1, "CANCELLED", name="job-1b")),
                without(
                    strays={
                        1: StrayCheck(run_id=1, next_look_at=None),
                        7: StrayCheck(run_id=7, next_look_at=None),
                    }
                ),
            ),
            id="a second job was found and cancelled",
        ),
        pytest.param(
            job(a_job(404, "RUNNING", is_new=True)), id="a job is newer than what was read"
        ),
        pytest.param(
            job(Job(id="job-x", idempotency_key="of-others-4", word="RUNNING")),
            id="another installation's job",
        ),
        pytest.param(
            both(
                job(a_job(404, "DONE", ended_at=NOW - DAY - MINUTE)),
                job(a_job(404, "CANCELLED", name="job-404b", ended_at=NOW - DAY - MINUTE)),
                delivered(Delivery(run_id=404, version=1, status="CREATED", previous_status=None)),
            ),
            id="a run was purged, and its jobs and events are remembered elsewhere",
        ),
        pytest.param(without(dead_letters=["not JSON", '{"v": 2}']), id="poison in the DLQ"),
        pytest.param(
            both(event(1, 4, at=NOW - STEP, published_at=None), run(1, completed_at=NOW - STEP)),
            id="an event that its writer may still publish",
        ),
    ],
)
def test_what_the_design_allows_is_not_reported(story: Seed) -> None:
    assert verify(story(the_world())).broken == []


def test_nothing_is_late_that_had_less_than_its_bound_since_all_was_well() -> None:
    late = run(4, timeout_seconds=60)(the_world())
    assert broken_in(late) == {32}
    assert broken_in(replace(late, well_since=NOW - 18 * MINUTE)) == set()
    assert broken_in(replace(late, well_since=NOW - 18 * MINUTE - STEP)) == {32}


# -- what can't be judged -------------------------------------------------------------------------


def reasons(facts: Facts, **how: Any) -> dict[int, str]:
    results = verify(facts, **how).results
    return {result.of.number: result.not_judged for result in results if result.not_judged}


def test_without_the_workbench_its_side_is_not_judged_and_nothing_is_missing() -> None:
    facts = replace(the_world(), workbench=None)
    told = reasons(facts, demand=Demand.EVERYTHING)
    assert {n for n, why in told.items() if "not ours" in why} == {8, 9, 13, 16, 21, 24}
    assert "doesn't tell when its jobs ended" in told[15]
    assert verify(facts, demand=Demand.USUAL).broken == []


def test_time_is_judged_only_where_all_has_been_well() -> None:
    facts = replace(the_world(), well_since=None)
    unjudged = {n for n, why in reasons(facts).items() if "has been well" in why}
    assert unjudged == {11, 14, 15, 32}
    late = both(run(4, cancel_requested_at=LONG_AGO, cancel_cause="USER"), without(well_since=None))
    assert broken_in(late(the_world())) == set()


def test_a_moved_clock_leaves_the_journals_times_unjudged() -> None:
    told = reasons(replace(the_world(), clock_moved=True))
    assert {n for n, why in told.items() if "was moved" in why} == {15, 21}


def test_what_is_waived_is_not_judged_and_says_why() -> None:
    facts = job(a_job(2, "RUNNING"))(the_world())
    report = verify(facts, waived={16: "the script lies"})
    assert report.holds
    assert reasons(facts, waived={16: "the script lies"})[16] == "waived: the script lies"


def test_zero_is_an_error_where_something_was_demanded() -> None:
    facts = replace(
        the_world(),
        runs={},
        events=(),
        observations={},
        keys=(),
        strays={},
        dead_letters=(),
        deliveries=None,
    )
    facts = replace(facts, workbench=WorkbenchFacts(jobs={}, tells_ends=True))
    assert verify(facts).broken == []
    lacking = {
        demand: {r.of.number for r in verify(facts, demand=demand).results if r.lacks}
        for demand in Demand
    }
    judged = {one.number for one in PROPERTIES if one.judge}
    rare = {one.number for one in PROPERTIES if one.rare}
    assert lacking[Demand.EVERYTHING] == judged - {20}  # There are shards in any case.
    assert lacking[Demand.USUAL] == judged - {20} - rare
    assert "P1: there were no events to judge." in verify(facts, demand=Demand.USUAL).broken


# -- the report -----------------------------------------------------------------------------------


def shown(facts: Facts, **how: Any) -> str:
    text = io.StringIO()
    show(verify(facts, **how), Console(file=text, width=100))
    return text.getvalue()


def test_the_table_has_a_line_for_each_property_with_what_it_was_judged_on() -> None:
    lines = [" ".join(line.split()) for line in shown(the_world()).splitlines()]
    for one in PROPERTIES:
        assert any(line.startswith(f"P{one.number} {one.name}") for line in lines)
    assert "P4 history is the truth 10 runs ✓ ok" in lines
    assert "P26 read your write · told by tests only" in lines
    assert "Nothing is broken. 28 properties were judged and hold." in lines


def test_each_violation_is_told_below_the_table() -> None:
    text = shown(job(a_job(2, "RUNNING"))(the_world()))
    assert "Run 2 FAILED (job_failed), but its job job-2 is RUNNING." in text
    assert "Broken: P16." in text


def test_of_many_violations_of_one_property_some_are_quoted_and_all_counted() -> None:
    text = shown(without(shards={})(the_world()))
    assert "256 violations" in text
    assert text.count("Shard ") == 10
    assert "… and 246 more" in text


# -- the rules ------------------------------------------------------------------------------------


def test_the_checker_and_the_service_mean_the_same_by_their_words() -> None:
    edges = {
        status.value: {after.value for after in onward} for status, onward in TRANSITIONS.items()
    }
    ours = {status: set(rules.EDGES.get(status, ())) for status in edges}
    assert ours == edges
    assert dict(rules.RANK) == {status.value: rank for status, rank in RANK.items()}
    assert dict(rules.WORDS) == {word: status.value for word, status in UPSTREAM_STATUSES.items()}
    assert {category.value for category in ErrorCategory} == rules.CATEGORIES


@pytest.mark.parametrize("lacking", ["v", "run_ids", "attempt", "sent_at"])
def test_a_message_without_one_of_its_members_may_lie_in_the_dlq(lacking: str) -> None:
    body = {name: member for name, member in json.loads(CHECK).items() if name != lacking}
    assert broken_in(without(dead_letters=[json.dumps(body)])(the_world())) == set()
