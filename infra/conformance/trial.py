"""What the rules share: a few jobs, made when a rule first needs them, and looks at them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from infra.conformance.rules import NotSeen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.conformance.wire import Exchange, Wire

JOB_ID: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._:-]{1,255}\Z")
BUSY: Final = frozenset({429, 503})
NOBODYS_JOB: Final = "job-of-nobody"
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 2.0
LONGEST_WAIT_SECONDS: Final = 30.0
PAUSE_GROWTH: Final = 1.5
MOST_TROUBLES: Final = 4
"""Looks one after another without a status, before a job is given up."""

OK: Final = 200
SUBMITTED, RUNNING, COMPLETED, FAILED, CANCELLED = range(5)
MEANINGS: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        ["SUBMITTED", "QUEUED", "PENDING", "ACCEPTED", "RUNNABLE", "STARTING"], SUBMITTED
    ),
    **dict.fromkeys(["RUNNING", "IN_PROGRESS", "PROCESSING"], RUNNING),
    **dict.fromkeys(["COMPLETED", "SUCCEEDED", "SUCCESS", "DONE"], COMPLETED),
    **dict.fromkeys(["FAILED", "ERROR", "FAILURE"], FAILED),
    **dict.fromkeys(["CANCELLED", "CANCELED", "ABORTED", "STOPPED"], CANCELLED),
}
"""The contract's words."""


class Run(IntEnum):
    """The runs we pretend to have; each is a submission of its own, under a key of its own."""

    FIRST = 1
    AS_CONDUCTOR_SENDS = 2
    BARE = 3
    FULL = 4
    WITHOUT_KEY = 5
    WRONG = 6
    WITHOUT_TOKEN = 7
    AT_ONCE = 8
    TO_CANCEL = 9
    TO_FAIL = 10
    REALTIME = 11


