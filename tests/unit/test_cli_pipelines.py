"""`pipeline-run pipelines`, over the real API in process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client_api import CommandLine
from fakes import World
from pipeline_runs.cli.exit_codes import ExitCode
from runs.wiring import using
from wired import WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with using(WorldWiring(world)):
        yield world


@pytest.fixture
def run(world: World, tmp_path: Path) -> CommandLine:
    return CommandLine(world, tmp_path)


def test_who_has_no_pipeline_is_told_how_to_make_one(run: CommandLine) -> None:
    told = run("pipelines", "list")
    assert (told.exit_code, told.stdout) == (0, "")
    assert "pipelines create NAME --workflow WORKFLOW" in told.stderr
    assert run.json("pipelines", "list") == {"items": []}


def test_a_pipeline_is_made_and_listed(run: CommandLine) -> None:
    words = ("--workflow", "w", "--workflow-version", "3", "--max-active-runs", "5")
    made = run("pipelines", "create", "nightly", *words, "--run-timeout", "2h")
    assert made.exit_code == 0, made.stderr
    assert made.stdout.splitlines()[0] == "nightly  enabled"
    assert "at most 5" in made.stdout
    assert "2 h 00 min" in made.stdout
    line = run("pipelines", "list").stdout.splitlines()[1]
    assert line.split() == ["1", "nightly", "BATCH", "w", "v3", "enabled"]


def test_a_pipeline_is_shown_by_its_name_and_by_its_id(run: CommandLine) -> None:
    run("pipelines", "create", "nightly", "--workflow", "w", "--mode", "realtime")
    by_name = run.json("pipelines", "get", "nightly")
    assert by_name == run.json("pipelines", "get", "1")
    assert by_name["mode"] == "REALTIME"


def test_a_name_that_is_not_there_lists_those_that_are(run: CommandLine) -> None:
    run("pipelines", "create", "nightly", "--workflow", "w")
    told = run("pipelines", "get", "nightli")
    assert told.exit_code == ExitCode.REFUSED
    assert "there are nightly" in told.stderr


def test_a_pipeline_is_disabled_with_a_reason_and_enabled_again(run: CommandLine) -> None:
    run("pipelines", "create", "nightly", "--workflow", "w")
    told = run("pipelines", "disable", "nightly", "--reason", "moving house")
    assert told.stdout.splitlines()[0] == "nightly  disabled: moving house"
    words = ("submit", "-p", "nightly", "--input-prefix", "in", "--output-prefix", "out")
    refused = run(*words)
    assert refused.exit_code == ExitCode.REFUSED
    assert "moving house" in refused.stderr
    assert "pipeline-run pipelines enable" in refused.stderr
    assert run.json("pipelines", "enable", "nightly")["enabled"] is True
    assert run(*words).exit_code == 0


def test_only_what_is_named_is_changed_and_zero_takes_a_limit_away(run: CommandLine) -> None:
    words = ("--workflow", "w", "--max-active-runs", "5", "--run-timeout", "1h")
    run("pipelines", "create", "nightly", *words)
    changed = run.json("pipelines", "change", "nightly", "--name", "daily", "--run-timeout", "0")
    assert (changed["name"], changed["timeout_seconds"]) == ("daily", None)
    assert (changed["workflow_name"], changed["max_active_runs"]) == ("w", 5)
    assert run.json("pipelines", "change", "1", "--max-active-runs", "0")["max_active_runs"] is None


def test_a_change_of_nothing_is_wrong_usage(run: CommandLine) -> None:
    assert run("pipelines", "change", "nightly").exit_code == ExitCode.USAGE


def test_a_name_that_is_taken_is_refused(run: CommandLine) -> None:
    run("pipelines", "create", "nightly", "--workflow", "w")
    told = run("pipelines", "create", "nightly", "--workflow", "another")
    assert told.exit_code == ExitCode.REFUSED
    assert "Those that there are:\n  $ pipeline-run pipelines list" in told.stderr
