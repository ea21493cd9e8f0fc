"""Each fault of the fault proxy is what its manual says, seen from both sides of it."""

from __future__ import annotations

import gc
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
import sqlalchemy as sa
from botocore.config import Config

from fault_proxy import End, FaultProxy, aws, connecting, http, statement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_sqs import SQSClient

    from fault_proxy import Call

LONG_SECONDS = 3_600
"""Nobody waits for it."""
SOON_SECONDS = 0.3
"""A time-out that is meant to run out."""
PATIENCE_SECONDS = 20
MEBIBYTE = 1024 * 1024


# -- targets --------------------------------------------------------------------------------------


@dataclass
class Echo:
    """An HTTP server that answers with the body it got, and remembers what it was asked."""

    port: int = 0
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class EchoHandler(BaseHTTPRequestHandler):
    """Below /chunked in chunks, below /until-end without a length."""

    protocol_version = "HTTP/1.1"
    echo: Echo

    def do_POST(self) -> None:
        body = self._body()
        self.echo.seen.append((self.command, self.path, body))
        body = body or f"answer {len(self.echo.seen)}".encode()
        self.send_response(201)
        match self.path:
            case "/chunked":
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                half = len(body) // 2
                for part in (body[:half], body[half:], b""):
                    self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            case "/until-end":
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body)
            case _:
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_POST  # noqa: N815 - the base class's names
    do_HEAD = do_POST  # noqa: N815 - the base class's names

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    handler = type("Handler", (EchoHandler,), {"echo": made})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(echo.url) as made:
        yield made


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[httpx.Client]:
    """A caller that keeps its connection."""
    with httpx.Client(base_url=proxy.url, timeout=PATIENCE_SECONDS) as made:
        yield made


def ends(proxy: FaultProxy) -> list[tuple[int, int, End | None]]:
    return [(call.forwarded, call.replies, call.end) for call in proxy.calls]


# -- without a fault ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/plain", "/chunked", "/until-end"])
def test_a_call_and_its_answer_pass_unchanged(client: httpx.Client, echo: Echo, path: str) -> None:
    body = bytes(range(256)) * 40 * 1024  # 10 MiB.
    answer = client.post(path, content=body)
    assert (answer.status_code, answer.content) == (201, body)
    assert echo.seen == [("POST", path, body)]


def test_a_body_in_chunks_passes_unchanged(
    client: httpx.Client, proxy: FaultProxy, echo: Echo
) -> None:
    answer = client.post("/chunked", content=iter([b"one", b"two" * 70_000]))
    assert answer.content == b"one" + b"two" * 70_000
    assert echo.seen[0][2] == proxy.calls[0].body == answer.content


def test_calls_on_one_connection_are_calls_of_their_own(
    client: httpx.Client, proxy: FaultProxy
) -> None:
    told = [client.get("/a").text, client.head("/b").text, client.post("/c?d=1").text]
    assert told == ["answer 1", "", "answer 3"]
    journal = [(call.number, call.method, call.path, call.status) for call in proxy.calls]
    assert journal == [(0, "GET", "/a", 201), (1, "HEAD", "/b", 201), (2, "POST", "/c?d=1", 201)]
    assert ends(proxy) == [(1, 1, End.ANSWERED)] * 3
    assert sorted(proxy.calls, key=lambda call: call.at) == proxy.calls


def test_the_address_is_the_target_s_but_for_host_and_port() -> None:
    database = "postgresql+pg8000://some:word@db.test:5432/runs?x=1"
    with FaultProxy(database) as proxy:
        assert proxy.url == f"postgresql+pg8000://some:word@127.0.0.1:{proxy.port}/runs?x=1"
    with FaultProxy("http://workbench.test:80/v1") as proxy:
        assert proxy.url == f"http://127.0.0.1:{proxy.port}/v1"


@pytest.mark.parametrize("target", ["https://a.test:443", "127.0.0.1:80", "http://a.test"])
def test_a_target_that_it_cannot_stand_before_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match=r"host and port|neither http"):
        FaultProxy(target)


