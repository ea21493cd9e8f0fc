"""The report as a person reads it: a line for each property, then a sentence for each violation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from infra.verify.facts import Facts
    from infra.verify.report import Report, Result

MOST_SENTENCES = 10
"""Of one property; of the others only the number is said."""


def show(report: Report, console: Console) -> None:
    """Prints it."""
    for line in _read(report.facts):
        console.print(line)
    console.print()
    console.print(_table(report))
    console.print()
    broken = [result for result in report.results if not result.holds]
    for result in broken:
        _show_broken(result, console)
    held = sum(result.judged > 0 and result.holds for result in report.results)
    if broken:
        numbers = ", ".join(f"P{result.of.number}" for result in broken)
        console.print(f"[bold red]Broken: {numbers}.[/] {held} properties hold.")
    else:
        console.print(f"[bold green]Nothing is broken.[/] {held} properties were judged and hold.")


def _read(facts: Facts) -> list[str]:
    """What the report is about, in lines."""
    read = [
        _many(len(facts.runs), "run"),
        _many(len(facts.events), "event"),
        _many(len(facts.keys), "key"),
        _many(len(facts.strays), "stray check"),
    ]
    if facts.workbench:
        read.append(f"{_many(len(facts.jobs), 'job')}, {_many(len(facts.workbench.calls), 'call')}")
    lines = [f"Read: {', '.join(read)}"]
    if facts.waiting:
        depths = ", ".join(f"{name} {count}" for name, count in facts.waiting.items())
        lines.append(f"Messages waiting: {depths}")
    return lines


def _table(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    table.add_column("property", no_wrap=True)
    table.add_column("judged", justify="right", no_wrap=True)
    table.add_column("on", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for result in report.results:
        one = result.of
        number = f"P{one.number}"
        judged = "" if result.not_judged else f"{result.judged:,}"
        counts = "" if result.not_judged else one.counts
        table.add_row(number, one.name, judged, counts, _verdict(result))
    return table


def _verdict(result: Result) -> str:
    if result.not_judged:
        return f"[dim]· {escape(result.not_judged)}[/]"
    if result.violations:
        return f"[red]✗ broken: {_many(len(result.violations), 'violation')}[/]"
    if result.lacks:
        return "[red]✗ nothing to judge[/]"
    return "[green]✓ ok[/]" if result.judged else "[dim]· nothing to judge[/]"


def _show_broken(result: Result, console: Console) -> None:
    one = result.of
    console.print(f"[bold]P{one.number} {one.name}[/]")
    for sentence in result.violations[:MOST_SENTENCES]:
        console.print(f"  {escape(sentence)}", soft_wrap=True, highlight=False)
    if len(result.violations) > MOST_SENTENCES:
        console.print(f"  … and {len(result.violations) - MOST_SENTENCES:,} more")
    if result.lacks:
        console.print(
            f"  There were no {one.counts} to judge it on: let some runs go through first."
        )
    console.print()


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
