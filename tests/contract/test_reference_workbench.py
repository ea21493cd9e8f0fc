"""The reference Workbench as a process, over HTTP, on a real S3."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import socket
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import polars as pl
import pytest

from infra.local.environments import ROOT, python_of
from reference_workbench import (
    BUCKET,
    RunningWorkbench,
    UserStorage,
    serve_user_storage,
    start_workbench,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ENDS = {"COMPLETED", "FAILED", "CANCELLED"}
MESSY_CSV = (
    b"Customer Name,Amount (EUR),Since,Customer Name\n"
    b" Ada ,10.5,2024-01-02,x\n"
    b"Ada,10.5,2024-01-02,x\n"  # The same once trimmed.
    b",,,\n"
    b"Bob,NA,2024-02-03,y\n"
)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UserStorage]:
    with serve_user_storage(tmp_path_factory.mktemp("storage")) as served:
        yield served


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, storage: UserStorage
) -> Iterator[RunningWorkbench]:
    with start_workbench(tmp_path_factory.mktemp("workbench"), storage) as started:
        yield started


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """A prefix of the test's own."""
    return hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]


def submit(workbench: RunningWorkbench, source: str, target: str, **fields: Any) -> str:
    body = {"pipeline_run_id": 7, "input_path_prefix": source, "output_path_prefix": target}
    answer = httpx.post(f"{workbench.url}/batch/submit", json=body | fields)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["workbench_job_id"])


def status(workbench: RunningWorkbench, job_id: str) -> dict[str, Any]:
    told: dict[str, Any] = httpx.get(f"{workbench.url}/batch/status/{job_id}").json()
    return told


def end_of(workbench: RunningWorkbench, job_id: str) -> dict[str, Any]:
    wait_until(lambda: status(workbench, job_id)["status"] in ENDS, f"the end of {job_id}")
    return status(workbench, job_id)


def completed(workbench: RunningWorkbench, source: str, target: str, **fields: Any) -> None:
    told = end_of(workbench, submit(workbench, source, target, **fields))
    assert told["status"] == "COMPLETED", told


def reaches(workbench: RunningWorkbench, job_id: str, done: int) -> Callable[[], bool]:
    return lambda: status(workbench, job_id).get("progress", {}).get("done", 0) >= done


def test_a_csv_file_becomes_a_cleaned_parquet_file(
    running: RunningWorkbench, storage: UserStorage, place: str
) -> None:
    storage.put(f"{place}/in/messy.csv", MESSY_CSV)
    job_id = submit(running, f"{place}/in", f"s3://{BUCKET}/{place}/out/")
    told = end_of(running, job_id)
    assert told == {
        "workbench_job_id": job_id,
        "status": "COMPLETED",
        "progress": {"done": 1, "total": 1},
    }
    cleaned = pl.read_parquet(io.BytesIO(storage.get(f"{place}/out/messy.csv.parquet")))
    assert cleaned.schema == {
        "customer_name": pl.String,
        "amount_eur": pl.Float64,
        "since": pl.Date,
        "customer_name_2": pl.String,
    }
    assert cleaned["customer_name"].to_list() == ["Ada", "Bob"]
    assert cleaned["amount_eur"].to_list() == [10.5, None]


def test_the_manifest_lists_inputs_and_results_with_true_checksums(
    running: RunningWorkbench, storage: UserStorage, place: str
) -> None:
    storage.put(f"{place}/in/sub/messy.csv", MESSY_CSV)
    storage.put(f"{place}/in/notes.txt", b"hello")
    completed(running, f"{place}/in", f"{place}/out")
    manifest = json.loads(storage.get(f"{place}/out/manifest.json"))
    assert manifest["totals"]["objects"] == 2
    notes, table = manifest["objects"]
    for file in (notes["source"], notes["target"], table["source"], table["target"]):
        content = storage.get(file["uri"].removeprefix(f"s3://{BUCKET}/"))
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert file["size_bytes"] == len(content)
    assert table["target"]["name"] == "sub/messy.csv.parquet"
    assert (table["rows_read"], table["rows_written"]) == (4, 2)
    assert table["changes"]["duplicate_rows_dropped"] == 1
    assert table["changes"]["empty_rows_dropped"] == 1
    assert storage.get(f"{place}/out/notes.txt") == b"hello"


