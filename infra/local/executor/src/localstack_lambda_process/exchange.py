"""What a process and LocalStack have to tell each other: readiness, invocations, answers.

One exchange belongs to one process and ends with it, so that nothing a dead process left behind
reaches its successor.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock
from typing import TypeVar

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Invocation:
    """One call of the handler.

    Args:
        request_id: LocalStack's id for it.
        function_arn: The function as the caller named it.
        trace_id: The X-Ray header.
        deadline_ms: When it has to be answered, in milliseconds since 1970.
        event: JSON.
    """

    request_id: str
    function_arn: str
    trace_id: str
    deadline_ms: int
    event: bytes


@dataclass(frozen=True)
class Answer:
    """What the handler returned or, if `is_error`, what it raised, as JSON."""

    body: bytes
    is_error: bool = False


class Exchange:
    """The state between one process and LocalStack; every method may be called by any thread.

    LocalStack's side waits for `ready`, calls `invoke` for one invocation after another, and `end`
    once the process is gone. The process's side calls the others.
    """

    def __init__(self) -> None:
        self.ready: Future[None] = Future()
        self._lock = Lock()
        self._waiting: SimpleQueue[Invocation | None] = SimpleQueue()
        self._request_id = ""
        self._answer: Future[Answer] = Future()
        self._end: Exception | None = None

    def invoke(self, invocation: Invocation) -> Future[Answer]:
        """Hands an invocation to the process; its answer, or the reason of the end, comes later."""
        with self._lock:
            self._request_id = invocation.request_id
            self._answer = Future()
            if self._end:
                self._answer.set_exception(self._end)
            else:
                self._waiting.put(invocation)
            return self._answer

    def end(self, reason: Exception) -> None:
        """Fails whoever waits for the process, now or later, and lets its requests go."""
        with self._lock:
            self._end = reason
            _fail(self.ready, reason)
            _fail(self._answer, reason)
            self._waiting.put(None)

    def next_invocation(self) -> Invocation | None:
        """Waits for work, which makes the process ready; None is the end."""
        with self._lock:
            if not self.ready.done():
                self.ready.set_result(None)
        return self._waiting.get()

    def fail_init(self, reason: Exception) -> None:
        """The process told, before it asked for work, why it never will."""
        with self._lock:
            _fail(self.ready, reason)

    def answer(self, request_id: str, answer: Answer) -> bool:
        """Passes an answer on; False if it belongs to no invocation that waits for one."""
        with self._lock:
            if request_id != self._request_id or self._answer.done():
                return False
            self._answer.set_result(answer)
            return True


def _fail(future: Future[Outcome], reason: Exception) -> None:
    if not future.done():
        future.set_exception(reason)
