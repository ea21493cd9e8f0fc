"""Pictures of the command line for the documentation: `python -m cli_screenshots [FOLDER]`.

The real commands run over the API in process and made runs, so that the pictures are the same each
time. They hold text, and nothing that is fetched from elsewhere.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
import time
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich._export_format import CONSOLE_SVG_FORMAT  # rich has no public name for its own format
from rich.console import Console
from rich.text import Text

from client_api import CommandLine, playing
from dashboard_site import BUCKET, a_day_of_runs
from fakes import World
from runs.model import Progress
from runs.wiring import using
from wired import WorldWiring, logged

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGES: Final = Path(__file__).parents[1] / "docs" / "images"
WIDTH: Final = 100
FILE_COUNT: Final = 96
FILE_BYTES: Final = 1_500
MAKE_PIPELINE: Final = ("pipelines", "create", "nightly-clean", "--workflow", "clean")
SUBMIT: Final = (
    *("submit", "-p", "nightly-clean", "--input", "2026-03-01"),
    *("--idempotency-key", "night-60", "--wait"),
)
LIST: Final = ("list", "-n", "12")
TERMINAL: Final = {
    "FORCE_COLOR": "1",
    "TERM": "xterm-256color",
    "COLORTERM": "truecolor",
    "TZ": "UTC",
}
FONT_FROM_ELSEWHERE: Final = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)
CONTROL: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-ln-~]|\r|\n")
"""What steers a terminal; not the colours, which end in m."""
UP: Final = "\x1b[1A"
CLEAR_LINE: Final = "\x1b[2K"


def main(folder: Path) -> None:
    """Takes all pictures, into this folder."""
    os.environ.update(TERMINAL)
    os.environ.pop("NO_COLOR", None)
    time.tzset()
    folder.mkdir(parents=True, exist_ok=True)
    for name, words, output in captured():
        target = folder / f"{name}.svg"
        target.write_text(picture(name, words, output))
        sys.stdout.write(f"{target}\n")


def captured() -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Each picture's name, its command and what that prints."""
    with tempfile.TemporaryDirectory() as folder, logged():
        world = World()
        run = CommandLine(world, Path(folder))
        with using(WorldWiring(world)):
            run(*MAKE_PIPELINE)
            _upload_from(run, Path(folder, "2026-03-01"))
            yield "cli-submit", SUBMIT, run(*SUBMIT).output
        world = World()
        a_day_of_runs(world)
        with using(WorldWiring(world)):
            yield "cli-list", LIST, CommandLine(world, Path(folder))(*LIST).output


def _upload_from(run: CommandLine, folder: Path) -> None:
    """Makes the folder that is submitted, and what becomes of its job."""
    folder.mkdir()
    for number in range(FILE_COUNT):
        (folder / f"part-{number:03}.csv").write_bytes(bytes(FILE_BYTES))
    os.chdir(folder.parent)
    run.environment["PIPELINE_RUN_STORAGE_BUCKET"] = BUCKET
    scenes = [("RUNNING", 40), ("RUNNING", 81), ("COMPLETED", FILE_COUNT)]
    seen = [(status, Progress(done, FILE_COUNT)) for status, done in scenes]
    run.api.before = playing(run.world, [None, None, *seen], 1)


def picture(name: str, words: tuple[str, ...], output: str) -> str:
    """A terminal with the command and its output, as SVG."""
    console = Console(
        record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text.assemble(("$ ", "green"), f"pipeline-run {shlex.join(words)}\n"))
    console.print(Text.from_ansi(left_on_screen(output)))
    return console.export_svg(
        title="pipeline-run",
        code_format=FONT_FROM_ELSEWHERE.sub("", CONSOLE_SVG_FORMAT),
        unique_id=name,
    )


def left_on_screen(output: str) -> str:
    """What a terminal shows in the end: without the bars that were drawn over."""
    lines = [""]
    row = 0
    written = 0
    for control in CONTROL.finditer(output):
        lines[row] += output[written : control.start()]
        written = control.end()
        match control.group():
            case "\n":
                row += 1
                lines += [""] * (row == len(lines))
            case clear if clear == CLEAR_LINE:
                lines[row] = ""
            case up if up == UP:
                row -= 1
    lines[row] += output[written:]
    return "\n".join(lines).rstrip()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if sys.argv[1:] else IMAGES)
