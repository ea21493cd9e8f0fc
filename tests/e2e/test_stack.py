"""The stack on one machine, whole: what it opens, what it survives, what it leaves."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pg8000.dbapi
import psutil
import pytest

from infra.local.environments import CACHE, ROOT
from infra.local.keys import keys_of
from infra.local.layout import Layout
from infra.local.parts.postgres import OWNER, SUPERUSER
from infra.local.processes import family, living, marked, read_records
from infra.local.stack_file import Stack, read_stack
from local_stack import LocalStack, fresh_local_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARTS = ("postgres", "conductor", "localstack", "storage", "workbench")
HTTP_SECONDS = 30
# What never takes this long unless something is wrong.
DEADLINE_SECONDS = 60
LOOK_AGAIN_SECONDS = 0.02


@pytest.fixture(scope="module")
def own_stack() -> Iterator[LocalStack]:
    """One that a test may break: the session's has to stay as it is."""
    with fresh_local_stack("e2e-broken") as local_stack:
        local_stack.up()
        yield local_stack


def processes_of(local_stack: LocalStack) -> list[psutil.Process]:
    roots = [p for record in read_records(local_stack.layout) if (p := record.process)]
    return list({*marked(local_stack.layout.marker), *(m for r in roots for m in family(r))})


def call(method: str, url: str, body: Any = None, *, token: str = "") -> Any:
    request = urllib.request.Request(
        url,
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=HTTP_SECONDS) as answer:
        return json.load(answer)


def is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


