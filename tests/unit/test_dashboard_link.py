"""`make dashboard`: a link that opens the dashboard of the stack that is up."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import jwt

from infra.local.dashboard import print_link
from infra.local.layout import Layout
from infra.local.stack_file import Stack, write_stack

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

ADDRESS: Final = "http://127.0.0.1:1/Prod/dashboard"


def test_the_link_has_a_token_where_no_server_sees_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(tmp_path)
    told: dict[str, Any] = dict.fromkeys((field.name for field in fields(Stack)), "x")
    write_stack(layout, Stack(**told | {"dashboard_url": ADDRESS}))
    assert print_link(layout, lifetime=timedelta(hours=1)) == 0
    address, _, token = capsys.readouterr().out.strip().partition("#token=")
    assert address == ADDRESS
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 3600


def test_without_a_stack_one_is_told_how_to_start_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert print_link(Layout(tmp_path), lifetime=timedelta(hours=1)) == 1
    assert "make up" in capsys.readouterr().err
