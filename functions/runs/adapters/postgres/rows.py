"""Rows to the domain's dataclasses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from runs.adapters.postgres.tables import (
    installation,
    pipeline_run_events,
    pipeline_runs,
    run_observations,
)
from runs.events import RunEvent
from runs.model import CancelCause, ErrorCategory, Observation, PipelineRun, Progress, RunError
from runs.status import PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

_CORRELATION_ID = (
    sa.select(sa.cast(installation.c.namespace, sa.Text)).scalar_subquery()
    + "-"
    + sa.cast(pipeline_runs.c.id, sa.Text)
)
_COLUMNS: Final = [
    *(column for column in pipeline_runs.c if column.name not in {"shard", "status_text"}),
    _CORRELATION_ID.label("correlation_id"),
    *(c for c in run_observations.c if c.name not in {"run_id", "tenant_id"}),
    sa.extract("epoch", sa.func.runs_now() - run_observations.c.last_checked_at).label(
        "staleness_seconds"
    ),
]
RUNS: Final = sa.select(*_COLUMNS).select_from(
    pipeline_runs.outerjoin(run_observations, run_observations.c.run_id == pipeline_runs.c.id)
)
EVENTS: Final = sa.select(
    pipeline_run_events, pipeline_runs.c.pipeline_id, pipeline_runs.c.tags
).select_from(
    pipeline_run_events.join(pipeline_runs, pipeline_runs.c.id == pipeline_run_events.c.run_id)
)


def run_of(row: Mapping[str, Any]) -> PipelineRun:
    """The run of a row."""
    error = None
    if row["error_message"] is not None:
        category = ErrorCategory(row["error_category"])
        error = RunError(row["error_code"], category, row["error_message"])
    return PipelineRun(
        id=row["id"],
        tenant_id=row["tenant_id"],
        pipeline_id=row["pipeline_id"],
        mode=PipelineMode(row["mode"]),
        status=PipelineRunStatus(row["status"]),
        version=row["version"],
        workflow_name=row["workflow_name"],
        workflow_version=row["workflow_version"],
        correlation_id=row["correlation_id"],
        workbench_job_id=row["workbench_job_id"],
        conductor_workflow_id=row["conductor_workflow_id"],
        error=error,
        user_storage_input_path_prefix=row["user_storage_input_path_prefix"],
        user_storage_output_path_prefix=row["user_storage_output_path_prefix"],
        user_storage_report_path_prefix=row["user_storage_report_path_prefix"],
        parameters=row["parameters"],
        tags=row["tags"],
        retry_of=row["retry_of"],
        request_id=row["request_id"],
        output=row["output"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        timeout_seconds=row["timeout_seconds"],
        cancel_requested_at=row["cancel_requested_at"],
        cancel_cause=CancelCause(row["cancel_cause"]) if row["cancel_cause"] else None,
        cancel_reason=row["cancel_reason"],
        submit_lease_until=row["submit_lease_until"],
        submit_attempts=row["submit_attempts"],
        next_check_at=row["next_check_at"],
        observation=_observation(row),
    )


def _observation(row: Mapping[str, Any]) -> Observation:
    """What checks have seen; nothing for a run that was just written or never checked."""
    if row.get("consecutive_failures") is None:
        return Observation()
    progress = None
    if row["progress_done"] is not None and row["progress_total"] is not None:
        progress = Progress(row["progress_done"], row["progress_total"])
    staleness = row["staleness_seconds"]
    return Observation(
        last_checked_at=row["last_checked_at"],
        upstream_status=row["upstream_status"],
        progress=progress,
        logs_url=row["logs_url"],
        consecutive_failures=row["consecutive_failures"],
        last_error=row["last_error"],
        staleness_seconds=None if staleness is None else float(staleness),
        unknown_since=row["unknown_since"],
        unknown_count=row["unknown_count"],
    )


def event_of(row: Mapping[str, Any]) -> RunEvent:
    """The event of a row."""
    previous = row["previous_status"]
    return RunEvent(
        run_id=row["run_id"],
        pipeline_id=row["pipeline_id"],
        version=row["version"],
        previous_status=PipelineRunStatus(previous) if previous else None,
        status=PipelineRunStatus(row["status"]),
        at=row["at"],
        error_message=row["error"],
        tags=row["tags"],
    )


def first_event(run: PipelineRun) -> RunEvent:
    """The event of a run that was just recorded."""
    return RunEvent(
        run_id=run.id,
        pipeline_id=run.pipeline_id,
        version=run.version,
        previous_status=None,
        status=run.status,
        at=run.created_at,
        error_message=None,
        tags=run.tags,
    )
