"""What a view reads of the request that came in."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from api import catalogue
from api.bodies import LARGEST_BODY_BYTES, LARGEST_ID
from api.problems import RequestInvalid
from runs import strict_json
from runs.errors import TokenRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalice.app import Request

    from api.bodies import PageQuery, RequestBody

B = TypeVar("B", bound="RequestBody")

ANY_MEDIA_TYPE: Final = ["*/*"]
"""For Chalice: the check is ours, so that its answer is a problem."""
LONGEST_KEY: Final = 255
LONGEST_NAME: Final = 1_024
"""Of an object: S3's own limit."""
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}")
NOT_OURS: Final = "page_token must be a next_page_token of an answer"


def request_id(headers: Mapping[str, str] | None, own: str) -> str:
    """What the request is called in all logs: as its caller's X-Request-Id says, or else `own`.

    A name that could be more than a name, where it is written or sent on, is not taken.
    """
    for name, value in (headers or {}).items():
        if name.lower() == "x-request-id" and REQUEST_ID.fullmatch(value):
            return value
    return own


def body(request: Request, shape: type[B]) -> B:
    """The request's body in its shape.

    Raises:
        RequestInvalid: not JSON by its media type, or too large.
        JsonInvalid: malformed.
        pydantic.ValidationError: not of this shape.
    """
    told = str(request.headers.get("content-type", "application/json"))
    media_type = told.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        detail = f"The body must be application/json, not {media_type[:100] or 'unnamed'}"
        raise RequestInvalid(catalogue.UNSUPPORTED_MEDIA_TYPE, detail)
    raw = request.raw_body
    if len(raw) > LARGEST_BODY_BYTES:
        detail = f"The body must not be larger than {LARGEST_BODY_BYTES // 1024} KiB"
        raise RequestInvalid(catalogue.BODY_TOO_LARGE, detail)
    return shape.model_validate(strict_json.read(raw))


def optional_body(request: Request, shape: type[B]) -> B:
    """The request's body in its shape; an empty one is an object without members.

    Raises:
        RequestInvalid, JsonInvalid, pydantic.ValidationError: as for `body`.
    """
    return body(request, shape) if request.raw_body.strip() else shape()


def query(request: Request, shape: type[B]) -> B:
    """The request's query in its shape; a parameter counts once, by its last value.

    Raises:
        pydantic.ValidationError: not of this shape.
    """
    return shape.model_validate(dict(request.query_params or {}))


def path_id(text: str) -> int | None:
    """The id in a path; None: nothing can have it."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(LARGEST_ID)):
        return None
    number = int(text)
    return number if 0 < number <= LARGEST_ID else None


def idempotency_key(request: Request) -> str | None:
    """The caller's Idempotency-Key.

    Raises:
        RequestInvalid: it isn't 1 to 255 visible ASCII characters.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    text = str(key)
    if not 1 <= len(text) <= LONGEST_KEY or not all("!" <= c <= "~" for c in text):
        detail = f"Idempotency-Key must be 1 to {LONGEST_KEY} visible ASCII characters"
        raise RequestInvalid(catalogue.INVALID_IDEMPOTENCY_KEY, detail)
    return text


def bearer_token(request: Request) -> str:
    """The token that the caller shows (RFC 6750).

    Raises:
        TokenRefused: none.
    """
    scheme, _, token = str(request.headers.get("authorization", "")).partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenRefused("Send a token as `Authorization: Bearer <token>`")
    return token.strip()


def prefers_async(request: Request) -> bool:
    """Whether the caller does not want to wait (RFC 7240: `Prefer: respond-async`)."""
    wishes = str(request.headers.get("prefer", "")).split(",")
    return any(wish.split(";")[0].strip().lower() == "respond-async" for wish in wishes)


def matches(request: Request, entity_tag: str) -> bool:
    """Whether the caller has this version already (RFC 9110: If-None-Match, compared weakly)."""
    known = str(request.headers.get("if-none-match", "")).split(",")
    weak = {tag.strip().removeprefix("W/") for tag in known}
    return "*" in weak or entity_tag.removeprefix("W/") in weak


def page_start(query: PageQuery) -> int | None:
    """The id that a page stays below; None: the first page.

    Raises:
        RequestInvalid: no token of ours, or one of another list.
    """
    told = _told(query.page_token, query.listed())
    before = told.get("before", 0) if told else None
    if before is None or (type(before) is int and 0 < before <= LARGEST_ID):
        return before
    raise RequestInvalid(catalogue.INVALID_PAGE_TOKEN, NOT_OURS)


def page_token_below(query: PageQuery, before: int | None) -> str:
    """What leads to the page below this id; empty: there is none."""
    return "" if before is None else _token({"before": before, "of": query.listed()})


def page_name(query: PageQuery, run_id: int) -> str | None:
    """The name that a page of a run's objects begins after; None: the first page.

    Raises:
        RequestInvalid: no token of ours, or one of another list.
    """
    told = _told(query.page_token, f"{query.listed()} {run_id}")
    if told is None:
        return None
    after = told.get("after")
    if type(after) is str and len(after.encode(errors="replace")) <= LONGEST_NAME:
        return after
    raise RequestInvalid(catalogue.INVALID_PAGE_TOKEN, NOT_OURS)


def page_token_after(query: PageQuery, run_id: int, name: str | None) -> str:
    """What leads to the page after this name; empty: there is none."""
    return "" if name is None else _token({"after": name, "of": f"{query.listed()} {run_id}"})


def _told(token: str, listed: str) -> dict[str, Any] | None:
    """What a page token says that belongs to this list; None: there is no token."""
    if not token:
        return None
    try:
        told = strict_json.read(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, TypeError):
        told = None
    if not isinstance(told, dict) or "of" not in told:
        raise RequestInvalid(catalogue.INVALID_PAGE_TOKEN, NOT_OURS)
    if told["of"] != listed:
        detail = "page_token is of another list: send the same filters, or begin without it"
        raise RequestInvalid(catalogue.INVALID_PAGE_TOKEN, detail)
    return told


def _token(told: dict[str, object]) -> str:
    text = json.dumps(told, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def base_path(context: dict[str, Any]) -> str:
    """What stands before the API's own paths: the stage, unless a domain of one's own hides it.

    Args:
        context: API Gateway's requestContext, with the path as it was called and the resource.
    """
    called, resource = str(context.get("path", "")), str(context.get("resourcePath", ""))
    depth = resource.count("/")
    return "/".join(called.rstrip("/").split("/")[:-depth]) if depth else ""
