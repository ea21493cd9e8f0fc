"""What the service tells of itself in figures."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest

from fakes import Course, World
from memory_database import MemoryBreakers
from runs.adapters.emf import EmfMeter
from runs.errors import SubmissionFailed
from runs.metrics import Metric
from runs.model import Stray, transition
from runs.status import PipelineRunStatus as S


@pytest.fixture
def world() -> World:
    return World()


def test_a_line_holds_figures_their_units_and_what_tells_them_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    EmfMeter("prod").tell({Metric.CHECKS: 3, Metric.CHECK_TIME: 0.25}, status="RUNNING")
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    [directive] = told["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "PipelineRuns"
    assert directive["Metrics"] == [
        {"Name": "Checks", "Unit": "Count"},
        {"Name": "CheckTime", "Unit": "Seconds"},
    ]
    assert directive["Dimensions"] == [["stage", "status"]]
    assert (told["stage"], told["status"]) == ("prod", "RUNNING")
    assert (told["Checks"], told["CheckTime"]) == ([3], [0.25])


# -- who tells ------------------------------------------------------------------------------------


def test_a_sweep_tells_how_late_it_is_and_what_is_due(world: World) -> None:
    world.submit()
    world.begin_minute(world.time.now - timedelta(seconds=4))
    assert world.meter.figures(Metric.TICKS) == [1]
    assert world.meter.figures(Metric.TICK_LAG) == [4]
    assert world.meter.figures(Metric.CHECKS_DUE) == [1]
    assert world.meter.figures(Metric.MESSAGES_UNSENT) == [0]


def test_a_batch_tells_what_it_saw(world: World) -> None:
    runs = [world.submit() for _ in range(3)]
    world.workbench.become("RUNNING", run=runs[0].id)
    world.workbench.forget(run=runs[1].id)
    world.begin_minute()
    world.deliver()
    asked = sum(world.meter.figures(Metric.CHECKS))
    troubled = sum(world.meter.figures(Metric.CHECKS_TROUBLED))
    assert (asked, troubled) == (3, 1)
    assert sum(world.meter.figures(Metric.CHECK_RETRIES)) == 1


def test_every_status_that_a_run_enters_is_counted_once(world: World) -> None:
    run = world.submit()
    world.workbench.become("COMPLETED", run=run.id)
    world.go_on(120)
    assert world.run(run.id).status is S.COMPLETED
    entered = {status: world.meter.figures(Metric.RUNS_ENTERED, status=status) for status in S}
    assert {status for status, told in entered.items() if told == [1]} == {
        event.status for event in world.history(run.id)
    }


def test_what_the_relay_sends_is_not_counted_again(world: World) -> None:
    world.bus.down = True
    world.submit()
    told = len(world.meter.told)
    world.bus.down = False
    world.pass_time(60)
    world.relay()
    assert len(world.bus.published) == 2
    assert len(world.meter.told) == told


@pytest.mark.parametrize(
    ("course", "outcome"),
    [
        (None, "submitted"),
        (Course.answer_lost(), "unknown"),
        (Course.answered({"error": "no"}), "failed"),
    ],
)
def test_a_submission_tells_how_long_it_took_by_what_became_of_it(
    world: World, course: Course | None, outcome: str
) -> None:
    if course:
        world.conductor.courses.append(course)
    with pytest.raises(SubmissionFailed) if outcome == "failed" else nullcontext():
        world.submit()
    took = [told for told in world.meter.told if Metric.SUBMIT_TIME in told.figures]
    assert [told.dimensions for told in took] == [{"outcome": outcome}]
    assert 0 <= took[0].figures[Metric.SUBMIT_TIME] <= 15


def test_a_job_that_no_run_wants_is_a_duplicate_found(world: World) -> None:
    run = world.submit()
    world.workbench.submit(run.id, "another key")
    second = world.workbench.jobs_for(run.id)[-1].id
    change = transition(world.run(run.id), S.RUNNING, stray=Stray(reason="two", job_ids=(second,)))
    assert change
    world.runs.move([change])
    world.pass_time(61)
    world.hunt()
    assert world.meter.figures(Metric.DUPLICATES_FOUND) == [1]


def test_the_survey_tells_how_all_runs_fare(world: World) -> None:
    world.submit()
    world.pass_time(100)
    MemoryBreakers(world.database).answered("http://one.test")
    world.surveying.survey()
    assert world.meter.figures(Metric.ACTIVE_RUNS, status="SUBMITTED") == [1]
    assert world.meter.figures(Metric.ACTIVE_RUNS, status="RUNNING") == [0]
    assert world.meter.figures(Metric.STALENESS_P99) == [100]
    assert world.meter.figures(Metric.STALENESS_MAX) == [100]
    assert world.meter.figures(Metric.BREAKER_OPEN) == [0]
    assert world.meter.figures(Metric.UNPUBLISHED_EVENT_AGE) == [0]


def test_the_purge_tells_how_many_runs_it_took(world: World) -> None:
    run = world.submit()
    world.workbench.become("COMPLETED", run=run.id)
    world.go_on(120)
    world.pass_time(timedelta(days=91).total_seconds())
    assert world.purging.purge(within=timedelta(seconds=10)) == 1
    assert world.meter.figures(Metric.RUNS_PURGED) == [1]
