"""A proxy that does harm: it stands before Postgres or an HTTP server and breaks calls on demand.

    with FaultProxy(workbench.url) as proxy:
        … give proxy.url to the code under test …
        proxy.execute_and_drop(http("POST", "/batch/submit"), times=1)
        … the first submit makes a job, and its caller sees a reset connection …
        [submit] = proxy.wait_for_calls(http("POST", "/batch/submit"))
        assert (submit.replies, submit.end) == (1, End.RESET)

The target is an `http://` URL or a database's URL; `proxy.url` is that with the proxy's address.

**A call** is a request of HTTP/1.1, or for Postgres a statement that is executed, or a connection
that is opened. Whatever it is, it is read whole, then forwarded, and its reply is read whole before
the caller sees a byte of it (for Postgres: before an `execute_and_drop`). One call at a time goes
over a connection; TLS isn't spoken.

**Which calls** a fault strikes is told by a predicate of the call: `http("GET", "/api/*")`,
`aws("SendMessageBatch")` (the X-Amz-Target header), `statement("INSERT INTO idempotency_keys")`,
`connecting`, `every` (the default), or any function of a `Call`. Database drivers say things of
their own, so statements are best named. `times` is for the next so many of them; without it the
fault stays until its `end()`, or its block's (`with proxy.refuse():`).

| fault | what becomes of the call |
|---|---|
| `latency(seconds)` | it is forwarded late |
| `hold()` | it is forwarded when the fault ends (`release()` ends all holds) |
| `reset()` | it isn't forwarded; the connection is reset |
| `black_hole()` | it isn't forwarded, and never answered |
| `status(code, …)` | it isn't forwarded; this answer is given (HTTP only) |
| `execute_and_drop()` | it is carried out; the connection is reset in place of the reply |
| `duplicate()` | it is carried out twice, one after the other; one reply is given (HTTP only) |
| `drip(seconds)` | a pause before each byte of the reply's body (Postgres: of the reply) |
| `limit(bytes)` | the connection ends after so many bytes of the reply's body (of the reply) |
| `refuse()` | not a call: nobody listens, open connections are reset; the port stays ours |

`cut()` resets all open connections at once, idle or not. A call that waits goes its way even if its
caller has given up, as packets do that are late.

A call meets at most one `latency`, one `hold` and one of the others. Of several that match, those
with `times` come first, in the order in which they were switched on; of those without it, the
newest comes. So that a slip of the pen can't pass for a test, leaving the block fails if a fault
with `times` has never struck.

**The journal**: `calls` holds every call in the order received, and says what has become of it so
far; `calls_of(where)` picks; `wait_for_calls(where, count=2)` waits until so many match:
`proxy.wait_for_calls(lambda call: call.end is End.RESET)`. What a caller has seen is in it.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

PATIENCE_SECONDS: Final = 20
LARGEST_HEAD: Final = 256 * 1024
START_SECONDS: Final = 10
BACKLOG: Final = 256
NO_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})

SSL_REQUEST: Final = 80877103
GSS_REQUEST: Final = 80877104
CANCEL_REQUEST: Final = 80877102


class End(StrEnum):
    """How a call ended for its caller."""

    ANSWERED = "answered"
    CUT = "cut"
    """A part of the reply was given, and the connection ended."""
    RESET = "reset"
    UNANSWERED = "unanswered"


@dataclass(frozen=True)
class Call:
    """A call, and what has become of it by now.

    Attributes:
        number: Its place in the journal.
        at: time.monotonic() when it had been read.
        method: As sent; of Postgres "SQL" or "CONNECT".
        path: With its query; the statement, white space made single spaces; the database.
        headers: As sent, repeated ones repeatedly.
        body: Decoded if it was chunked; a statement's parameters, or those of the connection, as
            they are in the protocol.
        faults: The names of those that struck it.
        forwarded: How many times it was sent to the target.
        replies: How many whole replies came from there.
        status: The status of the HTTP answer that was given.
        end: None while it isn't over; noted before its caller can see it.
    """

    number: int
    at: float
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    faults: tuple[str, ...] = ()
    forwarded: int = 0
    replies: int = 0
    status: int | None = None
    end: End | None = None

    def header(self, name: str) -> str | None:
        """The first header of this name."""
        return _first(self.headers, name)

    @property
    def action(self) -> str:
        """What is asked of an AWS service; empty if none is."""
        return (self.header("X-Amz-Target") or "").rpartition(".")[2]


Where = Callable[[Call], bool]


def every(_: Call) -> bool:
    """Any call."""
    return True


def connecting(call: Call) -> bool:
    """A connection to Postgres that is opened."""
    return call.method == "CONNECT"


def http(method: str = "*", path: str = "*", *, holding: str = "") -> Where:
    """A request; `*` stands for anything, also for slashes; the query isn't looked at."""

    def where(call: Call) -> bool:
        return (
            fnmatchcase(call.method, method)
            and fnmatchcase(call.path.partition("?")[0], path)
            and holding.encode() in call.body
        )

    return where


