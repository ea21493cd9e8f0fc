"""The rules that are judged by, restated: statuses, edges, the Workbench's words, the numbers."""

from __future__ import annotations

from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TERMINAL: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})

EDGES: Final[Mapping[str | None, frozenset[str]]] = MappingProxyType(
    {
        None: frozenset({"CREATED"}),
        "CREATED": frozenset({"SUBMITTED", "FAILED", "CANCELLED"}),
        "SUBMITTED": frozenset({"RUNNING", "FAILED", "CANCELLED"}),
        "RUNNING": frozenset({"COMPLETED", "FAILED", "CANCELLED"}),
    }
)
"""Where a run may go; None is before its first event."""

RANK: Final[Mapping[str, int]] = MappingProxyType(
    {"CREATED": 0, "SUBMITTED": 1, "RUNNING": 2} | dict.fromkeys(TERMINAL, 3)
)

WORDS: Final[Mapping[str, str]] = MappingProxyType(
    dict.fromkeys(
        ("SUBMITTED", "QUEUED", "PENDING", "ACCEPTED", "RUNNABLE", "STARTING"), "SUBMITTED"
    )
    | dict.fromkeys(("RUNNING", "IN_PROGRESS", "PROCESSING"), "RUNNING")
    | dict.fromkeys(("COMPLETED", "SUCCEEDED", "SUCCESS", "DONE"), "COMPLETED")
    | dict.fromkeys(("FAILED", "ERROR", "FAILURE"), "FAILED")
    | dict.fromkeys(("CANCELLED", "CANCELED", "ABORTED", "STOPPED"), "CANCELLED")
)
"""The Workbench's words for our statuses, in capitals."""

CATEGORIES: Final = frozenset({"USER", "UPSTREAM", "PLATFORM", "TIMEOUT", "LOST"})
GIVEN_UP: Final = frozenset({"TIMEOUT", "LOST"})
"""The categories of a run that ended without its job's word."""

SUBMISSION_FAILURES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "conductor_unreachable": frozenset({"BATCH", "REALTIME"}),
        "workflow_refused": frozenset({"BATCH", "REALTIME"}),
        "workbench_answer_invalid": frozenset({"BATCH", "REALTIME"}),
        "workbench_refused": frozenset({"BATCH", "REALTIME"}),
        "workbench_failed": frozenset({"BATCH", "REALTIME"}),
        "workbench_answer_lost": frozenset({"REALTIME"}),
        "submission_lost": frozenset({"BATCH", "REALTIME"}),
        "cancel_unconfirmed": frozenset({"BATCH", "REALTIME"}),
        "copied": frozenset({"BATCH", "REALTIME"}),
    }
)
"""The error codes that a run may fail with before it is SUBMITTED, and in which mode."""

SHARDS: Final = 256
SUBMIT_DEADLINE: Final = timedelta(seconds=300)
CANCEL_DEADLINE: Final = timedelta(minutes=15)
LOSS_AFTER: Final = timedelta(minutes=15)
LOSS_ANSWERS: Final = 5
LONGEST_BACK_OFF: Final = timedelta(minutes=15)
CLAIM_SLACK: Final = timedelta(seconds=15)
"""What a sweep, and so a check, may be late by."""
KEPT_AT_LEAST: Final = timedelta(days=1)
"""Nobody can have runs purged any sooner after their end."""
RELAY_WITHIN: Final = timedelta(minutes=2)
"""An event is left to its writer for 10 s, then to the next relay, which runs each minute."""
MOST_ASKS: Final = 3
"""Of the Workbench about one job, in one poll interval."""


def status_of(word: object) -> str | None:
    """Our status for what the Workbench says; None: unknown."""
    return WORDS.get(word.strip().upper()) if isinstance(word, str) else None
