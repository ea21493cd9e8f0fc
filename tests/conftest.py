"""What holds for all tests: a marker by folder, and the same generated examples each time.

Tests run in three processes, for most of the time of those on real parts is waiting. Tests that
share parts stay together: a folder's, and in `unit` a file's.
"""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

TESTS = Path(__file__).parent
MARKED_FOLDERS = {"unit", "contract", "e2e"}

# Else the reference Workbench's pictures would leave a cache in the home folder.
os.environ.setdefault("MPLCONFIGDIR", str(TESTS.parent / ".local" / "matplotlib"))

hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test by the folder that it lies in, and groups those that share parts."""
    for item in items:
        place = item.path.relative_to(TESTS)
        folder = place.parts[0]
        if folder in MARKED_FOLDERS:
            item.add_marker(folder)
        together = place if folder == "unit" else place.parent
        item.add_marker(pytest.mark.xdist_group(str(together)))
