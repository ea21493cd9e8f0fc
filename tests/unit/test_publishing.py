"""Every status event reaches the bus at least once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fakes import MemoryBus, MemoryRuns, World
from runs.errors import DatabaseUnavailable
from runs.events import DETAIL_TYPE, SOURCE
from runs.publishing import RELAY_PAGE, RELAY_PAGES, Publishing
from runs.status import PipelineRunStatus

if TYPE_CHECKING:
    from runs.events import RunEvent

S = PipelineRunStatus


def unpublished(world: World, count: int = 1) -> None:
    """So many runs whose events nobody published, old enough for the relay."""
    world.bus.down = True
    for _ in range(count):
        world.submit()
    world.bus.down = False
    world.pass_time(10)


def told(events: list[RunEvent]) -> list[tuple[int, int]]:
    return [(event.run_id, event.version) for event in events]


def test_p28_what_the_bus_took_is_remembered(world: World) -> None:
    unpublished(world)

    assert world.publishing.publish(world.history(1)) == 2

    assert world.database.published == {(1, 1), (1, 2)}
    assert world.publishing.relay() == 0


def test_nothing_to_publish_reaches_nobody(world: World) -> None:
    before = len(world.steps.trail)
    assert world.publishing.publish([]) == 0
    assert len(world.steps.trail) == before


def test_p28_f46_what_the_bus_did_not_take_is_left_to_the_relay(world: World) -> None:
    unpublished(world)
    assert world.bus.published == []
    assert world.database.published == set()

    assert world.publishing.relay() == 2

    assert told(world.bus.published) == [(1, 1), (1, 2)]


def test_p28_what_could_not_be_remembered_is_published_once_more(world: World) -> None:
    world.steps.strike("before MemoryRuns.mark_published", DatabaseUnavailable("gone"))
    run = world.submit()
    assert run.status is S.SUBMITTED

    world.pass_time(10)
    world.publishing.relay()

    assert told(world.bus.published) == [(1, 1), (1, 2)] * 2


def test_the_relay_leaves_its_writer_time_to_publish(world: World) -> None:
    world.bus.down = True
    world.submit()
    world.bus.down = False
    world.pass_time(9)

    assert world.publishing.relay() == 0
    world.pass_time(1)
    assert world.publishing.relay() == 2


def test_f46_the_relay_sends_per_run_by_version(world: World) -> None:
    unpublished(world, 3)

    world.publishing.relay()

    assert told(world.bus.published) == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]


def test_f46_a_runs_later_events_wait_for_an_earlier_one(world: World) -> None:
    unpublished(world, 2)
    world.bus.refuses = {(1, 1)}
    assert world.publishing.relay() == 2
    assert told(world.bus.published) == [(2, 1), (2, 2)]

    world.bus.refuses = ()
    assert world.publishing.relay() == 2
    assert told(world.bus.published)[2:] == [(1, 1), (1, 2)]


def test_only_one_relay_works_at_a_time(world: World) -> None:
    unpublished(world)
    other = Publishing(MemoryRuns(world.database), MemoryBus(world.steps), world.meter)
    assert world.runs.relaying()

    assert other.relay() == 0

    world.runs.relayed()
    assert other.relay() == 2


@pytest.mark.parametrize("step", ["before MemoryRuns.unpublished", "before MemoryBus.publish"])
def test_a_relay_that_fails_lets_the_next_one_work(world: World, step: str) -> None:
    unpublished(world)
    world.steps.strike(step, DatabaseUnavailable("gone"))
    with pytest.raises(DatabaseUnavailable):
        world.publishing.relay()

    other = Publishing(MemoryRuns(world.database), world.bus, world.meter)
    assert other.relay() == 2


def test_the_relay_works_page_by_page(world: World) -> None:
    unpublished(world, RELAY_PAGE)  # Two events each: two full pages.

    assert world.publishing.relay() == 2 * RELAY_PAGE

    assert world.steps.trail.count("after MemoryRuns.unpublished") == 3


def test_the_relays_work_is_bounded(world: World) -> None:
    unpublished(world)
    most = RELAY_PAGE * RELAY_PAGES
    [first, _] = world.database.events[1]
    world.database.events = {n: [replace(first, run_id=n)] for n in range(1, most + 2)}

    assert world.publishing.relay() == most
    assert world.publishing.relay() == 1


def test_a_bus_that_is_down_ends_the_relay(world: World) -> None:
    unpublished(world, 2)
    world.bus.down = True
    assert world.publishing.relay() == 0
    assert world.steps.trail.count("after MemoryBus.publish") == 3  # Two writers', and one.


def test_an_event_is_told_as_the_design_says(world: World) -> None:
    world.submit()
    created, submitted = world.bus.published

    assert (SOURCE, DETAIL_TYPE) == ("pipeline-runs", "Pipeline Run Status Changed")
    assert submitted.detail == {
        "run_id": 1,
        "pipeline_id": 1,
        "status": "SUBMITTED",
        "previous_status": "CREATED",
        "version": 2,
        "at": world.time.now.isoformat(),
        "tags": {},
    }
    assert created.detail["previous_status"] is None
