"""The API with its dashboard as a site on loopback, over the twins of a World; and made runs."""

from __future__ import annotations

import base64
import json
import socketserver
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from fakes import TENANT, World
from runs.callers import Caller, Scope
from runs.errors import TokenRefused
from runs.model import ErrorCategory, Finding, NewRun, Progress, RunError, transition
from runs.status import PipelineMode, PipelineRunStatus
from runs.wiring import using
from wired import WorldWiring, logged
from wsgi_api import application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from memory_storage import MemoryStorage
    from runs.model import Pipeline, PipelineRun
    from wired import CountedWaiters

S = PipelineRunStatus
EVERYTHING: Final = (Scope.ADMIN,)
BUCKET: Final = "user-data"
"""Where prefixes without a bucket lead to."""


def readable_token(
    scopes: Sequence[Scope] = EVERYTHING, *, tenant_id: str = TENANT, ends_at: float | None = None
) -> str:
    """A token in a JWT's shape; `ends_at` in seconds of the epoch."""
    claims: dict[str, object] = {
        "sub": "ada@example.test",
        "tenant": tenant_id,
        "scope": " ".join(scopes),
    }
    if ends_at is not None:
        claims["exp"] = ends_at
    return ".".join(("e30", base64.urlsafe_b64encode(json.dumps(claims).encode()).decode(), "x"))


class ReadableTokens:
    """`ports.Tokens` that takes what `readable_token` makes."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()

    def caller_of(self, token: str) -> Caller:
        try:
            claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1]))
        except (IndexError, ValueError) as error:
            raise TokenRefused("The token is not a JWT") from error
        if token in self.revoked or claims.get("exp", time.time() + 1) < time.time():
            raise TokenRefused("The token has expired")
        named = frozenset(map(Scope, claims["scope"].split()))
        return Caller(tenant_id=claims["tenant"], subject=claims["sub"], scopes=named)


class SiteWiring(WorldWiring):
    """Who waits does so in true time."""

    tokens: ReadableTokens
    storage: MemoryStorage
    waiters: CountedWaiters

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.tokens = ReadableTokens()
        self.serving = threading.Lock()
        self.closing = threading.Event()

    def pause(self, seconds: float) -> None:
        """Others are served meanwhile, though Chalice can answer one request at a time only."""
        self.serving.release()
        try:
            self.closing.wait(seconds)
        finally:
            self.serving.acquire()
        self.world.time.advance(seconds)

    def clock(self) -> float:
        return float("inf") if self.closing.is_set() else time.monotonic()


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = False
    block_on_close = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # theirs
        pass


@dataclass(frozen=True)
class Site:
    """A dashboard that browsers can open."""

    address: str
    world: World
    wiring: SiteWiring
    requests: list[str]
    """What was asked of it: `GET /pipeline-run?page_size=50`."""

    @property
    def dashboard(self) -> str:
        return f"{self.address}/dashboard"

    @contextmanager
    def still(self) -> Iterator[World]:
        """The world, while no request is served."""
        with self.wiring.serving:
            yield self.world


@contextmanager
def served(world: World) -> Iterator[Site]:
    """The site, until the context is left."""
    wiring = SiteWiring(world)
    asked: list[str] = []

    def one_at_a_time(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with wiring.serving:
            query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
            asked.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{query}")
            return application(environ, start)

    with using(wiring), logged():
        server = make_server("127.0.0.1", 0, one_at_a_time, _Server, _Quiet)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Site(f"http://127.0.0.1:{server.server_port}", world, wiring, asked)
        finally:
            wiring.closing.set()
            server.shutdown()
            thread.join()
            server.server_close()


# -- runs that look like somebody's ---------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What becomes of a made run, in minutes after it was recorded."""

    pipeline: str
    begins: float
    """Minutes after the first run of the day."""
    starts: float = 0.4
    lasts: float | None = None
    """From its start; None: it goes on."""
    end: PipelineRunStatus = S.COMPLETED
    error: RunError | None = None
    tags: tuple[tuple[str, str], ...] = ()
    done: int = 0
    total: int = 0