def aws(action: str, *, holding: str = "") -> Where:
    """A request for this action, such as `PutEvents`, whose body holds a text."""

    def where(call: Call) -> bool:
        return call.action == action and holding.encode() in call.body

    return where


def statement(text: str, *, holding: str = "") -> Where:
    """A statement in which these words stand, in any case, and a text among its parameters."""
    # Whole words: COMMIT isn't READ COMMITTED.
    wanted = re.compile(rf"(?<!\w){re.escape(_single_spaced(text))}(?!\w)", re.IGNORECASE)

    def where(call: Call) -> bool:
        named = call.method == "SQL" and wanted.search(call.path) is not None
        return named and holding.encode() in call.body

    return where


class Fault:
    """A fault that was switched on; `struck` counts the calls that it met."""

    def __init__(
        self,
        name: str,
        where: Where,
        times: int | None,
        *,
        seconds: float = 0,
        size_bytes: int = 0,
        reply: _Reply | None = None,
        gives_first: bool = False,
        when_ended: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.times = times
        self.seconds = seconds
        self.size_bytes = size_bytes
        self.reply = reply
        self.gives_first = gives_first
        self.struck = 0
        self.is_on = True
        self.released = asyncio.Event()
        self._where = where
        self._when_ended = when_ended

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Switches it off; calls that it holds go on."""
        if self.is_on:
            self.is_on = False
            self._when_ended()

    def strikes(self, call: Call) -> bool:
        """Whether it would strike this call."""
        left = self.times is None or self.struck < self.times
        return self.is_on and left and self._where(call)


class FaultProxy:
    """See the module's text.

    Args:
        target: `http://host:port…`, or `postgresql://user:password@host:port/database` with or
            without a driver's name.
    """

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._speaks_sql = self._target.scheme.startswith("postgresql")
        if not (self._speaks_sql or self._target.scheme == "http"):
            raise ValueError(f"neither http:// nor postgresql://: {self._target.scheme}://")
        host, port = self._target.hostname, self._target.port
        if host is None or port is None:
            raise ValueError("the target must name its host and port")
        self._address = (host, port)
        self._book = _Book()
        self._errors: list[Exception] = []
        self._conversations: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        # Never listens itself: it keeps the port ours while nobody does.
        self._place = _bound(0)
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)), name="fault proxy"
        )
        self._thread.start()
        assert started.wait(START_SECONDS)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        self._place.close()
        if kind is not None:
            return
        if self._errors:
            raise self._errors[0]
        if idle := [f.name for f in self._book.faults if f.times is not None and not f.struck]:
            raise AssertionError(f"switched on, but no call was struck by: {', '.join(idle)}")

    @property
    def url(self) -> str:
        """The target's URL with the proxy's address; the same before and after `refuse`."""
        who, at, _ = self._target.netloc.rpartition("@")
        return self._target._replace(netloc=f"{who}{at}127.0.0.1:{self.port}").geturl()

    @property
    def port(self) -> int:
        return int(self._place.getsockname()[1])

    # -- faults -----------------------------------------------------------------------------------

    def latency(self, seconds: float, where: Where = every, *, times: int | None = None) -> Fault:
        """Forwards the call after so long."""
        return self._on(Fault("latency", where, times, seconds=seconds))

    def hold(self, where: Where = every, *, times: int | None = None) -> Fault:
        """Forwards the call when the fault ends."""
        held = Fault("hold", where, times, when_ended=lambda: self._do(let_go))

        async def let_go() -> None:
            held.released.set()

        return self._on(held)

    def release(self) -> None:
        """Ends all holds."""
        for fault in self._book.faults:
            if fault.name == "hold":
                fault.end()

    def reset(self, where: Where = every, *, times: int | None = None) -> Fault:
        """Resets the connection; nothing is forwarded."""
        return self._on(Fault("reset", where, times))

    def black_hole(self, where: Where = every, *, times: int | None = None) -> Fault:
        """Neither forwards nor answers."""
        return self._on(Fault("black_hole", where, times))

    def drip(self, seconds: float, where: Where = every, *, times: int | None = None) -> Fault:
        """Pauses for so long before each byte of the reply."""
        return self._on(Fault("drip", where, times, seconds=seconds))

    def limit(self, size_bytes: int, where: Where = every, *, times: int | None = None) -> Fault:
        """Closes the connection, orderly, after so many bytes of the reply."""
        return self._on(Fault("limit", where, times, size_bytes=size_bytes))

    def execute_and_drop(self, where: Where = every, *, times: int | None = None) -> Fault:
        """Has the call carried out and its whole reply come back, and resets the connection."""
        return self._on(Fault("execute_and_drop", where, times))

    def duplicate(
        self,
        where: Where = every,
        *,
        times: int | None = None,
        gives_first: bool = False,
    ) -> Fault:
        """Has the call carried out twice, and gives the second reply, or the first."""
        self._needs_http("duplicate")
        return self._on(Fault("duplicate", where, times, gives_first=gives_first))

    def status(
        self,
        code: int,
        where: Where = every,
        *,
        times: int | None = None,
        retry_after: str | None = None,
        body: str = '{"error": "The proxy says so."}',
        content_type: str = "application/json",
    ) -> Fault:
        """Answers in the target's place; `retry_after` is the header's text, right or wrong."""
        self._needs_http("status")
        reply = _Reply.made(code, retry_after=retry_after, body=body, content_type=content_type)
        return self._on(Fault("status", where, times, reply=reply))

    def refuse(self) -> Fault:
        """Resets all connections and takes no new ones until the fault ends."""
        self._do(self._deafen)
        return Fault("refuse", every, None, when_ended=lambda: self._do(self._listen))

    def cut(self) -> None:
        """Resets all open connections; new ones are taken."""
        self._do(self._cut)

    def _needs_http(self, name: str) -> None:
        if self._speaks_sql:
            raise ValueError(f"{name} is for HTTP: a session with Postgres can't be answered for")

    def _on(self, fault: Fault) -> Fault:
        with self._book.changed:
            self._book.faults.append(fault)
        return fault

    # -- the journal ------------------------------------------------------------------------------

    @property
    def calls(self) -> list[Call]:
        """All calls, in the order received."""
        return self.calls_of(every)

    def calls_of(self, where: Where) -> list[Call]:
        """Those that match."""
        with self._book.changed:
            return [call for call in self._book.calls if where(call)]

    def wait_for_calls(
        self,
        where: Where = every,
        *,
        count: int = 1,
        within_seconds: float = PATIENCE_SECONDS,
    ) -> list[Call]:
        """Waits until so many calls match, and returns all that do.

        Raises:
            AssertionError: They didn't in time.
        """
        with self._book.changed:
            if not self._book.changed.wait_for(
                lambda: len(self.calls_of(where)) >= count, within_seconds
            ):
                told = [(call.method, call.path[:80], call.end) for call in self._book.calls[-20:]]
                raise AssertionError(f"not {count} such calls within {within_seconds} s: {told}")
            return self.calls_of(where)

    # -- in the proxy's own thread ----------------------------------------------------------------

    def _do(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Has the loop do something, if there is one still, and waits for it."""
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(act(), self._loop).result(START_SECONDS)

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        await self._listen()
        started.set()
        await self._stopped.wait()
        await self._deafen()

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = _bound(self.port)
            self._listener.settimeout(0)
            self._listener.listen(BACKLOG)
            self._loop.add_reader(self._listener, self._accept)

    async def _deafen(self) -> None:
        if self._listener:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        await self._cut()

    async def _cut(self) -> None:
        conversations = list(self._conversations)
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)

    def _accept(self) -> None:
        """Not by asyncio's server: that may take a connection after it was closed."""
        if self._listener is None:
            return
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            return  # The caller is gone already.
        conversation = self._loop.create_task(self._converse(accepted))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)
        # A task that is given up before it begins does nothing, not even this.
        conversation.add_done_callback(lambda _: _reset(accepted))

    async def _converse(self, accepted: socket.socket) -> None:
        # Or each statement waits for acknowledgements that come 40 ms late, three times.
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = _Peer(*await asyncio.open_connection(sock=accepted, limit=LARGEST_HEAD))
        kind = _SqlConversation if self._speaks_sql else _HttpConversation
        conversation = kind(self._book, client, self._address)
        end = End.RESET
        try:
            await conversation.run()
            end = End.CUT
        except (_Reset, OSError, EOFError, asyncio.LimitOverrunError):
            pass  # Whatever it is, to the caller it is a reset.
        except Exception as error:  # noqa: BLE001 - a predicate's, say: told when the block is left
            self._errors.append(error)
        finally:
            # In this order: what a caller has seen is in the journal.
            conversation.over(end)
            if end is End.RESET:
                client.reset()
            await client.close()


