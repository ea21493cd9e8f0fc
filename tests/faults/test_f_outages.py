"""F25, F27, F32: a Workbench that gives no answer, or knows nothing; and what is lost by that."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING

import pytest

from fault_bench import POLL_INTERVAL, Bench, BenchWiring, tick_event
from fault_proxy import http
from poller import tick
from runs.messages import CheckMessage
from runs.model import ErrorCategory
from runs.status import PipelineRunStatus
from scripted_workbench import Answer, always, not_found
from wired import Invocation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fault_proxy import Call
    from runs.ports import CheckQueue, Delayed

SUBMITTED, RUNNING = PipelineRunStatus.SUBMITTED, PipelineRunStatus.RUNNING
COMPLETED, FAILED = PipelineRunStatus.COMPLETED, PipelineRunStatus.FAILED
CALLS_ABOUT_JOBS = http("*", "/batch/*")
NOBODY_IS_KNOWN = always(Answer(200, {"jobs": []}))
SOME_MINUTES = timedelta(minutes=4)
LOSS_AFTER = timedelta(minutes=15)
A_DAY = timedelta(hours=24)
PAGE = "<h1>Sorry</h1>"
TRIES = 3
ACTIVE = 2_000
OUTAGE = 20
"""In intervals."""
TOP_RATE = 1.2
PROBES = 6
"""In an interval, while the breaker is open."""
BATCH = 10
"""Messages to an invocation, as in the template."""


def look(bench: Bench, *, after: timedelta) -> None:
    """The next sweep comes so much later, and its checks are made."""
    bench.move_time(after)
    bench.sweep()
    bench.deliver()


def statuses(bench: Bench, run_ids: Sequence[int]) -> list[PipelineRunStatus]:
    return [bench.run(run_id).status for run_id in run_ids]


# -- jobs that the Workbench doesn't know ---------------------------------------------------------


def test_f25_p16_a_job_that_is_not_known_just_after_its_submit_is_waited_for(bench: Bench) -> None:
    run_id = bench.submitted()
    bench.workbench.script(run=run_id, status=[not_found(), not_found()])

    for count in (1, 2):
        look(bench, after=POLL_INTERVAL)
        run = bench.run(run_id)
        assert (run.status, run.version) == (SUBMITTED, 2)
        assert (run.observation.unknown_count, run.observation.consecutive_failures) == (count,) * 2
    look(bench, after=POLL_INTERVAL)

    run = bench.run(run_id)
    assert run.status is RUNNING
    assert (run.observation.unknown_count, run.observation.unknown_since) == (0, None)


def test_f25_p17_a_job_that_stays_unknown_is_lost_after_five_answers_over_fifteen_minutes(
    bench: Bench,
) -> None:
    forgotten, known = bench.fleet(2)
    bench.workbench.forget(run=forgotten)
    bench.workbench.become("RUNNING", run=known)

    # At 0, 4, 8, 12 and, just before the time is over, 14 minutes.
    for minutes in (0, 4, 4, 4, 2):
        look(bench, after=timedelta(minutes=minutes) + POLL_INTERVAL * (not minutes))
        assert bench.run(forgotten).status is SUBMITTED
    assert bench.run(forgotten).observation.unknown_count == 5
    look(bench, after=timedelta(seconds=20))  # Others are known, and that was seen lately.
    look(bench, after=timedelta(seconds=50))

    run = bench.run(forgotten)
    assert run.status is FAILED
    assert run.error is not None
    assert (run.error.code, run.error.category) == ("job_lost", ErrorCategory.LOST)
    assert f"does not know job {run.workbench_job_id} any more" in run.error.message
    assert bench.run(known).status is RUNNING
    assert run.observation.unknown_since is not None
    assert run.completed_at is not None
    assert run.completed_at - run.observation.unknown_since >= LOSS_AFTER
    bench.relay()


def test_f25_p17_fifteen_minutes_without_five_answers_are_no_loss(bench: Bench) -> None:
    forgotten, known = bench.fleet(2)
    bench.workbench.forget(run=forgotten)
    bench.workbench.become("RUNNING", run=known)

    for after in (POLL_INTERVAL, LOSS_AFTER, POLL_INTERVAL, POLL_INTERVAL):
        look(bench, after=after)
        assert bench.run(forgotten).status is SUBMITTED
    assert bench.run(forgotten).observation.unknown_count == 4
    look(bench, after=POLL_INTERVAL)

    assert bench.run(forgotten).status is FAILED


def test_f25_p17_a_valid_answer_starts_the_count_anew(bench: Bench) -> None:
    lost_and_found, known = bench.fleet(2)
    bench.workbench.become("RUNNING", run=known)
    bench.workbench.script(run=lost_and_found, status=[not_found()] * 4 + ["RUNNING"])

    for _ in range(5):
        look(bench, after=SOME_MINUTES)
    bench.workbench.script(run=lost_and_found, status=[always(not_found())])
    for after in (SOME_MINUTES, *[POLL_INTERVAL] * 5):
        look(bench, after=after)

    run = bench.run(lost_and_found)
    assert (run.status, run.observation.unknown_count) == (RUNNING, 6)
    bench.workbench.script(run=lost_and_found, status=[])
    look(bench, after=POLL_INTERVAL)
    bench.relay()


def test_f25_p17_the_only_active_job_is_lost_though_no_other_answer_speaks_for_the_workbench(
    bench: Bench,
) -> None:
    [run_id] = bench.fleet(1)
    bench.workbench.forget(run=run_id)

    for after in (POLL_INTERVAL, SOME_MINUTES, SOME_MINUTES, SOME_MINUTES, SOME_MINUTES):
        assert bench.run(run_id).status is SUBMITTED
        look(bench, after=after)

    run = bench.run(run_id)
    assert run.status is FAILED
    assert run.error is not None
    assert run.error.category is ErrorCategory.LOST


def test_f25_p17_a_workbench_that_knows_no_job_at_all_loses_none(bench: Bench) -> None:
    run_ids = bench.fleet(12)
    look(bench, after=POLL_INTERVAL)
    bench.workbench.script(status=[always(not_found())], bulk_status=[NOBODY_IS_KNOWN])

    for _ in range(3):
        look(bench, after=POLL_INTERVAL)
    opened = bench.store.breakers.breaker(bench.to_workbench.url).opened_at
    asked = len(bench.workbench.calls_of("status"))
    sweeps = 5
    for _ in range(sweeps):
        look(bench, after=SOME_MINUTES)
    bench.workbench.become("COMPLETED")
    bench.workbench.script(status=[], bulk_status=[])
    probed = len(bench.workbench.calls_of("status")) - asked
    assert statuses(bench, run_ids) == [RUNNING] * len(run_ids)
    look(bench, after=POLL_INTERVAL)
    look(bench, after=POLL_INTERVAL)
    look(bench, after=POLL_INTERVAL)

    assert opened is not None
    # A probe of each sweep comes at once, and five wait in the queue for 5 to 25 s.
    assert probed <= 6 * (sweeps + 1)
    assert statuses(bench, run_ids) == [COMPLETED] * len(run_ids)
    bench.relay()


def test_f25_p17_p32_after_a_day_of_knowing_no_job_the_jobs_are_lost(bench: Bench) -> None:
    run_ids = bench.fleet(2)
    bench.workbench.script(status=[always(not_found())], bulk_status=[NOBODY_IS_KNOWN])

    for after in (POLL_INTERVAL, *[SOME_MINUTES] * 4):
        look(bench, after=after)
    assert statuses(bench, run_ids) == [SUBMITTED] * 2
    look(bench, after=A_DAY)
    for _ in range(10):  # They are probed in turn.
        look(bench, after=POLL_INTERVAL)

    assert statuses(bench, run_ids) == [FAILED] * 2
    assert {bench.run(run_id).error.category for run_id in run_ids} == {ErrorCategory.LOST}  # type: ignore[union-attr]  # they FAILED


# -- no answer ------------------------------------------------------------------------------------


@contextmanager
def plain_text_port() -> Iterator[int]:
    """Whatever comes, it speaks plain HTTP."""

    def answer() -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return  # Closed.
            with caller:
                caller.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                caller.shutdown(socket.SHUT_WR)
                caller.recv(65_536)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@contextmanager
def no_answer(bench: Bench, name: str) -> Iterator[None]:
    """The Workbench, or what the functions take for it, fails in this way."""
    with ExitStack() as stack:
        match name:
            case "reset":
                stack.enter_context(bench.to_workbench.reset(CALLS_ABOUT_JOBS))
            case "refused":
                stack.enter_context(bench.to_workbench.refuse())
            case "DNS":
                bench.settings["WORKBENCH_API_URL"] = "http://workbench.invalid"
            case "TLS":
                port = stack.enter_context(plain_text_port())
                bench.settings["WORKBENCH_API_URL"] = f"https://127.0.0.1:{port}"
            case status:
                sorry = bench.to_workbench.status(int(status), CALLS_ABOUT_JOBS, body=PAGE)
                stack.enter_context(sorry)
        yield
        bench.close()
    bench.settings.clear()


FAILURES = {
    "500": f"answered 500: {PAGE}",
    "502": "answered 502",
    "503": "answered 503",
    "504": "answered 504",
    "reset": "can't be reached",
    "refused": "can't be reached",
    "DNS": "can't be reached",
    "TLS": "can't be reached",
}
"""Of each what the run's body says."""


