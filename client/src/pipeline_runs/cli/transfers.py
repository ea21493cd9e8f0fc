"""Uploads and downloads with a bar, on standard error."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn

from pipeline_runs import uploads
from pipeline_runs.cli.screens import count_text, foreign, size_text
from pipeline_runs.downloads import Downloads, Saved
from pipeline_runs.errors import DownloadFailed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pipeline_runs.cli.session import Session
    from pipeline_runs.models import StoredObject

DOWNLOAD_PAGE_SIZE: Final = 20
"""Few at a time: a link holds a quarter of an hour."""


def upload(session: Session, source: Path, prefix: str) -> str:
    """Puts a folder's files where a run is to read; the whole prefix for it.

    Raises:
        UploadFailed: they aren't all there.
    """
    access = session.connection.storage
    files = uploads.files_in(source)
    target = uploads.target_of(prefix, access)
    storage = session.outside.storage(access)
    columns = (TextColumn("Uploading"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=session.aside, transient=True) as progress:
        task = progress.add_task("", total=len(files))
        uploads.upload(files, target, storage, done=lambda _: progress.advance(task))
    size = size_text(sum(file.size_bytes for file in files))
    count = count_text(len(files), "file", "files")
    session.aside.print(f"Uploaded {count}, {size}, to {target.prefix}", soft_wrap=True)
    return target.prefix


def download(
    session: Session,
    found: Iterable[StoredObject],
    folder: Path,
    *,
    overwrite: bool,
    as_json: bool,
) -> bool:
    """Saves what can be saved, and says what couldn't; whether all could.

    Raises:
        DownloadFailed: the folder can't be made.
    """
    saved: list[Saved] = []
    failed: list[str] = []
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with (
        Downloads(folder, overwrite=overwrite, transport=session.outside.links) as downloads,
        Progress(*columns, console=session.aside, transient=True) as progress,
    ):
        for one in found:
            task = progress.add_task(foreign(one.name).plain, total=one.size_bytes)
            try:
                saved.append(downloads.save(one, came=partial(progress.advance, task)))
            except DownloadFailed as error:
                failed.append(str(error))
            progress.remove_task(task)
    for why in failed:
        session.aside.print(foreign(why, style="red"), soft_wrap=True)
    if as_json:
        items = [one.object.model_dump(mode="json") | {"path": str(one.path)} for one in saved]
        session.print_json({"items": items})
    else:
        size = size_text(sum(one.object.size_bytes for one in saved))
        count = count_text(len(saved), "object", "objects")
        session.out.print(f"Saved {count}, {size}, below {downloads.folder}", soft_wrap=True)
    return not failed
