"""Conductor's REST API, as far as it is needed."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx

from runs.adapters.answers import PLAIN, Answer, AnswerInvalid, exchange, no_cookies
from runs.errors import (
    ConductorError,
    ConductorUnclear,
    ConductorUnreachable,
    SecretUnavailable,
    WorkflowRefused,
)
from runs.model import QUOTE_LENGTH
from runs.ports import CallEnd, WorkflowExecution, WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runs.adapters.secrets import Secret

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
_LOST: Final = re.compile(r'I/O error on POST request for "[^"]*": (?P<why>.*)', re.DOTALL)
_TASK_FAILED: Final = re.compile(
    r"Task \S+ failed with status: \w+ and reason: '(?P<reason>.*)'", re.DOTALL
)
_TOLD_WITHOUT_TASK: Final = frozenset(
    {WorkflowStatus.RUNNING, WorkflowStatus.PAUSED, WorkflowStatus.FAILED}
)
_GATEWAY_STATUSES: Final = frozenset({502, 504})
"""A gateway's word that it got no answer: the Workbench may have accepted the job."""


class HttpConductor:
    """`ports.Conductor` over HTTP."""

    def __init__(self, url: str, *, token: Secret | None = None) -> None:
        """Connects on first use.

        Args:
            url: Conductor's address, without `/api`.
            token: what lets us in; None: everybody may.
        """
        self._url = url.rstrip("/")
        self._token = token

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
        within = _Within(timeout)
        path = f"/api/workflow/{workflow_id}"
        told = self._json("GET", f"{path}/status?includeOutput=true", timeout=within.left)
        execution = _execution(told)
        if execution.status is WorkflowStatus.FAILED:  # Only this tells the reason.
            told = self._json("GET", f"{path}?includeTasks=false", timeout=within.left)
            execution = _execution(told)
        return self._with_its_task(execution, within)

    def find(
        self, *, workflow_name: str, correlation_id: str, timeout: timedelta
    ) -> Sequence[WorkflowExecution]:
        """See `ports.Conductor`."""
        within = _Within(timeout)
        path = f"/api/workflow/{quote(workflow_name, safe='')}/correlated/{correlation_id}"
        # Without tasks: they hold all of the input and of the Workbench's answer once more.
        query = "includeClosed=true&includeTasks=false"
        found = self._json("GET", f"{path}?{query}", timeout=within.left)
        if not isinstance(found, list):
            raise ConductorUnclear("Conductor's answer can't be read: it is no list of workflows")
        try:
            newest_first = sorted(found, key=lambda told: int(told["createTime"]), reverse=True)
        except (KeyError, TypeError, ValueError) as error:
            raise ConductorUnclear(f"Conductor's answer can't be read: {error!r}") from error
        return [self._with_its_task(_execution(told), within) for told in newest_first]

    def decide(self, workflow_id: str, *, timeout: timedelta) -> None:
        """See `ports.Conductor`."""
        self._send("PUT", f"/api/workflow/decide/{workflow_id}", timeout=timeout)

    def terminate(self, workflow_id: str, *, reason: str, timeout: timedelta) -> None:
        """See `ports.Conductor`."""
        path = f"/api/workflow/{workflow_id}?reason={quote(reason, safe='')}"
        self._send("DELETE", path, timeout=timeout)

    def _with_its_task(self, execution: WorkflowExecution, within: _Within) -> WorkflowExecution:
        """With what the Workbench answered, where only the workflow's task can tell that."""
        if execution.status in _TOLD_WITHOUT_TASK or any(
            value is not None for value in execution.output.values()
        ):
            return execution
        path = f"/api/workflow/{execution.workflow_id}"
        try:
            return _execution(self._json("GET", path, timeout=within.left))
        except ConductorError:
            if execution.status is WorkflowStatus.COMPLETED:
                return execution  # There is no job id in it; it is only not quoted.
            raise

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
            answer = exchange(self._client, request, timeout=timeout, token=self._token)
        except SecretUnavailable as error:
            raise ConductorUnreachable(f"Conductor's token can't be had: {error}") from error
        except _NOTHING_SENT as error:
            raise ConductorUnreachable(f"Conductor can't be reached: {error}") from error
        except (httpx.HTTPError, TimeoutError, AnswerInvalid) as error:
            text = str(error) or type(error).__name__
            raise ConductorUnclear(f"Conductor's answer was lost: {text}") from error
        return _accepted(answer)

    @cached_property
    def _client(self) -> httpx.Client:
        # Without a certificate store where none is needed: building one takes 20 ms.
        return httpx.Client(
            headers=PLAIN, cookies=no_cookies(), verify=self._url.startswith("https:")
        )


class _Within:
    """A time that several calls share."""

    def __init__(self, timeout: timedelta) -> None:
        self._end = time.monotonic() + timeout.total_seconds()

    @property
    def left(self) -> timedelta:
        return timedelta(seconds=self._end - time.monotonic())


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
        reason = told.get("reasonForIncompletion") or ""
        if failed := _TASK_FAILED.fullmatch(reason):
            reason = failed["reason"]
        call_end, why = call_end_of(reason)
        return WorkflowExecution(
            workflow_id=told["workflowId"],
            status=status,
            output=output if isinstance(output, dict) else {},
            submitted_job_id=body.get("workbench_job_id") if isinstance(body, dict) else None,
            answer=None if isinstance(body, dict) else body,
            call_end=call_end,
            reason=why,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConductorUnclear(f"Conductor's answer can't be read: {error!r}") from error


def call_end_of(reason: str) -> tuple[CallEnd, str]:
    """What a failed HTTP task's reason says of the call, and that in words for people.

    Such a task holds text only; a text that isn't known is unclear.
    """
    # What stands further on may be the Workbench's own text, and look like anything.
    told = reason.partition("Exception: ")[2] or reason
    if refused := _NOT_REACHED.match(told):
        why = f"The Workbench can't be reached: {refused['why']}"
        return CallEnd.CONNECTION_REFUSED, why[:QUOTE_LENGTH]
    if lost := _LOST.match(told):
        why = f"The Workbench's answer was lost: {lost['why']}"
        return CallEnd.UNCLEAR, why[:QUOTE_LENGTH]
    answered = _ANSWERED.match(told)
    if not answered:
        return CallEnd.UNCLEAR, reason[:QUOTE_LENGTH]
    status = int(answered["status"])
    body = answered["body"].removeprefix('"').removesuffix('"')[:QUOTE_LENGTH]
    words = f"The Workbench answered {status} {answered['phrase']}: {body}"
    if status in _GATEWAY_STATUSES or status < 400:
        return CallEnd.UNCLEAR, words
    return (CallEnd.CLIENT_ERROR if status < 500 else CallEnd.SERVER_ERROR), words
