"""Metrics in a function's log, found as CloudWatch would find them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from infra.local.executor.src.localstack_lambda_process.embedded_metrics import metric_data

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
LINE = {
    "_aws": {
        "Timestamp": AT.timestamp() * 1000,
        "CloudWatchMetrics": [
            {
                "Namespace": "Runs",
                "Dimensions": [["stage"], ["stage", "status"]],
                "Metrics": [{"Name": "Entered", "Unit": "Count"}, {"Name": "Time"}],
            }
        ],
    },
    "stage": "prod",
    "status": "RUNNING",
    "Entered": 2,
    "Time": [0.5, 1],
}


def test_every_metric_is_found_once_for_each_of_its_dimension_sets() -> None:
    log = f"START\n{json.dumps(LINE)}\nEND\n"
    stage = {"Name": "stage", "Value": "prod"}
    status = {"Name": "status", "Value": "RUNNING"}

    def datum(name: str, values: list[float], unit: str, *dimensions: object) -> object:
        return {
            "MetricName": name,
            "Dimensions": list(dimensions),
            "Timestamp": AT,
            "Values": values,
            "Unit": unit,
        }

    assert metric_data(log) == {
        "Runs": [
            datum("Entered", [2.0], "Count", stage),
            datum("Time", [0.5, 1.0], "None", stage),
            datum("Entered", [2.0], "Count", stage, status),
            datum("Time", [0.5, 1.0], "None", stage, status),
        ]
    }


@pytest.mark.parametrize(
    "line",
    [
        "",
        '{"message": "swept"}',
        'a text that quotes "_aws"',
        '{"_aws": 1}',
        '{"_aws": {"Timestamp": "now", "CloudWatchMetrics": []}}',
        json.dumps(LINE | {"Entered": "many"}),
        json.dumps({name: value for name, value in LINE.items() if name != "status"}),
    ],
)
def test_what_only_looks_like_metrics_spoils_nothing(line: str) -> None:
    whole = json.dumps(LINE)
    assert len(metric_data(f"{line}\n{whole}\n")["Runs"]) >= 4
