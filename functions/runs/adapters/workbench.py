"""The Workbench's HTTP contract (`infra/workbench/openapi.yaml`), as far as we ask of it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import httpx

from runs.adapters.answers import (
    PLAIN,
    UNAUTHORIZED,
    Answer,
    AnswerInvalid,
    Body,
    bearer,
    is_secure,
    no_cookies,
    retry_after,
)
from runs.adapters.exchanges import client_for, exchange, in_words
from runs.errors import SecretUnavailable, WorkbenchUnavailable
from runs.model import (
    JOB_ID,
    MESSAGE_LENGTH,
    QUOTE_LENGTH,
    UPSTREAM_STATUS_LENGTH,
    Progress,
    clean,
)
from runs.ports import ANSWER_TIME, CancelAnswer, CancelEnd, JobStatus, NoAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta

    from runs.adapters.secrets import Secret
    from runs.ports import JobAnswer

LOG = logging.getLogger(__name__)

SIDE_BY_SIDE: Final = 100
BULK: Final = 100
"""Jobs to a bulk request, by contract."""
CONNECT_TIMEOUT_SECONDS: Final = 3.0
LONGEST_URL: Final = 2_048
LARGEST_COUNT: Final = 2**53
_TOO_BUSY: Final = frozenset({429})
_NOT_LET_IN: Final = frozenset({401, 403})
_NOTHING_TO_CANCEL: Final = frozenset({404, 409})


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a Workbench offers beyond the least."""

    bulk_status: bool = False
    client_reference: bool = False


