"""The client and its command line against the API in process, and with answers that go wrong.

api = InProcessApi()
api.next_answers += [httpx.ConnectError("refused"), problem(429, "tenant_full", wait=2)]
client = api.client(world)           # the first two tries get those, the rest the real API
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import httpx
from typer.testing import CliRunner

import wsgi_api
from fakes import TENANT
from memory_storage import MemoryStorage
from pipeline_runs import Client, Patience, Surroundings
from pipeline_runs.cli.app import app
from pipeline_runs.cli.session import Outside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from typer.testing import Result

    from fakes import World
    from pipeline_runs.connections import StorageAccess
    from runs.model import Progress
    from runs.ports import StoredPage
    from runs.prefixes import Location

API_URL = "https://api.test/prod"


def problem(status: int, code: str, *, wait: int | None = None, **members: Any) -> httpx.Response:
    """An answer as the API gives it when it can't do what is asked."""
    body = {
        "type": f"urn:pipeline-runs:problem:{code}",
        "title": code,
        "status": status,
        "detail": f"Because of {code}",
        "code": code,
        "request_id": "request-7",
        **members,
    }
    headers = {"Content-Type": "application/problem+json"}
    if wait is not None:
        headers["Retry-After"] = str(wait)
    return httpx.Response(status, json=body, headers=headers)


@dataclass
class InProcessApi(httpx.BaseTransport):
    """The way to the API.

    Attributes:
        next_answers: What comes in place of the API's own answers; None: the API's own.
        lost_answers: How many of the API's next answers get lost after it has done its work.
        before: Is called before each request comes to the API.
        requests: All that were sent.
        pauses: How long the client has paused, each time, in seconds.
        keys: How many idempotency keys it has made.
    """

    next_answers: deque[httpx.Response | Exception | None] = field(default_factory=deque)
    lost_answers: int = 0
    before: Callable[[], object] = lambda: None
    requests: list[httpx.Request] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    keys: int = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.next_answers.popleft() if self.next_answers else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            answer.request = request
            return answer
        self.before()
        request.url = request.url.copy_with(
            raw_path=request.url.raw_path.removeprefix(b"/prod") or b"/"
        )
        given = httpx.WSGITransport(wsgi_api.application).handle_request(request)
        if self.lost_answers:
            self.lost_answers -= 1
            raise httpx.ReadError("Connection reset by peer")
        return given

    @property
    def calls(self) -> list[str]:
        """What was asked, each as `GET /path?query`."""
        return [
            f"{one.method} {one.url.raw_path.decode().removeprefix('/prod')}"
            for one in self.requests
        ]

    def surroundings(self, world: World) -> Surroundings:
        """The world's time, no chance, and keys that are counted."""

        def pause(seconds: float) -> None:
            self.pauses.append(seconds)
            world.pass_time(seconds)

        def new_key() -> str:
            self.keys += 1
            return f"key-{self.keys}"

        return Surroundings(clock=world.time, pause=pause, chance=lambda: 0.0, new_key=new_key)

    def client(self, world: World, token: Any = TENANT, **options: Any) -> Client:
        """A client of the API, for the tenant that the token names."""
        return Client(
            API_URL, token, transport=self, surroundings=self.surroundings(world), **options
        )


IMPATIENT = Patience(budget_seconds=0)


def playing(
    world: World, scenes: Iterable[tuple[str, Progress | None] | None], run_id: int
) -> Callable[[], None]:
    """For `before`: each request finds the run's job in the next state, looked at a moment ago.

    None: nothing happens.
    """
    coming = iter(scenes)

    def play() -> None:
        scene = next(coming, None)
        if scene is not None:
            status, progress = scene
            world.workbench.become(status, run=run_id, progress=progress)
            world.pass_time(30)
            world.begin_minute()
            world.deliver()

    return play


@dataclass
class LinkedStorage(MemoryStorage):
    """The user's storage in memory, whose links look like those of S3."""

    def objects(self, place: Location, *, page_size: int, after: str, inline: bool) -> StoredPage:
        page = super().objects(place, page_size=page_size, after=after, inline=inline)
        linked = [
            replace(one, url=f"https://storage.test/{quote(one.key)}") for one in page.objects
        ]
        return replace(page, objects=linked)

    def answer(self, request: httpx.Request) -> httpx.Response:
        """What such a link gives; it is no place for a token."""
        assert "Authorization" not in request.headers
        key = unquote(request.url.path).removeprefix("/")
        (content,) = (keys[key] for keys in self.buckets.values() if key in keys)
        return httpx.Response(200, stream=Body(content))


class Body(httpx.SyncByteStream):
    """A body as the network brings it: in pieces, and once."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)


class FolderStorage:
    """`uploads.Storage` in memory: the objects' bytes by bucket and key."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.access: StorageAccess | None = None

    def reached(self, access: StorageAccess | None) -> FolderStorage:
        """For `Outside.storage`."""
        self.access = access
        return self

    def put(self, file: Path, *, bucket: str, key: str) -> None:
        self.objects[bucket, key] = file.read_bytes()


@dataclass
class CommandLine:
    """`pipeline-run`, over the API in process.

    Attributes:
        environment: The variables; at first those that tell where the API is.
        here: The folder that it is called in.
        clock_ahead: By how much this machine's clock differs from the service's.
    """

    world: World
    here: Path
    api: InProcessApi = field(default_factory=InProcessApi)
    storage: FolderStorage = field(default_factory=FolderStorage)
    links: httpx.BaseTransport | None = None
    environment: dict[str, str] = field(
        default_factory=lambda: {"PIPELINE_RUN_API_URL": API_URL, "PIPELINE_RUN_TOKEN": TENANT}
    )
    clock_ahead: timedelta = timedelta(0)

    def __call__(self, *words: str) -> Result:
        """What a command prints, and its exit code."""
        outside = Outside(
            environment={"PIPELINE_RUN_CONFIG": str(self.here / "config.toml"), **self.environment},
            here=self.here,
            now=lambda: self.world.time.now + self.clock_ahead,
            surroundings=self.api.surroundings(self.world),
            api=self.api,
            links=self.links,
            storage=self.storage.reached,
        )
        return CliRunner().invoke(
            app, list(words), obj=outside, env={"COLUMNS": "100"}, prog_name="pipeline-run"
        )

    def json(self, *words: str) -> Any:
        """The value that a command prints, given `--json`."""
        return json.loads(self(*words, "--json").stdout)
