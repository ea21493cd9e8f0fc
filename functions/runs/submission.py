"""Submission: a run is recorded, its workflow started, and what is seen of it decides.

Conductor doesn't de-duplicate starts and may send a POST twice, so what makes this safe is the
Workbench's idempotency; and only the holder of a live submit lease may start a workflow. The API
submits a run once (`Submission.submit`); whatever stays unknown then, the poller resolves
(`Submission.resolve`), from the database and Conductor alone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from runs import parameters
from runs.errors import (
    ConductorError,
    ConductorUnreachable,
    DatabaseUnavailable,
    FieldForbidden,
    ParametersForbidden,
    PrefixForbidden,
    RunNotTerminal,
    SubmissionFailed,
    WorkbenchUnavailable,
    WorkflowRefused,
)
from runs.messages import CheckMessage
from runs.metrics import Metric
from runs.model import MESSAGE_LENGTH, NewRun, clean, transition
from runs.outcomes import (
    Seen,
    Sight,
    Verdict,
    cancelled,
    doubt,
    failure,
    lost,
    sight_of,
    stray_of,
    success,
    verdict_on,
)
from runs.ports import Delayed
from runs.status import PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from runs.events import RunEvent
    from runs.model import PipelineRun, Stray, Transition
    from runs.ports import CheckQueue, Clock, Conductor, Meter, Pause, Recorded, Runs, Workbench
    from runs.prefixes import StorageRules

LOG = logging.getLogger(__name__)

ROUTE: Final = "POST /pipeline-run"
RETRY_ROUTE: Final = "POST /pipeline-run/{pipeline_run_id}/retry"
SUBMIT_LEASE: Final = timedelta(seconds=20)  # Longer than SUBMIT_WAIT_SECONDS and one answer.
RESOLVE_WITHIN: Final = timedelta(seconds=12)
"""What resolving one run may take, all in all; a workflow's call of the Workbench ends in 8 s."""
LOOK_UP_TIMEOUT: Final = timedelta(seconds=3)
FIRST_NAP_SECONDS: Final = 0.03
LONGEST_NAP_SECONDS: Final = 0.5


