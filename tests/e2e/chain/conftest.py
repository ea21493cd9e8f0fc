"""A stack of its own whose Workbench is scripted: the real chain, and every story it can meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from rich.console import Console

from chain import Chain
from infra.verify.display import show
from infra.verify.report import Demand
from local_stack import api_of, fresh_local_stack
from scripted_workbench import ScriptedWorkbench

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.verify.report import Report

REPORT_WIDTH = 100


@pytest.fixture(scope="session")
def one_chain(request: pytest.FixtureRequest) -> Iterator[Chain]:
    """Brought up once; tests take `chain`. All of them together leave nothing usual unjudged."""
    with ScriptedWorkbench() as workbench, fresh_local_stack("chain") as local:
        stack = local.up(WORKBENCH_API_URL=workbench.url)
        # Without a pool, for tests kill the server.
        database = sa.create_engine(stack.database_url, poolclass=sa.NullPool)
        with api_of(stack) as api:
            chain = Chain(workbench, api, database, local)
            yield chain
            demand = Demand.USUAL if _all_are_to_run(request.config) else Demand.NOTHING
            report = chain.verified(demand)
        database.dispose()
    show(report, Console(width=REPORT_WIDTH))
    _refuse_broken(report)


@pytest.fixture
def chain(one_chain: Chain) -> Iterator[Chain]:
    """The chain with a Workbench that keeps the contract; what a test leaves is looked at."""
    yield one_chain
    one_chain.workbench.script(
        submit=[], status=[], bulk_status=[], cancel=[], find=[], realtime=[], capabilities=[]
    )
    _refuse_broken(one_chain.verified())


def _refuse_broken(report: Report) -> None:
    assert report.holds, "\n".join(report.broken)


def _all_are_to_run(config: pytest.Config) -> bool:
    """Whether no test of this folder was left out: then what they judged has to be complete."""
    some = any("::" in word or word.endswith(".py") for word in config.args)
    return not (some or config.getoption("keyword") or config.getoption("lf", default=False))