def test_json_lines_and_parquet_are_tables_too(
    running: RunningWorkbench, storage: UserStorage, place: str
) -> None:
    storage.put(f"{place}/in/a.jsonl", b'{"Id": 1, "tags": ["x"]}\n{"Id": 2}\n{"Id": 2}\n')
    parquet = io.BytesIO()
    pl.DataFrame({"Id": [1, 1], "When": [None, None]}).write_parquet(parquet)
    storage.put(f"{place}/in/b.parquet", parquet.getvalue())
    completed(running, f"{place}/in", f"{place}/out")
    lines = pl.read_parquet(io.BytesIO(storage.get(f"{place}/out/a.jsonl.parquet")))
    assert lines.to_dicts() == [{"id": 1, "tags": ["x"]}, {"id": 2, "tags": None}]
    table = pl.read_parquet(io.BytesIO(storage.get(f"{place}/out/b.parquet.parquet")))
    assert table.to_dicts() == [{"id": 1, "when": None}]


def test_a_report_is_written_where_one_is_wanted_and_only_there(
    running: RunningWorkbench, storage: UserStorage, place: str
) -> None:
    storage.put(f"{place}/in/messy.csv", MESSY_CSV)
    completed(running, f"{place}/in", f"{place}/out")
    assert sorted(storage.keys(place)) == [
        f"{place}/in/messy.csv",
        f"{place}/out/manifest.json",
        f"{place}/out/messy.csv.parquet",
    ]
    completed(running, f"{place}/in", f"{place}/out", report_path_prefix=f"{place}/report")
    facts = json.loads(storage.get(f"{place}/report/report.json"))
    assert facts["objects"][0]["table"]["rows_written"] == 2
    assert "messy.csv" in storage.get(f"{place}/report/report.html").decode()


def test_a_second_run_overwrites_its_results_and_does_not_work_on_them(
    running: RunningWorkbench, storage: UserStorage, place: str
) -> None:
    storage.put(f"{place}/messy.csv", MESSY_CSV)
    results = {"report_path_prefix": f"{place}/report"}
    completed(running, place, f"{place}/out", **results)
    first = storage.get(f"{place}/out/messy.csv.parquet")
    completed(running, place, f"{place}/out", **results)
    assert storage.get(f"{place}/out/messy.csv.parquet") == first
    assert json.loads(storage.get(f"{place}/out/manifest.json"))["totals"]["objects"] == 1


def test_a_prefix_is_a_folder_or_one_object_never_the_beginning_of_a_name(
    running: RunningWorkbench, storage: UserStorage, place: str
) -> None:
    storage.put(f"{place}/june/a.txt", b"a")
    storage.put(f"{place}/june-old/b.txt", b"b")
    storage.put(f"{place}/june.txt", b"c")
    completed(running, f"{place}/june", f"{place}/out")
    assert storage.keys(f"{place}/out/") == [f"{place}/out/a.txt", f"{place}/out/manifest.json"]
    completed(running, f"{place}/june.txt", f"{place}/single")
    assert storage.get(f"{place}/single/june.txt") == b"c"


def test_a_copied_file_named_like_one_of_ours_keeps_its_content(
    running: RunningWorkbench, storage: UserStorage, place: str
) -> None:
    storage.put(f"{place}/in/manifest.json", b"theirs")
    completed(running, f"{place}/in", f"{place}/out")
    assert storage.get(f"{place}/out/manifest.json.original") == b"theirs"
    assert json.loads(storage.get(f"{place}/out/manifest.json"))["totals"]["objects"] == 1


