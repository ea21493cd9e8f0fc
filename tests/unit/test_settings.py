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

ARN = "arn:aws:secretsmanager:eu-west-2:000000000000:secret:runs/api-AbCdEf"
DATABASE = {"DATABASE_URL": "postgresql+pg8000://u:p@127.0.0.1:5432/d", "STAGE": "local"}
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
        CHECK | {"POLL_INTERVAL_SECONDS": "10", "SUBMIT_WAIT_SECONDS": "3", "STAGE": "test"}
    )

    assert settings.check_queue_url == "q1"
    assert settings.retry_queue_url == "q2"
    assert settings.poll_interval_seconds == 10
    assert settings.submit_wait_seconds == 3
    assert settings.stage == "test"


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+pg8000://u:p@h/d")
    monkeypatch.setenv("STAGE", "test")
    assert DatabaseSettings.from_environment().database_url == "postgresql+pg8000://u:p@h/d"


def test_an_empty_variable_counts_as_not_set() -> None:
    empty = {"POLL_INTERVAL_SECONDS": ""}
    assert DatabaseSettings.from_environment(DATABASE | empty).poll_interval_seconds == 30
    with pytest.raises(SettingsInvalid, match="EVENT_BUS_NAME must be set"):
        RelaySettings.from_environment(DATABASE | {"EVENT_BUS_NAME": ""})


def test_every_missing_variable_is_named_at_once() -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        TickSettings.from_environment(DATABASE)
    for name in ("CHECK_QUEUE_URL", "RETRY_QUEUE_URL", "TICK_QUEUE_URL"):
        assert f"{name} must be set" in str(refusal.value)


def test_the_database_is_named_by_its_url_or_its_secret() -> None:
    assert DatabaseSettings.from_environment({"DATABASE_SECRET_ARN": ARN}).database_url == ""
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


# -- local is not production -----------------------------------------------------------------------

PARAMETER = "arn:aws-cn:ssm:cn-north-1:000000000000:parameter/runs/token"
PRODUCTION = {
    "STAGE": "prod",
    "DATABASE_SECRET_ARN": ARN,
    "CONDUCTOR_URL": "http://conductor.runs.internal:8080",
    "CONDUCTOR_TOKEN_SECRET_ARN": ARN,
    "WORKBENCH_API_URL": "https://workbench.example.com/v1",
    "WORKBENCH_TOKEN_SECRET_ARN": PARAMETER,
    "CHECK_QUEUE_URL": "https://sqs.eu-west-2.amazonaws.com/000000000000/checks",
    "EVENT_BUS_NAME": "events",
    "STORAGE_BUCKET": "user-data",
    "STORAGE_SECRET_ARN": ARN,
    "OIDC_ISSUER": "https://issuer.example.com",
    "OIDC_JWKS_URL": "https://issuer.example.com/keys",
}


