"""Holds every answer that a test gets to the OpenAPI document."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import jsonschema

from api import app  # noqa: F401  # it loads all operations
from api.openapi import document
from api.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping


@cache
def the_document() -> dict[str, Any]:
    """As the API gives it."""
    return document(OPERATIONS, base="")


def assert_documented(
    method: str, resource: str, status: int, headers: Mapping[str, str], text: str
) -> None:
    """The status is one of the operation's, and the body of its shape.

    What the framework answers by itself, to a method that a route doesn't have, is left out.
    """
    described = the_document()["paths"].get(resource, {}).get(method.lower())
    if described is None:
        return
    answer = described["responses"].get(str(status))
    assert answer, f"{method} {resource} answered {status}, which isn't documented: {text[:500]}"
    media_type = headers.get("Content-Type", "").partition(";")[0]
    shapes = answer.get("content", {})
    if not shapes:
        assert status == 304 or resource.startswith(("/docs", "/openapi", "/dashboard"))
        return
    assert media_type in shapes, f"{method} {resource} answered {media_type}"
    _validator(json.dumps(shapes[media_type]["schema"])).validate(json.loads(text))


@cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    whole = {**json.loads(schema), "components": the_document()["components"]}
    return jsonschema.Draft202012Validator(
        whole, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
