"""A real Chromium, and the dashboard as a site of its own for each test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.sync_api import expect, sync_playwright

from dashboard_screenshots import NO_CHROMIUM, chromium
from dashboard_site import a_day_of_runs, served
from dashboard_viewer import Viewer
from fakes import World

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from playwright.sync_api import Browser

    from dashboard_site import Site

PATIENCE_MILLISECONDS: Final = 30_000
"""What a condition may take to come true on a machine that has much else to do."""
WIDE: Final = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, without a window."""
    program = chromium()
    if not program:
        pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        # Chromium's sandbox doesn't work for root.
        sandbox = os.geteuid() != 0
        launched = playwright.chromium.launch(executable_path=program, chromium_sandbox=sandbox)
        yield launched
        launched.close()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def site(world: World) -> Iterator[Site]:
    with served(world) as site:
        yield site


@pytest.fixture
def a_day(world: World) -> World:
    """Two hours of runs."""
    a_day_of_runs(world)
    return world


@pytest.fixture
def screen() -> Mapping[str, Any]:
    """What the viewer looks at it with; a test may have another."""
    return {"viewport": WIDE}


@pytest.fixture
def viewer(browser: Browser, site: Site, screen: Mapping[str, Any]) -> Iterator[Viewer]:
    context = browser.new_context(timezone_id="Europe/London", **screen)
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    viewer = Viewer(site, context, context.new_page())
    yield viewer
    context.close()
    assert viewer.faults == []
