"""`POST …/cancel`, `POST …/retry` and `timeout_seconds`: what they take and what they answer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from api.bodies import PipelineRunRequest
from api_client import Answer, ApiClient
from fakes import Course, StartFault, World
from runs.ports import CallEnd
from runs.status import PipelineMode, PipelineRunStatus
from runs.wiring import using
from wired import ENVIRONMENT, WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

S = PipelineRunStatus
BROKE = Course.failed(CallEnd.SERVER_ERROR, "The Workbench answered 500: oh no")
WEEK_SECONDS = 7 * 24 * 60 * 60
WISH = {"pipeline_id": 1, "input_path_prefix": "in/1", "output_path_prefix": "out/1"}
COMMANDS = ["cancel", "retry"]
commands = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.pipeline(PipelineMode.BATCH)
    world.pipeline(PipelineMode.REALTIME)
    with using(WorldWiring(world)):
        yield world


@pytest.fixture
def api(world: World) -> ApiClient:
    del world
    return ApiClient()


def send(
    api: ApiClient, command: str, run_id: object = 1, *, text: str | None = None, **headers: str
) -> Answer:
    """Sends a command with this body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.send("POST", f"/pipeline-run/{run_id}/{command}", text=text, headers=named)


def submitted(world: World) -> int:
    """A run that is SUBMITTED."""
    return world.submit().id


def ended(world: World, word: str = "FAILED") -> int:
    """A run whose job ended so."""
    run_id = submitted(world)
    world.workbench.become(word, run=run_id)
    check(world)
    assert world.run(run_id).is_terminal
    return run_id


def check(world: World) -> None:
    """A minute goes by."""
    world.pass_time(60)
    world.begin_minute()
    world.deliver()


# -- cancel ---------------------------------------------------------------------------------------


def test_p23_a_cancel_is_accepted_and_a_check_sent_at_once(api: ApiClient, world: World) -> None:
    submitted(world)

    answer = send(api, "cancel", text='{"reason": "too dear"}')

    assert answer.status == 202
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Retry-After"] == "30"
    told: dict[str, Any] = answer.json
    assert (told["id"], told["status"], told["version"]) == (1, "SUBMITTED", 2)
    # A submission takes 0.24375 s, see `test_api_submission`.
    assert told["cancel_requested_at"] == "2026-03-01T12:00:00.243750Z"
    assert (told["cancel_cause"], told["cancel_reason"]) == ("USER", "too dear")
    [sent] = world.check_queue.sent
    assert (sent.message.run_ids, sent.delay_seconds) == ((1,), 0)
    assert sent.message.sent_at == world.time.now


def test_p26_what_was_accepted_is_shown_by_a_get(api: ApiClient, world: World) -> None:
    submitted(world)
    told = send(api, "cancel", text='{"reason": "too dear"}').json
    assert api.get("/pipeline-run/1").json == told


def test_p26_a_get_that_is_conditional_shows_the_wish_too(api: ApiClient, world: World) -> None:
    submitted(world)
    known = api.get("/pipeline-run/1").headers["ETag"]
    assert api.get("/pipeline-run/1", If_None_Match=known).status == 304

    send(api, "cancel")

    answer = api.get("/pipeline-run/1", If_None_Match=known)
    assert answer.status == 200
    assert answer.json["cancel_requested_at"]


def test_p23_a_run_that_nobody_tried_to_submit_is_answered_cancelled(
    api: ApiClient, world: World
) -> None:
    world.submit(respond_async=True)

    answer = send(api, "cancel")

    assert answer.status == 200
    assert "Retry-After" not in answer.headers
    told = answer.json
    assert (told["status"], told["cancel_cause"]) == ("CANCELLED", "USER")
    assert told["completed_at"] == told["cancel_requested_at"] == "2026-03-01T12:00:00Z"
    assert (told["error"], told["error_message"]) == (None, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, None),
        ("", None),
        (" \n", None),
        ("{}", None),
        ('{"reason": null}', None),
        ('{"reason": ""}', ""),
        ('{"reason": "zu teuer: 高すぎる"}', "zu teuer: 高すぎる"),
        ('{"reason": "' + "x" * 500 + '"}', "x" * 500),
    ],
)
def test_a_cancel_may_say_why(
    api: ApiClient, world: World, text: str | None, reason: str | None
) -> None:
    submitted(world)
    answer = send(api, "cancel", text=text)
    assert answer.status == 202
    assert answer.json["cancel_reason"] == world.run(1).cancel_reason == reason


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "", None]
)
@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_body_needs_no_media_type(
    api: ApiClient, world: World, command: str, media_type: str | None
) -> None:
    run_id = submitted(world) if command == "cancel" else ended(world)
    answer = api.send(
        "POST", f"/pipeline-run/{run_id}/{command}", headers={"Content-Type": media_type}
    )
    assert answer.status in {201, 202}


