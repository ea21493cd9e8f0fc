"""The only reader of the environment: typed, once, per function.

Each Lambda function has a class that names exactly the variables it uses; a test holds
`template.yaml` to them. A variable's name is the field's, in capitals.
"""

from __future__ import annotations

import os
from dataclasses import MISSING, dataclass, fields
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Mapping

POLL_INTERVALS_SECONDS = (60, 30, 20, 15, 10)
"""What divides the minute that EventBridge can count."""

LARGEST: Final = MappingProxyType(
    {
        "submit_wait_seconds": 15,  # Well within the submit lease.
        "submit_deadline_seconds": 86_400,
        "max_check_attempts": 5,  # With the next, no delay is longer than SQS's 900 s.
        "retry_delay_seconds": 60,
    }
)
"""What has an upper bound, and is positive."""


class SettingsInvalid(ValueError):
    """A variable is missing or has no sense; the text names it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every function is told; also the reader."""

    stage: str = "local"
    poll_interval_seconds: int = 30

    def __post_init__(self) -> None:
        """Checks what a type can't say.

        Raises:
            SettingsInvalid: the text names the variable.
        """
        if self.poll_interval_seconds not in POLL_INTERVALS_SECONDS:
            allowed = ", ".join(map(str, POLL_INTERVALS_SECONDS))
            raise SettingsInvalid(f"POLL_INTERVAL_SECONDS must be one of {allowed}")
        for name, largest in LARGEST.items():
            if not 0 < getattr(self, name, 1) <= largest:
                raise SettingsInvalid(f"{name.upper()} must be from 1 to {largest}")

    @property
    def poll_interval(self) -> timedelta:
        """P: how far two checks of an active run are apart."""
        return timedelta(seconds=self.poll_interval_seconds)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Reads every field from its variable.

        Raises:
            SettingsInvalid: a variable is missing or not of its type; all of them are named.
        """
        if environment is None:
            environment = os.environ  # noqa: TID251  # the one place
        kinds = get_type_hints(cls)
        found: dict[str, object] = {}
        trouble = []
        for field in fields(cls):
            name = field.name.upper()
            text = environment.get(name, "")
            if text == "" and field.default is not MISSING:
                continue
            try:
                found[field.name] = _READERS[kinds[field.name]](text)
            except ValueError as error:
                trouble.append(f"{name} must be {error}")
        if trouble:
            raise SettingsInvalid("; ".join(trouble))
        return cls(**found)  # type: ignore[arg-type]  # each by its field's own type


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings(Settings):
    """For whoever works with the database."""

    database_url: str = ""
    """`postgresql+pg8000://user:password@host:port/name`; empty: read from the secret."""
    database_secret_arn: str = ""
    """A Secrets Manager secret: the URL, or RDS's JSON with username, password, host and port."""

    def __post_init__(self) -> None:
        """See `Settings`."""
        super().__post_init__()
        if not (self.database_url or self.database_secret_arn):
            raise SettingsInvalid("DATABASE_URL or DATABASE_SECRET_ARN must be set")


@dataclass(frozen=True, kw_only=True)
class TokenSettings(Settings):
    """For whoever checks tokens; `api.authorizer` needs no more."""

    oidc_issuer: str
    """Whose tokens are accepted, as their `iss` claim names it."""
    oidc_jwks_url: str
    """Where the issuer's public keys are."""
    oidc_audience: str = "pipeline-runs"
    oidc_tenant_claim: str = "tenant"
    """The claim that names the caller's tenant."""


@dataclass(frozen=True, kw_only=True)
class SubmissionSettings(DatabaseSettings):
    """For whoever submits or resolves runs."""

    conductor_url: str
    workbench_api_url: str
    submit_wait_seconds: int = 10
    """How long a submission waits for its workflow to end."""
    submit_deadline_seconds: int = 300
    """After this since created_at a run that is still CREATED is given up."""
    workbench_honours_keys: bool = True
    """Whether the same Idempotency-Key again answers the same job; else every run's are hunted."""


@dataclass(frozen=True, kw_only=True)
class ApiSettings(SubmissionSettings, TokenSettings):
    """`api.app`."""

    check_queue_url: str
    event_bus_name: str
    max_active_runs_per_tenant: int = 0
    """0: as many as there may be."""
    storage_bucket: str
    allowed_buckets: str = ""
    """Further buckets that path prefixes may name, with commas between them."""
    tenant_prefix: str = ""
    """What a tenant's prefixes begin with, such as `tenants/{tenant}/`; empty: anything."""
    storage_endpoint_url: str = ""
    """Empty: AWS's own S3."""
    storage_access_key_id: str = ""
    """Empty: the function's role."""
    storage_secret_access_key: str = ""
    api_base_url: str = ""
    """Where clients reach the API, with the stage if they see it; empty: as the request came."""


@dataclass(frozen=True, kw_only=True)
class TickSettings(DatabaseSettings):
    """`poller.tick`."""

    workbench_api_url: str
    check_queue_url: str
    retry_queue_url: str
    tick_queue_url: str


@dataclass(frozen=True, kw_only=True)
class CheckSettings(SubmissionSettings):
    """`poller.check`."""

    check_queue_url: str
    retry_queue_url: str
    event_bus_name: str
    max_check_attempts: int = 3
    """Tries per run and interval."""
    retry_delay_seconds: int = 5
    """Before the second try; doubled for each further one."""


@dataclass(frozen=True, kw_only=True)
class RelaySettings(DatabaseSettings):
    """`poller.relay`."""

    event_bus_name: str


@dataclass(frozen=True, kw_only=True)
class HuntSettings(DatabaseSettings):
    """`poller.hunt`."""

    workbench_api_url: str


def _text(text: str) -> str:
    if not text:
        raise ValueError("set")
    return text


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("a whole number") from None


def _truth(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError("true or false")
    return text == "true"


_READERS: Final = MappingProxyType({str: _text, int: _number, bool: _truth})
