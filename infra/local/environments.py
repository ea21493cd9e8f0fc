"""Makes the project's Python environments; needs nothing but Python and its `venv`.

`python3 -m infra.local.environments NAME…` makes sure that `.local/envs/NAME` holds exactly what
`locks/NAME.txt` says, with hashes checked, and returns at once when it does. Downloads are kept in
the user's cache folder, so that a second clone needs none.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".local" / "envs"
LOCKS = ROOT / "locks"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pipeline-runs"
OLDEST_PYTHON = (3, 11)
REMINDER_SECONDS = 10

# What an environment needs beside its lock: our own distributions, installed as they stand.
LOCAL_DISTRIBUTIONS = {
    "localstack": ROOT / "infra" / "local" / "executor",
    "stack": ROOT / "client",
}
# It holds all that these hold: once it is there, they take no download.
ALL_EMBRACING = "dev"
EMBRACED = {"functions", "stack", "workbench"}


class EnvironmentTrouble(Exception):
    """An environment can't be made; the text says what to do."""


def python_of(name: str) -> Path:
    """The interpreter of the environment NAME."""
    return ENVIRONMENTS / name / "bin" / "python"


def ensure(*names: str) -> None:
    """Makes or mends the environments NAMES, side by side.

    Raises:
        EnvironmentTrouble: Python is too old, or a download or installation failed.
    """
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        raise EnvironmentTrouble(
            f"Python 3.11 or later is needed and this is {found} ({sys.executable}).\n"
            "Name another with: make PYTHON=python3.13 …"
        )
    if all(map(_is_fresh, names)):
        return
    with _alone():
        stale = [name for name in names if not _is_fresh(name)]
        if stale:
            _ensure_uv()
        for names_at_once in in_order(stale):
            _make_side_by_side(names_at_once)


def in_order(names: list[str]) -> tuple[list[str], list[str]]:
    """Those to make first, side by side, and those to make then."""
    later = EMBRACED if ALL_EMBRACING in names else set()
    return [name for name in names if name not in later], [name for name in names if name in later]


def _make_side_by_side(names: list[str]) -> None:
    if not names:
        return
    with ThreadPoolExecutor(len(names)) as pool:
        for made in [pool.submit(_make, name) for name in names]:
            made.result()


def _make(name: str) -> None:
    _say(name, f"installing {_count(name)} locked packages …")
    started = time.monotonic()
    downloads = Downloads(name)
    with downloads.reminders():
        _install(name, downloads.note)
    _stamp(name).write_text(_fingerprint(name))
    _say(name, f"ready ({time.monotonic() - started:.0f} s)")


class Downloads:
    """What one environment is downloading, by what uv says; large packages are told by name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._under_way: dict[str, str] = {}

    @property
    def under_way(self) -> list[str]:
        """The packages that aren't there yet, each with its size."""
        return list(self._under_way.values())

    def note(self, line: str) -> None:
        """Takes in one line of uv's: `Downloading numpy (16.1MiB)` or ` Downloaded numpy`."""
        # Not by `match`: an older Python has to come as far as being told that it is too old.
        words = line.split()
        if words[:1] == ["Downloading"] and len(words) == 3:
            self._under_way[words[1]] = " ".join(words[1:])
            _say(self._name, f"downloading {self._under_way[words[1]]}")
        elif words[:1] == ["Downloaded"]:
            self._under_way.pop(words[1], None)

    @contextmanager
    def reminders(self) -> Iterator[None]:
        """Says now and then what is still under way."""
        over = threading.Event()

        def remind() -> None:
            while not over.wait(REMINDER_SECONDS):
                left = ", ".join(self.under_way)
                _say(self._name, f"still downloading {left}" if left else "still at work")

        threading.Thread(target=remind, daemon=True).start()
        try:
            yield
        finally:
            over.set()


@contextmanager
def _alone() -> Iterator[None]:
    """One at a time makes the environments of this clone."""
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    with (ENVIRONMENTS / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another make to install the environments …", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _ensure_uv() -> None:
    """The installer of all others; it comes from the package index by pip, checked by hash."""
    if _is_fresh("uv"):
        return
    _say("uv", "downloading the installer (about 25 MB) …")
    home = ENVIRONMENTS / "uv"
    shutil.rmtree(home, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(home)], "Python's venv module (Debian: python3-venv)")
    pip = [str(python_of("uv")), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    where = ["--cache-dir", str(CACHE / "pip"), "--require-hashes", "--only-binary=:all:"]
    _run([*pip, "install", *where, "-r", str(LOCKS / "uv.txt")], "the package index")
    _stamp("uv").write_text(_fingerprint("uv"))


def _install(name: str, note: Callable[[str], None]) -> None:
    uv = str(ENVIRONMENTS / "uv" / "bin" / "uv")
    python = str(python_of(name))
    if not _made_by_this_python(name):
        shutil.rmtree(ENVIRONMENTS / name, ignore_errors=True)
        home = str(ENVIRONMENTS / name)
        _run([uv, "venv", "--quiet", "--no-project", "--python", sys.executable, home], "uv")
    _stamp(name).unlink(missing_ok=True)
    lock = str(LOCKS / f"{name}.txt")
    sync = [uv, "pip", "sync", "--require-hashes", "--python", python, lock]
    _run(sync, "the package index", note)
    if name in LOCAL_DISTRIBUTIONS:
        where = str(LOCAL_DISTRIBUTIONS[name])
        add = [uv, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--python"]
        _run([*add, python, "--reinstall", where], "the package index")


def _run(command: list[str], needs: str, note: Callable[[str], None] = lambda _: None) -> None:
    """Runs a program; NOTE gets each line of its output as it comes."""
    scratch = ENVIRONMENTS / ".tmp"
    scratch.mkdir(exist_ok=True)
    environment = os.environ | {
        "UV_CACHE_DIR": str(CACHE / "uv"),
        "UV_NO_CONFIG": "1",
        "TMPDIR": str(scratch),
    }
    environment.pop("VIRTUAL_ENV", None)
    said = []
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            said.append(line)
            note(line)
    if process.returncode:
        raise EnvironmentTrouble(
            f"This needs {needs}, and it failed:\n  {' '.join(command)}\n{''.join(said).strip()}"
        )


def _made_by_this_python(name: str) -> bool:
    settings = ENVIRONMENTS / name / "pyvenv.cfg"
    version = ".".join(map(str, sys.version_info[:3]))
    return python_of(name).exists() and f"version_info = {version}\n" in settings.read_text()


def _fingerprint(name: str) -> str:
    """Changes with the lock, the interpreter, the place, and our own distribution's files."""
    parts = [sys.version, str(ENVIRONMENTS), (LOCKS / f"{name}.txt").read_text()]
    if name in LOCAL_DISTRIBUTIONS:
        sources = sorted(LOCAL_DISTRIBUTIONS[name].rglob("*"))
        parts += [p.read_text() for p in sources if p.suffix in {".py", ".toml"}]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _stamp(name: str) -> Path:
    return ENVIRONMENTS / name / ".installed"


def _is_fresh(name: str) -> bool:
    stamp = _stamp(name)
    return stamp.exists() and stamp.read_text() == _fingerprint(name)


def _count(name: str) -> int:
    return sum("==" in line for line in (LOCKS / f"{name}.txt").read_text().splitlines())


def _say(name: str, what: str) -> None:
    print(f"environment {name:<10} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        ensure(*sys.argv[1:])
    except EnvironmentTrouble as trouble:
        sys.exit(f"error: {trouble}")
    except KeyboardInterrupt:
        sys.exit(130)
