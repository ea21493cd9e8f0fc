"""One deployed stack for the whole session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.local.stack_file import Stack, read_stack
from local_stack import LocalStack, fresh_local_stack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def local_stack() -> Iterator[LocalStack]:
    """The session's stack, for tests that look at its processes; up already."""
    with fresh_local_stack("e2e") as local_stack:
        local_stack.up()
        yield local_stack


@pytest.fixture(scope="session")
def stack(local_stack: LocalStack) -> Stack:
    """What runs where, as its stack.json tells it; runs are polled every ten seconds."""
    stack = read_stack(local_stack.layout)
    assert stack is not None
    return stack
