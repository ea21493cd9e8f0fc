"""What schemathesis called, by its own record (NDJSON)."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

SCENARIO: Final = '{"ScenarioFinished"'


class Record:
    """The calls of one pass, or of several."""

    def __init__(self) -> None:
        self.by_status: Counter[int | str] = Counter()
        self.by_operation: Counter[str] = Counter()

    def add(self, file: Path) -> None:
        """Counts those of a file."""
        with file.open() as lines:
            for line in lines:
                if line.startswith(SCENARIO):
                    self._add_scenario(json.loads(line)["ScenarioFinished"]["recorder"])

    @property
    def calls(self) -> int:
        """How many there were."""
        return self.by_status.total()

    def line(self) -> str:
        """The figures."""
        told = ", ".join(
            f"{status} {count}" for status, count in sorted(self.by_status.items(), key=str)
        )
        return f"{self.calls} calls: {told}"

    def _add_scenario(self, recorder: dict[str, Any]) -> None:
        for case_id, interaction in recorder.get("interactions", {}).items():
            case = recorder["cases"][case_id]["value"]
            answer = interaction.get("response")
            status = answer["status_code"] if answer else "no answer"
            self.by_status[status] += 1
            self.by_operation[f"{case['method']} {case['path']}"] += 1
