"""The database's address, from Secrets Manager."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote


def database_url(client: Any, arn: str) -> str:
    """The URL that a secret holds, as itself or in the parts that RDS keeps there.

    Args:
        client: boto3's Secrets Manager client.
        arn: the secret's.
    """
    text: str = client.get_secret_value(SecretId=arn)["SecretString"]
    if not text.lstrip().startswith("{"):
        return text.strip()
    parts = json.loads(text)
    user, password = quote(parts["username"], safe=""), quote(parts["password"], safe="")
    name = parts.get("dbname") or "pipeline_runs"
    return f"postgresql+pg8000://{user}:{password}@{parts['host']}:{parts['port']}/{name}"
