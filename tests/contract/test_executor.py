"""Real LocalStack runs real functions by our executor: in processes, not in containers."""

from __future__ import annotations

import io
import json
import os
import socket
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import localstack_client.session
import psutil
import pytest
from botocore.config import Config

from infra.local import processes
from infra.local.layout import Layout
from infra.local.parts import localstack as parts

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    Deploy = Callable[..., "Function"]

STACK_MARK = "executor-tests"
REGION = "eu-central-1"
# What never takes this long unless something is wrong.
DEADLINE_SECONDS = 60
NUMBERS = count(1)


@dataclass(frozen=True)
class LocalStack:
    process: subprocess.Popen[bytes]
    url: str
    log: Path
    lambdas: Any
    logs: Any


@dataclass(frozen=True)
class Result:
    request_id: str
    is_error: bool
    body: Any


@dataclass(frozen=True)
class Function:
    """A deployed function; its code is `handler.py` in the folder, watched for edits."""

    localstack: LocalStack
    name: str
    folder: Path

    def write(self, source: str) -> None:
        (self.folder / "handler.py").write_text(dedent(source))

    def call(self, **event: Any) -> Result:
        response = self.localstack.lambdas.invoke(FunctionName=self.name, Payload=json.dumps(event))
        return Result(
            request_id=response["ResponseMetadata"]["RequestId"],
            is_error="FunctionError" in response,
            body=json.load(response["Payload"]),
        )

    def log_of(self, result: Result) -> list[str]:
        """The lines between an invocation's START and REPORT in CloudWatch, both included."""
        lines: list[str] = []

        def is_complete() -> bool:
            lines[:] = [line.rstrip("\n") for line in self._logged()]
            return any(is_of(line, "REPORT", result) for line in lines)

        wait_until(is_complete, f"{self.name} logged its REPORT")
        first = next(i for i, line in enumerate(lines) if is_of(line, "START", result))
        last = next(i for i, line in enumerate(lines) if is_of(line, "REPORT", result))
        return lines[first : last + 1]

    def _logged(self) -> list[str]:
        logs = self.localstack.logs
        group = f"/aws/lambda/{self.name}"
        with suppress(logs.exceptions.ResourceNotFoundException):
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
            return [event["message"] for page in pages for event in page["events"]]
        return []


def is_of(line: str, kind: str, result: Result) -> bool:
    return line.startswith(f"{kind} RequestId: {result.request_id}")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def client(service: str, url: str) -> Any:
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("AWS_ENDPOINT_URL", raising=False)  # It would win.
        session = localstack_client.session.Session(
            localstack_host=url.removeprefix("http://"), region_name=REGION
        )
    settings = Config(proxies={}, retries={"max_attempts": 0}, read_timeout=DEADLINE_SECONDS)
    return session.client(service, config=settings)


@pytest.fixture(scope="module")
def localstack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    folder = tmp_path_factory.mktemp("localstack")
    log = folder / "localstack.log"
    part = parts.LocalStack(
        layout=Layout(folder), environment=os.environ, port=free_port(), region=REGION
    )
    part.prepare(print)
    process = processes.start(part.launch(), marker=STACK_MARK, log=log)

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        return part.is_ready(process.pid)

    try:
        wait_until(is_ready, "LocalStack is up")
        lambdas, logs = client("lambda", part.url), client("logs", part.url)
        yield LocalStack(process, part.url, log, lambdas, logs)
    finally:
        process.kill()  # It has nothing to save.
        process.wait()


@pytest.fixture
def deploy(localstack: LocalStack, tmp_path: Path) -> Deploy:
    def deploy_here(source: str, **settings: Any) -> Function:
        number = next(NUMBERS)
        function = Function(localstack, f"function-{number}", tmp_path / f"code-{number}")
        function.folder.mkdir()
        function.write(source)
        usual = {
            "Runtime": "python3.11",
            "Role": "arn:aws:iam::000000000000:role/function",
            "Handler": "handler.handle",
            "Code": {"S3Bucket": "hot-reload", "S3Key": str(function.folder)},
            "Timeout": DEADLINE_SECONDS,
        }
        localstack.lambdas.create_function(FunctionName=function.name, **usual | settings)
        return function

    return deploy_here


