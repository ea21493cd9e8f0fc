"""A stack of its own whose Workbench is scripted: the real chain, and every story it can meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
import sqlalchemy as sa

from chain import Chain, broken_invariants
from local_stack import fresh_local_stack
from scripted_workbench import ScriptedWorkbench

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def one_chain() -> Iterator[Chain]:
    """Brought up once; tests take `chain`."""
    with ScriptedWorkbench() as workbench, fresh_local_stack("chain") as local:
        stack = local.up(WORKBENCH_API_URL=workbench.url)
        database = sa.create_engine(stack.database_url)
        with httpx.Client(base_url=stack.api_url, timeout=35, trust_env=False) as api:
            yield Chain(stack, workbench, api, database, local)
        database.dispose()


@pytest.fixture
def chain(one_chain: Chain) -> Iterator[Chain]:
    """The chain with a Workbench that keeps the contract; what a test leaves is looked at."""
    yield one_chain
    one_chain.workbench.script(submit=[], status=[], bulk_status=[], find=[], realtime=[])
    broken = broken_invariants(one_chain)
    assert not broken, broken