def test_a_target_that_is_not_there_is_a_reset() -> None:
    with FaultProxy("http://127.0.0.1:1") as proxy:
        with pytest.raises(httpx.ReadError):
            httpx.get(proxy.url)
        assert ends(proxy) == [(0, 0, End.RESET)]


# -- the faults -----------------------------------------------------------------------------------


def test_execute_and_drop_carries_the_call_out_and_loses_the_reply(
    client: httpx.Client, proxy: FaultProxy, echo: Echo
) -> None:
    fault = proxy.execute_and_drop(http("POST", "/jobs"), times=1)
    with pytest.raises(httpx.ReadError):
        client.post("/jobs", content=b"first")
    assert client.post("/jobs", content=b"again").text == "again"
    assert [body for _, _, body in echo.seen] == [b"first", b"again"]
    assert ends(proxy) == [(1, 1, End.RESET), (1, 1, End.ANSWERED)]
    assert [call.faults for call in proxy.calls] == [("execute_and_drop",), ()]
    assert fault.struck == 1


@pytest.mark.parametrize(("gives_first", "given"), [(False, "answer 2"), (True, "answer 1")])
def test_duplicate_carries_the_call_out_twice_and_gives_one_answer(
    client: httpx.Client, proxy: FaultProxy, echo: Echo, *, gives_first: bool, given: str
) -> None:
    proxy.duplicate(gives_first=gives_first, times=1)
    assert client.get("/jobs").text == given
    assert echo.seen == [("GET", "/jobs", b"")] * 2
    assert client.get("/jobs").text == "answer 3"
    assert ends(proxy) == [(2, 2, End.ANSWERED), (1, 1, End.ANSWERED)]


def test_reset_forwards_nothing(client: httpx.Client, proxy: FaultProxy, echo: Echo) -> None:
    with proxy.reset(), pytest.raises(httpx.ReadError):
        client.get("/")
    assert client.get("/").is_success
    assert len(echo.seen) == 1
    assert ends(proxy) == [(0, 0, End.RESET), (1, 1, End.ANSWERED)]


def test_status_answers_in_the_target_s_place_and_keeps_the_connection(
    client: httpx.Client, proxy: FaultProxy, echo: Echo
) -> None:
    proxy.status(429, retry_after="7", body="slow down", content_type="text/plain", times=1)
    answer = client.get("/")
    assert (answer.status_code, answer.headers["Retry-After"], answer.text) == (
        429,
        "7",
        "slow down",
    )
    assert answer.headers["Content-Type"] == "text/plain"
    assert client.get("/").text == "answer 1"
    assert len(echo.seen) == 1
    assert [call.status for call in proxy.calls] == [429, 201]
    assert ends(proxy)[0] == (0, 0, End.ANSWERED)


def test_a_black_hole_takes_the_call_and_never_answers(proxy: FaultProxy, echo: Echo) -> None:
    with proxy.black_hole():
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(proxy.url, timeout=SOON_SECONDS)
        proxy.wait_for_calls(lambda call: call.end is End.UNANSWERED)
    assert echo.seen == []
    assert ends(proxy) == [(0, 0, End.UNANSWERED)]


def test_a_held_call_arrives_though_its_caller_has_given_up(proxy: FaultProxy, echo: Echo) -> None:
    hold = proxy.hold()
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(proxy.url, timeout=SOON_SECONDS)
    proxy.wait_for_calls()
    assert echo.seen == []
    hold.end()
    proxy.wait_for_calls(lambda call: call.replies == 1)
    assert len(echo.seen) == 1


