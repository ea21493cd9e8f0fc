"""Metrics that a function writes into its log, in CloudWatch's embedded metric format.

On AWS the log service makes metrics of such lines. LocalStack leaves them lines, and an alarm on
one would never fire; so they are found here, and put.

Source: "Specification: Embedded metric format", Amazon CloudWatch user guide.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK: Final = '"_aws"'


def metric_data(log: str) -> dict[str, list[dict[str, Any]]]:
    """What the log holds for PutMetricData: a namespace's `MetricData`.

    A line that only looks like metrics is a line like others.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for line in log.splitlines():
        if MARK not in line:
            continue
        try:
            for namespace, datum in _metrics_in(json.loads(line)):
                found.setdefault(namespace, []).append(datum)
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
    return found


def _metrics_in(told: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    at = datetime.fromtimestamp(told["_aws"]["Timestamp"] / 1000, UTC)
    for directive in told["_aws"]["CloudWatchMetrics"]:
        for names in directive["Dimensions"]:
            dimensions = [{"Name": name, "Value": str(told[name])} for name in names]
            for metric in directive["Metrics"]:
                value = told[metric["Name"]]
                yield (
                    directive["Namespace"],
                    {
                        "MetricName": metric["Name"],
                        "Dimensions": dimensions,
                        "Timestamp": at,
                        "Values": [float(one) for one in _listed(value)],
                        "Unit": metric.get("Unit", "None"),
                    },
                )


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]
