"""What a job has found out, as values; the manifest and both reports are made of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.workbench.profiles import ColumnProfile
    from infra.workbench.tables import Changes, TableKind


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """A file in the storage; `name` is its name below its prefix."""

    name: str
    uri: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class TableFacts:
    """What was found in a table, and what was done to it."""

    kind: TableKind
    rows_read: int
    rows_written: int
    changes: Changes
    columns: tuple[ColumnProfile, ...]

    @property
    def missing_cells(self) -> int:
        """Cells without a value, after cleaning."""
        return sum(column.missing for column in self.columns)

    @property
    def cells(self) -> int:
        """All cells, after cleaning."""
        return self.rows_written * len(self.columns)


@dataclass(frozen=True, kw_only=True)
class ObjectFacts:
    """One object of the input and what became of it; `table` is None if it was copied."""

    source: FileFacts
    target: FileFacts
    table: TableFacts | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobFacts:
    """Everything a job has found out; `started_at` is ISO 8601, UTC."""

    workbench_job_id: str
    pipeline_run_id: int
    input: str
    output: str
    started_at: str
    objects: tuple[ObjectFacts, ...]

    @property
    def tables(self) -> tuple[tuple[ObjectFacts, TableFacts], ...]:
        """Those that were worked on as tables."""
        return tuple((one, one.table) for one in self.objects if one.table)

    @property
    def copied(self) -> tuple[ObjectFacts, ...]:
        """Those that were copied."""
        return tuple(one for one in self.objects if not one.table)

    def totals(self) -> dict[str, int]:
        """Sums over all objects."""
        tables = [table for _, table in self.tables]
        return {
            "objects": len(self.objects),
            "tables": len(tables),
            "bytes_read": sum(one.source.size_bytes for one in self.objects),
            "bytes_written": sum(one.target.size_bytes for one in self.objects),
            "rows_read": sum(table.rows_read for table in tables),
            "rows_written": sum(table.rows_written for table in tables),
            "cells": sum(table.cells for table in tables),
            "missing_cells": sum(table.missing_cells for table in tables),
        }

    def manifest(self) -> bytes:
        """Inputs and results with checksums and row counts, as JSON."""
        return self._to_json([_in_short(one) for one in self.objects])

    def report(self) -> bytes:
        """The manifest and all facts about all columns, as JSON."""
        return self._to_json([asdict(one) for one in self.objects])

    def _to_json(self, objects: list[dict[str, Any]]) -> bytes:
        whole = {
            "workbench_job_id": self.workbench_job_id,
            "pipeline_run_id": self.pipeline_run_id,
            "input": self.input,
            "output": self.output,
            "started_at": self.started_at,
            "totals": self.totals(),
            "objects": objects,
        }
        return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False).encode()


def _in_short(one: ObjectFacts) -> dict[str, Any]:
    short: dict[str, Any] = {
        "source": asdict(one.source),
        "target": asdict(one.target),
        "note": one.note,
    }
    if one.table:
        short |= {
            "kind": one.table.kind,
            "rows_read": one.table.rows_read,
            "rows_written": one.table.rows_written,
            "columns": [column.name for column in one.table.columns],
            "changes": asdict(one.table.changes),
        }
    return short
