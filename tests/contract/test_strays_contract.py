"""What `ports.Strays` promises, and what a transition notes for it: one suite over both stores."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from made_runs import (
    ERROR,
    TENANT,
    close_to,
    make_pipeline,
    moved,
    now_of,
    read,
    record,
    submit,
    submitted,
)
from runs.model import Finding, Stray, transition
from runs.status import PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runs.model import Pipeline, PipelineRun
    from runs.ports import StrayCheck
    from runs_stores import Store

S = PipelineRunStatus
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
SECOND_LOOK = timedelta(minutes=15)
MONTH = timedelta(days=30)


@pytest.fixture
def pipeline(store: Store) -> Pipeline:
    return make_pipeline(store)


@pytest.fixture
def noted(store: Store, pipeline: Pipeline) -> PipelineRun:
    """A run with a note of its stray jobs."""
    return note(store, record(store, pipeline), "job-a", "job-b")


def note(store: Store, run: PipelineRun, *job_ids: str, reason: str = "why") -> PipelineRun:
    return moved(store, run, S.FAILED, stray=Stray(reason=reason, job_ids=job_ids))


def due(store: Store, most: int = 9) -> list[StrayCheck]:
    """The checks that are given, by run: they come in any order."""
    return sorted(store.stray_checks.due(most), key=lambda check: check.run.id)


def ids(checks: Sequence[StrayCheck]) -> list[int]:
    return [check.run.id for check in checks]


def one_due(store: Store) -> StrayCheck:
    [check] = due(store)
    return check


# -- due ------------------------------------------------------------------------------------------


def test_without_notes_nothing_is_due(store: Store, pipeline: Pipeline) -> None:
    record(store, pipeline)
    store.move_time(MONTH)
    assert due(store) == []


def test_p9_a_note_is_due_after_a_minute(store: Store, noted: PipelineRun) -> None:
    before = now_of(store)
    assert due(store) == []
    store.move_time(MINUTE / 2)
    assert due(store) == []
    store.move_time(MINUTE / 2)

    check = one_due(store)

    assert check.run == noted
    assert list(check.job_ids) == ["job-a", "job-b"]
    assert check.looks == 0
    assert close_to(check.noted_at, before)
    assert close_to(check.now, before + MINUTE)


def test_p9_a_check_has_the_run_as_it_is_by_then(store: Store, pipeline: Pipeline) -> None:
    run = submit(store, record(store, pipeline), stray=Stray(reason="why"))
    store.runs.observe([Finding(run_id=run.id, upstream_status="RUNNING")])
    run = moved(store, run, S.RUNNING)
    store.move_time(MINUTE)

    check = one_due(store)

    assert (check.run.status, check.run.version) == (S.RUNNING, run.version)
    assert check.run.observation.upstream_status == "RUNNING"
    assert check.run.correlation_id == run.correlation_id
    assert list(check.job_ids) == []


def test_p9_a_check_is_given_to_one_for_a_minute(store: Store, noted: PipelineRun) -> None:
    store.move_time(MINUTE)
    first = one_due(store)

    assert due(store) == []
    store.move_time(MINUTE / 2)
    assert due(store) == []
    store.move_time(MINUTE / 2)

    again = one_due(store)
    assert ids([again]) == [noted.id]
    assert (again.looks, again.noted_at) == (0, first.noted_at)
    assert close_to(again.now, first.now + MINUTE)


def test_f36_a_locked_run_keeps_no_check_from_being_due(store: Store, noted: PipelineRun) -> None:
    store.move_time(MINUTE)
    with store.locked(noted.id):
        assert ids(due(store)) == [noted.id]


def test_the_notes_that_are_due_longest_come_first(store: Store, pipeline: Pipeline) -> None:
    runs = [record(store, pipeline) for _ in range(4)]
    order = [runs[2], runs[0], runs[3], runs[1]]
    for run in order:
        note(store, run)
        store.move_time(10 * SECOND)
    store.move_time(MINUTE)

    given = [ids(due(store, 1)) for _ in range(2)]

    assert given == [[order[0].id], [order[1].id]]
    assert ids(due(store, 9)) == sorted(run.id for run in order[2:])
    assert due(store) == []


def test_notes_of_every_tenant_are_due(store: Store, pipeline: Pipeline) -> None:
    other = make_pipeline(store, tenant_id="other")
    runs = [note(store, record(store, of)) for of in (pipeline, other)]
    store.move_time(MINUTE)
    assert [check.run for check in due(store)] == runs


# -- looked ---------------------------------------------------------------------------------------


def test_p9_after_a_look_the_next_one_is_when_it_is_planned(
    store: Store, noted: PipelineRun
) -> None:
    store.move_time(MINUTE)
    check = one_due(store)

    store.stray_checks.looked(check, cancelled=2, next_look_at=check.noted_at + SECOND_LOOK)

    store.move_time(SECOND_LOOK - 2 * MINUTE)
    assert due(store) == []
    store.move_time(MINUTE)
    second = one_due(store)
    assert (second.run.id, second.looks, second.noted_at) == (noted.id, 1, check.noted_at)
    assert list(second.job_ids) == ["job-a", "job-b"]


def test_p9_after_the_last_look_nobody_looks_any_more(store: Store, noted: PipelineRun) -> None:
    store.move_time(MINUTE)

    store.stray_checks.looked(one_due(store), cancelled=0, next_look_at=None)

    store.move_time(MONTH)
    assert due(store) == []
    assert store.strays() == {noted.id: "why"}


def test_p9_the_jobs_that_were_cancelled_are_added_up(store: Store, noted: PipelineRun) -> None:
    for cancelled in (2, 0, 3):
        store.move_time(MINUTE)
        check = one_due(store)
        store.stray_checks.looked(check, cancelled=cancelled, next_look_at=check.now)
    assert store.strays_cancelled() == {noted.id: 5}


def test_p9_of_two_looks_at_once_the_first_counts(store: Store, noted: PipelineRun) -> None:
    store.move_time(MINUTE)
    slow = one_due(store)
    store.move_time(MINUTE)
    quick = one_due(store)

    store.stray_checks.looked(quick, cancelled=1, next_look_at=None)
    store.stray_checks.looked(slow, cancelled=1, next_look_at=slow.now)

    store.move_time(MONTH)
    assert due(store) == []
    assert store.strays_cancelled() == {noted.id: 1}


# -- noting ---------------------------------------------------------------------------------------


def test_p9_a_second_note_renews_the_first_and_keeps_its_jobs(
    store: Store, pipeline: Pipeline
) -> None:
    first = Stray(reason="first", job_ids=("job-a",))
    run = submit(store, record(store, pipeline), stray=first)
    store.move_time(MINUTE)
    old = one_due(store)
    store.stray_checks.looked(old, cancelled=1, next_look_at=None)
    store.move_time(MINUTE)

    note(store, run, "job-b", "job-c", reason="second")

    assert store.strays() == {run.id: "second"}
    assert due(store) == []
    store.move_time(MINUTE)
    check = one_due(store)
    assert list(check.job_ids) == ["job-a", "job-b", "job-c"]
    assert check.looks == 0
    assert close_to(check.noted_at, old.noted_at + 2 * MINUTE)
    store.stray_checks.looked(check, cancelled=2, next_look_at=None)
    assert store.strays_cancelled() == {run.id: 3}


def test_p9_a_look_from_before_a_note_was_renewed_does_not_count(
    store: Store, pipeline: Pipeline
) -> None:
    run = submit(store, record(store, pipeline), stray=Stray(reason="first"))
    store.move_time(MINUTE)
    old = one_due(store)
    note(store, run, reason="second")

    store.stray_checks.looked(old, cancelled=1, next_look_at=None)

    store.move_time(MINUTE)
    assert one_due(store).looks == 0
    assert store.strays_cancelled() == {run.id: 0}


def test_p19_a_transition_that_is_not_carried_out_notes_nothing(
    store: Store, pipeline: Pipeline
) -> None:
    run = record(store, pipeline)
    change = transition(run, S.FAILED, error=ERROR, stray=Stray(reason="why", job_ids=("job-a",)))
    assert change
    submit(store, run)

    assert list(store.runs.move([change])) == []

    assert store.strays() == {}


def test_p19_a_transition_twice_is_noted_once(store: Store, pipeline: Pipeline) -> None:
    run = record(store, pipeline)
    change = transition(run, S.FAILED, error=ERROR, stray=Stray(reason="why", job_ids=("job-a",)))
    assert change
    for _ in range(2):
        store.runs.move([change])
    store.move_time(MINUTE)
    assert list(one_due(store).job_ids) == ["job-a"]


def test_each_of_many_transitions_has_its_own_note(store: Store, pipeline: Pipeline) -> None:
    runs = [record(store, pipeline) for _ in range(3)]
    strays = (Stray(reason="a", job_ids=("x", "y")), None, Stray(reason="b"))
    changes = [
        transition(run, S.FAILED, error=ERROR, stray=stray)
        for run, stray in zip(runs, strays, strict=True)
    ]

    store.runs.move([change for change in changes if change])

    assert store.strays() == {runs[0].id: "a", runs[2].id: "b"}
    store.move_time(MINUTE)
    assert [list(check.job_ids) for check in due(store)] == [["x", "y"], []]


@pytest.mark.parametrize("stray", [Stray(reason="a\0b"), Stray(reason="a", job_ids=("b\0c",))])
def test_p18_f40_a_note_that_cannot_be_stored_spoils_only_its_own_run(
    store: Store, pipeline: Pipeline, stray: Stray
) -> None:
    bad, good = (submitted(store, pipeline) for _ in range(2))
    changes = [
        transition(bad, S.FAILED, error=ERROR, stray=stray),
        transition(good, S.FAILED, error=ERROR, stray=Stray(reason="good")),
    ]

    store.runs.move([change for change in changes if change])

    assert store.strays() == {good.id: "good"}
    assert store.runs.run(bad.id, tenant_id=TENANT) == bad
    assert read(store, good).status is S.FAILED
