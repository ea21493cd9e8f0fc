"""What the commands share: the way to the API, and the two ways to print."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping  # noqa: TC003 - a dataclass's fields
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer
from pydantic import BaseModel
from rich.console import Console

from pipeline_runs.calls import Patience, Surroundings
from pipeline_runs.client import Client
from pipeline_runs.connections import find_connection
from pipeline_runs.uploads import S3Storage

if TYPE_CHECKING:
    import httpx

    from pipeline_runs.connections import Connection, StorageAccess
    from pipeline_runs.models import Pipeline
    from pipeline_runs.uploads import Storage


PATIENCE: Final = Patience(budget_seconds=8)
"""Somebody sits there and waits to be told."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Outside:
    """What the commands know of the world, for tests to replace."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    here: Path = field(default_factory=Path.cwd)
    now: Callable[[], datetime] = _now
    surroundings: Surroundings = field(default_factory=Surroundings)
    api: httpx.BaseTransport | None = None
    """In place of the network to the API."""
    links: httpx.BaseTransport | None = None
    """In place of the network to the storage's links."""
    storage: Callable[[StorageAccess | None], Storage] = S3Storage


@dataclass(kw_only=True)
class Session:
    """One call of the command line.

    Attributes:
        outside: The world.
        profile: As it was given; so are the others.
    """

    outside: Outside
    profile: str | None = None
    api_url: str | None = None
    token: str | None = None
    request_id: str | None = None

    @cached_property
    def connection(self) -> Connection:
        """Where the API is.

        Raises:
            NotConfigured: it isn't known.
        """
        return find_connection(
            environment=self.outside.environment,
            here=self.outside.here,
            api_url=self.api_url,
            token=self.token,
            profile=self.profile,
        )

    @cached_property
    def client(self) -> Client:
        """The way to the API.

        Raises:
            NotConfigured: it isn't known where it is.
        """
        return self.client_with(PATIENCE)

    def client_with(self, patience: Patience) -> Client:
        """The way to the API, for who has more time or less.

        Raises:
            NotConfigured: it isn't known where it is.
        """
        return Client(
            self.connection.api_url,
            self.connection.token,
            patience=patience,
            request_id=self.request_id,
            surroundings=self.outside.surroundings,
            transport=self.outside.api,
        )

    @cached_property
    def out(self) -> Console:
        """Standard output: what was asked for, and nothing else."""
        return Console(highlight=False)

    @cached_property
    def aside(self) -> Console:
        """Standard error: everything else."""
        return Console(stderr=True, highlight=False)

    def print_json(self, told: BaseModel | Mapping[str, Any]) -> None:
        """One JSON value, whole, whatever the terminal is."""
        value = told.model_dump(mode="json") if isinstance(told, BaseModel) else told
        typer.echo(json.dumps(value, indent=2, ensure_ascii=False))

    def pipeline_named(self, text: str) -> Pipeline:
        """The pipeline with this id or, if it is no number, this name.

        Raises:
            NotFound: none has this id.
            PipelineNameUnknown: none has this name.
        """
        if text.isascii() and text.isdigit():
            return self.client.get_pipeline(int(text))
        return self.client.find_pipeline(text)

    def pipeline_id(self, text: str) -> int:
        """The same one's id, without a call if it is one."""
        return int(text) if text.isascii() and text.isdigit() else self.pipeline_named(text).id

    def names_of_pipelines(self, wanted: set[int]) -> dict[int, str]:
        """The names of these pipelines, for as few calls as it takes."""
        names: dict[int, str] = {}
        if wanted:
            for pipeline in self.client.list_pipelines(page_size=200):
                if pipeline.id in wanted:
                    names[pipeline.id] = pipeline.name
                if len(names) == len(wanted):
                    break
        return names


def session_of(context: typer.Context) -> Session:
    """The session that a command runs in."""
    session = context.find_object(Session)
    if session is None:
        raise AssertionError("The root's callback makes one")
    return session
