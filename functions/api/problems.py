"""Errors of the domain as HTTP problems (RFC 9457): the only file that knows both."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from chalice import Response
from pydantic import ValidationError

from api import catalogue
from runs import errors, logs
from runs.status import PipelineMode
from runs.strict_json import JsonInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic_core import ErrorDetails

    from api.catalogue import ProblemKind

P = ParamSpec("P")

MEDIA_TYPE: Final = "application/problem+json"
REALM: Final = "pipeline-runs"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Strict-Transport-Security": "max-age=31536000",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""On every answer."""
RETRY_AFTER_SECONDS: Final = 2
FULL_RETRY_AFTER_SECONDS: Final = 30
"""No run ends between two checks, as far as we know."""
MOST_ERRORS: Final = 20
"""An answer never grows with what is wrong in a request."""
UNEXPECTED: Final = "An unexpected error; the request id finds it in the logs"


class RequestInvalid(Exception):
    """A request that can't be understood; it never reaches the domain."""

    def __init__(self, kind: ProblemKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error's shape on the wire, but for the request's id."""

    kind: ProblemKind
    detail: str = ""
    """Empty: the kind's title says it all."""
    title: str = ""
    """In place of the kind's."""
    members: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def answer(self, request_id: str) -> Response:
        """The whole answer."""
        title = self.title or self.kind.title
        body = {
            "type": f"urn:pipeline-runs:problem:{self.kind.code}",
            "title": title,
            "status": self.kind.status,
            "detail": self.detail or title,
            "code": self.kind.code,
            "request_id": request_id,
            **self.members,
        }
        headers: dict[str, str | list[str]] = {
            **HEADERS,
            "Content-Type": MEDIA_TYPE,
            **self.headers,
        }
        return Response(json.dumps(body), status_code=self.kind.status, headers=headers)


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
        case (
            errors.DatabaseUnavailable() | errors.StorageUnavailable() | errors.TokensUnavailable()
        ):
            return _away(error)
        case errors.StorageRefused():
            return Problem(kind=catalogue.STORAGE_REFUSED, detail=str(error))
        case JsonInvalid():
            detail = f"The body is no JSON: {error}"
            return Problem(kind=catalogue.MALFORMED_JSON, detail=detail)
        case ValidationError():
            return _invalid(_faults(error))
        case RequestInvalid():
            return Problem(kind=error.kind, detail=str(error))
        case _:
            return Problem(kind=catalogue.INTERNAL_ERROR, detail=UNEXPECTED)


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
        allow = headers["allow"]
        problem = Problem(
            kind=catalogue.METHOD_NOT_ALLOWED,
            detail=f"This route takes {allow}",
            headers={"Allow": allow},
        )
    else:
        problem = Problem(kind=catalogue.INTERNAL_ERROR, detail=UNEXPECTED)
    made: dict[str, Any] = problem.answer(request_id).to_dict()
    return made


def is_of_the_service(answer: Mapping[str, Any]) -> bool:
    """Whether an answer tells of the service's own trouble, not of a job that was refused."""
    if answer["statusCode"] < 500:
        return False
    return bool(json.loads(answer["body"])["code"] != catalogue.SUBMISSION_FAILED.code)


def _log(error: Exception) -> None:
    """Tells of what the caller can't help; a failed submission has told of itself already."""
    match error:
        case errors.RequestRefused() | errors.SubmissionFailed() | errors.StorageRefused():
            pass
        case JsonInvalid() | ValidationError() | RequestInvalid():
            pass
        case errors.DatabaseUnavailable():
            logs.logger().warning("request_without_database", extra={"error": str(error)})
        case errors.StorageUnavailable():
            logs.logger().warning("request_without_storage", extra={"error": str(error)})
        case errors.TokensUnavailable():
            logs.logger().error("request_without_keys_of_issuer", extra={"error": str(error)})
        case _:
            logs.logger().exception("request_failed")


_REFUSALS: Final[Mapping[type[errors.RequestRefused], ProblemKind]] = MappingProxyType(
    {
        errors.PipelineNotFound: catalogue.PIPELINE_NOT_FOUND,
        errors.RunNotFound: catalogue.PIPELINE_RUN_NOT_FOUND,
        errors.PipelineExists: catalogue.PIPELINE_EXISTS,
        errors.PipelineDisabled: catalogue.PIPELINE_DISABLED,
        errors.PipelineFull: catalogue.PIPELINE_FULL,
        errors.TenantFull: catalogue.TENANT_FULL,
        errors.RunAlreadyTerminal: catalogue.RUN_ALREADY_TERMINAL,
        errors.RunNotTerminal: catalogue.RUN_NOT_TERMINAL,
        errors.IdempotencyKeyReused: catalogue.IDEMPOTENCY_KEY_REUSED,
        errors.NoReport: catalogue.NO_REPORT,
        errors.TokenRefused: catalogue.UNAUTHORIZED,
        errors.ScopeMissing: catalogue.FORBIDDEN,
    }
)
_AWAY: Final = MappingProxyType(
    {
        errors.DatabaseUnavailable: (
            catalogue.DATABASE_UNAVAILABLE,
            "The database can't be reached at the moment; try again shortly",
        ),
        errors.StorageUnavailable: (
            catalogue.STORAGE_UNAVAILABLE,
            "The storage can't be reached at the moment; try again shortly",
        ),
        errors.TokensUnavailable: (
            catalogue.TOKENS_UNAVAILABLE,
            "Tokens can't be checked at the moment; try again shortly",
        ),
    }
)
"""Of what is away a caller is not told more."""


def _refused(error: errors.RequestRefused) -> Problem:
    """A 404 says the original design's words and no more."""
    if isinstance(error, errors.FieldForbidden):
        return _invalid([{"pointer": f"/{error.field}", "message": str(error)}])
    kind = _REFUSALS[type(error)]
    detail = "" if kind.status == 404 else str(error)
    return Problem(kind=kind, detail=detail, headers=_refusal_headers(error))


def _refusal_headers(error: errors.RequestRefused) -> dict[str, str]:
    """RFC 6750: how to be let in; and when to try again."""
    match error:
        case errors.TokenRefused():
            return {"WWW-Authenticate": f'Bearer realm="{REALM}"'}
        case errors.ScopeMissing():
            needed = f'error="insufficient_scope", scope="{error.scope}"'
            return {"WWW-Authenticate": f'Bearer realm="{REALM}", {needed}'}
        case errors.PipelineFull() | errors.TenantFull():
            return {"Retry-After": str(FULL_RETRY_AFTER_SECONDS)}
    return {}


def _away(error: Exception) -> Problem:
    kind, detail = next(told for cls, told in _AWAY.items() if isinstance(error, cls))
    return Problem(kind=kind, detail=detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def _submission_failed(error: errors.SubmissionFailed, base: str) -> Problem:
    what = {
        PipelineMode.BATCH: "Batch workflow submission failed",
        PipelineMode.REALTIME: "Realtime workflow failed",
    }[error.mode]
    return Problem(
        kind=catalogue.SUBMISSION_FAILED,
        title=what,
        detail=f"{what}: {error}",
        members={"pipeline_run_id": error.run_id},
        headers={
            "Location": f"{base}/pipeline-run/{error.run_id}",
            **({"Idempotent-Replayed": "true"} if error.replayed else {}),
        },
    )


def _faults(error: ValidationError) -> list[dict[str, str]]:
    return [
        {"pointer": _pointer(detail["loc"]), "message": _message(detail)}
        for detail in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _invalid(faults: Sequence[Mapping[str, str]]) -> Problem:
    first = faults[0]
    return Problem(
        kind=catalogue.INVALID_REQUEST,
        detail=f"{first['pointer'] or 'The body'}: {first['message']}",
        members={"errors": faults[:MOST_ERRORS]},
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
