"""What a view reads of the request that came in."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final, TypeVar

from api.bodies import LARGEST_BODY_BYTES, LARGEST_ID
from api.problems import RequestInvalid
from runs import strict_json

if TYPE_CHECKING:
    from chalice.app import Request

    from api.bodies import RequestBody

B = TypeVar("B", bound="RequestBody")

ANY_MEDIA_TYPE: Final = ["*/*"]
"""For Chalice: the check is ours, so that its answer is a problem."""
LONGEST_KEY: Final = 255


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
        raise RequestInvalid(415, "unsupported_media_type", detail)
    raw = request.raw_body
    if len(raw) > LARGEST_BODY_BYTES:
        detail = f"The body must not be larger than {LARGEST_BODY_BYTES // 1024} KiB"
        raise RequestInvalid(413, "body_too_large", detail)
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
        raise RequestInvalid(422, "invalid_idempotency_key", detail)
    return text


def prefers_async(request: Request) -> bool:
    """Whether the caller does not want to wait (RFC 7240: `Prefer: respond-async`)."""
    wishes = str(request.headers.get("prefer", "")).split(",")
    return any(wish.split(";")[0].strip().lower() == "respond-async" for wish in wishes)


def matches(request: Request, entity_tag: str) -> bool:
    """Whether the caller has this version already (RFC 9110: If-None-Match, compared weakly)."""
    known = str(request.headers.get("if-none-match", "")).split(",")
    weak = {tag.strip().removeprefix("W/") for tag in known}
    return "*" in weak or entity_tag.removeprefix("W/") in weak


def page_start(token: str) -> int | None:
    """The id that a page stays below; None: the first page.

    Raises:
        RequestInvalid: no token of ours.
    """
    if not token:
        return None
    try:
        told = strict_json.read(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        before = told["before"]
    except (ValueError, TypeError, KeyError):
        before = None
    if type(before) is not int or not 0 < before <= LARGEST_ID:
        detail = "page_token must be a next_page_token of an answer"
        raise RequestInvalid(400, "invalid_page_token", detail)
    return before


def next_page_token(ids: list[int], page_size: int) -> str:
    """What leads to the page after one of these ids; empty: there is none."""
    if len(ids) < page_size:
        return ""
    told = json.dumps({"before": ids[-1]}).encode()
    return base64.urlsafe_b64encode(told).decode().rstrip("=")


def base_path(context: dict[str, Any]) -> str:
    """What stands before the API's own paths: the stage, unless a domain of one's own hides it.

    Args:
        context: API Gateway's requestContext, with the path as it was called and the resource.
    """
    called, resource = str(context.get("path", "")), str(context.get("resourcePath", ""))
    depth = resource.count("/")
    return "/".join(called.rstrip("/").split("/")[:-depth]) if depth else ""
