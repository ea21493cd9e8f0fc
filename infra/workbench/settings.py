"""The Workbench's settings: the one reader of its environment variables.

The credentials of the user storage are boto3's own matter (AWS_ACCESS_KEY_ID and so on).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PORT = 65_535
MAX_WORKERS = 64


class SettingsTrouble(Exception):
    """A variable is missing or wrong; the text names it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be chosen from outside.

    Attributes:
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        data_path: The folder of the jobs' database and of files being worked on.
        journal_path: Where each call received is noted, one line of JSON each.
        storage_endpoint_url: The user storage; None is AWS.
        storage_bucket: The bucket of relative prefixes; None allows none.
        worker_count: How many objects are worked on at once.
        token: The bearer token that callers must have; empty lets everybody in.
    """

    data_path: Path
    host: str = "127.0.0.1"
    port: int = 0
    journal_path: Path | None = None
    storage_endpoint_url: str | None = None
    storage_bucket: str | None = None
    worker_count: int = 4
    token: str = field(default="", repr=False)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Reads WORKBENCH_* and STORAGE_*; an empty variable counts as unset.

    Raises:
        SettingsTrouble: WORKBENCH_DATA_PATH is missing, or a number is none.
    """
    data_path = environment.get("WORKBENCH_DATA_PATH")
    if not data_path:
        raise SettingsTrouble("WORKBENCH_DATA_PATH is missing: name a folder for the jobs.")
    journal_path = environment.get("WORKBENCH_JOURNAL_PATH")
    return Settings(
        data_path=Path(data_path),
        host=environment.get("WORKBENCH_HOST") or "127.0.0.1",
        port=_number(environment, "WORKBENCH_PORT", unset=0, lowest=0, highest=MAX_PORT),
        journal_path=Path(journal_path) if journal_path else None,
        storage_endpoint_url=environment.get("STORAGE_ENDPOINT_URL") or None,
        storage_bucket=environment.get("STORAGE_BUCKET") or None,
        worker_count=_number(
            environment, "WORKBENCH_WORKERS", unset=4, lowest=1, highest=MAX_WORKERS
        ),
        token=environment.get("WORKBENCH_TOKEN") or "",
    )


def _number(
    environment: Mapping[str, str], name: str, *, unset: int, lowest: int, highest: int
) -> int:
    text = environment.get(name)
    if not text:
        return unset
    if not (text.isascii() and text.isdigit() and lowest <= int(text) <= highest):
        raise SettingsTrouble(f"{name} must be a number from {lowest} to {highest}, not {text!r}.")
    return int(text)
