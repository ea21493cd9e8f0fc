"""A function's code folder, and whether it was edited since a process started from it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Path, time of the last change in nanoseconds, size in bytes.
Stamp = tuple[str, int, int]


class CodeFolder:
    """The folder that a function's handler is imported from.

    Args:
        path: The folder.
        bytecode: The folder that Python keeps compiled modules in (PYTHONPYCACHEPREFIX).
        hot: Whether it is watched for edits; an unpacked archive never changes.
    """

    def __init__(self, path: Path, *, bytecode: Path, hot: bool) -> None:
        self.path = path
        self._bytecode = bytecode
        self._hot = hot
        self._seen: frozenset[Stamp] = frozenset()

    def remember(self) -> None:
        """Takes the files as they are now for the ones that the next process starts from."""
        if self._hot:
            self._seen = frozenset(_stamps(str(self.path)))

    def was_edited(self) -> bool:
        """Whether a file was changed, added or removed since `remember`."""
        return self._hot and self._seen != frozenset(_stamps(str(self.path)))

    def forget_bytecode(self) -> None:
        """Makes Python compile the folder's modules anew.

        It tells an edit by whole seconds and size, so it would miss a quick one.
        """
        compiled = self._bytecode / self.path.relative_to(self.path.anchor)
        shutil.rmtree(compiled, ignore_errors=True)


def _stamps(folder: str) -> Iterator[Stamp]:
    """Hidden files are left out (editors keep theirs there), and so is compiled code."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__pycache__":
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _stamps(entry.path)
            else:
                yield from _stamp(Path(entry.path))


def _stamp(file: Path) -> Iterator[Stamp]:
    with suppress(FileNotFoundError):  # An editor replaced it between listing and looking.
        status = file.stat()
        yield str(file), status.st_mtime_ns, status.st_size
