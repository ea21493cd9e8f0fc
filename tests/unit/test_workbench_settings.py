"""The reference Workbench's environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.workbench.settings import Settings, SettingsTrouble, read_settings


def test_a_folder_is_enough() -> None:
    settings = read_settings({"WORKBENCH_DATA_PATH": "jobs", "STORAGE_BUCKET": ""})
    assert settings == Settings(data_path=Path("jobs"))
    assert (settings.host, settings.port) == ("127.0.0.1", 0)
    assert settings.storage_endpoint_url is None
    assert settings.storage_bucket is None


def test_everything_can_be_set() -> None:
    settings = read_settings(
        {
            "WORKBENCH_DATA_PATH": "jobs",
            "WORKBENCH_HOST": "::1",
            "WORKBENCH_PORT": "9001",
            "WORKBENCH_JOURNAL_PATH": "journal.jsonl",
            "WORKBENCH_WORKERS": "8",
            "STORAGE_ENDPOINT_URL": "http://127.0.0.1:9000",
            "STORAGE_BUCKET": "user-data",
        }
    )
    assert settings == Settings(
        data_path=Path("jobs"),
        host="::1",
        port=9001,
        journal_path=Path("journal.jsonl"),
        storage_endpoint_url="http://127.0.0.1:9000",
        storage_bucket="user-data",
        worker_count=8,
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("WORKBENCH_DATA_PATH", ""),
        ("WORKBENCH_PORT", "http"),
        ("WORKBENCH_PORT", "65536"),
        ("WORKBENCH_PORT", "-1"),
        ("WORKBENCH_PORT", "٣"),
        ("WORKBENCH_WORKERS", "0"),
    ],
)
def test_a_wrong_variable_is_named(name: str, text: str) -> None:
    with pytest.raises(SettingsTrouble, match=name):
        read_settings({"WORKBENCH_DATA_PATH": "jobs", name: text})
