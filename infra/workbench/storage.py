"""The user storage: S3, or anything that speaks it. Every failure becomes a JobTrouble in words."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnectionError

from infra.workbench.errors import (
    NoSuchBucket,
    NothingThere,
    StorageRefused,
    StorageTrouble,
    StorageUnreachable,
)
from infra.workbench.prefixes import SCHEME, Prefix

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

CHUNK_BYTES = 1024 * 1024
CONNECT_SECONDS = 5
READ_SECONDS = 30
ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object in the storage, with its name below the prefix it was found under."""

    name: str
    bucket: str
    key: str
    size_bytes: int

    @property
    def uri(self) -> str:
        """Its address."""
        return f"{SCHEME}{self.bucket}/{self.key}"


class Storage:
    """A client of the user storage; may be used by several threads at once."""

    def __init__(self, *, endpoint_url: str | None, connection_count: int) -> None:
        self._place = endpoint_url or "AWS"
        self._client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint_url,
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                max_pool_connections=connection_count,
                signature_version="s3v4",
                s3={"addressing_style": "path" if endpoint_url else "auto"},
                # Trailing checksums are AWS's alone; others refuse the body.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def objects_below(self, prefix: Prefix) -> list[StoredObject]:
        """Every object below the prefix by its key, or the one that the prefix names itself.

        Raises:
            NothingThere: There is none.
            JobTrouble: The storage can't be asked.
        """
        with self._translated(prefix.bucket, str(prefix)):
            found = list(self._listed(prefix)) or self._named(prefix)
        if not found:
            raise NothingThere(
                f"Nothing lies below {prefix}: check input_path_prefix, or upload the files first."
            )
        return found

    def download(self, source: StoredObject, path: Path) -> str:
        """Fetches an object into a file.

        Returns:
            The SHA-256 of its bytes, in hexadecimal digits.

        Raises:
            JobTrouble: It is gone, or the storage can't be asked.
        """
        digest = hashlib.sha256()
        with self._translated(source.bucket, source.uri), path.open("wb") as file:
            answer = self._client.get_object(Bucket=source.bucket, Key=source.key)
            for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def upload(self, path: Path, prefix: Prefix, name: str, *, content_type: str) -> None:
        """Writes a file to the object NAME below the prefix; one that is there is overwritten.

        Raises:
            JobTrouble: The storage can't be asked.
        """
        with self._translated(prefix.bucket, prefix.uri_of(name)):
            self._client.upload_file(
                str(path),
                prefix.bucket,
                prefix.key_of(name),
                ExtraArgs={"ContentType": content_type},
                Config=TransferConfig(use_threads=False),
            )

    def write(self, content: bytes, prefix: Prefix, name: str, *, content_type: str) -> None:
        """Writes bytes to the object NAME below the prefix; one that is there is overwritten.

        Raises:
            JobTrouble: The storage can't be asked.
        """
        with self._translated(prefix.bucket, prefix.uri_of(name)):
            self._client.put_object(
                Bucket=prefix.bucket,
                Key=prefix.key_of(name),
                Body=content,
                ContentType=content_type,
            )

    def _listed(self, prefix: Prefix) -> Iterator[StoredObject]:
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=prefix.bucket, Prefix=prefix.folder):
            for entry in page.get("Contents", []):
                # A key that ends in a slash stands for a folder.
                if not entry["Key"].endswith("/"):
                    yield StoredObject(
                        name=entry["Key"].removeprefix(prefix.folder),
                        bucket=prefix.bucket,
                        key=entry["Key"],
                        size_bytes=entry["Size"],
                    )

    def _named(self, prefix: Prefix) -> list[StoredObject]:
        if not prefix.key:
            return []
        try:
            head = self._client.head_object(Bucket=prefix.bucket, Key=prefix.key)
        except ClientError as error:
            if _status(error) == 404:
                return []
            raise
        return [
            StoredObject(
                name=prefix.key.rpartition("/")[2],
                bucket=prefix.bucket,
                key=prefix.key,
                size_bytes=head["ContentLength"],
            )
        ]

    @contextmanager
    def _translated(self, bucket: str, uri: str) -> Iterator[None]:
        """Names the bucket, the address and the storage in what went wrong."""
        try:
            yield
        except ClientError as error:
            raise self._in_words(error, bucket, uri) from error
        except S3UploadFailedError as error:
            cause = error.__context__
            if isinstance(cause, ClientError):
                raise self._in_words(cause, bucket, uri) from error
            raise StorageRefused(f"{uri} can't be written: {error}") from error
        except (NoConnectionError, HTTPClientError) as error:
            raise StorageUnreachable(
                f"The storage at {self._place} can't be reached: {error}"
            ) from error
        except BotoCoreError as error:
            raise StorageRefused(f"{uri} can't be asked for: {error}") from error

    def _in_words(self, error: ClientError, bucket: str, uri: str) -> Exception:
        code = error.response.get("Error", {}).get("Code", "")
        if code == "NoSuchBucket":
            return NoSuchBucket(
                f"There is no bucket {bucket!r} in the storage at {self._place}: "
                "check the prefix, or create the bucket."
            )
        if code in {"NoSuchKey", "404"}:
            return NothingThere(f"{uri} was there when listed and is gone now.")
        if _status(error) in {401, 403}:
            return StorageRefused(
                f"The storage refused access to {uri} ({code}): check the Workbench's credentials."
            )
        return StorageTrouble(f"The storage at {self._place} failed for {uri}: {error}")


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
