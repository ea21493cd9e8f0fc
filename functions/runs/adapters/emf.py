"""Figures as lines of CloudWatch's embedded metric format on standard output, by Powertools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_lambda_powertools.metrics import EphemeralMetrics

from runs.metrics import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runs.metrics import Metric


@dataclass(frozen=True, slots=True)
class EmfMeter:
    """`ports.Meter` by the function's log: it costs no call."""

    stage: str
    """What tells one installation's figures from another's."""

    def tell(self, figures: Mapping[Metric, float], **dimensions: str) -> None:
        """See `ports.Meter`."""
        line = EphemeralMetrics(namespace=NAMESPACE)
        for name, value in {"stage": self.stage, **dimensions}.items():
            line.add_dimension(name, value)
        for metric, figure in figures.items():
            line.add_metric(metric.title, metric.unit, figure)
        line.flush_metrics()
