"""Every problem that the API can answer with: its code is for programs, and stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One kind of problem.

    Attributes:
        code: Stable, in the body's `code` and at the end of its `type`.
        status: The HTTP status.
        title: The same for every problem of this kind.
        remedy: What it means and what the caller can do, for the documentation.
    """

    code: str
    status: int
    title: str
    remedy: str


MALFORMED_JSON: Final = ProblemKind(
    "malformed_json", 400, "Malformed JSON", "The body is not JSON. `detail` says where it breaks."
)
INVALID_PAGE_TOKEN: Final = ProblemKind(
    "invalid_page_token",
    400,
    "Invalid page token",
    "A page token leads on from the list that gave it: send it with the same filters, unchanged. "
    "Else begin without one.",
)
REQUEST_REFUSED: Final = ProblemKind(
    "request_refused", 400, "Request refused", "The gateway refused the request; see `detail`."
)
UNAUTHORIZED: Final = ProblemKind(
    "unauthorized",
    401,
    "Unauthorized",
    "Send `Authorization: Bearer <token>` with a valid token of the configured issuer; `detail` "
    "says what is wrong with this one. A token that has expired is to be fetched anew.",
)
FORBIDDEN: Final = ProblemKind(
    "forbidden",
    403,
    "Forbidden",
    "The token is valid and lacks the scope that this route needs. `detail` names it.",
)
PIPELINE_NOT_FOUND: Final = ProblemKind(
    "pipeline_not_found", 404, "Pipeline not found", "No pipeline of yours has this id."
)
PIPELINE_RUN_NOT_FOUND: Final = ProblemKind(
    "pipeline_run_not_found", 404, "Pipeline run not found", "No run of yours has this id."
)
NO_REPORT: Final = ProblemKind(
    "no_report",
    404,
    "No report",
    "The run was made without `report_path_prefix`, so it writes none.",
)
NOT_FOUND: Final = ProblemKind("not_found", 404, "Not found", "There is no such route.")
METHOD_NOT_ALLOWED: Final = ProblemKind(
    "method_not_allowed", 405, "Method not allowed", "The header `Allow` names those that are."
)
PIPELINE_EXISTS: Final = ProblemKind(
    "pipeline_exists",
    409,
    "Pipeline exists",
    "Another pipeline of yours has this name. To a `POST` with just its fields it is the answer.",
)
PIPELINE_DISABLED: Final = ProblemKind(
    "pipeline_disabled",
    409,
    "Pipeline disabled",
    "Nobody can start runs of this pipeline until it is enabled again; `detail` says why.",
)
RUN_ALREADY_TERMINAL: Final = ProblemKind(
    "run_already_terminal", 409, "Run already terminal", "The run has ended: nothing to cancel."
)
RUN_NOT_TERMINAL: Final = ProblemKind(
    "run_not_terminal",
    409,
    "Run not terminal",
    "A run is retried once it has ended. Wait for its end, or cancel it first.",
)
STORAGE_REFUSED: Final = ProblemKind(
    "storage_refused",
    409,
    "Storage refused",
    "The storage has no such bucket, or doesn't let this service look into it.",
)
BODY_TOO_LARGE: Final = ProblemKind(
    "body_too_large", 413, "Body too large", "`detail` names the limit."
)
UNSUPPORTED_MEDIA_TYPE: Final = ProblemKind(
    "unsupported_media_type", 415, "Unsupported media type", "Send `application/json`."
)
INVALID_REQUEST: Final = ProblemKind(
    "invalid_request",
    422,
    "Invalid request",
    "The request was understood and can't be accepted. `errors` lists each fault with a JSON "
    "Pointer to where it is.",
)
IDEMPOTENCY_KEY_REUSED: Final = ProblemKind(
    "idempotency_key_reused",
    422,
    "Idempotency key reused",
    "This `Idempotency-Key` came before with another body. A new request needs a new key.",
)
INVALID_IDEMPOTENCY_KEY: Final = ProblemKind(
    "invalid_idempotency_key",
    422,
    "Invalid idempotency key",
    "`Idempotency-Key` must be 1 to 255 visible ASCII characters.",
)
PIPELINE_FULL: Final = ProblemKind(
    "pipeline_full",
    429,
    "Pipeline full",
    "As many runs of this pipeline are active as it allows. Try again after `Retry-After` seconds.",
)
TENANT_FULL: Final = ProblemKind(
    "tenant_full",
    429,
    "Tenant full",
    "As many runs of yours are active as you may have. Try again after `Retry-After` seconds.",
)
TOO_MANY_REQUESTS: Final = ProblemKind(
    "too_many_requests", 429, "Too many requests", "The gateway's limit is reached: slow down."
)
SUBMISSION_FAILED: Final = ProblemKind(
    "submission_failed",
    500,
    "Submission failed",
    "The run is kept, FAILED, under `pipeline_run_id`, and `detail` says why. `/retry` makes a new "
    "attempt.",
)
INTERNAL_ERROR: Final = ProblemKind(
    "internal_error",
    500,
    "Internal error",
    "A bug of ours. The logs have its trace under `request_id`.",
)
DATABASE_UNAVAILABLE: Final = ProblemKind(
    "database_unavailable",
    503,
    "Database unavailable",
    "Try again after `Retry-After` seconds; with the same `Idempotency-Key` that is always safe.",
)
STORAGE_UNAVAILABLE: Final = ProblemKind(
    "storage_unavailable", 503, "Storage unavailable", "Try again after `Retry-After` seconds."
)
TOKENS_UNAVAILABLE: Final = ProblemKind(
    "tokens_unavailable",
    503,
    "Tokens unavailable",
    "The issuer's keys can't be fetched, so no token can be checked. Try again shortly.",
)
NO_ANSWER: Final = ProblemKind(
    "no_answer",
    504,
    "No answer",
    "The answer took too long, and what was asked for may have been done: ask again with the same "
    "`Idempotency-Key`, or look at the list.",
)

KINDS: Final[Mapping[str, ProblemKind]] = MappingProxyType(
    {kind.code: kind for kind in list(vars().values()) if isinstance(kind, ProblemKind)}
)
"""All of them by their code."""
