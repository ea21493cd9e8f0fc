"""`pipeline-run`'s commands about runs, over the real API in process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from client_api import CommandLine, LinkedStorage, playing, problem
from fakes import World
from pipeline_runs.cli.exit_codes import ExitCode
from runs.model import Progress
from runs.wiring import using
from wired import WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUBMIT = ("submit", "-p", "batch", "--input-prefix", "in", "--output-prefix", "out")


@pytest.fixture
def world() -> World:
    world = World()
    world.pipeline()
    return world


@pytest.fixture
def stored() -> LinkedStorage:
    return LinkedStorage()


@pytest.fixture(autouse=True)
def wired(world: World, stored: LinkedStorage) -> Iterator[None]:
    wiring = WorldWiring(world)
    wiring.storage = stored
    with using(wiring):
        yield


@pytest.fixture
def run(world: World, tmp_path: Path) -> CommandLine:
    return CommandLine(world, tmp_path)


# -- submit ---------------------------------------------------------------------------------------


def test_a_run_is_submitted_and_shown_with_what_to_do_next(run: CommandLine) -> None:
    told = run(*SUBMIT, "--tag", "team=ocean", "--parameter", "n=3", "--parameter", "s=abc")
    assert told.exit_code == 0
    assert told.stdout.splitlines()[0] == "Run 1  ◔ SUBMITTED  batch"
    assert "team=ocean" in told.stdout
    assert '{"n": 3, "s": "abc"}' in told.stdout
    assert told.stderr == "  $ pipeline-run watch 1\n  $ pipeline-run cancel 1\n"


def test_json_is_the_run_as_the_api_tells_it_and_nothing_else(run: CommandLine) -> None:
    told = run(*SUBMIT, "--json")
    assert (told.exit_code, told.stderr) == (0, "")
    body = json.loads(told.stdout)
    assert (body["id"], body["status"], body["mode"]) == (1, "SUBMITTED", "BATCH")
    assert body["observation"]["progress"] is None


def test_a_pipeline_may_be_named_by_its_id(run: CommandLine) -> None:
    assert run.json("submit", "-p", "1", *SUBMIT[3:])["pipeline_id"] == 1
    assert run.api.calls == ["POST /pipeline-run"]


def test_a_submission_that_fails_shows_the_run_that_is_kept(run: CommandLine, world: World) -> None:
    world.conductor.down = True
    told = run(*SUBMIT)
    assert told.exit_code == ExitCode.FAILED
    assert told.stdout.splitlines()[0] == "Run 1  ✗ FAILED  batch"
    assert "Conductor can't be reached" in told.stdout
    assert told.stderr == "  $ pipeline-run events 1\n  $ pipeline-run retry 1\n"


def test_the_same_key_is_the_same_run(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("a\n1\n")
    run.environment["PIPELINE_RUN_STORAGE_BUCKET"] = "user-data"
    words = ("submit", "-p", "1", "--input", str(tmp_path / "in"), "--idempotency-key", "k")
    assert run.json(*words)["id"] == run.json(*words)["id"] == 1


def test_prefixes_that_nobody_says_are_wrong_usage(run: CommandLine) -> None:
    told = run("submit", "-p", "batch")
    assert told.exit_code == ExitCode.USAGE
    assert "--input-prefix" in told.stderr
    assert run.api.calls == []


def test_a_folder_is_uploaded_first_and_results_lie_beside_it(
    run: CommandLine, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.csv").write_text("a\n1\n")
    (folder / "sub" / "b.csv").write_text("b\n2\n")
    (folder / ".hidden").write_text("no")
    run.environment["PIPELINE_RUN_STORAGE_BUCKET"] = "user-data"
    body = run.json("submit", "-p", "batch", "--input", str(folder))
    place = body["user_storage_input_path_prefix"].removeprefix("s3://user-data/")
    work = place.removesuffix("input/")
    assert work.startswith("pipeline-run/")
    assert run.storage.objects == {
        ("user-data", f"{place}a.csv"): b"a\n1\n",
        ("user-data", f"{place}sub/b.csv"): b"b\n2\n",
    }
    assert body["user_storage_output_path_prefix"] == f"{work}output/"
    assert body["user_storage_report_path_prefix"] == f"{work}report/"


def test_a_place_of_ones_own_is_kept_to(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n")
    run.environment |= {
        "PIPELINE_RUN_STORAGE_BUCKET": "user-data",
        "PIPELINE_RUN_STORAGE_PREFIX": "tenants/t1/",
    }
    body = run.json("submit", "-p", "batch", "--input", str(tmp_path / "a.csv"))
    assert body["user_storage_output_path_prefix"].startswith("tenants/t1/pipeline-run/")
    ((_, key),) = run.storage.objects
    assert key.startswith("tenants/t1/pipeline-run/")


def test_a_folder_is_uploaded_to_the_place_that_is_said(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n")
    told = run(
        "submit",
        *("-p", "batch", "--input", str(tmp_path / "a.csv")),
        *("--input-prefix", "s3://bucket/mine/", "--output-prefix", "out"),
    )
    assert told.exit_code == 0, told.stderr
    assert list(run.storage.objects) == [("bucket", "mine/a.csv")]
    assert "Uploaded 1 file, 2 B, to s3://bucket/mine/" in told.stderr


def test_an_upload_without_a_bucket_says_how_to_name_one(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n")
    told = run("submit", "-p", "batch", "--input", str(tmp_path / "a.csv"))
    assert told.exit_code == ExitCode.FILES
    assert "PIPELINE_RUN_STORAGE_BUCKET" in told.stderr


# -- waiting --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("COMPLETED", ExitCode.COMPLETED),
        ("FAILED", ExitCode.FAILED),
        ("CANCELLED", ExitCode.CANCELLED),
    ],
)
def test_who_waits_ends_as_the_run_does(
    run: CommandLine, world: World, end: str, code: ExitCode
) -> None:
    run.api.before = playing(
        world, [None, None, None, ("RUNNING", Progress(3, 7)), None, (end, None)], 1
    )
    told = run(*SUBMIT, "--wait")
    assert told.exit_code == code
    lines = [line.split("  ")[-1].strip() for line in told.stderr.splitlines()]
    assert lines[:4] == ["Run 1", "◔ SUBMITTED", "◑ RUNNING", "3 of 7 objects"]
    assert end in lines[4]
    assert f"{end}  batch" in told.stdout


def test_a_wait_that_is_over_has_a_code_of_its_own(run: CommandLine) -> None:
    told = run(*SUBMIT, "--wait", "--timeout", "90s")
    assert told.exit_code == ExitCode.TIMED_OUT
    assert "run 1 is still SUBMITTED" in told.stderr
    assert "pipeline-run watch 1" in told.stderr


def test_a_wait_outlives_an_api_that_is_away_for_a_while(run: CommandLine, world: World) -> None:
    away = httpx.ConnectError("refused")
    run.api.next_answers += [None, None, None, *[away] * 20]
    run.api.before = playing(world, [None, None, None, ("COMPLETED", None)], 1)
    told = run(*SUBMIT, "--wait")
    assert told.exit_code == 0
    assert told.stderr.count("trying on") == 1
    assert world.time() < 300


def test_a_wait_ends_with_an_api_that_stays_away(run: CommandLine) -> None:
    run.api.next_answers += [None, None, None, *[httpx.ConnectError("refused")] * 1_000]
    told = run(*SUBMIT, "--wait")
    assert told.exit_code == ExitCode.NO_API
    assert 300 < sum(run.api.pauses) < 330


def test_an_interrupted_wait_says_that_the_run_goes_on(run: CommandLine) -> None:
    run(*SUBMIT)

    def interrupt() -> None:
        if len(run.api.requests) > 4:
            raise KeyboardInterrupt

    run.api.before = interrupt
    told = run("watch", "1")
    assert told.exit_code == ExitCode.INTERRUPTED
    assert "Run 1 goes on. To see it again:\n  $ pipeline-run watch 1\n" in told.stderr


def test_who_sits_there_is_told_within_seconds(run: CommandLine) -> None:
    run.api.next_answers += [httpx.ConnectError("refused")] * 100
    assert run("list").exit_code == ExitCode.NO_API
    assert sum(run.api.pauses) < 8


def test_a_run_that_ran_out_of_its_time_has_timed_out(run: CommandLine, world: World) -> None:
    run(*SUBMIT, "--run-timeout", "1m")
    world.go_on(200)
    told = run("watch", "1")
    assert told.exit_code == ExitCode.TIMED_OUT, told.stdout


def test_watching_a_run_that_has_ended_ends_at_once(run: CommandLine, world: World) -> None:
    run(*SUBMIT)
    world.workbench.become("COMPLETED", run=1)
    world.go_on(60)
    run.api.requests.clear()
    told = run("watch", "1", "--json")
    assert (told.exit_code, json.loads(told.stdout)["status"]) == (0, "COMPLETED")
    assert run.api.calls == ["GET /pipeline-run/1"]


# -- looking --------------------------------------------------------------------------------------


def test_a_list_shows_a_line_for_each_run(run: CommandLine, world: World) -> None:
    run(*SUBMIT)
    world.pass_time(90)
    run(*SUBMIT, "--tag", "team=ocean")
    told = run("list")
    assert [line.split()[0] for line in told.stdout.splitlines()] == ["RUN", "2", "1"]
    assert "team=ocean" in told.stdout
    assert "1 min ago" in told.stdout


def test_a_long_reason_takes_no_room_from_the_other_columns(run: CommandLine, world: World) -> None:
    run(*SUBMIT)
    world.workbench.become("FAILED", run=1, error_message="broken: " + "x" * 300)
    world.go_on(60)
    heading, line = run("list").stdout.splitlines()
    assert heading.split() == ["RUN", "STATUS", "PIPELINE", "CREATED", "TOOK", "NEWS"]
    assert line.split()[:4] == ["1", "✗", "FAILED", "batch"]
    assert line.endswith("xxx…")


def test_a_list_takes_every_filter_of_the_api(run: CommandLine) -> None:
    words = (
        *("--status", "running", "--pipeline", "batch", "--tag", "team=ocean"),
        *("--created-after", "2h", "--created-before", "2026-03-01T12:00:00Z", "--job", "j-1"),
    )
    told = run("list", *words)
    assert (told.exit_code, told.stdout) == (0, "")
    assert told.stderr == "There are no such runs.\n"
    assert dict(run.api.requests[-1].url.params) == {
        "status": "RUNNING",
        "pipeline_id": "1",
        "tag": "team:ocean",
        "created_after": "2026-03-01T10:00:00+00:00",
        "created_before": "2026-03-01T12:00:00+00:00",
        "workbench_job_id": "j-1",
        "page_size": "21",
    }


def test_a_list_says_that_there_is_more(run: CommandLine) -> None:
    for _ in range(3):
        run(*SUBMIT)
    told = run("list", "-n", "2")
    assert len(told.stdout.splitlines()) == 3
    assert told.stderr == "There are more than 2: --limit 0 lists all.\n"
    assert [one["id"] for one in run.json("list", "-n", "2")["items"]] == [3, 2]
    assert [one["id"] for one in run.json("list", "-n", "0")["items"]] == [3, 2, 1]


def test_a_run_that_is_not_there_is_refused_with_where_to_look(run: CommandLine) -> None:
    told = run("get", "77")
    assert told.exit_code == ExitCode.REFUSED
    assert told.stdout == ""
    lines = told.stderr.splitlines()
    assert lines[0] == "error: Pipeline run not found"
    assert lines[1:3] == ["Those that this token can see:", "  $ pipeline-run list"]
    assert lines[-1].startswith("request id: ")


def test_a_history_tells_when_and_how_long_after(run: CommandLine, world: World) -> None:
    run(*SUBMIT)
    world.workbench.become("FAILED", run=1, error_message="no such bucket")
    world.go_on(60)
    told = run("events", "1")
    signs = "○", "◔", "✗"
    lines = told.stdout.splitlines()[1:]
    assert [line.split(sign)[1].split()[0] for line, sign in zip(lines, signs, strict=True)] == [
        "CREATED",
        "SUBMITTED",
        "FAILED",
    ]
    assert "no such bucket" in told.stdout
    assert [one["status"] for one in run.json("events", "1")["items"]] == [
        "CREATED",
        "SUBMITTED",
        "FAILED",
    ]


def test_words_of_others_do_not_steer_the_terminal(run: CommandLine, world: World) -> None:
    run(*SUBMIT, "--tag", "a=\x1b]0;owned\x07\u202e[red]x")
    world.workbench.become("FAILED", run=1, error_message="\x1b[2J gone")
    world.go_on(60)
    for words in (("get", "1"), ("list",), ("events", "1")):
        told = run(*words)
        assert "\x1b" not in told.stdout
        assert "\u202e" not in told.stdout
    assert "[red]x" in run("get", "1").stdout


# -- cancel and retry -----------------------------------------------------------------------------


def test_a_run_is_cancelled_with_a_reason(run: CommandLine, world: World) -> None:
    run(*SUBMIT)
    told = run("cancel", "1", "--reason", "wrong input")
    assert told.exit_code == 0
    assert told.stdout.startswith("Run 1 is being cancelled")
    assert "wrong input" in run("get", "1").stdout
    world.go_on(60)
    again = run("cancel", "1")
    assert (again.exit_code, again.stdout) == (0, "Run 1 is CANCELLED.\n")


def test_only_an_ended_run_is_retried(run: CommandLine, world: World) -> None:
    run(*SUBMIT)
    early = run("retry", "1")
    assert early.exit_code == ExitCode.REFUSED
    assert "cancel it first" in early.stderr
    world.workbench.become("FAILED", run=1)
    world.go_on(60)
    assert run.json("retry", "1")["retry_of"] == 1


# -- outputs --------------------------------------------------------------------------------------


def test_outputs_are_listed_with_their_sizes(run: CommandLine, stored: LinkedStorage) -> None:
    run(*SUBMIT)
    stored.put("user-data", "out/a.csv", b"12345")
    told = run("outputs", "1")
    assert told.stdout.split() == ["SIZE", "NAME", "5", "B", "a.csv"]
    assert told.stderr == "1 object, 5 B; --download DIR saves them.\n"
    assert [one["name"] for one in run.json("outputs", "1")["items"]] == ["a.csv"]


def test_outputs_are_saved_below_a_folder(
    run: CommandLine, stored: LinkedStorage, tmp_path: Path
) -> None:
    run(*SUBMIT)
    for name in ("a.csv", "b/c.csv"):
        stored.put("user-data", f"out/{name}", b"12345")
    run.links = httpx.MockTransport(stored.answer)
    told = run("outputs", "1", "--download", str(tmp_path / "got"))
    assert told.exit_code == 0, told.stderr
    assert told.stdout == f"Saved 2 objects, 10 B, below {tmp_path / 'got'}\n"
    assert (tmp_path / "got" / "b" / "c.csv").read_bytes() == b"12345"
    again = run("outputs", "1", "--download", str(tmp_path / "got"))
    assert again.exit_code == ExitCode.FILES
    assert "is there already" in again.stderr
    assert run("outputs", "1", "-d", str(tmp_path / "got"), "--overwrite").exit_code == 0


def test_a_run_without_a_report_says_so(run: CommandLine) -> None:
    run(*SUBMIT)
    told = run("outputs", "1", "--report")
    assert told.exit_code == ExitCode.REFUSED
    assert "Its outputs are there without --report." in told.stderr


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        pytest.param(httpx.ConnectError("refused"), ExitCode.NO_API, id="no connection"),
        pytest.param(httpx.Response(200, text="<html>"), ExitCode.NO_API, id="another server"),
        pytest.param(problem(401, "unauthorized"), ExitCode.NO_API, id="no token"),
        pytest.param(problem(500, "internal_error"), ExitCode.NO_API, id="a bug"),
        pytest.param(problem(403, "forbidden"), ExitCode.REFUSED, id="no scope"),
        pytest.param(problem(409, "x"), ExitCode.REFUSED, id="a conflict"),
        pytest.param(problem(429, "tenant_full", wait=60), ExitCode.REFUSED, id="a limit"),
        pytest.param(problem(422, "invalid_request"), ExitCode.REFUSED, id="invalid"),
    ],
)
def test_every_kind_of_trouble_has_its_exit_code(
    run: CommandLine, trouble: httpx.Response | Exception, code: ExitCode
) -> None:
    run.api.next_answers += [trouble] * 20
    told = run("get", "1", "--json")
    assert (told.exit_code, told.stdout) == (code, "")
    assert told.stderr.startswith("error: ")


def test_what_is_at_fault_is_told_by_its_place(run: CommandLine) -> None:
    told = run("submit", "-p", "1", "--input-prefix", "a/../b", "--output-prefix", "out")
    assert told.exit_code == ExitCode.REFUSED
    assert "  /input_path_prefix: " in told.stderr


def test_a_configuration_that_is_not_there_says_what_to_do(run: CommandLine) -> None:
    run.environment.clear()
    told = run("list")
    assert told.exit_code == ExitCode.NO_API
    assert "Set PIPELINE_RUN_API_URL" in told.stderr


@pytest.mark.parametrize(
    "words",
    [("get",), ("get", "x"), ("get", "0"), ("unknown",), ("list", "--created-after", "yesterday")],
    ids=" ".join,
)
def test_wrong_usage_is_told_from_a_cancelled_run(run: CommandLine, words: tuple[str, ...]) -> None:
    assert run(*words).exit_code == ExitCode.USAGE


def test_a_key_that_cannot_be_sent_is_wrong_usage(run: CommandLine) -> None:
    told = run(*SUBMIT, "--idempotency-key", "schlüssel")
    assert told.exit_code == ExitCode.USAGE
    assert "visible ASCII" in told.stderr


def test_help_tells_the_exit_codes(run: CommandLine) -> None:
    told = run("--help")
    assert told.exit_code == 0
    assert "2 CANCELLED" in told.stdout


def test_the_request_id_goes_along(run: CommandLine) -> None:
    run("--request-id", "batch-7", "list")
    assert run.api.requests[0].headers["X-Request-Id"] == "batch-7"
