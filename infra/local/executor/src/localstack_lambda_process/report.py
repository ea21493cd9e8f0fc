"""The log of one invocation, as CloudWatch shows it: START, the function's lines, END, REPORT."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """What is measured of an invocation.

    Args:
        request_id: The invocation's id.
        version: The function's version, `$LATEST` mostly.
        duration_ms: From handing the event over to the answer.
        init_ms: How long the process took to be ready, if this invocation had to wait for it.
        memory_size_mb: What the function is given on AWS; here it isn't enforced.
        memory_used_mb: What the process took at the end; None if it was gone by then.
    """

    request_id: str
    version: str
    duration_ms: float
    init_ms: float | None
    memory_size_mb: int
    memory_used_mb: int | None

    def log(self, *, before: str, output: str) -> str:
        """The whole log.

        Args:
            before: What the process printed before it got the event, in whole lines.
            output: What it printed after, in whole lines.
        """
        return (
            f"{before}START RequestId: {self.request_id} Version: {self.version}\n"
            f"{output}END RequestId: {self.request_id}\n"
            f"{self._report_line()}\n"
        )

    def _report_line(self) -> str:
        fields = [
            f"REPORT RequestId: {self.request_id}",
            f"Duration: {self.duration_ms:.2f} ms",
            f"Billed Duration: {math.ceil(self.duration_ms)} ms",
            f"Memory Size: {self.memory_size_mb} MB",
        ]
        if self.memory_used_mb is not None:
            fields.append(f"Max Memory Used: {self.memory_used_mb} MB")
        if self.init_ms is not None:
            fields.append(f"Init Duration: {self.init_ms:.2f} ms")
        return "\t".join(fields)
