"""The user storage: rclone serves a folder's sub-folders as S3 buckets."""

from __future__ import annotations

import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.local.parts.part import status_of
from infra.local.ports import LOOPBACK
from infra.local.processes import Launch, listens, make_surroundings, surroundings
from infra.local.trouble import PartFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.local.keys import Keys
    from infra.local.layout import Layout
    from infra.local.parts.part import Say

BUCKET = "user-data"


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Objects are files as they are: they survive restarts and can be looked at."""

    layout: Layout
    environment: Mapping[str, str]
    port: int
    keys: Keys
    name: str = "storage"
    stop_signal: signal.Signals = signal.SIGTERM
    boot_seconds: float = 30
    passing_faults: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The S3 endpoint."""
        return f"http://{LOOPBACK}:{self.port}"

    def prepare(self, say: Say) -> None:
        """Makes the bucket's folder.

        Raises:
            PartFailed: rclone isn't installed.
        """
        if not _rclone().exists():
            raise PartFailed(self.name, f"no {_rclone()}", self.layout.log(self.name))
        make_surroundings(self._folder)
        (self.layout.storage / BUCKET).mkdir(parents=True, exist_ok=True)
        say("booting")

    def launch(self) -> Launch:
        """The key travels in the environment: command lines can be read by everyone."""
        keys = f"{self.keys.storage_access_key_id},{self.keys.storage_secret_access_key}"
        return Launch(
            command=(
                *(str(_rclone()), "serve", "s3", "--addr", f"{LOOPBACK}:{self.port}"),
                # Files that a person puts into the folder are seen at once.
                *("--dir-cache-time", "1s", "--cache-dir", str(self._folder / "cache")),
                str(self.layout.storage),
            ),
            environment=surroundings(self._folder, self.environment)
            | {
                "RCLONE_AUTH_KEY": f'"{keys}"',
                # Never the user's own configuration.
                "RCLONE_CONFIG": str(self._folder / "rclone.conf"),
            },
            folder=self._folder,
        )

    def is_ready(self, pid: int) -> bool:
        """It answers, though a request without a key is refused."""
        return listens(pid, self.port) and status_of(self.url) is not None

    @property
    def _folder(self) -> Path:
        """Not the served one: what lies there would be a bucket."""
        return self.layout.part("rclone")


def _rclone() -> Path:
    """The wheel's program, beside the interpreter."""
    beside = Path(sys.executable).with_name("rclone")
    return beside if beside.exists() else Path(shutil.which("rclone") or beside)
