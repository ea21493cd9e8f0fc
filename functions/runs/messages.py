"""The messages on our own queues: hints that may be lost, doubled or late without harm."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from runs import strict_json
from runs.strict_json import JsonInvalid

VERSION: Final = 1
SHARDS: Final = 256
ALL_SHARDS: Final = (0, SHARDS - 1)
MOST_WAVES: Final = 6
"""In a minute."""
MOST_ATTEMPTS: Final = 16
"""Beyond what a queue can delay."""


class MessageUnreadable(ValueError):
    """Not a message of ours, or of a version that this code doesn't know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TickMessage:
    """Asks for one sweep: wave `wave` of the minute `minute`, over the shards first to last."""

    minute: datetime
    wave: int
    shards: tuple[int, int] = ALL_SHARDS

    def to_json(self) -> str:
        """The message's body."""
        return json.dumps(
            {
                "v": VERSION,
                "minute": self.minute.isoformat(),
                "wave": self.wave,
                "shards": self.shards,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> TickMessage:
        """The message of a body.

        Raises:
            MessageUnreadable: it isn't one.
        """
        body = _versioned(text)
        try:
            minute, wave = _moment(body["minute"]), _whole(body["wave"], below=MOST_WAVES)
            first, last = (_whole(shard, below=SHARDS) for shard in body["shards"])
        except (KeyError, TypeError, ValueError) as error:
            raise MessageUnreadable(f"no tick: {error!r}") from error
        return cls(minute=minute, wave=wave, shards=(first, last))


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckMessage:
    """Asks for one look at each of some runs. On the check queue and on the retry queue."""

    run_ids: tuple[int, ...]
    attempt: int = 0
    """How many tries of this interval came before."""
    sent_at: datetime
    """By the database's clock."""

    def to_json(self) -> str:
        """The message's body."""
        return json.dumps(
            {
                "v": VERSION,
                "run_ids": self.run_ids,
                "attempt": self.attempt,
                "sent_at": self.sent_at.isoformat(),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> CheckMessage:
        """The message of a body.

        Raises:
            MessageUnreadable: it isn't one.
        """
        body = _versioned(text)
        try:
            run_ids = tuple(_whole(run_id) for run_id in body["run_ids"])
            attempt = _whole(body["attempt"], below=MOST_ATTEMPTS)
            sent_at = _moment(body["sent_at"])
        except (KeyError, TypeError, ValueError) as error:
            raise MessageUnreadable(f"no check: {error!r}") from error
        return cls(run_ids=run_ids, attempt=attempt, sent_at=sent_at)


def _versioned(text: str) -> dict[str, Any]:
    try:
        body = strict_json.read(text)
    except JsonInvalid as error:
        raise MessageUnreadable(f"no JSON: {error}") from error
    if not isinstance(body, dict) or body.get("v") != VERSION:
        raise MessageUnreadable(f"no message of version {VERSION}")
    return body


def _whole(value: object, *, below: int = 2**63) -> int:
    if type(value) is not int or not 0 <= value < below:
        raise ValueError(f"not a whole number: {value!r}"[:100])
    return value


def _moment(value: object) -> datetime:
    moment = datetime.fromisoformat(str(value))
    if moment.tzinfo is None:
        raise ValueError(f"no time zone: {value!r}")
    return moment
