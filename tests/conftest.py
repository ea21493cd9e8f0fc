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
pytest_plugins = ["real_parts"]
MARKED_FOLDERS = {"unit", "contract", "e2e", "faults", "model"}
MODEL_PARTS = 20

# Else the reference Workbench's pictures would leave a cache in the home folder.
os.environ.setdefault("MPLCONFIGDIR", str(TESTS.parent / ".local" / "matplotlib"))

hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the model is run, and from where it begins."""
    parser.addoption("--histories", type=int, default=200, help="of the model, all in all")
    parser.addoption("--model-seed", type=int, default=0, help="another one, other histories")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The model's histories in parts, so that processes can share them."""
    if "model_seed" in metafunc.fixturenames:
        histories = metafunc.config.getoption("histories")
        first = metafunc.config.getoption("model_seed") * MODEL_PARTS
        each = -(-histories // MODEL_PARTS)
        parts = [(first + part, each) for part in range(MODEL_PARTS)]
        metafunc.parametrize(("model_seed", "histories"), parts)


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
        if file.parent.name == "model":
            return nodeid
        return str(file if file.parent.name == "unit" else file.parent)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TogetherByParts:
    """For `pytest -n`."""
    return TogetherByParts(config, log)
