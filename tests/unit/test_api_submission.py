"""`POST /pipeline-run`: what a submission answers, for every way it can go."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from api_client import REQUEST_ID, Answer, ApiClient
from fakes import Course, StartFault, World
from runs.errors import DatabaseUnavailable
from runs.ports import CallEnd
from runs.status import PipelineMode, PipelineRunStatus
from runs.wiring import using
from wired import ENVIRONMENT, WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH, REALTIME = PipelineMode.BATCH, PipelineMode.REALTIME
FIELDS_OF_THE_ORIGINAL = {
    "id",
    "pipeline_id",
    "status",
    "workbench_job_id",
    "error_message",
    "user_storage_input_path_prefix",
    "user_storage_output_path_prefix",
    "user_storage_report_path_prefix",
    "started_at",
    "completed_at",
}
OUR_FIELDS = {
    "created_at",
    "updated_at",
    "version",
    "mode",
    "output",
    "parameters",
    "tags",
    "retry_of",
    "request_id",
    "conductor_workflow_id",
    "timeout_seconds",
    "cancel_requested_at",
    "cancel_cause",
    "cancel_reason",
    "error",
    "observation",
    "links",
}
NOTHING_SEEN = {
    "last_checked_at": None,
    "upstream_status": None,
    "progress": None,
    "logs_url": None,
    "staleness_seconds": None,
    "consecutive_failures": 0,
    "last_error": None,
    "next_check_at": None,
}
REFUSED = Course.failed(CallEnd.CLIENT_ERROR, 'The Workbench answered 422: "no such bucket"')
BROKE = Course.failed(CallEnd.SERVER_ERROR, "The Workbench answered 500: oh no")
DOWN = Course.failed(CallEnd.CONNECTION_REFUSED, "The Workbench can't be reached")


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.pipeline(BATCH)
    world.pipeline(REALTIME)
    with using(WorldWiring(world)):
        yield world


@pytest.fixture
def api(world: World) -> ApiClient:
    del world
    return ApiClient()


def wish(mode: PipelineMode = BATCH, **fields: object) -> dict[str, object]:
    pipeline_id = {BATCH: 1, REALTIME: 2}[mode]
    prefixes = {"input_path_prefix": "in/1", "output_path_prefix": "out/1"}
    return {"pipeline_id": pipeline_id, **prefixes, **fields}


def submit(
    api: ApiClient, mode: PipelineMode = BATCH, *, key: str | None = None, prefer: str | None = None
) -> Answer:
    headers = {"Idempotency-Key": key, "Prefer": prefer}
    sent = {name: value for name, value in headers.items() if value is not None}
    return ApiClient(api.stage, sent).post("/pipeline-run", wish(mode))


def assert_nothing_was_written(world: World) -> None:
    """P13."""
    assert not world.database.runs
    assert not world.database.keys
    assert not world.conductor.started
    assert not world.workbench.jobs
    assert not world.check_queue.sent
    assert not world.bus.published


# -- 201 ------------------------------------------------------------------------------------------


def test_a_submitted_run_is_answered_with_every_field(api: ApiClient, world: World) -> None:
    answer = api.post(
        "/pipeline-run",
        wish(report_path_prefix="s3://other/report", parameters={"n": [1, {}]}, tags={"team": "a"}),
    )
    assert answer.status == 201
    assert answer.headers["Content-Type"] == "application/json"
    told: dict[str, Any] = answer.json
    assert told.keys() == FIELDS_OF_THE_ORIGINAL | OUR_FIELDS
    run = world.run(1)
    assert run.started_at is not None
    # 0.2 s for the workflow, looked at after naps of 0.03, 0.045, 0.0675 and 0.10125 s.
    assert run.started_at - run.created_at == timedelta(seconds=0.24375)
    assert told == {
        "id": 1,
        "pipeline_id": 1,
        "status": "SUBMITTED",
        "workbench_job_id": "job-1",
        "error_message": None,
        "user_storage_input_path_prefix": "in/1",
        "user_storage_output_path_prefix": "out/1",
        "user_storage_report_path_prefix": "s3://other/report",
        "started_at": "2026-03-01T12:00:00.243750Z",
        "completed_at": None,
        "created_at": "2026-03-01T12:00:00Z",
        "updated_at": "2026-03-01T12:00:00.243750Z",
        "version": 2,
        "mode": "BATCH",
        "output": None,
        "parameters": {"n": [1, {}]},
        "tags": {"team": "a"},
        "retry_of": None,
        "request_id": REQUEST_ID,
        "conductor_workflow_id": "workflow-1",
        "timeout_seconds": 604_800,
        "cancel_requested_at": None,
        "cancel_cause": None,
        "cancel_reason": None,
        "error": None,
        "observation": NOTHING_SEEN,
        "links": {
            "self": "/Prod/pipeline-run/1",
            "events": "/Prod/pipeline-run/1/events",
            "pipeline": "/Prod/pipeline/1",
            "outputs": "/Prod/pipeline-run/1/outputs",
            "report": "/Prod/pipeline-run/1/report",
            "cancel": "/Prod/pipeline-run/1/cancel",
        },
    }


def test_a_submitted_run_says_where_it_is_and_when_to_ask(api: ApiClient) -> None:
    headers = submit(api).headers
    assert headers["Location"] == "/Prod/pipeline-run/1"
    assert headers["Retry-After"] == "30"
    assert "Idempotent-Replayed" not in headers
    assert "Preference-Applied" not in headers


@pytest.mark.parametrize("stage", ["", "Prod", "v1"])
def test_addresses_begin_with_what_the_caller_called(world: World, stage: str) -> None:
    del world
    answer = submit(ApiClient(stage))
    base = f"/{stage}" if stage else ""
    assert answer.headers["Location"] == f"{base}/pipeline-run/1"
    assert answer.json["links"]["self"] == f"{base}/pipeline-run/1"


def test_addresses_begin_with_what_is_configured(world: World) -> None:
    address = "https://runs.example.com/v1/"
    with using(WorldWiring(world, {**ENVIRONMENT, "API_BASE_URL": address})):
        answer = submit(ApiClient())
    assert answer.headers["Location"] == "https://runs.example.com/v1/pipeline-run/1"
    assert answer.json["links"]["events"] == "https://runs.example.com/v1/pipeline-run/1/events"


def test_the_workflow_is_given_what_the_original_design_lists(api: ApiClient, world: World) -> None:
    api.post("/pipeline-run", wish(parameters={"n": 1}))
    (started,) = world.conductor.started
    assert started.workflow_name == "batch_pipeline_workflow"
    assert started.workflow_input == {
        "pipeline_run_id": 1,
        "input_path_prefix": "in/1",
        "output_path_prefix": "out/1",
        "report_path_prefix": None,
        "parameters": {"n": 1},
        "workbench_api_url": ENVIRONMENT["WORKBENCH_API_URL"],
        "idempotency_key": world.run(1).correlation_id,
        "request_id": REQUEST_ID,
    }


def test_a_report_prefix_left_out_is_null(api: ApiClient) -> None:
    assert submit(api).json["user_storage_report_path_prefix"] is None


def test_a_realtime_run_is_answered_completed_with_its_output(api: ApiClient) -> None:
    answer = submit(api, REALTIME)
    assert answer.status == 201
    told = answer.json
    assert (told["status"], told["mode"], told["version"]) == ("COMPLETED", "REALTIME", 4)
    assert told["output"] == {"objects": 1}
    assert told["workbench_job_id"] is None
    assert told["started_at"] <= told["completed_at"]
    assert answer.headers["Location"] == "/Prod/pipeline-run/1"
    assert "Retry-After" not in answer.headers


# -- 202 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "course", [Course.hanging(), Course.hanging(reaches=False), Course.answer_lost()]
)
def test_a_run_of_which_nothing_is_known_yet_is_answered_created(
    api: ApiClient, world: World, course: Course
) -> None:
    world.conductor.courses.append(course)
    answer = submit(api)
    assert answer.status == 202
    assert (answer.json["status"], answer.json["workbench_job_id"]) == ("CREATED", None)
    assert answer.headers["Location"] == "/Prod/pipeline-run/1"
    assert answer.headers["Retry-After"] == "30"
    assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize("fault", [StartFault.UNCLEAR, StartFault.ANSWER_LOST])
def test_a_start_whose_answer_was_lost_is_no_failure(
    api: ApiClient, world: World, fault: StartFault
) -> None:
    world.conductor.start_faults.append(fault)
    assert submit(api).status == 202
    assert world.run(1).status is PipelineRunStatus.CREATED


def test_the_wait_is_bounded_by_its_setting(world: World) -> None:
    world.conductor.courses.append(Course.hanging())
    began = world.time()
    with using(WorldWiring(world, {**ENVIRONMENT, "SUBMIT_WAIT_SECONDS": "3"})):
        assert submit(ApiClient()).status == 202
    assert 2.5 < world.time() - began <= 3


def test_a_realtime_run_that_outlasts_the_wait_goes_on(api: ApiClient, world: World) -> None:
    world.conductor.courses.append(Course(seconds=math.inf))
    answer = submit(api, REALTIME)
    assert answer.status == 202
    assert answer.json["status"] == "RUNNING"
    assert answer.headers["Retry-After"] == "30"


def test_a_run_is_kept_when_the_database_goes_away_after_the_start(
    api: ApiClient, world: World
) -> None:
    world.steps.strike("before MemoryRuns.move", DatabaseUnavailable("gone"))
    answer = submit(api)
    assert answer.status == 202
    assert answer.json["status"] == "CREATED"
    assert world.workbench.jobs_for(1)


@pytest.mark.parametrize(
    "prefer",
    [
        "respond-async",
        "Respond-Async",
        "wait=5, respond-async",
        "respond-async; wait=5",
        'handling=lenient ,respond-async;x="y"',
    ],
)
@pytest.mark.parametrize("mode", [BATCH, REALTIME])
def test_a_caller_who_prefers_not_to_wait_does_not(
    api: ApiClient, world: World, mode: PipelineMode, prefer: str
) -> None:
    answer = submit(api, mode, prefer=prefer)
    assert answer.status == 202
    assert answer.json["status"] == "CREATED"
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert answer.headers["Location"] == "/Prod/pipeline-run/1"
    assert not world.conductor.started
    (sent,) = world.check_queue.sent
    assert (sent.message.run_ids, sent.delay_seconds) == ((1,), 0)


@pytest.mark.parametrize("prefer", ["", "respond-asynchronously", "wait=1", "x-respond-async"])
def test_other_preferences_are_not_taken_for_it(api: ApiClient, prefer: str) -> None:
    answer = submit(api, prefer=prefer)
    assert answer.status == 201
    assert "Preference-Applied" not in answer.headers


# -- 500 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("course", "message"),
    [
        (REFUSED, 'The Workbench answered 422: "no such bucket"'),
        (BROKE, "The Workbench answered 500: oh no"),
        (DOWN, "The Workbench can't be reached"),
        (
            Course.answered(None),
            "The Workbench's answer has no valid workbench_job_id, but None",
        ),
        (
            Course.answered("../x"),
            "The Workbench's answer has no valid workbench_job_id, but '../x'",
        ),
    ],
)
def test_a_submission_that_failed_is_a_problem_and_its_run_is_kept(
    api: ApiClient, world: World, course: Course, message: str
) -> None:
    world.conductor.courses.append(course)
    answer = submit(api)
    problem = answer.problem(500, "submission_failed")
    assert problem["detail"] == f"Batch workflow submission failed: {message}"
    assert problem["pipeline_run_id"] == 1
    assert answer.headers["Location"] == "/Prod/pipeline-run/1"
    assert "Retry-After" not in answer.headers
    run = api.get("/pipeline-run/1").json
    assert (run["status"], run["error_message"]) == ("FAILED", message)
    assert run["error"]["message"] == message
    assert run["error"]["category"] == "UPSTREAM"
    assert run["completed_at"] is not None


def test_no_conductor_is_a_failed_submission(api: ApiClient, world: World) -> None:
    world.conductor.down = True
    problem = submit(api).problem(500, "submission_failed")
    assert problem["detail"].startswith("Batch workflow submission failed: ")
    assert "Conductor can't be reached" in problem["detail"]
    assert world.run(1).status is PipelineRunStatus.FAILED
    assert api.get("/pipeline-run/1").json["error"]["category"] == "PLATFORM"


def test_a_workflow_that_conductor_refuses_is_a_failed_submission(
    api: ApiClient, world: World
) -> None:
    world.conductor.start_faults.append(StartFault.REFUSED)
    problem = submit(api).problem(500, "submission_failed")
    assert "no such workflow" in problem["detail"]


def test_a_realtime_run_that_failed_is_a_problem_and_kept(api: ApiClient, world: World) -> None:
    world.conductor.courses.append(BROKE)
    answer = submit(api, REALTIME)
    problem = answer.problem(500, "submission_failed")
    assert problem["detail"] == "Realtime workflow failed: The Workbench answered 500: oh no"
    assert problem["pipeline_run_id"] == 1
    assert answer.headers["Location"] == "/Prod/pipeline-run/1"
    assert world.run(1).status is PipelineRunStatus.FAILED


# -- idempotency ----------------------------------------------------------------------------------


def test_a_replay_answers_the_run_as_it_is_now(api: ApiClient, world: World) -> None:
    submit(api, key="monday")
    world.workbench.become("RUNNING", run=1)
    world.pass_time(30)
    world.begin_minute()
    world.deliver()
    again = submit(api, key="monday")
    assert again.status == 200
    assert (again.json["id"], again.json["status"]) == (1, "RUNNING")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == "/Prod/pipeline-run/1"
    assert len(world.database.runs) == len(world.conductor.started) == 1


def test_a_replay_of_an_unknown_submission_is_still_accepted(api: ApiClient, world: World) -> None:
    world.conductor.courses.append(Course.hanging())
    submit(api, key="monday")
    again = submit(api, key="monday")
    assert again.status == 202
    assert again.json["status"] == "CREATED"
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(world.conductor.started) == 1


def test_a_replay_does_not_apply_a_preference(api: ApiClient, world: World) -> None:
    submit(api, key="monday", prefer="respond-async")
    again = submit(api, key="monday", prefer="respond-async")
    assert again.status == 202
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Preference-Applied" not in again.headers
    assert len(world.check_queue.sent) == 1


def test_a_replay_of_a_failed_submission_is_the_same_problem(api: ApiClient, world: World) -> None:
    world.conductor.courses.append(BROKE)
    first = submit(api, key="monday")
    again = submit(api, key="monday")
    assert again.problem(500, "submission_failed") == first.problem(500, "submission_failed")
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert len(world.database.runs) == 1


def test_a_replay_of_a_run_whose_job_failed_later_is_that_run(api: ApiClient, world: World) -> None:
    submit(api, key="monday")
    world.workbench.become("FAILED", run=1, error_message="broken file")
    world.pass_time(30)
    world.begin_minute()
    world.deliver()
    again = submit(api, key="monday")
    assert again.status == 200
    assert (again.json["status"], again.json["error_message"]) == ("FAILED", "broken file")
    assert "Retry-After" not in again.headers


@pytest.mark.parametrize(("ended", "status"), [(False, 202), (True, 200)])
def test_a_replay_of_a_realtime_run_waits_for_its_end(
    api: ApiClient, world: World, status: int, *, ended: bool
) -> None:
    world.conductor.courses.append(Course(seconds=60))
    submit(api, REALTIME, key="now")
    if ended:
        world.pass_time(60)
        world.begin_minute()
        world.deliver()
    assert submit(api, REALTIME, key="now").status == status


def test_another_body_under_the_same_key_is_refused(api: ApiClient, world: World) -> None:
    submit(api, key="monday")
    other = ApiClient(headers={"Idempotency-Key": "monday"}).post(
        "/pipeline-run", wish(tags={"a": "b"})
    )
    problem = other.problem(422, "idempotency_key_reused")
    assert "for run 1" in problem["detail"]
    assert len(world.database.runs) == len(world.conductor.started) == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"output_path_prefix":"out/1","input_path_prefix":"in/1","pipeline_id":1}',
        '{ "pipeline_id": 1,\n "input_path_prefix": "in\\/1", "output_path_prefix": "out/1" }',
        '{"pipeline_id":1,"input_path_prefix":"in/1","output_path_prefix":"out/1","tags":{}}',
        (
            '{"report_path_prefix":null,"parameters":null,'
            '"pipeline_id":1,"input_path_prefix":"in/1","output_path_prefix":"out/1"}'
        ),
    ],
)
def test_the_same_request_in_another_layout_is_a_replay(
    api: ApiClient, world: World, text: str
) -> None:
    submit(api, key="monday")
    headers = {"Idempotency-Key": "monday"}
    assert api.send("POST", "/pipeline-run", text=text, headers=headers).status == 200
    assert len(world.database.runs) == 1


@pytest.mark.parametrize("key", ["k", "k" * 255, "!~", 'with"quotes\\'])
def test_a_key_may_be_any_visible_ascii(api: ApiClient, key: str) -> None:
    assert submit(api, key=key).status == 201
    assert submit(api, key=key).status == 200


@pytest.mark.parametrize("key", ["", "k" * 256, "two words", "tab\tbed", "ümlaut", "new\nline"])
def test_any_other_key_is_refused(api: ApiClient, world: World, key: str) -> None:
    problem = submit(api, key=key).problem(422, "invalid_idempotency_key")
    assert "1 to 255 visible ASCII characters" in problem["detail"]
    assert_nothing_was_written(world)


def test_without_a_key_every_request_is_a_run_of_its_own(api: ApiClient, world: World) -> None:
    assert [submit(api).json["id"] for _ in range(3)] == [1, 2, 3]
    assert len(set(world.database.keys)) == 3


def test_our_own_keys_are_none_that_a_caller_may_send(api: ApiClient, world: World) -> None:
    submit(api)
    ((_, _, key),) = world.database.keys
    assert " " in key


# -- 404, 422, 503 --------------------------------------------------------------------------------


@pytest.mark.parametrize("pipeline_id", [3, 2**63 - 1])
def test_an_unknown_pipeline_is_not_found_and_nothing_is_written(
    api: ApiClient, world: World, pipeline_id: int
) -> None:
    answer = api.post("/pipeline-run", wish() | {"pipeline_id": pipeline_id})
    assert answer.problem(404, "pipeline_not_found")["detail"] == "Pipeline not found"
    assert "Location" not in answer.headers
    assert_nothing_was_written(world)


@pytest.mark.parametrize(
    ("fields", "pointers"),
    [
        ({"pipeline_id": None}, ["/pipeline_id"]),
        ({"pipeline_id": "1"}, ["/pipeline_id"]),
        ({"pipeline_id": 1.5}, ["/pipeline_id"]),
        ({"pipeline_id": True}, ["/pipeline_id"]),
        ({"pipeline_id": 0}, ["/pipeline_id"]),
        ({"pipeline_id": -1}, ["/pipeline_id"]),
        ({"pipeline_id": 2**63}, ["/pipeline_id"]),
        ({"pipeline_id": 10**400}, ["/pipeline_id"]),
        ({"input_path_prefix": ""}, ["/input_path_prefix"]),
        ({"input_path_prefix": None}, ["/input_path_prefix"]),
        ({"input_path_prefix": 7}, ["/input_path_prefix"]),
        ({"input_path_prefix": "a" * 1025}, ["/input_path_prefix"]),
        ({"input_path_prefix": "../a"}, ["/input_path_prefix"]),
        ({"input_path_prefix": "a/%2e%2E/b"}, ["/input_path_prefix"]),
        ({"input_path_prefix": "a//b"}, ["/input_path_prefix"]),
        ({"input_path_prefix": "/a"}, ["/input_path_prefix"]),
        ({"input_path_prefix": "a\\b"}, ["/input_path_prefix"]),
        ({"input_path_prefix": "a\nb"}, ["/input_path_prefix"]),
        ({"input_path_prefix": "${workflow.secrets.x}"}, ["/input_path_prefix"]),
        ({"input_path_prefix": "https://bucket/a"}, ["/input_path_prefix"]),
        ({"output_path_prefix": ".."}, ["/output_path_prefix"]),
        ({"report_path_prefix": ""}, ["/report_path_prefix"]),
        ({"parameters": []}, ["/parameters"]),
        ({"parameters": "x"}, ["/parameters"]),
        ({"parameters": {"a": "nul\0"}}, ["/parameters"]),
        ({"parameters": {"a": ["see ${workflow.secrets.token}"]}}, ["/parameters"]),
        ({"parameters": {"a": [{"\ud800": 1}]}}, ["/parameters"]),
        ({"tags": None}, ["/tags"]),
        ({"tags": {"k": 1}}, ["/tags/k"]),
        ({"tags": {"k": None}}, ["/tags/k"]),
        ({"tags": {"k": "v" * 257}}, ["/tags/k"]),
        ({"tags": {"k": "nul\0"}}, ["/tags/k"]),
        ({"tags": {"": "v"}}, ["/tags/"]),
        ({"tags": {"two words": "v"}}, ["/tags/two words"]),
        ({"tags": {"k\n": "v"}}, ["/tags/k\n"]),
        ({"tags": {"k" * 65: "v"}}, ["/tags/" + "k" * 65]),
        ({"tags": {f"k{n}": "v" for n in range(51)}}, ["/tags"]),
        ({"timeout_seconds": 59}, ["/timeout_seconds"]),
        ({"timeout_seconds": 2_592_001}, ["/timeout_seconds"]),
        ({"timeout_seconds": 60.5}, ["/timeout_seconds"]),
        ({"status": "COMPLETED"}, ["/status"]),
        ({"workbench_job_id": "job-9"}, ["/workbench_job_id"]),
        ({"tenant_id": "other"}, ["/tenant_id"]),
        ({"workbench_api_url": "http://evil.test"}, ["/workbench_api_url"]),
        ({"id": 1, "input_path_prefix": "/"}, ["/input_path_prefix", "/id"]),
    ],
)
def test_s6_s7_what_a_run_may_not_be_is_told_by_pointers_and_nothing_is_written(
    api: ApiClient, world: World, fields: dict[str, object], pointers: list[str]
) -> None:
    assert api.post("/pipeline-run", wish() | fields).pointers() == pointers
    assert_nothing_was_written(world)


def test_required_fields_are_three(api: ApiClient) -> None:
    assert api.post("/pipeline-run", {}).pointers() == [
        "/pipeline_id",
        "/input_path_prefix",
        "/output_path_prefix",
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"input_path_prefix": "a" * 1024},
        {"input_path_prefix": "s3://bucket"},
        {"input_path_prefix": "s3://bucket/a/b/"},
        {"input_path_prefix": 'täglich/it\'s "quoted"'},
        {"parameters": {}},
        {"parameters": {"a": "${workflow.input.x} ${y} $${z}"}},
        {"parameters": {"a": 1e308, "b": -(2**70), "c": None, "d": ["\u2028", True]}},
        {"tags": {"a.b/c_d-9": "", "k" * 64: "ü" * 256}},
        {"tags": {f"k{n}": "v" for n in range(50)}},
    ],
)
def test_the_limits_themselves_are_taken(api: ApiClient, fields: dict[str, object]) -> None:
    answer = api.post("/pipeline-run", wish() | fields)
    assert answer.status == 201
    for name, value in fields.items():
        told = {"input_path_prefix": "user_storage_input_path_prefix"}.get(name, name)
        assert answer.json[told] == value


@pytest.mark.parametrize(("letter", "bytes_each"), [("a", 1), ("ü", 2), ("字", 3)])
def test_parameters_may_have_32_kib_as_compact_utf8(
    api: ApiClient, letter: str, bytes_each: int
) -> None:
    around = len('{"text":""}')
    most = (32 * 1024 - around) // bytes_each
    text = letter * most
    assert _post_utf8(api, {"text": text}).status == 201
    assert _post_utf8(api, {"text": text + letter}).pointers() == ["/parameters"]


def _post_utf8(api: ApiClient, parameters: dict[str, str]) -> Answer:
    text = json.dumps(wish(parameters=parameters), ensure_ascii=False)
    return api.send("POST", "/pipeline-run", text=text)


def test_without_a_database_the_caller_is_told_to_come_back(api: ApiClient, world: World) -> None:
    world.database.down = True
    answer = submit(api)
    problem = answer.problem(503, "database_unavailable")
    assert problem["request_id"] == REQUEST_ID
    assert answer.headers["Retry-After"] == "2"
    assert "the database is down" not in answer.text


def test_p7_a_replay_is_answered_though_its_prefix_is_allowed_no_more() -> None:
    world = World()
    world.pipeline()
    wanted = wish(output_path_prefix="s3://other/out")
    with using(WorldWiring(world)):
        first = ApiClient().post("/pipeline-run", wanted, Idempotency_Key="k")
    assert first.status == 201
    with using(WorldWiring(world, {**ENVIRONMENT, "ALLOWED_BUCKETS": ""})):
        again = ApiClient().post("/pipeline-run", wanted, Idempotency_Key="k")
        assert (again.status, again.json["id"]) == (200, first.json["id"])
        other = {**wanted, "tags": {"a": "b"}}
        reused = ApiClient().post("/pipeline-run", other, Idempotency_Key="k")
        reused.problem(422, "idempotency_key_reused")
        new = ApiClient().post("/pipeline-run", wanted, Idempotency_Key="k2")
        assert new.pointers() == ["/output_path_prefix"]
    assert len(world.database.runs) == 1
