"""Cancel, time-outs and retries in `ports.Runs`: one suite over the fake and real Postgres."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from made_runs import (
    TENANT,
    WORKBENCH,
    at,
    close_to,
    make_pipeline,
    moved,
    now_of,
    read,
    record,
    submit,
    submitted,
    trouble,
)
from runs.errors import DatabaseUnavailable, RunNotFound
from runs.model import CancelCause, Finding, transition
from runs.status import PipelineMode, PipelineRunStatus

if TYPE_CHECKING:
    from runs.model import Pipeline, PipelineRun
    from runs_stores import Store

S = PipelineRunStatus
NOWHERE = 4_711
LEASE = timedelta(seconds=20)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SHORTEST = 60
"""Seconds: the shortest time-out that a run may have."""

active = pytest.mark.parametrize("status", [S.CREATED, S.SUBMITTED, S.RUNNING])
ended = pytest.mark.parametrize("status", [S.COMPLETED, S.FAILED, S.CANCELLED])


@pytest.fixture
def pipeline(store: Store) -> Pipeline:
    return make_pipeline(store)


@pytest.fixture
def created(store: Store, pipeline: Pipeline) -> PipelineRun:
    """A run that is CREATED and that nobody has tried to submit."""
    return record(store, pipeline)


def ask_to_end(store: Store, run: PipelineRun, reason: str | None = "no need") -> PipelineRun:
    return store.runs.request_cancel(run.id, tenant_id=run.tenant_id, reason=reason).run


# -- record ---------------------------------------------------------------------------------------


def test_p32_a_run_has_a_week_unless_its_request_says_otherwise(
    store: Store, pipeline: Pipeline
) -> None:
    usual, short = record(store, pipeline), record(store, pipeline, timeout_seconds=SHORTEST)

    assert read(store, usual).timeout_seconds == 7 * 24 * 60 * 60
    assert read(store, short).timeout_seconds == 60
    assert short.times_out_at is None
    begun = submit(store, short)
    assert begun.started_at
    assert begun.times_out_at == begun.started_at + MINUTE


def test_a_retry_names_the_run_that_it_repeats(store: Store, pipeline: Pipeline) -> None:
    first = record(store, pipeline)
    again = record(store, pipeline, retry_of=first.id)

    assert (again.retry_of, first.retry_of) == (first.id, None)
    assert read(store, again) == again


def test_a_new_run_is_not_to_be_cancelled(created: PipelineRun) -> None:
    wish = (created.cancel_requested_at, created.cancel_cause, created.cancel_reason)
    assert wish == (None, None, None)


# -- request_cancel -------------------------------------------------------------------------------


@active
def test_p23_a_wish_to_end_is_stored_with_its_cause_and_reason(
    store: Store, created: PipelineRun, status: PipelineRunStatus
) -> None:
    run = at(store, created, status)
    store.move_time(HOUR)

    asked = ask_to_end(store, run, "wrong input")

    assert close_to(asked.cancel_requested_at, now_of(store))
    assert (asked.cancel_cause, asked.cancel_reason) == (CancelCause.USER, "wrong input")
    assert asked == read(store, run)
    [told] = store.runs.active([run.id], workbench=WORKBENCH).runs
    assert told == asked


@active
def test_p1_a_wish_to_end_changes_nothing_else(
    store: Store, created: PipelineRun, status: PipelineRunStatus
) -> None:
    run = at(store, created, status)
    history = store.runs.history(run.id, tenant_id=TENANT)
    store.move_time(HOUR)

    asked = ask_to_end(store, run)

    assert (asked.version, asked.status, asked.updated_at) == (
        run.version,
        run.status,
        run.updated_at,
    )
    assert store.runs.history(run.id, tenant_id=TENANT) == history


def test_a_reason_may_be_left_out(store: Store, created: PipelineRun) -> None:
    asked = ask_to_end(store, created, None)
    assert (asked.cancel_cause, asked.cancel_reason) == (CancelCause.USER, None)
    assert asked.cancel_requested_at


def test_p5_a_wish_is_not_older_than_the_runs_last_change(
    store: Store, created: PipelineRun
) -> None:
    run = submit(store, created)
    store.move_time(-HOUR)
    assert ask_to_end(store, run).cancel_requested_at == run.updated_at


def test_p23_to_ask_again_is_the_same_as_once(store: Store, created: PipelineRun) -> None:
    asked = ask_to_end(store, created, "first")
    store.move_time(HOUR)

    assert ask_to_end(store, created, "second") == asked
    assert store.another().request_cancel(created.id, tenant_id=TENANT, reason=None).run == asked


def test_p23_a_user_who_asks_after_the_time_out_changes_nothing(
    store: Store, pipeline: Pipeline
) -> None:
    run = submitted(store, pipeline, timeout_seconds=SHORTEST)
    store.move_time(MINUTE)
    store.runs.time_out([run.id])
    timed_out = read(store, run)

    assert ask_to_end(store, run) == timed_out
    assert timed_out.cancel_cause is CancelCause.TIMEOUT


@ended
def test_p3_p23_an_ended_run_is_told_as_it_is(
    store: Store, created: PipelineRun, status: PipelineRunStatus
) -> None:
    run = at(store, created, status)

    assert ask_to_end(store, run) == run
    assert read(store, run) == run


@ended
def test_p23_a_run_keeps_the_wish_that_it_ended_by(
    store: Store, created: PipelineRun, status: PipelineRunStatus
) -> None:
    asked = ask_to_end(store, submit(store, created), "no need")

    run = moved(store, asked, status)

    assert run.cancel_requested_at == asked.cancel_requested_at
    assert (run.cancel_cause, run.cancel_reason) == (CancelCause.USER, "no need")
    assert ask_to_end(store, run, "again") == run


def test_p23_what_was_decided_before_the_wish_still_holds(
    store: Store, created: PipelineRun
) -> None:
    run = submit(store, created)
    change = transition(run, S.RUNNING)
    assert change
    asked = ask_to_end(store, run)

    assert len(store.runs.move([change])) == 1

    assert read(store, run).cancel_requested_at == asked.cancel_requested_at


def test_p29_another_tenants_run_cannot_be_cancelled(store: Store, created: PipelineRun) -> None:
    for run_id, tenant_id in ((created.id, "other"), (NOWHERE, TENANT)):
        with pytest.raises(RunNotFound):
            store.runs.request_cancel(run_id, tenant_id=tenant_id, reason=None)
    assert read(store, created) == created


def test_f36_a_wish_for_a_locked_run_is_not_lost_silently(
    store: Store, created: PipelineRun
) -> None:
    with store.locked(created.id), pytest.raises(DatabaseUnavailable):
        ask_to_end(store, created)
    assert read(store, created) == created


def test_f36_a_wish_that_is_stored_already_does_not_wait_for_a_locked_run(
    store: Store, pipeline: Pipeline
) -> None:
    asked = ask_to_end(store, record(store, pipeline))
    over = moved(store, record(store, pipeline), S.CANCELLED)

    for run in (asked, over):
        with store.locked(run.id):
            assert ask_to_end(store, run) == run


# -- the submit lease after a cancel --------------------------------------------------------------


def test_p25_nobody_may_begin_to_submit_a_run_that_is_to_be_cancelled(
    store: Store, created: PipelineRun
) -> None:
    asked = ask_to_end(store, created)

    for run in (created, asked):
        assert not store.runs.take_submit_lease(run, LEASE)

    assert read(store, created) == asked
    assert asked.submit_attempts == 0


def test_p25_a_submission_that_was_tried_is_found_out_about_in_spite_of_the_wish(
    store: Store, pipeline: Pipeline
) -> None:
    run = record(store, pipeline, lease=LEASE)
    asked = ask_to_end(store, run)
    assert asked.submit_attempts == 1
    assert not store.runs.take_submit_lease(asked, LEASE)

    store.move_time(LEASE)

    assert store.runs.take_submit_lease(asked, LEASE)
    assert read(store, run).submit_attempts == 2


# -- time_out -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [S.SUBMITTED, S.RUNNING])
def test_p32_a_run_has_to_end_once_its_time_is_over(
    store: Store, pipeline: Pipeline, status: PipelineRunStatus
) -> None:
    run = at(store, record(store, pipeline, timeout_seconds=SHORTEST), status)
    store.move_time(MINUTE / 2)
    store.runs.time_out([run.id])
    assert read(store, run) == run

    store.move_time(MINUTE / 2)
    store.runs.time_out([run.id])

    late = read(store, run)
    assert close_to(late.cancel_requested_at, now_of(store))
    assert (late.cancel_cause, late.cancel_reason) == (CancelCause.TIMEOUT, None)
    assert (late.version, late.status) == (run.version, status)


def test_p31_p32_a_realtime_run_has_to_end_in_time_too(store: Store) -> None:
    pipeline = make_pipeline(store, mode=PipelineMode.REALTIME)
    run = moved(store, record(store, pipeline, timeout_seconds=SHORTEST), S.SUBMITTED)
    store.move_time(MINUTE)

    store.runs.time_out([run.id])

    assert read(store, run).cancel_cause is CancelCause.TIMEOUT


def test_p32_the_time_is_counted_from_the_jobs_submission(store: Store, pipeline: Pipeline) -> None:
    run = record(store, pipeline, timeout_seconds=SHORTEST)
    store.move_time(DAY)
    store.runs.time_out([run.id])
    assert read(store, run) == run

    run = submit(store, run)
    store.runs.time_out([run.id])
    assert read(store, run) == run


@ended
def test_p3_p32_an_ended_run_does_not_time_out(
    store: Store, pipeline: Pipeline, status: PipelineRunStatus
) -> None:
    run = at(store, record(store, pipeline, timeout_seconds=SHORTEST), status)
    store.move_time(DAY)

    store.runs.time_out([run.id])

    assert read(store, run) == run


def test_p32_a_users_wish_is_left_alone(store: Store, pipeline: Pipeline) -> None:
    asked = ask_to_end(store, submitted(store, pipeline, timeout_seconds=SHORTEST))
    store.move_time(DAY)

    store.runs.time_out([asked.id])

    assert read(store, asked) == asked


def test_p32_a_run_times_out_once(store: Store, pipeline: Pipeline) -> None:
    run = submitted(store, pipeline, timeout_seconds=SHORTEST)
    store.move_time(MINUTE)
    store.runs.time_out([run.id])
    late = read(store, run)

    store.move_time(HOUR)
    store.runs.time_out([run.id, run.id])

    assert read(store, run) == late


def test_p5_a_time_out_is_not_older_than_the_runs_last_change(
    store: Store, pipeline: Pipeline
) -> None:
    run = submitted(store, pipeline, timeout_seconds=SHORTEST)
    store.move_time(2 * HOUR)
    run = moved(store, run, S.RUNNING)
    store.move_time(-HOUR)

    store.runs.time_out([run.id])

    assert read(store, run).cancel_requested_at == run.updated_at


def test_p32_only_runs_whose_time_is_over_are_timed_out_of_any_tenant(
    store: Store, pipeline: Pipeline
) -> None:
    theirs = make_pipeline(store, tenant_id="other")
    short = [submitted(store, of, timeout_seconds=SHORTEST) for of in (pipeline, theirs)]
    others = [submitted(store, pipeline), record(store, pipeline)]
    unnamed = submitted(store, pipeline, timeout_seconds=SHORTEST)
    store.move_time(HOUR)

    store.runs.time_out([NOWHERE, *(run.id for run in [*others, *short])])
    store.runs.time_out([])

    assert [read(store, run).cancel_cause for run in short] == [CancelCause.TIMEOUT] * 2
    assert [read(store, run) for run in [*others, unnamed]] == [*others, unnamed]


def test_f36_a_locked_run_is_timed_out_later_and_holds_no_other_up(
    store: Store, pipeline: Pipeline
) -> None:
    held, free = (submitted(store, pipeline, timeout_seconds=SHORTEST) for _ in range(2))
    store.move_time(HOUR)

    with store.locked(held.id):
        store.another().time_out([held.id, free.id])
        assert read(store, free).cancel_cause is CancelCause.TIMEOUT
        assert read(store, held) == held

    store.runs.time_out([held.id])
    assert read(store, held).cancel_cause is CancelCause.TIMEOUT


# -- pressing, is_alone ---------------------------------------------------------------------------


def pressing(store: Store, *runs: PipelineRun, outage: timedelta = DAY) -> list[int]:
    return list(store.runs.pressing([run.id for run in runs], outage=outage))


def test_p32_runs_without_a_job_or_to_be_cancelled_are_pressing(
    store: Store, pipeline: Pipeline
) -> None:
    no_job, with_job = record(store, pipeline), submitted(store, pipeline)
    to_cancel = ask_to_end(store, submitted(store, pipeline))
    unnamed = record(store, pipeline)

    named = (to_cancel, with_job, no_job)

    assert pressing(store, *named) == [no_job.id, to_cancel.id]
    assert unnamed.id not in pressing(store, *named)


def test_p32_a_run_whose_time_out_is_long_over_is_pressing(
    store: Store, pipeline: Pipeline
) -> None:
    run = submitted(store, pipeline, timeout_seconds=SHORTEST)
    store.move_time(HOUR)
    assert pressing(store, run, outage=HOUR) == []

    store.move_time(MINUTE)

    assert pressing(store, run, outage=HOUR) == [run.id]


def test_unknown_runs_are_not_pressing(store: Store, created: PipelineRun) -> None:
    assert list(store.runs.pressing([NOWHERE, created.id], outage=DAY)) == [created.id]
    assert list(store.runs.pressing([NOWHERE], outage=DAY)) == []
    assert list(store.runs.pressing([], outage=DAY)) == []


def test_p17_a_run_is_alone_while_no_other_has_a_job_under_way(
    store: Store, pipeline: Pipeline
) -> None:
    run = submitted(store, pipeline)
    record(store, pipeline)
    at(store, record(store, pipeline), S.COMPLETED)
    assert store.runs.is_alone(run.id)
    assert store.runs.is_alone(NOWHERE) is False

    other = submitted(store, make_pipeline(store, tenant_id="other"))

    assert not store.runs.is_alone(run.id)
    moved(store, other, S.CANCELLED)
    assert store.runs.is_alone(run.id)


# -- jobs that the Workbench doesn't know ---------------------------------------------------------


def unknown(store: Store, run: PipelineRun) -> tuple[object, int]:
    """Since when, and how often, the Workbench hasn't known the job."""
    seen = read(store, run).observation
    return seen.unknown_since, seen.unknown_count