def test_a_realtime_run_tells_how_much_there_is_beyond_one_page_of_the_listing(
    running: RunningWorkbench, storage: UserStorage, place: str
) -> None:
    storage.put(f"{place}/in/messy.csv", MESSY_CSV)
    client = storage.client()
    for number in range(1_005):
        client.put_object(Bucket=BUCKET, Key=f"{place}/in/{number}.bin", Body=b"xy")
    body = {"pipeline_run_id": 7, "input_path_prefix": f"{place}/in"}
    answer = httpx.post(f"{running.url}/realtime/run", json=body, timeout=30)
    assert answer.json()["output"] == {
        "input": f"s3://{BUCKET}/{place}/in",
        "objects": 1_006,
        "bytes": 1_005 * 2 + len(MESSY_CSV),
        "tables": [
            {
                "name": "messy.csv",
                "bytes": len(MESSY_CSV),
                "rows": 4,
                "columns": 4,
                "column_names": ["Customer Name", "Amount (EUR)", "Since", "Customer Name"],
            }
        ],
        "tables_not_profiled": 0,
        "other_files": 1_005,
    }


@pytest.mark.parametrize(
    "broken",
    [
        ("bad.csv", b"a,b\n1,2,3\n", "CSV"),
        ("bad.csv", b"name\n\xfcber\n", "CSV: invalid utf-8"),
        ("bad.csv", b"", "CSV: it is empty"),
        ("bad.jsonl", b'{"a": 1}\n{"a": \n', "JSON Lines: line 2"),
        ("bad.jsonl", b"[1]\n", "JSON Lines: line 1 is not a JSON object"),
        ("bad.parquet", b"PAR1 not really PAR1", "Parquet"),
    ],
)
def test_a_broken_file_fails_the_job_and_is_named(
    running: RunningWorkbench,
    storage: UserStorage,
    place: str,
    broken: tuple[str, bytes, str],
) -> None:
    name, content, reason = broken
    storage.put(f"{place}/in/sub/{name}", content)
    told = end_of(running, submit(running, f"{place}/in", f"{place}/out"))
    assert told["status"] == "FAILED"
    uri = f"s3://{BUCKET}/{place}/in/sub/{name}"
    assert told["error_message"].startswith(f"{uri} can't be read as {reason}")
    body = {"pipeline_run_id": 7, "input_path_prefix": f"{place}/in"}
    answer = httpx.post(f"{running.url}/realtime/run", json=body)
    assert (answer.status_code, answer.json()) == (422, {"error": told["error_message"]})


def test_no_such_bucket_and_nothing_below_the_prefix_are_told(
    running: RunningWorkbench, storage: UserStorage, place: str
) -> None:
    storage.put(f"{place}/elsewhere", b"")
    nowhere = end_of(running, submit(running, "s3://no-bucket/in", f"{place}/out"))
    assert nowhere["status"] == "FAILED"
    assert "There is no bucket 'no-bucket'" in nowhere["error_message"]
    nothing = end_of(running, submit(running, f"{place}/empty", f"{place}/out"))
    assert nothing["status"] == "FAILED"
    assert f"Nothing lies below s3://{BUCKET}/{place}/empty" in nothing["error_message"]
    storage.put(f"{place}/in/a.txt", b"a")
    unwritable = end_of(running, submit(running, f"{place}/in", "s3://no-bucket/out"))
    assert "There is no bucket 'no-bucket'" in unwritable["error_message"]