@pytest.mark.parametrize(
    ("text", "pointers"),
    [
        ("[]", [""]),
        ("null", [""]),
        ('"why"', [""]),
        ('{"reason": 7}', ["/reason"]),
        ('{"reason": ["a"]}', ["/reason"]),
        ('{"reason": "' + "x" * 501 + '"}', ["/reason"]),
        ('{"reason": "nul\\u0000"}', ["/reason"]),
        ('{"reason": "\\ud800"}', ["/reason"]),
        ('{"why": "a"}', ["/why"]),
        ('{"reason": 7, "cancel_cause": "TIMEOUT"}', ["/reason", "/cancel_cause"]),
    ],
)
def test_p13_a_cancel_that_is_invalid_is_told_by_pointers_and_nothing_is_written(
    api: ApiClient, world: World, text: str, pointers: list[str]
) -> None:
    run = world.submit()
    assert send(api, "cancel", text=text).pointers() == pointers
    assert world.run(1) == run
    assert not world.check_queue.sent


@commands
def test_p13_p30_a_body_that_is_no_json_is_refused(
    api: ApiClient, world: World, command: str
) -> None:
    run_id = submitted(world) if command == "cancel" else ended(world)
    before = world.run(run_id)
    send(api, command, run_id, text="{").problem(400, "malformed_json")
    large = '{"reason": "' + "x" * 65_536 + '"}'
    send(api, command, run_id, text=large).problem(413, "body_too_large")
    foreign = send(api, command, run_id, text="reason=none", Content_Type="text/plain")
    foreign.problem(415, "unsupported_media_type")
    assert world.run(run_id) == before
    assert len(world.database.runs) == 1


def test_p23_a_cancel_that_comes_again_is_the_same_as_once(api: ApiClient, world: World) -> None:
    submitted(world)
    first = send(api, "cancel", text='{"reason": "the first"}')
    world.pass_time(10)
    second = send(api, "cancel", text='{"reason": "the second"}')
    assert (first.status, second.status) == (202, 202)
    assert second.json == first.json


def test_p23_a_run_that_is_cancelled_already_is_answered_as_it_is(
    api: ApiClient, world: World
) -> None:
    submitted(world)
    send(api, "cancel")
    world.deliver()
    check(world)
    before = api.get("/pipeline-run/1").json
    assert before["status"] == "CANCELLED"

    answer = send(api, "cancel", text='{"reason": "again"}')

    assert answer.status == 200
    assert answer.json == before


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED"])
def test_p3_a_run_that_has_ended_otherwise_is_a_conflict(
    api: ApiClient, world: World, word: str
) -> None:
    ended(world, word)
    before = world.run(1)

    problem = send(api, "cancel").problem(409, "run_already_terminal")

    assert problem["detail"] == f"Run 1 has ended: it is {word}"
    assert world.run(1) == before


def test_f33_without_a_database_a_cancel_is_to_be_tried_again(api: ApiClient, world: World) -> None:
    submitted(world)
    world.database.down = True
    answer = send(api, "cancel")
    answer.problem(503, "database_unavailable")
    assert answer.headers["Retry-After"] == "2"
    world.database.down = False
    assert world.run(1).cancel_requested_at is None


def test_f36_a_cancel_of_a_run_whose_row_is_locked_is_to_be_tried_again(
    api: ApiClient, world: World
) -> None:
    submitted(world)
    world.database.locked = {1}
    send(api, "cancel").problem(503, "database_unavailable")
    world.database.locked = set()
    assert send(api, "cancel").status == 202


