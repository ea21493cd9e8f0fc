"""Where the API is and what opens it, as it is configured.

The first of these that is there counts:

1. an address that is given, as an argument;
2. a profile that is named, as an argument;
3. `PIPELINE_RUN_API_URL`;
4. `PIPELINE_RUN_PROFILE`, else the file's `default_profile`;
5. `.local/stack.json` in this folder or one above: the stack that `make up` started.

A token that is given as an argument goes with any of them. `PIPELINE_RUN_TOKEN` goes with an
address, with a profile that names no token of its own, and with the local stack: so a token meant
for one API isn't shown to another by a forgotten variable.

The file is `~/.config/pipeline-run/config.toml` (`PIPELINE_RUN_CONFIG` names another):

    default_profile = "prod"

    [profiles.prod]
    api_url = "https://api.example.com/prod"
    token_command = "my-sso token --audience pipeline-runs"  # or token = "…"
    storage_bucket = "my-bucket"                             # where `submit --input` uploads to
"""

from __future__ import annotations

import json
import os
import shlex
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from pipeline_runs.calls import checked_url, is_loopback
from pipeline_runs.client import Client
from pipeline_runs.errors import NotConfigured
from pipeline_runs.tokens import CommandToken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline_runs.calls import Token

PREFIX: Final = "PIPELINE_RUN_"
STACK_FILE: Final = Path(".local", "stack.json")
NOTHING_FOUND: Final = (
    "It isn't known where the API is. Set PIPELINE_RUN_API_URL and PIPELINE_RUN_TOKEN, write a"
    " profile into {file}, or go into a clone of the service where `make up` has started its stack."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageAccess:
    """The storage that files are uploaded to.

    Attributes:
        bucket: Where prefixes without a bucket are.
        prefix: What the caller's places begin with, such as `tenants/t1/`; empty: nothing.
        endpoint_url: None: AWS.
        region: None: as AWS's own configuration says; so are the keys.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the API is and what opens it.

    Attributes:
        token: None: nothing was found.
        source: Where the address is from, for people.
        token_source: Where the token is from; empty: nowhere.
        storage: None: its bucket isn't known.
        private_file: The file that holds the token; None: no file does.
    """

    api_url: str
    token: Token | None = field(repr=False)
    source: str
    token_source: str
    storage: StorageAccess | None = None
    private_file: Path | None = None


class Profile(BaseModel):
    """One `[profiles.NAME]` of the file."""

    model_config = ConfigDict(extra="forbid")

    api_url: str
    token: str | None = None
    token_command: str | list[str] | None = None
    """Printed by it: run without a shell, again shortly before the token ends."""
    storage_bucket: str | None = None
    storage_prefix: str = ""
    storage_endpoint_url: str | None = None
    storage_region: str | None = None

    @model_validator(mode="after")
    def _one_token(self) -> Profile:
        if self.token and self.token_command:
            raise ValueError("token and token_command exclude each other")
        return self


class ConfigFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    default_profile: str | None = None
    profiles: dict[str, Profile] = {}


def connect(profile: str | None = None) -> Client:
    """A client to the API that is configured, as the command line finds it.

    Raises:
        NotConfigured: none is, or the file is faulty.
    """
    found = find_connection(profile=profile, environment=os.environ, here=Path.cwd())
    return Client(found.api_url, found.token)


def find_connection(
    *,
    environment: Mapping[str, str],
    here: Path,
    api_url: str | None = None,
    token: str | None = None,
    profile: str | None = None,
) -> Connection:
    """What is configured; see the module for what counts before what.

    Args:
        environment: the variables.
        here: the folder where the search for a local stack begins.
        api_url: given as an argument.
        token: given as an argument.
        profile: named as an argument.

    Raises:
        NotConfigured: nothing is, or the file is faulty.
    """
    file = config_path(environment)
    of_environment = environment.get(f"{PREFIX}TOKEN") or None
    address = api_url or (None if profile else environment.get(f"{PREFIX}API_URL"))
    if address:
        found = Connection(
            api_url=checked_url(address),
            token=of_environment,
            source="--api-url" if api_url else f"{PREFIX}API_URL",
            token_source=f"{PREFIX}TOKEN" if of_environment else "",
            storage=_storage_of(environment),
        )
    else:
        config = read_config(file)
        name = profile or environment.get(f"{PREFIX}PROFILE") or config.default_profile
        found_or_none = (
            _of_profile(name, config, file, of_environment)
            if name
            else _of_stack(here, of_environment)
        )
        if found_or_none is None:
            raise NotConfigured(NOTHING_FOUND.format(file=file))
        found = found_or_none
    if token is None:
        return found
    return Connection(
        api_url=found.api_url,
        token=token,
        source=found.source,
        token_source="--token",  # noqa: S106 - an option's name
        storage=found.storage,
    )


def config_path(environment: Mapping[str, str]) -> Path:
    """The configuration file, whether it is there or not."""
    if named := environment.get(f"{PREFIX}CONFIG"):
        return Path(named).expanduser()
    home = environment.get("XDG_CONFIG_HOME") or str(Path("~", ".config").expanduser())
    return Path(home, "pipeline-run", "config.toml")


def read_config(file: Path) -> ConfigFile:
    """What the file says; nothing, if there is none.

    Raises:
        NotConfigured: it is no TOML, or says something that isn't known here.
    """
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ConfigFile()
    except OSError as error:
        raise NotConfigured(f"{file} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise NotConfigured(f"{file} is no TOML: {error}") from error
    try:
        return ConfigFile.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        why = first["msg"].removeprefix("Value error, ")
        raise NotConfigured(f"{file}: {where}: {why}") from error


def _of_profile(
    name: str, config: ConfigFile, file: Path, of_environment: str | None
) -> Connection:
    profile = config.profiles.get(name)
    if profile is None:
        known = ", ".join(sorted(config.profiles)) or "none at all"
        raise NotConfigured(f"There is no profile {name!r} in {file}; it has: {known}")
    source = f"profile {name}"
    token: Token | None = profile.token or of_environment
    told = f"{source}" if profile.token else f"{PREFIX}TOKEN" if of_environment else ""
    if profile.token_command:
        command = profile.token_command
        token = CommandToken(shlex.split(command) if isinstance(command, str) else command)
        told = f"token_command of {source}"
    storage = None
    if profile.storage_bucket:
        storage = StorageAccess(
            bucket=profile.storage_bucket,
            prefix=profile.storage_prefix,
            endpoint_url=profile.storage_endpoint_url,
            region=profile.storage_region,
        )
    return Connection(
        api_url=checked_url(profile.api_url),
        token=token,
        source=f"{source} of {file}",
        token_source=told,
        storage=storage,
        private_file=file if profile.token else None,
    )


def _of_stack(here: Path, of_environment: str | None) -> Connection | None:
    """The nearest local stack; one whose addresses aren't of this machine is none of ours."""
    for folder in (here, *here.parents):
        file = folder / STACK_FILE
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if not isinstance(told, dict) or not is_loopback(str(told.get("api_url", ""))):
            continue
        storage = None
        if told.get("storage_bucket"):
            storage = StorageAccess(
                bucket=told["storage_bucket"],
                endpoint_url=told.get("storage_endpoint_url"),
                region=told.get("aws_region"),
                access_key_id=told.get("storage_access_key_id"),
                secret_access_key=told.get("storage_secret_access_key"),
            )
        return Connection(
            api_url=checked_url(told["api_url"]),
            token=of_environment or told.get("api_token"),
            source=f"the local stack ({file})",
            token_source=f"{PREFIX}TOKEN" if of_environment else "the local stack",
            storage=storage,
        )
    return None


def _storage_of(environment: Mapping[str, str]) -> StorageAccess | None:
    bucket = environment.get(f"{PREFIX}STORAGE_BUCKET")
    if not bucket:
        return None
    return StorageAccess(
        bucket=bucket,
        prefix=environment.get(f"{PREFIX}STORAGE_PREFIX", ""),
        endpoint_url=environment.get(f"{PREFIX}STORAGE_ENDPOINT_URL") or None,
        region=environment.get(f"{PREFIX}STORAGE_REGION") or None,
    )
