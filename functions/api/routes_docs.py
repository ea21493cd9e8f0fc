"""The API's own documentation: the OpenAPI document, and a page to read and try it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from api import catalogue
from api.operations import OPERATIONS, Routes
from api.static_pages import StaticPage, file_answer

if TYPE_CHECKING:
    from chalice import Response

    from api.operations import Call, NoInput

routes = Routes(__name__)

DOCS: Final = StaticPage.beside_the_api("swagger_ui")


@routes.operation("GET", "/openapi.json", scope=None, answers={200: None})
def get_openapi(call: Call[NoInput]) -> Response:
    """This API as an OpenAPI 3.1 document."""
    from api.openapi import document  # noqa: PLC0415  # of all routes this one alone needs it

    return file_answer(json.dumps(document(OPERATIONS, base=call.base)), "application/json")


@routes.operation("GET", "/docs", scope=None, answers={200: None})
def get_docs(_call: Call[NoInput]) -> Response:
    """A page to read about the API and to try it."""
    return DOCS.page()


@routes.operation(
    "GET",
    "/docs/{asset}",
    scope=None,
    answers={200: None, 304: None},
    problems=[catalogue.NOT_FOUND],
)
def get_docs_asset(call: Call[NoInput], asset: str) -> Response:
    """A file of that page."""
    return DOCS.asset(asset, call.request)
