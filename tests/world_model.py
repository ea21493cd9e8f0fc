"""The model: random histories of the whole service, and what must hold after each step.

The rules are what callers, the schedule, the queues and bad luck can do; each may be cut short by a
crash at any step. `settle` ends a history: everything works again, the jobs come to their ends, and
time goes on until all must be over. `tests/model` runs it; a history that fails becomes a test of
its own there.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fakes import Course, Crash, StartFault, World
from runs.errors import (
    DatabaseUnavailable,
    IdempotencyKeyReused,
    PipelineNotFound,
    RequestRefused,
    RunAlreadyTerminal,
    SubmissionFailed,
)
from runs.model import UPSTREAM_STATUSES
from runs.ports import CallEnd, JobStatus, NoAnswer, WorkflowStatus
from runs.status import RANK, TERMINAL, TRANSITIONS, PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runs.events import RunEvent
    from runs.model import PipelineRun

S = PipelineRunStatus
LONG_ENOUGH_SECONDS: Final = 40 * 60
"""For a submit deadline, then a cancel deadline, then the hunt's second look."""
ENDS_WITHOUT_THE_JOB: Final = frozenset({"run_timed_out", "cancel_unconfirmed", "job_lost"})
FAILS_AT_SUBMISSION: Final = frozenset(
    {
        "conductor_unreachable",
        "workflow_refused",
        "workbench_answer_invalid",
        "workbench_refused",
        "workbench_failed",
        "workbench_answer_lost",
        "submission_lost",
    }
)

COURSES: Final = (
    Course(),
    Course(),
    Course(seconds=4),
    Course(seconds=18),
    Course.hanging(),
    Course.hanging(reaches=False),
    Course.answer_lost(),
    Course.answer_lost(reaches=False),
    Course.answered(None),
    Course.failed(CallEnd.SERVER_ERROR, "The Workbench answered 500"),
    Course.failed(CallEnd.CLIENT_ERROR, "The Workbench answered 422"),
    Course.failed(CallEnd.CONNECTION_REFUSED, "The Workbench can't be reached"),
    Course.ended(WorkflowStatus.TERMINATED, reaches=True),
    Course.ended(WorkflowStatus.TIMED_OUT),
)
TROUBLES: Final = (
    NoAnswer(reason="The Workbench gave no whole answer within 8 s"),
    NoAnswer(reason="The Workbench answered 500: no idea"),
    NoAnswer(reason="The Workbench answered 429: wait", retry_after=timedelta(seconds=40)),
    NoAnswer(reason="The Workbench answered 404: no such job", unknown_job=True),
    JobStatus(upstream_status="FLYING"),
)
WORDS: Final = ("QUEUED", "running", "Succeeded", "ERROR", "CANCELED")

modes = st.sampled_from([PipelineMode.BATCH] * 4 + [PipelineMode.REALTIME])
timeouts = st.sampled_from([60, 3_600, 604_800])
places = st.integers(min_value=0, max_value=9)
"""Which of several; beyond the last it begins anew."""
crashes = st.none() | st.integers(min_value=0, max_value=14)
"""After so many steps the process dies."""