@pytest.mark.parametrize("name", FAILURES)
def test_f27_p16_p21_no_answer_is_a_failed_try_of_three_and_leaves_the_status(
    bench: Bench, name: str
) -> None:
    run_ids = bench.fleet(2)
    message = CheckMessage(run_ids=tuple(run_ids), sent_at=bench.store.true_now())

    with no_answer(bench, name):
        bench.check(message)
        tries = [bench.sent("RetryQueue")]
        while len(tries) < TRIES:
            bench.check(*[retry.message for retry in tries[-1]])
            tries.append(bench.sent("RetryQueue")[sum(map(len, tries)) :])

    alone = [(run_id,) for run_id in run_ids]
    assert [sorted(retry.message.run_ids for retry in one) for one in tries] == [alone, alone, []]
    assert [{retry.delay_seconds for retry in one} for one in tries] == [{5}, {10}, set()]
    for run_id in run_ids:
        run = bench.run(run_id)
        assert (run.status, run.version, run.error) == (SUBMITTED, 2, None)
        assert run.observation.consecutive_failures == TRIES
        assert FAILURES[name] in (run.observation.last_error or "")
    bench.queues.purge()
    look(bench, after=POLL_INTERVAL)
    assert statuses(bench, run_ids) == [RUNNING] * 2
    assert [bench.run(run_id).observation.consecutive_failures for run_id in run_ids] == [0, 0]


