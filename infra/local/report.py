"""What runs, where, whether it is well, and how much memory it takes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.local.external import External, without_password
from infra.local.parts.part import status_of
from infra.local.parts.workbench import StorageAccess
from infra.local.plan import SERVERS, plan_on
from infra.local.processes import family, memory_bytes, read_records
from infra.local.stack_file import read_stack
from infra.local.trouble import StackTrouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.local.layout import Layout
    from infra.local.parts.part import Part
    from infra.local.processes import ProcessRecord
    from infra.local.stack_file import Stack

MEGABYTE = 1_000_000
HEALTH_SECONDS = 10
"""For the API's health: its function may have to start."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One part as it is now.

    Attributes:
        trouble: What is wrong with it; empty when it is well.
    """

    name: str
    where: str = ""
    pid: int | None = None
    process_count: int = 0
    memory_bytes: int = 0
    trouble: str = ""


def status(layout: Layout) -> int:
    """Looks at every part and prints what it finds.

    Returns:
        The exit code: 0 when the whole stack is up and well.
    """
    stack = read_stack(layout)
    records = {record.part: record for record in read_records(layout)}
    if not records and stack is None:
        print("The stack is down; `make up` starts it.")
        return 1
    lines = _look(layout, stack, records)
    _print_lines(lines)
    sick = [line for line in lines if line.trouble]
    if sick:
        print()
        for line in sick:
            print(f"{line.name}: {line.trouble}")
            log = layout.log("localstack" if line.name == "api" else line.name)
            if log.exists():
                print(f"  log: {log}")
        print("`make up` mends it.")
        return 1
    if stack:
        print(f"\nAll is well. The last `make up` took {stack.up_seconds:.1f} s.")
    return 0


def print_summary(layout: Layout) -> None:
    """What `make up` ends with; everything was found well a moment ago."""
    stack = read_stack(layout)
    if stack is None:
        return
    records = {record.part: record for record in read_records(layout)}
    given = [Line(name=name, where=_given(stack)[name]) for name in stack.external_parts]
    parts = [_line(records[name], "") for name in records]
    print()
    _print_lines([Line(name="api", where=stack.api_url), *_in_order([*parts, *given])])
    print(
        f"\nThe stack is up ({stack.up_seconds:.1f} s). All addresses: {_short(layout.stack_file)}"
    )
    print("See how it is: make status   follow its logs: make logs   stop it: make down")


def _look(layout: Layout, stack: Stack | None, records: dict[str, ProcessRecord]) -> list[Line]:
    external = _external(stack)
    ports = {name: record.port for name, record in records.items() if record.port}
    plan = plan_on(layout, {}, external, ports)
    looks: list[Callable[[], Line]] = [lambda: _look_at_api(stack)]
    looks += [_looker(part, records.get(part.name)) for part in plan.own]
    looks += [_external_looker(external, name) for name in external.urls]
    with ThreadPoolExecutor(len(looks)) as pool:
        lines = list(pool.map(lambda look: look(), looks))
    seen = {line.name for line in lines}
    missing = [Line(name=n, trouble="isn't running") for n in SERVERS if n not in seen]
    return [lines[0], *_in_order([*lines[1:], *missing])]


def _look_at_api(stack: Stack | None) -> Line:
    if stack is None:
        return Line(name="api", trouble="isn't deployed")
    answer = status_of(f"{stack.api_url}/health", seconds=HEALTH_SECONDS)
    trouble = "" if answer == 200 else f"answers {answer or 'nothing'} to GET /health"
    return Line(name="api", where=stack.api_url, trouble=trouble)


def _looker(part: Part, record: ProcessRecord | None) -> Callable[[], Line]:
    def look() -> Line:
        if record is None:
            return Line(name=part.name, trouble="isn't running")
        if record.process is None:
            return Line(name=part.name, where=without_password(part.url), trouble="isn't running")
        return _line(record, "" if part.is_ready(record.pid) else "runs, but doesn't answer")

    return look


def _external_looker(external: External, name: str) -> Callable[[], Line]:
    def look() -> Line:
        where = without_password(external.urls[name])
        try:
            external.refuse_unreachable(name)
        except StackTrouble as trouble:
            return Line(name=name, where=where, trouble=str(trouble))
        return Line(name=name, where=where)

    return look


def _line(record: ProcessRecord, trouble: str) -> Line:
    members = family(record.process) if record.process else []
    return Line(
        name=record.part,
        where=without_password(record.url),
        pid=record.pid,
        process_count=len(members),
        memory_bytes=memory_bytes(members),
        trouble=trouble,
    )


def _external(stack: Stack | None) -> External:
    """As the last `up` was given them, whatever the environment says now."""
    if stack is None:
        return External({}, None)
    urls = {name: url for name, url in _given(stack).items() if name in stack.external_parts}
    storage = StorageAccess(
        endpoint_url=stack.storage_endpoint_url,
        bucket=stack.storage_bucket,
        region=stack.aws_region,
        access_key_id=stack.storage_access_key_id,
        secret_access_key=stack.storage_secret_access_key,
    )
    return External(urls, storage)


def _given(stack: Stack) -> dict[str, str]:
    return {
        "postgres": stack.database_url,
        "conductor": stack.conductor_url,
        "storage": stack.storage_endpoint_url,
        "workbench": stack.workbench_url,
    }


def _in_order(lines: list[Line]) -> list[Line]:
    order = [*SERVERS, "keeper"]
    return sorted(lines, key=lambda line: order.index(line.name))


def _print_lines(lines: list[Line]) -> None:
    width = max(len(line.where) for line in lines)
    for line in lines:
        pid = str(line.pid or "")
        memory = f"{line.memory_bytes / MEGABYTE:.0f} MB" if line.pid else ""
        several = f"{line.process_count} processes" if line.process_count > 1 else ""
        mark = "✗" if line.trouble else "✓"
        row = f"{mark} {line.name:<10} {line.where:<{width}}  {pid:>8}  {memory:>7}  {several}"
        print(row.rstrip())
    total = sum(line.memory_bytes for line in lines) / MEGABYTE
    print(f"  {'together':<10} {'':<{width}}  {'':>8}  {total:4.0f} MB")


def _short(path: os.PathLike[str]) -> str:
    return os.path.relpath(path)