def test_f20_a_cancel_whose_check_could_not_be_sent_is_accepted_all_the_same(
    api: ApiClient, world: World
) -> None:
    submitted(world)
    world.check_queue.refuses = 1
    assert send(api, "cancel").status == 202
    check(world)
    world.pass_time(30)
    world.sweep()
    world.deliver()
    assert api.get("/pipeline-run/1").json["status"] == "CANCELLED"


# -- retry ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, "", "{}", " {} "])
def test_a_retry_is_answered_like_a_new_run(api: ApiClient, world: World, text: str | None) -> None:
    api.post(
        "/pipeline-run",
        {
            **WISH,
            "report_path_prefix": "reports/1",
            "parameters": {"n": 1},
            "tags": {"team": "a"},
            "timeout_seconds": 600,
        },
    )
    world.workbench.become("FAILED", run=1)
    check(world)
    old = api.get("/pipeline-run/1").json

    answer = send(api, "retry", text=text)

    assert answer.status == 201
    assert answer.headers["Location"] == "/Prod/pipeline-run/2"
    assert answer.headers["Retry-After"] == "30"
    assert "Idempotent-Replayed" not in answer.headers
    told = answer.json
    assert (told["id"], told["retry_of"], told["status"]) == (2, 1, "SUBMITTED")
    same = [
        "pipeline_id",
        "mode",
        "user_storage_input_path_prefix",
        "user_storage_output_path_prefix",
        "user_storage_report_path_prefix",
        "parameters",
        "tags",
        "timeout_seconds",
    ]
    assert {name: told[name] for name in same} == {name: old[name] for name in same}
    assert told["timeout_seconds"] == 600
    assert api.get("/pipeline-run/1").json["retry_of"] is None


def test_a_retry_of_a_realtime_run_is_answered_completed(api: ApiClient, world: World) -> None:
    world.submit(mode=PipelineMode.REALTIME)
    answer = send(api, "retry")
    assert answer.status == 201
    assert (answer.json["status"], answer.json["retry_of"]) == ("COMPLETED", 1)


@pytest.mark.parametrize("prefer", ["respond-async", "wait=5, Respond-Async"])
def test_a_retry_need_not_be_waited_for(api: ApiClient, world: World, prefer: str) -> None:
    ended(world)
    started = len(world.conductor.started)

    answer = send(api, "retry", Prefer=prefer)

    assert answer.status == 202
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert answer.headers["Location"] == "/Prod/pipeline-run/2"
    assert (answer.json["status"], answer.json["retry_of"]) == ("CREATED", 1)
    assert len(world.conductor.started) == started
    world.deliver()
    assert world.run(2).status is S.SUBMITTED


def test_a_retry_of_which_nothing_is_known_yet_is_answered_created(
    api: ApiClient, world: World
) -> None:
    ended(world)
    world.conductor.start_faults.append(StartFault.UNCLEAR)
    answer = send(api, "retry")
    assert answer.status == 202
    assert (answer.json["status"], answer.json["retry_of"]) == ("CREATED", 1)
    assert "Preference-Applied" not in answer.headers


def test_s8_a_retry_with_parameters_that_are_refused_by_now_is_told_where(
    api: ApiClient, world: World
) -> None:
    old = world.database.runs[ended(world)]
    named = {"text": "${workflow.secrets.TOKEN}"}
    world.database.runs[old.id] = replace(old, parameters=named)
    assert send(api, "retry", old.id).pointers() == ["/parameters"]


def test_a_retry_whose_submission_failed_is_a_problem_and_its_run_is_kept(
    api: ApiClient, world: World
) -> None:
    ended(world)
    world.conductor.courses.append(BROKE)

    answer = send(api, "retry")

    problem = answer.problem(500, "submission_failed")
    assert problem["detail"] == (
        "Batch workflow submission failed: The Workbench answered 500: oh no"
    )
    assert problem["pipeline_run_id"] == 2
    assert answer.headers["Location"] == "/Prod/pipeline-run/2"
    kept = api.get("/pipeline-run/2").json
    assert (kept["status"], kept["retry_of"]) == ("FAILED", 1)


