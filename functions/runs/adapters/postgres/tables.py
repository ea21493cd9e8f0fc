"""The tables that the queries are built on; the migrations make them, a test compares the two."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from runs.status import PipelineMode, PipelineRunStatus

metadata = sa.MetaData()

_MOMENT = sa.DateTime(timezone=True)
_NOW = sa.text("runs_now()")
_MODE = sa.Enum(PipelineMode, name="pipeline_mode")
STATUS = sa.Enum(PipelineRunStatus, name="pipeline_run_status")


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant_id", sa.Text, nullable=False, server_default="default")


installation = sa.Table(
    "installation",
    metadata,
    sa.Column("only_row", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("namespace", sa.Uuid, nullable=False),
)

pipelines = sa.Table(
    "pipelines",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    _tenant(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("mode", _MODE, nullable=False),
    sa.Column("workflow_name", sa.String(255), nullable=False),
    sa.Column("workflow_version", sa.Integer),
    sa.Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    sa.Column("updated_at", _MOMENT, nullable=False, server_default=_NOW),
    sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("disabled_reason", sa.Text),
    sa.Column("max_active_runs", sa.Integer),
    sa.Column("timeout_seconds", sa.Integer),
)

_STATUS_TEXT = " ".join(f"WHEN '{status}' THEN '{status}'" for status in PipelineRunStatus)

pipeline_runs = sa.Table(
    "pipeline_runs",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    _tenant(),
    sa.Column("pipeline_id", sa.BigInteger, nullable=False),
    sa.Column("mode", _MODE, nullable=False),
    sa.Column("status", STATUS, nullable=False, server_default="CREATED"),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("workflow_name", sa.String(255), nullable=False),
    sa.Column("workflow_version", sa.Integer),
    sa.Column("workbench_job_id", sa.String(255)),
    sa.Column("conductor_workflow_id", sa.String(255)),
    sa.Column("error_message", sa.Text),
    sa.Column("error_code", sa.String(64)),
    sa.Column("error_category", sa.String(16)),
    sa.Column("user_storage_input_path_prefix", sa.String(1024)),
    sa.Column("user_storage_output_path_prefix", sa.String(1024)),
    sa.Column("user_storage_report_path_prefix", sa.String(1024)),
    sa.Column("parameters", postgresql.JSONB),
    sa.Column("tags", postgresql.JSONB, nullable=False, server_default="{}"),
    sa.Column("output", postgresql.JSONB),
    sa.Column("retry_of", sa.BigInteger),
    sa.Column("request_id", sa.Text),
    sa.Column("started_at", _MOMENT),
    sa.Column("completed_at", _MOMENT),
    sa.Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    sa.Column("updated_at", _MOMENT, nullable=False, server_default=_NOW),
    sa.Column("timeout_seconds", sa.Integer, nullable=False, server_default="604800"),
    sa.Column("cancel_requested_at", _MOMENT),
    sa.Column("cancel_cause", sa.String(16)),
    sa.Column("cancel_reason", sa.Text),
    sa.Column("submit_lease_until", _MOMENT),
    sa.Column("submit_attempts", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("next_check_at", _MOMENT),
    sa.Column("shard", sa.SmallInteger, sa.Computed("id % 256", persisted=True), nullable=False),
    sa.Column(
        "status_text",
        sa.Text,
        sa.Computed(f"CASE status {_STATUS_TEXT} END", persisted=True),
        nullable=False,
    ),
)

run_observations = sa.Table(
    "run_observations",
    metadata,
    sa.Column("run_id", sa.BigInteger, primary_key=True),
    _tenant(),
    sa.Column("last_checked_at", _MOMENT),
    sa.Column("upstream_status", sa.String(64)),
    sa.Column("progress_done", sa.BigInteger),
    sa.Column("progress_total", sa.BigInteger),
    sa.Column("logs_url", sa.Text),
    sa.Column("consecutive_failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("last_error", sa.Text),
    sa.Column("unknown_since", _MOMENT),
    sa.Column("unknown_count", sa.Integer, nullable=False, server_default="0"),
)

pipeline_run_events = sa.Table(
    "pipeline_run_events",
    metadata,
    sa.Column("run_id", sa.BigInteger, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    _tenant(),
    sa.Column("previous_status", STATUS),
    sa.Column("status", STATUS, nullable=False),
    sa.Column("at", _MOMENT, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("published_at", _MOMENT),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True, server_default="default"),
    sa.Column("route", sa.Text, primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("run_id", sa.BigInteger, nullable=False),
)

workbench_breakers = sa.Table(
    "workbench_breakers",
    metadata,
    sa.Column("workbench", sa.Text, primary_key=True),
    sa.Column("last_valid_at", _MOMENT),
    sa.Column("failing_since", _MOMENT),
    sa.Column("opened_at", _MOMENT),
    sa.Column("closed_at", _MOMENT),
    sa.Column("probe_at", _MOMENT),
)

stray_checks = sa.Table(
    "stray_checks",
    metadata,
    sa.Column("run_id", sa.BigInteger, primary_key=True),
    _tenant(),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    sa.Column("job_ids", postgresql.JSONB, nullable=False, server_default="[]"),
    sa.Column("looks", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("next_look_at", _MOMENT, server_default=sa.text("runs_now() + INTERVAL '1 minute'")),
    sa.Column("jobs_cancelled", sa.Integer, nullable=False, server_default="0"),
)
