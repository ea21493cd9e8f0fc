"""Conductor's REST API, as far as it is needed."""

from __future__ import annotations

import logging
import re
import time
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx

from runs.adapters.answers import Answer, AnswerInvalid
from runs.adapters.exchanges import NotSent, client_for, exchange, in_words
from runs.errors import (
    ConductorError,
    ConductorUnclear,
    ConductorUnreachable,
    SecretUnavailable,
    WorkflowRefused,
)
from runs.model import QUOTE_LENGTH, clean
from runs.ports import CallEnd, WorkflowExecution, WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runs.adapters.secrets import Secret

LOG = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS: Final = 2.0

_NOTHING_SENT: Final = (
    NotSent,
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)
_NOT_LET_IN: Final = frozenset({401, 403, 407, 429})
"""A gate before Conductor says so, or it is too busy to look: nothing was started, and a later
try may be let in. 408 isn't among them: some gates say it of an answer that they waited for."""
_WORKFLOW_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")

_ANSWERED: Final = re.compile(
    r'(?P<status>[1-5]\d\d) ?(?P<phrase>[^"]*?) on POST request for "[^"]*": (?P<body>.*)',
    re.DOTALL,
)
_NOT_REACHED: Final = re.compile(
    r'I/O error on POST request for "[^"]*": '
    r"((?P<connection>Connect to .* failed: .*)"
    r"|[^ ]+: Name or service not known|.*nodename nor servname.*)",
    re.DOTALL,
)
_LOST: Final = re.compile(r'I/O error on POST request for "[^"]*": (?P<why>.*)', re.DOTALL)
_TASK_FAILED: Final = re.compile(
    r"Task \S+ failed with status: \w+ and reason: '(?P<reason>.*)'", re.DOTALL
)
_TOLD_WITHOUT_TASK: Final = frozenset(
    {WorkflowStatus.RUNNING, WorkflowStatus.PAUSED, WorkflowStatus.FAILED}
)
_LOSSES: Final = frozenset({"Read timed out", "Connection reset", "Unexpected end of file"})
"""What is told as it stands; other words of the kind may name hosts."""
_ADDRESS: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://[^\s\"'<>)\]]+"
    r"|\b\d{1,3}(\.\d{1,3}){3}\b(:\d+)?"
    r"|\b[a-z][\w.-]*:\d{2,5}\b"
    r"|\b[a-z0-9][\w.-]*\.(internal|local|amazonaws\.com)\b",
    re.IGNORECASE,
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
        request = self._client.build_request(method, self._url + path, json=body)
        try:
            answer = exchange(self._client, request, timeout=timeout, token=self._token)
        except SecretUnavailable as error:
            raise ConductorUnreachable(f"Conductor's token can't be had: {error}") from error
        except _NOTHING_SENT as error:
            _log("conductor_unreachable", error)
            raise ConductorUnreachable(f"Conductor can't be reached: {in_words(error)}") from error
        except (httpx.HTTPError, AnswerInvalid) as error:
            _log("conductor_answer_lost", error)
            raise ConductorUnclear(f"Conductor's answer was lost: {in_words(error)}") from error
        return _accepted(answer)

    @cached_property
    def _client(self) -> httpx.Client:
        return client_for(self._url, connect_seconds=CONNECT_TIMEOUT_SECONDS)


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
    told = f"Conductor answered {answer.status}: {_words_of(answer)}"
    if answer.status in _NOT_LET_IN:
        raise ConductorUnreachable(told)
    if answer.status >= 500 or answer.status == httpx.codes.REQUEST_TIMEOUT:
        raise ConductorUnclear(told)
    raise WorkflowRefused(told)


def _words_of(answer: Answer) -> str:
    """What a refusal says, without addresses: Conductor's own names its host beside its message."""
    try:
        told = answer.json()
    except AnswerInvalid:
        told = None
    message = told.get("message") if isinstance(told, dict) else None
    text = message if isinstance(message, str) else answer.quote(QUOTE_LENGTH)
    return _without_addresses(text[:QUOTE_LENGTH])


def _without_addresses(text: str) -> str:
    return _ADDRESS.sub("…", text)


def _log(event: str, error: Exception) -> None:
    """The log is told what callers are not."""
    text = f"{type(error).__name__}: {error}"
    LOG.warning(event, extra={"error": clean(text, QUOTE_LENGTH)})


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
        if reason:
            about = {"workflow_id": told["workflowId"], "reason": clean(reason, QUOTE_LENGTH)}
            LOG.info("workflow_reason", extra=about)
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

    They name no address: whoever made the run may read them, and what is internal isn't theirs.
    Such a task holds text only; a text that isn't known is unclear.
    """
    # What stands further on may be the Workbench's own text, and look like anything.
    told = reason.partition("Exception: ")[2] or reason
    if refused := _NOT_REACHED.match(told):
        why = "no connection" if refused["connection"] else "nobody knows its name"
        return CallEnd.CONNECTION_REFUSED, f"The Workbench can't be reached: {why}"
    if lost := _LOST.match(told):
        why = lost["why"] if lost["why"] in _LOSSES else "the connection failed"
        return CallEnd.UNCLEAR, f"The Workbench's answer was lost: {why}"
    answered = _ANSWERED.match(told)
    if not answered:
        return CallEnd.UNCLEAR, _without_addresses(reason[:QUOTE_LENGTH])
    status = int(answered["status"])
    body = answered["body"].removeprefix('"').removesuffix('"')[:QUOTE_LENGTH]
    words = f"The Workbench answered {status} {answered['phrase']}: {body}"
    if status in _GATEWAY_STATUSES or status < 400:
        return CallEnd.UNCLEAR, words
    return (CallEnd.CLIENT_ERROR if status < 500 else CallEnd.SERVER_ERROR), words
