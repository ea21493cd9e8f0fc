"""Unit tests open no socket: one that tries to fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_socket

from fakes import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _closed_sockets() -> Iterator[None]:
    """Event loops talk to themselves over a Unix socket; nothing else is let pass."""
    pytest_socket.disable_socket(allow_unix_socket=True)
    yield
    pytest_socket.enable_socket()


@pytest.fixture
def world() -> World:
    """The use cases on twins of every port."""
    return World()
