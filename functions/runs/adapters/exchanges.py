"""A request and its answer, the whole of it within one time-out: names, TLS, headers and body.

The time-outs of httpx are for each read by itself: headers that drip outlive them, and so does a
name that is looked up slowly. Here they are turned into moments, which hold for all that follows.
"""

from __future__ import annotations

import socket
import time
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import httpcore
import httpx

from runs.adapters.answers import (
    PLAIN,
    UNAUTHORIZED,
    Answer,
    AnswerInvalid,
    Body,
    bearer,
    is_secure,
    no_cookies,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Sequence
    from datetime import timedelta

    from runs.adapters.secrets import Secret

MOST_CONNECTIONS: Final = 100
KEPT_SECONDS: Final = 5.0
"""So long a connection is kept that isn't used: httpx's own default."""


class NotSent(TimeoutError):
    """The time was over before anything was sent."""


def exchange(
    client: httpx.Client,
    request: httpx.Request,
    *,
    timeout: timedelta,
    token: Secret | None = None,
) -> Answer:
    """Sends a request and reads its answer, all within the time-out.

    A token that is refused is read anew; if it is another one now, the request is sent once more.

    Args:
        client: one of `client_for`; another would hold to the time-out at each read alone.
        request: the client's.
        timeout: for all of it; reading the token counts, and can't be cut short.
        token: what lets us in; None: everybody may.

    Raises:
        NotSent: there was no time left for that, or none to send it once more.
        httpx.TransportError: it could not be sent, or the answer was lost or not whole in time.
        AnswerInvalid: it is too large or packed.
        SecretUnavailable: the token can't be read; nothing was sent.
    """
    deadline = time.monotonic() + timeout.total_seconds()
    if token is None:
        return _exchanged(client, request, deadline)
    sent = token.text()
    request.headers["Authorization"] = bearer(sent)
    answer = _exchanged(client, request, deadline)
    if answer.status == UNAUTHORIZED and token.renew(sent):
        request.headers["Authorization"] = bearer(token.text())
        answer = _exchanged(client, request, deadline)
    return answer


def _exchanged(client: httpx.Client, request: httpx.Request, deadline: float) -> Answer:
    left = deadline - time.monotonic()
    if left <= 0:
        raise NotSent("no time was left to send it")
    limits = request.extensions["timeout"]
    request.extensions["timeout"] = {
        kind: left if limit is None else min(limit, left) for kind, limit in limits.items()
    }
    response = client.send(request, stream=True)
    try:
        body = Body(response.headers)
        for chunk in response.iter_raw():
            body.add(chunk)
    finally:
        response.close()
    return Answer(response.status_code, response.headers, body.whole())


def in_words(error: Exception) -> str:
    """Why an exchange failed, for people.

    The error itself may name addresses, and so is for the log.
    """
    match error:
        case AnswerInvalid() | NotSent():
            return str(error)
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return "no connection in time"
        case httpx.ConnectError() | httpx.UnsupportedProtocol():
            return "no connection"
        case httpx.TimeoutException() | TimeoutError():
            return "no whole answer in time"
        case _:
            return "the connection was lost, or what came is no HTTP"


# -- the client -----------------------------------------------------------------------------------


def addresses_of(host: str, port: int) -> Sequence[str]:
    """The numeric addresses of a host, as the system knows them.

    Raises:
        OSError: it has none, or nobody tells.
        UnicodeError: the name can't be one.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def client_for(
    url: str,
    *,
    connect_seconds: float | None = None,
    look_up: Callable[[str, int], Sequence[str]] = addresses_of,
) -> httpx.Client:
    """A client for `exchange` with one server, which it calls directly, through no proxy.

    Args:
        url: where the server is.
        connect_seconds: for name, connection and TLS together; None: as long as for the rest.
        look_up: gives a host's addresses.
    """
    return httpx.Client(
        headers=PLAIN,
        cookies=no_cookies(),
        timeout=httpx.Timeout(None, connect=connect_seconds),
        # Without a certificate store where none is needed: building one takes 20 ms.
        transport=_Transport(httpx.create_ssl_context(verify=is_secure(url)), _Network(look_up)),
    )


class _Transport(httpx.HTTPTransport):
    """Has its streams given moments of the monotonic clock in place of durations."""

    def __init__(self, context: ssl.SSLContext, network: httpcore.NetworkBackend) -> None:
        super().__init__(verify=context)
        # httpx has no argument for the network; its translation of errors is worth the trespass.
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=MOST_CONNECTIONS,
            keepalive_expiry=KEPT_SECONDS,
            network_backend=network,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        now = time.monotonic()
        moments = {
            kind: limit if limit is None or kind == "pool" else now + limit
            for kind, limit in request.extensions["timeout"].items()
        }
        return super().handle_request(
            httpx.Request(
                request.method,
                request.url,
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "timeout": moments},
            )
        )


class _Network(httpcore.NetworkBackend):
    """Sockets, where each `timeout` is a moment."""

    def __init__(self, look_up: Callable[[str, int], Sequence[str]]) -> None:
        self._look_up = look_up
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        trouble: Exception = httpcore.ConnectError("the name has no address")
        addresses = self._addresses(host, port, timeout)
        for tried, address in enumerate(addresses):
            left = _left(timeout, httpcore.ConnectTimeout)
            # One that is silent leaves their share to the others.
            share = left and left / (len(addresses) - tried)
            try:
                return _Stream(
                    self._sockets.connect_tcp(address, port, share, local_address, socket_options)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                trouble = error
        raise trouble

    def _addresses(self, host: str, port: int, moment: float | None) -> Sequence[str]:
        """Looks a name up in a thread, for that can't be cut short; nobody waits for its end."""
        found: Future[Sequence[str]] = Future()

        def look_up() -> None:
            try:
                found.set_result(self._look_up(host, port))
            except (OSError, UnicodeError) as error:
                found.set_exception(error)

        Thread(target=look_up, daemon=True).start()
        try:
            return found.result(_left(moment, httpcore.ConnectTimeout))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("the name was not found in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(str(error)) from error


class _Stream(httpcore.NetworkStream):
    """A connection, where each `timeout` is a moment."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left))

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(moment: float | None, over: type[Exception]) -> float | None:
    """The seconds until a moment.

    Raises:
        Exception: `over`, if it is past.
    """
    if moment is None:
        return None
    left = moment - time.monotonic()
    if left <= 0:
        raise over("the time is over")
    return left
