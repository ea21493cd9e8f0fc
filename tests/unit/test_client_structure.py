"""The client stands by itself, and loads only what is used."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(__file__).parents[2] / "client" / "src"
FILES = sorted(SOURCES.rglob("*.py"))
OTHERS = {"boto3", "botocore", "httpx", "pydantic", "rich", "typer"}
OF_THE_COMMAND_LINE = {"rich", "typer"}


def imported(file: Path) -> Iterator[str]:
    """The packages that a file names in an import, wherever it stands."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name.name.partition(".")[0] for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCES)))
def test_a_file_imports_the_client_itself_and_what_it_depends_on(file: Path) -> None:
    found = set(imported(file)) - sys.stdlib_module_names - {"pipeline_runs"}
    in_command_line = "cli" in file.parts
    assert found <= (OTHERS if in_command_line else OTHERS - OF_THE_COMMAND_LINE)


def loaded_by(module: str) -> set[str]:
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(SOURCES), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


# (httpx itself loads rich where it finds it.)
def test_the_library_loads_no_command_line_and_no_aws() -> None:
    assert not loaded_by("pipeline_runs") & {"typer", "boto3"}


def test_the_command_line_loads_aws_only_to_upload() -> None:
    assert "boto3" not in loaded_by("pipeline_runs.cli.app")
