"""Pictures by matplotlib, as SVG to stand inside an HTML page.

The page's own colours and fonts apply (`--accent`, `--muted`, `--line`), so that a picture fits
light and dark; nothing in it points elsewhere.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from infra.workbench.profiles import Histogram, ValueCount

WIDTH_INCHES = 3.6
HISTOGRAM_INCHES = 1.5
ROW_INCHES = 0.25
MAX_LABEL_LENGTH = 20

DAY_SECONDS = 86_400
NO_METADATA: Final = dict.fromkeys(("Date", "Creator", "Format", "Type"))

# Colours that stand for the page's variables until the picture is on the page.
ACCENT, MUTED, LINE, INK = "#010101", "#020202", "#030303", "#040404"
VARIABLES: Final = {ACCENT: "accent", MUTED: "muted", LINE: "line", INK: "ink"}

STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # Texts stay texts: readable, selectable, in the page's font.
    "text.parse_math": False,  # A $ in somebody's file is a $.
    "font.size": 9,
    "axes.edgecolor": LINE,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.color": LINE,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}

BAR: Final[dict[str, Any]] = {"height": 0.62, "color": ACCENT}
BAR_LABEL: Final[dict[str, Any]] = {"padding": 4, "color": MUTED, "fontsize": 8.5}
ROOM_FOR_LABELS = 1.2

# matplotlib's settings and caches are global.
_drawing = threading.Lock()


def draw_histogram(found: Histogram, *, label: str, times: bool) -> str:
    """Counts over a range, as an SVG element.

    Args:
        found: The counts.
        label: What is read out to those who can't see it.
        times: The edges are seconds since the epoch.
    """
    with _drawing, mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, HISTOGRAM_INCHES))
        axes = figure.add_axes((0.03, 0.17, 0.94, 0.8))
        gap = (found.edges[1] - found.edges[0]) * 0.06
        axes.bar(
            found.edges[:-1],
            found.counts,
            width=found.edges[1] - found.edges[0] - gap,
            align="edge",
            color=ACCENT,
        )
        axes.set_xlim(found.edges[0], found.edges[-1])
        axes.set_yticks([])
        # Marks would be drawn by reference, which clashes between pictures on one page.
        axes.tick_params(axis="x", length=0, pad=4)
        if times:
            _tick_times(axes, found.edges)
        else:
            _tick_numbers(axes)
        return _to_svg(figure, label)


def compact(number: float) -> str:
    """A number in few characters: 12,345.6 or 1.2M; years keep their four digits together."""
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if unit <= abs(number) < unit * 1000:
            return f"{number / unit:.4g}{name}"
    return f"{number:,.6g}" if abs(number) >= 10_000 else f"{number:.6g}"


def draw_counts(counts: Sequence[ValueCount], *, label: str) -> str:
    """One bar for each value with its count, as an SVG element."""
    with _drawing, mpl.rc_context(STYLE):
        figure, axes = _rows([one.value for one in counts])
        bars = axes.barh(range(len(counts)), [one.count for one in counts], **BAR)
        axes.bar_label(bars, [f"{one.count:,}" for one in counts], **BAR_LABEL)
        axes.set_xlim(0, max(one.count for one in counts) * ROOM_FOR_LABELS)
        return _to_svg(figure, label)


def draw_shares(shares: Sequence[tuple[str, float]], *, label: str) -> str:
    """One bar for each name, of its share from 0 to 1, as an SVG element."""
    with _drawing, mpl.rc_context(STYLE):
        figure, axes = _rows([name for name, _ in shares])
        tracks = axes.barh(range(len(shares)), [1] * len(shares), **BAR | {"color": LINE})
        axes.barh(range(len(shares)), [share for _, share in shares], **BAR)
        axes.bar_label(tracks, [f"{share:.1%}" for _, share in shares], **BAR_LABEL)
        axes.set_xlim(0, ROOM_FOR_LABELS)
        return _to_svg(figure, label)


def _rows(names: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure with a named row for each bar, from the top."""
    figure = Figure(figsize=(WIDTH_INCHES, ROW_INCHES * len(names) + 0.06))
    axes = figure.add_axes((0.36, 0, 0.64, 1))
    axes.set_yticks(range(len(names)), [_drawable(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0, pad=5)
    axes.spines["bottom"].set_visible(False)
    return figure, axes


def _tick_numbers(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: compact(number)))


def _tick_times(axes: Axes, edges: Sequence[float]) -> None:
    """The ends and the middle: dates have no round numbers."""
    moments = [edges[0], (edges[0] + edges[-1]) / 2, edges[-1]]
    ticks = axes.set_xticks(moments, [_when(moment, edges) for moment in moments])
    ticks[0].label1.set_horizontalalignment("left")
    ticks[-1].label1.set_horizontalalignment("right")


def _when(moment: float, edges: Sequence[float]) -> str:
    at = datetime.fromtimestamp(0, UTC) + timedelta(seconds=moment)
    return at.strftime("%Y-%m-%d" if edges[-1] - edges[0] > 2 * DAY_SECONDS else "%m-%d %H:%M")


def _drawable(text: str) -> str:
    """Short, and without what no font draws and no XML holds."""
    shown = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
    return shown if len(shown) <= MAX_LABEL_LENGTH else f"{shown[: MAX_LABEL_LENGTH - 1]}…"


def _to_svg(figure: Figure, label: str) -> str:
    page = io.StringIO()
    with warnings.catch_warnings():
        # A letter that the measuring font lacks is drawn by the page's font all the same.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(page, format="svg", transparent=True, metadata=NO_METADATA)
    picture = ET.fromstring(page.getvalue())  # noqa: S314 - matplotlib's own words
    _make_part_of_a_page(picture)
    picture.set("role", "img")
    picture.set("aria-label", label)
    return ET.tostring(picture, encoding="unicode")


def _make_part_of_a_page(element: ET.Element) -> None:
    """Takes away what only a file of its own needs, and what would clash with other pictures."""
    element.tag = element.tag.rpartition("}")[2]
    element.tail = None
    for name in ("id", "clip-path", "width", "height", "version"):
        element.attrib.pop(name, None)
    if "style" in element.attrib:
        element.set("style", _themed(element.attrib["style"]))
    for child in list(element):
        if child.tag.endswith(("}defs", "}metadata")):
            element.remove(child)
        else:
            _make_part_of_a_page(child)


def _themed(style: str) -> str:
    style = re.sub(r"font-family: [^;]*;? ?", "", style)
    for colour, name in VARIABLES.items():
        style = style.replace(colour, f"var(--{name})")
    return style