class HttpWorkbench:
    """`ports.Workbench` over HTTP; its client, loop and knowledge live as long as it does."""

    def __init__(
        self, url: str, *, answer_time: timedelta = ANSWER_TIME, token: Secret | None = None
    ) -> None:
        """Connects on first use.

        Args:
            url: the Workbench's address.
            answer_time: what it has for one answer about jobs, all in all.
            token: what lets us in; None: everybody may.
        """
        self._url = url.rstrip("/")
        self._token = token
        self._answer_seconds = answer_time.total_seconds()
        self._capabilities: Capabilities | None = None

    def ask(self, job_ids: Sequence[str], *, within: timedelta) -> Mapping[str, JobAnswer]:
        """See `ports.Workbench`."""
        return self._runner.run(self._ask_all(job_ids, within.total_seconds()))

    def cancel(self, job_ids: Sequence[str], *, within: timedelta) -> Mapping[str, CancelAnswer]:
        """See `ports.Workbench`."""
        return self._runner.run(self._cancel_all(job_ids, within.total_seconds()))

    def jobs_of(self, idempotency_key: str, *, within: timedelta) -> Sequence[str] | None:
        """See `ports.Workbench`."""
        try:
            capabilities = self._capabilities_now(within)
            if capabilities is None:
                raise WorkbenchUnavailable("The Workbench does not tell what it offers")
            if not capabilities.client_reference:
                return None
            query = {"idempotency_key": idempotency_key}
            answer = self._get("/batch/jobs", query, within=within)
            if answer.status != httpx.codes.OK:
                raise WorkbenchUnavailable(_refusal(answer).reason)
            return [job_id for job_id in _job_ids(answer.json()) if JOB_ID.match(job_id)]
        except SecretUnavailable as error:
            raise WorkbenchUnavailable(f"The Workbench's token can't be had: {error}") from error
        except (httpx.HTTPError, TimeoutError, AnswerInvalid) as error:
            why = _in_words(error)
            raise WorkbenchUnavailable(f"The Workbench gave no valid answer: {why}") from error

    def close(self) -> None:
        """Lets go of its connections; it isn't used afterwards."""
        self._runner.run(self._client.aclose())
        self._runner.close()
        self._sync_client.close()

    # -- status, many at a time -------------------------------------------------------------------

    async def _ask_all(self, job_ids: Sequence[str], within: float) -> dict[str, JobAnswer]:
        answers: dict[str, JobAnswer] = {}
        gate = asyncio.Semaphore(SIDE_BY_SIDE)
        with suppress(TimeoutError):  # Who has no answer yet is left out.
            async with asyncio.timeout(within):
                rest = await self._ask_in_bulk(job_ids, gate, answers)
                await asyncio.gather(*(self._ask_one(one, gate, answers) for one in rest))
        return answers

    async def _cancel_all(self, job_ids: Sequence[str], within: float) -> dict[str, CancelAnswer]:
        answers: dict[str, CancelAnswer] = {}
        gate = asyncio.Semaphore(SIDE_BY_SIDE)
        with suppress(TimeoutError):  # Who has no answer yet is left out.
            async with asyncio.timeout(within):
                await asyncio.gather(*(self._cancel_one(one, gate, answers) for one in job_ids))
        return answers

    async def _cancel_one(
        self, job_id: str, gate: asyncio.Semaphore, answers: dict[str, CancelAnswer]
    ) -> None:
        answers[job_id] = _cancel_answer(
            await self._understood(gate, "POST", f"/batch/cancel/{job_id}")
        )

    async def _ask_in_bulk(
        self, job_ids: Sequence[str], gate: asyncio.Semaphore, answers: dict[str, JobAnswer]
    ) -> Sequence[str]:
        """Asks by the hundred, where that pays and is offered; returns whom it got no word of."""
        if len(job_ids) <= 1 or not (await self._offers(gate)).bulk_status:
            return job_ids
        hundreds = [job_ids[at : at + BULK] for at in range(0, len(job_ids), BULK)]
        rests = await asyncio.gather(*(self._ask_hundred(h, gate, answers) for h in hundreds))
        return [job_id for rest in rests for job_id in rest]

    async def _ask_hundred(
        self, job_ids: Sequence[str], gate: asyncio.Semaphore, answers: dict[str, JobAnswer]
    ) -> Sequence[str]:
        body = {"workbench_job_ids": job_ids}
        try:
            answer = await self._asked(gate, "POST", "/batch/status", body)
        except AnswerInvalid:
            return job_ids  # What is too large for all may do for each.
        if isinstance(answer, NoAnswer):
            answers.update(dict.fromkeys(job_ids, answer))
            return ()
        if answer.status in _TOO_BUSY or answer.status >= httpx.codes.INTERNAL_SERVER_ERROR:
            answers.update(dict.fromkeys(job_ids, _refusal(answer)))
            return ()
        try:
            jobs = {told["workbench_job_id"]: told for told in answer.json()["jobs"]}
        except (AnswerInvalid, KeyError, TypeError):
            return job_ids  # One of them may have spoilt it for all: each alone.
        for job_id in set(job_ids) & jobs.keys():
            answers[job_id] = job_status(job_id, jobs[job_id])
        return [job_id for job_id in job_ids if job_id not in answers]

    async def _ask_one(
        self, job_id: str, gate: asyncio.Semaphore, answers: dict[str, JobAnswer]
    ) -> None:
        answer = await self._understood(gate, "GET", f"/batch/status/{job_id}")
        if isinstance(answer, NoAnswer):
            answers[job_id] = answer
        elif not 200 <= answer.status < 300:
            answers[job_id] = _refusal(answer)
        else:
            try:
                answers[job_id] = job_status(job_id, answer.json())
            except AnswerInvalid as error:
                answers[job_id] = NoAnswer(reason=f"The Workbench's answer can't be used: {error}")

    async def _asked(
        self, gate: asyncio.Semaphore, method: str, path: str, body: object = None
    ) -> Answer | NoAnswer:
        """A whole answer, whatever its status, or why there is none.

        Raises:
            AnswerInvalid: there is one, and it is too large or can't be unpacked.
        """
        seconds = self._answer_seconds
        try:
            async with gate, asyncio.timeout(seconds):
                return await self._send(method, path, body)
        except TimeoutError:
            return NoAnswer(reason=f"The Workbench gave no whole answer within {seconds:g} s")
        except SecretUnavailable as error:
            return NoAnswer(reason=f"The Workbench's token can't be had: {error}")
        except (httpx.HTTPError, OSError) as error:
            return NoAnswer(reason=f"The Workbench can't be reached: {_in_words(error)}")
        except self._answers_that_break_http as error:
            return NoAnswer(reason=f"The Workbench's answer can't be used: {_in_words(error)}")

    async def _understood(
        self, gate: asyncio.Semaphore, method: str, path: str
    ) -> Answer | NoAnswer:
        """The same, where an answer that can't be read is none."""
        try:
            return await self._asked(gate, method, path)
        except AnswerInvalid as error:
            return NoAnswer(reason=f"The Workbench's answer can't be used: {error}")

    async def _send(self, method: str, path: str, body: object) -> Answer:
        """A token that is refused is read anew; if it is another one now, once more with that."""
        if self._token is None:
            return await self._sent(method, path, body, {})
        # Reading it takes a while at times: not in the loop, which others wait in too.
        sent = self._token.known
        if sent is None:
            sent = await asyncio.to_thread(self._token.text)
        answer = await self._sent(method, path, body, {"Authorization": bearer(sent)})
        if answer.status == UNAUTHORIZED and await asyncio.to_thread(self._token.renew, sent):
            newer = {"Authorization": bearer(self._token.text())}
            answer = await self._sent(method, path, body, newer)
        return answer

    async def _sent(
        self, method: str, path: str, body: object, headers: Mapping[str, str]
    ) -> Answer:
        url = self._url + path
        async with self._client.stream(method, url, json=body, headers=headers) as response:
            collected = Body(response.headers)
            try:
                async for chunk in response.aiter_raw():
                    collected.add(chunk)
                told = collected.whole()
            except AnswerInvalid as error:
                if response.is_success:
                    raise
                told = str(error).encode()  # A refusal is one, whatever comes with it.
        return Answer(response.status_code, response.headers, told)

    async def _offers(self, gate: asyncio.Semaphore) -> Capabilities:
        if self._capabilities is None:
            answer = await self._understood(gate, "GET", "/batch/capabilities")
            if isinstance(answer, Answer):
                self._capabilities = _capabilities(answer)
        return self._capabilities or Capabilities()

    # -- one question at a time -------------------------------------------------------------------

    def _capabilities_now(self, within: timedelta) -> Capabilities | None:
        """None: it doesn't tell, now."""
        if self._capabilities is None:
            self._capabilities = _capabilities(self._get("/batch/capabilities", within=within))
        return self._capabilities

    def _get(
        self, path: str, query: Mapping[str, str] | None = None, *, within: timedelta
    ) -> Answer:
        request = self._sync_client.build_request("GET", self._url + path, params=query)
        return exchange(self._sync_client, request, timeout=within, token=self._token)

    # -- what is kept warm ------------------------------------------------------------------------

    @cached_property
    def _runner(self) -> asyncio.Runner:
        return asyncio.Runner()  # One loop: the client's connections belong to it.

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        from httpx_aiohttp import AiohttpTransport  # noqa: PLC0415  # 320 ms: only who asks pays.

        limits = httpx.Limits(max_connections=SIDE_BY_SIDE)
        transport = AiohttpTransport(limits=limits, verify=is_secure(self._url))
        timeout = httpx.Timeout(self._answer_seconds, connect=CONNECT_TIMEOUT_SECONDS)
        return httpx.AsyncClient(
            transport=transport, headers=PLAIN, cookies=no_cookies(), timeout=timeout
        )

    @cached_property
    def _answers_that_break_http(self) -> tuple[type[Exception], ...]:
        """What of aiohttp's own errors passes its transport; it is loaded by then."""
        from aiohttp import ClientError  # noqa: PLC0415  # with the client
        from aiohttp.http_exceptions import HttpProcessingError  # noqa: PLC0415  # with the client

        return ClientError, HttpProcessingError

    @cached_property
    def _sync_client(self) -> httpx.Client:
        return client_for(self._url, connect_seconds=CONNECT_TIMEOUT_SECONDS)