def archive(source: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("handler.py", dedent(source))
    return file.getvalue()


ECHO = """
    import os

    def handle(event, context):
        return {"event": event, "pid": os.getpid(), "request_id": context.aws_request_id}
"""


def test_the_caller_gets_what_the_handler_returns(deploy: Deploy) -> None:
    result = deploy(ECHO).call(greeting="grüß dich")

    assert not result.is_error
    assert result.body["event"] == {"greeting": "grüß dich"}
    assert result.body["request_id"] == result.request_id


def test_a_warm_process_answers_again(deploy: Deploy) -> None:
    function = deploy(ECHO)

    assert function.call().body["pid"] == function.call().body["pid"]


def test_a_handler_knows_how_much_time_it_has(deploy: Deploy) -> None:
    function = deploy(
        """
        def handle(event, context):
            return context.get_remaining_time_in_millis()
        """,
        Timeout=30,
    )

    assert 0 < function.call().body <= 30_000


def test_what_a_handler_raises_is_the_answer(deploy: Deploy) -> None:
    result = deploy(
        """
        def handle(event, context):
            raise LookupError("no such run")
        """
    ).call()

    assert result.is_error
    assert (result.body["errorType"], result.body["errorMessage"]) == ("LookupError", "no such run")


def test_an_answer_above_the_limit_of_aws_is_refused(deploy: Deploy) -> None:
    function = deploy(
        """
        def handle(event, context):
            return "x" * event["length"]
        """
    )

    assert function.call(length=7 * 1024 * 1024).body["errorType"] == (
        "Function.ResponseSizeTooLarge"
    )
    assert function.call(length=5 * 1024 * 1024).body == "x" * 5 * 1024 * 1024


def test_cloudwatch_has_each_invocations_log(deploy: Deploy) -> None:
    function = deploy(
        """
        import os, sys

        def handle(event, context):
            print("printed")
            sys.stderr.write("written\\n")
            os.system("echo by a child")
        """
    )
    for _ in range(2):
        result = function.call()
        start, *lines, end, report = function.log_of(result)

        assert start == f"START RequestId: {result.request_id} Version: $LATEST"
        assert lines == ["printed", "written", "by a child"]
        assert end == f"END RequestId: {result.request_id}"
        assert "Duration: " in report


def test_localstacks_own_log_has_the_lines_too(deploy: Deploy, localstack: LocalStack) -> None:
    function = deploy(
        """
        def handle(event, context):
            print("printed")
        """
    )
    function.call()

    assert f"[{function.name}] printed\n" in localstack.log.read_text()


def test_a_log_without_end_is_kept_within_bounds(deploy: Deploy) -> None:
    function = deploy(
        """
        import itertools

        def handle(event, context):
            for number in itertools.count():
                print("line", number)
        """,
        Timeout=1,
    )
    result = function.call()
    lines = function.log_of(result)

    assert result.body["errorType"] == "Sandbox.Timedout"
    assert lines[1] == "line 0"
    assert any("left out" in line for line in lines)
    assert len(lines) < 2_100


def test_an_invocation_that_takes_too_long_is_ended_and_the_next_one_answered(
    deploy: Deploy,
) -> None:
    function = deploy(
        """
        import os, threading

        def handle(event, context):
            if event.get("hang"):
                print("pid", os.getpid())
                threading.Event().wait()
            return "done"
        """,
        Timeout=1,
    )
    result = function.call(hang=True)
    _, line, told, _, _ = function.log_of(result)

    assert result.body == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {result.request_id} Error: Task timed out after 1.00 seconds",
    }
    assert told.endswith(f"{result.request_id} Task timed out after 1.00 seconds")
    assert not psutil.pid_exists(int(line.removeprefix("pid ")))
    assert function.call().body == "done"