# -- what both threads use ------------------------------------------------------------------------


class _Book:
    """The journal and the faults; `changed` is held by whoever touches them."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.calls: list[Call] = []
        self.faults: list[Fault] = []

    def receive(
        self,
        method: str,
        path: str,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
    ) -> _Exchange:
        """Notes a call, and decides what is to become of it."""
        with self.changed:
            call = Call(len(self.calls), time.monotonic(), method, path, headers, body)
            latency = self._struck(call, {"latency"})
            hold = self._struck(call, {"hold"})
            other = self._struck(call, {f.name for f in self.faults} - {"latency", "hold"})
            names = tuple(fault.name for fault in (latency, hold, other) if fault)
            self.calls.append(replace(call, faults=names))
            self.changed.notify_all()
            return _Exchange(self, call.number, latency, hold, other)

    def _struck(self, call: Call, names: set[str]) -> Fault | None:
        matching = [f for f in self.faults if f.name in names and f.strikes(call)]
        counted = [f for f in matching if f.times is not None]
        for fault in counted[:1] or matching[-1:]:
            fault.struck += 1
            return fault
        return None

    def note(self, number: int, **changes: Any) -> None:
        with self.changed:
            self.calls[number] = replace(self.calls[number], **changes)
            self.changed.notify_all()


@dataclass(frozen=True)
class _Exchange:
    """A call under way, and the faults that it met."""

    book: _Book
    number: int
    latency: Fault | None
    hold: Fault | None
    other: Fault | None

    @property
    def call(self) -> Call:
        return self.book.calls[self.number]

    @property
    def fate(self) -> str:
        """The name of the fault that decides."""
        return self.other.name if self.other else ""

    def note(self, **changes: Any) -> None:
        self.book.note(self.number, **changes)

    async def wait(self) -> None:
        if self.latency:
            await asyncio.sleep(self.latency.seconds)
        if self.hold:
            await self.hold.released.wait()


# -- connections ----------------------------------------------------------------------------------


class _Reset(Exception):
    """The caller's connection is to be reset."""


