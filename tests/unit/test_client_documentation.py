"""The client's README says what the code does: its commands are run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from client_api import CommandLine, LinkedStorage
from fakes import World
from pipeline_runs.cli import exit_codes
from pipeline_runs.cli.exit_codes import ExitCode
from runs.wiring import using
from wired import WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

README = (Path(__file__).parents[2] / "client" / "README.md").read_text()
OF_THE_SHELL = "--install-completion"


def commands() -> list[list[str]]:
    """Those of `pipeline-run`, without its name; the first run is theirs."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").replace(" 42", " 1").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    return [
        words[1:] for words in split if words[:1] == ["pipeline-run"] and OF_THE_SHELL not in words
    ]


@pytest.fixture
def stored() -> LinkedStorage:
    stored = LinkedStorage()
    stored.put("user-data", "out/today/a.csv", b"12345")
    return stored


@pytest.fixture
def world(stored: LinkedStorage) -> Iterator[World]:
    world = World()
    wiring = WorldWiring(world)
    wiring.storage = stored
    with using(wiring):
        yield world


def test_every_command_works_one_after_the_other(
    world: World, stored: LinkedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = CommandLine(world, tmp_path, links=httpx.MockTransport(stored.answer))
    run.environment["PIPELINE_RUN_STORAGE_BUCKET"] = "user-data"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.csv").write_text("a\n")

    def every_job_completes() -> None:
        for run_id in world.database.runs:
            world.workbench.become("COMPLETED", run=run_id)
        world.go_on(60)

    world.go_on(60)
    run.api.before = every_job_completes
    told = {shlex.join(words): run(*words).exit_code for words in commands()}
    ended = {command: code for command, code in told.items() if code}
    assert ended == {"cancel 1 --reason 'wrong input'": ExitCode.REFUSED}, "it has ended by then"
    assert len(told) == 12


def test_every_exit_code_is_told() -> None:
    codes = {int(code) for code in ExitCode}
    assert {int(code) for code in re.findall(r"^\| ([0-9]+) \|", README, re.MULTILINE)} == codes
    assert {int(code) for code in re.findall(r"\b([0-9]+) [a-zA-Z]", exit_codes.TOLD)} == codes


def test_the_python_example_is_python() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    compile(example, "README.md", "exec")
