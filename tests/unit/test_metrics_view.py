"""The figures in the terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from infra.metrics import MINUTES, SECTIONS, latest, read_figures, shown, sparkline
from runs.metrics import NAMESPACE, Metric

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)


class Watch:
    """CloudWatch, with one figure."""

    def __init__(self, **figures: float) -> None:
        self.figures = figures
        self.asked: list[dict[str, Any]] = []

    def get_metric_data(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        at = NOW.replace(second=0) - timedelta(minutes=1)
        results = []
        for query in request["MetricDataQueries"]:
            value = self.figures.get(query["MetricStat"]["Metric"]["MetricName"])
            points = [] if value is None else [value]
            results.append({"Id": query["Id"], "Timestamps": [at] * len(points), "Values": points})
        return {"MetricDataResults": results}

    def describe_alarms(self) -> dict[str, Any]:
        alarm = {"AlarmName": "NoTick", "StateValue": "ALARM", "StateUpdatedTimestamp": NOW}
        return {"MetricAlarms": [alarm]}


def test_every_figure_that_is_shown_is_one_that_the_service_tells() -> None:
    told = {metric.title for metric in Metric}
    shown_ones = {row.metric for _, rows in SECTIONS for row in rows}
    assert shown_ones <= told
    watch = Watch()
    read_figures(watch, stage="local", now=NOW)
    [asked] = watch.asked
    metrics = [query["MetricStat"]["Metric"] for query in asked["MetricDataQueries"]]
    assert {metric["Namespace"] for metric in metrics} == {NAMESPACE}
    assert all({"Name": "stage", "Value": "local"} in metric["Dimensions"] for metric in metrics)


def test_a_figure_stands_in_its_minute_and_alarms_say_since_when() -> None:
    figures = read_figures(Watch(StalenessP99=31.4), stage="local", now=NOW)
    row = next(row for _, rows in SECTIONS for row in rows if row.metric == "StalenessP99")
    assert figures.series[row] == [None] * (MINUTES - 2) + [31.4, None]
    console = Console(width=100, record=True, file=StringIO())
    console.print(shown(figures, "Pipeline runs"))
    text = console.export_text()
    assert "99 of 100" in text
    assert "31" in text
    assert "NoTick" in text
    assert "since 12:00:30 UTC" in text


@pytest.mark.parametrize(
    ("series", "text"),
    [
        ([None, None, None], "-"),
        ([5, None, None], "5"),
        ([5, 0.25, None], "0.25"),
        ([1234.5], "1234"),
        ([9, None, None, None], "-"),
    ],
)
def test_the_newest_figure_counts_for_three_minutes(series: list[float | None], text: str) -> None:
    assert latest(series) == text


def test_a_sparkline_goes_from_zero_to_the_highest() -> None:
    assert sparkline([0, None, 4, 8]) == "▁·▅█"
    assert sparkline([0, 0]) == "▁▁"
