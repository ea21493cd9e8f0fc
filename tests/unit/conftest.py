"""Unit tests open no connection: one that tries to fails."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from fakes import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def no_connections() -> Iterator[None]:
    """Refuses connections of the test's thread, but for Unix sockets.

    Other threads belong to servers of other tests, which this process may still run: a stack is
    shared by a folder, and its functions call when they please.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _refusing(getattr(socket.socket, name)))
        yield


def _refusing(connect: Callable[[socket.socket, object], object]) -> Callable[..., object]:
    def guarded(self: socket.socket, address: object) -> object:
        if threading.current_thread() is threading.main_thread() and self.family != socket.AF_UNIX:
            self.close()
            pytest.fail(f"A unit test tried to connect to {address}.")
        return connect(self, address)

    return guarded


@pytest.fixture
def world() -> World:
    """The use cases on twins of every port."""
    return World()
