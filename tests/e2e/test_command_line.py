"""`pipeline-run`, as it is installed, on the deployed stack."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from infra.local.environments import ENVIRONMENTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    from infra.local.stack_file import Stack
    from local_stack import LocalStack

    Call: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]

COMMAND = ENVIRONMENTS / "stack" / "bin" / "pipeline-run"
DEADLINE_SECONDS = 120


@pytest.fixture
def call(local_stack: LocalStack, stack: Stack, tmp_path: Path) -> Call:
    """Calls it in a clone whose stack is the session's, with nothing else configured."""
    clone = tmp_path / "clone"
    (clone / ".local").mkdir(parents=True)
    (clone / ".local" / "stack.json").symlink_to(local_stack.layout.stack_file)
    assert stack.api_url

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(COMMAND), *words],
            cwd=clone,
            env={"HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    return call


def test_a_folder_is_run_and_its_results_are_brought_home(call: Call, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "birds.csv").write_text("bird,weight\nadelie,3700\ngentoo,5000\n")
    made = call("pipelines", "create", "cli", "--workflow", "batch_pipeline_workflow")
    assert made.returncode == 0, made.stderr
    done = call("submit", "-p", "cli", "--input", str(tmp_path / "files"), "--wait", "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert run["status"] == "COMPLETED"
    saved = call("outputs", str(run["id"]), "--download", str(tmp_path / "got"))
    assert saved.returncode == 0, saved.stderr
    names = {path.name for path in (tmp_path / "got").iterdir()}
    assert names == {"manifest.json", "birds.csv.parquet"}
    report = call("outputs", str(run["id"]), "--report", "-d", str(tmp_path / "report"))
    assert report.returncode == 0, report.stderr
    assert "<html" in (tmp_path / "report" / "report.html").read_text()


def test_a_run_without_input_ends_the_command_as_it_ends(
    call: Call,
) -> None:
    call("pipelines", "create", "cli", "--workflow", "batch_pipeline_workflow")
    words = ("--input-prefix", "nothing/here", "--output-prefix", "out/cli")
    done = call("submit", "-p", "cli", *words, "--wait")
    assert done.returncode == 1
    assert "Nothing lies below" in done.stdout


def test_the_doctor_finds_everything_well(
    call: Call,
) -> None:
    told = call("doctor", "--json")
    assert told.returncode == 0, told.stdout
    checks = {one["name"]: one["verdict"] for one in json.loads(told.stdout)["checks"]}
    assert checks["access"] == checks["poller"] == checks["Workbench"] == "well"


def test_a_token_that_is_none_is_told_from_a_refusal(
    call: Call,
) -> None:
    assert call("--token", "nonsense", "list").returncode == 4
    assert call("get", "999999999").returncode == 5
