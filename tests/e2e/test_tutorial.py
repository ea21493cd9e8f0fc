"""The tutorial, followed word for word in what looks like a fresh clone, on a stack of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from infra.local.environments import ENVIRONMENTS, ROOT
from local_stack import POLL_INTERVAL_SECONDS, LocalStack, fresh_local_stack
from tutorial import TUTORIAL, broken_promises, outputs_of, script_of, steps_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLLOWING_SECONDS = 600


@pytest.fixture
def beginners_stack() -> Iterator[LocalStack]:
    """It has never run."""
    with fresh_local_stack("tutorial") as local_stack:
        yield local_stack


@pytest.fixture
def clone(beginners_stack: LocalStack, tmp_path: Path) -> Path:
    """A folder with this project's files, whose `.local` is that stack's."""
    for file in ROOT.iterdir():
        if file.name != ".local":
            (tmp_path / file.name).symlink_to(file)
    state = beginners_stack.layout.state
    state.mkdir(parents=True)
    (state / "envs").symlink_to(ENVIRONMENTS)
    (tmp_path / ".local").symlink_to(state)
    return tmp_path


def test_who_follows_the_tutorial_sees_what_it_promises(
    clone: Path, beginners_stack: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    steps = steps_in(TUTORIAL.read_text())
    script = tmp_path_factory.mktemp("script") / "tutorial.sh"
    script.write_text(script_of(steps))
    done = subprocess.run(
        ["bash", "-e", "-O", "expand_aliases", script],  # noqa: S607 - the beginner's bash
        cwd=clone,
        env=_environment(beginners_stack),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=FOLLOWING_SECONDS,
        check=False,
    )
    broken = [
        f"{step.commands}promises: {promise}"
        for step, output in zip(steps, outputs_of(done.stdout, len(steps)), strict=True)
        for promise in broken_promises(step.promised, output)
    ]
    assert (done.returncode, broken) == (0, []), done.stdout


def _environment(stack: LocalStack) -> dict[str, str]:
    """A beginner's, who has configured nothing; runs are looked at more often."""
    inherited = {
        name: value
        for name, value in stack.environment().items()
        if not name.startswith("PIPELINE_RUN_")
    }
    return inherited | {
        "PIPELINE_RUN_CONFIG": str(stack.layout.state / "no-config.toml"),
        "POLL_INTERVAL_SECONDS": str(POLL_INTERVAL_SECONDS),
        "COLUMNS": "100",
        # Else `make` could take another Python than the environments are made of.
        "PYTHON": f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}",
    }
