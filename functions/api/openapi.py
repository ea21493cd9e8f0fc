"""The OpenAPI 3.1 document, made from the operations and the shapes that the API really uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api import VERSION, catalogue
from api.bodies import Page
from api.links import links
from api.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic.json_schema import JsonSchemaMode

    from api.catalogue import ProblemKind
    from api.operations import Operation

TITLE: Final = "Pipeline runs"
DESCRIPTION: Final = """\
Runs batch pipelines: nothing is lost and nothing runs twice, whatever fails.

Send `Authorization: Bearer <token>`. Creating is safe to repeat with the same `Idempotency-Key`.
Every error is a problem (RFC 9457): `code` is stable and for programs, `detail` is for people,
`request_id` finds the call in the logs. It is the `X-Request-Id` that you send (up to 128 letters,
digits and `.`, `_`, `~`, `-`), or else one of ours; a run's goes with it to the Workbench.
"""
_TAGS: Final = {"pipeline-run": "Runs", "pipeline": "Pipelines"}
_IDS: Final = {"pipeline_id": "The pipeline's id.", "pipeline_run_id": "The run's id."}
_NOT_FOUND: Final = {
    "{pipeline_id}": catalogue.PIPELINE_NOT_FOUND,
    "{pipeline_run_id}": catalogue.PIPELINE_RUN_NOT_FOUND,
}
_OF_CALLERS: Final = (catalogue.UNAUTHORIZED, catalogue.FORBIDDEN, catalogue.TOKENS_UNAVAILABLE)
_OF_BODIES: Final = (
    catalogue.MALFORMED_JSON,
    catalogue.BODY_TOO_LARGE,
    catalogue.UNSUPPORTED_MEDIA_TYPE,
)
_OF_ALL: Final = (catalogue.INVALID_REQUEST, catalogue.INTERNAL_ERROR)
_ANSWERS: Final = {
    200: "As it is now.",
    201: "Made.",
    202: "Accepted; what becomes of it is to be seen by its link.",
    304: "The caller has this version.",
}
_OF_PROBLEMS: Final = {
    401: {"WWW-Authenticate": "How to be let in (RFC 6750)."},
    403: {"WWW-Authenticate": "The scope that it takes (RFC 6750)."},
    429: {"Retry-After": "In how many seconds to try again."},
    503: {"Retry-After": "In how many seconds to try again."},
}
"""The headers that problems always carry."""
_CALLED: Final = "What the request is called in all logs."
_NEXT: Final = '`rel="next"`: the next page, if there is one (RFC 8288).'
_LARGEST_ID: Final = 2**63 - 1


class FaultBody(BaseModel):
    """One fault of a request."""

    pointer: str
    """A JSON Pointer (RFC 6901) to where it is; empty: the body as a whole."""
    message: str


class ProblemBody(BaseModel):
    """Why there is no other answer (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FaultBody] | None = None
    """Of `invalid_request` alone."""
    pipeline_run_id: int | None = None
    """Of `submission_failed` alone: the run that is kept."""


