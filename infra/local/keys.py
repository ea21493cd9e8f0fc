"""Passwords and keys of this stack: generated once, kept in a file that only its owner reads."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING

from infra.local.files import read_json, write_json

if TYPE_CHECKING:
    from infra.local.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What our own parts are protected with."""

    postgres_password: str = field(default_factory=lambda: secrets.token_hex(16))
    storage_access_key_id: str = field(default_factory=lambda: secrets.token_hex(10).upper())
    storage_secret_access_key: str = field(default_factory=lambda: secrets.token_hex(20))


def keys_of(layout: Layout) -> Keys:
    """The keys of this stack, each made on first use."""
    kept = read_json(layout.keys_file)
    keys = Keys(**{one.name: kept[one.name] for one in fields(Keys) if kept.get(one.name)})
    if asdict(keys) != kept:
        write_json(layout.keys_file, kept | asdict(keys))
    return keys
