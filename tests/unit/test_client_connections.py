"""Where the API is, by arguments, variables, profiles and the local stack."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pipeline_runs import errors
from pipeline_runs.connections import Connection, StorageAccess, config_path, find_connection
from pipeline_runs.tokens import CommandToken

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
default_profile = "prod"

[profiles.prod]
api_url = "https://prod.test/v1/"
token = "of prod"
storage_bucket = "bucket"
storage_region = "eu-west-2"

[profiles.bare]
api_url = "https://bare.test"

[profiles.sso]
api_url = "https://sso.test"
token_command = "sso token --audience 'pipeline runs'"
"""
STACK = {
    "api_url": "http://127.0.0.1:4567/Prod",
    "api_token": "of the stack",
    "storage_bucket": "user-data",
    "storage_endpoint_url": "http://127.0.0.1:9000",
    "storage_access_key_id": "KEY",
    "storage_secret_access_key": "SECRET",
    "aws_region": "eu-west-2",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the configuration, and none above it."""
    file = tmp_path / ".config" / "pipeline-run" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(CONFIG)
    return tmp_path


def write_stack(folder: Path, **others: Any) -> Path:
    file = folder / ".local" / "stack.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(STACK | others))
    return file


def found(home: Path, here: Path | None = None, **more: Any) -> Connection:
    variables = more.pop("variables", {})
    environment = {"XDG_CONFIG_HOME": str(home / ".config"), **variables}
    return find_connection(environment=environment, here=here or home, **more)


def address_and_token(connection: Connection) -> tuple[str, object]:
    return connection.api_url, connection.token


# -- what counts before what ----------------------------------------------------------------------


def test_a_default_profile_is_used(home: Path) -> None:
    connection = found(home)
    assert address_and_token(connection) == ("https://prod.test/v1", "of prod")
    assert connection.storage == StorageAccess(bucket="bucket", region="eu-west-2")
    assert connection.token_source == "profile prod"  # noqa: S105 - where it is from


def test_a_variable_names_another_profile_and_an_argument_yet_another(home: Path) -> None:
    variables = {"PIPELINE_RUN_PROFILE": "bare"}
    assert found(home, variables=variables).api_url == "https://bare.test"
    assert found(home, variables=variables, profile="sso").api_url == "https://sso.test"


def test_an_address_by_variable_counts_before_the_file(home: Path) -> None:
    variables = {"PIPELINE_RUN_API_URL": "https://env.test", "PIPELINE_RUN_TOKEN": "of env"}
    assert address_and_token(found(home, variables=variables)) == ("https://env.test", "of env")


def test_a_named_profile_counts_before_an_address_by_variable(home: Path) -> None:
    variables = {"PIPELINE_RUN_API_URL": "https://env.test", "PIPELINE_RUN_TOKEN": "of env"}
    connection = found(home, variables=variables, profile="prod")
    assert address_and_token(connection) == ("https://prod.test/v1", "of prod")


def test_an_address_by_argument_counts_before_all(home: Path) -> None:
    variables = {"PIPELINE_RUN_API_URL": "https://env.test"}
    connection = found(home, variables=variables, profile="prod", api_url="https://arg.test")
    assert address_and_token(connection) == ("https://arg.test", None)


def test_a_profile_without_a_token_takes_the_variables(home: Path) -> None:
    variables = {"PIPELINE_RUN_TOKEN": "of env"}
    tokens = [found(home, variables=variables, profile=name).token for name in ("bare", "prod")]
    assert tokens == ["of env", "of prod"]


def test_a_token_by_argument_counts_before_all(home: Path) -> None:
    connection = found(home, token="mine")  # noqa: S106 - it opens nothing
    assert address_and_token(connection) == ("https://prod.test/v1", "mine")


def test_empty_variables_are_none(home: Path) -> None:
    variables = {"PIPELINE_RUN_API_URL": "", "PIPELINE_RUN_TOKEN": "", "PIPELINE_RUN_PROFILE": ""}
    assert found(home, variables=variables).api_url == "https://prod.test/v1"


def test_a_command_gives_the_token(home: Path) -> None:
    token = found(home, profile="sso").token
    assert isinstance(token, CommandToken)
    assert token.command == ["sso", "token", "--audience", "pipeline runs"]


# -- the local stack ------------------------------------------------------------------------------


def test_a_stack_is_found_from_any_folder_of_its_clone(tmp_path: Path) -> None:
    write_stack(tmp_path)
    below = tmp_path / "docs" / "pictures"
    below.mkdir(parents=True)
    connection = found(tmp_path, below)
    assert address_and_token(connection) == ("http://127.0.0.1:4567/Prod", "of the stack")
    assert connection.storage == StorageAccess(
        bucket="user-data",
        endpoint_url="http://127.0.0.1:9000",
        region="eu-west-2",
        access_key_id="KEY",
        secret_access_key="SECRET",  # noqa: S106 - it opens nothing
    )


def test_a_token_by_variable_is_for_the_local_stack_too(tmp_path: Path) -> None:
    write_stack(tmp_path)
    connection = found(tmp_path, variables={"PIPELINE_RUN_TOKEN": "less"})
    assert address_and_token(connection) == ("http://127.0.0.1:4567/Prod", "less")


def test_a_stack_elsewhere_is_none_of_this_machine_and_gets_no_token(tmp_path: Path) -> None:
    write_stack(tmp_path, api_url="https://127.0.0.1.evil.test/")
    with pytest.raises(errors.NotConfigured, match="It isn't known where the API is"):
        found(tmp_path, variables={"PIPELINE_RUN_TOKEN": "secret"})


@pytest.mark.parametrize("text", ["", "[]", "{", '{"api_url": null}'])
def test_a_broken_stack_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    write_stack(tmp_path).write_text(text)
    with pytest.raises(errors.NotConfigured):
        found(tmp_path)


# -- what is wrong --------------------------------------------------------------------------------


def test_nothing_configured_names_the_ways_to_do_it(tmp_path: Path) -> None:
    with pytest.raises(errors.NotConfigured) as raised:
        found(tmp_path)
    told = str(raised.value)
    assert "PIPELINE_RUN_API_URL" in told
    assert str(tmp_path / ".config" / "pipeline-run" / "config.toml") in told
    assert "make up" in told


def test_a_profile_that_is_not_there_is_answered_with_those_that_are(home: Path) -> None:
    with pytest.raises(errors.NotConfigured, match=r"'prd'.*it has: bare, prod, sso"):
        found(home, profile="prd")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[", "is no TOML"),
        ("[profiles.p]\n", "profiles.p.api_url: Field required"),
        ('[profiles.p]\napi_url = "x"\ntokn = "t"\n', "profiles.p.tokn"),
        (
            '[profiles.p]\napi_url = "x"\ntoken = "t"\ntoken_command = "c"\n',
            "exclude each other",
        ),
    ],
)
def test_a_faulty_file_is_told_by_its_place(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(errors.NotConfigured, match=told) as raised:
        found(tmp_path, variables={"PIPELINE_RUN_CONFIG": str(file)})
    assert str(file) in str(raised.value)


def test_secrets_are_not_in_what_a_connection_prints(home: Path) -> None:
    write_stack(home)
    (home / ".config" / "pipeline-run" / "config.toml").unlink()
    told = repr(found(home))
    assert "of the stack" not in told
    assert "SECRET" not in told


def test_the_file_is_in_the_users_configuration() -> None:
    assert config_path({"PIPELINE_RUN_CONFIG": "/c.toml"}).as_posix() == "/c.toml"
    assert config_path({"XDG_CONFIG_HOME": "/x"}).as_posix() == "/x/pipeline-run/config.toml"
    assert config_path({}).parts[-3:] == (".config", "pipeline-run", "config.toml")
