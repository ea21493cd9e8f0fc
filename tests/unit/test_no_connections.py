"""The guard of the unit tests: it stops the test's own connections, and nobody else's."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest


def test_a_connection_of_the_test_fails_it() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(pytest.fail.Exception, match="tried to connect"),
    ):
        socket.create_connection(server.getsockname())


def test_a_client_that_catches_errors_does_not_hide_it() -> None:
    with pytest.raises(pytest.fail.Exception, match="tried to connect"):
        httpx.get("http://127.0.0.1:9", trust_env=False)


def test_a_server_that_another_test_left_running_may_be_called() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(2) as others:
        accepted = others.submit(server.accept)
        called = others.submit(socket.create_connection, server.getsockname())
        for connection in (called.result(timeout=10), accepted.result(timeout=10)[0]):
            if isinstance(connection, socket.socket):
                connection.close()
