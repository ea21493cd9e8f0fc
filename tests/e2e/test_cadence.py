"""How often an active run is asked about at the default interval, by the Workbench's journal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import pytest

from local_stack import api_of, fresh_local_stack
from scripted_workbench import ScriptedWorkbench

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.local.stack_file import Stack

MINUTES = 5


@pytest.fixture(scope="module")
def workbench() -> Iterator[ScriptedWorkbench]:
    """Its jobs never end by themselves."""
    with ScriptedWorkbench(life=["RUNNING"]) as workbench:
        yield workbench


@pytest.fixture(scope="module")
def stack(workbench: ScriptedWorkbench) -> Iterator[Stack]:
    with fresh_local_stack("cadence") as local:
        yield local.up(WORKBENCH_API_URL=workbench.url, POLL_INTERVAL_SECONDS="30")


@pytest.mark.prove
@pytest.mark.parametrize("others", [0, 200], ids=["alone", "among 200 others"])
def test_p14_an_active_run_is_asked_about_every_thirty_seconds(
    stack: Stack, workbench: ScriptedWorkbench, others: int
) -> None:
    with api_of(stack) as api:
        pipeline = {
            "name": f"{others}",
            "mode": "BATCH",
            "workflow_name": "batch_pipeline_workflow",
        }
        pipeline_id = api.post("/pipeline", json=pipeline).json()["id"]
        body = {"pipeline_id": pipeline_id, "input_path_prefix": "i/", "output_path_prefix": "o/"}
        with ThreadPoolExecutor(4) as pool:
            answers = list(
                pool.map(lambda _: api.post("/pipeline-run", json=body), range(others + 1))
            )
        runs = [answer.json()["id"] for answer in answers]
    looks = 2 * MINUTES
    gaps = [gap for run in runs for gap in gaps_between_looks(workbench, run, looks)]
    figures = f"{len(gaps)} gaps: {min(gaps):.1f} … {median(gaps):.1f} … {max(gaps):.1f} s"
    print(figures)  # noqa: T201  # the figures are worth reading also when all is well
    assert min(gaps) >= 15
    assert max(gaps) <= 45
    assert 28 <= median(gaps) <= 32


def gaps_between_looks(workbench: ScriptedWorkbench, run: int, looks: int) -> list[float]:
    """Waits for so many looks at the run's job, and returns the seconds between them."""

    def at() -> list[float]:
        calls = [
            *workbench.calls_of("status", run=run),
            *workbench.calls_of("bulk_status", run=run),
        ]
        return sorted(call.at for call in calls)

    workbench.wait_for(lambda: len(at()) > looks, within_seconds=60 * (MINUTES + 2))
    return [later - earlier for earlier, later in pairwise(at())]
