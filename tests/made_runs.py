"""Runs for tests of the database's ports, made by the ports alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from runs.model import ErrorCategory, Finding, NewRun, RunError, transition
from runs.status import PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runs.model import Pipeline, PipelineRun
    from runs.ports import Recorded
    from runs_stores import Store

S = PipelineRunStatus
TENANT: Final = "default"
ROUTE: Final = "POST /pipeline-run"
WORKBENCH: Final = "http://workbench.test"
ERROR: Final = RunError("job_failed", ErrorCategory.UPSTREAM, "out of memory")
NUMBERS: Final = count(1)


def make_pipeline(
    store: Store,
    *,
    name: str = "daily",
    tenant_id: str = TENANT,
    mode: PipelineMode = PipelineMode.BATCH,
    workflow_version: int | None = None,
    **more: Any,
) -> Pipeline:
    return store.pipelines.create_pipeline(
        tenant_id=tenant_id,
        name=name,
        mode=mode,
        workflow_name="batch_pipeline_workflow",
        workflow_version=workflow_version,
        **more,
    )


def new_run(pipeline: Pipeline, **parts: Any) -> NewRun:
    plain = NewRun(
        tenant_id=pipeline.tenant_id,
        pipeline_id=pipeline.id,
        input_path_prefix="in/1",
        output_path_prefix="s3://bucket/out",
        report_path_prefix=None,
        parameters=None,
        tags={},
    )
    return replace(plain, **parts)


def recorded(
    store: Store,
    new: NewRun,
    *,
    route: str = ROUTE,
    key: str | None = None,
    fingerprint: str = "f",
    lease: timedelta | None = None,
) -> Recorded:
    """Under a key of its own, if none is given."""
    own = key or f"key-{next(NUMBERS)}"
    return store.runs.record(new, route=route, key=own, fingerprint=fingerprint, lease=lease)


def record(
    store: Store, pipeline: Pipeline, *, lease: timedelta | None = None, **parts: Any
) -> PipelineRun:
    """A run that is CREATED, by default under nobody's lease."""
    return recorded(store, new_run(pipeline, **parts), lease=lease).run


def read(store: Store, run: PipelineRun) -> PipelineRun:
    return store.runs.run(run.id, tenant_id=run.tenant_id)


def moved(
    store: Store, run: PipelineRun, to: PipelineRunStatus, *, wait: bool = False, **parts: Any
) -> PipelineRun:
    """The run after a transition that must succeed."""
    if to is S.FAILED:
        parts = {"error": ERROR} | parts
    change = transition(run, to, **parts)
    assert change
    assert store.runs.move([change], wait=wait)
    return read(store, run)


def submit(store: Store, run: PipelineRun, **parts: Any) -> PipelineRun:
    return moved(store, run, S.SUBMITTED, workbench_job_id=f"job-{run.id}", **parts)


def submitted(store: Store, pipeline: Pipeline, **parts: Any) -> PipelineRun:
    """A run that has a job."""
    return submit(store, record(store, pipeline, **parts))


def at(store: Store, run: PipelineRun, status: PipelineRunStatus) -> PipelineRun:
    """The CREATED run after its walk to a status."""
    if status is S.CREATED:
        return run
    run = submit(store, run)
    return run if status is S.SUBMITTED else moved(store, run, status)


def now_of(store: Store) -> datetime:
    """`runs_now()`."""
    return store.runs.active([], workbench=WORKBENCH).now


def trouble(
    store: Store,
    runs: Sequence[PipelineRun],
    *,
    unknown_job: bool = False,
    asked_ago: timedelta = timedelta(0),
) -> None:
    """Has the runs' checks fail; they may be asked again since `asked_ago`."""
    next_check_at = now_of(store) - asked_ago
    store.runs.observe(
        [
            Finding(
                run_id=run.id,
                trouble="no answer",
                unknown_job=unknown_job,
                next_check_at=next_check_at,
            )
            for run in runs
        ]
    )


def close_to(moment: datetime | None, expected: datetime) -> bool:
    """Whether it is that moment, but for the time that the test itself takes."""
    return moment is not None and abs(moment - expected) < timedelta(seconds=10)
