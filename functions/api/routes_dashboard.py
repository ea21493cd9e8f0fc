"""The dashboard: a page that shows, by this API alone, how runs fare; it needs a token for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from api import catalogue
from api.operations import Routes
from api.static_pages import StaticPage

if TYPE_CHECKING:
    from chalice import Response

    from api.operations import Call, NoInput

routes = Routes(__name__)

DASHBOARD: Final = StaticPage.beside_the_api("dashboard", start="start.js")


@routes.operation("GET", "/dashboard", scope=None, answers={200: None})
def get_dashboard(_call: Call[NoInput]) -> Response:
    """A page to look at runs, in a browser."""
    return DASHBOARD.page()


@routes.operation(
    "GET",
    "/dashboard/{asset}",
    scope=None,
    answers={200: None, 304: None},
    problems=[catalogue.NOT_FOUND],
)
def get_dashboard_asset(call: Call[NoInput], asset: str) -> Response:
    """A file of that page."""
    return DASHBOARD.asset(asset, call.request)