@pytest.mark.parametrize("word", ["QUEUED", "RUNNING"])
def test_p13_a_run_that_has_not_ended_is_a_conflict(
    api: ApiClient, world: World, word: str
) -> None:
    submitted(world)
    world.workbench.become(word, run=1)
    check(world)
    status = world.run(1).status

    problem = send(api, "retry", Idempotency_Key="again").problem(409, "run_not_terminal")

    assert problem["detail"] == f"Run 1 has not ended: it is {status}. Cancel it first, or wait"
    assert len(world.database.runs) == 1


def test_p7_a_retry_with_its_key_again_is_the_run_that_it_made(
    api: ApiClient, world: World
) -> None:
    ended(world)
    first = send(api, "retry", Idempotency_Key="again")
    world.workbench.become("RUNNING", run=2)
    check(world)

    again = send(api, "retry", Idempotency_Key="again")

    assert (first.status, again.status) == (201, 200)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == "/Prod/pipeline-run/2"
    assert (again.json["id"], again.json["status"]) == (2, "RUNNING")
    assert len(world.database.runs) == 2


def test_p7_a_replay_of_a_retry_that_failed_is_the_same_problem(
    api: ApiClient, world: World
) -> None:
    ended(world)
    world.conductor.courses.append(BROKE)
    first = send(api, "retry", Idempotency_Key="again").problem(500, "submission_failed")
    again = send(api, "retry", Idempotency_Key="again")
    assert again.problem(500, "submission_failed") == first
    assert again.headers["Idempotent-Replayed"] == "true"


def test_p7_f14_a_key_is_scoped_to_the_retry_and_to_the_run_retried(
    api: ApiClient, world: World
) -> None:
    keyed = ApiClient(headers={"Idempotency-Key": "monday"})
    assert keyed.post("/pipeline-run", WISH).json["id"] == 1
    world.workbench.become("FAILED", run=1)
    check(world)
    other = ended(world)

    assert send(keyed, "retry", 1).json["id"] == 3
    problem = send(keyed, "retry", other).problem(422, "idempotency_key_reused")

    assert "for run 3" in problem["detail"]
    assert send(api, "retry", other).status == 201


@pytest.mark.parametrize("key", ["", "k" * 256, "two words", "ümlaut"])
def test_p13_a_retry_with_an_invalid_key_is_refused(api: ApiClient, world: World, key: str) -> None:
    ended(world)
    send(api, "retry", Idempotency_Key=key).problem(422, "invalid_idempotency_key")
    assert len(world.database.runs) == 1


@pytest.mark.parametrize(
    ("text", "pointers"),
    [
        ("[]", [""]),
        ('{"tags": {}}', ["/tags"]),
        ('{"timeout_seconds": 60}', ["/timeout_seconds"]),
    ],
)
def test_p13_a_retry_takes_no_changes(
    api: ApiClient, world: World, text: str, pointers: list[str]
) -> None:
    ended(world)
    assert send(api, "retry", text=text).pointers() == pointers
    assert len(world.database.runs) == 1


# -- both -----------------------------------------------------------------------------------------


@commands
@pytest.mark.parametrize("run_id", [2, 2**63 - 1, 2**63, 0, "-1", "1.0", "x", "%31"])
def test_p13_a_command_to_a_run_that_is_not_there_is_not_found(
    api: ApiClient, world: World, command: str, run_id: object
) -> None:
    submitted(world)
    problem = send(api, command, run_id).problem(404, "pipeline_run_not_found")
    assert problem["detail"] == "Pipeline run not found"
    assert len(world.database.runs) == 1


