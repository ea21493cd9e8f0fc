"""What a function's answer to a batch means, where it may report failures one by one.

By "Success and failure conditions" of AWS's Lambda Developer Guide, for SQS.
"""

from __future__ import annotations

from typing import Any

import pytest

from mapping_runner import failures_in

BATCH = ("a", "b", "c")


def naming(*identifiers: Any) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": one} for one in identifiers]}


@pytest.mark.parametrize(
    "response",
    [None, {}, {"batchItemFailures": []}, {"batchItemFailures": None}, {"statusCode": 500}],
)
def test_an_answer_that_names_no_message_reports_a_whole_success(response: Any) -> None:
    assert failures_in(response, BATCH) == frozenset()


def test_the_messages_that_are_named_have_failed_and_no_other() -> None:
    assert failures_in(naming("c", "a"), BATCH) == {"a", "c"}


def test_a_message_that_is_named_twice_has_failed() -> None:
    assert failures_in(naming("b", "b"), BATCH) == {"b"}


@pytest.mark.parametrize(
    "response",
    [
        naming(None),
        naming(""),
        naming("z"),
        naming("a", "z"),  # One that is right doesn't save it.
        naming(1),
        naming(["a"]),
        {"batchItemFailures": [{"ItemIdentifier": "a"}]},
        {"batchItemFailures": [{}]},
        {"batchItemFailures": ["a"]},
        {"batchItemFailures": {"itemIdentifier": "a"}},
        {"batchItemFailures": "a"},
        {"batchItemFailures": 0},
        [{"itemIdentifier": "a"}],
        [],
        "ok",
        0,
        False,
    ],
)
def test_an_answer_that_makes_no_sense_fails_the_whole_batch(response: Any) -> None:
    assert failures_in(response, BATCH) == {"a", "b", "c"}
