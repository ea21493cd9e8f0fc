"""How the database is reached."""

from __future__ import annotations

import ssl

import pytest

from runs.adapters.postgres.database import _tls


@pytest.mark.parametrize("host", ["db.test", "10.0.0.7", "localhost.test", "128.0.0.1", "fd00::1"])
def test_s12_a_database_elsewhere_is_reached_by_verified_tls(host: str) -> None:
    context = _tls(host)
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1", "", None])
def test_a_database_on_this_machine_needs_none(host: str | None) -> None:
    assert _tls(host) is False
