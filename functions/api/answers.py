"""What a view answers with, and the decorator that every view wears."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, ParamSpec

from chalice import Response

from api import requests
from api.bodies import PageBody
from api.problems import HEADERS, answers_problems
from runs.wiring import wired

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chalice import Blueprint
    from pydantic import BaseModel

P = ParamSpec("P")


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


def page_answer(page: Sequence[tuple[int, BaseModel]], page_size: int) -> Response:
    """A page of a list that is ordered by id."""
    token = requests.next_page_token([number for number, _ in page], page_size)
    return answered(200, PageBody(items=[item for _, item in page], next_page_token=token))


def problems(
    routes: Blueprint,
) -> Callable[[Callable[P, Response]], Callable[P, Response]]:
    """The decorator of a view of these routes: whatever it raises becomes a problem."""
    return answers_problems(
        request_id=lambda: str(routes.lambda_context.aws_request_id),
        base=lambda: base_of(routes),
    )


def base_of(routes: Blueprint) -> str:
    """The address that the API's paths are appended to, for links that can be followed."""
    configured = wired().api_settings.api_base_url.rstrip("/")
    return configured or requests.base_path(routes.current_request.context)
