"""The API's own documentation: the OpenAPI document, and a page to read and try it."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from chalice import Response

from api import catalogue
from api.operations import OPERATIONS, Routes
from api.problems import HEADERS, RequestInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.operations import Call, NoInput

routes = Routes(__name__)

FILES: Final = Path(__file__).parent / "swagger_ui"
ASSETS: Final = MappingProxyType(
    {
        "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
        "swagger-ui.css": "text/css; charset=utf-8",
        "start.js": "text/javascript; charset=utf-8",
        "page.css": "text/css; charset=utf-8",
    }
)
"""What the page loads, and nothing from anywhere else."""
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@routes.operation("GET", "/openapi.json", scope=None, answers={200: None})
def get_openapi(call: Call[NoInput]) -> Response:
    """This API as an OpenAPI 3.1 document."""
    from api.openapi import document  # noqa: PLC0415  # of all routes this one alone needs it

    return _file(json.dumps(document(OPERATIONS, base=call.base)), "application/json")


@routes.operation("GET", "/docs", scope=None, answers={200: None})
def get_docs(_call: Call[NoInput]) -> Response:
    """A page to read about the API and to try it."""
    return _file(
        (FILES / "page.html").read_text(),
        "text/html; charset=utf-8",
        {"Content-Security-Policy": PAGE_POLICY},
    )


@routes.operation(
    "GET",
    "/docs/{asset}",
    scope=None,
    answers={200: None},
    problems=[catalogue.NOT_FOUND],
)
def get_docs_asset(_call: Call[NoInput], asset: str) -> Response:
    """A file of that page."""
    if asset not in ASSETS:
        raise RequestInvalid(catalogue.NOT_FOUND, "There is no such file")
    text = (FILES / asset).read_text()
    return _file(text, ASSETS[asset], {"Cache-Control": "max-age=3600"})


def _file(
    text: str, media_type: str, headers: Mapping[str, str] = MappingProxyType({})
) -> Response:
    return Response(text, headers={**HEADERS, "Content-Type": media_type, **headers})