def workflow_input(run: PipelineRun, workbench_api_url: str) -> Mapping[str, object]:
    """What a workflow is given: the original design's fields, and the run's key."""
    return {
        "pipeline_run_id": run.id,
        "input_path_prefix": run.user_storage_input_path_prefix,
        "output_path_prefix": run.user_storage_output_path_prefix,
        "report_path_prefix": run.user_storage_report_path_prefix,
        "parameters": run.parameters,
        "workbench_api_url": workbench_api_url,
        "idempotency_key": run.correlation_id,
        "request_id": run.request_id,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What a look at an unresolved run led to: a transition, or why there is none yet."""

    transition: Transition | None = None
    unresolved: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The use case, with what it needs."""

    runs: Runs
    conductor: Conductor
    workbench: Workbench
    check_queue: CheckQueue
    publish: Callable[[Sequence[RunEvent]], object]
    meter: Meter
    pause: Pause
    clock: Clock
    workbench_api_url: str
    workbench_honours_keys: bool
    submit_wait: timedelta
    submit_deadline: timedelta
    most_active: int | None = None
    """How many active runs a tenant may have; None: any number."""
    rules: StorageRules | None = None
    """Which places a run may be given; None: any."""

    def submit(
        self,
        new: NewRun,
        *,
        key: str,
        fingerprint: str,
        respond_async: bool,
        route: str = ROUTE,
    ) -> Recorded:
        """Records a run and submits it, or finds the one that the key made before.

        Returns:
            The run as it is now: CREATED while it isn't known whether a job exists, or when
            the caller does not want to wait.

        Raises:
            FieldForbidden: nothing was written.
            PipelineNotFound: nothing was written.
            PipelineDisabled: nothing was written.
            PipelineFull: nothing was written.
            TenantFull: nothing was written.
            IdempotencyKeyReused: nothing was written.
            SubmissionFailed: the run is kept, FAILED.
        """
        deadline = self.clock() + self.submit_wait.total_seconds()
        lease = None if respond_async else SUBMIT_LEASE
        recorded = self._replayed_though_forbidden(new, route, key, fingerprint)
        recorded = recorded or self.runs.record(
            new,
            route=route,
            key=key,
            fingerprint=fingerprint,
            lease=lease,
            most_active=self.most_active,
        )
        run, events = recorded.run, list(recorded.events)
        if not recorded.replayed:
            if respond_async:
                message = CheckMessage(run_ids=(run.id,), sent_at=run.created_at)
                self.check_queue.send([Delayed(message)])
            else:
                run, moved = self._submit_first(run, deadline=deadline)
                events += moved
                took = self.submit_wait.total_seconds() - (deadline - self.clock())
                self.meter.tell({Metric.SUBMIT_TIME: took}, outcome=_outcome(run))
            self.publish(events)
        if run.never_submitted and run.error:
            raise SubmissionFailed(run.id, run.mode, run.error.message, replayed=recorded.replayed)
        return replace(recorded, run=run)

    def retry(
        self,
        run_id: int,
        *,
        tenant_id: str,
        key: str,
        respond_async: bool,
        request_id: str | None = None,
    ) -> Recorded:
        """Submits a new run with what an ended one was asked for, by its pipeline as it is now.

        Raises:
            RunNotFound: none has this id.
            RunNotTerminal: it may still end well.
            FieldForbidden: nothing was written.
            PipelineDisabled: nothing was written.
            PipelineFull: nothing was written.
            TenantFull: nothing was written.
            SubmissionFailed: the new run is kept, FAILED.
        """
        old = self.runs.run(run_id, tenant_id=tenant_id)
        if not old.is_terminal:
            raise RunNotTerminal(old.id, old.status)
        again = NewRun(
            tenant_id=tenant_id,
            pipeline_id=old.pipeline_id,
            input_path_prefix=old.user_storage_input_path_prefix,
            output_path_prefix=old.user_storage_output_path_prefix,
            report_path_prefix=old.user_storage_report_path_prefix,
            parameters=old.parameters,
            tags=old.tags,
            timeout_seconds=old.timeout_seconds,
            retry_of=old.id,
            request_id=request_id,
        )
        return self.submit(
            again,
            key=key,
            fingerprint=str(old.id),
            respond_async=respond_async,
            route=RETRY_ROUTE,
        )

    def _replayed_though_forbidden(
        self, new: NewRun, route: str, key: str, fingerprint: str
    ) -> Recorded | None:
        """The run that the key made when all its fields were allowed still; None: they are.

        Raises:
            FieldForbidden: one isn't, and the key has made nothing.
        """
        forbidden = self._forbidden_field(new)
        if forbidden is None:
            return None
        replayed = self.runs.replay(
            tenant_id=new.tenant_id, route=route, key=key, fingerprint=fingerprint
        )
        if replayed is None:
            raise forbidden
        return replayed

    def _forbidden_field(self, new: NewRun) -> FieldForbidden | None:
        places = {
            "input_path_prefix": new.input_path_prefix,
            "output_path_prefix": new.output_path_prefix,
            "report_path_prefix": new.report_path_prefix,
        }
        for field, prefix in places.items():
            if self.rules and prefix is not None:
                why = self.rules.refusal(prefix, new.tenant_id)
                if why:
                    return PrefixForbidden(field, why)
        why = parameters.refusal(new.parameters)
        return ParametersForbidden(why) if why else None

    def resolve(self, run: PipelineRun, *, now: datetime) -> Resolution:
        """Finds out what became of a submission and goes on from there.

        For a BATCH run that is CREATED, and for any active REALTIME run.

        Args:
            run: as just read.
            now: the database's time.
        """
        if run.cancel_requested_at and not run.submit_attempts:
            return Resolution(transition=cancelled(run))  # And nobody may start it any more.
        if run.submit_lease_until and run.submit_lease_until > now:
            return Resolution(unresolved="Its submission is under way")
        sight, change = self._resolve(run)
        if change:
            return Resolution(transition=change)
        running = sight.seen is Seen.RUNNING and run.status is not PipelineRunStatus.CREATED
        if running and not run.cancel_requested_at:
            return Resolution()
        # What has begun is not lost while Conductor can't be asked.
        known = sight.seen is not Seen.NOT_SENT or run.status is PipelineRunStatus.CREATED
        if not running and known and now >= run.created_at + self.submit_deadline:
            return Resolution(transition=lost(run))
        return Resolution(unresolved=sight.message)

    def _submit_first(
        self, run: PipelineRun, *, deadline: float
    ) -> tuple[PipelineRun, Sequence[RunEvent]]:
        """Submits a run that was just recorded; it stays as it is if the database goes away."""
        sight = self._start_and_watch(run, deadline=deadline)
        try:
            change = self._judge(run, sight, first=True)
            events = self.runs.move([change]) if change else ()
            return self.runs.run(run.id, tenant_id=run.tenant_id), events
        except DatabaseUnavailable as error:
            LOG.warning("submission_not_written", extra={**run.names, "error": str(error)})
            return run, ()

    def _resolve(self, run: PipelineRun) -> tuple[Sight, Transition | None]:
        deadline = self.clock() + RESOLVE_WITHIN.total_seconds()
        sights = self._look_up(run)
        sight = sights[0]
        stray = doubt(run, sights, sight)
        verdict = verdict_on(run, sight.seen, first=False)
        if run.status is PipelineRunStatus.CREATED and verdict in {Verdict.START, Verdict.CANCEL}:
            sight, stray = self._go_on(run, sights, deadline=deadline)
        if sight.seen is Seen.DONE or verdict is Verdict.TERMINATE:
            self._terminate(run, [one for one in sights if one.seen is Seen.RUNNING])
        return sight, self._judge(run, sight, first=False, stray=stray)

    def _go_on(
        self, run: PipelineRun, sights: Sequence[Sight], *, deadline: float
    ) -> tuple[Sight, Stray | None]:
        """No workflow gave a job, and none will: asks the Workbench for one, or starts again."""
        sight = sights[0]
        told = self._jobs_by_reference(run)
        if told:
            jobs = [
                Sight(seen=Seen.DONE, job_id=job_id, workflow_id=sight.workflow_id)
                for job_id in told
            ]
            return jobs[0], doubt(run, jobs, jobs[0])
        if run.cancel_requested_at and told is not None:
            return replace(sight, seen=Seen.NO_WORKFLOW), None
        may_start = verdict_on(run, sight.seen, first=False) is Verdict.START
        if not may_start or not self.runs.take_submit_lease(run, SUBMIT_LEASE):
            return sight, doubt(run, sights, sight)
        again = self._start_and_watch(run, deadline=deadline)
        stray = doubt(run, sights, again)
        if run.submit_attempts and not stray:
            stray = stray_of(run, "It was submitted more than once")
        return again, stray

    def _judge(
        self, run: PipelineRun, sight: Sight, *, first: bool, stray: Stray | None = None
    ) -> Transition | None:
        """What follows from what was seen.

        Args:
            run: as it was read.
            sight: of its submission.
            first: whether it is the first, by the API.
            stray: why a job may exist beside the one that was seen.
        """
        verdict = verdict_on(run, sight.seen, first=first)
        LOG.info(
            "submission_judged",
            extra={**run.names, "seen": sight.seen.name, "verdict": verdict.name},
        )
        match verdict:
            case Verdict.SUCCEED if (holder := self._other_holder(run, sight)) is not None:
                # Whose it is isn't told: it may be another tenant's.
                taken = f"The Workbench's answer names job {sight.job_id}, which is another run's"
                self.meter.tell({Metric.DUPLICATES_FOUND: 1})
                LOG.error("job_of_another_run", extra={**run.names, "holder": holder})
                invalid = Sight(seen=Seen.DONE_WITHOUT_RESULT, message=taken)
                return failure(run, invalid, stray=stray_of(run, taken))
            case Verdict.SUCCEED:
                if not self.workbench_honours_keys and not stray:
                    stray = stray_of(run, "The Workbench does not honour idempotency keys")
                return success(run, sight, stray=stray)
            case Verdict.FAIL:
                return failure(run, sight, stray=stray)
            case Verdict.FAIL_STRAY:
                return failure(run, sight, stray=stray_of(run, sight.message))
            case Verdict.CANCEL:
                return cancelled(run)
            case Verdict.WAIT if run.mode is PipelineMode.REALTIME and sight.seen is Seen.RUNNING:
                workflow_id = sight.workflow_id
                running = PipelineRunStatus.RUNNING
                return transition(run, running, conductor_workflow_id=workflow_id)
            case Verdict.WAIT | Verdict.START | Verdict.TERMINATE:
                return None

    def _other_holder(self, run: PipelineRun, sight: Sight) -> int | None:
        """The other run that has the job: Conductor follows redirects, wherever they lead."""
        holder = self.runs.holder_of(sight.job_id) if sight.job_id else None
        return holder if holder != run.id else None

    def _look_up(self, run: PipelineRun) -> list[Sight]:
        """What Conductor knows of the run, the workflow that counts first; one sight at least.

        Of several workflows one that gave a job counts, then one that may still give it, then
        the newest. A running workflow is given a moment to end.
        """
        try:
            found = self.conductor.find(
                workflow_name=run.workflow_name,
                correlation_id=run.correlation_id,
                timeout=LOOK_UP_TIMEOUT,
            )
        except ConductorError as error:
            return [Sight(seen=Seen.NOT_SENT, message=_told(error))]
        sights = [sight_of(run.mode, execution) for execution in found]
        sights.sort(key=lambda sight: _TELLING.get(sight.seen, len(_TELLING)))
        if not sights:
            message = "Conductor has no workflow for this run yet"
            return [Sight(seen=Seen.NO_WORKFLOW, message=message)]
        if sights[0].seen is Seen.RUNNING and sights[0].workflow_id:
            sights[0] = self._nudge_and_watch(run, sights[0].workflow_id)
        return sights

    def _nudge_and_watch(self, run: PipelineRun, workflow_id: str) -> Sight:
        try:
            self.conductor.decide(workflow_id, timeout=LOOK_UP_TIMEOUT)
        except ConductorError as error:
            LOG.info("decide_failed", extra={**run.names, "error": _told(error)})
        deadline = self.clock() + LONGEST_NAP_SECONDS
        return self._watch(run, workflow_id, deadline=deadline)

    def _terminate(self, run: PipelineRun, sights: Iterable[Sight]) -> None:
        """Ends workflows that nobody waits for; who can't be ended now ends by its time-out."""
        for sight in sights:
            if sight.workflow_id:
                try:
                    self.conductor.terminate(
                        sight.workflow_id,
                        reason="cancelled" if run.cancel_requested_at else "its run has a job",
                        timeout=LOOK_UP_TIMEOUT,
                    )
                except ConductorError as error:
                    LOG.warning("terminate_failed", extra={**run.names, "error": _told(error)})
                else:
                    workflow = {"workflow_id": sight.workflow_id}
                    LOG.warning("workflow_terminated", extra={**run.names, **workflow})

    def _jobs_by_reference(self, run: PipelineRun) -> Sequence[str] | None:
        """The jobs that the Workbench has under the run's key; None: it can't tell, or not now."""
        if run.mode is not PipelineMode.BATCH:
            return None
        try:
            return self.workbench.jobs_of(run.correlation_id, within=LOOK_UP_TIMEOUT)
        except WorkbenchUnavailable:
            return None

    def _start_and_watch(self, run: PipelineRun, *, deadline: float) -> Sight:
        """Starts a workflow; the caller holds the run's lease, which outlasts the deadline."""
        left = deadline - self.clock()
        if left <= 0:
            return Sight(seen=Seen.NO_WORKFLOW, message="There was no time left to submit it")
        given = workflow_input(run, self.workbench_api_url)
        if why := parameters.refusal(given):  # It was recorded by a release that let it pass.
            message = f"What the workflow is to be given {why}. Ask for a new run without it"
            return Sight(seen=Seen.FORBIDDEN, message=message)
        try:
            workflow_id = self.conductor.start(
                workflow_name=run.workflow_name,
                workflow_version=run.workflow_version,
                correlation_id=run.correlation_id,
                workflow_input=given,
                timeout=timedelta(seconds=left),
            )
        except WorkflowRefused as error:
            return Sight(seen=Seen.REFUSED, message=_told(error))
        except ConductorUnreachable as error:
            return Sight(seen=Seen.NOT_SENT, message=_told(error))
        except ConductorError as error:
            return Sight(seen=Seen.START_UNCLEAR, message=_told(error))
        return self._watch(run, workflow_id, deadline=deadline)

    def _watch(self, run: PipelineRun, workflow_id: str, *, deadline: float) -> Sight:
        """Short polls until the workflow ends or the deadline is over."""
        nap = FIRST_NAP_SECONDS
        while True:
            left = max(0.1, deadline - self.clock())
            try:
                execution = self.conductor.execution(workflow_id, timeout=timedelta(seconds=left))
                sight = sight_of(run.mode, execution)
            except ConductorError as error:
                sight = Sight(seen=Seen.RUNNING, workflow_id=workflow_id, message=_told(error))
            if sight.seen is not Seen.RUNNING or self.clock() + nap > deadline:
                return sight
            self.pause(nap)
            nap = min(nap * 1.5, LONGEST_NAP_SECONDS)


_TELLING: Final[Mapping[Seen, int]] = MappingProxyType({Seen.DONE: 0, Seen.RUNNING: 1})
"""Which of several workflows of one run counts more than the newest."""


def _outcome(run: PipelineRun) -> str:
    """What became of a submission, as far as its caller is told."""
    if run.never_submitted:
        return "failed"
    return "unknown" if run.status is PipelineRunStatus.CREATED else "submitted"


def _told(error: Exception) -> str:
    return clean(str(error), MESSAGE_LENGTH)