@dataclass(frozen=True, kw_only=True)
class Prefixes:
    """Where the jobs read and write."""

    input: str
    output: str
    report: str


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long is waited, in seconds.

    Attributes:
        answer: For one answer; the service gives up then.
        realtime_answer: The same, of a realtime run.
        job: For a job's end.
    """

    answer: float = 8
    realtime_answer: float = 60
    job: float = 300


@dataclass
class Trial:
    """One Workbench on trial.

    Attributes:
        namespace: Makes our keys ours.
        parameters: What each job is given.
        has_token: Whether calls carry a token.
        submissions_accepted: The jobs made so far, and the runs that they were answered to.
    """

    wire: Wire
    namespace: str
    prefixes: Prefixes
    patience: Patience
    parameters: Mapping[str, Any] | None = None
    has_token: bool = False
    submissions_accepted: dict[str, set[Run]] = field(default_factory=dict)
    _ended: set[str] = field(default_factory=set)

    # -- calls ------------------------------------------------------------------------------------

    def key_of(self, run: Run) -> str:
        """Its idempotency key."""
        return f"{self.namespace}-{run.value}"

    def body_of(self, run: Run, **fields: Any) -> dict[str, Any]:
        """What the service's workflow would send."""
        return {
            "pipeline_run_id": run.value,
            "input_path_prefix": self.prefixes.input,
            "output_path_prefix": f"{self.prefixes.output}/{run.name.lower()}",
            "report_path_prefix": None,
            "parameters": dict(self.parameters) if self.parameters else None,
        } | fields

    def submit(self, run: Run, *, with_key: bool = True, **call: Any) -> Exchange:
        """Submits a job; `call` is more of `Wire.call`'s, as a body in place of the usual one."""
        headers = [("Idempotency-Key", self.key_of(run))] if with_key else []
        if "body" not in call and "content" not in call:
            call["body"] = self.body_of(run)
        call["headers"] = [*headers, *call.get("headers", [])]
        exchange = self.wire.call("POST", "/batch/submit", **call)
        job_id = named_job(exchange)
        if job_id is not None:
            self.submissions_accepted.setdefault(job_id, set()).add(run)
        return exchange

    def look(self, job_id: str) -> Exchange:
        """Asks for a job's status."""
        exchange = self.wire.call("GET", f"/batch/status/{job_id}")
        if (meaning_in(exchange) or SUBMITTED) >= COMPLETED:
            self._ended.add(job_id)
        return exchange

    def cancel(self, job_id: str) -> Exchange:
        """Asks a job of ours, or nobody's, to end."""
        return self.wire.call("POST", f"/batch/cancel/{job_id}", body={})

    def looks_until_the_end(self, job_id: str) -> list[Exchange]:
        """Looks at a job until it has ended, or the patience has."""
        deadline = time.monotonic() + self.patience.job
        pause, troubles, looks = FIRST_PAUSE_SECONDS, 0, [self.look(job_id)]
        while job_id not in self._ended and time.monotonic() < deadline:
            troubles = troubles + 1 if word_in(looks[-1]) is None else 0
            if troubles == MOST_TROUBLES:
                break
            time.sleep(max(pause, _asked_to_wait(looks[-1])))
            pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE_SECONDS)
            looks.append(self.look(job_id))
        return looks

    def look_at_all(self, job_ids: Sequence[str]) -> Exchange:
        """Asks for the statuses of several jobs at once."""
        body = {"workbench_job_ids": list(job_ids)}
        return self.wire.call("POST", "/batch/status", body=body)

    def find(self, key: str) -> Exchange:
        """Asks for the jobs of a key."""
        return self.wire.call("GET", "/batch/jobs", query={"idempotency_key": key})

    def clear_up(self) -> None:
        """Has those of our jobs end that go on, as far as the Workbench lets us."""
        for job_id in self.submissions_accepted.keys() - self._ended:
            self.cancel(job_id)

    @cached_property
    def capabilities(self) -> Mapping[str, Any]:
        """What it says it offers; nothing, where it doesn't know the question."""
        exchange = self.wire.call("GET", "/batch/capabilities")
        return exchange.object() if exchange.status == OK else {}

    # -- the first job ----------------------------------------------------------------------------

    @cached_property
    def first_submission(self) -> Exchange:
        """The answer to it."""
        return self.submit(Run.FIRST)

    @property
    def first_job(self) -> str:
        """Its id.

        Raises:
            NotSeen: nobody can ask for such a job.
        """
        job_id = named_job(self.first_submission)
        if job_id is None:
            raise NotSeen("the first submission brought no job that can be asked for")
        return job_id

    @cached_property
    def first_looks(self) -> Sequence[Exchange]:
        """Looks at it until its end."""
        return self.looks_until_the_end(self.first_job)

    @property
    def first_statuses(self) -> list[str]:
        """The words told of it, in order, beginning with its submission's."""
        exchanges = (self.first_submission, *self.first_looks)
        return [word for one in exchanges if (word := word_in(one)) is not None]

    @property
    def first_end(self) -> Exchange:
        """The look that saw it ended.

        Raises:
            NotSeen: none did.
        """
        last = self.first_looks[-1]
        if (meaning_in(last) or SUBMITTED) < COMPLETED:
            raise NotSeen("no job was seen to end")
        return last


def _asked_to_wait(exchange: Exchange) -> float:
    """The seconds of a Retry-After, as far as there is a sense in waiting for them."""
    text = exchange.headers.get("retry-after", "")
    return min(float(text), LONGEST_WAIT_SECONDS) if text.isascii() and text.isdigit() else 0


def named_job(exchange: Exchange) -> str | None:
    """The job that an answer to a submission names, if it can be asked for."""
    try:
        named = exchange.object().get("workbench_job_id") if exchange.is_good else None
    except NotSeen:
        return None
    return named if isinstance(named, str) and JOB_ID.match(named) else None


def jobs_in(exchange: Exchange) -> list[str]:
    """The jobs that an answer lists."""
    listed = exchange.object().get("jobs") if exchange.status == OK else None
    jobs = listed if isinstance(listed, list) else []
    return [str(job.get("workbench_job_id")) for job in jobs if isinstance(job, dict)]


def word_in(exchange: Exchange) -> str | None:
    """The status that an answer tells."""
    try:
        word = exchange.object().get("status") if exchange.is_good else None
    except NotSeen:
        return None
    return word if isinstance(word, str) else None


def meaning_in(exchange: Exchange) -> int | None:
    """What that word means; None: there is none, or nobody knows it."""
    return MEANINGS.get((word_in(exchange) or "").upper())


def step_back(words: Sequence[str]) -> tuple[str, str] | None:
    """The first two words, one after the other, of which the second means an earlier status."""
    known = [word for word in words if word.upper() in MEANINGS]
    for before, after in pairwise(known):
        was, became = MEANINGS[before.upper()], MEANINGS[after.upper()]
        if became < was or (was >= COMPLETED and became != was):
            return before, after
    return None
