"""What the environment may say to the local stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.local.external import External, without_password
from infra.local.ports import wanted_port
from infra.local.processes import surroundings
from infra.local.trouble import StackTrouble

STORAGE = {
    "STORAGE_ENDPOINT_URL": "http://127.0.0.1:9000/",
    "STORAGE_BUCKET": "mine",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
}


def test_a_port_is_set_by_the_parts_name() -> None:
    assert wanted_port("conductor", {"CONDUCTOR_PORT": "8080"}) == 8080
    assert wanted_port("conductor", {"CONDUCTOR_PORT": ""}) is None
    assert wanted_port("storage", {"CONDUCTOR_PORT": "8080"}) is None


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "80.5", "٨٠"])
def test_what_is_no_port_is_refused_by_the_variables_name(text: str) -> None:
    with pytest.raises(StackTrouble, match="CONDUCTOR_PORT must be a port number"):
        wanted_port("conductor", {"CONDUCTOR_PORT": text})


def test_nothing_is_given_from_outside_unless_it_is_said() -> None:
    assert External.from_environment({"CONDUCTOR_URL": ""}, region="r").urls == {}


def test_parts_are_given_by_their_addresses() -> None:
    external = External.from_environment(
        {
            "WORKBENCH_API_URL": "https://workbench.example/api/",
            "CONDUCTOR_URL": "http://127.0.0.1:8080",
            "DATABASE_URL": "postgres://me:pw@db.example/runs",
        },
        region="r",
    )
    assert external.urls == {
        "workbench": "https://workbench.example/api",
        "conductor": "http://127.0.0.1:8080",
        "postgres": "postgresql+pg8000://me:pw@db.example/runs",
    }


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WORKBENCH_API_URL", "workbench:8080"),
        ("CONDUCTOR_URL", "ftp://127.0.0.1"),
        ("CONDUCTOR_URL", "http://127.0.0.1:port"),
        ("DATABASE_URL", "sqlite:///runs.db"),
        ("DATABASE_URL", "postgresql://"),
    ],
)
def test_an_address_without_sense_is_refused_by_the_variables_name(
    variable: str, value: str
) -> None:
    with pytest.raises(StackTrouble, match=f"{variable} must be"):
        External.from_environment({variable: value}, region="r")


def test_a_storage_comes_with_its_bucket_and_keys() -> None:
    storage = External.from_environment(STORAGE, region="here").storage
    assert storage is not None
    assert storage.endpoint_url == "http://127.0.0.1:9000"
    assert (storage.bucket, storage.region) == ("mine", "here")
    there = External.from_environment(STORAGE | {"AWS_DEFAULT_REGION": "there"}, region="here")
    assert there.storage is not None
    assert there.storage.region == "there"


def test_what_a_storage_lacks_is_named() -> None:
    lacking = {k: v for k, v in STORAGE.items() if k != "AWS_SECRET_ACCESS_KEY"}
    with pytest.raises(StackTrouble, match="AWS_SECRET_ACCESS_KEY"):
        External.from_environment(lacking, region="r")


def test_passwords_are_not_shown() -> None:
    shown = without_password("postgresql+pg8000://me:p@ss@127.0.0.1:5432/runs")
    assert shown == "postgresql+pg8000://127.0.0.1:5432/runs"
    assert without_password("http://127.0.0.1:1/x") == "http://127.0.0.1:1/x"


def test_a_part_sees_little_of_the_users_environment_and_has_a_home_of_its_own() -> None:
    users = {"PATH": "/bin", "HOME": "/home/me", "AWS_PROFILE": "mine", "DEBUG": "1"}
    seen = surroundings(Path("/state/part"), users | {"HTTPS_PROXY": "http://proxy"})
    assert seen["PATH"] == "/bin"
    assert seen["HTTPS_PROXY"] == "http://proxy"
    assert "127.0.0.1" in seen["NO_PROXY"].split(",")
    assert seen.keys().isdisjoint({"AWS_PROFILE", "DEBUG"})
    places = {seen[name] for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    assert all(place.startswith("/state/part/") for place in places)
