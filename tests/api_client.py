"""Calls the API as API Gateway does: with proxy events, by the routes that the app has."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from api.app import app
from api_contract import assert_documented
from wired import Invocation

if TYPE_CHECKING:
    from collections.abc import Mapping

STAGE: Final = "Prod"
REQUEST_ID: Final = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
PROBLEM_MEMBERS: Final = {"type", "title", "status", "detail", "code", "request_id"}


@dataclass(frozen=True)
class Answer:
    """What API Gateway gets from the function."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.text)

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """The body of an answer that is this problem, with all that makes it one (RFC 9457)."""
        assert self.headers["Content-Type"] == "application/problem+json", self.text
        told: dict[str, Any] = self.json
        assert (self.status, told["status"], told["code"]) == (status, status, code), told
        assert told.keys() >= PROBLEM_MEMBERS
        assert told["type"] == f"urn:pipeline-runs:problem:{code}"
        assert told["request_id"] == REQUEST_ID
        assert told["title"]
        assert told["detail"]
        return told

    def pointers(self) -> list[str]:
        """Where the body of a refused request is at fault."""
        errors = self.problem(422, "invalid_request")["errors"]
        assert all(error.keys() == {"pointer", "message"} for error in errors)
        return [error["pointer"] for error in errors]


@dataclass(frozen=True)
class ApiClient:
    """The API below a stage, or, with an empty one, at a domain of its own."""

    stage: str = STAGE
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request."""
    bearer: str | None = "default"
    """The token: whom `SpokenTokens` takes the caller for; None: no token."""
    seconds_left: float = 29
    """Of the function's time."""

    def get(self, target: str, **headers: str) -> Answer:
        return self.send("GET", target, headers=_named(headers))

    def post(self, target: str, body: object, **headers: str) -> Answer:
        return self.send("POST", target, text=json.dumps(body), headers=_named(headers))

    def patch(self, target: str, body: object) -> Answer:
        return self.send("PATCH", target, text=json.dumps(body))

    def send(
        self,
        method: str,
        target: str,
        *,
        text: str | None = None,
        headers: Mapping[str, str | None] | None = None,
        base64: bool = False,
    ) -> Answer:
        """Sends anything.

        Args:
            method: any.
            target: path and query.
            text: the body, as API Gateway puts it into the event.
            headers: added to the client's own, and to what a JSON body needs; None: left out.
            base64: whether the text stands for bytes.
        """
        parts = urlsplit(target)
        resource, variables = _route(parts.path)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        query: dict[str, list[str]] = {}
        for name, value in pairs:
            query.setdefault(name, []).append(value)
        shown = {"Authorization": f"Bearer {self.bearer}"} if self.bearer else {}
        wanted = {
            "Content-Type": "application/json",
            **shown,
            **self.headers,
            **(headers or {}),
        }
        sent = {name: value for name, value in wanted.items() if value is not None}
        event = {
            "resource": resource,
            "path": parts.path,
            "httpMethod": method,
            "headers": sent,
            "multiValueHeaders": {name: [value] for name, value in sent.items()},
            "queryStringParameters": dict(pairs) or None,
            "multiValueQueryStringParameters": query or None,
            "pathParameters": variables or None,
            "stageVariables": None,
            "requestContext": {
                "resourcePath": resource,
                "httpMethod": method,
                "path": f"/{self.stage}{parts.path}" if self.stage else parts.path,
                "stage": STAGE,
                "requestId": "of API Gateway",
                "identity": {"sourceIp": "203.0.113.7"},
            },
            "body": text,
            "isBase64Encoded": base64,
        }
        told = app(event, Invocation(REQUEST_ID, seconds_left=self.seconds_left))
        assert not told["multiValueHeaders"]
        assert_documented(method, resource, told["statusCode"], told["headers"], told["body"])
        return Answer(told["statusCode"], told["headers"], told["body"])


def _route(path: str) -> tuple[str, dict[str, str]]:
    """The resource that API Gateway picks, and its variables."""
    steps = path.rstrip("/").split("/")
    for resource in app.routes:
        pattern = resource.split("/")
        if len(pattern) == len(steps):
            named = dict(zip(pattern, steps, strict=True))
            variables = {k[1:-1]: v for k, v in named.items() if k.startswith("{")}
            if all(k == v or k[1:-1] in variables for k, v in named.items()):
                return resource, variables
    raise LookupError(f"API Gateway has no route for {path}")


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
