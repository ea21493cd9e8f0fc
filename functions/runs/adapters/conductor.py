"""Conductor's REST API, as far as it is needed."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx

from runs.adapters.answers import PLAIN, Answer, AnswerInvalid, exchange
from runs.errors import ConductorError, ConductorUnclear, ConductorUnreachable, WorkflowRefused
from runs.model import QUOTE_LENGTH
from runs.ports import CallEnd, WorkflowExecution, WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

CONNECT_TIMEOUT_SECONDS: Final = 2.0

_NOTHING_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)
_WORKFLOW_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")

_ANSWERED: Final = re.compile(
    r'(?P<status>[1-5]\d\d) ?(?P<phrase>[^"]*?) on POST request for "[^"]*": (?P<body>.*)',
    re.DOTALL,
)
_NOT_REACHED: Final = re.compile(
    r'I/O error on POST request for "[^"]*": '
    r"(?P<why>Connect to .* failed: .*|[^ ]+: Name or service not known|.*nodename nor servname.*)",
    re.DOTALL,
)
_GATEWAY_STATUSES: Final = frozenset({502, 504})
"""A gateway's word that it got no answer: the Workbench may have accepted the job."""


class HttpConductor:
    """`ports.Conductor` over HTTP."""

    def __init__(self, url: str) -> None:
        """Connects on first use.

        Args:
            url: Conductor's address, without `/api`.
        """
        self._url = url.rstrip("/")

    def start(
        self,
        *,
        workflow_name: str,
        workflow_version: int | None,
        correlation_id: str,
        workflow_input: Mapping[str, object],
        timeout: timedelta,
    ) -> str:
        """See `ports.Conductor`."""
        body: dict[str, object] = {
            "name": workflow_name,
            "correlationId": correlation_id,
            "input": workflow_input,
        }
        if workflow_version is not None:
            body["version"] = workflow_version
        answer = self._send("POST", "/api/workflow", timeout=timeout, body=body)
        workflow_id = answer.body.decode("ascii", "replace").strip('"')
        if not _WORKFLOW_ID.fullmatch(workflow_id):
            raise ConductorUnclear(f"Conductor answered no workflow id: {answer.quote(80)}")
        return workflow_id

    def execution(self, workflow_id: str, *, timeout: timedelta) -> WorkflowExecution:
        """See `ports.Conductor`."""
        path = f"/api/workflow/{workflow_id}"
        told = self._json("GET", f"{path}/status?includeOutput=true", timeout=timeout)
        if told.get("status") not in {WorkflowStatus.RUNNING, WorkflowStatus.COMPLETED}:
            told = self._json("GET", path, timeout=timeout)  # Only this tells a failure's reason.
        return _execution(told)

    def find(
        self, *, workflow_name: str, correlation_id: str, timeout: timedelta
    ) -> Sequence[WorkflowExecution]:
        """See `ports.Conductor`."""
        path = f"/api/workflow/{quote(workflow_name, safe='')}/correlated/{correlation_id}"
        found = self._json("GET", f"{path}?includeClosed=true&includeTasks=true", timeout=timeout)
        try:
            newest_first = sorted(found, key=lambda told: int(told["createTime"]), reverse=True)
            return [_execution(told) for told in newest_first]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConductorUnclear(f"Conductor's answer can't be read: {error!r}") from error

    def decide(self, workflow_id: str, *, timeout: timedelta) -> None:
        """See `ports.Conductor`."""
        self._send("PUT", f"/api/workflow/decide/{workflow_id}", timeout=timeout)

    def close(self) -> None:
        """Lets go of its connections; it isn't used afterwards."""
        self._client.close()

    def _json(self, method: str, path: str, *, timeout: timedelta) -> Any:
        try:
            return self._send(method, path, timeout=timeout).json()
        except AnswerInvalid as error:
            raise ConductorUnclear(f"Conductor's answer can't be read: {error}") from error

    def _send(self, method: str, path: str, *, timeout: timedelta, body: object = None) -> Answer:
        seconds = max(timeout.total_seconds(), 0.1)
        limits = httpx.Timeout(seconds, connect=min(CONNECT_TIMEOUT_SECONDS, seconds))
        request = self._client.build_request(method, self._url + path, json=body, timeout=limits)
        try:
            answer = exchange(self._client, request, timeout=timeout)
        except _NOTHING_SENT as error:
            raise ConductorUnreachable(f"Conductor can't be reached: {error}") from error
        except (httpx.HTTPError, TimeoutError, AnswerInvalid) as error:
            text = str(error) or type(error).__name__
            raise ConductorUnclear(f"Conductor's answer was lost: {text}") from error
        return _accepted(answer)

    @cached_property
    def _client(self) -> httpx.Client:
        # Without a certificate store where none is needed: building one takes 20 ms.
        return httpx.Client(headers=PLAIN, verify=self._url.startswith("https:"))


def _accepted(answer: Answer) -> Answer:
    if 200 <= answer.status < 300:
        return answer
    told = f"Conductor answered {answer.status}: {answer.quote(QUOTE_LENGTH)}"
    refused: type[ConductorError] = WorkflowRefused if answer.status < 500 else ConductorUnclear
    raise refused(told)


def _execution(told: Any) -> WorkflowExecution:
    """What Conductor tells of a workflow, in our words.

    Raises:
        ConductorUnclear: it tells no workflow.
    """
    try:
        status = WorkflowStatus(told["status"])
        task = (told.get("tasks") or [{}])[0]
        response = (task.get("outputData") or {}).get("response")
        body = response.get("body") if isinstance(response, dict) else None
        output = told.get("output")
        reason = task.get("reasonForIncompletion") or told.get("reasonForIncompletion") or ""
        call_end, why = call_end_of(reason)
        return WorkflowExecution(
            workflow_id=told["workflowId"],
            status=status,
            output=output if isinstance(output, dict) else {},
            submitted_job_id=body.get("workbench_job_id") if isinstance(body, dict) else body,
            call_end=call_end,
            reason=why,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConductorUnclear(f"Conductor's answer can't be read: {error!r}") from error


def call_end_of(reason: str) -> tuple[CallEnd, str]:
    """What a failed HTTP task's reason says of the call, and that in words for people.

    Such a task holds text only; a text that isn't known is unclear.
    """
    if refused := _NOT_REACHED.search(reason):
        return CallEnd.CONNECTION_REFUSED, f"The Workbench can't be reached: {refused['why']}"
    answered = _ANSWERED.search(reason)
    if not answered:
        return CallEnd.UNCLEAR, reason[-QUOTE_LENGTH:]
    status = int(answered["status"])
    body = answered["body"].removeprefix('"').removesuffix('"')[:QUOTE_LENGTH]
    words = f"The Workbench answered {status} {answered['phrase']}: {body}"
    if status in _GATEWAY_STATUSES or status < 400:
        return CallEnd.UNCLEAR, words
    return (CallEnd.CLIENT_ERROR if status < 500 else CallEnd.SERVER_ERROR), words