@dataclass(frozen=True)
class _Peer:
    """One end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, message: bytes) -> None:
        self.writer.transport.set_write_buffer_limits(high=0)  # So that nothing is left behind.
        self.writer.write(message)
        await self.writer.drain()

    async def swallow(self) -> None:
        """Reads until the peer is gone."""
        while await self.reader.read(65536):
            pass

    def reset(self) -> None:
        """Closes at once and without a farewell."""
        with suppress(OSError):  # The other side was faster.
            _make_end_a_reset(self.writer.get_extra_info("socket"))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


@asynccontextmanager
async def _connected(address: tuple[str, int]) -> AsyncIterator[_Peer]:
    target = _Peer(*await asyncio.open_connection(*address, limit=LARGEST_HEAD))
    try:
        yield target
    except BaseException:
        target.writer.transport.abort()
        raise
    finally:
        await target.close()


def _make_end_a_reset(connection: socket.socket) -> None:
    """From now on closing sends a reset, and no farewell."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _reset(connection: socket.socket) -> None:
    """Resets it, if it is open still."""
    with suppress(OSError):
        _make_end_a_reset(connection)
    connection.close()


def _bound(port: int) -> socket.socket:
    """A socket at this port, which others of the proxy may share; 0 is a free one."""
    bound = socket.socket()
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        bound.setsockopt(socket.SOL_SOCKET, option, 1)
    bound.bind(("127.0.0.1", port))
    return bound


