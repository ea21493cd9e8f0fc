"""The status diagram, whole."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.status import ACTIVE, RANK, TERMINAL, TRANSITIONS, PipelineRunStatus, walk

S = PipelineRunStatus
EDGES = {
    (S.CREATED, S.SUBMITTED),
    (S.CREATED, S.FAILED),
    (S.CREATED, S.CANCELLED),
    (S.SUBMITTED, S.RUNNING),
    (S.SUBMITTED, S.FAILED),
    (S.SUBMITTED, S.CANCELLED),
    (S.RUNNING, S.COMPLETED),
    (S.RUNNING, S.FAILED),
    (S.RUNNING, S.CANCELLED),
}
"""By `properties.md`: the original's, and the two of a user who cancels early."""

WALKS: dict[PipelineRunStatus, dict[PipelineRunStatus, tuple[PipelineRunStatus, ...] | None]] = {
    S.CREATED: {
        S.CREATED: (),
        S.SUBMITTED: (S.SUBMITTED,),
        S.RUNNING: (S.SUBMITTED, S.RUNNING),
        S.COMPLETED: (S.SUBMITTED, S.RUNNING, S.COMPLETED),
        S.FAILED: (S.FAILED,),
        S.CANCELLED: (S.CANCELLED,),
    },
    S.SUBMITTED: {
        S.CREATED: None,
        S.SUBMITTED: (),
        S.RUNNING: (S.RUNNING,),
        S.COMPLETED: (S.RUNNING, S.COMPLETED),
        S.FAILED: (S.FAILED,),
        S.CANCELLED: (S.CANCELLED,),
    },
    S.RUNNING: {
        S.CREATED: None,
        S.SUBMITTED: None,
        S.RUNNING: (),
        S.COMPLETED: (S.COMPLETED,),
        S.FAILED: (S.FAILED,),
        S.CANCELLED: (S.CANCELLED,),
    },
    **{end: dict.fromkeys(S, None) | {end: ()} for end in (S.COMPLETED, S.FAILED, S.CANCELLED)},
}
"""Worked out by hand."""


def test_p1_the_table_has_exactly_the_legal_edges() -> None:
    table = {(start, end) for start, ends in TRANSITIONS.items() for end in ends}
    assert table == EDGES


def test_p3_nothing_leads_out_of_a_terminal_status() -> None:
    assert {S.COMPLETED, S.FAILED, S.CANCELLED} == TERMINAL
    assert {S.CREATED, S.SUBMITTED, S.RUNNING} == ACTIVE
    assert not any(TRANSITIONS[status] for status in TERMINAL)


@pytest.mark.parametrize("start", S)
@pytest.mark.parametrize("end", S)
def test_p1_the_walk_between_any_two_statuses(
    start: PipelineRunStatus, end: PipelineRunStatus
) -> None:
    assert walk(start, end) == WALKS[start][end]


@given(st.sampled_from(S), st.sampled_from(S))
def test_p1_p2_a_walk_takes_legal_edges_forward_and_ends_where_it_should(
    start: PipelineRunStatus, end: PipelineRunStatus
) -> None:
    way = walk(start, end)
    if way is None:
        assert start in TERMINAL or RANK[end] < RANK[start]
        return
    steps = list(pairwise((start, *way)))
    assert all(step in EDGES for step in steps)
    assert all(RANK[before] < RANK[after] for before, after in steps)
    assert (start, *way)[-1] is end