def test_p17_a_job_is_unknown_since_the_first_such_answer(
    store: Store, created: PipelineRun
) -> None:
    run = submit(store, created)
    assert unknown(store, run) == (None, 0)

    trouble(store, [run], unknown_job=True)
    since = read(store, run).observation.unknown_since
    assert close_to(since, now_of(store))
    assert unknown(store, run) == (since, 1)

    store.move_time(HOUR)
    trouble(store, [run], unknown_job=True)
    assert unknown(store, run) == (since, 2)
    assert read(store, run).observation.consecutive_failures == 2


def test_p17_other_trouble_neither_counts_nor_ends_it(store: Store, created: PipelineRun) -> None:
    run = submit(store, created)
    trouble(store, [run])
    assert unknown(store, run) == (None, 0)

    store.move_time(HOUR)
    trouble(store, [run], unknown_job=True)
    since = read(store, run).observation.unknown_since
    assert close_to(since, now_of(store))

    store.move_time(HOUR)
    trouble(store, [run])
    assert unknown(store, run) == (since, 1)
    trouble(store, [run], unknown_job=True)
    assert unknown(store, run) == (since, 2)
    assert read(store, run).observation.consecutive_failures == 4


def test_p17_an_unknown_word_about_the_job_ends_it(store: Store, created: PipelineRun) -> None:
    run = submit(store, created)
    trouble(store, [run], unknown_job=True)
    known = Finding(run_id=run.id, trouble="unknown status", upstream_status="WARMING")
    store.runs.observe([known])
    assert unknown(store, run) == (None, 0)