def document(operations: Sequence[Operation], *, base: str) -> dict[str, Any]:
    """The whole document.

    Args:
        operations: what the API offers.
        base: the address that the paths are appended to.
    """
    schemas = _Schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, schemas, operations)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "description": DESCRIPTION},
        "servers": [{"url": base or "/"}],
        "tags": [{"name": name} for name in ("Runs", "Pipelines", "Service")],
        "paths": paths,
        "components": {
            "schemas": schemas.definitions,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def problems_of(operation: Operation) -> list[ProblemKind]:
    """Every problem that an operation may answer with, by its status."""
    kinds = {*operation.problems, *_OF_ALL}
    kinds.update(kind for step, kind in _NOT_FOUND.items() if step in operation.path)
    if operation.scope:
        kinds.update((*_OF_CALLERS, catalogue.DATABASE_UNAVAILABLE))
    if operation.body:
        kinds.update(_OF_BODIES)
    return sorted(kinds, key=lambda kind: (kind.status, kind.code))


class _Schemas:
    """The shapes of all operations under names that are unique."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        shapes: dict[type[BaseModel], JsonSchemaMode] = {ProblemBody: "serialization"}
        for one in operations:
            shapes |= {shape: "serialization" for shape in one.answers.values() if shape}
            if one.body:
                shapes[one.body] = "validation"
        inputs = sorted(shapes.items(), key=lambda item: item[0].__name__)
        self._references, told = models_json_schema(
            inputs, ref_template="#/components/schemas/{model}"
        )
        self.definitions: dict[str, Any] = told["$defs"]

    def of(self, shape: type[BaseModel], mode: JsonSchemaMode) -> dict[str, Any]:
        return dict(self._references[(shape, mode)])


def _operation(
    operation: Operation, schemas: _Schemas, operations: Sequence[Operation]
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [_TAGS.get(operation.path.split("/")[1], "Service")],
        "parameters": [*_path(operation), *_query(operation), *_headers(operation)],
        "responses": {
            **_answers(operation, schemas, operations),
            **_problems(operation, schemas),
        },
    }
    if operation.details:
        described["description"] = operation.details
    if operation.body:
        described["requestBody"] = {
            "required": not operation.body_is_optional,
            "content": {"application/json": {"schema": schemas.of(operation.body, "validation")}},
        }
    if operation.scope:
        described["security"] = [{"bearer": [str(operation.scope)]}]
    return described


def _path(operation: Operation) -> list[dict[str, Any]]:
    names = [step[1:-1] for step in operation.path.split("/") if step.startswith("{")]
    number = {"type": "integer", "minimum": 1, "maximum": _LARGEST_ID}
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": number if name in _IDS else {"type": "string"},
            "description": _IDS.get(name, ""),
        }
        for name in names
    ]


def _query(operation: Operation) -> list[dict[str, Any]]:
    shape = operation.query.model_json_schema(mode="validation")
    kinds = shape.get("$defs", {})
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": _inlined(schema, kinds),
            **({"description": schema["description"]} if "description" in schema else {}),
        }
        for name, schema in shape.get("properties", {}).items()
    ]


def _inlined(schema: dict[str, Any], kinds: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema by itself, without null: what isn't sent isn't there."""
    plain = {name: value for name, value in schema.items() if name not in {"title", "description"}}
    options = [one for one in plain.pop("anyOf", []) if one.get("type") != "null"]
    if options:
        plain = {**options[0], **plain}
    if plain.get("default", "") is None:
        del plain["default"]
    if "$ref" in plain:
        named = kinds[plain.pop("$ref").rpartition("/")[2]]
        plain = {**{k: v for k, v in named.items() if k not in {"title", "description"}}, **plain}
    return plain


def _headers(operation: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "header",
            "required": False,
            "schema": {"type": "string", **({"pattern": sent.pattern} if sent.pattern else {})},
            "description": sent.meaning,
        }
        for name, sent in operation.headers.items()
    ]


def _answers(
    operation: Operation, schemas: _Schemas, operations: Sequence[Operation]
) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, shape in sorted(operation.answers.items()):
        answers[str(status)] = {"description": _ANSWERS[status]}
        if shape:
            schema = schemas.of(shape, "serialization")
            answers[str(status)]["content"] = {"application/json": {"schema": schema}}
            answers[str(status)] |= _present("links", links(operation, shape, operations))
        told = dict(operation.answer_headers)
        if shape and issubclass(shape, Page):
            told["Link"] = _NEXT
        named = _told_headers({"X-Request-Id": _CALLED}, always=True)
        answers[str(status)] |= {"headers": _told_headers(told) | named}
    return answers


def _problem_headers(operation: Operation, status: int) -> dict[str, Any]:
    """A submission that failed has made a run, and says where it is."""
    always = {**_OF_PROBLEMS.get(status, {}), "X-Request-Id": _CALLED}
    headers = _told_headers(always, always=True)
    if catalogue.SUBMISSION_FAILED in operation.problems and status == 500:
        of_run = ("Location", "Idempotent-Replayed")
        headers |= _told_headers({name: operation.answer_headers[name] for name in of_run})
    return headers


def _told_headers(meanings: Mapping[str, str], *, always: bool = False) -> dict[str, Any]:
    return {
        name: {"description": meaning, "schema": {"type": "string"}, "required": always}
        for name, meaning in meanings.items()
    }


def _present(name: str, members: dict[str, Any]) -> dict[str, Any]:
    """The member, unless it would be empty."""
    return {name: members} if members else {}


def _problems(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    by_status: dict[int, list[ProblemKind]] = {}
    for kind in problems_of(operation):
        by_status.setdefault(kind.status, []).append(kind)
    schema = schemas.of(ProblemBody, "serialization")
    return {
        str(status): {
            "description": "\n".join(f"- `{kind.code}`: {kind.remedy}" for kind in kinds),
            "content": {
                MEDIA_TYPE: {
                    "schema": {
                        "allOf": [schema],
                        "properties": {"code": {"enum": [kind.code for kind in kinds]}},
                    }
                }
            },
            "headers": _problem_headers(operation, status),
        }
        for status, kinds in by_status.items()
    }