def test_s19_every_listening_socket_of_every_process_is_a_loopback_one(
    local_stack: LocalStack, stack: Stack
) -> None:
    listening = [
        (process.pid, connection.laddr[0], connection.laddr[1])
        for process in processes_of(local_stack)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    ports = {port for _, _, port in listening}
    assert {int(url.rsplit(":", 1)[1].split("/")[0]) for url in addresses(stack)} <= ports
    assert [one for one in listening if not is_loopback(one[1])] == []


def addresses(stack: Stack) -> list[str]:
    return [
        stack.aws_endpoint_url,
        stack.database_url,
        stack.conductor_url,
        stack.workbench_url,
        stack.storage_endpoint_url,
    ]


def test_no_process_has_a_file_open_for_writing_outside_the_clone_and_the_cache(
    local_stack: LocalStack,
) -> None:
    written = {
        file.path
        for process in processes_of(local_stack)
        for file in process.open_files()
        if set(file.mode) & {"w", "a", "+"}
    }
    assert str(local_stack.layout.log("conductor")) in written
    allowed = (ROOT, CACHE, Path("/dev"), Path("/proc"))
    assert {p for p in written if not any(map(Path(p).is_relative_to, allowed))} == set()


def test_functions_run_in_our_executor(local_stack: LocalStack, stack: Stack) -> None:
    assert call("GET", f"{stack.api_url}/health")
    commands = [" ".join(process.cmdline()) for process in processes_of(local_stack)]
    assert any("api.app.app" in command for command in commands)


def test_the_stack_file_is_its_owners_alone(local_stack: LocalStack, stack: Stack) -> None:
    assert local_stack.layout.stack_file.stat().st_mode & 0o777 == 0o600
    assert stack.api_url.endswith("/_aws/execute-api/pipelineruns/Prod")


def test_up_twice_is_harmless(local_stack: LocalStack, stack: Stack) -> None:
    before = read_records(local_stack.layout)
    again = local_stack.up()
    assert read_records(local_stack.layout) == before
    assert addresses(again) == addresses(stack)
    assert again.check_queue_url == stack.check_queue_url


def test_status_says_that_all_is_well_and_how_much_memory_it_takes(
    local_stack: LocalStack, stack: Stack
) -> None:
    done = local_stack.run("status")
    assert done.returncode == 0, done.stdout
    for part in ("api", *PARTS):
        assert f"✓ {part}" in done.stdout
    assert stack.api_url in done.stdout
    assert "together" in done.stdout
    assert stack.database_url not in done.stdout  # It holds the password.


def test_after_the_death_of_all_parts_status_tells_and_up_mends(own_stack: LocalStack) -> None:
    own_stack.up()  # With all parts its own: an earlier test may have given it others.
    for record in read_records(own_stack.layout):
        os.kill(record.pid, signal.SIGKILL)
    told = own_stack.run("status")
    assert told.returncode == 1
    for part in PARTS:
        assert f"{part}: isn't running" in told.stdout
    stack = own_stack.up()
    assert call("GET", f"{stack.api_url}/health")
    assert own_stack.run("status").returncode == 0


@pytest.mark.prove
@pytest.mark.parametrize("part", PARTS)
def test_after_the_death_of_one_part_up_mends_it_and_leaves_the_others(
    own_stack: LocalStack, part: str
) -> None:
    own_stack.up()
    before = {record.part: record for record in read_records(own_stack.layout)}
    os.kill(before[part].pid, signal.SIGKILL)
    stack = own_stack.up()
    after = {record.part: record for record in read_records(own_stack.layout)}
    assert {name for name in after if after[name] != before[name]} == {part}
    assert call("GET", f"{stack.api_url}/health")
    assert own_stack.run("status").returncode == 0


@pytest.mark.prove
def test_runs_and_files_outlive_down_and_up_and_no_process_does(own_stack: LocalStack) -> None:
    stack = own_stack.up()
    assert stack.storage_path is not None
    pipeline = call(
        "POST",
        f"{stack.api_url}/pipeline",
        {"name": "kept", "mode": "BATCH", "workflow_name": "batch_pipeline_workflow"},
        token=stack.api_token,
    )
    kept = Path(stack.storage_path) / "kept.txt"
    kept.write_text("kept")
    processes = processes_of(own_stack)
    own_stack.down()
    assert [process for process in processes if living(process.pid) == process] == []
    assert marked(own_stack.layout.marker) == []
    assert not own_stack.layout.stack_file.exists()
    assert own_stack.run("status").returncode == 1
    again = own_stack.up()
    assert addresses(again) == addresses(stack)
    assert (
        call("GET", f"{again.api_url}/pipeline/{pipeline['id']}", token=again.api_token) == pipeline
    )
    assert kept.read_text() == "kept"


@pytest.mark.prove
def test_down_ends_parts_that_hang(own_stack: LocalStack) -> None:
    own_stack.up()
    processes = processes_of(own_stack)
    for record in read_records(own_stack.layout):
        os.kill(record.pid, signal.SIGSTOP)
    own_stack.down()
    assert [process for process in processes if living(process.pid) == process] == []


def test_given_parts_are_used_in_place_of_ours(
    own_stack: LocalStack, local_stack: LocalStack, stack: Stack
) -> None:
    database = make_database(local_stack.layout, stack.database_url)
    given = own_stack.up(
        DATABASE_URL=database,
        CONDUCTOR_URL=stack.conductor_url,
        WORKBENCH_API_URL=stack.workbench_url,
        STORAGE_ENDPOINT_URL=stack.storage_endpoint_url,
        STORAGE_BUCKET=stack.storage_bucket,
        AWS_ACCESS_KEY_ID=stack.storage_access_key_id,
        AWS_SECRET_ACCESS_KEY=stack.storage_secret_access_key,
    )
    assert addresses(given)[1:] == [database, *addresses(stack)[2:]]
    assert given.storage_path is None
    # Ours aren't needed any more.
    assert [record.part for record in read_records(own_stack.layout)] == ["keeper", "localstack"]
    # The schema was made there too.
    assert call("GET", f"{given.api_url}/pipeline", token=given.api_token)["items"] == []
    assert own_stack.run("status").returncode == 0


def test_a_given_part_that_is_not_there_is_told_and_changes_nothing(
    own_stack: LocalStack,
) -> None:
    own_stack.up()
    before = read_records(own_stack.layout)
    done = own_stack.run("up", CONDUCTOR_URL="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "CONDUCTOR_URL gives http://127.0.0.1:9, which can't be used" in done.stderr
    assert read_records(own_stack.layout) == before
    assert own_stack.run("status").returncode == 0


@pytest.mark.prove
def test_an_up_that_is_interrupted_leaves_nothing_of_what_it_started(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = ROOT / ".local" / f"e2e-interrupted-{tmp_path_factory.getbasetemp().name}"
    interrupted = LocalStack(Layout(folder))
    try:
        with interrupted.begin("up") as up:
            eventually(lambda: len(read_records(interrupted.layout)) == len(PARTS) + 1)
            up.send_signal(signal.SIGINT)
            assert up.wait(DEADLINE_SECONDS) == 130
        assert marked(interrupted.layout.marker) == []
        assert read_records(interrupted.layout) == []
    finally:
        interrupted.down()
        shutil.rmtree(folder)


@pytest.mark.prove
def test_two_clones_run_side_by_side_one_of_them_in_a_closed_folder(
    own_stack: LocalStack, tmp_path: Path
) -> None:
    first = own_stack.up()
    clone = tmp_path / "closed" / "clone"
    ours = shutil.ignore_patterns(".local", ".git", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, clone, ignore=ours)
    clone.parent.chmod(0o700)
    try:
        make(clone, "up")
        second = read_stack(Layout(clone / ".local"))
        assert second is not None
        assert set(addresses(first)).isdisjoint(addresses(second))
        for stack in (first, second):
            assert call("GET", f"{stack.api_url}/health")
        make(clone, "status")
    finally:
        make(clone, "down")
    assert own_stack.run("status").returncode == 0


def make_database(server: Layout, beside: str) -> str:
    """The address of a new database on the same server, of the same owner."""
    parts = urlsplit(beside)
    password = keys_of(server).postgres_password
    with closing(
        pg8000.dbapi.connect(SUPERUSER, host=parts.hostname, port=parts.port, password=password)
    ) as connection:
        connection.autocommit = True
        connection.cursor().execute("DROP DATABASE IF EXISTS given WITH (FORCE)")
        connection.cursor().execute(f"CREATE DATABASE given OWNER {OWNER}")
    return parts._replace(path="/given").geturl()


def make(clone: Path, verb: str) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", verb],  # noqa: S607 - whatever the user's make is
        cwd=clone,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(LOOK_AGAIN_SECONDS)
