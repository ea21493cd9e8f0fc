"""What a view answers with."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from chalice import Response

from api.problems import HEADERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from api.bodies import Page, PageQuery


def answered(
    status: int, body: BaseModel, headers: Mapping[str, str] = MappingProxyType({})
) -> Response:
    """A JSON answer."""
    return Response(
        body.model_dump_json(),
        status_code=status,
        headers={**HEADERS, "Content-Type": "application/json", **headers},
    )


def unchanged(headers: Mapping[str, str]) -> Response:
    """304: the caller has this version already."""
    return Response("", status_code=304, headers={**HEADERS, **headers})


def page_answer(page: Page, query: PageQuery, address: str) -> Response:
    """A page of a list, with a link to the next one (RFC 8288).

    Args:
        page: the body.
        query: what was asked.
        address: the list's, without a query.
    """
    if not page.next_page_token:
        return answered(200, page)
    asked = query.model_dump(mode="json", exclude_unset=True)
    target = f"{address}?{urlencode(asked | {'page_token': page.next_page_token}, doseq=True)}"
    return answered(200, page, {"Link": f'<{target}>; rel="next"'})
