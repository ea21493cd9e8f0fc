"""Real parts with a fault proxy before each; after every test the invariants are looked at."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from fault_bench import Bench, Queues
from fault_proxy import FaultProxy
from runs_stores import FUNCTIONS, PostgresStore
from scripted_workbench import ScriptedWorkbench

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa

    from real_parts import RealPart


@pytest.fixture
def bench(database_url: sa.URL, conductor_part: RealPart, aws_part: RealPart) -> Iterator[Bench]:
    """The service on real parts, none of which fails yet."""
    with ExitStack() as stack:
        workbench = stack.enter_context(ScriptedWorkbench())
        store = stack.enter_context(closing(PostgresStore(database_url)))
        # Conductor outlives a test, run ids begin anew: what it knows must not be taken for ours.
        store.execute("UPDATE installation SET namespace = gen_random_uuid()")
        functions = database_url.set(username=FUNCTIONS, password=FUNCTIONS)
        database = functions.render_as_string(hide_password=False)
        to_database, to_conductor, to_workbench, to_aws = (
            stack.enter_context(FaultProxy(url))
            for url in (database, conductor_part.url, workbench.url, aws_part.url)
        )
        bench = Bench(
            store=store,
            queues=stack.enter_context(closing(Queues.made(aws_part.url))),
            workbench=workbench,
            to_database=to_database,
            to_conductor=to_conductor,
            to_workbench=to_workbench,
            to_aws=to_aws,
        )
        stack.callback(bench.close)
        yield bench
        report = bench.verified()
        assert report.holds, "\n".join(report.broken)