class WorldModel(RuleBasedStateMachine):
    """Histories of a World."""

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make_world()
        self.before: dict[int, PipelineRun] = {}
        self.named: dict[str, int] = {}

    def make_world(self) -> World:
        """In memory; another model may have it on real parts."""
        return World()

    # -- what callers do --------------------------------------------------------------------------

    @initialize(
        honours_keys=st.booleans(),
        client_reference=st.booleans(),
        openings=st.lists(st.tuples(modes, st.sampled_from(COURSES), timeouts), max_size=12),
    )
    def begin(
        self,
        *,
        honours_keys: bool,
        client_reference: bool,
        openings: list[tuple[PipelineMode, Course, int]],
    ) -> None:
        """Some runs are there from the beginning; with ten of them the breaker is another one."""
        self.world.workbench.honours_keys = honours_keys
        self.world.workbench.client_reference = client_reference
        for mode in PipelineMode:
            self.world.pipeline(mode)
        for mode, course, timeout in openings:
            self._post(mode, course, timeout=timeout)

    @rule(
        key=st.none() | st.sampled_from(["a", "b"]),
        body=st.sampled_from(["body", "body", "another body"]),
        mode=modes,
        respond_async=st.booleans(),
        course=st.sampled_from(COURSES),
        fault=st.none() | st.sampled_from(StartFault),
        timeout=timeouts,
        crash=crashes,
    )
    def post(  # noqa: PLR0917  # drawn
        self,
        key: str | None,
        body: str,
        mode: PipelineMode,
        respond_async: bool,  # noqa: FBT001  # drawn
        course: Course,
        fault: StartFault | None,
        timeout: int,
        crash: int | None,
    ) -> None:
        """P7 and P13: every answer to a key names one run, and a refusal writes nothing."""
        count = len(self.world.database.runs)
        with self._crashing(crash), suppress(DatabaseUnavailable):
            try:
                run_id = self._post(
                    mode,
                    course,
                    fault,
                    key=key,
                    fingerprint=f"{mode} {body}",
                    respond_async=respond_async,
                    timeout=timeout,
                )
            except IdempotencyKeyReused as error:
                assert len(self.world.database.runs) == count
                run_id = error.run_id
            if key:
                assert self.named.setdefault(key, run_id) == run_id

    def _post(
        self,
        mode: PipelineMode,
        course: Course,
        fault: StartFault | None = None,
        *,
        key: str | None = None,
        fingerprint: str = "",
        respond_async: bool = False,
        timeout: int,
    ) -> int:
        """The id of the run that the answer names."""
        conductor = self.world.conductor
        conductor.courses.append(course)
        conductor.start_faults.append(fault)
        wish = replace(self.world.new_run(mode), timeout_seconds=timeout)
        try:
            recorded = self.world.submission.submit(
                wish,
                key=key or f"unnamed {len(self.world.database.runs)}",
                fingerprint=fingerprint,
                respond_async=respond_async,
            )
        except SubmissionFailed as error:
            return error.run_id
        finally:
            if not respond_async:  # The poller's start meets with it then.
                conductor.courses.clear()
                conductor.start_faults.clear()
        return recorded.run.id

    @rule()
    def post_nonsense(self) -> None:
        """P13: an unknown pipeline leaves nothing behind."""
        wish = replace(self.world.new_run(), pipeline_id=4_711)
        count = len(self.world.database.runs), len(self.world.database.keys)
        with suppress(PipelineNotFound, DatabaseUnavailable):
            self.world.submission.submit(wish, key="n", fingerprint="n", respond_async=False)
        assert (len(self.world.database.runs), len(self.world.database.keys)) == count

    @rule(place=places, crash=crashes)
    def cancel(self, place: int, crash: int | None) -> None:
        """P26: what a cancel answered can be read."""
        run = self._run_at(place)
        if not run:
            return
        with self._crashing(crash), suppress(DatabaseUnavailable, RunAlreadyTerminal):
            told = self.world.cancel(run.id)
            # The Workbench may have cancelled it of its own accord.
            assert told.cancel_requested_at or run.status is S.CANCELLED
            assert self.world.run(run.id).cancel_requested_at == told.cancel_requested_at

    @rule(place=places, crash=crashes)
    def retry(self, place: int, crash: int | None) -> None:
        run = self._run_at(place)
        if run:
            with (
                self._crashing(crash),
                suppress(DatabaseUnavailable, RequestRefused, SubmissionFailed),
            ):
                assert self.world.retry(run.id).retry_of == run.id

    # -- what time does ---------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 6, 16, 31, 61, 310, 910]))
    def pass_time(self, seconds: int) -> None:
        self.world.pass_time(seconds)

    @rule(seconds=st.sampled_from([5, 31, 65, 130]))
    def go_on(self, seconds: int) -> None:
        with suppress(DatabaseUnavailable):
            self.world.go_on(seconds)

    @rule(late_seconds=st.sampled_from([0, 0, 0, 20, 50]), crash=crashes)
    def tick(self, late_seconds: int, crash: int | None) -> None:
        minute = self.world.time.now - timedelta(seconds=late_seconds)
        self._do(lambda: self.world.begin_minute(minute), crash)

    @rule(crash=crashes)
    def later_waves(self, crash: int | None) -> None:
        self._do(self.world.sweep, crash)

    @rule(crash=crashes)
    def deliver_all(self, crash: int | None) -> None:
        self._do(self.world.deliver, crash)

    @rule(place=places, again=st.booleans(), from_retries=st.booleans(), crash=crashes)
    def deliver_one(
        self,
        place: int,
        again: bool,  # noqa: FBT001  # drawn
        from_retries: bool,  # noqa: FBT001  # drawn
        crash: int | None,
    ) -> None:
        """Any message, also one that isn't due yet; once, or to come again."""
        queue = self.world.retry_queue if from_retries else self.world.check_queue
        if not queue.waiting:
            return
        waiting = queue.waiting[place % len(queue.waiting)]
        if not again:
            queue.waiting.remove(waiting)
        within = timedelta(minutes=1)
        self._do(lambda: self.world.checking.check([waiting.message], within=within), crash)

    @rule()
    def lose_all_messages(self) -> None:
        self.world.check_queue.waiting.clear()
        self.world.retry_queue.waiting.clear()
        self.world.tick_queue.waiting.clear()

    @rule(crash=crashes)
    def relay(self, crash: int | None) -> None:
        self._do(self.world.relay, crash)

    @rule(crash=crashes)
    def hunt(self, crash: int | None) -> None:
        self._do(self.world.hunt, crash)

    # -- what happens elsewhere -------------------------------------------------------------------

    @rule(place=places, word=st.sampled_from(WORDS))
    def job_goes_on(self, place: int, word: str) -> None:
        """A job that has ended stays so."""
        run = self._run_at(place)
        if run:
            for job in self.world.workbench.jobs_for(run.id):
                if not self._has_ended(job.answer):
                    answer = JobStatus(upstream_status=word)
                    self.world.workbench.jobs[job.id] = replace(job, answer=answer)

    @rule(trouble=st.none() | st.sampled_from(TROUBLES[:4]))
    def workbench_goes_down(self, trouble: NoAnswer | None) -> None:
        self.world.workbench.down = trouble

    @rule(place=places, trouble=st.sampled_from(TROUBLES))
    def job_is_in_trouble(self, place: int, trouble: JobStatus | NoAnswer) -> None:
        run = self._run_at(place)
        if run:
            for job in self.world.workbench.jobs_for(run.id):
                if not self._has_ended(job.answer):
                    self.world.workbench.jobs[job.id] = replace(job, answer=trouble)

    @rule(fault=st.sampled_from([None, "The Workbench answered 500: no"]))
    def cancels_go_wrong(self, fault: str | None) -> None:
        self.world.workbench.cancel_fault = fault

    @rule(makes=st.sampled_from(["CANCELLED", None, "COMPLETED"]))
    def cancels_have_another_effect(self, makes: str | None) -> None:
        self.world.workbench.cancel_makes = makes

    @rule(is_down=st.booleans(), is_blind=st.booleans())
    def conductor_changes(self, *, is_down: bool, is_blind: bool) -> None:
        self.world.conductor.down = is_down
        self.world.conductor.blind = is_blind

    @rule(course=st.sampled_from(COURSES))
    def next_workflow_goes_so(self, course: Course) -> None:
        self.world.conductor.courses.append(course)

    @rule(is_down=st.booleans())
    def database_changes(self, *, is_down: bool) -> None:
        self.world.database.down = is_down

    @rule(step=st.sampled_from(["record", "move", "observe", "run", "take_submit_lease"]))
    def database_answer_gets_lost(self, step: str) -> None:
        """What was asked for is done, and the caller never learns."""
        error = DatabaseUnavailable("the answer was lost")
        self.world.steps.strike(f"after MemoryRuns.{step}", error)

    @rule(is_down=st.booleans())
    def bus_changes(self, *, is_down: bool) -> None:
        self.world.bus.down = is_down

    @rule(refuses=st.integers(min_value=0, max_value=3))
    def queues_refuse(self, refuses: int) -> None:
        self.world.check_queue.refuses = refuses
        self.world.retry_queue.refuses = refuses

    @rule(place=places)
    def row_is_locked(self, place: int) -> None:
        run = self._run_at(place)
        if run:
            self.world.database.locked ^= {run.id}

    @rule(minutes=st.sampled_from([-10, -1, 1, 10]))
    def database_clock_jumps(self, minutes: int) -> None:
        self.world.database.skew = timedelta(minutes=minutes)

    # -- what holds always ------------------------------------------------------------------------

    @invariant()
    def all_holds(self) -> None:
        database = self.world.database
        assert not database.refused, database.refused
        runs, events = dict(database.runs), database.events
        for run in runs.values():
            self._history_holds(run, events[run.id])
            self._change_holds(self.before.get(run.id), run)
            self._submission_holds(run)
        self.before = runs

    @staticmethod
    def _history_holds(run: PipelineRun, events: Sequence[RunEvent]) -> None:
        """P1, P4, P5, P6."""
        statuses = [event.status for event in events]
        assert all(after in TRANSITIONS[before] for before, after in pairwise(statuses))
        assert [event.version for event in events] == list(range(1, run.version + 1))
        assert statuses[-1] is run.status
        assert all(before.at <= after.at for before, after in pairwise(events))
        assert (run.error is not None) is (run.status is S.FAILED)
        assert (run.completed_at is not None) is (run.status in TERMINAL)
        assert (run.started_at is not None) is (S.SUBMITTED in statuses)

    @staticmethod
    def _change_holds(before: PipelineRun | None, run: PipelineRun) -> None:
        """P2, P3, P10."""
        if not before:
            return
        assert RANK[run.status] >= RANK[before.status]
        assert before.workbench_job_id in {None, run.workbench_job_id}
        if before.is_terminal:
            names = ("status", "version", "error", "output", "started_at", "completed_at")
            assert all(getattr(run, name) == getattr(before, name) for name in names)

    def _submission_holds(self, run: PipelineRun) -> None:
        """P8, P12, P16, P20, P25, P31."""
        jobs = self.world.workbench.jobs_for(run.id)
        starts = self.world.conductor.starts_for(run.id)
        if run.mode is PipelineMode.REALTIME:
            assert len(starts) <= 1
            assert not jobs
        if self.world.workbench.honours_keys:
            assert len(jobs) <= 1
        if run.workbench_job_id:
            assert run.workbench_job_id in {job.id for job in jobs}
        if not run.submit_attempts:
            assert not starts
        if run.never_submitted and run.error:
            assert run.error.code in FAILS_AT_SUBMISSION
        if run.next_check_at:
            assert run.next_check_at <= run.updated_at + timedelta(days=1)

    # -- how it ends ------------------------------------------------------------------------------

    def teardown(self) -> None:
        self._heal()
        self.world.go_on(LONG_ENOUGH_SECONDS)
        self.all_holds()
        for run in self.world.database.runs.values():
            assert run.is_terminal, f"P11, P15, P23, P31, P32: {run}"
            self._end_is_true(run)
        self._no_job_is_orphaned()
        self._all_events_are_out()

    def _heal(self) -> None:
        world = self.world
        world.steps.spare()
        world.database.down = world.conductor.down = world.conductor.blind = world.bus.down = False
        world.workbench.down = world.workbench.cancel_fault = None
        world.workbench.cancel_makes = "CANCELLED"
        world.database.locked.clear()
        world.conductor.courses.clear()
        world.conductor.start_faults.clear()
        world.check_queue.refuses = world.retry_queue.refuses = 0
        # A clock that was turned back comes to where it was before it is looked at.
        world.database.skew = timedelta(minutes=10)
        world.go_on(11 * 60)
        for job in list(world.workbench.jobs.values()):
            if not self._has_ended(job.answer):
                answer = JobStatus(upstream_status="COMPLETED")
                world.workbench.jobs[job.id] = replace(job, answer=answer)

    def _end_is_true(self, run: PipelineRun) -> None:
        """P16, P24: what became of a run is what the Workbench says became of its job."""
        if run.workbench_job_id and not (run.error and run.error.code in ENDS_WITHOUT_THE_JOB):
            answer = self.world.workbench.jobs[run.workbench_job_id].answer
            assert isinstance(answer, JobStatus)
            true_status = UPSTREAM_STATUSES[answer.upstream_status.upper()]
            assert run.status is true_status, (run, self.world.database.events[run.id])

    def _no_job_is_orphaned(self) -> None:
        """P9: a job is its run's, or has ended, or it was noted that nobody can find it."""
        for job in self.world.workbench.jobs.values():
            run = self.world.database.runs[job.run_id]
            noted = run.id in self.world.database.strays
            found = noted and self.world.workbench.client_reference
            assert job.id == run.workbench_job_id or self._has_ended(job.answer) or noted
            assert not found or self._has_ended(job.answer)

    def _all_events_are_out(self) -> None:
        """P28."""
        told = {(event.run_id, event.version) for event in self.world.bus.published}
        written = {
            (event.run_id, event.version)
            for events in self.world.database.events.values()
            for event in events
        }
        assert told == written

    # -- how it goes ------------------------------------------------------------------------------

    @contextmanager
    def _crashing(self, after_steps: int | None) -> Iterator[None]:
        """What is done in here may be cut short."""
        if after_steps is not None:
            self.world.steps.strike(after_steps)
        try:
            yield
        except Crash:
            self.world.restart()
        finally:
            if after_steps is not None:
                self.world.steps.spare()

    def _do(self, act: Callable[[], object], crash: int | None) -> None:
        with self._crashing(crash), suppress(DatabaseUnavailable):
            act()

    def _run_at(self, place: int) -> PipelineRun | None:
        runs = list(self.world.database.runs.values())
        return runs[place % len(runs)] if runs else None

    @staticmethod
    def _has_ended(answer: object) -> bool:
        if not isinstance(answer, JobStatus):
            return False
        return UPSTREAM_STATUSES.get(answer.upstream_status.upper()) in TERMINAL
