"""Parts of the local stack are started, recognised, mended and ended: with real processes."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pg8000.dbapi
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from infra.local import ports
from infra.local.down import down
from infra.local.exclusive import exclusive, patiently
from infra.local.keys import Keys
from infra.local.layout import Layout
from infra.local.parts.part import status_of
from infra.local.parts.postgres import Postgres
from infra.local.parts.storage import BUCKET, Storage
from infra.local.processes import (
    MARKER,
    Launch,
    ProcessRecord,
    birth,
    listens,
    living,
    read_record,
    write_record,
)
from infra.local.steps import Halt
from infra.local.strays import end_strays
from infra.local.supervisor import bring_up
from infra.local.trouble import Halted, PartFailed, StackTrouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# What never takes this long unless something is wrong.
DEADLINE_SECONDS = 30
LOOK_AGAIN_SECONDS = 0.02
PASSWORD = "right horse"  # noqa: S105 - of servers that live for one test
SERVE = """
import http.server, sys
handler = http.server.SimpleHTTPRequestHandler
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""
IGNORE_SIGTERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SERVE}"
SERVE_IN_A_CHILD = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {SERVE!r}, sys.argv[1]])
"""
SERVE_THE_SECOND_TIME = f"""
import os, sys
if not os.path.exists("tried"):
    open("tried", "w").close()
    sys.exit("not yet")
{SERVE}
"""
HANG = "import time; time.sleep(600)"
DIE = "import sys; print('the reason'); sys.exit(3)"


@dataclass(frozen=True, kw_only=True)
class Toy:
    """A part that is a line of Python."""

    layout: Layout
    port: int
    program: str = SERVE
    name: str = "toy"
    boot_seconds: float = DEADLINE_SECONDS
    stop_signal: signal.Signals = signal.SIGTERM
    passing_faults: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self, say: Callable[[str], None]) -> None:
        say("booting")
        self.layout.state.mkdir(exist_ok=True)

    def launch(self) -> Launch:
        return Launch(
            command=(sys.executable, "-c", self.program, str(self.port)),
            environment={"PATH": os.environ["PATH"]},
            folder=self.layout.state,
        )

    def is_ready(self, pid: int) -> bool:
        return listens(pid, self.port) and status_of(self.url) == 200


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    layout = Layout(tmp_path / "state")
    yield layout
    assert down(layout) == 0


@pytest.fixture
def toy(layout: Layout) -> Toy:
    return Toy(layout=layout, port=free_port())


@pytest.fixture
def stranger() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def run(part: Any, layout: Layout) -> tuple[ProcessRecord, bool]:
    return bring_up(part, layout, Halt(), lambda _: None)


def eventually(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(LOOK_AGAIN_SECONDS)


def kill(record: ProcessRecord) -> None:
    os.kill(record.pid, signal.SIGKILL)
    eventually(lambda: record.process is None)


def process_of(layout: Layout, program: str, *, marked: bool) -> psutil.Popen:
    environment = {MARKER: layout.marker} if marked else {}
    return psutil.Popen([sys.executable, "-c", program], env=environment)


# -- starting -----------------------------------------------------------------------------------


def test_a_part_is_up_when_it_answers_and_is_written_down(toy: Toy, layout: Layout) -> None:
    record, new = run(toy, layout)
    assert new
    assert status_of(toy.url) == 200
    assert read_record(layout, "toy") == record
    assert record.process is not None
    assert record.process.environ()[MARKER] == layout.marker


def test_a_part_that_is_up_is_left_alone(toy: Toy, layout: Layout) -> None:
    first, _ = run(toy, layout)
    second, new = run(toy, layout)
    assert second == first
    assert not new


def test_a_killed_part_is_started_anew(toy: Toy, layout: Layout) -> None:
    first, _ = run(toy, layout)
    kill(first)
    second, new = run(toy, layout)
    assert new
    assert second.pid != first.pid
    assert status_of(toy.url) == 200


def test_a_part_that_hangs_is_replaced(toy: Toy, layout: Layout) -> None:
    part = replace(toy, boot_seconds=5)
    first, _ = run(part, layout)
    os.kill(first.pid, signal.SIGSTOP)
    second, new = run(part, layout)
    assert new
    assert first.process is None
    assert second.process is not None
    assert status_of(toy.url) == 200


def test_a_part_whose_settings_changed_is_started_anew(toy: Toy, layout: Layout) -> None:
    first, _ = run(toy, layout)
    second, new = run(replace(toy, port=free_port()), layout)
    assert new
    assert first.process is None
    assert second.url != first.url


def test_a_part_that_dies_at_its_start_is_told_with_its_last_words(
    toy: Toy, layout: Layout
) -> None:
    with pytest.raises(PartFailed) as failure:
        run(replace(toy, program=DIE), layout)
    text = str(failure.value)
    assert text.startswith("toy: ended by itself while it started (exit code 3)")
    assert str(layout.log("toy")) in text
    assert "the reason" in text


def test_words_of_an_earlier_start_are_not_quoted(toy: Toy, layout: Layout) -> None:
    with pytest.raises(PartFailed):
        run(replace(toy, program=DIE), layout)
    with pytest.raises(PartFailed) as failure:
        run(replace(toy, program="raise SystemExit(4)"), layout)
    assert "the reason" not in str(failure.value)


def test_a_part_that_is_never_ready_is_given_up_in_time(toy: Toy, layout: Layout) -> None:
    with pytest.raises(PartFailed, match="isn't ready after 1 s"):
        run(replace(toy, program=HANG, boot_seconds=1), layout)


def test_a_part_that_said_that_its_trouble_passes_is_started_once_more(
    toy: Toy, layout: Layout
) -> None:
    run(replace(toy, program=SERVE_THE_SECOND_TIME, passing_faults=("not yet",)), layout)
    assert status_of(toy.url) == 200


def test_a_program_that_is_not_there_is_told(toy: Toy, layout: Layout) -> None:
    class Missing(Toy):
        def launch(self) -> Launch:
            return replace(super().launch(), command=("/no/such/program",))

    with pytest.raises(PartFailed, match=r"toy: can't be started.*no/such/program"):
        run(Missing(layout=layout, port=toy.port), layout)


def test_waiting_for_a_part_ends_when_all_is_given_up(toy: Toy, layout: Layout) -> None:
    halt, trouble = Halt(), []
    hanging = replace(toy, program=HANG)

    def wait() -> None:
        try:
            bring_up(hanging, layout, halt, lambda _: None)
        except Halted as error:
            trouble.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: read_record(layout, "toy"))
    halt.order()
    thread.join(DEADLINE_SECONDS)
    assert len(trouble) == 1
    # What was started is written down, so that `down` finds it.
    assert read_record(layout, "toy") is not None


# -- ports --------------------------------------------------------------------------------------


def test_a_port_in_use_is_told_with_its_part_its_variable_and_its_holder(
    toy: Toy, layout: Layout, stranger: int
) -> None:
    with pytest.raises(StackTrouble) as trouble:
        run(replace(toy, port=stranger), layout)
    assert f"toy: port {stranger} is in use by" in str(trouble.value)
    assert f"(process {os.getpid()})" in str(trouble.value)
    assert "TOY_PORT" in str(trouble.value)
    assert read_record(layout, "toy") is None


def test_a_stranger_on_the_port_does_not_pass_for_the_part(stranger: int) -> None:
    with psutil.Popen([sys.executable, "-c", HANG]) as other:
        try:
            assert listens(os.getpid(), stranger)
            assert not listens(other.pid, stranger)
        finally:
            other.kill()


def test_a_part_may_listen_by_a_descendant(toy: Toy, layout: Layout) -> None:
    run(replace(toy, program=SERVE_IN_A_CHILD), layout)
    assert status_of(toy.url) == 200


def test_ports_stay_the_same_while_they_are_free(layout: Layout) -> None:
    first = ports.choose_ports(["one", "two"], layout, {}, held={})
    assert len(set(first.values())) == 2
    assert ports.choose_ports(["one", "two"], layout, {}, held={}) == first
    with socket.create_server(("127.0.0.1", first["one"])):
        again = ports.choose_ports(["one", "two"], layout, {}, held={})
        assert again["one"] not in first.values()
        assert again["two"] == first["two"]
        # Held by the part itself, it is no obstacle.
        assert ports.choose_ports(["one"], layout, {}, held=first)["one"] == first["one"]


def test_two_clones_choose_other_ports(layout: Layout, tmp_path: Path) -> None:
    mine = ports.choose_ports(["one"], layout, {}, held={})["one"]
    with socket.create_server(("127.0.0.1", mine)):
        theirs = ports.choose_ports(["one"], Layout(tmp_path / "other"), {}, held={})["one"]
    assert theirs != mine


def test_a_port_that_is_set_is_taken_or_refused(layout: Layout, stranger: int) -> None:
    free = free_port()
    chosen = ports.choose_ports(["one", "two"], layout, {"ONE_PORT": str(free)}, held={})
    assert chosen["one"] == free
    with pytest.raises(StackTrouble, match=f"one: port {stranger} is in use"):
        ports.choose_ports(["one"], layout, {"ONE_PORT": str(stranger)}, held={})
    both = {"ONE_PORT": str(free), "TWO_PORT": str(free)}
    with pytest.raises(StackTrouble, match="set for two parts"):
        ports.choose_ports(["one", "two"], layout, both, held={})


# -- ending -------------------------------------------------------------------------------------


def test_down_ends_every_part_and_forgets_it(toy: Toy, layout: Layout) -> None:
    record, _ = run(toy, layout)
    assert down(layout) == 0
    assert record.process is None
    assert read_record(layout, "toy") is None
    assert status_of(toy.url) is None


def test_down_ends_a_part_that_ignores_it(toy: Toy, layout: Layout) -> None:
    record, _ = run(replace(toy, program=IGNORE_SIGTERM), layout)
    assert down(layout) == 0
    assert record.process is None


def test_down_ends_a_part_that_is_stopped(toy: Toy, layout: Layout) -> None:
    record, _ = run(toy, layout)
    os.kill(record.pid, signal.SIGSTOP)
    assert down(layout) == 0
    assert record.process is None


def test_down_ends_descendants_too(toy: Toy, layout: Layout) -> None:
    run(replace(toy, program=SERVE_IN_A_CHILD), layout)
    assert down(layout) == 0
    assert status_of(toy.url) is None


def test_down_finds_a_child_whose_parent_was_killed(toy: Toy, layout: Layout) -> None:
    record, _ = run(replace(toy, program=SERVE_IN_A_CHILD), layout)
    kill(record)
    assert status_of(toy.url) == 200
    assert down(layout) == 0
    assert status_of(toy.url) is None


def test_what_a_killed_part_left_is_ended_before_it_is_started_anew(
    toy: Toy, layout: Layout
) -> None:
    part = replace(toy, program=SERVE_IN_A_CHILD)
    record, _ = run(part, layout)
    kill(record)
    assert end_strays(layout) == []
    run(part, layout)
    assert status_of(toy.url) == 200


def test_a_running_part_is_no_stray(toy: Toy, layout: Layout) -> None:
    record, _ = run(replace(toy, program=SERVE_IN_A_CHILD), layout)
    assert end_strays(layout) == []
    assert record.process is not None
    assert status_of(toy.url) == 200


@pytest.mark.parametrize("content", ["", "{]", '{"pid": 1}'])
def test_a_part_whose_record_is_spoilt_is_found_by_its_mark(
    toy: Toy, layout: Layout, content: str
) -> None:
    record, _ = run(toy, layout)
    (layout.processes / "toy.json").write_text(content)
    assert down(layout) == 0
    assert record.process is None


def test_a_process_that_has_the_id_of_an_earlier_part_is_left_alone(layout: Layout) -> None:
    with process_of(layout, HANG, marked=False) as innocent:
        record = ProcessRecord(
            part="toy",
            pid=innocent.pid,
            born="before the machine was restarted",
            fingerprint="",
            port=None,
            url="",
            stop_signal=signal.SIGKILL,
        )
        write_record(layout, record)
        try:
            assert down(layout) == 0
            assert living(innocent.pid)
        finally:
            innocent.kill()


def test_a_process_of_another_stack_is_left_alone(layout: Layout, tmp_path: Path) -> None:
    layout.state.mkdir()
    with process_of(Layout(tmp_path / "state-2"), HANG, marked=True) as innocent:
        try:
            assert down(layout) == 0
            assert living(innocent.pid)
        finally:
            innocent.kill()


def test_a_dead_process_that_nobody_has_reaped_counts_as_dead() -> None:
    with psutil.Popen([sys.executable, "-c", ""]) as child:
        born = birth(child.pid)
        eventually(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        assert born == birth(child.pid)
        assert living(child.pid) is None


def test_down_of_nothing_is_harmless(layout: Layout) -> None:
    assert down(layout) == 0
    assert down(layout) == 0


def test_one_command_waits_for_the_other(layout: Layout) -> None:
    told: list[str] = []
    order: list[str] = []

    def second() -> None:
        with exclusive(layout.lock_file, purpose="make down", on_wait=told.append, pause=patiently):
            order.append("second")

    with exclusive(layout.lock_file, purpose="make up", on_wait=told.append, pause=patiently):
        thread = threading.Thread(target=second)
        thread.start()
        eventually(lambda: told)
        order.append("first")
    thread.join(DEADLINE_SECONDS)
    assert told == [f"make up (process {os.getpid()})"]
    assert order == ["first", "second"]


# -- Postgres -----------------------------------------------------------------------------------


@pytest.fixture
def postgres(layout: Layout) -> Postgres:
    return Postgres(
        layout=layout,
        environment=os.environ,
        port=free_port(),
        password="another horse",  # noqa: S106 - the same
        owner_password=PASSWORD,
    )


def connect(postgres: Postgres, password: str | None = None) -> Any:
    parts = urlsplit(postgres.url)
    return pg8000.dbapi.connect(
        parts.username,
        host=parts.hostname,
        port=parts.port,
        database=parts.path[1:],
        password=password or postgres.owner_password,
    )


def ask(postgres: Postgres, statement: str) -> Any:
    with closing(connect(postgres)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def test_postgres_takes_its_password_and_no_other(postgres: Postgres, layout: Layout) -> None:
    run(postgres, layout)
    assert ask(postgres, "SELECT current_database()") == "pipeline_runs"
    with pytest.raises(pg8000.dbapi.DatabaseError, match="password authentication failed"):
        connect(postgres, "wrong horse")


def test_postgres_listens_on_the_loopback_address_alone(postgres: Postgres, layout: Layout) -> None:
    record, _ = run(postgres, layout)
    sockets = psutil.Process(record.pid).net_connections(kind="all")
    listening = [one.laddr for one in sockets if one.status == psutil.CONN_LISTEN]
    assert [tuple(address) for address in listening] == [("127.0.0.1", postgres.port)]


def test_postgres_runs_in_a_folder_that_is_closed_to_others_and_lies_deep(
    postgres: Postgres, tmp_path: Path
) -> None:
    # Deeper than the 107 bytes that the path of a socket may have.
    deep = tmp_path / "closed" / ("deep" * 30)
    deep.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    layout = Layout(deep / "state")
    closed = replace(postgres, layout=layout)
    try:
        record, _ = run(closed, layout)
        assert ask(closed, "SELECT 1") == 1
        process = psutil.Process(record.pid)
        assert process.uids().effective != 0
    finally:
        assert down(layout) == 0


def test_postgres_keeps_what_was_committed_when_it_is_killed(
    postgres: Postgres, layout: Layout
) -> None:
    record, _ = run(postgres, layout)
    ask(postgres, "CREATE TABLE kept AS SELECT 42 AS answer")
    kill(record)
    run(postgres, layout)
    assert ask(postgres, "SELECT answer FROM kept") == 42


def test_postgres_keeps_all_when_it_is_stopped(postgres: Postgres, layout: Layout) -> None:
    run(postgres, layout)
    ask(postgres, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert down(layout) == 0
    run(postgres, layout)
    assert ask(postgres, "SELECT answer FROM kept") == 42


def test_postgres_starts_though_its_lock_names_another_living_process(
    postgres: Postgres, layout: Layout
) -> None:
    record, _ = run(postgres, layout)
    kill(record)
    lock = layout.part("postgres") / "data" / "postmaster.pid"
    with psutil.Popen([sys.executable, "-c", HANG]) as stranger:
        try:
            rest = lock.read_text().split("\n", 1)[1]
            lock.write_text(f"{stranger.pid}\n{rest}")
            run(postgres, layout)
            assert ask(postgres, "SELECT 1") == 1
        finally:
            stranger.kill()


def test_a_database_that_was_half_made_is_made_again(postgres: Postgres, layout: Layout) -> None:
    half = layout.part("postgres") / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    run(postgres, layout)
    assert ask(postgres, "SELECT 1") == 1
    assert not half.exists()


# -- the storage --------------------------------------------------------------------------------


def s3(storage: Storage, secret: str) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=storage.url,
        region_name="us-east-1",
        aws_access_key_id=storage.keys.storage_access_key_id,
        aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )


def test_objects_are_files_and_need_the_key(layout: Layout) -> None:
    keys = Keys(
        postgres_password="", storage_access_key_id="KEY", storage_secret_access_key=PASSWORD
    )
    storage = Storage(layout=layout, environment=os.environ, port=free_port(), keys=keys)
    run(storage, layout)
    s3(storage, PASSWORD).put_object(Bucket=BUCKET, Key="a/b.txt", Body=b"hello")
    assert (layout.storage / BUCKET / "a" / "b.txt").read_bytes() == b"hello"
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3(storage, "wrong").list_objects_v2(Bucket=BUCKET)
    record = read_record(layout, "storage")
    assert record is not None
    assert record.process is not None
    assert PASSWORD not in " ".join(record.process.cmdline())
