"""What holds for all tests: a marker by folder, and the same generated examples each time.

`make test` runs them in three processes, for those on real parts mostly wait. Tests that share
parts stay together: a folder's, and in `unit` a file's.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import hypothesis
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest

TESTS = Path(__file__).parent
MARKED_FOLDERS = {"unit", "contract", "e2e"}

# Else the reference Workbench's pictures would leave a cache in the home folder.
os.environ.setdefault("MPLCONFIGDIR", str(TESTS.parent / ".local" / "matplotlib"))

hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test by the folder that it lies in."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in MARKED_FOLDERS:
            item.add_marker(folder)


class TogetherByParts(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives tests that share parts to one process."""

    def _split_scope(self, nodeid: str) -> str:
        file = PurePosixPath(nodeid.partition("::")[0])
        return str(file if file.parent.name == "unit" else file.parent)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TogetherByParts:
    """For `pytest -n`."""
    return TogetherByParts(config, log)
