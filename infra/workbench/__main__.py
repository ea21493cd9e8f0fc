"""Starts the Workbench: `python -m infra.workbench`, see `settings` for the variables."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import uvicorn

from infra.workbench.app import make_app
from infra.workbench.settings import Settings, SettingsTrouble, read_settings

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

    from infra.workbench.runner import Processor

BACKLOG = 512
GRACE_SECONDS = 2
# A status call must not wait long for a thread that draws or counts to give up the interpreter.
SWITCH_SECONDS = 0.0005


def main() -> None:
    """Serves until SIGTERM or SIGINT; jobs not ended by then go on at the next start."""
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("workbench").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _leave)
    try:
        settings = read_settings(os.environ)
        listener = _listen(settings)
    except (SettingsTrouble, OSError) as trouble:
        sys.exit(f"error: {trouble}")
    # Else matplotlib would keep its list of fonts in the user's home folder.
    os.environ.setdefault("MPLCONFIGDIR", str(settings.data_path / "matplotlib"))
    sys.setswitchinterval(SWITCH_SECONDS)
    app = make_app(settings, lambda: _make_processor(settings), clock=time.time)
    server = _AnnouncingServer(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    with contextlib.suppress(SystemExit, KeyboardInterrupt):
        server.run(sockets=[listener])
    logging.shutdown()
    # A worker may hang in a transfer; its job is taken up again, so nobody waits for it here.
    os._exit(0 if server.started else 1)


class _AnnouncingServer(uvicorn.Server):
    """Says where it listens, once it answers."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            print(f"Workbench listening on http://{host}:{port}", flush=True)


def _listen(settings: Settings) -> socket.socket:
    try:
        return _open_listener(settings.host, settings.port)
    except OSError as error:
        raise OSError(
            f"The Workbench can't listen on {settings.host}:{settings.port} "
            f"({error.strerror or error}): set WORKBENCH_PORT to a free one, or to 0."
        ) from error


def _open_listener(host: str, port: int) -> socket.socket:
    [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it an answer
    # waits 40 ms for the caller's acknowledgement of its first half.
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _make_processor(settings: Settings) -> Processor:
    """On the first job: polars and boto3 take a second that the start needn't."""
    from infra.workbench.processing import S3Processor  # noqa: PLC0415 - as said above
    from infra.workbench.storage import Storage  # noqa: PLC0415 - as said above

    storage = Storage(
        endpoint_url=settings.storage_endpoint_url,
        connection_count=settings.worker_count + 2,
    )
    return S3Processor(storage, scratch_path=settings.data_path / "scratch")


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