def test_a_slow_call_is_answered_late(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.latency(0.01, times=1)
    assert client.get("/").text == "answer 1"
    assert proxy.calls[0].faults == ("latency",)


def test_drip_gives_the_body_byte_by_byte(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.drip(0.001, times=1)
    assert client.post("/", content=b"drop by drop").text == "drop by drop"
    proxy.drip(LONG_SECONDS)
    with client.stream("GET", "/") as answer:
        assert answer.status_code == 201  # The head comes at once.


@pytest.mark.parametrize("path", ["/plain", "/until-end"])
def test_limit_ends_the_connection_in_the_midst_of_the_body(proxy: FaultProxy, path: str) -> None:
    proxy.limit(4, http(path=path))
    seen = b""
    try:
        with httpx.stream("POST", proxy.url + path, content=b"0123456789") as answer:
            for part in answer.iter_raw():
                seen += part
    except httpx.RemoteProtocolError:
        assert path == "/plain"  # Only a length tells that there is more.
    assert seen == b"0123"
    assert ends(proxy) == [(1, 1, End.CUT)]


def test_a_limit_above_the_size_of_the_answer_changes_nothing(
    client: httpx.Client, proxy: FaultProxy
) -> None:
    with proxy.limit(10):
        assert client.post("/", content=b"0123456789").text == "0123456789"
    assert ends(proxy) == [(1, 1, End.ANSWERED)]


def test_refuse_means_that_nobody_listens_until_it_ends_at_the_same_port(
    client: httpx.Client, proxy: FaultProxy, echo: Echo
) -> None:
    assert client.get("/").is_success
    url = proxy.url
    with proxy.refuse():
        for _ in range(2):
            with pytest.raises((httpx.ConnectError, httpx.ReadError)):
                client.get("/")
        with pytest.raises(httpx.ConnectError, match="refused"):
            httpx.get(url)
    assert client.get("/").is_success
    assert proxy.url == url
    assert len(echo.seen) == 2


def test_held_calls_wait_until_they_are_let_go(
    client: httpx.Client, proxy: FaultProxy, echo: Echo
) -> None:
    proxy.hold(http(path="/held"))
    with ThreadPoolExecutor() as callers:
        held = callers.submit(client.get, "/held")
        proxy.wait_for_calls(http(path="/held"))
        assert client.get("/free").text == "answer 1"
        assert [path for _, path, _ in echo.seen] == ["/free"]
        assert proxy.calls[0].end is None
        proxy.release()
        assert held.result(PATIENCE_SECONDS).text == "answer 2"
    assert client.get("/held").text == "answer 3"


def test_holds_one_after_the_other_let_the_second_call_pass_the_first(
    proxy: FaultProxy, echo: Echo
) -> None:
    first, second = proxy.hold(times=1), proxy.hold(times=1)
    with ThreadPoolExecutor() as callers:
        callers.submit(httpx.get, f"{proxy.url}/1")
        proxy.wait_for_calls(http(path="/1"))
        callers.submit(httpx.get, f"{proxy.url}/2")
        proxy.wait_for_calls(http(path="/2"))
        second.end()
        proxy.wait_for_calls(lambda call: call.end is End.ANSWERED)
        first.end()
    assert [path for _, path, _ in echo.seen] == ["/2", "/1"]


def test_a_held_call_may_meet_another_fault_too(proxy: FaultProxy, echo: Echo) -> None:
    proxy.hold(times=1)
    proxy.execute_and_drop(times=1)
    with ThreadPoolExecutor() as callers:
        held = callers.submit(httpx.get, proxy.url)
        proxy.wait_for_calls()
        assert echo.seen == []
        proxy.release()
        assert isinstance(held.exception(PATIENCE_SECONDS), httpx.ReadError)
    assert proxy.calls[0].faults == ("hold", "execute_and_drop")
    assert len(echo.seen) == 1


def test_cut_resets_connections_under_way_and_idle_ones(proxy: FaultProxy, echo: Echo) -> None:
    idle = HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE_SECONDS)
    idle.request("GET", "/idle")
    idle.getresponse().read()
    proxy.hold(http(path="/busy"))
    with ThreadPoolExecutor() as callers:
        busy = callers.submit(httpx.get, f"{proxy.url}/busy")
        proxy.wait_for_calls(http(path="/busy"))
        proxy.cut()
        assert isinstance(busy.exception(PATIENCE_SECONDS), httpx.ReadError)
    with pytest.raises(ConnectionResetError):
        idle.sock.recv(1)
    idle.close()
    assert httpx.get(f"{proxy.url}/new").is_success
    assert [path for _, path, _ in echo.seen] == ["/idle", "/new"]
    assert proxy.calls_of(http(path="/busy"))[0].end is End.RESET


# -- which calls ----------------------------------------------------------------------------------


def test_calls_are_chosen_by_method_path_and_body(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.status(503, http("POST", "/batch/*/now", holding="42"))
    assert client.post("/batch/submit/now?x=1", content=b'{"run": 42}').status_code == 503
    assert client.post("/batch/submit/now", content=b'{"run": 43}').status_code == 201
    assert client.get("/batch/submit/now").status_code == 201
    assert client.post("/batch/submit", content=b'{"run": 42}').status_code == 201


def test_counted_faults_strike_in_turn_and_before_those_for_good(
    client: httpx.Client, proxy: FaultProxy
) -> None:
    proxy.status(500)
    newest = proxy.status(501)
    proxy.status(502, times=2)
    proxy.status(503, times=1)
    told = [client.get("/").status_code for _ in range(4)]
    newest.end()
    told.append(client.get("/").status_code)
    assert told == [502, 502, 503, 501, 500]


def test_calls_of_aws_are_chosen_by_their_action(proxy: FaultProxy) -> None:
    proxy.status(503, aws("SendMessage", holding="retries"))
    client: SQSClient = boto3.client(
        "sqs",
        endpoint_url=proxy.url,
        region_name="eu-west-2",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - of nothing
        config=Config(retries={"total_max_attempts": 1}),
    )
    with pytest.raises(client.exceptions.ClientError, match="503"):
        client.send_message(QueueUrl="http://sqs.test/0/retries", MessageBody="x")
    # The echo isn't SQS: what counts is that it was asked.
    client.send_message(QueueUrl="http://sqs.test/0/checks", MessageBody="x")
    client.close()
    assert [(call.action, call.status) for call in proxy.calls] == [
        ("SendMessage", 503),
        ("SendMessage", 201),
    ]


# -- as a tool ------------------------------------------------------------------------------------


def test_a_counted_fault_that_struck_nothing_fails_the_test(echo: Echo) -> None:
    def misspelt() -> None:
        with FaultProxy(echo.url) as proxy:
            proxy.reset(http("POST", "/batch/sumbit"), times=1)
            assert httpx.post(f"{proxy.url}/batch/submit").is_success

    with pytest.raises(AssertionError, match="no call was struck by: reset"):
        misspelt()


def test_a_predicate_that_raises_fails_the_test(echo: Echo) -> None:
    def wrong(_: Call) -> bool:
        raise LookupError("a slip")

    def chosen_by_it() -> None:
        with FaultProxy(echo.url) as proxy:
            proxy.reset(wrong)
            with pytest.raises(httpx.ReadError):
                httpx.get(proxy.url)

    with pytest.raises(LookupError, match="a slip"):
        chosen_by_it()


def test_calls_that_do_not_come_fail_the_waiting(proxy: FaultProxy) -> None:
    httpx.get(proxy.url)
    with pytest.raises(AssertionError, match=r"not 2 such calls within 0.05 s: \[\('GET', '/'"):
        proxy.wait_for_calls(count=2, within_seconds=0.05)


def test_leaving_ends_whatever_is_under_way(echo: Echo) -> None:
    with ThreadPoolExecutor() as callers:
        with FaultProxy(echo.url) as proxy:
            proxy.hold(http(path="/held"))
            proxy.black_hole(http(path="/hole"))
            proxy.drip(LONG_SECONDS, http(path="/drip"))
            paths = ("/held", "/hole", "/drip")
            calls = [callers.submit(httpx.get, proxy.url + path) for path in paths]
            proxy.wait_for_calls(count=3)
        troubles = [call.exception(PATIENCE_SECONDS) for call in calls]
    assert [type(trouble) for trouble in troubles] == [httpx.ReadError] * 3
    proxy.release()  # Too late, and no harm.
    assert "fault proxy" not in {thread.name for thread in threading.enumerate()}


def test_callers_that_vanish_leave_no_trace(echo: Echo, caplog: pytest.LogCaptureFixture) -> None:
    whole = b"GET / HTTP/1.1\r\nHost: echo\r\n\r\n"
    for number in range(10):
        with FaultProxy(echo.url) as proxy, ExitStack() as callers:
            for sent in (b"", whole[:9], whole, whole + whole[:9]) * 3:
                caller = socket.create_connection(("127.0.0.1", proxy.port))
                callers.enter_context(closing(caller))
                caller.sendall(sent)
                if number % 2:
                    caller.close()
            if number % 3 == 0:
                proxy.refuse()
    gc.collect()  # What was left open would be a ResourceWarning now, and so an error.
    assert caplog.records == []


def test_many_callers_at_once_are_served(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.duplicate()
    with ThreadPoolExecutor(16) as callers:
        told = list(callers.map(lambda n: client.post(f"/{n}", content=b"x").text, range(60)))
    assert told == ["x"] * 60
    assert ends(proxy) == [(2, 2, End.ANSWERED)] * 60


# -- Postgres -------------------------------------------------------------------------------------


@pytest.fixture
def database(postgres_url: sa.URL) -> Iterator[sa.Engine]:
    """A table, looked at past the proxy."""
    engine = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE noted (what text)"))
    yield engine
    with engine.connect() as connection:
        connection.execute(sa.text("DROP TABLE noted"))
    engine.dispose()


@pytest.fixture
def sql_proxy(database: sa.Engine) -> Iterator[FaultProxy]:
    with FaultProxy(database.url.render_as_string(hide_password=False)) as made:
        yield made


@pytest.fixture
def through(sql_proxy: FaultProxy) -> Iterator[sa.Engine]:
    """As our functions are connected."""
    engine = sa.create_engine(
        sql_proxy.url,
        isolation_level="AUTOCOMMIT",
        pool_size=1,
        max_overflow=0,
        connect_args={"timeout": PATIENCE_SECONDS, "application_name": "tried"},
    )
    yield engine
    engine.dispose()


def note(engine: sa.Engine, what: str) -> None:
    with engine.connect() as connection:
        connection.execute(sa.text("INSERT INTO\n noted VALUES (:what)"), {"what": what})


def noted(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return sorted(connection.execute(sa.text("SELECT what FROM noted")).scalars())


LOST: tuple[type[Exception], ...] = (sa.exc.DBAPIError, OSError)
"""As pg8000 tells that a connection was lost."""
INSERT = statement("INSERT INTO noted")


def test_statements_pass_and_are_told_with_their_parameters(
    through: sa.Engine, sql_proxy: FaultProxy, database: sa.Engine
) -> None:
    note(through, "one")
    assert noted(through) == noted(database) == ["one"]
    opened, *_ = sql_proxy.calls_of(connecting)
    assert (opened.path, opened.end) == (database.url.database, End.ANSWERED)
    assert b"tried" in opened.body
    [insert] = sql_proxy.calls_of(statement("insert into noted VALUES ($1", holding="one"))
    assert (insert.method, insert.forwarded, insert.replies) == ("SQL", 1, 1)
    assert not sql_proxy.calls_of(statement("INSERT INTO noted", holding="two"))
    assert not sql_proxy.calls_of(statement("INSERT INTO note"))


def test_a_statement_that_is_executed_and_dropped_has_had_its_effect(
    through: sa.Engine, sql_proxy: FaultProxy, database: sa.Engine
) -> None:
    note(through, "one")
    sql_proxy.execute_and_drop(statement("INSERT INTO noted", holding="two"), times=1)
    with pytest.raises(LOST):
        note(through, "two")
    assert noted(database) == ["one", "two"]
    [lost] = sql_proxy.calls_of(statement("INSERT INTO noted", holding="two"))
    assert (lost.replies, lost.end) == (1, End.RESET)
    through.dispose()
    note(through, "three")
    assert noted(through) == ["one", "three", "two"]


@pytest.mark.parametrize(
    ("fault", "kept"), [("execute_and_drop", ["in a transaction"]), ("reset", [])]
)
def test_a_commit_whose_connection_is_lost_happened_or_not(
    sql_proxy: FaultProxy, database: sa.Engine, fault: str, kept: list[str]
) -> None:
    # Without an isolation level: that is set with a COMMIT too.
    engine = sa.create_engine(sql_proxy.url, connect_args={"timeout": PATIENCE_SECONDS})
    getattr(sql_proxy, fault)(statement("COMMIT"), times=1)
    with pytest.raises(LOST), engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO noted VALUES ('in a transaction')"))
    engine.dispose()
    assert noted(database) == kept


def test_a_statement_that_is_reset_has_no_effect(
    through: sa.Engine, sql_proxy: FaultProxy, database: sa.Engine
) -> None:
    sql_proxy.reset(INSERT, times=1)
    with pytest.raises(LOST):
        note(through, "never")
    assert noted(database) == []
    [call] = sql_proxy.calls_of(INSERT)
    assert (call.forwarded, call.replies, call.end) == (0, 0, End.RESET)


def test_a_statement_in_a_black_hole_has_no_effect_and_no_answer(
    through: sa.Engine, sql_proxy: FaultProxy, database: sa.Engine
) -> None:
    sql_proxy.black_hole(INSERT, times=1)
    with ThreadPoolExecutor() as callers:
        waiting = callers.submit(note, through, "never")
        sql_proxy.wait_for_calls(lambda call: call.end is End.UNANSWERED)
        assert not waiting.done()
        sql_proxy.cut()
        assert isinstance(waiting.exception(PATIENCE_SECONDS), LOST)
    assert noted(database) == []
    [call] = sql_proxy.calls_of(INSERT)
    assert (call.forwarded, call.replies) == (0, 0)


def test_a_session_that_is_reset_when_it_begins_never_was(
    through: sa.Engine, sql_proxy: FaultProxy
) -> None:
    sql_proxy.reset(connecting, times=1)
    with pytest.raises(LOST):
        noted(through)
    assert noted(through) == []
    assert ends(sql_proxy)[:2] == [(0, 0, End.RESET), (1, 1, End.ANSWERED)]


def test_a_reply_of_postgres_drips_or_ends_early(
    through: sa.Engine, sql_proxy: FaultProxy, database: sa.Engine
) -> None:
    sql_proxy.drip(0.0005, statement("SELECT what"), times=1)
    note(database, "x" * 100)
    assert noted(through) == ["x" * 100]
    sql_proxy.limit(50, statement("SELECT what"), times=1)
    with pytest.raises(LOST):
        noted(through)
    told = [(call.faults, call.end) for call in sql_proxy.calls_of(statement("SELECT what"))]
    assert told == [(("drip",), End.ANSWERED), (("limit",), End.CUT)]


def test_an_idle_session_is_cut_and_another_can_be_opened(
    through: sa.Engine, sql_proxy: FaultProxy
) -> None:
    note(through, "one")
    sql_proxy.cut()
    with pytest.raises(LOST):
        noted(through)
    through.dispose()
    assert noted(through) == ["one"]


def test_postgres_refuses_and_comes_back(through: sa.Engine, sql_proxy: FaultProxy) -> None:
    note(through, "one")
    with sql_proxy.refuse():
        through.dispose()
        with pytest.raises(LOST):
            noted(through)
    through.dispose()
    assert noted(through) == ["one"]


def test_a_held_statement_lets_another_session_go_first(
    sql_proxy: FaultProxy, through: sa.Engine, database: sa.Engine
) -> None:
    sql_proxy.hold(INSERT, times=1)
    with ThreadPoolExecutor() as callers:
        held = callers.submit(note, through, "held")
        sql_proxy.wait_for_calls(INSERT)
        assert noted(database) == []
        sql_proxy.release()
        held.result(PATIENCE_SECONDS)
    assert noted(database) == ["held"]


@pytest.mark.parametrize("fault", ["duplicate", "status"])
def test_what_makes_sense_for_http_alone_is_refused(sql_proxy: FaultProxy, fault: str) -> None:
    arguments: dict[str, Any] = {"code": 503} if fault == "status" else {}
    with pytest.raises(ValueError, match="is for HTTP"):
        getattr(sql_proxy, fault)(**arguments)
