"""Which port each part listens on, and who else may hold it."""

from __future__ import annotations

import socket
import zlib
from typing import TYPE_CHECKING

import psutil

from infra.local.files import read_json, write_json
from infra.local.trouble import StackTrouble

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from infra.local.layout import Layout

LOOPBACK = "127.0.0.1"
# Below the range from which systems take ports for outgoing connections: a port from there could
# be gone at the next start, and addresses are to stay.
FIRST, COUNT = 20_000, 10_000
HIGHEST = 65_535


def wanted_port(part: str, environment: Mapping[str, str]) -> int | None:
    """The port that <PART>_PORT sets, or None.

    Raises:
        StackTrouble: it isn't a port number.
    """
    variable = variable_of(part)
    text = environment.get(variable, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= HIGHEST):
        raise StackTrouble(f"{variable} must be a port number from 1 to {HIGHEST}, not {text!r}.")
    return int(text)


def variable_of(part: str) -> str:
    """The environment variable that sets the port of a part."""
    return f"{part.upper()}_PORT"


def choose_ports(
    parts: Sequence[str],
    layout: Layout,
    environment: Mapping[str, str],
    *,
    held: Mapping[str, int],
) -> dict[str, int]:
    """A port for each part: the one that is set, else the last one if still free, else a free one.

    Args:
        parts: The names of the parts that listen.
        layout: Where the choice is kept for the next time.
        environment: May set ports.
        held: The ports that parts of this stack listen on now; they count as free.

    Raises:
        StackTrouble: a port that is set is no number, is in use, or is set twice.
    """
    kept = {k: v for k, v in read_json(layout.ports_file).items() if isinstance(v, int)}
    chosen: dict[str, int] = {}
    for part in parts:
        port = wanted_port(part, environment)
        if port is None:
            continue
        if port in chosen.values():
            raise StackTrouble(f"{variable_of(part)}: port {port} is set for two parts.")
        if port not in held.values():
            refuse_taken(part, port)
        chosen[part] = port
    rest = [part for part in parts if part not in chosen]
    for part in rest:
        last = held.get(part) or kept.get(part)
        if last and last not in chosen.values() and (part in held or is_free(last)):
            chosen[part] = last
    for part in rest:
        if part not in chosen:
            taken = {*chosen.values(), *held.values(), *kept.values()}
            chosen[part] = _free_port(layout, taken)
    write_json(layout.ports_file, kept | chosen)
    return {part: chosen[part] for part in parts}


def refuse_taken(part: str, port: int) -> None:
    """Returns only if the port is free.

    Raises:
        StackTrouble: somebody listens on it; the text says who, where that can be known.
    """
    if not is_free(port):
        raise StackTrouble(
            f"{part}: port {port} is in use{holder(port)}.\n"
            f"  Set {variable_of(part)} to another, or leave it unset for a free one."
        )


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # As servers do: connections of the last server that linger are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """` by NAME (process 4711)`, or nothing where that can't be known."""
    try:
        found = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return ""
    for connection in found:
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
        if listens and connection.pid:
            try:
                name = psutil.Process(connection.pid).name()
            except psutil.Error:
                name = "a process"
            return f" by {name} (process {connection.pid})"
    return ""


def _free_port(layout: Layout, taken: Collection[int]) -> int:
    """The first free one from a place that depends on the folder, so that clones rarely meet."""
    start = zlib.crc32(layout.marker.encode())
    for step in range(COUNT):
        port = FIRST + (start + step) % COUNT
        if port not in taken and is_free(port):
            return port
    raise StackTrouble(f"No port from {FIRST} to {FIRST + COUNT - 1} is free.")
