"""The documentation's pictures of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cli_screenshots import IMAGES, left_on_screen
from infra.local.environments import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = (".", "functions", "client/src", "tests")


def test_the_pictures_show_what_the_commands_print_today(tmp_path: Path) -> None:
    sources = os.pathsep.join(str(ROOT / source) for source in SOURCES)
    subprocess.run(
        [sys.executable, "-m", "cli_screenshots", tmp_path],
        env=os.environ | {"PYTHONPATH": sources},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    made = {picture.name: picture.read_text() for picture in tmp_path.iterdir()}
    kept = {picture.name: picture.read_text() for picture in IMAGES.glob("cli-*.svg")}
    assert sorted(made) == ["cli-list.svg", "cli-submit.svg"]
    assert made == kept, "The command line has changed: take new pictures by make screenshots"


def test_nothing_in_them_is_fetched_from_elsewhere() -> None:
    for picture in IMAGES.glob("cli-*.svg"):
        content = picture.read_text()
        assert "url(http" not in content
        assert "href" not in content


@pytest.mark.parametrize(
    ("output", "left"),
    [
        ("one\ntwo\n", "one\ntwo"),
        ("bar 1\r\x1b[2Kbar 2\r\x1b[2Kdone\n", "done"),
        ("kept\nbar\nits age\r\x1b[2K\x1b[1A\x1b[2Kdone\n", "kept\ndone"),
        ("\x1b[?25l\x1b[32mgreen\x1b[0m\n\x1b[?25h", "\x1b[32mgreen\x1b[0m"),
    ],
)
def test_what_was_drawn_over_is_not_in_them(output: str, left: str) -> None:
    assert left_on_screen(output) == left
