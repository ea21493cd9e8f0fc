"""What callers and other services give us is not found where it doesn't belong."""

from __future__ import annotations

import json
import string
from typing import TYPE_CHECKING, Any

import pytest

from api.problems import HEADERS
from api_client import Answer, ApiClient
from fakes import Course, StartFault, World
from poller import check, hunt, relay, tick
from runs import logs
from runs.adapters.conductor import call_end_of
from runs.messages import TickMessage
from runs.ports import CallEnd, NoAnswer
from runs.wiring import using
from wired import CHECK_QUEUE, QUEUE_ARN, TICK_QUEUE, Invocation, Log, WorldWiring, logged

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "canary-5ec2e7"
WISH = {
    "pipeline_id": 1,
    "input_path_prefix": f"s3://bucket/{CANARY}/in",
    "output_path_prefix": f"{CANARY}/out",
    "report_path_prefix": f"{CANARY}/report",
    "parameters": {CANARY: [CANARY, {"password": CANARY}]},
}
LONG = "x" * 200 + CANARY
"""What the other side's answer begins with may be shown, its 201st character not."""


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.pipeline()
    with using(WorldWiring(world)):
        yield world


@pytest.fixture
def log() -> Iterator[Log]:
    with logged() as log:
        yield log


def requests(world: World) -> Iterator[Answer]:
    """Each way in which what a caller gives can go wrong."""
    api = ApiClient()
    yield api.post("/pipeline-run", WISH, Idempotency_Key=CANARY)
    yield api.post("/pipeline-run", WISH | {"tags": {"a": "b"}}, Idempotency_Key=CANARY)
    world.conductor.start_faults.append(StartFault.REFUSED)
    yield api.post("/pipeline-run", WISH)
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    yield api.post("/pipeline-run", WISH)
    _, why = call_end_of(_failure(LONG))
    world.conductor.courses.append(Course.failed(CallEnd.CLIENT_ERROR, why))
    yield api.post("/pipeline-run", WISH)
    world.conductor.courses.append(Course.answer_lost())
    yield api.post("/pipeline-run", WISH, Prefer="respond-async")
    for name in ("input_path_prefix", "output_path_prefix", "report_path_prefix"):
        for prefix in (f"s3://nowhere/{CANARY}", f"{CANARY}/../x", f"${{{CANARY}}}", f"{CANARY}\n"):
            yield api.post("/pipeline-run", WISH | {name: prefix})
    yield api.post("/pipeline-run", WISH | {"parameters": f"${{workflow.secrets.{CANARY}}}"})
    yield api.post("/pipeline-run", WISH | {"parameters": CANARY * 4_000})
    yield api.post("/pipeline-run", WISH | {"pipeline_id": CANARY})
    yield api.post("/pipeline-run", WISH | {"pipeline_id": 999})
    yield api.send("POST", "/pipeline-run", text=f'{{"{CANARY}": "{CANARY}"')
    yield api.send("POST", "/pipeline-run", text=f'"{CANARY}"' * 8_000)
    yield api.get(f"/pipeline-run?page_token={CANARY}")
    yield api.get(f"/pipeline-run?status={CANARY}")
    yield api.post("/pipeline-run/1/cancel", {"reason": CANARY})
    for token in (f"bad {CANARY}", f"bad\t{CANARY}"):
        yield ApiClient(bearer=token).get("/pipeline")
    world.steps.strike("before MemoryRuns.run", RuntimeError(f"of a value: {CANARY}"))
    yield api.get("/pipeline-run/1")
    world.database.down = True
    yield api.post("/pipeline-run", WISH)
    world.database.down = False


def poller(world: World) -> Iterator[object]:
    """Each of its functions, in good and in bad times; what Lambda is answered."""
    for run_id in world.database.runs:
        world.workbench.answer_with(
            NoAnswer(reason=f"The Workbench answered 503: {LONG[:200]}"), run=run_id
        )
    for _ in range(3):
        world.pass_time(30)
        minute = world.time.now.replace(second=0, microsecond=0)
        yield tick.handler(
            _delivered(TICK_QUEUE, TickMessage(minute=minute, wave=0, shards=(0, 255)).to_json()),
            Invocation(),
        )
        bodies = [message.to_json() for message in world.check_queue.take()]
        yield check.handler(_delivered(CHECK_QUEUE, *bodies), Invocation())
    yield check.handler(_delivered(CHECK_QUEUE, json.dumps({"v": LONG})), Invocation())
    yield hunt.handler({}, Invocation())
    yield relay.handler({}, Invocation())


def _failure(body: str) -> str:
    """As Conductor tells that the Workbench answered 400."""
    return (
        "Failed to invoke HTTP task due to: java.lang.Exception: 400 Bad Request on POST request "
        f'for "http://workbench.test/batch/submit": "{body}"'
    )


def _delivered(queue: str, *bodies: str) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": f"handle-{number}",
                "body": body,
                "attributes": {},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": QUEUE_ARN + queue,
            }
            for number, body in enumerate(bodies)
        ]
    }


def test_s16_nothing_that_is_given_is_found_in_logs_messages_or_errors(
    world: World, log: Log
) -> None:
    answers = list(requests(world))
    told = list(poller(world))

    errors = [answer for answer in answers if answer.status >= 400]
    assert {answer.status for answer in errors} >= {400, 401, 404, 413, 422, 500, 503}
    for answer in errors:
        assert CANARY not in answer.text, answer.text
    assert CANARY not in log.text.replace(f"of a value: {CANARY}", "")
    assert {line["message"] for line in log.lines} >= {
        *("submission_judged", "request_failed", "request_without_database"),
        *("swept", "checked", "message_unreadable"),
    }
    assert CANARY not in json.dumps(told, default=str)
    for queue in (world.check_queue, world.retry_queue):
        assert queue.sent
        for sent in queue.sent:
            assert CANARY not in sent.message.to_json()


def test_s16_what_the_workbench_answered_is_quoted_in_short() -> None:
    end, why = call_end_of(_failure(LONG))
    assert end is CallEnd.CLIENT_ERROR
    assert "x" * 100 in why
    assert CANARY not in why


def test_s16_a_line_of_the_log_is_one_line_of_json_whatever_it_tells(log: Log) -> None:
    odd = "".join(map(chr, range(0x20))) + "\x7f\u0085\u2028\ud800" + '"}\n{"level": "ERROR"}'
    logs.logger().warning("odd", extra={"error": odd})
    assert [line["message"] for line in log.lines] == ["odd"]
    assert log.lines[0]["error"] == odd
    assert set(log.text.rstrip("\n")) <= set(string.printable) - set(string.whitespace) | {" "}


def test_s17_no_answer_tells_a_trace_or_a_place_in_the_code(world: World) -> None:
    for answer in requests(world):
        for word in ("Traceback", 'File "', ".py", ", line ", "Error("):
            assert word not in answer.text, answer.text


def test_s17_s18_every_answer_has_the_headers_and_every_error_is_a_problem(world: World) -> None:
    for answer in requests(world):
        assert answer.headers.items() >= HEADERS.items()
        if answer.status >= 400:
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json["request_id"]
        assert not any(name.lower().startswith("access-control") for name in answer.headers)
