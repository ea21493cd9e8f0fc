"""The pipelines' table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from runs.adapters.postgres.database import DataRefused
from runs.adapters.postgres.tables import pipelines
from runs.errors import PipelineExists, PipelineNotFound
from runs.model import Pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runs.adapters.postgres.database import Database
    from runs.status import PipelineMode


@dataclass(frozen=True, slots=True)
class PostgresPipelines:
    """`ports.Pipelines` on Postgres."""

    database: Database

    def create_pipeline(
        self,
        *,
        tenant_id: str,
        name: str,
        mode: PipelineMode,
        workflow_name: str,
        workflow_version: int | None,
        enabled: bool = True,
        disabled_reason: str | None = None,
        max_active_runs: int | None = None,
        timeout_seconds: int | None = None,
    ) -> Pipeline:
        """See `ports.Pipelines`."""
        wanted = {
            "tenant_id": tenant_id,
            "name": name,
            "mode": mode,
            "workflow_name": workflow_name,
            "workflow_version": workflow_version,
            "enabled": enabled,
            "disabled_reason": disabled_reason,
            "max_active_runs": max_active_runs,
            "timeout_seconds": timeout_seconds,
        }
        insertion = (
            insert(pipelines).values(wanted).on_conflict_do_nothing().returning(*pipelines.c)
        )
        # A statement of its own: it sees what the insertion has waited for.
        the_same = sa.select(pipelines).where(
            *(pipelines.c[field].is_not_distinct_from(value) for field, value in wanted.items())
        )
        rows = self.database.rows(insertion) or self.database.rows(the_same)
        if not rows:
            raise PipelineExists(name)
        return Pipeline(**rows[0])

    def pipeline(self, pipeline_id: int, *, tenant_id: str) -> Pipeline:
        """See `ports.Pipelines`."""
        rows = self.database.rows(sa.select(pipelines).where(_is(pipeline_id, tenant_id)))
        return _only(rows, pipeline_id)

    def pipelines(
        self, *, tenant_id: str, page_size: int, before: int | None
    ) -> Sequence[Pipeline]:
        """See `ports.Pipelines`."""
        statement = (
            sa.select(pipelines)
            .where(pipelines.c.tenant_id == tenant_id)
            .order_by(pipelines.c.id.desc())
            .limit(page_size)
        )
        if before is not None:
            statement = statement.where(pipelines.c.id < before)
        return [Pipeline(**row) for row in self.database.rows(statement)]

    def change_pipeline(
        self, pipeline_id: int, changes: Mapping[str, object], *, tenant_id: str
    ) -> Pipeline:
        """See `ports.Pipelines`."""
        statement = (
            sa.update(pipelines)
            .where(_is(pipeline_id, tenant_id))
            .values(
                **changes,
                updated_at=sa.func.greatest(sa.func.runs_now(), pipelines.c.updated_at),
            )
            .returning(*pipelines.c)
        )
        try:
            return _only(self.database.rows(statement), pipeline_id)
        except DataRefused as error:
            raise PipelineExists(str(changes.get("name"))) from error


def _is(pipeline_id: int, tenant_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(pipelines.c.id == pipeline_id, pipelines.c.tenant_id == tenant_id)


def _only(rows: Sequence[Mapping[str, Any]], pipeline_id: int) -> Pipeline:
    if not rows:
        raise PipelineNotFound(pipeline_id)
    return Pipeline(**rows[0])
