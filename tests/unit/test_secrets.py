"""Secrets as AWS keeps them: read late, kept for an hour, read anew when they are refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from botocore.exceptions import BotoCoreError, ClientError

from runs.adapters.secrets import Secret, database_url, secret_text, storage_keys, token_of
from runs.errors import DatabaseUnavailable, SecretUnavailable, StorageUnavailable
from runs.wiring import Wiring
from wired import ENVIRONMENT, logged

if TYPE_CHECKING:
    from collections.abc import Mapping

ARN = "arn:aws:secretsmanager:eu-central-1:000000000000:secret:runs"
PARAMETER = "arn:aws:ssm:eu-central-1:000000000000:parameter/runs/token"
CANARY = "canary-3f9a"
PARTS = {"username": "api", "password": "p@ss/w:rd%", "host": "db.test", "port": 5432}
KEYS = {"access_key_id": "key-1", "secret_access_key": "of-key-1"}


@dataclass
class Vault:
    """Both services of AWS, with one secret in them, and a clock."""

    text: str = CANARY
    trouble: Exception | None = None
    readings: int = 0
    now: float = 0.0
    wall: float = 1_000_000.0
    services: list[str] = field(default_factory=list)

    def client(self, service: str) -> Vault:
        self.services.append(service)
        return self

    def get_secret_value(self, *, SecretId: str) -> Mapping[str, Any]:  # noqa: N803  # boto3's
        assert SecretId == ARN
        return {"SecretString": self.read()}

    def get_parameter(
        self,
        *,
        Name: str,  # noqa: N803  # boto3's
        WithDecryption: bool,  # noqa: N803  # boto3's
    ) -> Mapping[str, Any]:
        assert (Name, WithDecryption) == (PARAMETER, True)
        return {"Parameter": {"Value": self.read()}}

    def read(self) -> str:
        self.readings += 1
        if self.trouble:
            raise self.trouble
        return self.text

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    def secret(self) -> Secret:
        return Secret(
            lambda: secret_text(self.client, ARN),
            clock=lambda: self.now,
            wall_clock=lambda: self.wall,
        )


REFUSED = ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetSecretValue")


# -- kept for an hour ------------------------------------------------------------------------------


def test_s15_a_secret_is_read_when_it_is_needed_and_kept_for_an_hour() -> None:
    vault = Vault()
    secret = vault.secret()
    assert (vault.readings, secret.known) == (0, None)
    assert (secret.text(), vault.readings) == (CANARY, 1)
    vault.text = "another"
    vault.pass_time(3_599)
    assert (secret.text(), secret.known, vault.readings) == (CANARY, CANARY, 1)
    vault.pass_time(1)
    assert secret.known is None
    assert (secret.text(), vault.readings) == ("another", 2)


def test_s15_an_hour_that_lambda_slept_counts_too() -> None:
    vault = Vault()
    secret = vault.secret()
    assert secret.text() == CANARY
    vault.text = "another"
    vault.wall += 3_600
    assert secret.text() == "another"


def test_s15_a_secret_that_is_refused_is_read_anew() -> None:
    vault = Vault()
    secret = vault.secret()
    assert secret.text() == CANARY
    vault.text = "another"
    vault.pass_time(60)
    assert secret.renew(CANARY)
    assert (secret.text(), vault.readings) == ("another", 2)
    assert secret.renew(CANARY), "who was refused with the old one is told that there is another"
    assert vault.readings == 2


def test_s15_who_refuses_every_secret_costs_one_reading_a_minute() -> None:
    vault = Vault()
    secret = vault.secret()
    text = secret.text()
    for _ in range(120):
        assert not secret.renew(text)
        vault.pass_time(1)
    assert vault.readings == 2


def test_a_secret_that_can_not_be_read_anew_is_no_other() -> None:
    vault = Vault()
    secret = vault.secret()
    text = secret.text()
    vault.pass_time(60)
    vault.trouble = REFUSED
    assert not secret.renew(text)
    vault.trouble = None
    assert secret.text() == text


# -- where they are kept ---------------------------------------------------------------------------


def test_s15_a_secret_is_secrets_managers_or_a_parameter_of_ssm() -> None:
    vault = Vault()
    assert secret_text(vault.client, ARN) == CANARY
    assert secret_text(vault.client, PARAMETER) == CANARY
    assert vault.services == ["secretsmanager", "ssm"]


@pytest.mark.parametrize("trouble", [REFUSED, BotoCoreError(), KeyError("SecretString")])
def test_s16_why_a_secret_can_not_be_read_is_logged_and_not_told(trouble: Exception) -> None:
    vault = Vault(trouble=trouble)
    with logged() as log, pytest.raises(SecretUnavailable) as refusal:
        vault.secret().text()
    (line,) = log.lines
    assert (line["level"], line["message"], line["arn"]) == ("WARNING", "secret_unavailable", ARN)
    assert line["error"]
    assert str(refusal.value) == "A secret can't be read"


# -- what they hold --------------------------------------------------------------------------------


def test_a_token_is_one_word() -> None:
    assert token_of(f" {CANARY}\n") == CANARY
    assert token_of("a" * 8_192)


@pytest.mark.parametrize(
    "text", ["", " ", f"{CANARY} more", f"{CANARY}\nX: y", f"{CANARY}ü", "\0", "a" * 8_193]
)
def test_s15_what_is_no_token_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(SecretUnavailable) as refusal:
        token_of(text)
    assert CANARY not in str(refusal.value)
    assert "it holds no token" in str(refusal.value)


def test_a_secret_may_be_the_url_itself() -> None:
    url = "postgresql+pg8000://u:p@h:1/d"
    assert database_url(f" {url}\n") == url


@pytest.mark.parametrize(
    ("more", "name"),
    [({}, "pipeline_runs"), ({"dbname": "runs"}, "runs"), ({"dbname": None}, "pipeline_runs")],
)
def test_a_secret_may_be_rdss_parts(more: dict[str, str | None], name: str) -> None:
    url = sa.make_url(database_url(json.dumps(PARTS | more)))

    assert url.drivername == "postgresql+pg8000"
    assert (url.username, url.password) == ("api", "p@ss/w:rd%")
    assert (url.host, url.port, url.database) == ("db.test", 5432, name)


@pytest.mark.parametrize("text", [f'{{"{CANARY}"', "{}", '{"username": 1, "password": 2}'])
def test_s15_what_is_no_database_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(SecretUnavailable) as refusal:
        database_url(text)
    assert CANARY not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(
    "text",
    [
        CANARY,
        f"mysql://u:p@h:1/{CANARY}",
        f"postgresql+pg8000://u:p@h:{CANARY}/d",
        f"postgresql+pg8000://u:p@{CANARY}@h:1/d",
        f"postgresql+pg8000://u:p@h:1/d@{CANARY}",
        f"postgresql+pg8000://u:p@h:1/d {CANARY}",
        f"postgresql+pg8000://u:p@h:1{CANARY}",
        json.dumps(PARTS | {"port": CANARY}),
        json.dumps(PARTS | {"host": f"h/{CANARY}"}),
    ],
)
def test_s15_s16_a_mistyped_database_url_is_refused_and_nowhere_shown(text: str) -> None:
    without = {name: value for name, value in ENVIRONMENT.items() if name != "DATABASE_URL"}
    wiring = VaultWiring(Vault(text), {**without, "DATABASE_SECRET_ARN": ARN})
    with logged() as log, pytest.raises(DatabaseUnavailable) as refusal:
        wiring.runs.ping()
    assert "A secret can't be used: " in str(refusal.value)
    assert CANARY not in str(refusal.value) + log.text


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgresql+pg8000://u:p/w?:#%40@db-1.test:5432/runs", "db-1.test"),
        ("postgresql+pg8000://u@[::1]:5432/runs?x=1", "::1"),
        ("postgresql+pg8000://127.0.0.1/runs", "127.0.0.1"),
    ],
)
def test_a_database_url_is_taken_apart_as_sqlalchemy_does(url: str, host: str) -> None:
    told = sa.make_url(database_url(url))
    assert (told.host, told.database) == (host, "runs")


def test_keys_to_the_storage_are_a_pair() -> None:
    assert storage_keys(json.dumps(KEYS)) == ("key-1", "of-key-1")
    for text in (CANARY, "[]", json.dumps({"access_key_id": CANARY})):
        with pytest.raises(SecretUnavailable) as refusal:
            storage_keys(text)
        assert CANARY not in str(refusal.value)


# -- where they go ---------------------------------------------------------------------------------


class VaultWiring(Wiring):
    """As on AWS, but for the services that keep secrets."""

    def __init__(self, vault: Vault, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.vault = vault

    def aws(self, service: str) -> Any:
        return self.vault.client(service)

    def clock(self) -> float:
        return self.vault.now


def test_s15_the_storages_client_has_the_keys_that_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    vault = Vault(json.dumps(KEYS))
    wiring = VaultWiring(vault, {**ENVIRONMENT, "STORAGE_SECRET_ARN": ARN})

    def credential() -> str:
        place = {"Bucket": "user-data", "Key": "k"}
        link: str = wiring._storage_client().generate_presigned_url("get_object", Params=place)  # noqa: SLF001  # what its adapter is given
        return link.partition("X-Amz-Credential=")[2].partition("%2F")[0]

    assert credential() == "key-1"
    assert wiring._storage_client() is wiring._storage_client()  # noqa: SLF001  # see above
    vault.text = json.dumps(KEYS | {"access_key_id": "key-2"})
    assert credential() == "key-1"
    vault.pass_time(3_600)
    assert credential() == "key-2"


def test_without_its_secret_the_storage_is_unavailable() -> None:
    vault = Vault(trouble=REFUSED)
    wiring = VaultWiring(vault, {**ENVIRONMENT, "STORAGE_SECRET_ARN": ARN})
    place = wiring.storage_rules.location("in")
    with pytest.raises(StorageUnavailable, match="can't be had"):
        wiring.storage.objects(place, page_size=1, after="", inline=False)


def test_without_its_secret_the_database_is_unavailable() -> None:
    vault = Vault(trouble=REFUSED)
    without = {name: value for name, value in ENVIRONMENT.items() if name != "DATABASE_URL"}
    wiring = VaultWiring(vault, {**without, "DATABASE_SECRET_ARN": ARN})
    with pytest.raises(DatabaseUnavailable, match="Its address can't be had"):
        wiring.runs.ping()
