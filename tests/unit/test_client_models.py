"""What the client takes for the API's bodies is what the API's bodies are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic.json_schema import models_json_schema

from api import bodies, openapi
from pipeline_runs import models
from runs import model, status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaMode

REQUESTS: list[tuple[type[BaseModel], type[BaseModel]]] = [
    (models.NewPipeline, bodies.PipelineRequest),
    (models.PipelineChanges, bodies.PipelineChanges),
    (models.NewRun, bodies.PipelineRunRequest),
    (models.Cancellation, bodies.CancelRequest),
]
ANSWERS: list[tuple[type[BaseModel], type[BaseModel]]] = [
    (models.Pipeline, bodies.PipelineBody),
    (models.PipelinePage, bodies.PipelinePage),
    (models.PipelineRun, bodies.PipelineRunBody),
    (models.PipelineRunPage, bodies.PipelineRunPage),
    (models.RunError, bodies.ErrorBody),
    (models.Progress, bodies.ProgressBody),
    (models.Observation, bodies.ObservationBody),
    (models.RunEvent, bodies.RunEventBody),
    (models.RunEvents, bodies.RunEventsBody),
    (models.StoredObject, bodies.StoredObjectBody),
    (models.StoredObjectPage, bodies.StoredObjectPage),
    (models.ServiceInfo, bodies.ServiceInfoBody),
    (models.Health, bodies.HealthBody),
    (models.Problem, openapi.ProblemBody),
]


def types_of(shape: type[BaseModel], mode: JsonSchemaMode) -> Any:
    """What a shape's JSON can be, by types alone: without words, limits, patterns and names."""
    _, told = models_json_schema([(shape, mode)])
    return _types(told["$defs"][shape.__name__], told["$defs"])


def _types(schema: Mapping[str, Any], named: Mapping[str, Any]) -> Any:
    if "$ref" in schema:
        return _types(named[schema["$ref"].rpartition("/")[2]], named)
    told: dict[str, Any] = {}
    for name, value in schema.items():
        match name:
            case "properties":
                told[name] = {field: _types(one, named) for field, one in value.items()}
            case "anyOf":
                told[name] = sorted((_types(one, named) for one in value), key=repr)
            case "items":
                told[name] = _types(value, named)
            case "additionalProperties" if isinstance(value, dict):
                told["values"] = _types(value, named)
            case "patternProperties":
                (told["values"],) = (_types(one, named) for one in value.values())
            case "required" | "enum":
                told[name] = sorted(value)
            case "type" | "const" | "format":
                told[name] = value
    return told


@pytest.mark.parametrize(("ours", "theirs"), REQUESTS, ids=lambda shape: shape.__name__)
def test_a_request_has_the_fields_and_types_of_the_api(
    ours: type[BaseModel], theirs: type[BaseModel]
) -> None:
    assert types_of(ours, "validation") == types_of(theirs, "validation")


@pytest.mark.parametrize(("ours", "theirs"), ANSWERS, ids=lambda shape: shape.__name__)
def test_an_answer_has_the_fields_and_types_of_the_api(
    ours: type[BaseModel], theirs: type[BaseModel]
) -> None:
    assert without_required(types_of(ours, "validation")) == without_required(
        types_of(theirs, "serialization")
    )


def without_required(told: Any) -> Any:
    """The API sends all fields of its answers, though its schema requires only some."""
    match told:
        case dict():
            return {n: without_required(one) for n, one in told.items() if n != "required"}
        case list():
            return [without_required(one) for one in told]
        case _:
            return told


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (models.Status, status.PipelineRunStatus),
        (models.Mode, status.PipelineMode),
        (models.ErrorCategory, model.ErrorCategory),
        (models.CancelCause, model.CancelCause),
    ],
    ids=lambda kind: kind.__name__,
)
def test_the_words_are_the_same(ours: Any, theirs: Any) -> None:
    assert {str(one) for one in ours} == {str(one) for one in theirs}


def test_the_same_statuses_are_ends() -> None:
    assert {str(one) for one in models.TERMINAL} == {str(one) for one in status.TERMINAL}


def test_an_answer_of_a_newer_service_is_understood_and_kept_whole() -> None:
    told = {"done": 1, "total": 2, "unit": "objects", "rate": {"per_second": 3}}
    progress = models.Progress.model_validate(told)
    assert (progress.done, progress.total) == (1, 2)
    assert progress.model_dump(mode="json") == told


def test_what_is_not_given_is_not_sent() -> None:
    assert models.PipelineChanges(enabled=False).sent() == {"enabled": False}
    assert models.PipelineChanges(timeout_seconds=None).sent() == {"timeout_seconds": None}
