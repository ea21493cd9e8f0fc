"""Parts that are given from outside, by an environment variable, in place of ours."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from infra.local.parts.part import status_of
from infra.local.parts.workbench import StorageAccess
from infra.local.trouble import StackTrouble

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLES = {
    "postgres": "DATABASE_URL",
    "conductor": "CONDUCTOR_URL",
    "storage": "STORAGE_ENDPOINT_URL",
    "workbench": "WORKBENCH_API_URL",
}
DRIVER = "postgresql+pg8000"
POSTGRES_PORT = 5432
CONNECT_SECONDS = 5


@dataclass(frozen=True)
class External:
    """What the environment gives.

    Attributes:
        urls: The address of each part that is given, by the part's name.
        storage: The storage, if it is given.
    """

    urls: Mapping[str, str]
    storage: StorageAccess | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *, region: str) -> External:
        """Reads the addresses, and what a given storage needs beside its own.

        Args:
            environment: The user's.
            region: The storage's, where the environment doesn't say.

        Raises:
            StackTrouble: something is missing or makes no sense; the text says what.
        """
        urls = {
            part: _checked(variable, environment[variable])
            for part, variable in VARIABLES.items()
            if environment.get(variable)
        }
        storage = None
        if "storage" in urls:
            needed = ("STORAGE_BUCKET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            missing = [name for name in needed if not environment.get(name)]
            if missing:
                raise StackTrouble(f"With STORAGE_ENDPOINT_URL set, set {', '.join(missing)} too.")
            storage = StorageAccess(
                endpoint_url=urls["storage"],
                bucket=environment["STORAGE_BUCKET"],
                region=environment.get("AWS_DEFAULT_REGION") or region,
                access_key_id=environment["AWS_ACCESS_KEY_ID"],
                secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            )
        return cls(urls, storage)

    def refuse_unreachable(self, part: str) -> None:
        """Returns only if the part is there.

        Raises:
            StackTrouble: nobody answers at its address, or not as that part would.
        """
        url, variable = self.urls[part], VARIABLES[part]
        if part == "postgres":
            trouble = _connection_trouble(url)
        elif part == "conductor":
            status = status_of(f"{url}/health")
            trouble = "" if status == 200 else f"GET /health: {status or 'no answer'}"
        elif part == "storage" and self.storage:
            trouble = _bucket_trouble(self.storage)
        else:
            trouble = "" if status_of(url) else "no answer"
        if trouble:
            raise StackTrouble(
                f"{variable} gives {without_password(url)}, which can't be used: {trouble}.\n"
                f"  Start what should be there, or unset {variable}: then make up starts its own."
            )


def without_password(url: str) -> str:
    """The address as it may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _checked(variable: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        fits = bool(parts.hostname) and (parts.port or True)
    except ValueError:
        fits = False
    if variable == "DATABASE_URL":
        if fits and parts.scheme in {"postgres", "postgresql", DRIVER}:
            return parts._replace(scheme=DRIVER).geturl()
        raise StackTrouble(f"{variable} must be {DRIVER}://user:password@host:port/name.")
    if fits and parts.scheme in {"http", "https"}:
        return url.rstrip("/")
    raise StackTrouble(f"{variable} must be an http address, not {url!r}.")


def _connection_trouble(url: str) -> str:
    parts = urlsplit(url)
    try:
        address = (str(parts.hostname), parts.port or POSTGRES_PORT)
        socket.create_connection(address, CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _bucket_trouble(storage: StorageAccess) -> str:
    import boto3  # noqa: PLC0415 - takes 300 ms to load
    from botocore.config import Config  # noqa: PLC0415 - the same
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - the same

    s3 = boto3.session.Session().client(
        "s3",
        endpoint_url=storage.endpoint_url,
        region_name=storage.region,
        aws_access_key_id=storage.access_key_id,
        aws_secret_access_key=storage.secret_access_key,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=CONNECT_SECONDS,
            retries={"max_attempts": 0},
            s3={"addressing_style": "path"},
        ),
    )
    try:
        s3.head_bucket(Bucket=storage.bucket)
    except (BotoCoreError, ClientError) as error:
        return f"bucket {storage.bucket}: {error}"
    return ""
