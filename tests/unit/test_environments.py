"""How the Python environments tell what they are at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.local import environments

if TYPE_CHECKING:
    import pytest

UV_SAYS = """\
Resolved 25 packages in 117ms
Downloading numpy (16.1MiB)
Downloading polars-runtime-32 (51.4MiB)
 Downloaded numpy
Prepared 25 packages in 695ms
 + numpy==2.4.6
"""


def test_large_downloads_are_told_by_name_and_size(capsys: pytest.CaptureFixture[str]) -> None:
    downloads = environments.Downloads("workbench")
    for line in UV_SAYS.splitlines():
        downloads.note(line)
    told = capsys.readouterr().err
    assert told == (
        "environment workbench  downloading numpy (16.1MiB)\n"
        "environment workbench  downloading polars-runtime-32 (51.4MiB)\n"
    )
    assert downloads.under_way == ["polars-runtime-32 (51.4MiB)"]


def test_what_all_environments_hold_is_installed_before_they_are() -> None:
    first, second = environments.in_order(["stack", "dev", "localstack", "functions"])
    assert first == ["dev", "localstack"]
    assert second == ["stack", "functions"]


def test_without_that_environment_all_are_installed_at_once() -> None:
    assert environments.in_order(["stack", "localstack"]) == (["stack", "localstack"], [])
