"""How a view is declared: its route, who may call it, what it takes and what it answers.

    routes = Routes(__name__)

    @routes.operation(
        "POST", "/pipeline", scope=Scope.PIPELINES_WRITE, body=PipelineRequest,
        answers={201: PipelineBody}, problems=[catalogue.PIPELINE_EXISTS],
    )
    def create_pipeline(call: Call[PipelineRequest]) -> Response:

The declaration is all there is: the token is checked, the request read and the OpenAPI document
made by it.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from chalice import Blueprint, Response

from api import requests
from api.bodies import RequestBody
from api.problems import answers_problems
from runs.callers import Caller, Scope
from runs.errors import PipelineNotFound, RunNotFound, ScopeMissing
from runs.wiring import wired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from chalice.app import Request
    from pydantic import BaseModel

    from api.catalogue import ProblemKind

W = TypeVar("W", bound=RequestBody)

NOBODY: Final = Caller(tenant_id="", subject="", scopes=frozenset())
"""Who calls what needs no token."""
_NOT_FOUND: Final = MappingProxyType(
    {"pipeline_id": PipelineNotFound, "pipeline_run_id": RunNotFound}
)
"""What an id in a path is when nothing can have it."""


class NoInput(RequestBody):
    """A request that says all by its path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[W]):
    """What a view works with.

    Attributes:
        caller: Whose token it was.
        wanted: The body or the query, in its shape.
        request: What else came in.
        base: The address that the API's paths are appended to.
        seconds_left: Of the function's time, once the caller was known.
        request_id: What the request is called in all logs.
    """

    caller: Caller
    wanted: W
    request: Request
    base: str
    seconds_left: float
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SentHeader:
    """A header that a caller may send along."""

    meaning: str
    pattern: str = ""
    """A regular expression for its value; empty: it may be any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A view's declaration.

    Attributes:
        name: The view's, unique among all.
        summary: The first line of its docstring.
        details: The rest of it.
        scope: What a caller needs; None: not even a token.
        query: The shape of the query.
        body: The shape of the body; None: it takes none.
        body_is_optional: An empty body is an object without members.
        answers: The shape of what it answers, by status; None: no JSON.
        problems: What else it may answer, beside what any view may.
        headers: What a caller may send along.
        answer_headers: What its answers may carry, with its meaning.
    """

    name: str
    summary: str
    details: str
    method: str
    path: str
    scope: Scope | None
    query: type[RequestBody]
    body: type[RequestBody] | None
    body_is_optional: bool
    answers: Mapping[int, type[BaseModel] | None]
    problems: tuple[ProblemKind, ...]
    headers: Mapping[str, SentHeader] = field(default_factory=dict)
    answer_headers: Mapping[str, str] = field(default_factory=dict)


OPERATIONS: Final[list[Operation]] = []
"""What the API offers: every declared view of the modules that were loaded."""


class Routes(Blueprint):
    """Chalice's blueprint, with declared views alone."""

    def operation(
        self,
        method: str,
        path: str,
        *,
        scope: Scope | None,
        answers: Mapping[int, type[BaseModel] | None],
        query: type[RequestBody] = NoInput,
        body: type[RequestBody] | None = None,
        body_is_optional: bool = False,
        problems: Iterable[ProblemKind] = (),
        headers: Mapping[str, SentHeader] = MappingProxyType({}),
        answer_headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
        """Decorates a view; see `Operation` for what the arguments mean.

        It is called with a `Call`, and with the ids of its path as numbers, by their names.
        """

        def decorate(view: Callable[..., Response]) -> Callable[..., Response]:
            told = (view.__doc__ or "").partition("\n")
            operation = Operation(
                name=view.__name__,
                summary=told[0].rstrip("."),
                details="\n".join(line.strip() for line in told[2].splitlines()).strip(),
                method=method,
                path=path,
                scope=scope,
                query=query,
                body=body,
                body_is_optional=body_is_optional,
                answers=answers,
                problems=tuple(problems),
                headers=headers,
                answer_headers=answer_headers,
            )
            OPERATIONS.append(operation)
            register = self.route(path, methods=[method], content_types=requests.ANY_MEDIA_TYPE)
            register(self._answering(operation, view))
            return view

        return decorate

    def _answering(
        self, operation: Operation, view: Callable[..., Response]
    ) -> Callable[..., Response]:
        @answers_problems(request_id=self._request_id, base=self._base)
        @functools.wraps(view)
        def answering(**variables: str) -> Response:
            request = self.current_request
            caller = _caller(request, operation.scope) if operation.scope else NOBODY
            call = Call(
                caller=caller,
                wanted=_wanted(request, operation),
                request=request,
                base=self._base(),
                seconds_left=self.lambda_context.get_remaining_time_in_millis() / 1000,
                request_id=self._request_id(),
            )
            steps = {name: _step(name, text) for name, text in variables.items()}
            fence = wired().acting_for(caller.tenant_id) if operation.scope else nullcontext()
            with fence:
                return view(call, **steps)

        return answering

    def _request_id(self) -> str:
        own = str(self.lambda_context.aws_request_id)
        return requests.request_id(self.current_request.headers, own)

    def _base(self) -> str:
        """As it is configured, or by the request, unless a stage's name is hidden from callers."""
        configured = wired().api_settings.api_base_url.rstrip("/")
        return configured or requests.base_path(self.current_request.context)


def _caller(request: Request, scope: Scope) -> Caller:
    """Whom the request's token speaks for.

    Raises:
        TokenRefused: there is none, or not a valid one.
        ScopeMissing: the caller may not do this.
        TokensUnavailable: it can't be checked now.
    """
    caller = wired().tokens.caller_of(requests.bearer_token(request))
    if not caller.may(scope):
        raise ScopeMissing(scope)
    return caller


def _wanted(request: Request, operation: Operation) -> RequestBody:
    query = requests.query(request, operation.query)
    if operation.body is None:
        return query
    if operation.body_is_optional:
        return requests.optional_body(request, operation.body)
    return requests.body(request, operation.body)


def _step(name: str, text: str) -> int | str:
    """What stands in the path for a name: of an id the number."""
    if name not in _NOT_FOUND:
        return text
    number = requests.path_id(text)
    if number is None:
        raise _NOT_FOUND[name](text)
    return number
