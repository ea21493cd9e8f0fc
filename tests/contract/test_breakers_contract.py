"""What `ports.Breakers` promises: one suite over the fake and real Postgres."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from made_runs import (
    TENANT,
    WORKBENCH,
    at,
    close_to,
    make_pipeline,
    moved,
    now_of,
    record,
    submitted,
    trouble,
)
from runs.ports import Breaker
from runs.status import PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from runs.model import Pipeline, PipelineRun
    from runs_stores import Store

S = PipelineRunStatus
OTHER = "http://other.test"
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
EVERY = timedelta(seconds=15)


@pytest.fixture
def pipeline(store: Store) -> Pipeline:
    return make_pipeline(store)


@pytest.fixture
def troubled(store: Store, pipeline: Pipeline) -> PipelineRun:
    """The only run, whose last check failed."""
    return fleet(store, pipeline, failing=1)[0]


def fleet(
    store: Store, pipeline: Pipeline, *, failing: int = 0, healthy: int = 0
) -> list[PipelineRun]:
    runs = [submitted(store, pipeline) for _ in range(failing + healthy)]
    trouble(store, runs[:failing])
    return runs


def breaker(store: Store, workbench: str = WORKBENCH) -> Breaker:
    """As it is told by itself and, alike, with the active runs."""
    told = store.breakers.breaker(workbench)
    assert store.runs.active([], workbench=workbench).breaker == told
    return told


def fail(store: Store, *, only_unknown: bool = False, workbench: str = WORKBENCH) -> Breaker:
    store.breakers.failed(workbench, only_unknown=only_unknown)
    return breaker(store, workbench)


def answer(store: Store) -> Breaker:
    store.breakers.answered(WORKBENCH)
    return breaker(store)


def fail_for_a_minute(store: Store, *, only_unknown: bool = False) -> Breaker:
    """What is known after failures with just a minute between the first and the last."""
    fail(store, only_unknown=only_unknown)
    store.move_time(MINUTE)
    return fail(store, only_unknown=only_unknown)


# -- opening --------------------------------------------------------------------------------------


def test_a_breaker_of_which_nothing_is_known_is_closed(store: Store) -> None:
    assert breaker(store) == Breaker()


def test_a_valid_answer_is_noted_with_the_time(store: Store) -> None:
    told = answer(store)
    assert close_to(told.last_valid_at, now_of(store))
    assert told == Breaker(last_valid_at=told.last_valid_at)

    store.move_time(HOUR)
    assert close_to(answer(store).last_valid_at, now_of(store))


def test_p5_a_valid_answers_time_never_steps_back(store: Store) -> None:
    told = answer(store)
    store.move_time(-HOUR)
    assert answer(store) == told


def test_p21_f32_it_opens_once_no_valid_answer_has_come_for_a_minute(
    store: Store, troubled: PipelineRun
) -> None:
    first = fail(store)
    assert close_to(first.failing_since, now_of(store))
    assert first == Breaker(failing_since=first.failing_since)

    store.move_time(MINUTE / 2)
    assert fail(store) == first
    store.move_time(MINUTE / 2)
    opened = fail(store)

    assert close_to(opened.opened_at, now_of(store))
    assert opened == Breaker(failing_since=first.failing_since, opened_at=opened.opened_at)
    assert store.runs.active([troubled.id], workbench=WORKBENCH).breaker == opened


def test_p21_it_stays_open_since_when_it_opened(store: Store, troubled: PipelineRun) -> None:
    opened = fail_for_a_minute(store)
    store.move_time(HOUR)
    moved(store, troubled, S.COMPLETED)
    fleet(store, make_pipeline(store, name="new"), healthy=1)
    assert fail(store) == opened


@pytest.mark.parametrize(
    ("failing", "healthy", "opens"),
    [
        (1, 0, True),
        (0, 1, False),
        (1, 1, False),
        (9, 0, True),
        (9, 1, False),
        (9, 2, False),
        (10, 0, True),
        (10, 1, True),
        (11, 11, True),
    ],
)
def test_f25_it_opens_if_ten_runs_or_all_that_have_a_job_have_failed(
    store: Store, pipeline: Pipeline, failing: int, healthy: int, *, opens: bool
) -> None:
    fleet(store, pipeline, failing=failing, healthy=healthy)
    assert (fail_for_a_minute(store).opened_at is not None) is opens


@pytest.mark.parametrize("fails", [True, False])
def test_f25_runs_without_a_job_and_runs_that_have_ended_do_not_count(
    store: Store, pipeline: Pipeline, *, fails: bool
) -> None:
    realtime = make_pipeline(store, name="realtime", mode=PipelineMode.REALTIME)
    unsubmitted = [record(store, pipeline) for _ in range(6)]
    without_job = [moved(store, record(store, realtime), S.SUBMITTED) for _ in range(6)]
    ended = [at(store, record(store, pipeline), S.COMPLETED) for _ in range(6)]
    [one, other] = fleet(store, pipeline, healthy=2)

    if fails:  # All that count, and of them alone.
        trouble(store, [one, other])
    else:  # More than ten, but not all that count.
        trouble(store, [one, *unsubmitted, *without_job, *ended])

    assert (fail_for_a_minute(store).opened_at is not None) is fails


def test_f25_running_runs_count_of_whatever_tenant(store: Store, pipeline: Pipeline) -> None:
    theirs = make_pipeline(store, tenant_id="other")
    [one] = fleet(store, theirs, healthy=1)
    fleet(store, pipeline, failing=1)
    assert fail_for_a_minute(store).opened_at is None

    trouble(store, [moved(store, one, S.RUNNING)])

    assert fail(store).opened_at


def test_p17_that_its_only_job_is_unknown_does_not_open_it(
    store: Store, troubled: PipelineRun
) -> None:
    assert fail_for_a_minute(store, only_unknown=True).opened_at is None
    store.move_time(HOUR)
    assert fail(store, only_unknown=True).opened_at is None
    assert fail(store, only_unknown=False).opened_at
    assert troubled.status is S.SUBMITTED


def test_p17_that_all_of_several_jobs_are_unknown_opens_it(
    store: Store, pipeline: Pipeline
) -> None:
    fleet(store, pipeline, failing=2)
    assert fail_for_a_minute(store, only_unknown=True).opened_at


def test_p21_just_after_a_valid_answer_failures_are_no_news(
    store: Store, troubled: PipelineRun
) -> None:
    told = answer(store)

    assert fail(store) == told

    store.move_time(5 * SECOND)
    failing = fail(store)
    assert close_to(failing.failing_since, now_of(store))
    assert failing.last_valid_at == told.last_valid_at
    assert troubled.status is S.SUBMITTED


@pytest.mark.usefixtures("troubled")
def test_p21_a_valid_answer_begins_the_minute_anew(store: Store) -> None:
    fail(store)
    store.move_time(MINUTE - 10 * SECOND)
    assert answer(store).failing_since is None

    store.move_time(10 * SECOND)
    failing = fail(store)

    assert failing.opened_at is None
    assert close_to(failing.failing_since, now_of(store))
    store.move_time(MINUTE)
    assert fail(store).opened_at


@pytest.mark.usefixtures("troubled")
def test_each_workbench_has_its_own_breaker(store: Store) -> None:
    opened = fail_for_a_minute(store)
    assert breaker(store, OTHER) == Breaker()

    failing = fail(store, workbench=OTHER)

    assert failing == Breaker(failing_since=failing.failing_since)
    store.breakers.answered(OTHER)
    assert breaker(store) == opened
    assert list(store.breakers.probes(OTHER, most=9, every=EVERY)) == []


# -- closing --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("troubled")
def test_p21_a_valid_answer_closes_it(store: Store) -> None:
    fail_for_a_minute(store)
    store.move_time(HOUR)

    closed = answer(store)

    assert close_to(closed.closed_at, now_of(store))
    assert close_to(closed.last_valid_at, now_of(store))
    assert (closed.opened_at, closed.failing_since) == (None, None)


@pytest.mark.usefixtures("troubled")
def test_p21_when_it_was_last_open_is_remembered(store: Store) -> None:
    fail_for_a_minute(store)
    closed_at = answer(store).closed_at
    store.move_time(HOUR)
    assert answer(store).closed_at == closed_at

    store.move_time(HOUR)
    again = fail_for_a_minute(store)
    assert (again.opened_at is not None, again.closed_at) == (True, closed_at)
    assert close_to(answer(store).closed_at, now_of(store))


# -- probes ---------------------------------------------------------------------------------------


def probes(store: Store, *, most: int = 9, every: timedelta = EVERY) -> list[int]:
    return list(store.breakers.probes(WORKBENCH, most=most, every=every))


def asked_in_this_order(store: Store, runs: Sequence[PipelineRun]) -> list[int]:
    """Has the runs fail, the first the longest ago; returns their ids."""
    for number, run in enumerate(runs):
        trouble(store, [run], asked_ago=(len(runs) - number) * SECOND)
    return [run.id for run in runs]


def opened(store: Store) -> datetime:
    opened_at = fail_for_a_minute(store).opened_at
    assert opened_at
    return opened_at


@pytest.mark.usefixtures("troubled")
def test_p21_while_it_is_closed_there_are_no_probes(store: Store) -> None:
    assert probes(store) == []
    fail(store)
    assert probes(store) == []
    store.move_time(MINUTE)
    fail(store)
    answer(store)
    assert probes(store) == []


def test_p21_f32_those_are_probed_first_that_were_asked_least_lately(
    store: Store, pipeline: Pipeline
) -> None:
    runs = fleet(store, pipeline, failing=5)
    order = asked_in_this_order(store, [runs[3], runs[0], runs[4], runs[2], runs[1]])
    opened(store)

    assert probes(store, most=2) == order[:2]

    store.move_time(EVERY)
    assert probes(store, most=9) == order


def test_p21_runs_asked_at_the_same_time_are_probed_by_their_age(
    store: Store, pipeline: Pipeline
) -> None:
    runs = fleet(store, pipeline, failing=4)
    opened(store)
    assert probes(store, most=3) == [run.id for run in runs[:3]]


def test_p21_probes_are_given_once_in_a_while(store: Store, troubled: PipelineRun) -> None:
    opened(store)
    assert probes(store, every=MINUTE) == [troubled.id]

    assert probes(store, every=MINUTE) == []
    assert probes(store, every=SECOND) == []
    store.move_time(MINUTE / 2)
    assert probes(store, every=SECOND) == []
    store.move_time(MINUTE / 2)
    assert probes(store, every=MINUTE) == [troubled.id]


def test_p21_the_turn_is_taken_even_if_there_is_nobody_to_probe(
    store: Store, troubled: PipelineRun
) -> None:
    opened(store)
    store.runs.request_cancel(troubled.id, tenant_id=TENANT, reason=None)
    assert probes(store) == []

    fleet(store, make_pipeline(store, name="new"), failing=1)

    assert probes(store) == []
    store.move_time(EVERY)
    assert len(probes(store)) == 1


@pytest.mark.usefixtures("troubled")
def test_p21_once_it_opens_again_probes_are_given_at_once(store: Store) -> None:
    opened(store)
    assert probes(store, every=HOUR)
    answer(store)
    store.move_time(5 * SECOND)
    opened(store)
    assert probes(store, every=HOUR)


def test_p21_only_runs_in_trouble_whose_time_has_come_are_probed(
    store: Store, pipeline: Pipeline
) -> None:
    runs = fleet(store, pipeline, failing=10)
    chosen, backed_off, to_cancel, ended = runs[:4]
    for run in runs[4:]:
        moved(store, run, S.COMPLETED)
    opened(store)
    trouble(store, [backed_off], asked_ago=-HOUR)
    store.runs.request_cancel(to_cancel.id, tenant_id=TENANT, reason=None)
    moved(store, ended, S.CANCELLED)
    trouble(store, [record(store, pipeline)])
    fleet(store, pipeline, healthy=2)

    assert probes(store) == [chosen.id]

    store.move_time(HOUR)
    assert probes(store) == [chosen.id, backed_off.id]