@pytest.mark.parametrize("is_warm", [False, True])
def test_f27_p21_a_try_that_is_reset_reached_the_workbench_twice_at_most(
    bench: Bench, *, is_warm: bool
) -> None:
    """The HTTP client repeats a GET whose connection was reset, once: it may have been idle."""
    [run_id] = bench.fleet(1)
    bench.workbench.become("RUNNING", run=run_id)
    message = CheckMessage(run_ids=(run_id,), sent_at=bench.store.true_now())
    if is_warm:
        bench.check(message)
    before = len(bench.to_workbench.calls)

    with bench.to_workbench.reset(CALLS_ABOUT_JOBS):
        bench.check(message)

    assert bench.run(run_id).observation.consecutive_failures == 1
    assert before < len(bench.to_workbench.calls) <= before + 2


# -- ten minutes ----------------------------------------------------------------------------------


def test_f32_p16_p21_a_workbench_that_is_down_is_probed_and_fails_no_run(bench: Bench) -> None:
    run_ids = bench.fleet(24)
    bench.workbench.become("RUNNING")

    with bench.to_workbench.reset(CALLS_ABOUT_JOBS):
        for _ in range(3):
            look(bench, after=POLL_INTERVAL)
        assert bench.store.breakers.breaker(bench.to_workbench.url).opened_at is not None
        before = looks(bench.to_workbench.calls)
        look(bench, after=SOME_MINUTES)
        look(bench, after=SOME_MINUTES)
        assert looks(bench.to_workbench.calls) - before <= 2 * PROBES
    for _ in range(3):  # It is found to be well again, then come one half and the other.
        look(bench, after=POLL_INTERVAL)

    runs = [bench.run(run_id) for run_id in run_ids]
    assert {(run.status, run.observation.consecutive_failures) for run in runs} == {(RUNNING, 0)}
    bench.relay()


@pytest.mark.prove  # 2,000 runs, each in messages of its own eight times: a minute or two.
def test_f32_p16_p21_ten_minutes_without_a_workbench_at_two_thousand_runs(bench: Bench) -> None:
    run_ids = bench.fleet(ACTIVE)
    bench.workbench.become("RUNNING")

    with closing(Course(bench)) as course:
        steady = course.interval()
        with bench.to_workbench.status(503, CALLS_ABOUT_JOBS):
            down = [course.interval() for _ in range(OUTAGE - 1)]
            down.append(course.interval(first=timedelta(seconds=10)))
        course.go_on(timedelta(seconds=20))
        up = [course.interval() for _ in range(2)]

    assert steady.looks == ACTIVE
    assert [one.was_open for one in down] == [False] * 3 + [True] * (OUTAGE - 3)
    for one in down:
        assert one.looks <= (PROBES if one.was_open else ACTIVE * TRIES)
    assert all(one.looks <= ACTIVE * TOP_RATE for one in up)
    assert max(one.sent for one in [*down, *up]) <= 2 * ACTIVE
    assert max(one.most_waiting for one in [*down, *up]) <= 2 * ACTIVE
    told = bench.store.execute(
        "SELECT status, consecutive_failures, count(*)"
        " FROM pipeline_runs JOIN run_observations ON run_id = id GROUP BY 1, 2"
    )
    assert told == [("RUNNING", 0, len(run_ids))]
    bench.relay()


