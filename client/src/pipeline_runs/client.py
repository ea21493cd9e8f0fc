"""The client: a method for each of the API's routes, and what one does with several of them.

    with Client("https://api.example.com/prod", token) as client:
        run = client.create_run(
            pipeline_id=1, input_path_prefix="in/today", output_path_prefix="out/today"
        )
        run = client.wait(run.id, timeout_seconds=3600)

What it raises is in `errors`. Calls are repeated after lost connections, 429, 502, 503 and 504,
within `Patience.budget_seconds` and with the pauses that the API asks for. That is safe: a creation
carries one idempotency key over all its tries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self, TypeVar

from pipeline_runs.calls import Calls, Patience, Request, Surroundings
from pipeline_runs.errors import PipelineNameUnknown, WaitTimedOut
from pipeline_runs.models import (
    AnswerBody,
    Cancellation,
    Health,
    NewPipeline,
    NewRun,
    Page,
    Pipeline,
    PipelineChanges,
    PipelinePage,
    PipelineRun,
    PipelineRunPage,
    RunEvent,
    RunEvents,
    ServiceInfo,
    StoredObject,
    StoredObjectPage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from types import TracebackType

    import httpx
    from pydantic import JsonValue

    from pipeline_runs.calls import RequestId, Token
    from pipeline_runs.models import Mode, Status

A = TypeVar("A", bound=AnswerBody)
P = TypeVar("P", bound=Page)

LONGEST_LOOK_SECONDS: Final = 20
"""What the API waits at most in one long poll."""
SHORTEST_LOOK_SECONDS: Final = 2.0
"""How long a look takes that the API answered at once, for it has waiters enough."""


class Client:
    """A connection to the API; safe to share between threads.

    Args:
        api_url: what the API's paths are appended to, with the stage.
        token: a bearer token, or what gives one (called before every request); None: only
            `health` can be called.
        patience: how long calls are tried.
        request_id: sent as X-Request-Id, to find the calls in the service's logs.
        surroundings: clock, pauses and chance.
        transport: in place of the network, for tests.

    Raises:
        NotConfigured: the address is none.
    """

    def __init__(
        self,
        api_url: str,
        token: Token | None = None,
        *,
        patience: Patience | None = None,
        request_id: RequestId | None = None,
        surroundings: Surroundings | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._around = surroundings or Surroundings()
        self._calls = Calls(
            api_url,
            token=token,
            patience=patience or Patience(),
            surroundings=self._around,
            request_id=request_id,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connections back."""
        self._calls.close()

    @property
    def api_url(self) -> str:
        """What the API's paths are appended to."""
        return self._calls.api_url

    # -- pipelines --------------------------------------------------------------------------------

    def create_pipeline(
        self,
        *,
        name: str,
        mode: Mode,
        workflow_name: str,
        workflow_version: int | None = None,
        enabled: bool = True,
        disabled_reason: str | None = None,
        max_active_runs: int | None = None,
        timeout_seconds: int | None = None,
    ) -> Pipeline:
        """Records a pipeline, or finds the one that is just so already.

        Args:
            name: its own among the caller's pipelines.
            mode: how it is executed.
            workflow_name: Conductor's name of what it executes.
            workflow_version: None: always the latest.
            enabled: whether runs of it can be made.
            disabled_reason: what those are told who try, if they can't.
            max_active_runs: None: any number.
            timeout_seconds: what its runs have, unless they say otherwise; None: the service's.

        Raises:
            StateConflict: another one has this name.
        """
        told = {
            "name": name,
            "mode": mode,
            "workflow_name": workflow_name,
            "workflow_version": workflow_version,
            "enabled": None if enabled else False,
            "disabled_reason": disabled_reason,
            "max_active_runs": max_active_runs,
            "timeout_seconds": timeout_seconds,
        }
        body = NewPipeline.model_validate(_given(told)).sent()
        request = Request(method="POST", path="/pipeline", body=body)
        return self._calls.answer(request, Pipeline)

    def list_pipelines(self, *, page_size: int | None = None) -> Iterator[Pipeline]:
        """All pipelines, newest first, fetched page by page as they are taken."""
        for page in self._pages("/pipeline", {"page_size": page_size}, PipelinePage):
            yield from page.items

    def get_pipeline(self, pipeline_id: int) -> Pipeline:
        """One pipeline."""
        return self._get(f"/pipeline/{pipeline_id}", Pipeline)

    def find_pipeline(self, name: str) -> Pipeline:
        """The pipeline with this name.

        Raises:
            PipelineNameUnknown: there is none.
        """
        names = []
        for pipeline in self.list_pipelines(page_size=200):
            if pipeline.name == name:
                return pipeline
            names.append(pipeline.name)
        known = (
            f"there are {', '.join(sorted(names)[:20])}" if names else "there is none at all yet"
        )
        raise PipelineNameUnknown(f"No pipeline is named {name!r}: {known}")

    def change_pipeline(self, pipeline_id: int, changes: PipelineChanges) -> Pipeline:
        """Changes what is named; runs that exist keep what they were made with."""
        path = f"/pipeline/{pipeline_id}"
        return self._calls.answer(Request(method="PATCH", path=path, body=changes.sent()), Pipeline)

    # -- runs -------------------------------------------------------------------------------------

    def create_run(
        self,
        *,
        pipeline_id: int,
        input_path_prefix: str,
        output_path_prefix: str,
        report_path_prefix: str | None = None,
        parameters: Mapping[str, JsonValue] | None = None,
        tags: Mapping[str, str] | None = None,
        timeout_seconds: int | None = None,
        idempotency_key: str | None = None,
        respond_async: bool = False,
    ) -> PipelineRun:
        """Records a run and submits it.

        Args:
            pipeline_id: of which pipeline.
            input_path_prefix: what it reads: `s3://bucket/key` or relative to the service's bucket.
            output_path_prefix: where it writes.
            report_path_prefix: where it writes a report; None: it writes none.
            parameters: passed through to the pipeline.
            tags: to find it again.
            timeout_seconds: from the job's submission to its end; None: the pipeline's.
            idempotency_key: the same again answers the same run; None: a new one.
            respond_async: don't wait for the submission; the run may still be CREATED.

        Raises:
            SubmissionFailed: it was recorded and is FAILED.
        """
        told = {
            "pipeline_id": pipeline_id,
            "input_path_prefix": input_path_prefix,
            "output_path_prefix": output_path_prefix,
            "report_path_prefix": report_path_prefix,
            "parameters": parameters,
            "tags": tags,
            "timeout_seconds": timeout_seconds,
        }
        run = NewRun.model_validate(_given(told))
        return self._create(
            "/pipeline-run", run.sent(), key=idempotency_key, respond_async=respond_async
        )

    def retry_run(
        self, run_id: int, *, idempotency_key: str | None = None, respond_async: bool = False
    ) -> PipelineRun:
        """A new run with what an ended one was asked for; see `create_run`.

        Raises:
            SubmissionFailed: it was recorded and is FAILED.
        """
        path = f"/pipeline-run/{run_id}/retry"
        return self._create(path, None, key=idempotency_key, respond_async=respond_async)

    def cancel_run(self, run_id: int, *, reason: str | None = None) -> PipelineRun:
        """Asks for a run's end; it is CANCELLED once its job is."""
        body = Cancellation(reason=reason).sent() if reason is not None else None
        request = Request(method="POST", path=f"/pipeline-run/{run_id}/cancel", body=body)
        return self._calls.answer(request, PipelineRun)

    def list_runs(
        self,
        *,
        status: Status | None = None,
        pipeline_id: int | None = None,
        tag: tuple[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        workbench_job_id: str | None = None,
        page_size: int | None = None,
    ) -> Iterator[PipelineRun]:
        """The runs that all of this is true of, newest first, fetched as they are taken.

        Args:
            status: theirs.
            pipeline_id: theirs.
            tag: name and value of one of theirs.
            created_after: aware.
            created_before: aware.
            workbench_job_id: their job's.
            page_size: how many to fetch at a time, at most 200.
        """
        query = {
            "status": status,
            "pipeline_id": pipeline_id,
            "tag": ":".join(tag) if tag else None,
            "created_after": created_after.isoformat() if created_after else None,
            "created_before": created_before.isoformat() if created_before else None,
            "workbench_job_id": workbench_job_id,
            "page_size": page_size,
        }
        for page in self._pages("/pipeline-run", query, PipelineRunPage):
            yield from page.items

    def get_run(
        self, run_id: int, *, wait_seconds: int | None = None, since_version: int | None = None
    ) -> PipelineRun:
        """One run as it is now, or once it changes.

        Args:
            run_id: the run's.
            wait_seconds: how long to wait for another status, at most 20.
            since_version: the version that is known; None: the present one.
        """
        query = {"wait": wait_seconds, "since_version": since_version}
        return self._get(f"/pipeline-run/{run_id}", PipelineRun, query)

    def list_run_events(self, run_id: int) -> list[RunEvent]:
        """Every status that a run has entered, oldest first."""
        return self._get(f"/pipeline-run/{run_id}/events", RunEvents).items

    def list_run_outputs(
        self, run_id: int, *, page_size: int | None = None
    ) -> Iterator[StoredObject]:
        """What a run has written, by name, with links that hold a quarter of an hour."""
        return self._objects(f"/pipeline-run/{run_id}/outputs", page_size)

    def list_run_report(
        self, run_id: int, *, page_size: int | None = None
    ) -> Iterator[StoredObject]:
        """A run's report, by name, with links that a browser shows.

        Raises:
            NotFound: the run writes none.
        """
        return self._objects(f"/pipeline-run/{run_id}/report", page_size)

    # -- waiting ----------------------------------------------------------------------------------

    def watch(
        self,
        run_id: int,
        *,
        timeout_seconds: float | None = None,
        look_seconds: float = LONGEST_LOOK_SECONDS,
    ) -> Iterator[PipelineRun]:
        """The run now, and after each look; the last one has ended.

        Looks are long polls: another status is seen at once, and progress at the next look.

        Args:
            run_id: the run's.
            timeout_seconds: how long at most; None: for as long as it takes.
            look_seconds: how long one look may take, 1 to 20.

        Raises:
            WaitTimedOut: the time is over; the run goes on.
        """
        clock = self._around.clock
        began = clock()
        run = self.get_run(run_id)
        yield run
        while not run.has_ended:
            left = look_seconds
            if timeout_seconds is not None:
                left = min(left, timeout_seconds - (clock() - began))
            if left <= 0:
                raise WaitTimedOut(run)
            run = self._look(run, left)
            yield run

    def wait(self, run_id: int, *, timeout_seconds: float | None = None) -> PipelineRun:
        """The run once it has ended, whatever its end is.

        Raises:
            WaitTimedOut: the time is over; the run goes on.
        """
        *_, run = self.watch(run_id, timeout_seconds=timeout_seconds)
        return run

    def _look(self, known: PipelineRun, seconds: float) -> PipelineRun:
        """The run after so long at most, or once it has another version."""
        began = self._around.clock()
        whole = min(int(seconds), LONGEST_LOOK_SECONDS)
        run = self.get_run(
            known.id, wait_seconds=whole or None, since_version=known.version if whole else None
        )
        taken = self._around.clock() - began
        floor = min(seconds, SHORTEST_LOOK_SECONDS)
        if not run.has_ended and run.version == known.version and taken < floor:
            self._around.pause(floor - taken)
        return run

    # -- the service ------------------------------------------------------------------------------

    def health(self) -> Health:
        """That the service can do its work; needs no token.

        Raises:
            ServiceUnavailable: it can't.
        """
        return self._get("/health", Health)

    def service_info(self) -> ServiceInfo:
        """The service's version and limits, and how the caller's runs fare."""
        return self._get("/service-info", ServiceInfo)

    # -- how --------------------------------------------------------------------------------------

    def _get(self, path: str, shape: type[A], query: Mapping[str, object] | None = None) -> A:
        return self._calls.answer(Request(method="GET", path=path, query=query or {}), shape)

    def _create(
        self, path: str, body: object, *, key: str | None, respond_async: bool
    ) -> PipelineRun:
        headers = {"Idempotency-Key": key or self._around.new_key()}
        if respond_async:
            headers["Prefer"] = "respond-async"
        request = Request(method="POST", path=path, body=body, headers=headers)
        return self._calls.answer(request, PipelineRun)

    def _objects(self, path: str, page_size: int | None) -> Iterator[StoredObject]:
        for page in self._pages(path, {"page_size": page_size}, StoredObjectPage):
            yield from page.items

    def _pages(self, path: str, query: Mapping[str, object], shape: type[P]) -> Iterator[P]:
        token: str | None = None
        while token != "":
            page: P = self._get(path, shape, {**query, "page_token": token})
            yield page
            token = page.next_page_token


def _given(members: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}
