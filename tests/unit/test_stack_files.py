"""What the local stack keeps in files, and how it reads what somebody else may have spoilt."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from infra.local.files import read_json, write_json
from infra.local.keeper import KEPT_BYTES, LOG_BYTES, cap_log
from infra.local.keys import keys_of
from infra.local.layout import Layout
from infra.local.processes import (
    ProcessRecord,
    birth,
    forget,
    read_record,
    read_records,
    write_record,
)
from infra.local.stack_file import Stack, read_stack, write_stack

if TYPE_CHECKING:
    from pathlib import Path

RECORD = ProcessRecord(
    part="conductor",
    pid=4711,
    born="boot/1",
    fingerprint="f",
    port=20_001,
    url="http://127.0.0.1:20001",
    stop_signal=15,
)
STACK = Stack(
    api_token="t",  # noqa: S106
    api_url="http://127.0.0.1:1/_aws/execute-api/pipelineruns/Prod",
    dashboard_url="http://127.0.0.1:1/_aws/execute-api/pipelineruns/Prod/dashboard",
    database_url="postgresql+pg8000://postgres:secret@127.0.0.1:2/pipeline_runs",
    conductor_url="http://127.0.0.1:3",
    workbench_url="http://127.0.0.1:4",
    storage_endpoint_url="http://127.0.0.1:5",
    storage_bucket="user-data",
    storage_path="/somewhere/user-data",
    storage_access_key_id="KEY",
    storage_secret_access_key="SECRET",  # noqa: S106 - opens nothing
    workbench_journal_path="/somewhere/journal.jsonl",
    aws_endpoint_url="http://127.0.0.1:1",
    aws_region="us-east-1",
    check_queue_url="http://127.0.0.1:1/check",
    retry_queue_url="http://127.0.0.1:1/retry",
    check_dlq_url="http://127.0.0.1:1/dlq",
    tick_queue_url="http://127.0.0.1:1/tick",
    event_bus_name="bus",
    api_function_name="api",
    tick_function_name="tick",
    check_function_name="check",
    relay_function_name="relay",
    hunt_function_name="hunt",
    survey_function_name="survey",
    purge_function_name="purge",
    poll_interval_seconds=30,
    external_parts=("workbench",),
    up_seconds=9.5,
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state")


def test_the_state_lies_in_the_clone_unless_it_is_named() -> None:
    usual = Layout.from_environment({})
    named = Layout.from_environment({"PIPELINE_RUNS_LOCAL": ".local/e2e"})
    assert usual.state.name == ".local"
    assert named.state == usual.state / "e2e"
    assert usual.marker != named.marker


def test_a_file_is_replaced_whole_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.json"
    write_json(path, {"a": 1})
    write_json(path, {"b": 2})
    assert json.loads(path.read_text()) == {"b": 2}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [child.name for child in path.parent.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "\0\0\0"])
def test_a_spoilt_file_counts_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(content)
    assert read_json(path) == {}


def test_a_part_that_was_started_is_known_until_it_is_forgotten(layout: Layout) -> None:
    other = replace(RECORD, part="storage", pid=4712)
    write_record(layout, RECORD)
    write_record(layout, other)
    assert read_records(layout) == [RECORD, other]
    forget(layout, "conductor")
    forget(layout, "conductor")
    assert read_record(layout, "conductor") is None
    assert read_records(layout) == [other]


@pytest.mark.parametrize("content", ["not json", "{}", '{"pid": 1}'])
def test_a_spoilt_record_is_no_record(layout: Layout, content: str) -> None:
    write_record(layout, RECORD)
    (layout.processes / "conductor.json").write_text(content)
    assert read_records(layout) == []


def test_a_process_with_the_id_but_another_birth_is_not_the_part() -> None:
    init = replace(RECORD, pid=1, born=birth(1))
    assert init.process is not None
    assert replace(init, born="another boot/1").process is None


def test_keys_are_made_once_and_missing_ones_are_added(layout: Layout) -> None:
    made = keys_of(layout)
    assert keys_of(layout) == made
    kept = json.loads(layout.keys_file.read_text())
    del kept["storage_access_key_id"]
    write_json(layout.keys_file, kept)
    again = keys_of(layout)
    assert again.postgres_password == made.postgres_password
    assert again.storage_access_key_id not in {"", made.storage_access_key_id}


def test_the_stack_file_says_what_was_written_and_leaves_out_what_there_is_not(
    layout: Layout,
) -> None:
    without_folder = replace(STACK, storage_path=None)
    write_stack(layout, without_folder)
    assert read_stack(layout) == without_folder
    assert "storage_path" not in json.loads(layout.stack_file.read_text())
    assert layout.stack_file.stat().st_mode & 0o777 == 0o600


def test_without_a_file_there_is_no_stack(layout: Layout) -> None:
    assert read_stack(layout) is None


def test_a_log_that_grew_too_long_goes_on_empty_and_keeps_its_end_beside_it(
    tmp_path: Path,
) -> None:
    log = tmp_path / "part.log"
    line = b"x" * 99 + b"\n"
    with log.open("ab", buffering=0) as writer:
        writer.write(line * (LOG_BYTES // len(line) + 1))
        writer.write(b"the last\n")
        cap_log(log)
        writer.write(b"the first\n")
    assert log.read_bytes() == b"the first\n"
    kept = (tmp_path / "part.log.old").read_bytes()
    assert KEPT_BYTES - len(line) <= len(kept) <= KEPT_BYTES
    assert kept.startswith(line)
    assert kept.endswith(line + b"the last\n")


def test_a_log_of_ordinary_length_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    log.write_bytes(b"x" * LOG_BYTES)
    cap_log(log)
    assert log.stat().st_size == LOG_BYTES
    assert not log.with_suffix(".log.old").exists()
