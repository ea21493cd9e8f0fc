"""A local folder to the user's storage, for a run to read.

It takes boto3, which `pip install 'pipeline-runs-client[s3]'` brings along.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from pipeline_runs.errors import UploadFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipeline_runs.connections import StorageAccess

SCHEME: Final = "s3://"
AT_ONCE: Final = 8
BOTO3_MISSING: Final = (
    "Uploading takes boto3, which isn't installed: install pipeline-runs-client[s3] in place of"
    " pipeline-runs-client, or upload the files yourself and name them with --input-prefix"
)


class Storage(Protocol):
    """What files are put into."""

    def put(self, file: Path, *, bucket: str, key: str) -> None:
        """Uploads one file.

        Raises:
            UploadFailed: it isn't there now.
        """


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to upload.

    Attributes:
        path: Where it is.
        name: What of its key follows the prefix.
        size_bytes: How large it is.
    """

    path: Path
    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where files are uploaded to."""

    bucket: str
    folder: str
    """Without a slash at its end."""

    @property
    def prefix(self) -> str:
        """As a run names it."""
        return f"{SCHEME}{self.bucket}/{self.folder}/"

    def key(self, name: str) -> str:
        """A file's place in the bucket."""
        return f"{self.folder}/{name}"


def files_in(source: Path) -> list[LocalFile]:
    """The files of a folder, but for hidden ones, by name; of a file, that alone.

    Raises:
        UploadFailed: there is nothing to upload.
    """
    if source.is_file():
        return [LocalFile(source, source.name, source.stat().st_size)]
    if not source.is_dir():
        raise UploadFailed(f"There is no file or folder {source}")
    found = [
        LocalFile(path, path.relative_to(source).as_posix(), path.stat().st_size)
        for path in sorted(source.rglob("*"))
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(source).parts)
    ]
    if not found:
        raise UploadFailed(f"The folder {source} has no files in it to upload")
    return found


def target_of(prefix: str, storage: StorageAccess | None) -> Target:
    """Where a prefix is.

    Args:
        prefix: `s3://bucket/key`, or relative to the storage's bucket.
        storage: what is configured.

    Raises:
        UploadFailed: it has no bucket and none is configured, or no key.
    """
    if prefix.startswith(SCHEME):
        bucket, _, key = prefix.removeprefix(SCHEME).partition("/")
    elif storage is not None:
        bucket, key = storage.bucket, prefix
    else:
        raise UploadFailed(
            "It isn't known which bucket to upload to: name it with --input-prefix s3://bucket/key,"
            " with storage_bucket in the profile, or with PIPELINE_RUN_STORAGE_BUCKET"
        )
    folder = key.strip("/")
    if not bucket or not folder:
        raise UploadFailed(f"{prefix!r} names no folder of a bucket to upload to")
    return Target(bucket, folder)


def upload(
    files: list[LocalFile],
    target: Target,
    storage: Storage,
    *,
    done: Callable[[LocalFile], None] = lambda _: None,
) -> None:
    """Puts all files there, some at a time.

    Args:
        files: which.
        target: where to.
        storage: what puts them there, from any thread.
        done: is told of each that is there, in order.

    Raises:
        UploadFailed: one of them isn't; others may be.
    """

    def put(file: LocalFile) -> None:
        storage.put(file.path, bucket=target.bucket, key=target.key(file.name))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for file, _ in zip(files, pool.map(put, files), strict=True):
                done(file)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class S3Storage:
    """S3, or what speaks it, by boto3.

    Raises:
        UploadFailed: boto3 isn't installed.
    """

    def __init__(self, access: StorageAccess | None) -> None:
        try:
            import boto3  # noqa: PLC0415 - an extra, and slow to load
            from botocore.config import Config  # noqa: PLC0415 - the same
        except ImportError as error:
            raise UploadFailed(BOTO3_MISSING) from error
        told: dict[str, Any] = {}
        if access is not None:
            told = {
                "endpoint_url": access.endpoint_url,
                "region_name": access.region,
                "aws_access_key_id": access.access_key_id,
                "aws_secret_access_key": access.secret_access_key,
            }
        own = Config(signature_version="s3v4", s3={"addressing_style": "path"})
        config = own if told.get("endpoint_url") else None
        self._s3: Any = boto3.client("s3", config=config, **told)

    def put(self, file: Path, *, bucket: str, key: str) -> None:
        """See `Storage`."""
        from boto3.exceptions import Boto3Error  # noqa: PLC0415 - an extra
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - an extra

        try:
            self._s3.upload_file(str(file), bucket, key)
        except (Boto3Error, BotoCoreError, ClientError, OSError) as error:
            raise UploadFailed(f"{file} didn't get to {SCHEME}{bucket}/{key}: {error}") from error