class _Conversation:
    """One connection of a caller."""

    def __init__(self, book: _Book, client: _Peer, address: tuple[str, int]) -> None:
        self._book = book
        self._client = client
        self._address = address
        self._exchanges: list[_Exchange] = []

    def over(self, end: End) -> None:
        """Notes how the calls ended that nothing was noted of."""
        for exchange in self._exchanges:
            if exchange.call.end is None:
                exchange.note(end=end)

    async def _begin(self, exchange: _Exchange) -> bool:
        """Waits as the faults want; whether the call is then forwarded.

        Raises:
            _Reset: The connection is to be reset instead.
        """
        self._exchanges = [one for one in self._exchanges if one.call.end is None]
        self._exchanges.append(exchange)
        await exchange.wait()
        if exchange.fate == "reset":
            raise _Reset
        if exchange.fate == "black_hole":
            exchange.note(end=End.UNANSWERED)
            await self._client.swallow()
        return exchange.fate not in {"black_hole", "status"}


# -- HTTP -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reply:
    """What goes back: head and body as on the wire."""

    status: int
    head: bytes
    body: bytes
    keeps_alive: bool = True

    @classmethod
    def made(cls, code: int, *, retry_after: str | None, body: str, content_type: str) -> _Reply:
        encoded = body.encode()
        phrase = HTTPStatus(code).phrase if code in set(HTTPStatus) else "Unknown"
        lines = [
            f"HTTP/1.1 {code} {phrase}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(encoded)}",
        ]
        if retry_after is not None:
            lines.append(f"Retry-After: {retry_after}")
        return cls(code, "\r\n".join([*lines, "", ""]).encode("latin-1"), encoded)


@dataclass(frozen=True)
class _Head:
    """The first line's three parts, and the headers."""

    raw: bytes
    first: tuple[str, str, str]
    headers: tuple[tuple[str, str], ...]

    @property
    def is_chunked(self) -> bool:
        return "chunked" in (_first(self.headers, "Transfer-Encoding") or "").lower()

    @property
    def length(self) -> int | None:
        told = _first(self.headers, "Content-Length")
        return None if told is None else int(told)

    def closes(self, version: str) -> bool:
        """Whether the connection ends with this message."""
        told = (_first(self.headers, "Connection") or "").lower()
        return "close" in told or (version == "HTTP/1.0" and "keep-alive" not in told)


