"""Outputs in a folder: whole, and never outside of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_api import Body
from pipeline_runs import errors
from pipeline_runs.downloads import Downloads, place_of
from pipeline_runs.models import StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOSTILE = [
    "",
    "/etc/passwd",
    "..",
    "../x",
    "a/../../x",
    "a/..",
    "..\\x",
    "C:\\x",
    "c:x",
    "a\0b",
    "a\nb",
    "a/",
    "/",
]


def stored(name: str, size: int = 5, url: str = "https://storage.test/x") -> StoredObject:
    return StoredObject(
        name=name,
        bucket="b",
        key=f"out/{name}",
        size_bytes=size,
        modified_at=datetime(2026, 3, 1, tzinfo=UTC),
        url=url,
    )


def downloads(
    folder: Path,
    answer: Callable[[httpx.Request], httpx.Response] | None = None,
    *,
    overwrite: bool = False,
) -> Downloads:
    given = answer or (lambda _: httpx.Response(200, stream=Body(b"12345")))
    return Downloads(folder, overwrite=overwrite, transport=httpx.MockTransport(given))


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_leads_out_of_the_folder_is_left_out(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "got"
    with downloads(folder) as saving, pytest.raises(errors.DownloadFailed, match="leads out of"):
        saving.save(stored(name))
    assert files(tmp_path) == ["got"]


@given(st.lists(st.sampled_from(["..", ".", "a", "\\", "/", "b/", "\0", "C:", "~"])).map("".join))
def test_no_name_at_all_leads_out_of_the_folder(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.getbasetemp().resolve()
    try:
        place = place_of(name, folder)
    except errors.DownloadFailed:
        return
    assert place.resolve().is_relative_to(folder)
    assert place.resolve() != folder


def test_a_link_in_the_folder_leads_nowhere(tmp_path: Path) -> None:
    folder, outside = tmp_path / "got", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "sub").symlink_to(outside)
    (folder / "file").symlink_to(outside / "new")
    with downloads(folder, overwrite=True) as saving:
        for name in ("sub/x", "file"):
            with pytest.raises(errors.DownloadFailed, match="leads out of"):
                saving.save(stored(name))
    assert files(outside) == []


def test_a_folder_is_made_and_so_are_those_below(tmp_path: Path) -> None:
    with downloads(tmp_path / "a" / "b") as saving:
        saved = saving.save(stored("c/d.csv"))
    assert saved.path == tmp_path / "a" / "b" / "c" / "d.csv"
    assert saved.path.read_bytes() == b"12345"


def test_a_file_that_is_there_stays_unless_it_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with (
        downloads(tmp_path) as saving,
        pytest.raises(errors.DownloadFailed, match="is there already"),
    ):
        saving.save(stored("x"))
    assert (tmp_path / "x").read_text() == "mine"
    with downloads(tmp_path, overwrite=True) as saving:
        saving.save(stored("x"))
    assert files(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"12345"


def broken(_: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("Connection reset by peer")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(broken, "Connection reset", id="broken"),
        pytest.param(lambda _: httpx.Response(403), "answered 403", id="expired"),
        pytest.param(lambda _: httpx.Response(200, stream=Body(b"123")), "has 3 bytes", id="short"),
        pytest.param(lambda _: httpx.Response(302), "answered 302", id="elsewhere"),
    ],
)
def test_what_does_not_come_whole_leaves_no_trace(
    tmp_path: Path, answer: Callable[[httpx.Request], httpx.Response], told: str
) -> None:
    with downloads(tmp_path, answer) as saving, pytest.raises(errors.DownloadFailed, match=told):
        saving.save(stored("x"))
    assert files(tmp_path) == []


def test_a_link_that_is_no_http_is_not_followed(tmp_path: Path) -> None:
    with downloads(tmp_path) as saving, pytest.raises(errors.DownloadFailed, match="no link"):
        saving.save(stored("x", url="file:///etc/passwd"))


def test_what_is_stored_compressed_is_saved_as_it_is(tmp_path: Path) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Body(b"123", b"45"), headers={"Content-Encoding": "gzip"})

    with downloads(tmp_path, answer) as saving:
        saving.save(stored("x.gz"))
    assert (tmp_path / "x.gz").read_bytes() == b"12345"


def test_bytes_are_told_of_as_they_come(tmp_path: Path) -> None:
    told: list[int] = []
    with downloads(tmp_path, lambda _: httpx.Response(200, stream=Body(b"123", b"45"))) as saving:
        saving.save(stored("x"), came=told.append)
    assert told == [3, 2]