@dataclass(frozen=True)
class Interval:
    """What happened from one sweep to the next.

    Attributes:
        looks: How often the Workbench was asked about a job.
        sent: The messages that the sweep sent.
        most_waiting: The most messages that waited at once.
        was_open: Whether the breaker was open when it began.
    """

    looks: int
    sent: int
    most_waiting: int
    was_open: bool


def looks(calls: Sequence[Call]) -> int:
    """About how many jobs was asked, once or more often, alone or in bulk."""
    return sum(
        len(json.loads(call.body)["workbench_job_ids"]) if call.method == "POST" else 1
        for call in calls
        if call.path.startswith("/batch/status")
    )


class Course:
    """The service with its queues in memory, in a time that only this moves.

    So what takes this machine long takes no time, and delays are as long as they should be.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        [[self.now]] = bench.store.execute("SELECT runs_now()")
        self._wiring = QueuesInMemory(bench, self)

    def interval(self, *, first: timedelta = POLL_INTERVAL) -> Interval:
        """A sweep, and what follows from it until the next, or in the first part of that time."""
        queues = self._wiring.queues.values()
        calls = len(self._bench.to_workbench.calls)
        breaker = self._bench.store.breakers.breaker(self._bench.to_workbench.url)
        sent = sum(queue.sent for queue in queues)
        self._set_clock(self.now)
        with self._bench.functions(self._wiring):
            tick.handler(tick_event(), Invocation(seconds_left=25))
        sent = sum(queue.sent for queue in queues) - sent
        for queue in queues:
            queue.most_waiting = len(queue.waiting)
        self.go_on(first)
        return Interval(
            looks=looks(self._bench.to_workbench.calls[calls:]),
            sent=sent,
            most_waiting=sum(queue.most_waiting for queue in queues),
            was_open=breaker.opened_at is not None,
        )

    def go_on(self, time: timedelta) -> None:
        """Messages are handled when they are due."""
        until = self.now + time
        while (due := min(queue.next_due for queue in self._wiring.queues.values())) <= until:
            self.now = max(self.now, due)
            self._set_clock(self.now)
            for queue in self._wiring.queues.values():
                if messages := queue.take(self.now):
                    self._bench.check(*messages, wiring=self._wiring)
        self.now = until
        self._set_clock(self.now)

    def close(self) -> None:
        """Closes the functions' connections."""
        self._wiring.close()

    def _set_clock(self, now: datetime) -> None:
        offset = "CAST(:now AS timestamptz) - statement_timestamp()"
        self._bench.store.execute(f'UPDATE runs_clock SET "offset" = {offset}', now=now)  # noqa: S608  # ours


class QueuesInMemory(BenchWiring):
    """The bench's functions, with other queues."""

    def __init__(self, bench: Bench, course: Course) -> None:
        super().__init__(bench.environment)
        variables = ("CHECK_QUEUE_URL", "RETRY_QUEUE_URL")
        self.queues = {bench.environment[name]: QueueInMemory(course) for name in variables}

    def check_queue(self, url: str) -> CheckQueue:
        return self.queues[url]


@dataclass
class QueueInMemory:
    """`ports.CheckQueue`; `sent` and `most_waiting` count messages."""

    course: Course
    waiting: list[tuple[datetime, CheckMessage]] = field(default_factory=list)
    sent: int = 0
    most_waiting: int = 0

    def send(self, messages: Sequence[Delayed]) -> int:
        now = self.course.now
        self.waiting += [(now + timedelta(seconds=m.delay_seconds), m.message) for m in messages]
        self.waiting.sort(key=itemgetter(0))
        self.sent += len(messages)
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        return 0

    def release(self, receipt_handles: Sequence[str]) -> None:
        raise AssertionError(f"all messages can be read: {receipt_handles}")

    @property
    def next_due(self) -> datetime:
        """In the far future if nothing waits."""
        return self.waiting[0][0] if self.waiting else datetime.max.replace(tzinfo=UTC)

    def take(self, now: datetime) -> list[CheckMessage]:
        """As many as a batch holds of those that are due."""
        due = [message for due_at, message in self.waiting[:BATCH] if due_at <= now]
        del self.waiting[: len(due)]
        return due
