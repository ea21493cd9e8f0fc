"""The stack's processes as the system sees them: started, recognised, counted, ended.

A process is ours if its id *and* its birth are what was written down when it was started (ids are
used again, births aren't), if it descends from such a one, or if its environment carries the mark
of this stack. Nothing else is ever ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from infra.local.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from infra.local.layout import Layout

MARKER = "PIPELINE_RUNS_STACK"
LOOK_AGAIN_SECONDS = 0.02
AFTER_PARENT_SECONDS = 0.2
"""How long descendants may live on by themselves."""
KILLED_SECONDS = 1
"""How long the system may take to clear a killed process away."""
# All that a part sees of the user's environment: what a program needs to find its files and the
# network, nothing that could change its behaviour.
PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
)
LOOPBACK_HOSTS = "127.0.0.1,localhost,::1"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """As whom a program runs: a command put before it, or another user."""

    prefix: tuple[str, ...] = ()
    user: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """For subprocess."""
        if self.user is None:
            return {}
        return {"user": self.user, "group": self.user, "extra_groups": []}


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How a program is started.

    Attributes:
        command: The program and its arguments.
        environment: All of its variables but the stack's mark.
        folder: Its working directory.
        identity: As whom it runs.
        revision: What else makes it another program, such as the state of its source files.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    identity: Identity = field(default_factory=Identity)
    revision: str = ""

    @property
    def fingerprint(self) -> str:
        """Differs when the program has to be started anew."""
        return hashlib.sha256(json.dumps(asdict(self), default=str).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class ProcessRecord:
    """What is written down about a part that was started."""

    part: str
    pid: int
    born: str
    fingerprint: str
    port: int | None
    url: str
    stop_signal: int

    @property
    def process(self) -> psutil.Process | None:
        """The process, if it is still this one and lives."""
        process = living(self.pid)
        return process if process and birth(self.pid) == self.born else None


def start(launch: Launch, *, marker: str, log: Path) -> subprocess.Popen[bytes]:
    """Starts a program in a session of its own, its output appended to the log.

    It may outlive this process. While this process lives it is reaped as soon as it ends, so that
    a dead program never passes for a living one.

    Raises:
        OSError: there is no such program, or it can't be run.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*launch.identity.prefix, *launch.command],
            env={**launch.environment, MARKER: marker},
            cwd=launch.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **launch.identity.options,
        )
    threading.Thread(target=process.wait, daemon=True).start()
    return process


def surroundings(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that every part starts from: its home and scratch lie below FOLDER."""
    passed_on = {name: environment[name] for name in PASSED_ON if name in environment}
    return passed_on | {
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "home" / ".cache"),
        "XDG_CONFIG_HOME": str(folder / "home" / ".config"),
        "TMPDIR": str(folder / "tmp"),
        "NO_PROXY": LOOPBACK_HOSTS,
        "no_proxy": LOOPBACK_HOSTS,
    }


def make_surroundings(folder: Path) -> None:
    """Makes the folders that `surroundings` names."""
    (folder / "home").mkdir(parents=True, exist_ok=True)
    (folder / "tmp").mkdir(parents=True, exist_ok=True)


def write_record(layout: Layout, record: ProcessRecord) -> None:
    """One file per part: parts that start side by side never write the same."""
    write_json(layout.processes / f"{record.part}.json", asdict(record))


def read_record(layout: Layout, part: str) -> ProcessRecord | None:
    """What was written down about the part; None also for a file that makes no sense."""
    try:
        return ProcessRecord(**read_json(layout.processes / f"{part}.json"))
    except TypeError:
        return None


def read_records(layout: Layout) -> list[ProcessRecord]:
    """All parts that were started and not stopped."""
    names = sorted(path.stem for path in layout.processes.glob("[!.]*.json"))
    return [record for name in names if (record := read_record(layout, name))]


def forget(layout: Layout, part: str) -> None:
    """Takes away what was written down about the part."""
    (layout.processes / f"{part}.json").unlink(missing_ok=True)


def birth(pid: int) -> str:
    """What tells a process from a later one with the same id; empty if there is none.

    Where the system offers it, in its own ticks since boot: the wall clock may be set.
    """
    try:
        # The program's name, in brackets, may hold anything; 20 fields on stands the start.
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else _birth_by_clock(pid)
    except OSError:
        return ""
    return f"{boot}/{ticks}"


def living(pid: int) -> psutil.Process | None:
    """The process, unless it is gone or dead and only not yet reaped by its parent."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.Error:
        return None


def family(process: psutil.Process) -> list[psutil.Process]:
    """The process and all that descend from it."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return [process]


def marked(marker: str) -> list[psutil.Process]:
    """All living processes whose environment carries the mark, but for this one's own line."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in mine:
            continue
        with contextlib.suppress(psutil.Error):
            ours = process.environ().get(MARKER) == marker
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def listens(pid: int, port: int) -> bool:
    """Whether the process or a descendant listens on the port: nobody else's answer counts."""
    process = living(pid)
    for member in family(process) if process else []:
        with contextlib.suppress(psutil.Error):
            for connection in member.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,):
                    return True
    return False


def memory_bytes(processes: Iterable[psutil.Process]) -> int:
    """Together, with shared pages counted once where the system tells (PSS)."""
    total = 0
    for process in processes:
        try:
            full = process.memory_full_info()
            total += getattr(full, "pss", 0) or full.uss
        except psutil.Error:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
    return total


def send(processes: Iterable[psutil.Process], number: int) -> None:
    """Signals each that still is the same process."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def wait_until_gone(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Waits for them to end.

    Returns:
        Those that live on.
    """
    left = list(processes)
    end = time.monotonic() + seconds
    while True:
        left = [process for process in left if _lives_on(process)]
        if not left or time.monotonic() >= end:
            return left
        time.sleep(LOOK_AGAIN_SECONDS)


def end_families(
    roots: Sequence[tuple[psutil.Process, int]], *, grace_seconds: float
) -> list[psutil.Process]:
    """Asks processes to end, each by its own signal, then kills what is left of their families.

    Args:
        roots: Each process and the signal that it is to get; SIGKILL goes to its whole family.
        grace_seconds: How long those that were asked may take.

    Returns:
        Those that live on.
    """
    families = [(family(root), number) for root, number in roots]
    # First whoever has nothing to save: so the others lose their clients, and end sooner.
    for members, number in sorted(families, key=lambda one: one[1] != signal.SIGKILL):
        send(members if number == signal.SIGKILL else members[:1], number)
    wait_until_gone([root for root, _ in roots], grace_seconds)
    everyone = [member for members, _ in families for member in members]
    left = wait_until_gone(everyone, AFTER_PARENT_SECONDS)
    send(left, signal.SIGKILL)
    return wait_until_gone(left, KILLED_SECONDS)


def _lives_on(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _birth_by_clock(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""
