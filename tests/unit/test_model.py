"""The gate that every status change goes through, and text from outside."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.errors import IllegalTransition
from runs.model import (
    JOB_ID,
    UPSTREAM_STATUSES,
    ErrorCategory,
    PipelineRun,
    RunError,
    clean,
    clean_json,
    transition,
)
from runs.status import ACTIVE, TERMINAL, PipelineMode, PipelineRunStatus

S = PipelineRunStatus
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ERROR = RunError("job_failed", ErrorCategory.UPSTREAM, "out of memory")
RUN = PipelineRun(
    id=7,
    tenant_id="default",
    pipeline_id=1,
    mode=PipelineMode.BATCH,
    status=S.CREATED,
    version=1,
    workflow_name="w",
    workflow_version=None,
    correlation_id="n-7",
    workbench_job_id=None,
    conductor_workflow_id=None,
    error=None,
    user_storage_input_path_prefix="in",
    user_storage_output_path_prefix="out",
    user_storage_report_path_prefix=None,
    parameters=None,
    tags={},
    retry_of=None,
    request_id=None,
    output=None,
    created_at=NOON,
    updated_at=NOON,
    started_at=None,
    completed_at=None,
    timeout_seconds=3600,
    cancel_requested_at=None,
    cancel_cause=None,
    cancel_reason=None,
    submit_lease_until=None,
    submit_attempts=0,
    next_check_at=None,
)


def error_for(to: PipelineRunStatus) -> RunError | None:
    return ERROR if to is S.FAILED else None


# -- the gate -------------------------------------------------------------------------------------


def test_p1_a_transition_names_the_row_as_it_was_seen_and_the_whole_walk() -> None:
    run = replace(RUN, status=S.SUBMITTED, version=2, workbench_job_id="job-1")

    change = transition(run, S.COMPLETED)

    assert change
    assert (change.run_id, change.seen_version, change.seen_status) == (7, 2, S.SUBMITTED)
    assert change.path == (S.RUNNING, S.COMPLETED)


@pytest.mark.parametrize("status", S)
def test_p19_the_same_status_again_is_no_transition(status: PipelineRunStatus) -> None:
    assert transition(replace(RUN, status=status), status, error=error_for(status)) is None


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (S.SUBMITTED, S.CREATED),
        (S.RUNNING, S.CREATED),
        (S.RUNNING, S.SUBMITTED),
        *((start, end) for start in TERMINAL for end in S if start is not end),
    ],
)
def test_p1_p2_p3_a_way_back_or_out_of_the_end_is_refused(
    start: PipelineRunStatus, end: PipelineRunStatus
) -> None:
    with pytest.raises(IllegalTransition, match=f"from {start} to {end}"):
        transition(replace(RUN, status=start), end, error=error_for(end))


@pytest.mark.parametrize("job_id", ["job-1", "job-2"])
def test_p10_a_job_id_is_given_once(job_id: str) -> None:
    run = replace(RUN, status=S.SUBMITTED, workbench_job_id="job-1")
    with pytest.raises(IllegalTransition):
        transition(run, S.RUNNING, workbench_job_id=job_id)


@pytest.mark.parametrize("start", sorted(ACTIVE))
def test_p6_failed_needs_an_error(start: PipelineRunStatus) -> None:
    with pytest.raises(IllegalTransition):
        transition(replace(RUN, status=start), S.FAILED)


@pytest.mark.parametrize("end", [S.SUBMITTED, S.RUNNING, S.COMPLETED, S.CANCELLED])
def test_p6_nothing_but_failed_has_an_error(end: PipelineRunStatus) -> None:
    with pytest.raises(IllegalTransition):
        transition(RUN, end, error=ERROR)


# -- the Workbench's words ------------------------------------------------------------------------


def test_p22_the_words_that_the_contract_names_and_no_others() -> None:
    words = {
        S.SUBMITTED: "SUBMITTED QUEUED PENDING ACCEPTED RUNNABLE STARTING",
        S.RUNNING: "RUNNING IN_PROGRESS PROCESSING",
        S.COMPLETED: "COMPLETED SUCCEEDED SUCCESS DONE",
        S.FAILED: "FAILED ERROR FAILURE",
        S.CANCELLED: "CANCELLED CANCELED ABORTED STOPPED",
    }
    assert dict(UPSTREAM_STATUSES) == {
        word: status for status, listed in words.items() for word in listed.split()
    }


@pytest.mark.parametrize(
    "job_id", ["a", "7", "job-1", "a.b_c:d-e", "...", "A" * 255, ".hidden", "-", "0" * 255]
)
def test_a_job_id_that_is_safe_in_a_path_is_valid(job_id: str) -> None:
    assert JOB_ID.match(job_id)


@pytest.mark.parametrize(
    "job_id", ["", ".", "..", "../x", "a/b", "a b", "a\n", "ä", "a%2f", "A" * 256, "a?b", "a\0"]
)
def test_f10_any_other_job_id_is_not(job_id: str) -> None:
    assert not JOB_ID.match(job_id)


# -- text from outside ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "length", "cleaned"),
    [
        ("fine", 4, "fine"),
        ("", 4, ""),
        ("too long", 5, "too …"),
        ("a\0b", 5, "a\N{REPLACEMENT CHARACTER}b"),
        ("a\ud800b", 5, "a?b"),
        ("\N{GRINNING FACE}" * 3, 3, "\N{GRINNING FACE}" * 3),
        ("xy", 1, "…"),
    ],
)
def test_f40_text_is_made_fit_to_be_stored(text: str, length: int, cleaned: str) -> None:
    assert clean(text, length) == cleaned


@given(st.text(st.characters(codec=None), max_size=40), st.integers(1, 30))
def test_f24_f40_cleaned_text_can_be_stored_and_is_short_enough(text: str, length: int) -> None:
    cleaned = clean(text, length)
    assert "\0" not in cleaned
    assert len(cleaned.encode().decode()) <= length


def test_f40_json_is_cleaned_in_every_text_and_key() -> None:
    value = {"a\0": ["b\0", {"c": "\udfff"}, 1, 1.5, None, True], "fine": "fine"}
    assert clean_json(value) == {
        "a\N{REPLACEMENT CHARACTER}": [
            "b\N{REPLACEMENT CHARACTER}",
            {"c": "?"},
            1,
            1.5,
            None,
            True,
        ],
        "fine": "fine",
    }


# -- a run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "started_at", "never"),
    [
        (S.FAILED, None, True),
        (S.FAILED, NOON, False),
        (S.CANCELLED, None, False),
        (S.CREATED, None, False),
    ],
)
def test_a_run_that_failed_before_it_had_a_job_was_never_submitted(
    status: PipelineRunStatus, started_at: datetime | None, *, never: bool
) -> None:
    assert replace(RUN, status=status, started_at=started_at).never_submitted is never
