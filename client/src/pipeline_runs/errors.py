"""What can go wrong, as one tree.

    PipelineRunsError
    ├── NotConfigured            it isn't known where the API is, or the configuration is faulty
    ├── HeaderInvalid            a token, key or request id can't be sent as it is
    ├── ApiUnreachable           no answer: no connection, a time-out, no such name, TLS
    ├── AnswerNotUnderstood      something answered that isn't this API
    ├── ApiProblem               the API answered with a problem (RFC 9457)
    │   ├── RequestInvalid       400, 413, 415, 422: send something else; `faults` says what
    │   ├── TokenRefused         401: the token is missing, wrong or expired
    │   ├── ScopeMissing         403: the token doesn't allow it
    │   ├── NotFound             404
    │   ├── StateConflict        409: not in this state, or the name is taken
    │   ├── LimitReached         429: later; `retry_after_seconds` says when
    │   ├── SubmissionFailed     500 of a submission: the run is kept, FAILED; `run_id` says which
    │   └── ServiceUnavailable   any other 5xx: the service can't at the moment
    ├── PipelineNameUnknown      no pipeline has this name
    ├── WaitTimedOut             the wait is over and the run isn't; `run` is how it stands
    ├── UploadFailed             a local file or the storage refused; nothing was submitted
    └── DownloadFailed           a link or the local folder refused

Every text says what happened and, where it is known, what to do. What another try could mend was
tried again before any of these was raised.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline_runs.models import Fault, PipelineRun, Problem


class PipelineRunsError(Exception):
    """The root: whatever this package raises on purpose."""


class NotConfigured(PipelineRunsError):
    """It isn't known where the API is, or the configuration is faulty."""


class HeaderInvalid(PipelineRunsError):
    """A token, an idempotency key or a request id can't be sent as it is."""


class ApiUnreachable(PipelineRunsError):
    """No answer came."""


class AnswerNotUnderstood(PipelineRunsError):
    """What answered isn't this API, or one of another age."""


class ApiProblem(PipelineRunsError):
    """The API answered with a problem.

    Attributes:
        problem: Its body.
        retry_after_seconds: When to try again; None: the API didn't say.
    """

    def __init__(self, problem: Problem, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds

    @property
    def code(self) -> str:
        """Names the kind of problem, for programs."""
        return self.problem.code

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def request_id(self) -> str:
        """Finds the request in the service's logs."""
        return self.problem.request_id


class RequestInvalid(ApiProblem):
    """The request has to be another one."""

    @property
    def faults(self) -> list[Fault]:
        """Where the body is at fault; empty if it isn't by its shape."""
        return self.problem.errors or []


class TokenRefused(ApiProblem):
    """The token is missing, wrong or expired."""


class ScopeMissing(ApiProblem):
    """The token doesn't allow this."""


class NotFound(ApiProblem):
    """There is no such pipeline, run or report of the caller's."""


class StateConflict(ApiProblem):
    """It doesn't go in this state, or the name is taken."""


class LimitReached(ApiProblem):
    """As much is under way as may be."""


class SubmissionFailed(ApiProblem):
    """The run was recorded and its submission failed: it is kept, FAILED."""

    @property
    def run_id(self) -> int:
        """The run's id."""
        return self.problem.pipeline_run_id or 0


class ServiceUnavailable(ApiProblem):
    """The service can't do it at the moment."""


class PipelineNameUnknown(PipelineRunsError):
    """No pipeline has this name."""


class WaitTimedOut(PipelineRunsError):
    """The wait is over and the run isn't; it goes on.

    Attributes:
        run: How it stands.
    """

    def __init__(self, run: PipelineRun) -> None:
        super().__init__(f"The wait is over and run {run.id} is still {run.status}")
        self.run = run


class UploadFailed(PipelineRunsError):
    """Files didn't get to the storage."""


class DownloadFailed(PipelineRunsError):
    """Files didn't get to the local folder."""


_BY_STATUS: Final[Mapping[int, type[ApiProblem]]] = MappingProxyType(
    {
        401: TokenRefused,
        403: ScopeMissing,
        404: NotFound,
        409: StateConflict,
        429: LimitReached,
    }
)


def error_of(problem: Problem, *, retry_after_seconds: float | None) -> ApiProblem:
    """The exception that a problem is."""
    if problem.code == "submission_failed" and problem.pipeline_run_id:
        kind: type[ApiProblem] = SubmissionFailed
    elif problem.status >= 500:
        kind = ServiceUnavailable
    else:
        kind = _BY_STATUS.get(problem.status, RequestInvalid)
    return kind(problem, retry_after_seconds=retry_after_seconds)
