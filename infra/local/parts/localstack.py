"""LocalStack: AWS on this machine. It keeps nothing: every start is followed by a deployment."""

from __future__ import annotations

import configparser
import hashlib
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.local.environments import CACHE, LOCKS, python_of
from infra.local.layout import TEMPLATE
from infra.local.parts.part import answers
from infra.local.ports import LOOPBACK
from infra.local.processes import MARKER, Launch, listens, make_surroundings, surroundings
from infra.local.trouble import PartFailed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from infra.local.layout import Layout
    from infra.local.parts.part import Say

LOCK = LOCKS / "localstack.txt"
EXECUTOR = "process"
"""Our plugin, which runs functions as processes; LocalStack's own needs Docker."""
FALLBACK = "docker"
EXECUTOR_GROUP = "localstack.lambda.runtime_executor"
FUNCTIONS_BYTECODE = "lambda-bytecode"
"""Where our plugin lets Python keep compiled modules; it saves seconds of each first call."""
ACCESS_KEY_ID = "test"
SECRET_ACCESS_KEY = "test"  # noqa: S105 - LocalStack takes any
KEEP_WARM_MILLISECONDS = 3_600_000


@dataclass(frozen=True, kw_only=True)
class LocalStack:
    """Queues, event bus, API Gateway and Lambda, with the functions as processes."""

    layout: Layout
    environment: Mapping[str, str]
    port: int
    region: str
    name: str = "localstack"
    stop_signal: signal.Signals = signal.SIGKILL
    boot_seconds: float = 90
    passing_faults: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The endpoint of every AWS service."""
        return f"http://{LOOPBACK}:{self.port}"

    def prepare(self, say: Say) -> None:
        """Checks that our executor is installed: without it LocalStack quietly takes Docker.

        Raises:
            PartFailed: it isn't.
        """
        if not _executor_is_installed():
            raise PartFailed(
                self.name,
                f"the Lambda executor {EXECUTOR!r} isn't installed in its environment.\n"
                "  Make the environment anew: rm -r .local/envs/localstack && make up",
                self.layout.log(self.name),
            )
        folder = self.layout.part(self.name)
        made_by = folder / "made-by"
        if not made_by.exists() or made_by.read_text() != _environment():
            # Its list of plugins, and all else that it worked out, may be outdated.
            shutil.rmtree(folder, ignore_errors=True)
            say("preparing (faster from the next time on)")
            self._make_catalog(folder)
            made_by.write_text(_environment())
        _clear(folder / "files", but="usr")
        _clear(folder / "tmp", but=FUNCTIONS_BYTECODE)
        make_surroundings(folder)
        say("booting")

    def launch(self) -> Launch:
        """LocalStack without Docker, on the loopback address only."""
        folder = self.layout.part(self.name)
        return Launch(
            command=(str(python_of("localstack")), "-m", "localstack.runtime.main"),
            environment=surroundings(folder, self.environment) | self._settings(folder),
            folder=folder,
            revision=_revision(),
        )

    def is_ready(self, pid: int) -> bool:
        """Its server listens and answers; services are loaded on their first use."""
        return listens(pid, self.port) and answers(f"{self.url}/_localstack/health")

    def _settings(self, folder: Path) -> dict[str, str]:
        return {
            "LAMBDA_RUNTIME_EXECUTOR": EXECUTOR,
            "LAMBDA_PROCESS_PYTHON": str(python_of("functions")),
            "LAMBDA_PROCESS_ECHO": "1",
            "LAMBDA_KEEPALIVE_MS": str(KEEP_WARM_MILLISECONDS),
            "LAMBDA_RUNTIME_ENVIRONMENT_TIMEOUT": "30",
            "LAMBDA_SYNCHRONOUS_CREATE": "1",
            "LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC": "0.1",
            # Its default would hold back delayed messages for up to ten seconds more.
            "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_EMPTY_POLL_SEC": "1",
            # A plain IPv4 address is ignored by its server, which then listens everywhere.
            "GATEWAY_LISTEN": f"[::ffff:{LOOPBACK}]:{self.port}",
            "LOCALSTACK_HOST": f"{LOOPBACK}:{self.port}",
            "SQS_ENDPOINT_STRATEGY": "path",
            "DNS_ADDRESS": "0",
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "OVERRIDE_IN_DOCKER": "0",
            "FILESYSTEM_ROOT": str(folder / "files"),
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        }

    def _make_catalog(self, folder: Path) -> None:
        """The list of all AWS operations, made in a process of its own.

        LocalStack would make it by itself, and from then on take 350 MB more memory. One in the
        user's cache folder serves all clones that have the same LocalStack.
        """
        make_surroundings(folder)
        place = folder / "files" / "usr" / "lib" / "localstack"
        place.mkdir(parents=True)
        kept = CACHE / "localstack" / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
        if kept.is_dir():
            shutil.copytree(kept, place, dirs_exist_ok=True)
            return
        done = subprocess.run(
            [str(python_of("localstack")), "-m", "localstack.aws.spec"],
            env={
                **surroundings(folder, self.environment),
                **self._settings(folder),
                MARKER: self.layout.marker,
            },
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            why = "its list of operations can't be made"
            raise PartFailed(self.name, why, self.layout.log(self.name), done.stderr)
        new = kept.with_name(f"{kept.name}.{os.getpid()}")
        shutil.copytree(place, new)
        with suppress(OSError):  # Another clone was faster.
            new.rename(kept)
        shutil.rmtree(new, ignore_errors=True)


def _executor_is_installed() -> bool:
    home = python_of("localstack").parents[1]
    for listing in home.glob("lib/python*/site-packages/*.dist-info/entry_points.txt"):
        entry_points = configparser.ConfigParser(delimiters=("=",))
        entry_points.read(listing)
        if entry_points.has_option(EXECUTOR_GROUP, EXECUTOR):
            return True
    return False


def _clear(folder: Path, *, but: str) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name == but:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _environment() -> str:
    """Changes with LocalStack's environment, and with our executor in it."""
    return _stamp("localstack")


def _stamp(environment: str) -> str:
    stamp = python_of(environment).parents[1] / ".installed"
    return stamp.read_text() if stamp.exists() else ""


def _revision() -> str:
    """Changes with the environments and the template.

    A changed template is deployed to an empty LocalStack: that takes as long as changing it in
    place, and never depends on which changes LocalStack knows to make.
    """
    template = TEMPLATE.read_text() if TEMPLATE.exists() else ""
    made_of = "\0".join((_environment(), _stamp("functions"), template))
    return hashlib.sha256(made_of.encode()).hexdigest()