def test_p17_a_valid_answer_ends_it_and_then_it_begins_anew(
    store: Store, created: PipelineRun
) -> None:
    run = submit(store, created)
    trouble(store, [run], unknown_job=True)
    trouble(store, [run], unknown_job=True)

    store.runs.observe([Finding(run_id=run.id, upstream_status="RUNNING")])
    assert unknown(store, run) == (None, 0)

    store.move_time(HOUR)
    trouble(store, [run], unknown_job=True)
    assert close_to(read(store, run).observation.unknown_since, now_of(store))
    assert read(store, run).observation.unknown_count == 1
    [told] = store.runs.active([run.id], workbench=WORKBENCH).runs
    assert told.observation.unknown_count == 1


def test_p18_of_runs_observed_at_once_each_has_its_own_count(
    store: Store, pipeline: Pipeline
) -> None:
    gone, slow, well = (submitted(store, pipeline) for _ in range(3))
    for _ in range(2):
        store.runs.observe(
            [
                Finding(run_id=well.id, upstream_status="RUNNING"),
                Finding(run_id=gone.id, trouble="404", unknown_job=True),
                Finding(run_id=slow.id, trouble="time-out"),
            ]
        )
    assert [unknown(store, run)[1] for run in (gone, slow, well)] == [2, 0, 0]
    assert [unknown(store, run)[0] is None for run in (gone, slow, well)] == [False, True, True]
