"""The service's figures and alarms in the terminal, live: `python -m infra.metrics [--once]`.

What it shows is asked of CloudWatch alone (here LocalStack's): the figures that the alarms watch.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from infra.local.deployment import Cloud
from infra.local.layout import Layout
from infra.local.stack_file import read_stack

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NAMESPACE: Final = "PipelineRuns"
MINUTES: Final = 30
PERIOD_SECONDS: Final = 60
REFRESH_SECONDS: Final = 5
BARS: Final = "▁▂▃▄▅▆▇█"
ALARM_STYLES: Final = {"OK": "green", "ALARM": "bold red", "INSUFFICIENT_DATA": "dim"}
ALARM_WORDS: Final = {"OK": "ok", "ALARM": "ALARM", "INSUFFICIENT_DATA": "no data yet"}


@dataclass(frozen=True)
class Row:
    """A line of the table: a metric, how a minute of it is summed up, and in what unit."""

    label: str
    metric: str
    statistic: str
    unit: str = ""
    dimensions: tuple[tuple[str, str], ...] = ()
    namespace: str = NAMESPACE


SECTIONS: Final[Sequence[tuple[str, Sequence[Row]]]] = (
    (
        "Runs",
        [
            *(
                Row(f"active, {status}", "ActiveRuns", "Maximum", "", (("status", status),))
                for status in ("CREATED", "SUBMITTED", "RUNNING")
            ),
            *(
                Row(f"became {status}", "RunsEntered", "Sum", "a minute", (("status", status),))
                for status in ("COMPLETED", "FAILED", "CANCELLED")
            ),
        ],
    ),
    (
        "How old what is known of them is",
        [
            Row("half of them", "StalenessP50", "Maximum", "s"),
            Row("99 of 100", "StalenessP99", "Maximum", "s"),
            Row("the oldest", "StalenessMax", "Maximum", "s"),
        ],
    ),
    (
        "Poller",
        [
            Row("ticks", "Ticks", "Sum", "a minute"),
            Row("a tick's lateness", "TickLag", "Maximum", "s"),
            Row("checks", "Checks", "Sum", "a minute"),
            Row("without a valid answer", "ChecksTroubled", "Sum", "a minute"),
            Row("tried again", "CheckRetries", "Sum", "a minute"),
            Row("a batch of checks", "CheckTime", "Average", "s"),
            Row("Workbench spared (0, 1)", "BreakerOpen", "Maximum"),
            Row("oldest event not on the bus", "UnpublishedEventAge", "Maximum", "s"),
            Row("duplicate jobs found", "DuplicatesFound", "Sum", "a minute"),
        ],
    ),
    (
        "API",
        [
            Row("requests", "RequestTime", "SampleCount", "a minute"),
            Row("a request", "RequestTime", "Average", "s"),
            Row("answers of 500 and above", "ServerErrors", "Sum", "a minute"),
            Row("a submission", "SubmitTime", "Average", "s", (("outcome", "submitted"),)),
        ],
    ),
)


@dataclass(frozen=True)
class Figures:
    """What CloudWatch told at a moment."""

    at: datetime
    series: dict[Row, list[float | None]]
    """A value a minute, oldest first; None: nothing was told."""
    alarms: list[tuple[str, str, str]]
    """Name, state and since when."""


def read_figures(watch: Any, *, stage: str, now: datetime) -> Figures:
    """All of it, by one request for the figures and one for the alarms."""
    rows = [row for _, section in SECTIONS for row in section]
    end = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    start = end - timedelta(minutes=MINUTES)
    told = watch.get_metric_data(
        MetricDataQueries=[_query(f"m{n}", row, stage) for n, row in enumerate(rows)],
        StartTime=start,
        EndTime=end,
    )["MetricDataResults"]
    by_id = {result["Id"]: result for result in told}
    minutes = [start + timedelta(minutes=n) for n in range(MINUTES)]
    series: dict[Row, list[float | None]] = {}
    for number, row in enumerate(rows):
        result = by_id[f"m{number}"]
        values = dict(zip(map(_minute, result["Timestamps"]), result["Values"], strict=True))
        series[row] = [values.get(minute) for minute in minutes]
    alarms = [
        (one["AlarmName"], one["StateValue"], f"{one['StateUpdatedTimestamp']:%H:%M:%S}")
        for one in watch.describe_alarms()["MetricAlarms"]
    ]
    return Figures(now, series, sorted(alarms))


def _query(name: str, row: Row, stage: str) -> dict[str, Any]:
    dimensions = [{"Name": key, "Value": value} for key, value in row.dimensions]
    metric = {
        "Namespace": row.namespace,
        "MetricName": row.metric,
        "Dimensions": [{"Name": "stage", "Value": stage}, *dimensions],
    }
    return {
        "Id": name,
        "MetricStat": {"Metric": metric, "Period": PERIOD_SECONDS, "Stat": row.statistic},
    }


def _minute(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def shown(figures: Figures, title: str) -> Group:
    """As it is printed."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(min_width=28)
    table.add_column(justify="right", min_width=8)
    table.add_column(min_width=8, style="dim")
    table.add_column(style="cyan", no_wrap=True)
    for heading, rows in SECTIONS:
        table.add_row(Text(f"\n{heading}", style="bold"))
        for row in rows:
            series = figures.series[row]
            table.add_row(f"  {row.label}", latest(series), row.unit, sparkline(series))
    alarms = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    alarms.add_row(Text("\nAlarms", style="bold"))
    for name, state, since in figures.alarms:
        word = Text(ALARM_WORDS[state], style=ALARM_STYLES[state])
        alarms.add_row(f"  {name}", word, Text(f"since {since} UTC", style="dim"))
    head = Text.assemble(
        (title, "bold"),
        (f"   {figures.at:%H:%M:%S} UTC, a minute a bar, {MINUTES} minutes", "dim"),
    )
    return Group(head, table, alarms)


def latest(series: Sequence[float | None]) -> str:
    """The newest figure of the last three minutes: this minute may have none yet."""
    told = [value for value in series[-3:] if value is not None]
    if not told:
        return "-"
    value = told[-1]
    return f"{value:.0f}" if value == int(value) or value >= 100 else f"{value:.2g}"


def sparkline(series: Iterable[float | None]) -> str:
    """A bar a minute, from zero to the highest; a dot where nothing was told."""
    values = list(series)
    highest = max((value for value in values if value is not None), default=0)
    steps = len(BARS) - 1
    return "".join(
        "·" if value is None else BARS[round(steps * value / highest)] if highest else BARS[0]
        for value in values
    )


def main(arguments: Sequence[str]) -> int:
    """Shows the figures of the stack that runs here until it is interrupted."""
    parser = argparse.ArgumentParser(prog="metrics", description="The service's figures, live.")
    parser.add_argument("--once", action="store_true", help="print them once and end")
    once: bool = parser.parse_args(arguments).once
    stack = read_stack(Layout.from_environment(os.environ))
    if stack is None:
        print("There is no stack to measure: start one with `make up`.", file=sys.stderr)
        return 1
    watch = Cloud(stack.aws_endpoint_url, stack.aws_region).client("cloudwatch")
    console = Console()

    def look() -> Group:
        return shown(read_figures(watch, stage="local", now=datetime.now(UTC)), "Pipeline runs")

    if once or not console.is_terminal:
        console.print(look())
        return 0
    try:
        with Live(look(), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(REFRESH_SECONDS)
                live.update(look(), refresh=True)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
