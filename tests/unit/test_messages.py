"""The messages on our queues: what is sent, what is read, what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.messages import CheckMessage, MessageUnreadable, TickMessage

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = {"v": 1, "minute": "2026-03-01T12:00:00+00:00", "wave": 1, "shards": [0, 255]}
CHECK = {"v": 1, "run_ids": [42], "attempt": 0, "sent_at": "2026-03-01T12:00:00+00:00"}


def test_a_tick_is_sent_as_the_design_says() -> None:
    assert json.loads(TickMessage(minute=NOON, wave=1).to_json()) == TICK


def test_a_check_is_sent_as_the_design_says() -> None:
    assert json.loads(CheckMessage(run_ids=(42,), sent_at=NOON).to_json()) == CHECK


@given(
    st.builds(
        TickMessage,
        minute=st.datetimes(timezones=st.just(UTC)),
        wave=st.integers(0, 5),
        shards=st.tuples(st.integers(0, 255), st.integers(0, 255)),
    )
)
def test_a_tick_is_read_as_it_was_sent(message: TickMessage) -> None:
    assert TickMessage.from_json(message.to_json()) == message


@given(
    st.builds(
        CheckMessage,
        run_ids=st.lists(st.integers(0, 2**63 - 1), max_size=50).map(tuple),
        attempt=st.integers(0, 15),
        sent_at=st.datetimes(timezones=st.just(UTC)),
    )
)
def test_a_check_is_read_as_it_was_sent(message: CheckMessage) -> None:
    assert CheckMessage.from_json(message.to_json()) == message


def test_a_time_of_another_zone_is_the_same_moment() -> None:
    text = json.dumps(CHECK | {"sent_at": "2026-03-01T14:00:00+02:00"})
    assert CheckMessage.from_json(text).sent_at == NOON


@pytest.mark.parametrize(
    "text",
    ["", "no", "[]", "null", '"text"', "1", "{}", '{"v": 1}', "[" * 5_000, '{"v": 1, "v": 1}'],
)
def test_f40_what_is_no_message_is_unreadable(text: str) -> None:
    for kind in (TickMessage, CheckMessage):
        with pytest.raises(MessageUnreadable):
            kind.from_json(text)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_f40_f44_another_version_is_unreadable(version: object) -> None:
    with pytest.raises(MessageUnreadable, match="version"):
        CheckMessage.from_json(json.dumps(CHECK | {"v": version}))
    with pytest.raises(MessageUnreadable, match="version"):
        TickMessage.from_json(json.dumps(TICK | {"v": version}))


@pytest.mark.parametrize(
    "part",
    [
        {"minute": None},
        {"minute": 0},
        {"minute": "noon"},
        {"minute": "2026-03-01T12:00:00"},
        {"wave": -1},
        {"wave": 6},
        {"wave": 10**30},
        {"wave": "1"},
        {"wave": 1.0},
        {"wave": True},
        {"wave": None},
        {"shards": []},
        {"shards": [0]},
        {"shards": [0, 1, 2]},
        {"shards": [0, 256]},
        {"shards": [-1, 255]},
        {"shards": "01"},
        {"shards": 5},
        {"shards": None},
        {"shards": [0, 1e3]},
    ],
)
def test_f40_s14_a_tick_with_a_part_that_makes_no_sense_is_unreadable(part: dict[str, Any]) -> None:
    with pytest.raises(MessageUnreadable):
        TickMessage.from_json(json.dumps(TICK | part))


@pytest.mark.parametrize(
    "part",
    [
        {"run_ids": None},
        {"run_ids": 42},
        {"run_ids": "42"},
        {"run_ids": ["42"]},
        {"run_ids": [-1]},
        {"run_ids": [2**63]},
        {"run_ids": [4.2]},
        {"run_ids": [True]},
        {"run_ids": [[42]]},
        {"run_ids": {"a": 1}},
        {"attempt": -1},
        {"attempt": 16},
        {"attempt": None},
        {"attempt": "0"},
        {"sent_at": None},
        {"sent_at": "2026-03-01T12:00:00"},
        {"sent_at": 1},
    ],
)
def test_f40_s14_a_check_with_a_part_that_makes_no_sense_is_unreadable(
    part: dict[str, Any],
) -> None:
    with pytest.raises(MessageUnreadable):
        CheckMessage.from_json(json.dumps(CHECK | part))


@pytest.mark.parametrize("name", ["v", "run_ids", "attempt", "sent_at"])
def test_f40_a_check_that_lacks_a_part_is_unreadable(name: str) -> None:
    with pytest.raises(MessageUnreadable):
        CheckMessage.from_json(json.dumps({k: v for k, v in CHECK.items() if k != name}))


def test_f44_a_part_that_newer_code_added_is_passed_over() -> None:
    assert CheckMessage.from_json(json.dumps(CHECK | {"hint": "x"})).run_ids == (42,)
