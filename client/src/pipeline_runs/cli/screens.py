"""What people see: runs, pipelines and histories as rich renders them.

Colour says what a text says too, never alone; nothing here knows the API.
"""

from __future__ import annotations

import json
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline_runs.models import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from rich.console import RenderableType

    from pipeline_runs.models import (
        Observation,
        Pipeline,
        PipelineRun,
        RunEvent,
        StoredObject,
    )

STYLES: Final = MappingProxyType(
    {
        Status.CREATED: "cyan",
        Status.SUBMITTED: "blue",
        Status.RUNNING: "yellow",
        Status.COMPLETED: "green",
        Status.FAILED: "bold red",
        Status.CANCELLED: "magenta",
    }
)
SIGNS: Final = MappingProxyType(
    {
        Status.CREATED: "○",
        Status.SUBMITTED: "◔",
        Status.RUNNING: "◑",
        Status.COMPLETED: "●",
        Status.FAILED: "✗",
        Status.CANCELLED: "⊘",
    }
)
BAR_WIDTH: Final = 14
HEADER: Final = "dim"
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def foreign(text: str, style: str = "") -> Text:
    """Somebody else's words: what would steer the terminal is shown as a sign."""
    return Text(_CONTROLS.sub("\ufffd", text), style=style)


def status_text(status: Status) -> Text:
    """A status with its sign."""
    return Text(f"{SIGNS[status]} {status}", style=STYLES[status])


