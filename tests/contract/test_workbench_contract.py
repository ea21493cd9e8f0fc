"""What any Workbench must do, by `infra/workbench/openapi.yaml`.

Both the reference Workbench and the scripted one of the tests are held to it. Another one is with
WORKBENCH_UNDER_TEST_URL, and WORKBENCH_UNDER_TEST_INPUT: a prefix below which it finds something.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from reference_workbench import serve_user_storage, start_workbench, wait_until
from scripted_workbench import ScriptedWorkbench

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTRACT = Path(__file__).parents[2] / "infra" / "workbench" / "openapi.yaml"
OTHER_URL = os.environ.get("WORKBENCH_UNDER_TEST_URL")
ENDS = {"COMPLETED", "FAILED", "CANCELLED"}
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


@cache
def contract() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(CONTRACT.read_text(encoding="utf-8"))
    return document


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        place = contract()
        for name in part["$ref"].removeprefix("#/").split("/"):
            place = place[name]
        part = place
    return part


def faults(schema: dict[str, Any], value: Any, where: str = "") -> list[str]:
    """Where a value differs from a schema, for the few words of JSON Schema the contract uses."""
    schema = resolved(schema)
    if "oneOf" in schema:
        tried = [faults(one, value, where) for one in schema["oneOf"]]
        return [] if [] in tried else tried[0]
    named = schema.get("type", [])
    types = [named] if isinstance(named, str) else named
    if types and not any(isinstance(value, TYPES[name]) for name in types):
        return [f"{where or 'the body'} is no {named}: {value!r}"]
    found = [fault for one in schema.get("allOf", []) for fault in faults(one, value, where)]
    if "enum" in schema and value.upper() not in schema["enum"]:
        found.append(f"{where} is none of the words: {value!r}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{where} doesn't match: {value!r}")
    if isinstance(value, dict):
        found += [
            f"{where}/{name} is missing" for name in schema.get("required", []) if name not in value
        ]
        for name, part in schema.get("properties", {}).items():
            found += faults(part, value[name], f"{where}/{name}") if name in value else []
    if isinstance(value, list):
        for place, item in enumerate(value):
            found += faults(schema.get("items", {}), item, f"{where}/{place}")
    return found


@dataclass(frozen=True)
class Workbench:
    """A Workbench seen through its contract: every answer is compared with it."""

    url: str
    input_prefix: str

    def call(self, method: str, path: str, shape: str, **content: Any) -> tuple[int, Any]:
        answer = httpx.request(method, self.url + path, timeout=30, **content)
        assert answer.headers["content-type"].startswith("application/json")
        told = resolved(contract()["paths"][shape][method.lower()])["responses"]
        assert str(answer.status_code) in told, f"{answer.status_code} {answer.text}"
        promised = resolved(told[str(answer.status_code)])["content"]["application/json"]["schema"]
        assert faults(promised, answer.json()) == []
        return answer.status_code, answer.json()

    def body(self, **fields: Any) -> dict[str, Any]:
        return {
            "pipeline_run_id": 42,
            "input_path_prefix": self.input_prefix,
            "output_path_prefix": f"contract/{uuid.uuid4().hex}",
            "report_path_prefix": None,
        } | fields

    def submit(self, key: str | None = None, **fields: Any) -> tuple[int, Any]:
        headers = {} if key is None else {"Idempotency-Key": key}
        path = "/batch/submit"
        return self.call("POST", path, path, json=self.body(**fields), headers=headers)

    def submitted(self, key: str | None = None, **fields: Any) -> str:
        code, job = self.submit(key, **fields)
        assert code in {200, 202}
        return str(job["workbench_job_id"])

    def status(self, job_id: str) -> tuple[int, Any]:
        return self.call("GET", f"/batch/status/{job_id}", "/batch/status/{workbench_job_id}")

    def cancel(self, job_id: str) -> int:
        path = "/batch/cancel/{workbench_job_id}"
        return self.call("POST", f"/batch/cancel/{job_id}", path)[0]

    def end_of(self, job_id: str) -> Any:
        wait_until(lambda: self.status(job_id)[1]["status"] in ENDS, f"the end of {job_id}")
        return self.status(job_id)[1]

    def offers(self, capability: str) -> bool:
        return bool(self.call("GET", *["/batch/capabilities"] * 2)[1].get(capability))


def new_key() -> str:
    return f"{uuid.uuid4()}-42"


@pytest.fixture(scope="module")
def reference_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("contract")
    with serve_user_storage(folder) as storage, start_workbench(folder, storage) as running:
        storage.put("given/a.csv", b"x\n1\n2\n")
        yield running.url


@pytest.fixture(scope="module")
def scripted_url() -> Iterator[str]:
    with ScriptedWorkbench() as scripted:
        yield scripted.url


@pytest.fixture(params=["other"] if OTHER_URL else ["reference", "scripted"])
def workbench(request: pytest.FixtureRequest) -> Workbench:
    if OTHER_URL:
        return Workbench(OTHER_URL.rstrip("/"), os.environ["WORKBENCH_UNDER_TEST_INPUT"])
    return Workbench(request.getfixturevalue(f"{request.param}_url"), "given")


def test_a_submitted_job_ends_and_then_stays_as_it_is(workbench: Workbench) -> None:
    job_id = workbench.submitted(new_key())
    ended = workbench.end_of(job_id)
    assert ended["status"] == "COMPLETED"
    assert workbench.status(job_id)[1] == ended


def test_the_same_key_again_answers_the_same_job_also_when_it_has_ended(
    workbench: Workbench,
) -> None:
    key = new_key()
    job_id = workbench.submitted(key)
    assert workbench.submitted(key) == job_id
    workbench.end_of(job_id)
    assert workbench.submitted(key, pipeline_run_id=43) == job_id


def test_p8_many_submits_with_one_key_at_once_make_one_job(workbench: Workbench) -> None:
    key = new_key()
    with ThreadPoolExecutor(16) as callers:
        job_ids = set(callers.map(lambda _: workbench.submitted(key), range(32)))
    assert len(job_ids) == 1


def test_other_keys_and_no_keys_make_new_jobs(workbench: Workbench) -> None:
    keys = [new_key(), new_key(), None, None]
    assert len({workbench.submitted(key) for key in keys}) == 4


def test_report_prefix_and_parameters_may_be_left_out_or_given(workbench: Workbench) -> None:
    body = workbench.body()
    del body["report_path_prefix"]
    path = "/batch/submit"
    assert workbench.call("POST", path, path, json=body)[0] in {200, 202}
    given = {"report_path_prefix": "contract/report", "parameters": {"colour": ["blue", None]}}
    assert workbench.submit(new_key(), **given)[0] in {200, 202}
    assert workbench.submit(new_key(), parameters=None, future_field=1)[0] in {200, 202}


def test_a_job_id_that_nobody_was_given_is_unknown(workbench: Workbench) -> None:
    assert workbench.status("job-of-nobody")[0] == 404
    assert workbench.cancel("job-of-nobody") == 404


def test_a_cancelled_job_ends_and_cannot_be_cancelled_again(workbench: Workbench) -> None:
    job_id = workbench.submitted(new_key(), parameters={"queue_seconds": 600})
    assert workbench.cancel(job_id) in {200, 202}
    assert workbench.end_of(job_id)["status"] in {"CANCELLED", "COMPLETED"}
    assert workbench.cancel(job_id) == 409


def test_what_is_not_json_is_refused_with_400(workbench: Workbench) -> None:
    path = "/batch/submit"
    for nonsense in (b"", b"{", b"hello", b'{"pipeline_run_id": 1'):
        code, body = workbench.call("POST", path, path, content=nonsense)
        assert (code, bool(body["error"])) == (400, True)


@pytest.mark.parametrize(
    "fields",
    [
        {"pipeline_run_id": None},
        {"pipeline_run_id": "42"},
        {"pipeline_run_id": True},
        {"input_path_prefix": None},
        {"input_path_prefix": ""},
        {"output_path_prefix": 7},
        {"report_path_prefix": []},
    ],
)
def test_a_body_that_names_no_job_is_refused_with_422_and_a_reason(
    workbench: Workbench, fields: dict[str, Any]
) -> None:
    code, body = workbench.submit(new_key(), **fields)
    assert code == 422
    assert next(iter(fields)) in body["error"]


def test_a_chunked_body_with_two_content_types_is_understood(workbench: Workbench) -> None:
    """The workflow engine sends such ones."""
    raw = json.dumps(workbench.body()).encode()
    connection = http.client.HTTPConnection(urlsplit(workbench.url).netloc, timeout=30)
    connection.putrequest("POST", "/batch/submit")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Type", "application/json;charset=UTF-8")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for part in (raw[:10], raw[10:]):
        connection.send(b"%x\r\n%s\r\n" % (len(part), part))
    connection.send(b"0\r\n\r\n")
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    assert answer.status in {200, 202}
    assert workbench.status(told["workbench_job_id"])[0] == 200


def test_bulk_status_tells_the_known_jobs_and_leaves_out_the_others(workbench: Workbench) -> None:
    path = "/batch/status"
    if not workbench.offers("bulk_status"):
        assert httpx.post(workbench.url + path, json={}).status_code in {404, 405}
        return
    known = [workbench.submitted(new_key()) for _ in range(3)]
    asked = {"workbench_job_ids": [known[0], "job-of-nobody", *known[1:]]}
    _, told = workbench.call("POST", path, path, json=asked)
    assert {job["workbench_job_id"] for job in told["jobs"]} == set(known)
    assert workbench.call("POST", path, path, json={"workbench_job_ids": []})[1] == {"jobs": []}
    too_many = {"workbench_job_ids": [f"job-{number}" for number in range(101)]}
    assert workbench.call("POST", path, path, json=too_many)[0] == 422


def test_a_job_is_found_by_its_key_where_that_is_offered(workbench: Workbench) -> None:
    path = "/batch/jobs"
    if not workbench.offers("client_reference"):
        assert httpx.get(workbench.url + path).status_code == 404
        return
    key = new_key()
    query = {"idempotency_key": key}
    assert workbench.call("GET", path, path, params=query)[1] == {"jobs": []}
    job_id = workbench.submitted(key)
    _, told = workbench.call("GET", path, path, params=query)
    assert [job["workbench_job_id"] for job in told["jobs"]] == [job_id]
    assert workbench.call("GET", path, path)[0] == 422


def test_a_realtime_run_answers_its_output(workbench: Workbench) -> None:
    path = "/realtime/run"
    headers = {"Idempotency-Key": new_key()}
    code, told = workbench.call("POST", path, path, json=workbench.body(), headers=headers)
    assert code == 200
    assert told["output"]
    assert workbench.call("POST", path, path, json={"pipeline_run_id": "x"})[0] == 422
    assert workbench.call("POST", path, path, content=b"{")[0] == 400
