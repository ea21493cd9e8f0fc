"""Those who order runs, each run with a story; where the API is away they ask again."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import httpx

from scripted_workbench import (
    Answer,
    State,
    always,
    drop,
    execute_and_drop,
    html,
    late,
    not_found,
    retry_after,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from chain import Chain
    from scripted_workbench import Item

ASK_AGAIN_SECONDS: Final = 1.0
LOOK_AGAIN_SECONDS: Final = 3.0
PATIENCE_SECONDS: Final = 600.0
"""For one answer of the API, and beyond the longest outage that it is given."""
ENDS_WITHIN_SECONDS: Final = 1200.0
ANSWERS: Final = frozenset({"run_already_terminal", "run_not_terminal"})
"""The refusals that a story may meet; any other is the API being away."""
OUR_FAULT: Final = frozenset({400, 413, 415, 422})
SUBMIT_TROUBLE_CHANCE: Final = 0.25
SUBMIT_TROUBLES: Final[tuple[Item, ...]] = (
    execute_and_drop(),
    execute_and_drop(),
    drop(),
    late(9),
    Answer(503),
    Answer(500, "disk full"),
)


@dataclass(frozen=True, slots=True)
class Expected:
    """How a run that was submitted has to end, by its story."""

    story: str
    ends: frozenset[str]
    error_code: str | None = None


@dataclass
class Ledger:
    """What all customers have ordered and what it took."""

    expected: dict[int, Expected] = field(default_factory=dict)
    stories: Counter[str] = field(default_factory=Counter)
    asked_again: int = 0
    troubles: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Customer:
    """One customer, with one story."""

    chain: Chain
    chance: Random
    number: int
    pipelines: Mapping[str, int]
    ledger: Ledger
    story: str
    calls: int = 0

    def live(self) -> None:
        """The whole story; what goes wrong stands in the ledger."""
        try:
            STORIES[self.story](self)
        except Exception as error:  # noqa: BLE001 - a thread's edge: told at the end
            trouble = f"{self.story} {self.number}: {type(error).__name__}: {error}"
            self.ledger.troubles.append(trouble)

    def order(
        self, *ends: str, mode: str = "BATCH", error_code: str | None = None, **more: Any
    ) -> int | None:
        """Orders a run; returns its id, or None if it couldn't be submitted."""
        if self.chance.random() < SUBMIT_TROUBLE_CHANCE:
            self.chain.workbench.script(submit=[self.chance.choice(SUBMIT_TROUBLES)])
        body = {
            "pipeline_id": self.pipelines[mode],
            "input_path_prefix": f"in/{self.number}/",
            "output_path_prefix": f"out/{self.number}/",
            "tags": {"story": self.story},
        } | {key: value for key, value in more.items() if not key[0].isupper()}
        headers = {key: value for key, value in more.items() if key[0].isupper()}
        answer = self._keyed("/pipeline-run", body, headers)
        return self._noted(answer, Expected(self.story, frozenset(ends), error_code))

    def order_again(self, run_id: int, *ends: str) -> int | None:
        """Retries a run that has ended."""
        answer = self._keyed(f"/pipeline-run/{run_id}/retry", None, {})
        return self._noted(answer, Expected(self.story, frozenset(ends)))

    def cancel(self, run_id: int) -> None:
        self._insist("POST", f"/pipeline-run/{run_id}/cancel")

    def wait(self, least_seconds: float, most_seconds: float) -> None:
        time.sleep(self.chance.uniform(least_seconds, most_seconds))

    def wait_for_the_end(self, run_id: int) -> str:
        """Looks at the run until it has ended."""
        until = time.monotonic() + ENDS_WITHIN_SECONDS
        while True:
            run = self._insist("GET", f"/pipeline-run/{run_id}").json()
            if run["completed_at"]:
                return str(run["status"])
            assert time.monotonic() < until, f"run {run_id} is still {run['status']}"
            time.sleep(LOOK_AGAIN_SECONDS)

    def script(self, run_id: int, *troubles: Item) -> None:
        """The answers to the next questions for the run's job."""
        self.chain.workbench.script(run=run_id, status=troubles)

    def end_job(self, run_id: int, status: str, error_message: str | None = None) -> None:
        """From the next look on; also if the job is yet to be made."""
        self.script(run_id, always(State(status, error_message)))

    def _keyed(
        self, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        self.calls += 1
        key = {"Idempotency-Key": f"customer-{self.number}-{self.calls}"}
        return self._insist("POST", path, json=body, headers={**headers, **key})

    def _noted(self, answer: httpx.Response, expected: Expected) -> int | None:
        told = answer.json()
        failed = answer.status_code == 500
        run_id = int(told["pipeline_run_id"] if failed else told["id"])
        with self.ledger.lock:
            assert run_id not in self.ledger.expected, f"run {run_id} was given to two customers"
            self.ledger.expected[run_id] = expected
            self.ledger.stories[expected.story] += 1
        return None if failed else run_id

    def _insist(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Asks until there is an answer that the service has meant.

        A 500 is one if it names the run that failed.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = self.chain.api.request(method, path, **request)
            except httpx.TransportError as error:
                seen = f"{type(error).__name__}: {error}"
            else:
                if _is_meant(answer):
                    return answer
                seen = f"{answer.status_code}: {answer.text}"
                assert answer.status_code not in OUR_FAULT, seen
            assert time.monotonic() < until, f"{method} {path}: {seen}"
            with self.ledger.lock:
                self.ledger.asked_again += 1
            time.sleep(ASK_AGAIN_SECONDS)


def _is_meant(answer: httpx.Response) -> bool:
    """While it is not deployed, anything else may answer at the API's address."""
    try:
        told = answer.json()
    except ValueError:
        return False
    if not isinstance(told, dict):
        return False
    is_refusal = told.get("code") in ANSWERS
    is_failure = answer.status_code == 500 and "pipeline_run_id" in told
    return is_refusal or is_failure or (answer.is_success and "id" in told)


def _done(customer: Customer) -> None:
    if run_id := customer.order("COMPLETED"):
        customer.wait(5, 90)
        customer.end_job(run_id, "COMPLETED")


def _done_without_waiting(customer: Customer) -> None:
    if run_id := customer.order("COMPLETED", Prefer="respond-async"):
        customer.wait(5, 60)
        customer.end_job(run_id, "COMPLETED")


def _failed(customer: Customer) -> None:
    if run_id := customer.order("FAILED", error_code="job_failed"):
        customer.wait(5, 60)
        customer.end_job(run_id, "FAILED", "row 7 is broken")


def _cancelled(customer: Customer) -> None:
    if run_id := customer.order("CANCELLED"):
        troubles = [Answer(500)] * customer.chance.randrange(3)
        customer.chain.workbench.script(run=run_id, cancel=troubles)
        customer.wait(0, 40)
        customer.cancel(run_id)


def _cancelled_at_once(customer: Customer) -> None:
    if run_id := customer.order("CANCELLED", Prefer="respond-async"):
        customer.cancel(run_id)


def _cancelled_while_it_ends(customer: Customer) -> None:
    if run_id := customer.order("COMPLETED", "CANCELLED"):
        customer.wait(5, 30)
        customer.chain.workbench.become("COMPLETED", run=run_id)
        customer.cancel(run_id)


def _retried(customer: Customer) -> None:
    run_id = customer.order("FAILED", error_code="job_failed")
    if not run_id:
        return
    customer.wait(2, 20)
    customer.end_job(run_id, "FAILED", "row 7 is broken")
    customer.wait_for_the_end(run_id)
    if again := customer.order_again(run_id, "COMPLETED"):
        customer.wait(2, 20)
        customer.end_job(again, "COMPLETED")


def _timed_out(customer: Customer) -> None:
    customer.order("FAILED", error_code="run_timed_out", timeout_seconds=60)


def _troubled(customer: Customer, troubles: list[Item]) -> None:
    if run_id := customer.order("COMPLETED"):
        customer.script(run_id, *troubles)
        customer.wait(30, 90)
        customer.end_job(run_id, "COMPLETED")


def _slow(customer: Customer) -> None:
    _troubled(customer, [late(3), late(5), late(9), "RUNNING", late(4)])


def _flapping(customer: Customer) -> None:
    _troubled(customer, [Answer(503), "RUNNING", Answer(500), html(), "running", Answer(502)] * 2)


def _throttled(customer: Customer) -> None:
    _troubled(customer, [retry_after("20"), "RUNNING", retry_after("soon"), retry_after("-1")])


def _unknown_for_a_while(customer: Customer) -> None:
    _troubled(customer, [not_found()] * 4)


def _lost(customer: Customer) -> None:
    """Takes a quarter of an hour."""
    if run_id := customer.order("FAILED", error_code="job_lost"):
        customer.script(run_id, always(not_found()))


def _realtime(customer: Customer) -> None:
    """A REALTIME run whose answer is lost is never started again: it may fail."""
    customer.order("COMPLETED", "FAILED", mode="REALTIME")


STORIES: Final[Mapping[str, Callable[[Customer], None]]] = MappingProxyType(
    {
        "done": _done,
        "respond-async": _done_without_waiting,
        "failed": _failed,
        "cancelled": _cancelled,
        "cancelled at once": _cancelled_at_once,
        "cancelled at its end": _cancelled_while_it_ends,
        "retried": _retried,
        "timed out": _timed_out,
        "slow": _slow,
        "flapping 5xx": _flapping,
        "429": _throttled,
        "404 for a while": _unknown_for_a_while,
        "404 for good": _lost,
        "REALTIME": _realtime,
    }
)
LONG_STORIES: Final = frozenset({"404 for good"})
"""They need more than a quarter of an hour."""
WEIGHTS: Final[Mapping[str, int]] = MappingProxyType({"done": 6, "respond-async": 3, "REALTIME": 3})
"""How often a story comes, where that isn't once."""