def duration_text(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def age_text(at: datetime, now: datetime) -> str:
    """How long ago it was, roughly."""
    seconds = (now - at).total_seconds()
    if seconds < 60:
        return f"{max(round(seconds), 0)} s ago"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return ""


def moment_text(at: datetime, now: datetime) -> str:
    """In this machine's time zone, and how long ago."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S} ({age_text(at, now)})"


def size_text(size: float) -> str:
    """In binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def took_text(run: PipelineRun, now: datetime) -> str:
    """From its creation to its end, or until now."""
    return duration_text(((run.completed_at or now) - run.created_at).total_seconds())


# -- runs -----------------------------------------------------------------------------------------


def runs_table(
    runs: Sequence[PipelineRun], names: Mapping[int, str], now: datetime
) -> RenderableType:
    """A line for each."""
    table = _table()
    table.add_column("RUN", justify="right", no_wrap=True)
    table.add_column("STATUS", no_wrap=True)
    table.add_column("PIPELINE", overflow="ellipsis", no_wrap=True, max_width=28)
    table.add_column("CREATED", no_wrap=True)
    table.add_column("TOOK", justify="right", no_wrap=True)
    table.add_column("NEWS")  # Its texts don't wrap; the column may, so that it is what gives way.
    for run in runs:
        table.add_row(
            str(run.id),
            status_text(run.status),
            foreign(names.get(run.pipeline_id, f"pipeline {run.pipeline_id}")),
            age_text(run.created_at, now),
            took_text(run, now),
            _news(run),
        )
    return table


def run_view(run: PipelineRun, name: str, now: datetime) -> RenderableType:
    """Everything that a person asks about one run."""
    head = Text.assemble(
        ("Run ", "bold"), (str(run.id), "bold"), "  ", status_text(run.status), "  ", foreign(name)
    )
    if run.mode == "REALTIME":
        head.append("  REALTIME", style="dim")
    table = _facts()
    for fact, told in _facts_of(run, now):
        table.add_row(fact, told)
    parts: list[RenderableType] = [head, Padding(table, (0, 0, 0, 2), expand=False)]
    if run.error is not None:
        parts.insert(1, Padding(_error(run), (0, 0, 0, 2), expand=False))
    return Group(*parts)


def next_steps(run: PipelineRun) -> list[str]:
    """What one does with such a run; the first is what most do."""
    if not run.has_ended:
        return [f"pipeline-run watch {run.id}", f"pipeline-run cancel {run.id}"]
    if run.status is Status.COMPLETED:
        return [f"pipeline-run outputs {run.id} --download DIR"]
    return [f"pipeline-run events {run.id}", f"pipeline-run retry {run.id}"]


def steps_view(steps: Iterable[str]) -> Text:
    """Commands to copy, and nothing beside them."""
    return Text("\n".join(f"  $ {step}" for step in steps), style="dim")


def events_view(events: Sequence[RunEvent]) -> RenderableType:
    """A run's history, each status with how long the run was in it."""
    table = _table()
    table.add_column("AT", no_wrap=True)
    table.add_column("AFTER", justify="right", no_wrap=True)
    table.add_column("STATUS", no_wrap=True)
    table.add_column("", overflow="fold", ratio=1)
    for event in events:
        after = (event.at - events[0].at).total_seconds()
        table.add_row(
            f"{event.at.astimezone():%Y-%m-%d %H:%M:%S}",
            duration_text(after),
            status_text(event.status),
            foreign(event.error or ""),
        )
    return table


def _facts_of(run: PipelineRun, now: datetime) -> list[tuple[str, RenderableType]]:
    seen = run.observation
    facts: list[tuple[str, RenderableType | None]] = [
        ("created", moment_text(run.created_at, now)),
        ("took" if run.has_ended else "since then", took_text(run, now)),
        ("progress", _progress(seen) if seen.progress else None),
        ("input", foreign(run.user_storage_input_path_prefix)),
        ("output", foreign(run.user_storage_output_path_prefix)),
        ("report", _optional(run.user_storage_report_path_prefix)),
        ("tags", _optional(", ".join(f"{n}={v}" for n, v in run.tags.items()))),
        ("parameters", _json(run.parameters) if run.parameters else None),
        ("result", _json(run.output) if run.output is not None else None),
        ("job", _optional(run.workbench_job_id)),
        ("last check", _checked(seen, now)),
        ("trouble", foreign(seen.last_error, style="yellow") if seen.last_error else None),
        ("logs", _optional(seen.logs_url)),
        ("cancelling", _cancelling(run, now)),
        ("retry of", str(run.retry_of) if run.retry_of else None),
    ]
    return [(name, told) for name, told in facts if told is not None]


def _error(run: PipelineRun) -> Text:
    if run.error is None:
        return Text()
    return Text.assemble(
        foreign(run.error.message, style="red"),
        (f"  ({run.error.category} {run.error.code})", "dim"),
    )


def _cancelling(run: PipelineRun, now: datetime) -> Text | None:
    if run.cancel_requested_at is None:
        return None
    why = f": {run.cancel_reason}" if run.cancel_reason else ""
    who = "out of time" if run.cancel_cause == "TIMEOUT" else "asked for"
    return foreign(f"{who} {age_text(run.cancel_requested_at, now)}{why}")


def _checked(seen: Observation, now: datetime) -> Text | None:
    if seen.last_checked_at is None:
        return None
    upstream = f"; the Workbench says {seen.upstream_status}" if seen.upstream_status else ""
    return foreign(f"{age_text(seen.last_checked_at, now)}{upstream}")


def _news(run: PipelineRun) -> RenderableType:
    if run.error is not None:
        return _line(run.error.message, style="red")
    if not run.has_ended and run.cancel_requested_at is not None:
        return _line("is being cancelled")
    if not run.has_ended and run.observation.last_error:
        return _line(run.observation.last_error, style="yellow")
    if not run.has_ended and run.observation.progress:
        return _progress(run.observation)
    return _line(", ".join(f"{n}={v}" for n, v in run.tags.items()), style="dim")


def _line(text: str, style: str = "") -> Text:
    """The first line of it, and as much of that as there is room for."""
    line = foreign((text.splitlines() or [""])[0], style=style)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _progress(seen: Observation) -> RenderableType:
    if seen.progress is None:
        return Text()
    done, total = seen.progress.done, seen.progress.total
    bar = ProgressBar(total=max(total, 1), completed=done, width=BAR_WIDTH)
    line = Table.grid(padding=(0, 1))
    line.add_row(bar, f"{done}/{total}")
    return line


# -- pipelines and objects ------------------------------------------------------------------------


def pipelines_table(pipelines: Iterable[Pipeline]) -> RenderableType:
    """A line for each."""
    table = _table()
    table.add_column("ID", justify="right", no_wrap=True)
    table.add_column("NAME", overflow="fold")
    table.add_column("MODE", no_wrap=True)
    table.add_column("WORKFLOW", overflow="fold")
    table.add_column("STATE", overflow="fold")
    for pipeline in pipelines:
        table.add_row(
            str(pipeline.id),
            foreign(pipeline.name),
            pipeline.mode,
            foreign(_workflow(pipeline)),
            _enabled(pipeline),
        )
    return table


def pipeline_view(pipeline: Pipeline, now: datetime) -> RenderableType:
    """Everything about one."""
    head = Text.assemble(foreign(pipeline.name, style="bold"), "  ", _enabled(pipeline))
    limit = pipeline.timeout_seconds
    table = _facts()
    table.add_row("id", str(pipeline.id))
    table.add_row("mode", pipeline.mode)
    table.add_row("workflow", foreign(_workflow(pipeline)))
    most = pipeline.max_active_runs
    table.add_row("active runs", f"at most {most}" if most else "any number")
    table.add_row("time for a run", duration_text(limit) if limit else "the service's default")
    table.add_row("created", moment_text(pipeline.created_at, now))
    table.add_row("changed", moment_text(pipeline.updated_at, now))
    return Group(head, Padding(table, (0, 0, 0, 2), expand=False))


def objects_table(objects: Sequence[StoredObject]) -> RenderableType:
    """A line for each, and their sum."""
    table = _table()
    table.add_column("SIZE", justify="right", no_wrap=True)
    table.add_column("NAME", overflow="fold")
    for found in objects:
        table.add_row(size_text(found.size_bytes), foreign(found.name))
    return table


def count_text(number: int, one: str, many: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {one if number == 1 else many}"


def _enabled(pipeline: Pipeline) -> Text:
    if pipeline.enabled:
        return Text("enabled", style="green")
    why = f": {pipeline.disabled_reason}" if pipeline.disabled_reason else ""
    return foreign(f"disabled{why}", style="yellow")


def _workflow(pipeline: Pipeline) -> str:
    version = pipeline.workflow_version
    return f"{pipeline.workflow_name} v{version}" if version else pipeline.workflow_name


def _table() -> Table:
    return Table(box=None, pad_edge=False, header_style=HEADER, padding=(0, 2, 0, 0))


def _facts() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _optional(text: str | None) -> Text | None:
    return foreign(text) if text else None


def _json(value: object) -> Text:
    return foreign(json.dumps(value, ensure_ascii=False))
