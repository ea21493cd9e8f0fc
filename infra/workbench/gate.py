"""Who may call: with a token set, only who has it. Whether the service is up, anybody may ask."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

OPEN_PATH = "/health"


class TokenGate:
    """Lets calls pass that bring the token (RFC 6750), and answers the others 401."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a call."""
        if scope["type"] != "http" or scope["path"] == OPEN_PATH or self._is_let_in(scope):
            await self._app(scope, receive, send)
            return
        told = {"error": "Send the Workbench's token: Authorization: Bearer …"}
        answer = JSONResponse(told, 401, headers={"WWW-Authenticate": "Bearer"})
        await answer(scope, receive, send)

    def _is_let_in(self, scope: Scope) -> bool:
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        # As long for a token that is nearly right as for any other.
        return scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(), self._token
        )
