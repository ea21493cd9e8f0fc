"""`pipeline-run doctor`: each thing that can be wrong is named, with what to do."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from client_api import CommandLine, problem
from fakes import WORKBENCH_URL, World
from pipeline_runs.cli.exit_codes import ExitCode
from runs.ports import Breaker
from runs.wiring import using
from token_maker import TokenMaker
from wired import WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world() -> World:
    world = World()
    world.begin_minute()
    return world


@pytest.fixture
def maker(world: World) -> TokenMaker:
    return TokenMaker(now=world.time.now.timestamp)


@pytest.fixture(autouse=True)
def wired(world: World, maker: TokenMaker) -> Iterator[None]:
    wiring = WorldWiring(world)
    wiring.tokens = maker.tokens()
    with using(wiring):
        yield


@pytest.fixture
def run(world: World, tmp_path: Path, maker: TokenMaker) -> CommandLine:
    run = CommandLine(world, tmp_path)
    run.environment["PIPELINE_RUN_TOKEN"] = maker.token()
    run.environment["PIPELINE_RUN_STORAGE_BUCKET"] = "user-data"
    return run


def findings(run: CommandLine) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in run.json("doctor")["checks"]}


def test_all_is_well(run: CommandLine) -> None:
    told = run("doctor")
    assert told.exit_code == 0, told.stdout
    assert {line[0] for line in told.stdout.splitlines()} == {"✓", " "}
    assert {one["verdict"] for one in findings(run).values()} == {"well"}
    assert run.json("doctor")["well"] is True


def test_no_configuration_is_all_there_is_to_say(run: CommandLine) -> None:
    run.environment.clear()
    told = run("doctor")
    assert told.exit_code == ExitCode.NO_API
    assert told.stdout.startswith("✗  configuration  It isn't known where the API is.")


def test_an_api_that_does_not_answer_is_told_with_why(run: CommandLine) -> None:
    run.api.next_answers.append(httpx.ConnectError("Name or service not known"))
    found = findings(run)
    assert found["API"]["verdict"] == "broken"
    assert "Name or service not known" in found["API"]["told"]
    assert "network" in found["API"]["remedy"]
    assert "token" not in found


def test_a_service_without_its_database_is_told_apart(run: CommandLine, world: World) -> None:
    world.database.down = True
    found = findings(run)
    assert "database can't be reached" in found["API"]["told"]
    assert run("doctor").exit_code == ExitCode.NO_API


def test_a_token_that_has_expired_says_since_when(run: CommandLine, maker: TokenMaker) -> None:
    run.environment["PIPELINE_RUN_TOKEN"] = maker.expired()
    found = findings(run)
    assert "expired 1 min ago" in found["token"]["told"]
    assert found["token"]["verdict"] == found["access"]["verdict"] == "broken"
    assert "PIPELINE_RUN_TOKEN" in found["token"]["remedy"]


def test_a_token_that_ends_soon_is_doubtful(
    run: CommandLine, maker: TokenMaker, world: World
) -> None:
    end = world.time.now + timedelta(minutes=4)
    run.environment["PIPELINE_RUN_TOKEN"] = maker.token(exp=int(end.timestamp()))
    found = findings(run)
    assert found["token"]["verdict"] == "doubtful"
    assert "4 min 00 s" in found["token"]["told"]
    assert run("doctor").exit_code == 0


def test_a_token_that_is_none_is_told(run: CommandLine) -> None:
    del run.environment["PIPELINE_RUN_TOKEN"]
    assert findings(run)["token"]["told"] == "There is none"
    run.environment["PIPELINE_RUN_TOKEN"] = "opaque"  # noqa: S105 - it opens nothing
    assert "it is no JWT" in findings(run)["token"]["told"]


def test_a_scope_that_is_lacking_is_named(run: CommandLine, maker: TokenMaker) -> None:
    run.environment["PIPELINE_RUN_TOKEN"] = maker.token(scopes=["pipelines:write"])
    found = findings(run)
    assert "scopes: pipelines:write" in found["token"]["told"]
    assert "runs:read" in found["access"]["told"]
    assert found["access"]["remedy"] == "Ask for a token with this scope"


def test_a_bug_of_the_service_names_the_request(run: CommandLine) -> None:
    run.api.next_answers += [None, problem(500, "internal_error")]
    assert "request-7" in findings(run)["access"]["remedy"]


def test_a_poller_that_stands_still_is_told(run: CommandLine, world: World) -> None:
    assert findings(run)["poller"]["verdict"] == "well"
    world.pass_time(91)
    found = findings(run)["poller"]
    assert (found["verdict"], found["told"]) == ("broken", "swept 1 min ago, every 30 s")


def test_old_news_is_told(run: CommandLine, world: World) -> None:
    world.submit()
    world.pass_time(120)
    world.begin_minute()
    found = findings(run)["staleness"]
    assert found["verdict"] == "doubtful"
    assert "2 min 00 s old" in found["told"]


def test_a_breaker_that_is_open_is_told_with_since_when(run: CommandLine, world: World) -> None:
    world.database.breakers[WORKBENCH_URL] = Breaker(opened_at=world.time.now)
    world.pass_time(45)
    found = findings(run)["Workbench"]
    assert found["verdict"] == "broken"
    assert "its breaker opened 45 s ago" in found["told"]
    assert "Nothing is lost" in found["remedy"]


def test_a_clock_that_is_wrong_is_told(run: CommandLine) -> None:
    run.clock_ahead = timedelta(minutes=7)
    found = findings(run)["clock"]
    assert found["verdict"] == "doubtful"
    assert "7 min 00 s" in found["told"]


def test_a_file_with_a_token_that_others_can_read_is_told(
    run: CommandLine, maker: TokenMaker
) -> None:
    run.environment.clear()
    file = run.here / "config.toml"
    file.write_text(
        f'default_profile = "p"\n[profiles.p]\napi_url = "http://api.test"\n'
        f'token = "{maker.token()}"\n'
    )
    file.chmod(0o644)
    remedies = [one["remedy"] for one in run.json("doctor")["checks"]]
    assert {f"chmod 600 {file}", "Use the https:// address"} <= set(remedies)
    file.chmod(0o600)
    assert "chmod" not in run("doctor").stdout


def test_uploads_need_a_bucket(run: CommandLine) -> None:
    del run.environment["PIPELINE_RUN_STORAGE_BUCKET"]
    found = findings(run)["uploads"]
    assert found["verdict"] == "doubtful"
    assert "storage_bucket" in found["remedy"]
