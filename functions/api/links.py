"""How one call leads to the next, as the OpenAPI document tells it (its link objects)."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from api.bodies import Page, PipelineBody, PipelinePage, PipelineRunBody, PipelineRunPage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import BaseModel

    from api.operations import Operation

_TELLS: Final[Mapping[type[BaseModel], Mapping[str, str]]] = MappingProxyType(
    {
        PipelineBody: {"pipeline_id": "/id"},
        PipelinePage: {"pipeline_id": "/items/0/id"},
        PipelineRunBody: {"pipeline_run_id": "/id", "pipeline_id": "/pipeline_id"},
        PipelineRunPage: {"pipeline_run_id": "/items/0/id"},
    }
)
"""Where an answer of a shape holds the ids that paths take."""


def links(
    operation: Operation, shape: type[BaseModel], operations: Iterable[Operation]
) -> dict[str, Any]:
    """What can be called with an answer, by the names of the operations.

    Args:
        operation: the one that answers.
        shape: the answer's.
        operations: all that there are.
    """
    told = _TELLS.get(shape, {})
    found = {
        other.name: {
            "operationId": other.name,
            "parameters": {f"path.{name}": f"$response.body#{told[name]}"},
        }
        for other in operations
        for name in told
        if f"{{{name}}}" in other.path and other is not operation
    }
    if issubclass(shape, Page):
        found["next_page"] = _next_page(operation)
    return found


def _next_page(operation: Operation) -> dict[str, Any]:
    """The same list once more, asked with the same filters."""
    steps = [step[1:-1] for step in operation.path.split("/") if step.startswith("{")]
    filters = operation.query.model_fields.keys() - {"page_size", "page_token"}
    return {
        "operationId": operation.name,
        "parameters": {
            **{f"path.{name}": f"$request.path.{name}" for name in steps},
            **{f"query.{name}": f"$request.query.{name}" for name in sorted(filters)},
            "query.page_token": "$response.body#/next_page_token",
        },
    }
