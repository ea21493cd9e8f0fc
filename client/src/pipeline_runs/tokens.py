"""Bearer tokens: what they say of themselves, and those that a command gives."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pipeline_runs.errors import NotConfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMAND_SECONDS: Final = 60
KEPT_SECONDS: Final = 300
"""How long a token is used that doesn't say when it ends."""
EARLY_SECONDS: Final = 60
"""How long before its end a token is fetched anew."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says; nothing of it was checked, the API alone can do that."""

    members: dict[str, Any]

    @property
    def subject(self) -> str:
        """Whom it speaks for."""
        return str(self.members.get("sub", ""))

    @property
    def scopes(self) -> list[str]:
        """What it allows."""
        told = self.members.get("scope", "")
        return told.split() if isinstance(told, str) else []

    @property
    def expires_at(self) -> datetime | None:
        """When it ends; None: it doesn't say."""
        return self._moment("exp")

    @property
    def issued_at(self) -> datetime | None:
        """When it was made; None: it doesn't say."""
        return self._moment("iat")

    def _moment(self, name: str) -> datetime | None:
        seconds = self.members.get(name)
        if not isinstance(seconds, int | float):
            return None
        try:
            return datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError):
            return None


def claims_of(token: str) -> Claims | None:
    """What a JWT says; None: it is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        told = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return Claims(told) if isinstance(told, dict) else None


def output_of(command: Sequence[str]) -> str:
    """What a command prints.

    Raises:
        NotConfigured: it can't be run, fails, or prints nothing.
    """
    told = " ".join(command)
    try:
        done = subprocess.run(  # noqa: S603 - the user's own words, without a shell
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        why = f"The token command took longer than {COMMAND_SECONDS} s: {told}"
        raise NotConfigured(why) from error
    except OSError as error:
        raise NotConfigured(f"The token command can't be run: {told}: {error.strerror}") from error
    token = done.stdout.strip()
    if done.returncode or not token:
        said = done.stderr.strip() or "it printed nothing"
        raise NotConfigured(f"The token command ended with {done.returncode}: {told}: {said}")
    return token


@dataclass
class CommandToken:
    """The token that a command prints; kept until shortly before its end.

    Attributes:
        command: Program and arguments.
        run: Runs it, and gives what it prints.
        clock: Seconds since 1970.
    """

    command: Sequence[str]
    run: Callable[[Sequence[str]], str] = output_of
    clock: Callable[[], float] = time.time
    _token: str = field(default="", init=False, repr=False)
    _good_until: float = field(default=0.0, init=False)

    def __call__(self) -> str:
        """The token.

        Raises:
            NotConfigured: the command gives none.
        """
        if self.clock() >= self._good_until:
            self._token = self.run(self.command)
            claims = claims_of(self._token)
            end = claims.expires_at if claims else None
            self._good_until = (
                end.timestamp() - EARLY_SECONDS if end else self.clock() + KEPT_SECONDS
            )
        return self._token