def test_a_storage_that_refuses_or_does_not_answer_is_told(
    storage: UserStorage, place: str, tmp_path: Path
) -> None:
    storage.put(f"{place}/in/a.txt", b"a")
    body = {"pipeline_run_id": 7, "input_path_prefix": f"{place}/in"}
    with start_workbench(tmp_path / "a", storage, AWS_SECRET_ACCESS_KEY="wrong") as workbench:  # noqa: S106
        told = end_of(workbench, submit(workbench, f"{place}/in", f"{place}/out"))
        assert told["status"] == "FAILED"
        assert "refused access" in told["error_message"]
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with start_workbench(tmp_path / "b", storage, STORAGE_ENDPOINT_URL=nobody) as workbench:
        told = end_of(workbench, submit(workbench, f"{place}/in", f"{place}/out"))
        assert told["status"] == "FAILED"
        assert f"The storage at {nobody} can't be reached" in told["error_message"]
        answer = httpx.post(f"{workbench.url}/realtime/run", json=body, timeout=30)
        assert answer.status_code == 503
        assert "can't be reached" in answer.json()["error"]


def test_a_running_job_is_cancelled_between_two_objects(
    running: RunningWorkbench, storage: UserStorage, place: str
) -> None:
    storage.put(f"{place}/in/a.txt", b"a")
    storage.put(f"{place}/in/b.txt", b"b")
    job_id = submit(running, f"{place}/in", f"{place}/out", parameters={"work_seconds": 600})
    wait_until(reaches(running, job_id, 1), "the first object is done")
    assert status(running, job_id)["status"] == "RUNNING"
    assert httpx.post(f"{running.url}/batch/cancel/{job_id}").status_code == 202
    told = end_of(running, job_id)
    assert told["status"] == "CANCELLED"
    assert told["error_message"] == "Cancelled after 1 of 2 objects."
    assert storage.keys(f"{place}/out/") == [f"{place}/out/a.txt"]


def test_a_queued_job_is_cancelled_before_it_begins(
    running: RunningWorkbench, storage: UserStorage, place: str
) -> None:
    storage.put(f"{place}/in/a.txt", b"a")
    job_id = submit(running, f"{place}/in", f"{place}/out", parameters={"queue_seconds": 600})
    assert status(running, job_id) == {"workbench_job_id": job_id, "status": "QUEUED"}
    httpx.post(f"{running.url}/batch/cancel/{job_id}")
    assert end_of(running, job_id)["status"] == "CANCELLED"
    assert storage.keys(f"{place}/out/") == []


def test_jobs_go_on_after_a_kill_under_their_ids_and_keys(
    storage: UserStorage, place: str, tmp_path: Path
) -> None:
    storage.put(f"{place}/in/messy.csv", MESSY_CSV)
    body = {
        "pipeline_run_id": 7,
        "input_path_prefix": f"{place}/in",
        "output_path_prefix": f"{place}/out",
        "parameters": {"work_seconds": 3},
    }
    headers = {"Idempotency-Key": "kill-7"}
    with start_workbench(tmp_path, storage) as first:
        answer = httpx.post(f"{first.url}/batch/submit", json=body, headers=headers)
        job_id = answer.json()["workbench_job_id"]
        wait_until(reaches(first, job_id, 1), "the object is done")
        first.process.kill()
        first.process.wait()
    with start_workbench(tmp_path, storage) as second:
        assert status(second, job_id)["status"] in {"RUNNING", "COMPLETED"}
        again = httpx.post(f"{second.url}/batch/submit", json=body, headers=headers)
        assert (again.status_code, again.json()["workbench_job_id"]) == (200, job_id)
        assert end_of(second, job_id)["status"] == "COMPLETED"
    assert json.loads(storage.get(f"{place}/out/manifest.json"))["workbench_job_id"] == job_id


def test_sigterm_ends_it_with_work_in_hand_and_without_complaint(
    storage: UserStorage, place: str, tmp_path: Path
) -> None:
    storage.put(f"{place}/in/a.txt", b"a")
    with start_workbench(tmp_path, storage) as workbench:
        submit(workbench, f"{place}/in", f"{place}/out", parameters={"work_seconds": 600})
        workbench.process.send_signal(signal.SIGTERM)
        assert workbench.process.wait(10) == 0