def job_status(job_id: str, told: Any) -> JobAnswer:
    """What a Workbench tells of a job, if it is that job and makes sense."""
    if not isinstance(told, dict):
        return NoAnswer(reason="The Workbench's answer is no JSON object")
    named = told.get("workbench_job_id", job_id)
    if named != job_id:
        about = clean(repr(named), QUOTE_LENGTH)
        return NoAnswer(reason=f"The Workbench's answer is about another job, {about}")
    status = told.get("status")
    if not isinstance(status, str):
        return NoAnswer(reason=f"The Workbench's answer has no status but {type(status).__name__}")
    message = told.get("error_message")
    return JobStatus(
        upstream_status=clean(status, UPSTREAM_STATUS_LENGTH),
        error_message=clean(message, MESSAGE_LENGTH) if isinstance(message, str) else None,
        progress=_progress(told.get("progress")),
        logs_url=_url(told.get("logs_url")),
    )


def _in_words(error: Exception) -> str:
    """For whoever made the run; the log is told the rest."""
    text = f"{type(error).__name__}: {error}"
    LOG.warning("workbench_call_failed", extra={"error": clean(text, QUOTE_LENGTH)})
    return in_words(error)


def _cancel_answer(answer: Answer | NoAnswer) -> CancelAnswer:
    if isinstance(answer, NoAnswer):
        return CancelAnswer(end=CancelEnd.UNCLEAR, reason=answer.reason)
    if 200 <= answer.status < 300 and _is_no_page(answer):
        return CancelAnswer(end=CancelEnd.ACCEPTED)
    nothing = answer.status in _NOTHING_TO_CANCEL
    end = CancelEnd.NOTHING_TO_CANCEL if nothing else CancelEnd.UNCLEAR
    return CancelAnswer(end=end, reason=_refusal(answer).reason)


