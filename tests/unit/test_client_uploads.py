"""A local folder to the storage."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from pipeline_runs import errors
from pipeline_runs.connections import StorageAccess
from pipeline_runs.uploads import S3Storage, Target, files_in, target_of, upload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REGION = "us-east-1"
ACCESS = StorageAccess(
    bucket="user-data",
    region=REGION,
    access_key_id="KEY",
    secret_access_key="SECRET",  # noqa: S106 - it opens nothing
)


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client(
            "s3",
            region_name=REGION,
            aws_access_key_id="KEY",
            aws_secret_access_key="SECRET",  # noqa: S106 - it opens nothing
        )
        client.create_bucket(Bucket="user-data")
        yield client


def test_a_folder_is_taken_with_all_below_it_but_for_hidden_files(tmp_path: Path) -> None:
    for name in ("b.csv", "sub/a.csv", ".git/config", "sub/.hidden", "sub/deep/c.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("12")
    assert [(file.name, file.size_bytes) for file in files_in(tmp_path)] == [
        ("b.csv", 2),
        ("sub/a.csv", 2),
        ("sub/deep/c.csv", 2),
    ]


def test_a_file_is_taken_by_itself(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("12")
    assert [file.name for file in files_in(tmp_path / "a.csv")] == ["a.csv"]


def test_nothing_to_upload_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.UploadFailed, match="no files in it"):
        files_in(tmp_path)
    with pytest.raises(errors.UploadFailed, match="no file or folder"):
        files_in(tmp_path / "none")


@pytest.mark.parametrize(
    ("prefix", "target"),
    [
        ("s3://other/a/b/", Target("other", "a/b")),
        ("s3://other/a", Target("other", "a")),
        ("a/b", Target("user-data", "a/b")),
        ("/a/", Target("user-data", "a")),
    ],
)
def test_a_prefix_is_a_folder_of_a_bucket(prefix: str, target: Target) -> None:
    assert target_of(prefix, ACCESS) == target
    assert target.prefix == f"s3://{target.bucket}/{target.folder}/"


@pytest.mark.parametrize("prefix", ["s3://", "s3://other", "s3://other/", "s3:///a", "", "/"])
def test_a_prefix_without_a_folder_is_refused(prefix: str) -> None:
    with pytest.raises(errors.UploadFailed, match="names no folder"):
        target_of(prefix, ACCESS)


def test_a_relative_prefix_needs_a_bucket() -> None:
    with pytest.raises(errors.UploadFailed, match="which bucket"):
        target_of("a/b", None)


def test_files_are_put_there_and_told_of_in_order(tmp_path: Path, s3: Any) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(name)
    told: list[str] = []
    target = Target("user-data", "in")
    upload(files_in(tmp_path), target, S3Storage(ACCESS), done=lambda file: told.append(file.name))
    assert told == ["a.csv", "b.csv"]
    assert s3.get_object(Bucket="user-data", Key="in/b.csv")["Body"].read() == b"b.csv"


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_not_there_is_told_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("12")
    with pytest.raises(errors.UploadFailed, match=r"a\.csv didn't get to s3://none/in/a\.csv"):
        upload(files_in(tmp_path), Target("none", "in"), S3Storage(ACCESS))


class FailingStorage:
    """Fails for one file."""

    def put(self, file: Path, *, bucket: str, key: str) -> None:
        if file.name == "50.csv":
            raise errors.UploadFailed(f"{key} doesn't fit into {bucket}")


def test_one_file_that_fails_fails_the_upload(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number:02}.csv").write_text("12")
    told: list[str] = []
    with pytest.raises(errors.UploadFailed, match=r"in/50\.csv doesn't fit into b"):
        upload(
            files_in(tmp_path),
            Target("b", "in"),
            FailingStorage(),
            done=lambda file: told.append(file.name),
        )
    assert told == [f"{number:02}.csv" for number in range(50)]


def test_without_boto3_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(errors.UploadFailed, match=r"pipeline-runs-client\[s3\]"):
        S3Storage(ACCESS)
