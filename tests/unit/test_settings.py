"""The environment, read once and typed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runs.settings import (
    LARGEST,
    POLL_INTERVALS_SECONDS,
    ApiSettings,
    CheckSettings,
    DatabaseSettings,
    HuntSettings,
    RelaySettings,
    SettingsInvalid,
    TickSettings,
    TokenSettings,
)
from runs.submission import SUBMIT_LEASE

CALL_TIME = timedelta(seconds=5)
"""What the last call of a wait may take beyond it, generously."""

DATABASE = {"DATABASE_URL": "postgresql+pg8000://u:p@127.0.0.1:5432/d"}
SUBMISSION = DATABASE | {"CONDUCTOR_URL": "http://c", "WORKBENCH_API_URL": "http://w"}
CHECK = SUBMISSION | {"CHECK_QUEUE_URL": "q1", "RETRY_QUEUE_URL": "q2", "EVENT_BUS_NAME": "bus"}


def test_what_is_not_set_has_the_designs_value() -> None:
    settings = CheckSettings.from_environment(CHECK)

    assert settings.poll_interval == timedelta(seconds=30)
    assert settings.max_check_attempts == 3
    assert settings.retry_delay_seconds == 5
    assert settings.submit_wait_seconds == 10
    assert settings.submit_deadline_seconds == 300
    assert settings.stage == "local"


def test_a_variable_is_a_fields_name_in_capitals() -> None:
    settings = CheckSettings.from_environment(
        CHECK | {"POLL_INTERVAL_SECONDS": "10", "SUBMIT_WAIT_SECONDS": "3", "STAGE": "prod"}
    )

    assert settings.check_queue_url == "q1"
    assert settings.retry_queue_url == "q2"
    assert settings.poll_interval_seconds == 10
    assert settings.submit_wait_seconds == 3
    assert settings.stage == "prod"


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+pg8000://u:p@h/d")
    assert DatabaseSettings.from_environment().database_url == "postgresql+pg8000://u:p@h/d"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert DatabaseSettings.from_environment(DATABASE | {"STAGE": ""}).stage == "local"
    with pytest.raises(SettingsInvalid, match="EVENT_BUS_NAME must be set"):
        RelaySettings.from_environment(DATABASE | {"EVENT_BUS_NAME": ""})


def test_every_missing_variable_is_named_at_once() -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        TickSettings.from_environment(DATABASE)
    for name in ("CHECK_QUEUE_URL", "RETRY_QUEUE_URL", "TICK_QUEUE_URL"):
        assert f"{name} must be set" in str(refusal.value)


def test_the_database_is_named_by_its_url_or_its_secret() -> None:
    assert DatabaseSettings.from_environment({"DATABASE_SECRET_ARN": "arn:x"}).database_url == ""
    with pytest.raises(SettingsInvalid, match="DATABASE_URL or DATABASE_SECRET_ARN"):
        DatabaseSettings.from_environment({})


@pytest.mark.parametrize("text", ["thirty", "3.5", "1e3", "-"])
def test_what_is_no_whole_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsInvalid, match="POLL_INTERVAL_SECONDS must be a whole number"):
        DatabaseSettings.from_environment(DATABASE | {"POLL_INTERVAL_SECONDS": text})


@pytest.mark.parametrize("seconds", range(-1, 70))
def test_a_poll_interval_divides_the_minute(seconds: int) -> None:
    environment = DATABASE | {"POLL_INTERVAL_SECONDS": str(seconds)}
    if seconds in {10, 15, 20, 30, 60}:
        assert DatabaseSettings.from_environment(environment).poll_interval_seconds == seconds
        assert seconds in POLL_INTERVALS_SECONDS
    else:
        with pytest.raises(SettingsInvalid, match="POLL_INTERVAL_SECONDS must be one of"):
            DatabaseSettings.from_environment(environment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SUBMIT_WAIT_SECONDS", "0"),
        ("SUBMIT_WAIT_SECONDS", "-1"),
        ("SUBMIT_WAIT_SECONDS", "20"),
        ("SUBMIT_DEADLINE_SECONDS", "0"),
        ("MAX_CHECK_ATTEMPTS", "0"),
        ("MAX_CHECK_ATTEMPTS", "6"),
        ("RETRY_DELAY_SECONDS", "0"),
        ("RETRY_DELAY_SECONDS", "61"),
    ],
)
def test_a_number_beyond_what_makes_sense_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"{name} must be from 1 to"):
        CheckSettings.from_environment(CHECK | {name: value})


@pytest.mark.parametrize("value", ["yes", "True", "1", "no"])
def test_what_is_neither_true_nor_false_is_refused_by_name(value: str) -> None:
    with pytest.raises(SettingsInvalid, match="WORKBENCH_HONOURS_KEYS must be true or false"):
        CheckSettings.from_environment(CHECK | {"WORKBENCH_HONOURS_KEYS": value})


@pytest.mark.parametrize(("value", "honours"), [("true", True), ("false", False), ("", True)])
def test_p8_a_workbench_honours_keys_unless_it_is_said_not_to(*, value: str, honours: bool) -> None:
    settings = CheckSettings.from_environment(CHECK | {"WORKBENCH_HONOURS_KEYS": value})
    assert settings.workbench_honours_keys is honours


def test_p8_the_longest_wait_lies_well_within_the_submit_lease() -> None:
    assert timedelta(seconds=LARGEST["submit_wait_seconds"]) + CALL_TIME <= SUBMIT_LEASE


def test_each_function_names_what_it_uses() -> None:
    issuer = {"OIDC_ISSUER": "https://i", "OIDC_JWKS_URL": "https://i/keys"}
    assert TokenSettings.from_environment(issuer)
    assert ApiSettings.from_environment(
        SUBMISSION
        | issuer
        | {"CHECK_QUEUE_URL": "q", "EVENT_BUS_NAME": "bus", "STORAGE_BUCKET": "b"}
    )
    assert TickSettings.from_environment(
        DATABASE
        | {"CHECK_QUEUE_URL": "q1", "RETRY_QUEUE_URL": "q2", "TICK_QUEUE_URL": "q3"}
        | {"WORKBENCH_API_URL": "http://workbench.test"}
    )
    assert RelaySettings.from_environment(DATABASE | {"EVENT_BUS_NAME": "bus"})
    assert HuntSettings.from_environment(DATABASE | {"WORKBENCH_API_URL": "http://workbench.test"})
