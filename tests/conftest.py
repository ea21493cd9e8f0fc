"""What holds for all tests: a marker by folder, and the same generated examples each time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis

if TYPE_CHECKING:
    import pytest

TESTS = Path(__file__).parent
MARKED_FOLDERS = {"unit", "contract", "e2e"}

hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test by the folder that it lies in."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in MARKED_FOLDERS:
            item.add_marker(folder)
