"""Errors of the domain as HTTP problems (RFC 9457): the only file that knows both."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from chalice import Response
from pydantic import ValidationError

from runs import errors, logs
from runs.status import PipelineMode
from runs.strict_json import JsonInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic_core import ErrorDetails

P = ParamSpec("P")

MEDIA_TYPE: Final = "application/problem+json"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Strict-Transport-Security": "max-age=31536000",
}
"""On every answer."""
RETRY_AFTER_SECONDS: Final = 2
MOST_ERRORS: Final = 20
"""An answer never grows with what is wrong in a request."""
UNEXPECTED: Final = "An unexpected error; the request id finds it in the logs"


class RequestInvalid(Exception):
    """A request that can't be understood; it never reaches the domain."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error's shape on the wire, but for the request's id."""

    status: int
    code: str
    title: str
    detail: str
    members: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def answer(self, request_id: str) -> Response:
        """The whole answer."""
        body = {
            "type": f"urn:pipeline-runs:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
            **self.members,
        }
        headers: dict[str, str | list[str]] = {
            **HEADERS,
            "Content-Type": MEDIA_TYPE,
            **self.headers,
        }
        return Response(json.dumps(body), status_code=self.status, headers=headers)


def problem_of(error: Exception, *, base: Callable[[], str]) -> Problem:
    """The problem that an error is to a caller.

    Args:
        error: whatever a view raised.
        base: gives the address that the API's paths are appended to.
    """
    match error:
        case errors.RequestRefused():
            return _refused(error)
        case errors.SubmissionFailed():
            return _submission_failed(error, base())
        case errors.DatabaseUnavailable():
            return Problem(
                status=503,
                code="database_unavailable",
                title="Database unavailable",
                detail="The database can't be reached at the moment; try again shortly",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        case JsonInvalid():
            return _plain(400, "malformed_json", "Malformed JSON", f"The body is no JSON: {error}")
        case ValidationError():
            return _invalid(error)
        case RequestInvalid():
            title = error.code.replace("_", " ").capitalize()
            return _plain(error.status, error.code, title, error.detail)
        case _:
            return _plain(500, "internal_error", "Internal error", UNEXPECTED)


def answers_problems(
    request_id: Callable[[], str], base: Callable[[], str]
) -> Callable[[Callable[P, Response]], Callable[P, Response]]:
    """Decorates a view: whatever it raises becomes a problem.

    Chalice's middleware can't do it: it doesn't see what a view raises.
    """

    def decorate(view: Callable[P, Response]) -> Callable[P, Response]:
        @functools.wraps(view)
        def answering(*args: P.args, **kwargs: P.kwargs) -> Response:
            try:
                return view(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  # the edge: nothing may pass
                _log(error)
                return problem_of(error, base=base).answer(request_id())

        answering.answers_problems = True  # type: ignore[attr-defined]  # for the structural test
        return answering

    return decorate


def foreign_problem(answer: dict[str, Any], request_id: str) -> dict[str, Any]:
    """The framework's own errors (no such method, its own failure), made problems too."""
    status = answer["statusCode"]
    headers = {name.lower(): value for name, value in answer["headers"].items()}
    if status < 400 or headers.get("content-type", "").startswith(MEDIA_TYPE):
        return answer
    if status == 405:
        detail = f"This route takes {headers['allow']}"
        allow = {"Allow": headers["allow"]}
        problem = replace(
            _plain(status, "method_not_allowed", "Method not allowed", detail), headers=allow
        )
    else:
        problem = _plain(status, "internal_error", "Internal error", UNEXPECTED)
    made: dict[str, Any] = problem.answer(request_id).to_dict()
    return made


def _log(error: Exception) -> None:
    """Tells of what the caller can't help; a failed submission has told of itself already."""
    match error:
        case errors.RequestRefused() | errors.SubmissionFailed():
            pass
        case JsonInvalid() | ValidationError() | RequestInvalid():
            pass
        case errors.DatabaseUnavailable():
            logs.logger().warning("request_without_database", extra={"error": str(error)})
        case _:
            logs.logger().exception("request_failed")


_REFUSALS: Final[Mapping[type[errors.RequestRefused], tuple[int, str, str]]] = MappingProxyType(
    {
        errors.PipelineNotFound: (404, "pipeline_not_found", "Pipeline not found"),
        errors.RunNotFound: (404, "pipeline_run_not_found", "Pipeline run not found"),
        errors.PipelineExists: (409, "pipeline_exists", "Pipeline exists"),
        errors.RunAlreadyTerminal: (409, "run_already_terminal", "Run already terminal"),
        errors.RunNotTerminal: (409, "run_not_terminal", "Run not terminal"),
        errors.IdempotencyKeyReused: (422, "idempotency_key_reused", "Idempotency key reused"),
    }
)


def _refused(error: errors.RequestRefused) -> Problem:
    """A 404 says the original design's words and no more."""
    status, code, title = _REFUSALS[type(error)]
    return _plain(status, code, title, "" if status == 404 else str(error))


def _plain(status: int, code: str, title: str, detail: str = "") -> Problem:
    return Problem(status=status, code=code, title=title, detail=detail or title)


def _submission_failed(error: errors.SubmissionFailed, base: str) -> Problem:
    what = {
        PipelineMode.BATCH: "Batch workflow submission failed",
        PipelineMode.REALTIME: "Realtime workflow failed",
    }[error.mode]
    return Problem(
        status=500,
        code="submission_failed",
        title=what,
        detail=f"{what}: {error}",
        members={"pipeline_run_id": error.run_id},
        headers={
            "Location": f"{base}/pipeline-run/{error.run_id}",
            **({"Idempotent-Replayed": "true"} if error.replayed else {}),
        },
    )


def _invalid(error: ValidationError) -> Problem:
    listed = [
        {"pointer": _pointer(detail["loc"]), "message": _message(detail)}
        for detail in error.errors(include_url=False, include_context=False, include_input=False)
    ][:MOST_ERRORS]
    first = listed[0]
    return Problem(
        status=422,
        code="invalid_request",
        title="Invalid request",
        detail=f"{first['pointer'] or 'The body'}: {first['message']}",
        members={"errors": listed},
    )


def _pointer(location: tuple[int | str, ...]) -> str:
    """A JSON Pointer (RFC 6901) to where in the body it is; of a member's name, to the member."""
    steps = location[:-1] if location[-1:] == ("[key]",) else location
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def _message(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return "This field is not known here"
        case "model_type":
            return "Input should be a JSON object"
    return detail["msg"].removeprefix("Value error, ")
