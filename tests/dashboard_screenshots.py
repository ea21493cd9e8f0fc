"""Pictures of the dashboard for the documentation: `make screenshots`.

Made runs on fakes are shown, so that the pictures are the same each time.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from playwright.sync_api import sync_playwright

from dashboard_site import BUCKET, a_day_of_runs, readable_token, served
from fakes import World

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from dashboard_site import Site

IMAGES: Final = Path(__file__).parents[1] / "docs" / "images"
NO_CHROMIUM: Final = (
    "Chromium can't be found, so nobody can look at the dashboard: "
    "install it (Debian: apt-get install chromium)"
)
PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
WIDE: Final = (1280, 900)
PHONE: Final = (390, 844)
PICTURES: Final = (
    ("dashboard-light", "/runs", WIDE, "light"),
    ("dashboard-dark", "/runs", WIDE, "dark"),
    ("dashboard-failed-light", "/runs/17", WIDE, "light"),
    ("dashboard-running-dark", "/runs/18", WIDE, "dark"),
    ("dashboard-phone-light", "/runs", PHONE, "light"),
    ("dashboard-phone-dark", "/runs/17", PHONE, "dark"),
)
"""Name, place, size of the window, theme."""
OUTPUTS: Final = {"part-000.parquet": 4_812_344, "part-001.parquet": 3_977_120}


def main() -> int:
    """Takes all pictures; 1: there is no Chromium."""
    program = chromium()
    if not program:
        sys.stderr.write(f"{NO_CHROMIUM}.\n")
        return 1
    world = World()
    a_day_of_runs(world)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with served(world) as site, sync_playwright() as playwright:
        for name, length in OUTPUTS.items():
            key = f"out/nightly-clean/2026-03-01/17/{name}"
            site.wiring.storage.put(BUCKET, key, bytes(length))
        sandbox = os.geteuid() != 0  # Chromium's doesn't work for root.
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=sandbox)
        for name, place, size, theme in PICTURES:
            take(browser, site, IMAGES / f"{name}.png", place=place, size=size, theme=theme)
            sys.stdout.write(f"docs/images/{name}.png\n")
        browser.close()
    return 0


def chromium() -> str | None:
    """The Chromium that is installed; None: there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def take(
    browser: Browser, site: Site, target: Path, *, place: str, size: tuple[int, int], theme: str
) -> None:
    """One picture, with the time standing still."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if theme == "dark" else "light",
        timezone_id="UTC",
    )
    page = context.new_page()
    page.clock.set_fixed_time(site.world.time.now)
    page.goto(f"{site.dashboard}#token={readable_token()}&to={place}")
    page.locator("main:not([aria-busy]) h1").first.wait_for(state="attached")
    page.locator("[aria-busy]").wait_for(state="detached")
    page.evaluate("document.fonts.ready")
    page.screenshot(path=target)
    context.close()


if __name__ == "__main__":
    sys.exit(main())
