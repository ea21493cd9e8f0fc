"""Brings one part up: recognised if it runs, replaced if it isn't well, watched until ready."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from infra.local import ports
from infra.local.processes import (
    ProcessRecord,
    birth,
    end_families,
    forget,
    read_record,
    start,
    write_record,
)
from infra.local.trouble import PartFailed

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from infra.local.layout import Layout
    from infra.local.parts.part import Part, Say
    from infra.local.steps import Halt

LOOK_AGAIN_SECONDS = 0.05
PATIENCE_SECONDS = 5
"""How long a part that should be up already has to show it."""
STOP_SECONDS = 2
LOG_QUOTE_BYTES = 16_384


def bring_up(
    part: Part,
    layout: Layout,
    halt: Halt,
    say: Say,
    *,
    on_start: Callable[[ProcessRecord], None] = lambda _: None,
) -> tuple[ProcessRecord, bool]:
    """Makes sure that the part runs as it should, and waits until it serves clients.

    A part that runs is left alone if it is ready and was started the same way; else it is replaced.

    Args:
        part: What to bring up.
        layout: Where to write down what runs.
        halt: Looked at whenever this waits.
        say: Told what goes on.
        on_start: Called with the record of a part that this call started.

    Returns:
        The record of the part, and whether this call started it.

    Raises:
        PartFailed: it can't be started, ended, or didn't become ready in time.
        Halted: everything is to be given up.
    """
    record = read_record(layout, part.name)
    process = record.process if record else None
    if record and process:
        same = record.fingerprint == part.launch().fingerprint
        if same and _becomes_ready(part, record, process.create_time(), halt):
            return record, False
        say("starting anew")
        end_families([(process, record.stop_signal)], grace_seconds=STOP_SECONDS)
    forget(layout, part.name)
    part.prepare(say)
    halt.check()
    deadline = time.monotonic() + part.boot_seconds
    while True:
        record, trouble = _start(part, layout, halt, deadline, on_start)
        if trouble is None:
            return record, True
        passing = any(fault in str(trouble) for fault in part.passing_faults)
        if not passing or time.monotonic() >= deadline:
            raise trouble
        halt.pause(LOOK_AGAIN_SECONDS)


def _start(
    part: Part,
    layout: Layout,
    halt: Halt,
    deadline: float,
    on_start: Callable[[ProcessRecord], None],
) -> tuple[ProcessRecord, PartFailed | None]:
    """One start, and what was wrong with it."""
    if part.port:
        ports.refuse_taken(part.name, part.port)
    launch = part.launch()
    log = layout.log(part.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    log_begin = log.stat().st_size if log.exists() else 0
    try:
        process = start(launch, marker=layout.marker, log=log)
    except OSError as error:
        raise PartFailed(part.name, f"can't be started: {error}", log) from error
    record = ProcessRecord(
        part=part.name,
        pid=process.pid,
        born=birth(process.pid),
        fingerprint=launch.fingerprint,
        port=part.port,
        url=part.url,
        stop_signal=part.stop_signal,
    )
    write_record(layout, record)
    on_start(record)
    trouble = _watch(part, process, halt, deadline)
    if trouble is None:
        return record, None
    return record, PartFailed(part.name, trouble, log, end_of(log, begin=log_begin))


def _watch(part: Part, process: subprocess.Popen[bytes], halt: Halt, deadline: float) -> str | None:
    """Waits until the part is ready; tells why it won't be."""
    while not part.is_ready(process.pid):
        if process.poll() is not None:
            return f"ended by itself while it started ({_how(process.returncode)})"
        if time.monotonic() >= deadline:
            return f"isn't ready after {part.boot_seconds:.0f} s"
        halt.pause(LOOK_AGAIN_SECONDS)
    return None


def _becomes_ready(part: Part, record: ProcessRecord, started_at: float, halt: Halt) -> bool:
    """Whether a part that was started earlier is ready, or will be within its time."""
    age = time.time() - started_at
    deadline = time.monotonic() + max(PATIENCE_SECONDS, part.boot_seconds - age)
    while not part.is_ready(record.pid):
        if time.monotonic() >= deadline or record.process is None:
            return False
        halt.pause(LOOK_AGAIN_SECONDS)
    return True


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def end_of(log: Path, *, begin: int = 0) -> str:
    """The end of what a log says from byte BEGIN on; nothing if there is no log."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(min(begin, size), size - LOG_QUOTE_BYTES))
        return file.read().decode(errors="replace")
