"""The only reader of the environment: typed, once, per function.

Each Lambda function has a class that names exactly the variables it uses; a test holds
`template.yaml` to them. A variable's name is the field's, in capitals.

A stage that isn't a local one is production, whatever it is called: there nothing may be on this
machine, go over the internet in clear text, or hold a secret.
"""

from __future__ import annotations

import os
import re
from dataclasses import MISSING, dataclass, fields
from datetime import timedelta
from ipaddress import ip_address
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self, get_type_hints
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOCAL_STAGES: Final = frozenset({"local", "test"})

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
LONGEST_RETENTION_DAYS: Final = 36_500


class SettingsInvalid(ValueError):
    """A variable is missing or has no sense; the text names it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every function is told; also the reader."""

    stage: str = "prod"
    poll_interval_seconds: int = 30
    tracing: bool = False
    """Whether calls are traced by X-Ray: only where its daemon is."""

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
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_secret_arn") and value and not _SECRET.fullmatch(value):
                raise SettingsInvalid(f"{field.name.upper()} must be {_KEPT_THERE}")
        if self.is_production and (faults := list(_production_faults(self))):
            raise SettingsInvalid("; ".join(faults))

    @property
    def is_production(self) -> bool:
        """Whether what is local is refused."""
        return self.stage not in LOCAL_STAGES

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
        read = cls(**found)  # type: ignore[arg-type]  # each by its field's own type
        if read.is_production and (faults := list(_surroundings_faults(environment))):
            raise SettingsInvalid("; ".join(faults))
        return read


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings(Settings):
    """For whoever works with the database."""

    database_url: str = ""
    """`postgresql+pg8000://user:password@host:port/name`; empty: read from the secret."""
    database_secret_arn: str = ""
    """A secret: the URL, or RDS's JSON with username, password, host and port."""

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
class ConductorTokenSettings(Settings):
    """For whoever calls Conductor. Both empty: it lets everybody in."""

    conductor_token: str = ""
    """For local runs."""
    conductor_token_secret_arn: str = ""
    """A secret that is the token."""


@dataclass(frozen=True, kw_only=True)
class WorkbenchTokenSettings(Settings):
    """For whoever calls the Workbench. Both empty: it lets everybody in."""

    workbench_token: str = ""
    """For local runs."""
    workbench_token_secret_arn: str = ""
    """A secret that is the token."""


@dataclass(frozen=True, kw_only=True)
class SubmissionSettings(DatabaseSettings, ConductorTokenSettings, WorkbenchTokenSettings):
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
    """For local runs."""
    storage_secret_access_key: str = ""
    storage_secret_arn: str = ""
    """A secret, JSON with access_key_id and secret_access_key. No key at all: the role's."""
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
class HuntSettings(DatabaseSettings, WorkbenchTokenSettings):
    """`poller.hunt`."""

    workbench_api_url: str


@dataclass(frozen=True, kw_only=True)
class SurveySettings(DatabaseSettings):
    """`poller.survey`."""

    workbench_api_url: str


@dataclass(frozen=True, kw_only=True)
class PurgeSettings(DatabaseSettings):
    """`poller.purge`."""

    retention_days: int = 90
    """How long a run is kept once it has ended; 0: for ever."""

    def __post_init__(self) -> None:
        """See `Settings`."""
        super().__post_init__()
        if not 0 <= self.retention_days <= LONGEST_RETENTION_DAYS:
            raise SettingsInvalid(f"RETENTION_DAYS must be from 0 to {LONGEST_RETENTION_DAYS}")


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


def _production_faults(settings: Settings) -> Iterator[str]:
    """What of the settings must not be in production, by name, and what to do."""
    for name, arn in _SECRETS.items():
        if getattr(settings, name, ""):
            advice = f"store it in Secrets Manager and set {arn.upper()} to its ARN"
            yield f"{name.upper()} holds a secret, which is for local runs only: {advice}"
    for name in _ADDRESSES:
        if address := getattr(settings, name, ""):
            yield from (f"{name.upper()} {fault}" for fault in _address_faults(address))
    jwks = getattr(settings, "oidc_jwks_url", "")
    if jwks and not (jwks.startswith("https://") and not _is_local(_host(jwks))):
        yield "OIDC_JWKS_URL must be the issuer's own address, beginning with https://"


def _surroundings_faults(environment: Mapping[str, str]) -> Iterator[str]:
    """What else of the environment must not be in production."""
    if _is_local(_host(environment.get("AWS_ENDPOINT_URL", ""))):
        yield "AWS_ENDPOINT_URL is on this machine: leave it unset"
    if environment.get("AWS_ACCESS_KEY_ID") == "test":
        yield "AWS_ACCESS_KEY_ID is LocalStack's: leave it to the function's role"
    for name in _DEBUG:
        if environment.get(name, "").lower() in {"1", "true", "yes", "on"}:
            yield f"{name} is on: leave it unset"


def _address_faults(address: str) -> Iterator[str]:
    host = _host(address)
    if _is_local(host):
        yield "is on this machine: name the address of the service itself"
    elif not address.startswith("https://") and not _is_private(host):
        yield "goes over the internet in clear text: use https://, or a private address"


def _host(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_local(host: str) -> bool:
    """Whether it is this machine, in any of the ways to write that."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost") or bool(_NUMBER.fullmatch(host))
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def _is_private(host: str) -> bool:
    """Whether it can be seen to be in a network of one's own."""
    try:
        return ip_address(host).is_private
    except ValueError:
        return bool(_PRIVATE_NAME.fullmatch(host))


_SECRETS: Final = MappingProxyType(
    {
        "database_url": "database_secret_arn",
        "conductor_token": "conductor_token_secret_arn",
        "workbench_token": "workbench_token_secret_arn",
        "storage_access_key_id": "storage_secret_arn",
        "storage_secret_access_key": "storage_secret_arn",
    }
)
"""What holds a secret, and what names one in its place."""
_ADDRESSES: Final = ("conductor_url", "workbench_api_url", "storage_endpoint_url", "api_base_url")
_DEBUG: Final = ("POWERTOOLS_DEBUG", "POWERTOOLS_DEV")
_SECRET: Final = re.compile(r"arn:[\w-]+:(secretsmanager:.*:secret:.+|ssm:.*:parameter/.+)")
_KEPT_THERE: Final = "the ARN of a Secrets Manager secret or of an SSM parameter"
_NUMBER: Final = re.compile(r"[0-9.]+|0x[0-9a-f.x]+")
"""How C libraries take an IPv4 address too: 127.1, 2130706433, 0x7f000001."""
_PRIVATE_NAME: Final = re.compile(
    r"[\w-]+|.+\.(internal|local)|internal-[\w-]+\.[\w-]+\.elb\.amazonaws\.com(\.cn)?"
)
"""A name without a dot, one below a domain that is nobody's on the internet, or an internal load
balancer's."""
_READERS: Final = MappingProxyType({str: _text, int: _number, bool: _truth})
