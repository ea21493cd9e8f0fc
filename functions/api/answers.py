"""What a view answers with."""

from __future__ import annotations

from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlencode

from chalice import Response

from api.problems import HEADERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from api.bodies import Page, PageQuery


B = TypeVar("B", bound="BaseModel")

LARGEST_PAGE_BYTES: Final = 2_500_000
"""Of JSON, which is escaped once more on its way through API Gateway: at worst it doubles."""


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


def fitting(items: Sequence[B]) -> list[B]:
    """As many of the items as one answer can hold, one at least: Lambda's may have 6 MB."""
    sizes = accumulate(len(item.model_dump_json().encode()) for item in items)
    number = sum(1 for size in sizes if size <= LARGEST_PAGE_BYTES)
    return list(items[: max(1, number)])


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
