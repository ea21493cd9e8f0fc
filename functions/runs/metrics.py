"""What the service tells of itself in figures: their names, as alarms and the dashboard have them.

`docs/operations.md` says what each means and what to do about it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

NAMESPACE: Final = "PipelineRuns"

_COUNT: Final = "Count"
_SECONDS: Final = "Seconds"


class Metric(Enum):
    """A figure's name and CloudWatch's word for its unit."""

    # The API
    REQUEST_TIME = ("RequestTime", _SECONDS)
    SERVER_ERRORS = (
        "ServerErrors",
        _COUNT,
    )  # Answers of 500 and above, but for failed submissions.
    SUBMIT_TIME = ("SubmitTime", _SECONDS)  # By outcome: submitted, unknown, failed.

    # The tick
    TICKS = ("Ticks", _COUNT)
    TICK_LAG = ("TickLag", _SECONDS)  # From when the wave was due.
    SHARDS_CLAIMED = ("ShardsClaimed", _COUNT)
    CHECKS_DUE = ("ChecksDue", _COUNT)  # Runs.
    MESSAGES_UNSENT = ("MessagesUnsent", _COUNT)

    # The check
    CHECKS = ("Checks", _COUNT)  # Runs that were looked at.
    CHECKS_TROUBLED = ("ChecksTroubled", _COUNT)  # Without a valid answer.
    CHECKS_LEFT = ("ChecksLeft", _COUNT)  # No time for them; the next sweep asks again.
    CHECK_RETRIES = ("CheckRetries", _COUNT)  # Tries that were planned within the interval.
    CHECK_TIME = ("CheckTime", _SECONDS)  # A batch: its runs are asked about side by side.
    MESSAGES_UNREADABLE = ("MessagesUnreadable", _COUNT)  # Each of a message's three receives.
    DUPLICATES_FOUND = ("DuplicatesFound", _COUNT)  # A job that is another run's, or no run's.

    # Whoever changes a run
    RUNS_ENTERED = ("RunsEntered", _COUNT)  # By status.

    # The survey, once a minute
    ACTIVE_RUNS = ("ActiveRuns", _COUNT)  # By status.
    RUNS_IN_TROUBLE = ("RunsInTrouble", _COUNT)
    STALENESS_P50 = ("StalenessP50", _SECONDS)
    STALENESS_P99 = ("StalenessP99", _SECONDS)
    STALENESS_MAX = ("StalenessMax", _SECONDS)
    UNPUBLISHED_EVENT_AGE = ("UnpublishedEventAge", _SECONDS)
    BREAKER_OPEN = ("BreakerOpen", _COUNT)  # 1: runs wait for a Workbench that is spared; else 0.

    # The purge
    RUNS_PURGED = ("RunsPurged", _COUNT)

    def __init__(self, title: str, unit: str) -> None:
        """See the class."""
        self.title = title
        self.unit = unit