@commands
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_p30_a_command_is_a_post(api: ApiClient, world: World, command: str, method: str) -> None:
    submitted(world)
    answer = api.send(method, f"/pipeline-run/1/{command}")
    answer.problem(405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"


def test_a_run_links_to_the_command_that_it_takes(api: ApiClient, world: World) -> None:
    submitted(world)
    links = api.get("/pipeline-run/1").json["links"]
    assert links["cancel"] == "/Prod/pipeline-run/1/cancel"
    assert "retry" not in links
    accepted = send(api, "cancel").json["links"]
    assert accepted == links
    world.deliver()
    check(world)
    links = api.get("/pipeline-run/1").json["links"]
    assert links["retry"] == "/Prod/pipeline-run/1/retry"
    assert "cancel" not in links


@pytest.mark.parametrize("stage", ["", "v1"])
def test_the_links_of_a_command_begin_with_what_the_caller_called(world: World, stage: str) -> None:
    submitted(world)
    base = f"/{stage}" if stage else ""
    links = send(ApiClient(stage), "cancel").json["links"]
    assert links["self"] == f"{base}/pipeline-run/1"
    assert links["cancel"] == f"{base}/pipeline-run/1/cancel"


def test_the_location_of_a_retry_begins_with_what_is_configured(world: World) -> None:
    ended(world)
    address = "https://runs.example.com/v1/"
    with using(WorldWiring(world, {**ENVIRONMENT, "API_BASE_URL": address})):
        answer = send(ApiClient(), "retry")
    assert answer.headers["Location"] == "https://runs.example.com/v1/pipeline-run/2"


# -- timeout_seconds ------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [60, 3_600, WEEK_SECONDS, 2_592_000])
def test_p32_a_run_may_be_given_from_a_minute_to_thirty_days(
    api: ApiClient, world: World, seconds: int
) -> None:
    answer = api.post("/pipeline-run", {**WISH, "timeout_seconds": seconds})
    assert answer.status == 201
    assert answer.json["timeout_seconds"] == seconds
    assert api.get("/pipeline-run/1").json["timeout_seconds"] == seconds
    assert world.run(1).timeout_seconds == seconds


def test_p32_a_run_has_seven_days_unless_it_says_otherwise(api: ApiClient) -> None:
    assert api.post("/pipeline-run", WISH).json["timeout_seconds"] == WEEK_SECONDS


@pytest.mark.parametrize("value", [59, 2_592_001, 0, -60, 60.5, "60", True, 10**400])
def test_p13_p32_any_other_timeout_is_refused(api: ApiClient, world: World, value: object) -> None:
    answer = api.post("/pipeline-run", {**WISH, "timeout_seconds": value})
    assert answer.pointers() == ["/timeout_seconds"]
    assert not world.database.runs


def test_p32_a_run_that_timed_out_says_so(api: ApiClient, world: World) -> None:
    api.post("/pipeline-run", {**WISH, "timeout_seconds": 60})
    world.pass_time(30)
    check(world)
    wanted = api.get("/pipeline-run/1").json
    assert (wanted["status"], wanted["cancel_cause"]) == ("SUBMITTED", "TIMEOUT")
    # 0.24375 s for the submission, and 90 s.
    assert wanted["cancel_requested_at"] == "2026-03-01T12:01:30.243750Z"
    assert wanted["cancel_reason"] is None
    check(world)

    told = api.get("/pipeline-run/1").json

    message = "The run took longer than its timeout of 60 s; it was cancelled"
    assert (told["status"], told["error_message"]) == ("FAILED", message)
    assert told["error"] == {"code": "run_timed_out", "category": "TIMEOUT", "message": message}
    events = api.get("/pipeline-run/1/events").json["items"]
    assert [event["error"] for event in events] == [None, None, message]


def test_p7_to_name_a_timeout_is_another_request_than_to_take_the_pipelines(
    api: ApiClient, world: World
) -> None:
    keyed = ApiClient(headers={"Idempotency-Key": "monday"})
    assert keyed.post("/pipeline-run", WISH).status == 201
    again = keyed.post("/pipeline-run", {**WISH, "timeout_seconds": None})
    assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
    other = keyed.post("/pipeline-run", {**WISH, "timeout_seconds": WEEK_SECONDS})
    other.problem(422, "idempotency_key_reused")
    assert len(world.database.runs) == 1
    assert api.get("/pipeline-run/1").json["timeout_seconds"] == WEEK_SECONDS


def test_p7_f44_a_key_of_before_there_were_timeouts_is_still_good() -> None:
    """Code that knew no time-outs made its fingerprint of what the request named."""
    before = hashlib.sha256(json.dumps(WISH, sort_keys=True).encode()).hexdigest()
    plain = PipelineRunRequest.model_validate(WISH)
    other = PipelineRunRequest.model_validate(WISH | {"timeout_seconds": WEEK_SECONDS})
    assert plain.fingerprint() == before
    assert other.fingerprint() != before
