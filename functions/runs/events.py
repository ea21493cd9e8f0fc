"""A step in a run's history; also what is told to the event bus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from runs.status import PipelineRunStatus

SOURCE: Final = "pipeline-runs"
DETAIL_TYPE: Final = "Pipeline Run Status Changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One status that a run entered. `(run_id, version)` orders and de-duplicates."""

    run_id: int
    pipeline_id: int
    version: int
    previous_status: PipelineRunStatus | None
    status: PipelineRunStatus
    at: datetime
    error_message: str | None
    tags: Mapping[str, str]

    @property
    def detail(self) -> dict[str, object]:
        """The event's detail on the bus, as JSON."""
        return {
            "run_id": self.run_id,
            "pipeline_id": self.pipeline_id,
            "status": self.status,
            "previous_status": self.previous_status,
            "version": self.version,
            "at": self.at.isoformat(),
            "tags": dict(self.tags),
        }
