"""The composition root over the twins of a World, so that handlers can be called as they stand.

world = World()
with using(WorldWiring(world)):
    tick.handler(event, LambdaContext())
"""

from __future__ import annotations

import io
import json
import logging
import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aws_lambda_powertools.utilities.typing import LambdaContext

from fakes import WORKBENCH_URL, in_order
from memory_database import MemoryOverviews, MemoryRetention
from memory_storage import MemoryStorage
from runs import logs
from runs.callers import Caller, Scope
from runs.errors import TokenRefused
from runs.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from fakes import World
    from runs.ports import CheckQueue, Conductor, EventBus, TickQueue, Workbench

T = TypeVar("T")
R = TypeVar("R")

QUEUE_ARN: Final = "arn:aws:sqs:eu-west-2:000000000000:"
CHECK_QUEUE: Final = "checks"
RETRY_QUEUE: Final = "retries"
TICK_QUEUE: Final = "ticks"
ENVIRONMENT: Final[Mapping[str, str]] = {
    "STAGE": "test",
    "DATABASE_URL": "postgresql+pg8000://nobody@database.test/none",
    "CONDUCTOR_URL": "http://conductor.test",
    "WORKBENCH_API_URL": WORKBENCH_URL,
    "STORAGE_BUCKET": "user-data",
    "ALLOWED_BUCKETS": "bucket,other",
    "CHECK_QUEUE_URL": f"http://sqs.test/000000000000/{CHECK_QUEUE}",
    "RETRY_QUEUE_URL": f"http://sqs.test/000000000000/{RETRY_QUEUE}",
    "TICK_QUEUE_URL": f"http://sqs.test/000000000000/{TICK_QUEUE}",
    "EVENT_BUS_NAME": "events",
    "OIDC_ISSUER": "https://issuer.test",
    "OIDC_JWKS_URL": "https://issuer.test/jwks.json",
}


class SpokenTokens:
    """`ports.Tokens` whose tokens say themselves whom they speak for: `TENANT` or `TENANT SCOPE…`.

    A tenant alone has every scope.
    """

    def caller_of(self, token: str) -> Caller:
        tenant_id, *scopes = token.split() or ["bad"]
        if tenant_id == "bad":
            raise TokenRefused("The token is a bad one")
        named = frozenset(map(Scope, scopes)) if scopes else frozenset({Scope.ADMIN})
        return Caller(tenant_id=tenant_id, subject=f"somebody of {tenant_id}", scopes=named)


class CountedWaiters:
    """`ports.Waiters` with a number of free places, which can be lost while they are taken."""

    def __init__(self, free: int = 5) -> None:
        self.free = free
        self.lost = False
        self.asked: list[str] = []

    @contextmanager
    def place(self, tenant_id: str) -> Iterator[Callable[[], bool]]:
        self.asked.append(tenant_id)
        if not self.free:
            yield lambda: False
            return
        self.free -= 1
        yield lambda: not self.lost
        self.free += 1


class WorldWiring(Wiring):
    """The use cases as they are wired for Lambda, on a World's twins."""

    def __init__(self, world: World, environment: Mapping[str, str] = ENVIRONMENT) -> None:
        super().__init__(environment)
        self.world = world
        self.runs = world.runs
        self.pipelines = world.pipelines
        self.breakers = world.breakers
        self.strays = world.strays
        self.tokens = SpokenTokens()
        self.storage = MemoryStorage()
        self.waiters = CountedWaiters()
        self.overviews = MemoryOverviews(world.database)
        self.retention = MemoryRetention(world.database)
        self.meter = world.meter
        self.acted_for: list[str] = []

    def acting_for(self, tenant_id: str) -> AbstractContextManager[None]:
        self.acted_for.append(tenant_id)
        return nullcontext()

    def conductor(self, url: str) -> Conductor:
        assert url == ENVIRONMENT["CONDUCTOR_URL"]
        return self.world.conductor

    def workbench(self, url: str) -> Workbench:
        assert url == ENVIRONMENT["WORKBENCH_API_URL"]
        return self.world.workbench

    def check_queue(self, url: str) -> CheckQueue:
        return {
            ENVIRONMENT["CHECK_QUEUE_URL"]: self.world.check_queue,
            ENVIRONMENT["RETRY_QUEUE_URL"]: self.world.retry_queue,
        }[url]

    def tick_queue(self, url: str) -> TickQueue:
        assert url == ENVIRONMENT["TICK_QUEUE_URL"]
        return self.world.tick_queue

    def event_bus(self, name: str) -> EventBus:
        assert name == ENVIRONMENT["EVENT_BUS_NAME"]
        return self.world.bus

    def pause(self, seconds: float) -> None:
        self.world.time.pause(seconds)

    def clock(self) -> float:
        return self.world.time()

    def side_by_side(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        return in_order(function, items)


class Invocation(LambdaContext):
    """What Lambda tells a function about one call of it."""

    def __init__(self, request_id: str = "request-1", *, seconds_left: float = 30) -> None:
        self._aws_request_id = request_id
        self._function_name = "function"
        self._memory_limit_in_mb = 512
        self._invoked_function_arn = "arn:aws:lambda:eu-west-2:000000000000:function:function"
        self._seconds_left = seconds_left

    def get_remaining_time_in_millis(self) -> int:  # type: ignore[override]  # theirs is static
        return round(self._seconds_left * 1000)


class Log:
    """What was logged."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Each a JSON object."""
        return [json.loads(line) for line in self.text.splitlines()]

    def forget(self) -> None:
        """Begins anew."""
        self.stream.seek(0)
        self.stream.truncate()


@contextmanager
def logged() -> Iterator[Log]:
    """What the handlers log meanwhile, in place of writing it to standard output."""
    handler = logs.logger().registered_handler
    assert isinstance(handler, logging.StreamHandler)
    log = Log()
    before = handler.setStream(log.stream)
    try:
        yield log
    finally:
        handler.setStream(before or sys.stdout)
