"""The issuer's keys over HTTP: from a server that answers anything, slowly, or not at all."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from runs.adapters.jwks import LARGEST_SET, SetUnreadable, fetch_set
from runs.adapters.tokens import OidcTokens
from runs.errors import TokenRefused, TokensUnavailable
from token_maker import TENANT_CLAIM, TokenMaker, ec_key, public_jwk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MINUTE, HOUR = 60.0, 3_600.0
SHORT = timedelta(seconds=0.5)
PATIENCE_SECONDS = 10.0
DRIP_SECONDS = 0.05
MAKER = TokenMaker()


class KeyServer:
    """An issuer's server: what it answers is up to the test."""

    def __init__(self) -> None:
        self.answer: Callable[[BaseHTTPRequestHandler], None] = whole(MAKER.jwks_text)
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.paths.append(self.path)
                outer.headers.append({k.lower(): v for k, v in self.headers.items()})
                with suppress(OSError):  # Who asked may be gone.
                    outer.answer(self)

            def log_message(self, *_: object) -> None:
                """Keeps quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    def speak_tls(self, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # It is refused.

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys?v=1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


def whole(
    body: bytes, *, status: int = 200, **headers: str
) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def dripping(
    server: KeyServer, beginning: bytes, drop: bytes
) -> Callable[[BaseHTTPRequestHandler], None]:
    """A beginning, and then for longer than anybody waits a little more now and then."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(beginning)
        drops = int(PATIENCE_SECONDS / DRIP_SECONDS)
        for _ in range(drops):
            request.wfile.write(drop)
            if server.over.wait(DRIP_SECONDS):
                return

    return answer


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with KeyServer() as server:
        yield server


