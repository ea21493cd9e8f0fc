"""Work that goes side by side."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from infra.local.progress import PlainProgress
from infra.local.steps import Halt, Step, run_steps
from infra.local.trouble import Halted, PartFailed

FOREVER_SECONDS = 60


def test_a_step_begins_after_those_it_needs() -> None:
    order: list[str] = []
    steps = [
        Step("third", lambda: order.append("third"), after=("first", "second")),
        Step("second", lambda: order.append("second"), after=("first",)),
        Step("first", lambda: order.append("first")),
    ]
    assert run_steps(steps, Halt()) == []
    assert order == ["first", "second", "third"]


def test_steps_that_need_nothing_of_each_other_go_side_by_side() -> None:
    # Each can only end while the other is under way.
    meeting = threading.Barrier(2, timeout=FOREVER_SECONDS)

    def meet() -> None:
        meeting.wait()

    steps = [Step("one", meet), Step("other", meet)]
    assert run_steps(steps, Halt()) == []


def test_after_a_failure_nothing_begins_and_what_waits_gives_up() -> None:
    halt = Halt()
    began: list[str] = []

    def fail() -> None:
        raise ValueError("why")

    steps = [
        Step("waiting", lambda: halt.pause(FOREVER_SECONDS)),
        Step("failing", fail),
        Step("never", lambda: began.append("never"), after=("failing",)),
    ]
    (failure,) = run_steps(steps, halt)
    assert failure.step == "failing"
    assert isinstance(failure.error, ValueError)
    assert began == []


def test_a_halted_pause_ends_at_once() -> None:
    halt = Halt()
    halt.check()
    halt.order()
    with pytest.raises(Halted):
        halt.check()
    with pytest.raises(Halted):
        halt.pause(FOREVER_SECONDS)


def test_a_failed_part_is_told_with_its_log_and_its_last_words() -> None:
    said = "\n".join(f"line {number}" for number in range(100))
    text = str(PartFailed("conductor", "ended by itself", Path("logs/conductor.log"), said))
    assert text.startswith("conductor: ended by itself\n  log: logs/conductor.log\n")
    assert text.endswith("line 98\n    line 99")
    assert "line 50" not in text


def test_plain_progress_says_each_thing_once_however_often_it_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with PlainProgress(since=0) as progress:
        for megabyte in range(100):
            progress.doing("conductor", f"downloading the server, {megabyte} of 457 MB")
        progress.doing("conductor", "unpacking the server")
        progress.done("conductor", "ready")
    words = [" ".join(line.split()[2:]) for line in capsys.readouterr().out.splitlines()]
    assert words == [
        "conductor downloading the server, 0 of 457 MB …",
        "conductor unpacking the server …",
        "conductor ready",
    ]
