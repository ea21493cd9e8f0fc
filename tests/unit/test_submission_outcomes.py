"""The table of outcomes (design, section 7): what is seen of a submission decides.

Each row is judged twice: when the API submits a run for the first time, and later, when the poller
resolves what stayed unknown.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from fakes import Course, StartFault, World
from runs.errors import ConductorUnclear, DatabaseUnavailable, SubmissionFailed
from runs.messages import CheckMessage
from runs.model import ErrorCategory, PipelineRun
from runs.outcomes import Seen, sight_of
from runs.ports import CallEnd, NoAnswer, WorkflowExecution, WorkflowStatus
from runs.status import PipelineMode, PipelineRunStatus
from runs.submission import SUBMIT_LEASE

if TYPE_CHECKING:
    from collections.abc import Callable

S = PipelineRunStatus
NO_JOB_IDS = [None, "", 42, True, "../x", "..", "x" * 300, "a b", {"id": "job-1"}, ["job-1"]]
HTML = "<html><body>Welcome to nginx!</body></html>" * 10
UNCLEAR_ENDS = {
    "read time-out, reset, 502 or 504": Course.answer_lost(reaches=False),
    "TIMED_OUT": Course.ended(WorkflowStatus.TIMED_OUT),
    "TERMINATED": Course.ended(WorkflowStatus.TERMINATED),
}
unclear_ends = pytest.mark.parametrize("course", UNCLEAR_ENDS.values(), ids=UNCLEAR_ENDS.keys())
no_job_ids = pytest.mark.parametrize("answer", [*NO_JOB_IDS, HTML])


def first_failure(world: World) -> tuple[PipelineRun, SubmissionFailed]:
    """Submits a run whose submission definitely fails."""
    with pytest.raises(SubmissionFailed) as failed:
        world.submit(key="k")
    return world.run(failed.value.run_id), failed.value


def unresolved(world: World, *courses: Course) -> PipelineRun:
    """A run that is CREATED, whose one workflow took this course; none: it has no workflow.

    Its lease is over.
    """
    world.conductor.courses.extend(courses)
    fault = StartFault.ANSWER_LOST if courses else StartFault.UNCLEAR
    world.conductor.start_faults.append(fault)
    run = world.submit()
    world.pass_time(SUBMIT_LEASE.total_seconds())
    assert run.status is S.CREATED
    return run


def resolve(world: World, run: PipelineRun) -> PipelineRun:
    """One look of the poller."""
    message = CheckMessage(run_ids=(run.id,), sent_at=world.database.now)
    world.checking.check([message], within=timedelta(minutes=1))
    return world.run(run.id)


def starts(world: World, run: PipelineRun) -> int:
    return len(world.conductor.starts_for(run.id))


# -- the start itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (StartFault.UNREACHABLE, "conductor_unreachable"),
        (StartFault.REFUSED, "workflow_refused"),
    ],
)
def test_p12_f4_first_a_start_that_was_refused_or_never_sent_is_failed(
    world: World, fault: StartFault, code: str
) -> None:
    world.conductor.start_faults.append(fault)

    run, told = first_failure(world)

    assert run.status is S.FAILED
    assert run.error
    assert (run.error.code, run.error.category) == (code, ErrorCategory.PLATFORM)
    assert str(told) == run.error.message
    assert "Conductor" in run.error.message
    assert not world.database.strays


def test_p12_later_a_start_that_was_refused_is_failed(world: World) -> None:
    run = unresolved(world)
    world.conductor.start_faults.append(StartFault.REFUSED)

    run = resolve(world, run)

    assert run.status is S.FAILED
    assert run.error
    assert run.error.code == "workflow_refused"


def test_p12_f4_later_a_start_that_was_never_sent_leaves_the_run_for_the_next_try(
    world: World,
) -> None:
    run = unresolved(world)
    world.conductor.start_faults.append(StartFault.UNREACHABLE)

    run = resolve(world, run)

    assert run.status is S.CREATED
    assert run.observation.last_error
    assert "Conductor can't be reached" in run.observation.last_error


def test_p12_f4_later_without_conductor_the_run_waits_and_starts_nothing(world: World) -> None:
    run = unresolved(world)
    world.conductor.down = True

    run = resolve(world, run)

    assert run.status is S.CREATED
    assert "Conductor can't be reached" in (run.observation.last_error or "")
    assert run.submit_attempts == 1


@pytest.mark.parametrize("fault", [StartFault.UNCLEAR, StartFault.ANSWER_LOST])
def test_p12_f5_first_a_start_whose_answer_was_lost_leaves_the_run_created(
    world: World, fault: StartFault
) -> None:
    world.conductor.start_faults.append(fault)

    run = world.submit()

    assert run.status is S.CREATED
    assert run.error is None


def test_p8_f5_later_a_start_whose_answer_was_lost_is_found_and_not_repeated(
    world: World,
) -> None:
    run = unresolved(world, Course())

    run = resolve(world, run)

    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-1")
    assert run.conductor_workflow_id == "workflow-1"
    assert starts(world, run) == len(world.workbench.jobs) == 1


def test_p12_f6_first_a_conductor_that_is_slow_leaves_the_run_created_within_the_wait(
    world: World,
) -> None:
    world.conductor.latency_seconds = 25

    run = world.submit()

    assert run.status is S.CREATED
    assert world.time() <= 12


def test_p12_first_a_workflow_that_outlasts_the_wait_leaves_the_run_created(world: World) -> None:
    world.conductor.courses.append(Course(seconds=12))

    run = world.submit()

    assert run.status is S.CREATED
    assert 9 < world.time() <= 10


# -- the workflow COMPLETED -----------------------------------------------------------------------


def test_p12_first_a_valid_job_id_is_submitted(world: World) -> None:
    run = world.submit()

    assert (run.status, run.version, run.workbench_job_id) == (S.SUBMITTED, 2, "job-1")
    assert run.started_at == world.time.now
    assert run.conductor_workflow_id == "workflow-1"


def test_p12_f11_later_a_valid_job_id_is_submitted(world: World) -> None:
    run = resolve(world, unresolved(world, Course(seconds=15)))

    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-1")
    assert run.started_at == world.time.now


@no_job_ids
def test_p12_f10_first_without_a_valid_job_id_the_run_is_failed(
    world: World, answer: object
) -> None:
    world.conductor.courses.append(Course.answered(answer))

    run, told = first_failure(world)

    assert run.status is S.FAILED
    assert run.workbench_job_id is None
    assert run.error
    assert (run.error.code, run.error.category) == (
        "workbench_answer_invalid",
        ErrorCategory.UPSTREAM,
    )
    before, quoted = str(told).split(", but ")
    assert before == "The Workbench's answer has no valid workbench_job_id"
    assert quoted == repr(answer)[:200]


def test_p10_f10_a_job_that_another_active_run_has_is_not_taken(world: World) -> None:
    first = world.submit()
    world.conductor.courses.append(Course.answered(first.workbench_job_id))

    run, error = first_failure(world)

    told = "The Workbench's answer names job job-1, which is another run's"
    assert (run.status, run.workbench_job_id, str(error)) == (S.FAILED, None, told)
    assert run.error
    assert run.error.code == "workbench_answer_invalid"
    assert run.id in world.database.strays
    assert world.run(first.id).status is S.SUBMITTED


def test_f33_a_database_that_goes_away_once_the_job_is_there_leaves_it_to_the_poller(
    world: World,
) -> None:
    world.steps.strike("before MemoryRuns.holder_of", DatabaseUnavailable("restarting"))
    run = world.submit()
    assert run.status is S.CREATED
    world.go_on(90)
    assert world.run(run.id).status is S.SUBMITTED
    assert len(world.workbench.jobs) == 1


def test_p31_later_a_realtime_run_whose_answer_was_lost_is_failed_and_not_started_again(
    world: World,
) -> None:
    world.conductor.start_faults.append(StartFault.ANSWER_LOST)
    world.conductor.courses.append(Course.answer_lost())
    run = world.submit(mode=PipelineMode.REALTIME)
    assert run.status is S.CREATED
    world.pass_time(SUBMIT_LEASE.total_seconds() + 1)

    run = resolve(world, run)

    assert run.error
    assert (run.status, run.error.code) == (S.FAILED, "workbench_answer_lost")
    assert starts(world, run) == 1


def test_p31_a_realtime_run_that_has_begun_is_not_lost_while_conductor_is_away(
    world: World,
) -> None:
    world.conductor.courses.append(Course(seconds=70))
    run = world.submit(mode=PipelineMode.REALTIME)
    world.pass_time(30)
    assert resolve(world, run).status is S.RUNNING
    world.conductor.down = True
    world.pass_time(400)
    assert resolve(world, run).status is S.RUNNING
    world.conductor.down = False

    assert resolve(world, run).status is S.COMPLETED


def test_p10_a_job_that_an_ended_run_had_may_be_taken(world: World) -> None:
    """A Workbench that was set up anew may begin its ids anew."""
    first = world.submit()
    world.workbench.become("COMPLETED", run=first.id)
    world.go_on(61)
    world.conductor.courses.append(Course.answered(first.workbench_job_id))

    assert world.submit().workbench_job_id == first.workbench_job_id


def test_p8_where_keys_are_not_honoured_every_submission_is_noted_for_the_hunt(
    world: World,
) -> None:
    submission = replace(world.submission, workbench_honours_keys=False)
    recorded = submission.submit(world.new_run(), key="k", fingerprint="f", respond_async=False)
    assert recorded.run.status is S.SUBMITTED
    assert recorded.run.id in world.database.strays


@pytest.mark.parametrize("answer", [HTML, "OK", "job-1", [1, 2], 7, None])
def test_f10_an_answer_that_is_no_json_object_has_no_job_id_and_is_quoted(answer: object) -> None:
    sight = sight_of(
        PipelineMode.BATCH,
        WorkflowExecution(
            workflow_id="w",
            status=WorkflowStatus.COMPLETED,
            output={"workbench_job_id": None, "status": None},
            answer=answer,
        ),
    )

    assert (sight.seen, sight.job_id) == (Seen.DONE_WITHOUT_RESULT, None)
    told = "The Workbench's answer has no valid workbench_job_id"
    assert sight.message == f"{told}, but {repr(answer)[:200]}"


@no_job_ids
def test_p12_f10_later_without_a_valid_job_id_the_run_is_failed(
    world: World, answer: object
) -> None:
    run = resolve(world, unresolved(world, Course.answered(answer)))

    assert run.status is S.FAILED
    assert run.workbench_job_id is None


@no_job_ids
def test_p9_f10_a_job_may_exist_behind_an_invalid_answer(world: World, answer: object) -> None:
    world.conductor.courses.append(Course.answered(answer))
    run, _ = first_failure(world)
    assert run.id in world.database.strays


# -- the call failed, and it is known how ---------------------------------------------------------

KNOWN_ENDS = [
    (CallEnd.CONNECTION_REFUSED, "workbench_refused", False),
    (CallEnd.CLIENT_ERROR, "workbench_refused", False),
    (CallEnd.SERVER_ERROR, "workbench_failed", True),
]


@pytest.mark.parametrize(("call_end", "code", "is_stray"), KNOWN_ENDS)
def test_p12_f12_first_a_call_that_definitely_failed_is_failed(
    world: World, call_end: CallEnd, code: str, *, is_stray: bool
) -> None:
    world.conductor.courses.append(Course.failed(call_end, "The Workbench answered: out of disk"))

    run, told = first_failure(world)

    assert run.status is S.FAILED
    assert str(told) == "The Workbench answered: out of disk"
    assert run.error
    assert (run.error.code, run.error.category) == (code, ErrorCategory.UPSTREAM)
    assert (run.id in world.database.strays) is is_stray


@pytest.mark.parametrize(("call_end", "code", "is_stray"), KNOWN_ENDS)
def test_p12_later_a_call_that_definitely_failed_is_failed(
    world: World, call_end: CallEnd, code: str, *, is_stray: bool
) -> None:
    course = Course.failed(call_end, "The Workbench answered: out of disk")

    run = resolve(world, unresolved(world, course))

    assert run.status is S.FAILED
    assert run.error
    assert (run.error.code, run.error.message) == (code, "The Workbench answered: out of disk")
    assert (run.id in world.database.strays) is is_stray


@pytest.mark.parametrize("call_end", [CallEnd.CONNECTION_REFUSED, CallEnd.CLIENT_ERROR])
def test_p9_a_refusal_after_an_answer_that_was_lost_is_noted_as_a_stray_check(
    world: World, call_end: CallEnd
) -> None:
    world.workbench.client_reference = False
    run = unresolved(world, Course.answer_lost())
    world.conductor.courses.append(Course.failed(call_end, "no"))

    run = resolve(world, run)

    assert run.status is S.FAILED
    assert run.id in world.database.strays


# -- the call's or the workflow's end tells nothing -----------------------------------------------


@unclear_ends
def test_p12_first_an_answer_that_was_lost_leaves_the_run_created(
    world: World, course: Course
) -> None:
    world.conductor.courses.append(course)

    run = world.submit()

    assert run.status is S.CREATED
    assert starts(world, run) == 1


@unclear_ends
def test_p8_p12_later_an_answer_that_was_lost_is_asked_for_again_with_the_same_key(
    world: World, course: Course
) -> None:
    run = resolve(world, unresolved(world, course))

    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-1")
    first, second = world.conductor.starts_for(run.id)
    assert first.correlation_id == second.correlation_id == run.correlation_id
    assert first.workflow_input == second.workflow_input
    assert run.submit_attempts == 2


@pytest.mark.parametrize("status", [WorkflowStatus.TIMED_OUT, WorkflowStatus.TERMINATED])
def test_p9_later_the_job_that_an_ended_workflows_task_shows_is_adopted(
    world: World, status: WorkflowStatus
) -> None:
    run = resolve(world, unresolved(world, Course.ended(status, reaches=True)))

    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-1")
    assert starts(world, run) == 1


def test_p9_f11_later_the_job_that_the_client_reference_shows_is_adopted(world: World) -> None:
    run = resolve(world, unresolved(world, Course.answer_lost()))

    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-1")
    assert starts(world, run) == 1


@pytest.mark.parametrize("without", ["the capability", "an answer"])
def test_p8_f11_without_the_client_reference_the_key_brings_the_same_job_back(
    world: World, without: str
) -> None:
    run = unresolved(world, Course.answer_lost())
    if without == "the capability":
        world.workbench.client_reference = False
    else:
        world.workbench.down = NoAnswer(reason="The Workbench answered 503")

    run = resolve(world, run)

    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-1")
    assert starts(world, run) == 2
    assert len(world.workbench.jobs) == 1


def test_of_several_workflows_the_one_that_gave_a_job_counts(world: World) -> None:
    world.workbench.client_reference = False
    run = unresolved(world, Course.answer_lost(reaches=False))
    world.conductor.courses.extend([Course(seconds=12), Course.answer_lost(reaches=False)])
    assert resolve(world, run).status is S.CREATED  # The second outlasts the look.
    world.conductor.start(
        workflow_name=run.workflow_name,
        workflow_version=run.workflow_version,
        correlation_id=run.correlation_id,
        workflow_input=world.conductor.started[0].workflow_input,
        timeout=timedelta(seconds=5),
    )
    world.pass_time(30)

    run = resolve(world, run)

    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-1")
    assert run.conductor_workflow_id == "workflow-2"
    assert starts(world, run) == 3


# -- nothing is known of it -----------------------------------------------------------------------


def test_p11_f2_later_a_run_without_a_workflow_is_started_when_its_lease_is_over(
    world: World,
) -> None:
    run = resolve(world, unresolved(world))

    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-1")
    assert run.submit_attempts == 2


def test_p8_later_a_run_under_a_live_lease_is_left_alone(world: World) -> None:
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    run = world.submit()
    world.pass_time(SUBMIT_LEASE.total_seconds() - 1)

    run = resolve(world, run)

    assert run.status is S.CREATED
    assert starts(world, run) == 0
    assert run.observation.last_error == "Its submission is under way"


def test_p8_of_two_lookers_only_the_one_that_takes_the_lease_starts(world: World) -> None:
    run = unresolved(world)
    assert world.runs.take_submit_lease(run, SUBMIT_LEASE)  # The other was faster.

    resolution = world.submission.resolve(run, now=world.database.now)

    assert resolution.transition is None
    assert resolution.unresolved == "Conductor has no workflow for this run yet"
    assert starts(world, run) == 0


def test_p8_f8_later_a_running_workflow_is_nudged_and_never_started_again(world: World) -> None:
    run = unresolved(world, Course(seconds=1_000))

    run = resolve(world, run)

    assert run.status is S.CREATED
    assert world.conductor.decided == ["workflow-1"]
    assert starts(world, run) == 1
    assert run.observation.last_error == "The workflow has not ended yet"


def test_f8_later_a_workflow_that_hung_is_ended_by_the_nudge_and_its_job_adopted(
    world: World,
) -> None:
    run = unresolved(world, Course.hanging())
    world.pass_time(1)

    run = resolve(world, run)

    assert world.conductor.decided == ["workflow-1"]
    assert (run.status, run.workbench_job_id) == (S.SUBMITTED, "job-1")
    assert starts(world, run) == 1


def test_p12_later_a_nudge_that_fails_changes_nothing(world: World) -> None:
    run = unresolved(world, Course(seconds=1_000))
    world.steps.strike("before MemoryConductor.decide", ConductorUnclear("reset"))

    run = resolve(world, run)

    assert run.status is S.CREATED
    assert run.observation.last_error == "The workflow has not ended yet"
    assert starts(world, run) == 1


# -- the deadline ---------------------------------------------------------------------------------


def without_conductor(world: World) -> PipelineRun:
    run = unresolved(world)
    world.conductor.down = True
    return run


def with_a_workflow_that_nothing_ends(world: World) -> PipelineRun:
    world.conductor.timeouts_seconds = {}
    return unresolved(world, Course.hanging())


def with_unclear_starts(world: World) -> PipelineRun:
    run = unresolved(world)
    world.conductor.start_faults.extend([StartFault.UNCLEAR] * 100)
    return run


@pytest.mark.parametrize(
    "unresolvable", [without_conductor, with_a_workflow_that_nothing_ends, with_unclear_starts]
)
def test_p11_p32_a_run_that_nobody_can_resolve_is_lost_after_the_submit_deadline(
    world: World, unresolvable: Callable[[World], PipelineRun]
) -> None:
    run = unresolvable(world)
    left = run.created_at + timedelta(seconds=300) - world.time.now

    world.pass_time(left.total_seconds() - 1)
    assert resolve(world, run).status is S.CREATED
    world.pass_time(30)
    run = resolve(world, run)

    assert run.status is S.FAILED
    assert run.error
    assert (run.error.code, run.error.category) == ("submission_lost", ErrorCategory.LOST)
    assert run.error.message == (
        f"It is not known whether the Workbench started a job for run {run.id}"
    )
    assert {run_id: noted.reason for run_id, noted in world.database.strays.items()} == {
        run.id: run.error.message
    }


def test_p9_a_job_that_is_found_at_the_deadline_is_adopted_all_the_same(world: World) -> None:
    run = unresolved(world, Course())
    world.pass_time(1_000)

    assert resolve(world, run).status is S.SUBMITTED
