"""The AWS Lambda Runtime API (2018-06-01) for one process, on a loopback port of its own."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Final

from .exchange import Answer
from .faults import InitFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .exchange import Exchange, Invocation

RUNTIME: Final = "/2018-06-01/runtime/"
# AWS's limit of a synchronous answer, as its error message has it.
MAX_ANSWER_BYTES: Final = 6 * 1024 * 1024 + 100


class RuntimeApi(ThreadingTCPServer):
    """Serves an exchange to the runtime of one process, until `close`."""

    daemon_threads = True

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.exchange = exchange
        serve = threading.Thread(target=self.serve_forever, name="lambda-runtime-api", daemon=True)
        serve.start()

    @property
    def address(self) -> str:
        """Host and port, as AWS_LAMBDA_RUNTIME_API wants it."""
        host, port = self.socket.getsockname()
        return f"{host}:{port}"

    def close(self) -> None:
        """Stops listening; takes up to half a second."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: RuntimeApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # With it every answer costs about 40 ms (delayed ACK).
    wbufsize = -1  # Headers and body in one segment.

    def handle(self) -> None:
        with suppress(ConnectionError):  # The process died; whoever waits for it learns it anyway.
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # The base's name.
        """Says nothing: an invocation has its own log."""

    def do_GET(self) -> None:
        if self.path != f"{RUNTIME}invocation/next":
            self._refuse(HTTPStatus.NOT_FOUND, "UnknownPath")
            return
        invocation = self.server.exchange.next_invocation()
        if invocation is None:
            self.close_connection = True
            self._refuse(HTTPStatus.GONE, "EnvironmentEnded")
            return
        self._reply(HTTPStatus.OK, invocation.event, _headers(invocation))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match self.path.removeprefix(RUNTIME).split("/"):
            case ["init", "error"]:
                self.server.exchange.fail_init(InitFailed(body))
                self._accept()
            case ["invocation", request_id, "response"]:
                self._answer(request_id, _within_limit(body))
            case ["invocation", request_id, "error"]:
                self._answer(request_id, Answer(body, is_error=True))
            case _:
                self._refuse(HTTPStatus.NOT_FOUND, "UnknownPath")

    def _answer(self, request_id: str, answer: Answer) -> None:
        if self.server.exchange.answer(request_id, answer):
            self._accept()
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "InvalidRequestID")

    def _accept(self) -> None:
        self._reply(HTTPStatus.ACCEPTED, b'{"status":"OK"}', {})

    def _refuse(self, status: HTTPStatus, error_type: str) -> None:
        error = {"errorType": error_type, "errorMessage": status.description}
        self._reply(status, json.dumps(error).encode(), {})

    def _reply(self, status: HTTPStatus, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def _headers(invocation: Invocation) -> dict[str, str]:
    return {
        "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
        "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
        "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
        "Lambda-Runtime-Trace-Id": invocation.trace_id,
    }


def _within_limit(body: bytes) -> Answer:
    if len(body) <= MAX_ANSWER_BYTES:
        return Answer(body)
    message = (
        f"Response payload size ({len(body)} bytes) exceeded maximum allowed payload size "
        f"({MAX_ANSWER_BYTES} bytes)."
    )
    error = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": message}
    return Answer(json.dumps(error).encode(), is_error=True)
