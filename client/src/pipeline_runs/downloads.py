"""What a run wrote to a local folder, by the links that the API gives.

An object's name is another's: it never leads out of the folder, whatever is in it.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import httpx

from pipeline_runs.calls import is_loopback
from pipeline_runs.errors import DownloadFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from pipeline_runs.models import StoredObject

READ_SECONDS: Final = 60
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE: Final = re.compile(r"^[A-Za-z]:")
_PARTIAL: Final = ".partial"


@dataclass(frozen=True, slots=True)
class Saved:
    """An object that is in the folder now."""

    object: StoredObject
    path: Path


def place_of(name: str, folder: Path) -> Path:
    """Where in the folder an object of this name belongs.

    Args:
        name: what of its key follows the run's prefix.
        folder: an absolute path without symbolic links.

    Raises:
        DownloadFailed: the name leads elsewhere, also by a symbolic link that is in the way.
    """
    steps = PurePosixPath(name).parts
    unsafe = (
        not steps
        or name.startswith("/")
        or name.endswith("/")
        or ".." in steps
        or "\\" in name
        or _CONTROLS.search(name)
        or _DRIVE.match(name)
    )
    path = folder.joinpath(*steps)
    if unsafe or not path.parent.resolve().is_relative_to(folder) or path.is_symlink():
        raise DownloadFailed(f"The object {name!r} is left out: its name leads out of {folder}")
    return path


class Downloads:
    """Saves objects in a folder, which is made if it isn't there.

    Args:
        folder: where to.
        overwrite: whether a file that is there is replaced.
        transport: in place of the network, for tests.

    Raises:
        DownloadFailed: the folder can't be made.
    """

    def __init__(
        self, folder: Path, *, overwrite: bool = False, transport: httpx.BaseTransport | None = None
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DownloadFailed(f"The folder {folder} can't be made: {error.strerror}") from error
        self.folder = folder.resolve()
        self.overwrite = overwrite
        self._transport = transport
        self._clients: dict[bool, httpx.Client] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for client in self._clients.values():
            client.close()

    def save(self, found: StoredObject, *, came: Callable[[int], None] = lambda _: None) -> Saved:
        """Saves one object, whole or not at all.

        Args:
            found: what.
            came: is told of the bytes, as they come.

        Raises:
            DownloadFailed: its name is unsafe, a file of that name is there, or it didn't come.
        """
        path = place_of(found.name, self.folder)
        if path.exists() and not self.overwrite:
            raise DownloadFailed(
                f"{path} is there already: name another folder, or allow to overwrite"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(found, path, came)
        except OSError as error:
            raise DownloadFailed(f"{path} can't be written: {error.strerror}") from error
        return Saved(found, path)

    def _fetch(self, found: StoredObject, path: Path, came: Callable[[int], None]) -> None:
        size = 0
        with self._answering(found) as answer, _replacing(path) as descriptor:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                for chunk in answer.iter_raw():
                    file.write(chunk)
                    size += len(chunk)
                    came(len(chunk))
            if size != found.size_bytes:
                raise DownloadFailed(
                    f"{found.name} has {size} bytes, and {found.size_bytes} were told of:"
                    " it changed meanwhile, or the connection broke; try again"
                )

    @contextmanager
    def _answering(self, found: StoredObject) -> Iterator[httpx.Response]:
        """The answer of the link; the API's token has no business there."""
        if urlsplit(found.url).scheme not in {"http", "https"}:
            raise DownloadFailed(f"{found.name} has no link that can be followed")
        try:
            with self._http(found.url).stream("GET", found.url) as answer:
                if answer.status_code != 200:
                    raise DownloadFailed(
                        f"The storage answered {answer.status_code} for {found.name}: links hold a"
                        " quarter of an hour; try again for new ones"
                    )
                yield answer
        except httpx.HTTPError as error:
            why = f"{found.name} didn't come: {error or type(error).__name__}"
            raise DownloadFailed(why) from error

    def _http(self, url: str) -> httpx.Client:
        near = is_loopback(url)
        if near not in self._clients:
            self._clients[near] = httpx.Client(
                # Byte for byte as it is stored, also what is stored compressed.
                headers={"Accept-Encoding": "identity"},
                timeout=READ_SECONDS,
                transport=self._transport,
                trust_env=not near,
            )
        return self._clients[near]


@contextmanager
def _replacing(path: Path) -> Iterator[int]:
    """A new file that takes the path's place in the end, or leaves no trace."""
    partial = path.with_name(f".{secrets.token_hex(8)}{_PARTIAL}")
    # O_EXCL follows no link that somebody has put there.
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