def test_three_hundred_jobs_at_once_all_end(
    running: RunningWorkbench, storage: UserStorage, place: str
) -> None:
    storage.put(f"{place}/in/a.csv", b"x\n1\n2\n")
    job_ids = [submit(running, f"{place}/in", f"{place}/out/{number}") for number in range(300)]

    def statuses() -> set[str]:
        told = [
            httpx.post(
                f"{running.url}/batch/status",
                json={"workbench_job_ids": job_ids[first : first + 100]},
            ).json()["jobs"]
            for first in range(0, 300, 100)
        ]
        return {job["status"] for page in told for job in page}

    wait_until(lambda: statuses() <= ENDS, "300 jobs have ended", within_seconds=120)
    assert statuses() == {"COMPLETED"}
    assert len(storage.keys(f"{place}/out/")) == 600


def test_the_journal_has_a_line_for_each_call_with_its_answer(
    storage: UserStorage, tmp_path: Path
) -> None:
    with start_workbench(tmp_path, storage) as workbench:
        body = {"pipeline_run_id": 9, "input_path_prefix": "in", "output_path_prefix": "out"}
        url = workbench.url
        names = {"Idempotency-Key": "k-9", "X-Request-Id": "monday"}
        answer = httpx.post(f"{url}/batch/submit", json=body, headers=names)
        job_id = answer.json()["workbench_job_id"]
        httpx.get(f"{url}/batch/status/nobody")
        httpx.post(f"{url}/batch/status", json={"workbench_job_ids": [job_id, "nobody"]})
        httpx.get(f"{url}/batch/jobs", params={"idempotency_key": "k-9"})
        httpx.post(f"{url}/batch/submit", content=b"{")
        lines = [json.loads(line) for line in workbench.journal_path.read_text().splitlines()]
    times = [line.pop("at") for line in lines]
    assert times == sorted(times)
    assert [line["request_id"] for line in lines] == ["monday", "", "", "", ""]
    shape = ("call", "pipeline_run_id", "idempotency_key", "workbench_job_ids", "status_code")
    assert [tuple(line[name] for name in shape) for line in lines] == [
        ("submit", 9, "k-9", [job_id], 202),
        ("status", None, None, ["nobody"], 404),
        ("bulk_status", None, None, [job_id, "nobody"], 200),
        ("find", None, "k-9", [job_id], 200),
        ("submit", None, None, [], 400),
    ]


def test_health_and_unknown_paths_are_answered_in_json(running: RunningWorkbench) -> None:
    health = httpx.get(f"{running.url}/health")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    unknown = httpx.get(f"{running.url}/batch/nothing")
    assert (unknown.status_code, unknown.json()) == (404, {"error": "Not Found"})
    assert httpx.get(f"{running.url}/batch/submit").status_code == 405


def test_a_body_that_is_too_large_is_refused(running: RunningWorkbench) -> None:
    answer = httpx.post(f"{running.url}/batch/submit", content=b" " * 300_000)
    assert answer.status_code == 413
    assert "262144 bytes" in answer.json()["error"]


def test_it_says_what_is_wrong_with_its_settings_and_with_a_port_in_use(tmp_path: Path) -> None:
    def complaint(**variables: str) -> str:
        ended = subprocess.run(
            [str(python_of("workbench")), "-m", "infra.workbench"],
            env={"PYTHONPATH": str(ROOT)} | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert ended.returncode == 1
        return ended.stderr

    assert "WORKBENCH_DATA_PATH is missing" in complaint()
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        said = complaint(WORKBENCH_DATA_PATH=str(tmp_path), WORKBENCH_PORT=port)
    assert f"can't listen on 127.0.0.1:{port}" in said
    assert "set WORKBENCH_PORT" in said


def test_starting_loads_nothing_heavy() -> None:
    """The stack waits for it, and idle it should be small."""
    heavy = ("polars", "matplotlib", "numpy", "boto3")
    program = f"import sys, infra.workbench.__main__; print(set({heavy!r}) & set(sys.modules))"
    said = subprocess.run(
        [str(python_of("workbench")), "-c", program],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert said.stdout.strip() == "set()"
