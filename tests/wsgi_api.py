"""The API as a WSGI application, for tools that call one; in process, with nothing between."""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from api_client import ApiClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

METHODS: Final = {"GET", "POST", "PATCH", "PUT", "DELETE"}
"""Those that Chalice knows; API Gateway lets no other pass."""


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """PEP 3333's entry; the caller shows the token."""
    target = quote(environ["PATH_INFO"].encode("latin-1"), safe="/:")
    query = environ.get("QUERY_STRING", "")
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    headers: dict[str, str | None] = {
        name.removeprefix("HTTP_").replace("_", "-").title(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    if media_type := environ.get("CONTENT_TYPE"):
        headers["Content-Type"] = media_type
    try:
        answer = ApiClient(stage="", bearer=None).send(
            environ["REQUEST_METHOD"],
            f"{target}?{query}" if query else target,
            text=base64.b64encode(body).decode() if body else None,
            headers=headers,
            base64=bool(body),
        )
    except LookupError:
        start("403 Forbidden", [])  # API Gateway's own answer.
        return [b""]
    start(f"{answer.status} {HTTPStatus(answer.status).phrase}", [*answer.headers.items()])
    return [answer.text.encode()]
