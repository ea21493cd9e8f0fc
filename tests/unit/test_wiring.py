"""The composition root builds each part once, of what the environment says, and not before."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from runs.adapters.conductor import HttpConductor
from runs.adapters.eventbridge import EventBridgeBus
from runs.adapters.postgres import (
    PostgresOverviews,
    PostgresPipelines,
    PostgresRuns,
    PostgresWaiters,
)
from runs.adapters.sqs import SqsCheckQueue, SqsTickQueue
from runs.adapters.storage import S3Storage
from runs.adapters.tokens import OidcTokens
from runs.adapters.workbench import HttpWorkbench
from runs.prefixes import StorageRules
from runs.settings import SettingsInvalid
from runs.wiring import Wiring, using, wired
from wired import CHECK_QUEUE, ENVIRONMENT, QUEUE_ARN, RETRY_QUEUE

CHOSEN = {
    **ENVIRONMENT,
    "POLL_INTERVAL_SECONDS": "20",
    "SUBMIT_WAIT_SECONDS": "7",
    "SUBMIT_DEADLINE_SECONDS": "120",
    "MAX_CHECK_ATTEMPTS": "2",
    "RETRY_DELAY_SECONDS": "9",
}
WAIT_SECONDS = 30
"""Far longer than anything here takes."""


def test_a_submission_is_made_of_real_parts_and_the_settings() -> None:
    submission = Wiring(CHOSEN).submission
    assert isinstance(submission.runs, PostgresRuns)
    assert isinstance(submission.conductor, HttpConductor)
    assert isinstance(submission.workbench, HttpWorkbench)
    assert isinstance(submission.check_queue, SqsCheckQueue)
    assert submission.workbench_api_url == ENVIRONMENT["WORKBENCH_API_URL"]
    assert submission.submit_wait == timedelta(seconds=7)
    assert submission.submit_deadline == timedelta(seconds=120)


def test_a_check_is_made_of_real_parts_and_the_settings() -> None:
    checking = Wiring(CHOSEN).checking
    assert isinstance(checking.runs, PostgresRuns)
    assert isinstance(checking.workbench, HttpWorkbench)
    assert isinstance(checking.retry_queue, SqsCheckQueue)
    assert checking.poll_interval == timedelta(seconds=20)
    assert checking.max_attempts == 2
    assert checking.retry_delay == timedelta(seconds=9)


def test_a_sweep_and_a_relay_are_made_of_real_parts() -> None:
    wiring = Wiring(CHOSEN)
    assert isinstance(wiring.sweeping.tick_queue, SqsTickQueue)
    assert wiring.sweeping.poll_interval == timedelta(seconds=20)
    assert isinstance(wiring.publishing.bus, EventBridgeBus)
    assert isinstance(wiring.pipelines, PostgresPipelines)


def test_what_the_api_needs_beside_is_made_of_real_parts_and_the_settings() -> None:
    wiring = Wiring({**CHOSEN, "MAX_ACTIVE_RUNS_PER_TENANT": "3", "TENANT_PREFIX": "t/{tenant}/"})
    assert isinstance(wiring.tokens, OidcTokens)
    assert isinstance(wiring.overviews, PostgresOverviews)
    assert isinstance(wiring.watching.waiters, PostgresWaiters)
    assert isinstance(wiring.results.storage, S3Storage)
    assert wiring.submission.most_active == 3
    assert Wiring(CHOSEN).submission.most_active is None
    for rules in (wiring.submission.rules, wiring.results.rules):
        assert rules == StorageRules(
            bucket="user-data",
            allowed_buckets=frozenset({"bucket", "other"}),
            tenant_prefix="t/{tenant}/",
        )


@pytest.mark.parametrize(
    ("given", "begins"),
    [
        ({}, "https://user-data.s3."),
        ({"STORAGE_ENDPOINT_URL": "http://storage.test:9"}, "http://storage.test:9/user-data/"),
    ],
)
def test_links_lead_to_where_the_storage_is(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], begins: str
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    keys = {"STORAGE_ACCESS_KEY_ID": "key", "STORAGE_SECRET_ACCESS_KEY": "secret"}
    storage = Wiring({**CHOSEN, **keys, **given}).storage
    assert isinstance(storage, S3Storage)
    client = storage.client()
    link = client.generate_presigned_url("get_object", Params={"Bucket": "user-data", "Key": "k"})
    assert link.startswith(begins)
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in link
    assert "X-Amz-Credential=key%2F" in link


def test_everything_of_an_environment_has_the_one_connection() -> None:
    wiring = Wiring(CHOSEN)
    assert wiring.runs is wiring.sweeping.runs is wiring.checking.runs is wiring.publishing.runs
    assert isinstance(wiring.runs, PostgresRuns)
    assert isinstance(wiring.pipelines, PostgresPipelines)
    assert wiring.runs.database is wiring.pipelines.database
    assert wiring.submission is wiring.submission


def test_building_reads_no_more_than_the_part_needs() -> None:
    wiring = Wiring({name: CHOSEN[name] for name in ("DATABASE_URL", "STAGE")})
    assert wiring.runs
    with pytest.raises(SettingsInvalid, match="CHECK_QUEUE_URL must be set"):
        _ = wiring.sweeping


def test_a_message_s_queue_is_found_by_where_it_came_from() -> None:
    queues = {url: SqsCheckQueue(dict, url) for url in CHOSEN.values() if "sqs.test" in url}

    class Recognising(Wiring):
        def check_queue(self, url: str) -> SqsCheckQueue:
            return queues[url]

    wiring = Recognising(CHOSEN)
    assert wiring.queue_of(QUEUE_ARN + CHECK_QUEUE) is queues[CHOSEN["CHECK_QUEUE_URL"]]
    assert wiring.queue_of(QUEUE_ARN + RETRY_QUEUE) is queues[CHOSEN["RETRY_QUEUE_URL"]]


def test_another_wiring_stands_in_for_a_while() -> None:
    usual = wired()
    first, second = Wiring({}), Wiring({})
    with using(first):
        with using(second):
            assert wired() is second
        assert wired() is first
        with pytest.raises(RuntimeError), using(second):
            raise RuntimeError
        assert wired() is first
    assert wired() is usual


def test_what_waits_on_the_network_waits_side_by_side_and_comes_back_in_order() -> None:
    all_there = threading.Barrier(3)

    def wait(item: int) -> int:
        all_there.wait(WAIT_SECONDS)
        return item * 10

    assert Wiring({}).side_by_side(wait, [1, 2, 3]) == [10, 20, 30]


@pytest.mark.parametrize("items", [[], [7]])
def test_a_single_item_needs_no_thread(items: list[int]) -> None:
    here = threading.get_ident()
    seen = Wiring({}).side_by_side(lambda item: (item, threading.get_ident()), items)
    assert seen == [(item, here) for item in items]


def test_time_goes_on() -> None:
    wiring = Wiring({})
    before = wiring.clock()
    wiring.pause(0)
    assert wiring.clock() >= before