class _HttpConversation(_Conversation):
    """Requests, one after the other; each is forwarded on a connection of its own."""

    async def run(self) -> None:
        """Until the caller, a reply or a fault ends it."""
        while head := await _read_head(self._client.reader):
            method, path, version = head.first
            if _first(head.headers, "Expect"):
                await self._client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            raw, body = await _read_body(self._client.reader, head, until_end=False)
            exchange = self._book.receive(method, path, head.headers, body)
            if not await self._carry(exchange, head.raw + raw) or head.closes(version):
                return

    async def _carry(self, exchange: _Exchange, request: bytes) -> bool:
        """Whether the connection may go on."""
        if not await self._begin(exchange):
            reply = exchange.other.reply if exchange.other else None
            return reply is not None and await self._give(exchange, reply)
        replies = [await self._forward(exchange, request)]
        if exchange.fate == "duplicate":
            replies.append(await self._forward(exchange, request))
        if exchange.fate == "execute_and_drop":
            raise _Reset
        gives_first = exchange.other is not None and exchange.other.gives_first
        return await self._give(exchange, replies[0 if gives_first else -1])

    async def _forward(self, exchange: _Exchange, request: bytes) -> _Reply:
        async with _connected(self._address) as target:
            exchange.note(forwarded=exchange.call.forwarded + 1)
            with suppress(ConnectionError):  # It may answer without having read it all.
                await target.send(request)
            reply = await _read_reply(target.reader, exchange.call.method)
        exchange.note(replies=exchange.call.replies + 1)
        return reply

    async def _give(self, exchange: _Exchange, reply: _Reply) -> bool:
        size = len(reply.body)
        if exchange.other and exchange.fate == "limit":
            size = min(size, exchange.other.size_bytes)
        whole = size == len(reply.body)
        exchange.note(status=reply.status, end=End.ANSWERED if whole else End.CUT)
        if exchange.other and exchange.fate == "drip":
            await self._client.send(reply.head)
            await _drip(self._client, reply.body, exchange.other.seconds)
        else:
            await self._client.send(reply.head + reply.body[:size])
        return whole and reply.keeps_alive


