"""Failpoints strike where they say, and nowhere else; what they can't mean is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from failpoints import (
    DIED,
    PLACES,
    PORTS,
    FailingPort,
    FailingWiring,
    Failpoints,
    FailpointsInvalid,
    FailpointStruck,
    api_event,
)
from fakes import SWEEP_TIME, World
from poller import relay, tick
from runs.errors import ConductorUnclear, DatabaseUnavailable
from runs.wiring import using
from wired import ENVIRONMENT, QUEUE_ARN, RETRY_QUEUE, Invocation, WorldWiring

if TYPE_CHECKING:
    from collections.abc import Callable

RELAYED = [
    "before runs.relaying",
    "after runs.relaying",
    "before runs.unpublished",
    "after runs.unpublished",
    "before runs.relayed",
    "after runs.relayed",
]
"""What a relay passes that finds nothing to do."""


class Died(BaseException):
    """Stands for the end of the process."""


class FailingWorld(FailingWiring, WorldWiring):
    """The use cases on twins, with failpoints."""


def die(exit_code: int) -> None:
    assert exit_code == DIED
    raise Died


def failing(text: str, world: World | None = None, **more: Callable[[Any], Any]) -> FailingWorld:
    return FailingWorld(Failpoints(text, leave=die, **more), world or World())


def run_relay(wiring: FailingWorld) -> None:
    with using(wiring):
        relay.handler({}, Invocation())


# -- places ---------------------------------------------------------------------------------------


def test_every_call_of_a_port_passes_two_places() -> None:
    wiring = failing("")
    run_relay(wiring)
    assert wiring.failpoints.trail == RELAYED


def test_every_port_that_a_wiring_gives_has_places() -> None:
    names = {place.split(" ")[1].split(".")[0] for place in PLACES}
    assert names >= {
        "runs",
        "pipelines",
        "conductor",
        "workbench",
        "check_queue",
        "retry_queue",
        "tick_queue",
        "event_bus",
    }
    assert names == PORTS.keys() - {"queue_of"} | {"retry_queue"}
    assert {"before runs.move", "after conductor.start", "after workbench.ask"} <= PLACES


def test_the_two_check_queues_have_names_of_their_own() -> None:
    wiring = failing("")
    wiring.check_queue(ENVIRONMENT["CHECK_QUEUE_URL"]).send([])
    wiring.check_queue(ENVIRONMENT["RETRY_QUEUE_URL"]).send([])
    wiring.queue_of(QUEUE_ARN + RETRY_QUEUE).release([])
    assert wiring.failpoints.trail == [
        "before check_queue.send",
        "after check_queue.send",
        "before retry_queue.send",
        "after retry_queue.send",
        "before retry_queue.release",
        "after retry_queue.release",
    ]


def test_a_call_that_fails_by_itself_does_not_pass_its_second_place() -> None:
    world = World()
    world.database.down = True
    wiring = failing("", world)
    with pytest.raises(DatabaseUnavailable):
        wiring.runs.ping()
    assert wiring.failpoints.trail == ["before runs.ping"]


def test_all_else_of_a_port_is_as_it_was() -> None:
    world = World()
    wiring = failing("", world)
    bus = wiring.event_bus(ENVIRONMENT["EVENT_BUS_NAME"])
    assert isinstance(bus, FailingPort)
    assert bus.steps is world.steps
    assert wiring.failpoints.trail == []


# -- what happens ---------------------------------------------------------------------------------


def test_exit_before_a_call_keeps_it_from_its_effect() -> None:
    world = World()
    sweeping = failing("before tick_queue.send=exit", world).sweeping
    with pytest.raises(Died):
        sweeping.begin_minute(world.time.now, within=SWEEP_TIME)
    assert world.tick_queue.take() == []


def test_exit_after_a_call_comes_when_it_has_had_its_effect() -> None:
    world = World()
    sweeping = failing("after tick_queue.send=exit", world).sweeping
    with pytest.raises(Died):
        sweeping.begin_minute(world.time.now, within=SWEEP_TIME)
    world.go_on(30)
    assert [message.wave for message in world.tick_queue.take()] == [1]


def test_sleep_waits_and_goes_on() -> None:
    naps: list[float] = []
    wiring = failing("after runs.relaying=sleep 2.5", pause=naps.append)
    run_relay(wiring)
    assert naps == [2.5]
    assert wiring.failpoints.trail == RELAYED


def test_raise_is_an_error_that_nobody_expects_or_one_of_ours() -> None:
    with pytest.raises(FailpointStruck, match=r"FAILPOINTS says so before runs\.relaying"):
        run_relay(failing("before runs.relaying=raise"))
    with pytest.raises(ConductorUnclear):
        run_relay(failing("before runs.relaying=raise ConductorUnclear"))
    run_relay(failing("before runs.relaying=raise DatabaseUnavailable"))  # It is borne.


def test_a_number_is_one_passing_alone() -> None:
    told: list[str] = []
    wiring = failing("before runs.ping#2=raise", tell=told.append)
    wiring.runs.ping()
    with pytest.raises(FailpointStruck):
        wiring.runs.ping()
    wiring.runs.ping()
    assert told == ["before runs.ping#2=raise"]


def test_without_a_number_it_is_every_passing_and_several_are_done_in_turn() -> None:
    done: list[object] = []
    text = "before runs.ping=sleep 1; before runs.ping=sleep 2;; after runs.ping#2=sleep 3 ;"
    wiring = failing(text, pause=done.append, tell=done.append)
    wiring.runs.ping()
    wiring.runs.ping()
    both = ["before runs.ping=sleep 1", 1, "before runs.ping=sleep 2", 2]
    assert done == [*both, *both, "after runs.ping#2=sleep 3", 3]


def test_a_tick_passes_by_what_it_does_not_call() -> None:
    told: list[str] = []
    world = World()
    wiring = failing("before conductor.start=exit", world, tell=told.append)
    with using(wiring):
        tick.handler({"time": world.time.now.isoformat()}, Invocation())
    assert told == []


# -- what can't be meant --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("before runs.mvoe=exit", "no call of a port passes here: 'before runs.mvoe'"),
        ("before queue_of.send=exit", "no call of a port"),
        ("before runs.close=exit", "no call of a port"),
        ("within runs.move=exit", "not 'before port.call=action'"),
        ("runs.move=exit", "not 'before"),
        ("before runs.move", "not 'before"),
        ("before runs.move#0=exit", "not 'before"),
        ("before runs.move=exit 3", "no such action: 'exit 3'"),
        ("before runs.move=kill", "no such action: 'kill'"),
        ("before runs.move=sleep", "no such action: 'sleep'"),
        ("before runs.move=sleep long", "no such action: 'sleep long'"),
        ("before runs.move=raise ValueError", "has no 'ValueError'"),
        ("before runs.move=raise PipelineExists", None),
        ("before runs.move=raise SubmissionFailed", "isn't made of a text alone"),
        ("before runs.move=exit, after runs.move=exit", "not 'before"),
    ],
)
def test_a_slip_of_the_pen_is_an_error(text: str, trouble: str | None) -> None:
    with pytest.raises(FailpointsInvalid, match=trouble):
        Failpoints(text)


# -- events ---------------------------------------------------------------------------------------


def test_an_event_of_the_api_is_one_of_its_resource() -> None:
    event = api_event(
        "POST",
        "/pipeline-run/{pipeline_run_id}/cancel",
        {"reason": "late"},
        headers={"Idempotency-Key": "k"},
        pipeline_run_id=42,
    )
    assert event["path"] == "/pipeline-run/42/cancel"
    assert event["pathParameters"] == {"pipeline_run_id": "42"}
    assert event["body"] == '{"reason": "late"}'
    assert event["headers"]["Idempotency-Key"] == "k"
    assert api_event("GET", "/health")["body"] is None