def refused_port() -> int:
    """Nobody listens there."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Time:
    """The monotonic clock, moved by the test."""

    def __init__(self) -> None:
        self.seconds = 1.0

    def __call__(self) -> float:
        return self.seconds


def tokens_at(url: str, clock: Time) -> OidcTokens:
    return OidcTokens(
        issuer=MAKER.issuer,
        audience=MAKER.audience,
        jwks_url=url,
        tenant_claim=TENANT_CLAIM,
        clock=clock,
        wall_clock=MAKER.now,
    )


# -- one fetch ------------------------------------------------------------------------------------


def test_a_key_set_is_fetched_as_it_is(server: KeyServer) -> None:
    assert fetch_set(server.url) == MAKER.jwks_text
    assert server.paths == ["/keys?v=1"]
    assert server.headers[0]["accept-encoding"] == "identity"
    assert not {"authorization", "cookie"} & server.headers[0].keys()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_s10_a_redirect_is_not_followed(server: KeyServer, status: int) -> None:
    server.answer = whole(b"", status=status, Location=f"http://127.0.0.1:{server.port}/other")
    with pytest.raises(SetUnreadable, match=str(status)):
        fetch_set(server.url)
    assert server.paths == ["/keys?v=1"]


@pytest.mark.parametrize("status", [204, 304, 401, 404, 500, 503])
def test_s10_only_200_tells_keys(server: KeyServer, status: int) -> None:
    server.answer = whole(b"" if status in {204, 304} else MAKER.jwks_text, status=status)
    with pytest.raises(SetUnreadable, match=str(status)):
        fetch_set(server.url)


def test_s10_a_key_set_has_64_kib_at_most(server: KeyServer) -> None:
    server.answer = whole(b" " * LARGEST_SET)
    assert len(fetch_set(server.url)) == LARGEST_SET
    server.answer = whole(b" " * (LARGEST_SET + 1))
    with pytest.raises(SetUnreadable, match="64 KiB"):
        fetch_set(server.url)


def test_s10_an_answer_without_end_is_not_read_to_its_end(server: KeyServer) -> None:
    server.answer = dripping(server, b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536)
    with pytest.raises(SetUnreadable, match="larger"):
        fetch_set(server.url, within=timedelta(seconds=PATIENCE_SECONDS))


def test_s10_a_packed_answer_is_not_unpacked(server: KeyServer) -> None:
    server.answer = whole(b"\x1f\x8b", Content_Encoding="gzip")
    with pytest.raises(SetUnreadable, match="packed"):
        fetch_set(server.url)


DRIPS = {
    "nothing": (b"", b""),
    "status line": (b"HTTP/1.1 2", b"0"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n{", b" "),
}


@pytest.mark.parametrize(("beginning", "drop"), DRIPS.values(), ids=DRIPS)
def test_s10_an_answer_that_drips_is_not_waited_for(
    server: KeyServer, beginning: bytes, drop: bytes
) -> None:
    server.answer = dripping(server, beginning, drop)
    with pytest.raises(SetUnreadable, match="ReadTimeout"):
        fetch_set(server.url, within=SHORT)


def test_s10_the_whole_fetch_has_three_seconds(server: KeyServer) -> None:
    server.answer = dripping(server, *DRIPS["headers"])
    began = time.monotonic()
    with pytest.raises(SetUnreadable, match="ReadTimeout"):
        fetch_set(server.url)
    assert 2.9 < time.monotonic() - began < 0.9 * PATIENCE_SECONDS


def test_s10_a_name_that_is_looked_up_slowly_is_not_waited_for(server: KeyServer) -> None:
    over = threading.Event()

    def slowly(_host: str, _port: int) -> list[str]:
        over.wait(PATIENCE_SECONDS)
        return []

    began = time.monotonic()
    with pytest.raises(SetUnreadable, match="ConnectTimeout"):
        fetch_set(server.url, within=SHORT, look_up=slowly)
    assert time.monotonic() - began < 0.5 * PATIENCE_SECONDS
    over.set()
    assert not server.paths


@pytest.mark.parametrize("raw", [b"", b"\0\1\2\3\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x"])
def test_s10_what_is_no_http_is_no_key_set(server: KeyServer, raw: bytes) -> None:
    server.answer = lambda request: (request.wfile.write(raw), None)[1]
    with pytest.raises(SetUnreadable):
        fetch_set(server.url)


def test_s10_half_a_key_set_is_none(server: KeyServer) -> None:
    server.answer = whole(MAKER.jwks_text, Content_Length=str(len(MAKER.jwks_text) + 1))
    with pytest.raises(SetUnreadable):
        fetch_set(server.url, within=SHORT)


def test_an_issuer_that_is_down_is_told() -> None:
    with pytest.raises(SetUnreadable, match="Connect"):
        fetch_set(f"http://127.0.0.1:{refused_port()}/keys")


def test_s2_a_certificate_that_nobody_vouches_for_is_not_believed(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(self_signed("localhost"))
    server = KeyServer()
    server.speak_tls(certificate)
    with server, pytest.raises(SetUnreadable, match="CERTIFICATE_VERIFY_FAILED"):
        fetch_set(f"https://localhost:{server.port}/keys")
    assert not server.paths


def self_signed(name: str) -> bytes:
    """A key and a certificate that it signed itself."""
    key = ec_key("server")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


# -- tokens checked with what was fetched ---------------------------------------------------------


def published(*makers: TokenMaker) -> Callable[[BaseHTTPRequestHandler], None]:
    keys: list[dict[str, Any]] = [public_jwk(maker.key, kid=maker.kid) for maker in makers]
    return whole(json.dumps({"keys": keys}).encode())


def test_s2_a_thousand_unknown_keys_cost_one_request(server: KeyServer) -> None:
    tokens = tokens_at(server.url, Time())
    assert tokens.caller_of(MAKER.token()).tenant_id == "default"
    for number in range(1_000):
        with pytest.raises(TokenRefused):
            tokens.caller_of(MAKER.token(headers={"kid": f"unknown-{number}"}))
    assert len(server.paths) == 1


def test_s2_keys_that_a_token_brings_along_are_not_asked_for(server: KeyServer) -> None:
    tokens = tokens_at(server.url, Time())
    with KeyServer() as foreign:
        for header in ("jku", "x5u"):
            with pytest.raises(TokenRefused):
                tokens.caller_of(MAKER.token(headers={header: foreign.url, "kid": "new"}))
        assert not foreign.paths
    assert not server.paths


def test_s2_keys_are_changed_without_a_token_refused_that_is_good(server: KeyServer) -> None:
    clock = Time()
    tokens = tokens_at(server.url, clock)
    old, new = MAKER, TokenMaker(kid="key-2")
    server.answer = published(old)
    assert tokens.caller_of(old.token())

    server.answer = published(old, new)  # The new one is shown before it is used.
    clock.seconds += MINUTE
    assert tokens.caller_of(new.token())
    assert tokens.caller_of(old.token())

    server.answer = published(new)
    clock.seconds += HOUR
    assert tokens.caller_of(new.token())
    with pytest.raises(TokenRefused, match="key that is not known"):
        tokens.caller_of(old.token())
    assert len(server.paths) == 3


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"[]", b'{"keys": 1}', b"\xff\xfe"])
def test_s10_a_key_set_that_is_none_changes_nothing(server: KeyServer, body: bytes) -> None:
    clock = Time()
    tokens = tokens_at(server.url, clock)
    assert tokens.caller_of(MAKER.token())
    server.answer = whole(body)
    clock.seconds += HOUR
    assert tokens.caller_of(MAKER.token())
    assert len(server.paths) == 2


def test_s2_known_keys_serve_for_a_day_after_the_issuer_is_gone() -> None:
    clock = Time()
    with KeyServer() as server:
        tokens = tokens_at(server.url, clock)
        assert tokens.caller_of(MAKER.token())
    clock.seconds += 23 * HOUR
    assert tokens.caller_of(MAKER.token())
    clock.seconds += HOUR
    with pytest.raises(TokensUnavailable):
        tokens.caller_of(MAKER.token())


def test_s2_an_issuer_in_trouble_is_asked_once_a_minute(server: KeyServer) -> None:
    clock = Time()
    tokens = tokens_at(server.url, clock)
    assert tokens.caller_of(MAKER.token())
    server.answer = whole(b"", status=503)
    clock.seconds += HOUR
    for minutes in range(1, 4):
        for _ in range(100):
            assert tokens.caller_of(MAKER.token())
        assert len(server.paths) == 1 + minutes
        clock.seconds += MINUTE


def test_tokens_can_be_checked_soon_after_an_issuer_that_was_down_is_up(
    server: KeyServer,
) -> None:
    clock = Time()
    tokens = tokens_at(server.url, clock)
    server.answer = whole(b"", status=503)
    for _ in range(100):
        with pytest.raises(TokensUnavailable):
            tokens.caller_of(MAKER.token())
    assert len(server.paths) == 1

    server.answer = whole(MAKER.jwks_text)
    clock.seconds += 5
    assert tokens.caller_of(MAKER.token())
    assert len(server.paths) == 2


def test_a_fetch_leaves_the_loop_of_another_client_alone(server: KeyServer) -> None:
    async def work() -> str:
        return "done"

    with asyncio.Runner() as kept:
        assert kept.run(work()) == "done"
        assert fetch_set(server.url)
        assert kept.run(work()) == "done"
