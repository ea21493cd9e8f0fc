"""Somebody who looks at the dashboard with a browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dashboard_site import readable_token

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from dashboard_site import Site

REFUSED_BY_API: Final = "Failed to load resource"
"""Chromium's own line for every answer from 400 on: the page tells of it in its own words."""


@dataclass
class Viewer:
    """Somebody with a browser, who never meets an error or a foreign host.

    Attributes:
        page: The tab that is looked at.
        faults: What the browser complained of.
    """

    site: Site
    context: BrowserContext
    page: Page
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.clock.install()
        self.page.on("console", lambda told: self._hear(told.type, told.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.context.on("request", lambda request: self._see(request.url))

    def opens(self, fragment: str = "", *, token: str | None = None) -> Page:
        """Comes by a link with a token in it, and sees the place."""
        link = f"#token={token or readable_token()}"
        self.page.goto(f"{self.site.dashboard}{link}&to={fragment}" if fragment else self._at(link))
        self.page.get_by_role("region", name="Health").wait_for()
        return self.page

    def waits(self, seconds: float) -> None:
        """So much time passes for the page at once, beside the true time."""
        self.page.clock.run_for(round(seconds * 1000))

    def _at(self, fragment: str) -> str:
        return f"{self.site.dashboard}{fragment}"

    def _hear(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"} and not text.startswith(REFUSED_BY_API):
            self.faults.append(text)

    def _see(self, address: str) -> None:
        if not address.startswith((self.site.address + "/", "data:")):
            self.faults.append(f"asked for {address}")
