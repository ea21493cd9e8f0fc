"""The statuses of a run and the edges between them, as data."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class PipelineMode(StrEnum):
    """How a pipeline is executed."""

    BATCH = "BATCH"
    """By the Workbench, as a job that is watched."""
    REALTIME = "REALTIME"
    """At once, by its workflow alone."""


class PipelineRunStatus(StrEnum):
    """Where a run stands."""

    CREATED = "CREATED"
    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


_S = PipelineRunStatus

TRANSITIONS: Final[Mapping[PipelineRunStatus, frozenset[PipelineRunStatus]]] = MappingProxyType(
    {
        _S.CREATED: frozenset({_S.SUBMITTED, _S.FAILED, _S.CANCELLED}),
        _S.SUBMITTED: frozenset({_S.RUNNING, _S.FAILED, _S.CANCELLED}),
        _S.RUNNING: frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED}),
        _S.COMPLETED: frozenset(),
        _S.FAILED: frozenset(),
        _S.CANCELLED: frozenset(),
    }
)
"""The status diagram of the original design, and the two edges a user needs who cancels early."""

TERMINAL: Final = frozenset(status for status, onward in TRANSITIONS.items() if not onward)
ACTIVE: Final = frozenset(TRANSITIONS) - TERMINAL

RANK: Final[Mapping[PipelineRunStatus, int]] = MappingProxyType(
    {_S.CREATED: 0, _S.SUBMITTED: 1, _S.RUNNING: 2} | dict.fromkeys(TERMINAL, 3)
)
"""A run's rank never decreases."""


def walk(start: PipelineRunStatus, end: PipelineRunStatus) -> tuple[PipelineRunStatus, ...] | None:
    """The fewest legal steps from start to end, start left out; None if there is no way.

    A job that ended between two checks takes its run over the statuses in between:
    `walk(SUBMITTED, COMPLETED) == (RUNNING, COMPLETED)`.
    """
    ways: list[tuple[PipelineRunStatus, ...]] = [()]
    for way in ways:
        at = way[-1] if way else start
        if at is end:
            return way
        ways.extend((*way, step) for step in sorted(TRANSITIONS[at], key=RANK.__getitem__))
    return None