NO_INPUT: Final = RunError(
    "job_failed",
    ErrorCategory.USER,
    "Nothing lies below s3://user-data/in/reef-cameras/2026-03-01: "
    "upload the input first, or correct the prefix",
)
OUT_OF_MEMORY: Final = RunError(
    "job_failed", ErrorCategory.UPSTREAM, "Worker 3 ran out of memory at part 118 of 240"
)
REFUSED: Final = RunError(
    "submission_failed", ErrorCategory.PLATFORM, "Conductor refused the connection"
)
NIGHTLY: Final = (("team", "ocean"), ("schedule", "nightly"))
REEF: Final = (("team", "ocean"), ("camera", "reef-7"))
WEATHER: Final = (("team", "atmosphere"),)
LEDGER: Final = (("team", "finance"), ("quarter", "2026-q1"))
PLANS: Final = (
    Plan(pipeline="weather-grids", begins=0, lasts=16, tags=WEATHER),
    Plan(pipeline="nightly-clean", begins=3, lasts=41, tags=NIGHTLY),
    Plan(pipeline="ledger-close", begins=7, lasts=9, tags=LEDGER),
    Plan(pipeline="reef-cameras", begins=12, lasts=2, end=S.FAILED, error=NO_INPUT, tags=REEF),
    Plan(pipeline="weather-grids", begins=20, lasts=15, tags=WEATHER),
    Plan(pipeline="reef-cameras", begins=23, lasts=28, tags=REEF),
    Plan(pipeline="ledger-close", begins=30, lasts=11, end=S.CANCELLED, tags=LEDGER),
    Plan(pipeline="nightly-clean", begins=36, lasts=8, tags=NIGHTLY),
    Plan(pipeline="weather-grids", begins=40, lasts=17, tags=WEATHER),
    Plan(pipeline="ledger-close", begins=44, lasts=12, tags=LEDGER),
    Plan(pipeline="reef-cameras", begins=52, starts=0, end=S.FAILED, error=REFUSED, tags=REEF),
    Plan(pipeline="reef-cameras", begins=55, lasts=33, tags=REEF),
    Plan(pipeline="weather-grids", begins=60, lasts=14, tags=WEATHER),
    Plan(pipeline="nightly-clean", begins=64, lasts=31, tags=NIGHTLY),
    Plan(pipeline="ledger-close", begins=72, lasts=10, tags=LEDGER),
    Plan(pipeline="weather-grids", begins=80, lasts=16, tags=WEATHER),
    Plan(
        pipeline="nightly-clean",
        begins=86,
        lasts=19,
        end=S.FAILED,
        error=OUT_OF_MEMORY,
        tags=NIGHTLY,
    ),
    Plan(pipeline="reef-cameras", begins=90, tags=REEF, done=141, total=240),
    Plan(pipeline="weather-grids", begins=100, lasts=13, tags=WEATHER),
    Plan(pipeline="ledger-close", begins=104, tags=LEDGER, done=7, total=12),
    Plan(pipeline="nightly-clean", begins=108, tags=NIGHTLY, done=31, total=96),
    Plan(pipeline="weather-grids", begins=116, starts=3.2, tags=WEATHER),
    Plan(pipeline="reef-cameras", begins=118.5, starts=60, tags=REEF),
)
"""Two hours of four teams; the last of them are under way."""
WHOLE: Final = timedelta(minutes=119)
SINCE_LAST_SWEEP: Final = timedelta(seconds=12)


def a_day_of_runs(world: World) -> dict[int, Plan]:
    """Makes all of `PLANS` in `world`; which run came of which, by id."""
    pipelines = {name: _pipeline(world, name) for name in sorted({one.pipeline for one in PLANS})}
    steps: list[tuple[float, Callable[[], object]]] = []
    made: dict[int, Plan] = {}
    for number, plan in enumerate(PLANS, start=1):
        made[number] = plan
        new = _new(pipelines[plan.pipeline], plan, number)
        steps.append((plan.begins, partial(_record, world, new, number)))
        steps += _steps(world, plan, number)
    for minute, step in sorted(steps, key=lambda one: one[0]):
        _go_to(world, minute)
        step()
    _go_to(world, WHOLE.total_seconds() / 60)
    _look_at_all(world, made)
    world.time.advance(SINCE_LAST_SWEEP.total_seconds())
    return made


def _steps(world: World, plan: Plan, run_id: int) -> Iterator[tuple[float, Callable[[], object]]]:
    begins = plan.begins
    if plan.starts == 0:
        yield begins + 0.1, lambda: move(world, run_id, S.FAILED, error=plan.error)
        return
    yield (
        begins + 0.05,
        lambda: move(
            world,
            run_id,
            S.SUBMITTED,
            workbench_job_id=f"job-{run_id:05d}",
            conductor_workflow_id=f"b7c1f0e2-0000-4000-8000-{run_id:012d}",
        ),
    )
    if begins + plan.starts < WHOLE.total_seconds() / 60:
        yield begins + plan.starts, lambda: move(world, run_id, S.RUNNING)
    if plan.lasts is not None:
        end = plan.end, plan.error
        yield begins + plan.starts + plan.lasts, lambda: move(world, run_id, end[0], error=end[1])


def _go_to(world: World, minute: float) -> None:
    world.time.advance(max(0.0, minute * 60 - world.time()))


def _pipeline(world: World, name: str) -> Pipeline:
    return world.pipelines.create_pipeline(
        tenant_id=TENANT,
        name=name,
        mode=PipelineMode.BATCH,
        workflow_name="batch_pipeline_workflow",
        workflow_version=1,
    )


def _new(pipeline: Pipeline, plan: Plan, number: int) -> NewRun:
    day = f"{plan.pipeline}/2026-03-01/{number:02d}"
    return NewRun(
        tenant_id=TENANT,
        pipeline_id=pipeline.id,
        input_path_prefix=f"in/{day}",
        output_path_prefix=f"out/{day}",
        report_path_prefix=f"reports/{day}",
        parameters={"drop_empty_rows": True, "compression": "zstd", "parts": plan.total or 240},
        tags=dict(plan.tags),
    )


def _record(world: World, new: NewRun, number: int) -> None:
    world.runs.record(
        new,
        route="POST /pipeline-run",
        key=f"made {number}",
        fingerprint="f",
        lease=timedelta(seconds=20),
    )


def move(world: World, run_id: int, to: PipelineRunStatus, **parts: Any) -> PipelineRun:
    """The run after a transition that must succeed."""
    change = transition(world.run(run_id), to, **parts)
    assert change
    assert world.runs.move([change])
    return world.run(run_id)


def _look_at_all(world: World, made: dict[int, Plan]) -> None:
    """As the sweep and the checks of the last minute did."""
    world.runs.claim(range(256), older_than=timedelta(0), not_after=world.database.now)
    world.runs.observe(
        [
            Finding(
                run_id=run.id,
                upstream_status=run.status,
                progress=_progress(made[run.id]),
            )
            for run in world.database.with_job()
        ]
    )


def _progress(plan: Plan) -> Progress | None:
    return Progress(plan.done, plan.total) if plan.total else None