def test_a_crash_is_the_answer_with_its_log_and_the_next_invocation_works(deploy: Deploy) -> None:
    function = deploy(
        """
        import os

        def handle(event, context):
            if event.get("crash"):
                print("last words")
                os._exit(3)
            return "done"
        """
    )
    result = function.call(crash=True)
    told = f"{result.request_id} Runtime exited with error: exit status 3"

    assert result.body == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {result.request_id} Error: Runtime exited with error: "
        "exit status 3",
    }
    assert function.log_of(result)[1] == "last words"
    assert function.log_of(result)[2].endswith(told)
    assert function.call().body == "done"


def test_a_process_that_ended_between_invocations_is_replaced(deploy: Deploy) -> None:
    function = deploy(ECHO)
    first = psutil.Process(function.call().body["pid"])
    first.kill()
    wait_until(lambda: not first.is_running(), "the first process is gone")

    result = function.call()

    assert not result.is_error
    assert result.body["pid"] != first.pid


@pytest.mark.parametrize(
    ("source", "error_type", "message"),
    [
        ("raise ValueError('no settings')", "ValueError", "no settings"),
        ("import nowhere", "Runtime.ImportModuleError", "No module named 'nowhere'"),
        ("def", "Runtime.UserCodeSyntaxError", "Syntax error in module 'handler'"),
        ("", "Runtime.HandlerNotFound", "Handler 'handle' missing on module 'handler'"),
    ],
)
def test_a_handler_that_cannot_be_imported_is_told_each_time_until_it_can(
    deploy: Deploy, source: str, error_type: str, message: str
) -> None:
    function = deploy(source)
    for _ in range(2):
        result = function.call()

        assert result.is_error
        assert result.body["errorType"] == error_type
        assert message in result.body["errorMessage"]
        assert any(message in line for line in function.log_of(result))

    function.write(ECHO)

    assert function.call(now="fine").body["event"] == {"now": "fine"}


def test_a_process_that_exits_while_it_is_imported_is_an_answer_too(deploy: Deploy) -> None:
    function = deploy(
        """
        import os

        print("loading")
        os._exit(4)
        """
    )
    result = function.call()

    assert result.body["errorType"] == "Runtime.ExitError"
    assert "loading" in function.log_of(result)


def test_invocations_at_once_have_an_environment_each(deploy: Deploy, tmp_path: Path) -> None:
    function = deploy(
        """
        import os, pathlib, time

        def handle(event, context):
            meeting = pathlib.Path(event["meeting"])
            (meeting / str(os.getpid())).touch()
            while len(list(meeting.iterdir())) < event["guests"]:
                time.sleep(0.01)
            return {
                "pid": os.getpid(),
                "stream": os.environ["AWS_LAMBDA_LOG_STREAM_NAME"],
                "event": event["number"],
            }
        """
    )
    meeting = tmp_path / "meeting"
    meeting.mkdir()

    with ThreadPoolExecutor(max_workers=4) as callers:
        calls = [
            callers.submit(function.call, meeting=str(meeting), guests=4, number=number)
            for number in range(4)
        ]
        answers = [call.result().body for call in calls]

    assert [answer["event"] for answer in answers] == [0, 1, 2, 3]
    assert len({answer["pid"] for answer in answers}) == 4
    assert len({answer["stream"] for answer in answers}) == 4


def test_updated_code_runs_from_the_next_invocation_on(
    deploy: Deploy, localstack: LocalStack
) -> None:
    versions = [
        archive(f"def handle(event, context): return 'version {number}'") for number in (1, 2)
    ]
    function = deploy("", Code={"ZipFile": versions[0]})
    assert function.call().body == "version 1"

    localstack.lambdas.update_function_code(FunctionName=function.name, ZipFile=versions[1])
    localstack.lambdas.get_waiter("function_updated_v2").wait(
        FunctionName=function.name, WaiterConfig={"Delay": 0.1}
    )

    assert function.call().body == "version 2"


