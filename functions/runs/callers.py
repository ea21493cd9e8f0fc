"""Who calls, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a caller may be allowed to do, as a token's `scope` claim names it."""

    RUNS_READ = "runs:read"
    RUNS_WRITE = "runs:write"
    PIPELINES_WRITE = "pipelines:write"
    ADMIN = "admin"
    """Everything, within the caller's tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whom a token speaks for."""

    tenant_id: str
    subject: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether the caller has this scope, or all of them."""
        return not self.scopes.isdisjoint({scope, Scope.ADMIN})
