"""Functions in processes of their own, which die, wait, fail or run out of time as told."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from failpoints import (
    DIED,
    OUT_OF_TIME,
    FailpointsInvalid,
    api_event,
    begin_function,
    run_function,
)
from token_maker import issuer_of_tests
from wired import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LONG_SECONDS = 3_600
"""Nobody waits for it."""
NOWHERE = "127.0.0.1:1"
NEW_PIPELINE = api_event(
    "POST",
    "/pipeline",
    {"name": "p", "mode": "BATCH", "workflow_name": "batch_pipeline_workflow"},
)


@pytest.fixture
def environment(database_url: sa.URL) -> Mapping[str, str]:
    """A real database, and nobody else."""
    return {
        **ENVIRONMENT,
        **issuer_of_tests(),
        "DATABASE_URL": database_url.render_as_string(hide_password=False),
        "AWS_ENDPOINT_URL": f"http://{NOWHERE}",
        "CONDUCTOR_URL": f"http://{NOWHERE}",
        "WORKBENCH_API_URL": f"http://{NOWHERE}",
    }


@pytest.fixture
def database(database_url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database_url, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


def pipelines(database: sa.Engine) -> int:
    with database.connect() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM pipelines")).scalar_one())


def test_without_failpoints_a_function_answers_as_in_lambda(
    environment: Mapping[str, str], database: sa.Engine
) -> None:
    end = run_function("api.app.app", NEW_PIPELINE, environment)
    assert (end.exit_code, end.died, end.struck) == (0, False, [])
    assert end.answer["statusCode"] == 201, end.log
    assert json.loads(end.answer["body"])["name"] == "p"
    assert pipelines(database) == 1


@pytest.mark.parametrize(("when", "kept"), [("before", 0), ("after", 1)])
def test_a_function_dies_before_or_after_its_effect(
    environment: Mapping[str, str], database: sa.Engine, when: str, kept: int
) -> None:
    failpoints = f"{when} pipelines.create_pipeline=exit"
    end = run_function("api.app.app", NEW_PIPELINE, environment, failpoints=failpoints)
    assert (end.answer, end.exit_code, end.died) == (None, DIED, True)
    assert end.struck == [failpoints]
    assert pipelines(database) == kept


def test_a_function_is_killed_in_the_midst_of_a_call(
    environment: Mapping[str, str], database: sa.Engine
) -> None:
    place = "after pipelines.create_pipeline"
    with begin_function(
        "api.app.app", NEW_PIPELINE, environment, failpoints=f"{place}=sleep {LONG_SECONDS}"
    ) as function:
        function.wait_until_struck(place)
        assert pipelines(database) == 1
        end = function.kill()
    assert (end.answer, end.exit_code, end.died) == (None, -signal.SIGKILL, True)


def test_an_error_that_nobody_expects_fails_the_function(environment: Mapping[str, str]) -> None:
    event = {"time": datetime(2026, 3, 1, 12, tzinfo=UTC).isoformat()}
    failpoints = "before runs.claim=raise"
    end = run_function("poller.tick.handler", event, environment, failpoints=failpoints)
    assert (end.answer, end.exit_code, end.died) == (None, 1, False)
    assert "FailpointStruck: FAILPOINTS says so before runs.claim" in end.log


def test_a_function_ends_with_its_time(environment: Mapping[str, str]) -> None:
    end = run_function(
        "poller.relay.handler",
        {},
        environment,
        failpoints=f"before runs.relaying=sleep {LONG_SECONDS}",
        seconds_left=0.2,
    )
    assert (end.answer, end.exit_code, end.died) == (None, OUT_OF_TIME, False)


def test_a_place_that_a_function_does_not_pass_fails_the_waiting(
    environment: Mapping[str, str],
) -> None:
    with begin_function("poller.relay.handler", {}, environment) as function:
        with pytest.raises(AssertionError, match=r"before conductor\.start was not reached"):
            function.wait_until_struck("before conductor.start")
        assert function.end().exit_code == 0


def test_what_failpoints_cannot_mean_starts_nothing(environment: Mapping[str, str]) -> None:
    with pytest.raises(FailpointsInvalid):
        begin_function("poller.relay.handler", {}, environment, failpoints="before x.y=exit")