def test_s19_production_as_it_should_be_is_taken() -> None:
    assert ApiSettings.from_environment(PRODUCTION).is_production


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        *(
            (name, f"{scheme}://{host}:8080/x", "name the address of the service itself")
            for name in ("CONDUCTOR_URL", "WORKBENCH_API_URL", "STORAGE_ENDPOINT_URL")
            for scheme in ("http", "https")
            for host in (
                *("127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST.", "api.localhost"),
                *("[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"),  # noqa: S104  # refused
                *("127.1", "2130706433", "0x7f000001", "user:password@127.0.0.1"),
            )
        ),
        ("API_BASE_URL", "http://localhost:4566/x", "name the address of the service itself"),
        ("CONDUCTOR_URL", "http://conductor.example.com", "use https://, or a private address"),
        ("CONDUCTOR_URL", "http://8.8.8.8", "use https://, or a private address"),
        ("WORKBENCH_API_URL", "http://workbench.example.com", "use https://"),
        ("WORKBENCH_API_URL", "http://internal.example.com", "use https://"),
        ("STORAGE_ENDPOINT_URL", "http://minio.example.com:9000", "use https://"),
        ("OIDC_JWKS_URL", "file:///keys.json", "beginning with https://"),
        ("OIDC_JWKS_URL", "http://issuer.example.com/keys", "beginning with https://"),
        ("OIDC_JWKS_URL", "https://127.0.0.1/keys", "the issuer's own address"),
        ("DATABASE_URL", "postgresql+pg8000://u:p@db.test/d", "set DATABASE_SECRET_ARN"),
        ("DATABASE_URL", "postgresql+pg8000://u:p@127.0.0.1/d", "set DATABASE_SECRET_ARN"),
        ("WORKBENCH_TOKEN", "x", "set WORKBENCH_TOKEN_SECRET_ARN to its ARN"),
        ("CONDUCTOR_TOKEN", "x", "set CONDUCTOR_TOKEN_SECRET_ARN to its ARN"),
        ("STORAGE_ACCESS_KEY_ID", "x", "set STORAGE_SECRET_ARN to its ARN"),
        ("STORAGE_SECRET_ACCESS_KEY", "x", "set STORAGE_SECRET_ARN to its ARN"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566", "leave it unset"),
        ("AWS_ACCESS_KEY_ID", "test", "leave it to the function's role"),
        ("POWERTOOLS_DEBUG", "true", "leave it unset"),
        ("POWERTOOLS_DEV", "1", "leave it unset"),
    ],
)
def test_s19_what_is_local_is_refused_in_production_by_name_and_with_what_to_do(
    name: str, value: str, remedy: str
) -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        ApiSettings.from_environment(PRODUCTION | {name: value})
    assert str(refusal.value).startswith(f"{name} ")
    assert remedy in str(refusal.value)
    assert value not in str(refusal.value).split()


def test_s19_whatever_is_not_called_local_or_test_is_production() -> None:
    token = {"WORKBENCH_TOKEN": "x"}
    for stage in ("prod", "production", "Prod", "staging", "LOCAL", "dev", ""):
        with pytest.raises(SettingsInvalid, match="WORKBENCH_TOKEN holds a secret"):
            HuntSettings.from_environment(PRODUCTION | token | {"STAGE": stage})
    for stage in ("local", "test"):
        read = HuntSettings.from_environment(PRODUCTION | token | {"STAGE": stage})
        assert read.workbench_token == token["WORKBENCH_TOKEN"]


def test_s19_all_that_is_wrong_is_told_at_once() -> None:
    wrong = {"WORKBENCH_TOKEN": "x", "CONDUCTOR_URL": "http://localhost", "OIDC_JWKS_URL": "http:"}
    with pytest.raises(SettingsInvalid) as refusal:
        ApiSettings.from_environment(PRODUCTION | wrong)
    for name in wrong:
        assert f"{name} " in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        *("http://10.0.3.7:8080", "http://172.16.0.1", "http://[fd00::7]:8080", "http://conductor"),
        *("http://c.runs.internal", "http://c.runs.local", "https://conductor.example.com"),
        "http://internal-runs-123.eu-west-2.elb.amazonaws.com",
    ],
)
def test_s11_s19_clear_text_is_for_private_addresses(url: str) -> None:
    assert ApiSettings.from_environment(PRODUCTION | {"CONDUCTOR_URL": url}).conductor_url == url


@pytest.mark.parametrize(
    "value", ["the-token-itself", "arn:aws:s3:::bucket", "arn:x", "arn:aws:ssm:eu-west-2:0:x"]
)
@pytest.mark.parametrize("name", ["WORKBENCH_TOKEN_SECRET_ARN", "DATABASE_SECRET_ARN"])
def test_s15_what_names_no_secret_is_refused_by_name(name: str, value: str) -> None:
    """And not shown: it may be the secret."""
    with pytest.raises(SettingsInvalid, match=f"{name} must be the ARN of a") as refusal:
        HuntSettings.from_environment(PRODUCTION | {name: value})
    assert value not in str(refusal.value)
