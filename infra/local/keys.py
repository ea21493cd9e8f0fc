"""Passwords and keys of this stack: generated once, kept in a file that only its owner reads."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from infra.local.files import read_json, write_json

if TYPE_CHECKING:
    from infra.local.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What our own parts are protected with."""

    clone_id: str = field(default_factory=lambda: secrets.token_hex(4))
    """Tells this clone's database users from those of others on the same server."""
    postgres_password: str = field(default_factory=lambda: secrets.token_hex(16))
    """Of our own server's superuser, whom nobody but the making of the database needs."""
    migrator_password: str = field(default_factory=lambda: secrets.token_hex(16))
    api_database_password: str = field(default_factory=lambda: secrets.token_hex(16))
    poller_database_password: str = field(default_factory=lambda: secrets.token_hex(16))
    storage_access_key_id: str = field(default_factory=lambda: secrets.token_hex(10).upper())
    storage_secret_access_key: str = field(default_factory=lambda: secrets.token_hex(20))


@dataclass(frozen=True, kw_only=True)
class Login:
    """A database user of the functions.

    Attributes:
        user: Its name, which no other clone has.
        role: What it may do: `api` or `poller`.
    """

    user: str
    password: str
    role: str

    def url(self, owner_url: str) -> str:
        """The address of the owner's database for this user; holds the password."""
        parts = urlsplit(owner_url)
        server = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=f"{self.user}:{self.password}@{server}").geturl()


def keys_of(layout: Layout) -> Keys:
    """The keys of this stack, each made on first use."""
    kept = read_json(layout.keys_file)
    keys = Keys(**{one.name: kept[one.name] for one in fields(Keys) if kept.get(one.name)})
    if asdict(keys) != kept:
        write_json(layout.keys_file, kept | asdict(keys))
    return keys
