"""The long poll: whoever waits for a run hears of its next status, and nobody waits for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from api_client import ApiClient
from fakes import World
from runs.watching import LOOK_AGAIN_SECONDS
from runs.wiring import using
from wired import CountedWaiters, WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS: Final = 20


class Happening(WorldWiring):
    """Something happens to the run while the caller waits."""

    def __init__(self, world: World, *, after_pauses: int) -> None:
        super().__init__(world)
        self.pauses = 0
        self.after_pauses = after_pauses

    def pause(self, seconds: float) -> None:
        super().pause(seconds)
        self.pauses += 1
        if self.pauses == self.after_pauses:
            self.world.begin_minute()
            self.world.deliver()


@pytest.fixture
def world() -> World:
    """With a run that is SUBMITTED, version 2, whose job goes on."""
    world = World()
    world.submit()
    world.workbench.become("RUNNING", run=1)
    world.pass_time(60)
    return world


@pytest.fixture
def api(world: World) -> Iterator[ApiClient]:
    with using(WorldWiring(world)):
        yield ApiClient()


def waited(world: World, target: str, api: ApiClient, **headers: str) -> tuple[int, float]:
    before = world.time()
    status = api.get(target, **headers).status
    return status, round(world.time() - before, 6)


def test_who_does_not_ask_to_wait_is_answered_at_once(api: ApiClient, world: World) -> None:
    assert waited(world, "/pipeline-run/1", api) == (200, 0)


def test_a_caller_hears_of_the_next_status_as_soon_as_it_is_there(world: World) -> None:
    with using(Happening(world, after_pauses=3)):
        before = world.time()
        answer = ApiClient().get(f"/pipeline-run/1?wait={SECONDS}&since_version=2")
    assert (answer.json["status"], answer.json["version"]) == ("RUNNING", 3)
    assert world.time() - before == pytest.approx(3 * LOOK_AGAIN_SECONDS)


def test_without_a_version_the_present_one_counts(world: World) -> None:
    with using(Happening(world, after_pauses=2)):
        answer = ApiClient().get(f"/pipeline-run/1?wait={SECONDS}")
    assert answer.json["version"] == 3


def test_a_caller_who_is_behind_does_not_wait(api: ApiClient, world: World) -> None:
    assert waited(world, f"/pipeline-run/1?wait={SECONDS}&since_version=1", api) == (200, 0)


def test_nothing_comes_and_the_wait_is_over(api: ApiClient, world: World) -> None:
    target = f"/pipeline-run/1?wait={SECONDS}&since_version=2"
    assert waited(world, target, api) == (200, SECONDS)


def test_after_the_wait_what_the_caller_has_is_not_sent_again(api: ApiClient, world: World) -> None:
    tag = api.get("/pipeline-run/1").headers["ETag"]
    target = f"/pipeline-run/1?wait={SECONDS}"
    assert waited(world, target, api, If_None_Match=tag) == (304, SECONDS)


def test_for_a_run_that_has_ended_nobody_waits(api: ApiClient, world: World) -> None:
    world.workbench.become("COMPLETED", run=1)
    world.begin_minute()
    world.deliver()
    target = f"/pipeline-run/1?wait={SECONDS}&since_version=99"
    assert waited(world, target, api) == (200, 0)


def test_where_all_places_are_taken_the_answer_comes_at_once(world: World) -> None:
    wiring = WorldWiring(world)
    wiring.waiters = CountedWaiters(free=0)
    with using(wiring):
        before = world.time()
        answer = ApiClient().get(f"/pipeline-run/1?wait={SECONDS}")
    assert world.time() == before
    assert (answer.status, answer.headers["Retry-After"]) == (200, "30")


def test_who_loses_the_place_is_answered_at_the_next_look(world: World) -> None:
    places = CountedWaiters()

    class Losing(Happening):
        def pause(self, seconds: float) -> None:
            super().pause(seconds)
            places.lost = self.pauses == self.after_pauses

    wiring = Losing(world, after_pauses=2)
    wiring.waiters = places
    with using(wiring):
        before = world.time()
        answer = ApiClient().get(f"/pipeline-run/1?wait={SECONDS}&since_version=9")
    assert answer.status == 200
    assert world.time() - before == pytest.approx(2 * LOOK_AGAIN_SECONDS)


def test_a_place_is_taken_in_the_callers_name(world: World) -> None:
    wiring = WorldWiring(world)
    wiring.waiters = places = CountedWaiters()
    with using(wiring):
        ApiClient().get("/pipeline-run/1?wait=1")
    assert places.asked == ["default"]


@pytest.mark.parametrize(
    ("seconds_left", "waits"), [(29, SECONDS), (28, SECONDS), (27, 19), (9, 1), (8, 0), (1, 0)]
)
def test_the_wait_ends_while_there_is_time_to_answer(
    world: World, seconds_left: float, waits: float
) -> None:
    """Of the function's 29 s some are over when the issuer's keys had to be fetched."""
    with using(WorldWiring(world)):
        api = ApiClient(seconds_left=seconds_left)
        target = f"/pipeline-run/1?wait={SECONDS}&since_version=2"
        assert waited(world, target, api) == (200, waits)


def test_a_place_is_given_back(world: World) -> None:
    wiring = WorldWiring(world)
    wiring.waiters = CountedWaiters(free=1)
    with using(wiring):
        ApiClient().get("/pipeline-run/1?wait=1")
        assert wiring.waiters.free == 1


def test_p29_of_a_run_that_is_not_there_one_hears_at_once(api: ApiClient, world: World) -> None:
    assert waited(world, f"/pipeline-run/2?wait={SECONDS}", api) == (404, 0)


@pytest.mark.parametrize("query", ["wait=21", "wait=-1", "wait=x", "since_version=-1", "w=1"])
def test_a_wait_that_makes_no_sense_is_refused(api: ApiClient, query: str) -> None:
    api.get(f"/pipeline-run/1?{query}").problem(422, "invalid_request")
