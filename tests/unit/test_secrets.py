"""The database's address, as Secrets Manager holds it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from runs.adapters.secrets import database_url

ARN = "arn:aws:secretsmanager:eu-central-1:000000000000:secret:runs"
PARTS = {"username": "api", "password": "p@ss/w:rd%", "host": "db.test", "port": 5432}


@dataclass
class Secret:
    """Secrets Manager with one secret in it."""

    text: str

    def get_secret_value(self, *, SecretId: str) -> dict[str, str]:  # noqa: N803  # boto3's
        assert SecretId == ARN
        return {"SecretString": self.text}


def test_a_secret_may_be_the_url_itself() -> None:
    url = "postgresql+pg8000://u:p@h:1/d"
    assert database_url(Secret(f" {url}\n"), ARN) == url


@pytest.mark.parametrize(
    ("more", "name"),
    [({}, "pipeline_runs"), ({"dbname": "runs"}, "runs"), ({"dbname": None}, "pipeline_runs")],
)
def test_a_secret_may_be_rdss_parts(more: dict[str, str | None], name: str) -> None:
    url = sa.make_url(database_url(Secret(json.dumps(PARTS | more)), ARN))

    assert url.drivername == "postgresql+pg8000"
    assert (url.username, url.password) == ("api", "p@ss/w:rd%")
    assert (url.host, url.port, url.database) == ("db.test", 5432, name)