def test_an_edit_is_seen_by_the_next_invocation_however_quick(deploy: Deploy) -> None:
    function = deploy(
        """
        import other

        def handle(event, context):
            return other.NUMBER
        """
    )
    other = function.folder / "other.py"
    other.write_text("NUMBER = 1")
    status = other.stat()
    assert function.call().body == 1

    other.write_text("NUMBER = 2")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns + 1))

    assert function.call().body == 2


def test_nothing_is_written_beside_the_sources(deploy: Deploy) -> None:
    function = deploy("from other import handle")
    (function.folder / "other.py").write_text(dedent(ECHO))

    assert not function.call().is_error
    assert {file.name for file in function.folder.iterdir()} == {"handler.py", "other.py"}


def test_a_function_sees_its_own_variables_and_few_of_localstacks(
    deploy: Deploy, localstack: LocalStack
) -> None:
    function = deploy(
        """
        import os

        def handle(event, context):
            return dict(os.environ)
        """,
        Environment={"Variables": {"POLL_INTERVAL_SECONDS": "10"}},
    )
    variables = function.call().body

    assert variables["POLL_INTERVAL_SECONDS"] == "10"
    assert variables["PIPELINE_RUNS_STACK"] == STACK_MARK
    assert variables["AWS_ENDPOINT_URL"] == localstack.url
    assert variables["AWS_LAMBDA_FUNCTION_NAME"] == function.name
    assert Path(variables["PYTHONPYCACHEPREFIX"]).is_relative_to(variables["TMPDIR"])
    assert not {"GATEWAY_LISTEN", "FILESYSTEM_ROOT", "LAMBDA_PROCESS_PYTHON"} & variables.keys()


def test_a_function_reads_an_empty_standard_input(deploy: Deploy) -> None:
    function = deploy(
        """
        import sys

        def handle(event, context):
            return sys.stdin.read()
        """
    )

    assert function.call().body == ""


def test_a_function_that_needs_more_than_a_process_is_refused_with_the_reason(
    deploy: Deploy, localstack: LocalStack
) -> None:
    function = deploy("", Runtime="nodejs22.x", Handler="index.handler")
    state = localstack.lambdas.get_function(FunctionName=function.name)["Configuration"]

    assert state["State"] == "Failed"
    assert "only Python runtimes" in state["StateReason"]


def test_a_deleted_functions_processes_end(deploy: Deploy, localstack: LocalStack) -> None:
    function = deploy(ECHO)
    process = psutil.Process(function.call().body["pid"])

    localstack.lambdas.delete_function(FunctionName=function.name)

    wait_until(lambda: not process.is_running(), "the function's process is gone")


def test_only_loopback_addresses_are_listened_on(deploy: Deploy, localstack: LocalStack) -> None:
    deploy(ECHO).call()
    tree = psutil.Process(localstack.process.pid)
    listening = {
        connection.laddr.ip
        for process in [tree, *tree.children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }

    assert listening == {"127.0.0.1", "::ffff:127.0.0.1"}


def test_a_metric_in_a_functions_log_is_a_metric_that_can_be_asked_for(
    localstack: LocalStack, deploy: Deploy
) -> None:
    function = deploy("""
        import json, time

        def handle(event, context):
            metric = {"Namespace": "Runs", "Dimensions": [["stage"]],
                      "Metrics": [{"Name": "Checks", "Unit": "Count"}]}
            told = {"Timestamp": round(time.time() * 1000), "CloudWatchMetrics": [metric]}
            print(json.dumps({"_aws": told, "stage": "local", "Checks": [event["checks"]]}))
    """)
    function.call(checks=3)
    function.call(checks=4)
    watch = client("cloudwatch", localstack.url)

    def total() -> float:
        now = datetime.now(UTC)
        found = watch.get_metric_statistics(
            Namespace="Runs",
            MetricName="Checks",
            Dimensions=[{"Name": "stage", "Value": "local"}],
            StartTime=now - timedelta(minutes=10),
            EndTime=now + timedelta(minutes=1),
            Period=60,
            Statistics=["Sum"],
        )
        return float(sum(point["Sum"] for point in found["Datapoints"]))

    wait_until(lambda: total() == 7, "both calls' figures are there")
