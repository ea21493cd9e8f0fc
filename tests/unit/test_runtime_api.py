"""What the Runtime API of one function's process promises to both of its sides."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.local.executor.src.localstack_lambda_process.exchange import (
    Answer,
    Exchange,
    Invocation,
)
from infra.local.executor.src.localstack_lambda_process.faults import InitFailed, ProcessEnded

WAIT_SECONDS = 10
KILLED = ProcessEnded(-9)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


def invocation(request_id: str) -> Invocation:
    return Invocation(request_id, "arn:aws:lambda:…:function:f", "Root=1", 1_000, b"{}")


def test_a_process_is_ready_when_it_first_asks_for_work(exchange: Exchange) -> None:
    exchange.invoke(invocation("a"))
    assert not exchange.ready.done()

    exchange.next_invocation()

    assert exchange.ready.result(timeout=0) is None


def test_an_answer_reaches_the_one_who_invoked(exchange: Exchange) -> None:
    answer = exchange.invoke(invocation("a"))

    assert exchange.next_invocation() == invocation("a")
    assert exchange.answer("a", Answer(b"1"))

    assert answer.result(timeout=0) == Answer(b"1", is_error=False)


def test_an_answer_to_another_request_is_refused(exchange: Exchange) -> None:
    answer = exchange.invoke(invocation("b"))

    assert not exchange.answer("a", Answer(b"late"))

    assert not answer.done()


def test_a_second_answer_is_refused_and_changes_nothing(exchange: Exchange) -> None:
    answer = exchange.invoke(invocation("a"))

    assert exchange.answer("a", Answer(b"first"))
    assert not exchange.answer("a", Answer(b"second"))

    assert answer.result(timeout=0) == Answer(b"first")


def test_an_answer_before_any_invocation_is_refused(exchange: Exchange) -> None:
    assert not exchange.answer("a", Answer(b"1"))


def test_whoever_waits_learns_that_the_process_ended(exchange: Exchange) -> None:
    answer = exchange.invoke(invocation("a"))

    exchange.end(KILLED)

    assert exchange.ready.exception(timeout=0) is KILLED
    assert answer.exception(timeout=0) is KILLED


def test_an_invocation_after_the_end_fails_at_once(exchange: Exchange) -> None:
    exchange.end(KILLED)

    assert exchange.invoke(invocation("a")).exception(timeout=0) is KILLED


def test_the_end_takes_nothing_back(exchange: Exchange) -> None:
    answer = exchange.invoke(invocation("a"))
    exchange.next_invocation()
    exchange.answer("a", Answer(b"1"))

    exchange.end(KILLED)

    assert exchange.ready.exception(timeout=0) is None
    assert answer.result(timeout=0) == Answer(b"1")


def test_a_request_that_waits_for_work_is_let_go_at_the_end(exchange: Exchange) -> None:
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(exchange.next_invocation)
        exchange.ready.result(timeout=WAIT_SECONDS)

        exchange.end(KILLED)

        assert waiting.result(timeout=WAIT_SECONDS) is None


def test_an_init_error_stays_the_reason_when_the_process_then_ends(exchange: Exchange) -> None:
    failure = InitFailed(b'{"errorType": "ValueError"}')

    exchange.fail_init(failure)
    exchange.end(KILLED)

    assert exchange.ready.exception(timeout=0) is failure


@pytest.mark.parametrize(
    ("returncode", "told"),
    [
        (0, "Runtime exited without providing a reason"),
        (3, "Runtime exited with error: exit status 3"),
        (-9, "Runtime exited with error: signal: killed"),
        (-11, "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_the_manner_of_an_exit_is_told_as_aws_tells_it(returncode: int, told: str) -> None:
    answer = ProcessEnded(returncode).answer("r-1")

    assert answer.is_error
    assert answer.body.decode() == (
        f'{{"errorType": "Runtime.ExitError", "errorMessage": "RequestId: r-1 Error: {told}"}}'
    )
