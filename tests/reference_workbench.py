"""A real user storage and the real reference Workbench, as processes of a test.

with serve_user_storage(tmp_path) as storage, start_workbench(tmp_path, storage) as workbench:
    storage.put("in/a.csv", b"x\n1\n")
    … workbench.url …
"""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from infra.local.environments import ROOT, python_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mypy_boto3_s3 import S3Client

BUCKET = "user-data"
KEY_ID, SECRET = "test-key", "test-secret"
READY_SECONDS = 30
END_SECONDS = 20
LOOK_AGAIN_SECONDS = 0.02


def wait_until(condition: Callable[[], bool], what: str, *, within_seconds: float = 60) -> None:
    """Looks again and again.

    Raises:
        AssertionError: The condition didn't hold in time.
    """
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within_seconds} s")
        time.sleep(LOOK_AGAIN_SECONDS)


@dataclass(frozen=True)
class UserStorage:
    """rclone serving a folder as S3; `path` is the bucket's folder."""

    endpoint_url: str
    path: Path

    def client(self) -> S3Client:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )

    def put(self, key: str, content: bytes) -> None:
        self.client().put_object(Bucket=BUCKET, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        return self.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def keys(self, prefix: str) -> list[str]:
        pages = self.client().get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in found for entry in page.get("Contents", [])]

    def environment(self) -> dict[str, str]:
        """What the Workbench reaches it by."""
        return {
            "STORAGE_ENDPOINT_URL": self.endpoint_url,
            "STORAGE_BUCKET": BUCKET,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }


@dataclass(frozen=True)
class RunningWorkbench:
    """The process, its address and its files."""

    url: str
    process: subprocess.Popen[str]
    data_path: Path
    journal_path: Path


@contextmanager
def serve_user_storage(folder: Path) -> Iterator[UserStorage]:
    """Serves an empty bucket below the folder."""
    bucket_path = folder / "storage" / BUCKET
    bucket_path.mkdir(parents=True, exist_ok=True)
    rclone = Path(sys.executable).with_name("rclone")
    command = [str(rclone), "serve", "s3", "--addr", "127.0.0.1:0"]
    command += ["--auth-key", f"{KEY_ID},{SECRET}", "--cache-dir", str(folder / "rclone-cache")]
    environment = _bare_environment() | {"RCLONE_CONFIG": str(folder / "rclone.conf")}
    (folder / "rclone.conf").touch()
    with _process([*command, str(bucket_path.parent)], environment) as (process, lines):
        url = _awaited(lines, process, r"Starting s3 server on \[(http://[\d.:]+)/?\]")
        yield UserStorage(url, bucket_path)


@contextmanager
def start_workbench(
    folder: Path, storage: UserStorage | None = None, **variables: str
) -> Iterator[RunningWorkbench]:
    """Starts the Workbench on a free port; another one in the same folder has the same jobs."""
    data_path, journal_path = folder / "workbench", folder / "journal.jsonl"
    environment = (
        _bare_environment()
        | (storage.environment() if storage else {})
        | {
            "PYTHONPATH": str(ROOT),
            "WORKBENCH_PORT": "0",
            "WORKBENCH_DATA_PATH": str(data_path),
            "WORKBENCH_JOURNAL_PATH": str(journal_path),
        }
        | variables
    )
    command = [str(python_of("workbench")), "-m", "infra.workbench"]
    with _process(command, environment) as (process, lines):
        url = _awaited(lines, process, r"Workbench listening on (http://[\d.:]+)")
        yield RunningWorkbench(url, process, data_path, journal_path)


def _bare_environment() -> dict[str, str]:
    """Neither the caller's credentials nor its settings."""
    kept = ("PATH", "HOME", "TMPDIR", "LANG")
    return {name: os.environ[name] for name in kept if name in os.environ}


@contextmanager
def _process(
    command: list[str], environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[str], queue.Queue[str]]]:
    """A process whose lines come by a queue; ended, if need be by force, when the test is."""
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=_read_lines, args=(process, lines), daemon=True)
    reader.start()
    try:
        yield process, lines
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()


def _read_lines(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    if process.stdout is not None:
        with process.stdout as output:
            for line in output:
                lines.put(line)
    lines.put("")


def _awaited(lines: queue.Queue[str], process: subprocess.Popen[str], pattern: str) -> str:
    """The part of the line that tells the address."""
    said = []
    while line := lines.get(timeout=READY_SECONDS):
        said.append(line)
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError(f"it ended with {process.wait()} and said: {''.join(said)}")