async def _read_head(reader: asyncio.StreamReader) -> _Head | None:
    """None if the peer is gone."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    one, two, three = [*first.split(" ", 2), "", ""][:3]
    return _Head(raw, (one, two, three), tuple((name, value.strip()) for name, _, value in pairs))


async def _read_body(
    reader: asyncio.StreamReader, head: _Head, *, until_end: bool
) -> tuple[bytes, bytes]:
    """The body as it came, and decoded."""
    if head.is_chunked:
        return await _read_chunks(reader)
    if head.length is not None:
        body = await reader.readexactly(head.length)
    else:
        body = await reader.read() if until_end else b""
    return body, body


async def _read_chunks(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    raw, chunks = [], []
    while True:
        line = await reader.readuntil(b"\n")
        raw.append(line)
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            break
        chunk = await reader.readexactly(size + 2)
        raw.append(chunk)
        chunks.append(chunk[:size])
    while True:  # Trailers.
        line = await reader.readuntil(b"\n")
        raw.append(line)
        if not line.strip():
            return b"".join(raw), b"".join(chunks)


async def _read_reply(reader: asyncio.StreamReader, method: str) -> _Reply:
    head = await _read_head(reader)
    while head and head.first[1].startswith("1"):  # Continue: there is more to come.
        head = await _read_head(reader)
    if head is None:
        raise _Reset
    version, status = head.first[0], int(head.first[1])
    if method == "HEAD" or status in NO_BODY:
        return _Reply(status, head.raw, b"", keeps_alive=not head.closes(version))
    raw, _ = await _read_body(reader, head, until_end=True)
    delimited = head.is_chunked or head.length is not None
    return _Reply(status, head.raw, raw, keeps_alive=delimited and not head.closes(version))


# -- Postgres -------------------------------------------------------------------------------------


@dataclass
class _Unit:
    """What a caller sends up to its Sync: Postgres answers it as a whole, ReadyForQuery last."""

    exchanges: list[_Exchange] = field(default_factory=list)
    given_bytes: int = 0

    @property
    def fault(self) -> Fault | None:
        return next((one.other for one in self.exchanges if one.other), None)


class _SqlConversation(_Conversation):
    """A session. The messages of both sides are followed, to tell a statement that is executed
    from one that is only prepared: a driver sends its text, and waits, before it has it executed.
    """

    def __init__(self, book: _Book, client: _Peer, address: tuple[str, int]) -> None:
        super().__init__(book, client, address)
        self._units: deque[_Unit] = deque()
        self._is_synced = True
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, tuple[str, bytes]] = {}

    async def run(self) -> None:
        """Until one of the three ends it."""
        start, code = await self._read_start()
        if code == CANCEL_REQUEST:
            async with _connected(self._address) as server:
                await server.send(start)
                await server.swallow()
            return
        told = start[8:].split(b"\0")
        parameters = dict(zip(told[::2], told[1::2], strict=False))
        database = parameters.get(b"database", b"").decode()
        opening = self._book.receive("CONNECT", database, body=start[8:])
        if not await self._begin(opening):
            return
        self._units.append(_Unit([opening]))
        async with _connected(self._address) as server:
            opening.note(forwarded=1)
            await server.send(start)
            await _either(self._pass_up(server), self._pass_down(server))

    async def _read_start(self) -> tuple[bytes, int]:
        """The start-up message and the number that tells its kind; encryption is declined."""
        while True:
            size = await self._client.reader.readexactly(4)
            rest = await self._client.reader.readexactly(int.from_bytes(size) - 4)
            code = int.from_bytes(rest[:4])
            if code not in {SSL_REQUEST, GSS_REQUEST}:
                return size + rest, code
            await self._client.send(b"N")

    async def _pass_up(self, server: _Peer) -> None:
        while message := await _read_message(self._client.reader):
            executed = self._follow(message[:1], message[5:])
            if executed:
                exchange = self._book.receive("SQL", executed[0], body=executed[1])
                self._units[-1].exchanges.append(exchange)
                if not await self._begin(exchange):
                    return
                exchange.note(forwarded=1)
            await server.send(message)

    def _follow(self, kind: bytes, told: bytes) -> tuple[str, bytes] | None:
        """The statement that this message has executed, and its parameters."""
        if kind in b"PBDECHFQS" and self._is_synced:
            self._units.append(_Unit())
            self._is_synced = False
        executed = None
        match kind:
            case b"Q":
                executed = _single_spaced(told[:-1].decode()), b""
            case b"P":
                name, text, _ = told.split(b"\0", 2)
                self._statements[name] = _single_spaced(text.decode())
            case b"B":
                portal, name, parameters = told.split(b"\0", 2)
                self._portals[portal] = self._statements.get(name, ""), parameters
            case b"E":
                executed = self._portals.get(told.partition(b"\0")[0])
        if kind in b"QFS":
            self._is_synced = True
        return executed

    async def _pass_down(self, server: _Peer) -> None:
        while message := await _read_message(server.reader):
            unit = self._units[0] if self._units else _Unit()
            fault = unit.fault
            fate = fault.name if fault else ""
            rest = len(message)
            if fault and fate == "limit":
                rest = min(rest, fault.size_bytes - unit.given_bytes)
            unit.given_bytes += rest
            is_last = message[:1] == b"Z"
            if is_last:
                self._over(unit, _end_of(fate, is_whole=rest == len(message)))
            if fault and fate == "drip":
                await _drip(self._client, message, fault.seconds)
            elif fate != "execute_and_drop":
                await self._client.send(message[:rest])
            elif is_last:
                raise _Reset
            if rest < len(message):
                return

    def _over(self, unit: _Unit, end: End) -> None:
        if self._units:
            self._units.popleft()
        for exchange in unit.exchanges:
            exchange.note(replies=1, end=end)


def _end_of(fate: str, *, is_whole: bool) -> End:
    if fate == "execute_and_drop":
        return End.RESET
    return End.ANSWERED if is_whole else End.CUT


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    """A message with its kind and size; empty if the peer is gone."""
    try:
        head = await reader.readexactly(5)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return b""
    return head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


# -- small things ---------------------------------------------------------------------------------


async def _either(*acts: Coroutine[Any, Any, None]) -> None:
    """Returns or raises as the first of them that ends; the others are given up."""
    tasks = [asyncio.create_task(act) for act in acts]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()


async def _drip(client: _Peer, message: bytes, pause_seconds: float) -> None:
    for place in range(len(message)):
        await asyncio.sleep(pause_seconds)
        await client.send(message[place : place + 1])


def _first(headers: tuple[tuple[str, str], ...], wanted: str) -> str | None:
    return next((value for name, value in headers if name.lower() == wanted.lower()), None)


def _single_spaced(text: str) -> str:
    return " ".join(text.split())
