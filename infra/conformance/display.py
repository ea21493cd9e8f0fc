"""What a person reads: before a trial what will happen, and after it what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from infra.conformance.rules import Level, Verdict
from infra.conformance.shoulds import keys_are_honoured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from infra.conformance.rules import Finding
    from infra.conformance.target import Target

CONTRACT = "infra/workbench/openapi.yaml"
ON_MUST = {Verdict.KEPT: "[green]✓[/]", Verdict.BROKEN: "[red]✗[/]", Verdict.NOT_SEEN: "[dim]·[/]"}
ON_SHOULD = ON_MUST | {Verdict.BROKEN: "[yellow]○[/]"}
HEADINGS = {
    Level.MUST: "What runs depend on",
    Level.SHOULD: "What it may offer",
}


def announce(target: Target, console: Console) -> None:
    """Says what is going to happen."""
    places = target.prefixes
    _print(console, f"[bold]The Workbench at {escape(target.url)}[/], by {CONTRACT}")
    _print(
        console,
        f"About a dozen small jobs are submitted to it, under the keys {target.namespace}-1 and "
        f"on. They read below {escape(places.input)}, and write below {escape(places.output)} "
        f"and {escape(places.report)}. At the end those that go on are cancelled, and no others.",
    )
    console.print()


def show(findings: Sequence[Finding], target: Target, console: Console) -> None:
    """Prints all of it."""
    for level, heading in HEADINGS.items():
        console.print(f"[bold]{heading}[/] [dim]({level})[/]")
        found = [one for one in findings if one.rule.level is level]
        console.print(_table(found, level))
        console.print()
        for finding in found:
            if finding.verdict is Verdict.BROKEN:
                _explain(finding, console)
    _show_settings(findings, target, console)
    broken = [finding.rule.name for finding in findings if finding.fails]
    unseen = [
        one.rule.name
        for one in findings
        if one.rule.level is Level.MUST and one.verdict is Verdict.NOT_SEEN
    ]
    if broken:
        _print(console, f"[bold red]It breaks the contract: {', '.join(broken)}.[/]")
    else:
        _print(console, "[bold green]It keeps the contract, as far as was seen.[/]")
    if unseen:
        _print(console, f"[dim]Not seen: {', '.join(unseen)}.[/]")


def _table(findings: Sequence[Finding], level: Level) -> Table:
    marks = ON_MUST if level is Level.MUST else ON_SHOULD
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column("")
    table.add_column("rule", no_wrap=True)
    table.add_column("seen", overflow="fold")
    for finding in findings:
        remark = "see below" if finding.verdict is Verdict.BROKEN else escape(finding.remark)
        table.add_row(marks[finding.verdict], finding.rule.name, f"[dim]{remark}[/]")
    return table


def _explain(finding: Finding, console: Console) -> None:
    """What it did, what is asked for, what comes of it."""
    color = "red" if finding.fails else "yellow"
    _print(console, f"[bold {color}]{finding.rule.name}[/]")
    rows = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    rows.add_column("", style="dim", no_wrap=True)
    rows.add_column("", overflow="fold")
    rows.add_row("it did", escape(finding.remark))
    rows.add_row("asked for", escape(finding.rule.asks))
    rows.add_row("if it stays so" if finding.fails else "it means", escape(finding.rule.otherwise))
    console.print(rows)
    console.print()


def settings_for(findings: Sequence[Finding], target: Target) -> dict[str, str]:
    """The service's settings for this Workbench; no secrets."""
    keys = next(one for one in findings if one.rule is keys_are_honoured)
    return {
        "WORKBENCH_API_URL": target.url,
        "WORKBENCH_HONOURS_KEYS": "true" if keys.verdict is Verdict.KEPT else "false",
    }


def _show_settings(findings: Sequence[Finding], target: Target, console: Console) -> None:
    console.print("[bold]Settings for it[/] [dim](make up, make deploy)[/]")
    for name, value in settings_for(findings, target).items():
        _print(console, f"  {name}={escape(value)}")
    if target.token:
        _print(console, "  WORKBENCH_TOKEN=…  [dim]on AWS: WORKBENCH_TOKEN_SECRET_ARN=…[/]")
    console.print()


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False)