def _is_no_page(answer: Answer) -> bool:
    """Whether a Workbench may have sent it: nothing, or a JSON object. A proxy sends pages."""
    try:
        return not answer.body.strip() or isinstance(answer.json(), dict)
    except AnswerInvalid:
        return False


def _refusal(answer: Answer) -> NoAnswer:
    told = clean(answer.quote(QUOTE_LENGTH), QUOTE_LENGTH)
    return NoAnswer(
        reason=f"The Workbench answered {answer.status}: {told}",
        unknown_job=answer.status == httpx.codes.NOT_FOUND,
        retry_after=retry_after(answer.headers),
    )


def _progress(told: Any) -> Progress | None:
    if not isinstance(told, dict):
        return None
    done, total = told.get("done"), told.get("total")
    if type(done) is not int or type(total) is not int or not 0 <= done <= total <= LARGEST_COUNT:
        return None
    return Progress(done, total)


def _url(told: Any) -> str | None:
    if not isinstance(told, str) or len(told) > LONGEST_URL:
        return None
    return clean(told, LONGEST_URL) if told.startswith(("https://", "http://")) else None


def _capabilities(answer: Answer) -> Capabilities | None:
    """What is offered; None: not known yet, and to be asked again.

    A Workbench that doesn't know the question offers nothing.
    """
    unknown = _TOO_BUSY | _NOT_LET_IN
    if answer.status in unknown or answer.status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return None
    try:
        told = answer.json()
    except AnswerInvalid:
        return Capabilities()
    if answer.status != httpx.codes.OK or not isinstance(told, dict):
        return Capabilities()
    return Capabilities(
        bulk_status=told.get("bulk_status") is True,
        client_reference=told.get("client_reference") is True,
    )


def _job_ids(told: Any) -> Iterable[str]:
    jobs = told.get("jobs") if isinstance(told, dict) else None
    for job in jobs if isinstance(jobs, list) else ():
        if isinstance(job, dict) and isinstance(job.get("workbench_job_id"), str):
            yield job["workbench_job_id"]
