"""A request and its answer have one time-out, whatever part of it is slow."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import httpx
import pytest

from runs.adapters.exchanges import NotSent, client_for, exchange

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHORT = timedelta(seconds=0.5)
LONG = timedelta(seconds=20)
# What never takes this long unless something is wrong.
DEADLINE_SECONDS = 10


@pytest.fixture
def port() -> Iterator[int]:
    """A server on 127.0.0.1 alone that answers every request with its body."""

    class Echo(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
    thread.join(DEADLINE_SECONDS)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Where connections are made and nothing is ever said or read."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def echoed(
    client: httpx.Client, url: str, body: bytes = b"x", *, within: timedelta = LONG
) -> bytes:
    return exchange(client, client.build_request("POST", url, content=body), timeout=within).body


def test_a_connection_serves_one_exchange_after_another(port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    with client_for(url) as client:
        assert [echoed(client, url, text) for text in (b"a", b"b")] == [b"a", b"b"]


def test_each_address_of_a_name_is_tried(port: int) -> None:
    def both(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.2", "127.0.0.1"]

    url = f"http://two.test:{port}"
    with client_for(url, look_up=both) as client:
        assert echoed(client, url) == b"x"


def test_an_address_that_is_silent_leaves_time_for_the_next(port: int) -> None:
    with ExitStack() as silent:
        listener = silent.enter_context(socket.socket())
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        for _ in range(4):  # Its queue is full: nobody else is answered.
            waiting = silent.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(("127.0.0.2", port))
        url = f"http://two.test:{port}"
        addresses = ["127.0.0.2", "127.0.0.1"]
        with client_for(url, connect_seconds=2, look_up=lambda _host, _port: addresses) as client:
            assert echoed(client, url) == b"x"


def test_a_name_without_an_address_is_sent_nothing() -> None:
    with (
        client_for("http://none.test", look_up=lambda _host, _port: []) as client,
        pytest.raises(httpx.ConnectError),
    ):
        echoed(client, "http://none.test")


@pytest.mark.parametrize("name", ["x" * 300, "a..b"])
def test_what_can_not_be_a_name_is_sent_nothing(name: str) -> None:
    def look_up(_host: str, port: int) -> Sequence[str]:
        return [str(one) for *_, one in socket.getaddrinfo(name, port)]

    with client_for("http://x.test", look_up=look_up) as client, pytest.raises(httpx.ConnectError):
        echoed(client, "http://x.test")


def test_without_time_nothing_is_sent(port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    with client_for(url) as client, pytest.raises(NotSent):
        echoed(client, url, within=timedelta(0))


def test_s10_a_tls_handshake_that_nobody_answers_is_not_waited_for(silent_port: int) -> None:
    began = time.monotonic()
    url = f"https://127.0.0.1:{silent_port}"
    with client_for(url) as client, pytest.raises(httpx.ConnectTimeout):
        echoed(client, url, within=SHORT)
    assert time.monotonic() - began < DEADLINE_SECONDS


def test_s10_connecting_has_less_time_where_that_is_asked_for(silent_port: int) -> None:
    began = time.monotonic()
    url = f"https://127.0.0.1:{silent_port}"
    with (
        client_for(url, connect_seconds=0.3) as client,
        pytest.raises(httpx.ConnectTimeout),
    ):
        echoed(client, url)
    assert time.monotonic() - began < LONG.total_seconds() / 2


def test_s10_a_request_that_is_not_taken_is_given_up(silent_port: int) -> None:
    began = time.monotonic()
    url = f"http://127.0.0.1:{silent_port}"
    with client_for(url) as client, pytest.raises(httpx.WriteTimeout):
        echoed(client, url, b"x" * 50_000_000, within=SHORT)
    assert time.monotonic() - began < DEADLINE_SECONDS
