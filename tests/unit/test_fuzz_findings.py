"""What schemathesis has found (`make fuzz`), each with the call that shows it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from api_client import ApiClient
from api_contract import the_document
from runs.wiring import using
from wired import WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakes import World

WISH = {"pipeline_id": 1, "input_path_prefix": "in", "output_path_prefix": "out"}


@pytest.fixture
def api(world: World) -> Iterator[ApiClient]:
    world.pipeline()
    with using(WorldWiring(world)):
        yield ApiClient()


def test_a_whole_number_may_be_written_with_a_point(api: ApiClient) -> None:
    """To JSON Schema, which the document speaks, 60.0 is an integer."""
    run = api.post("/pipeline-run", WISH | {"pipeline_id": 1.0, "timeout_seconds": 60.0})
    assert (run.status, run.json["pipeline_id"], run.json["timeout_seconds"]) == (201, 1, 60)
    assert '"timeout_seconds":60,' in run.text
    wanted = {"name": "p", "mode": "BATCH", "workflow_name": "w", "workflow_version": 2.0}
    assert api.post("/pipeline", wanted).json["workflow_version"] == 2


def test_a_whole_number_is_the_same_request_however_it_is_written(api: ApiClient) -> None:
    first = api.post("/pipeline-run", WISH, Idempotency_Key="k")
    again = api.post("/pipeline-run", WISH | {"pipeline_id": 1.0}, Idempotency_Key="k")
    assert again.json["id"] == first.json["id"]


@pytest.mark.parametrize("number", [1.5, True, "1", None, 1e300, -1.0])
def test_what_is_no_whole_number_in_range_is_refused(api: ApiClient, number: object) -> None:
    assert api.post("/pipeline-run", WISH | {"pipeline_id": number}).pointers() == ["/pipeline_id"]


def parameter(method: str, path: str, name: str) -> dict[str, Any]:
    told = the_document()["paths"][path][method]["parameters"]
    [schema] = [one["schema"] for one in told if one["name"] == name]
    return dict(schema)


@pytest.mark.parametrize("tag", ["team:ocean", "team:", "a/b.c-d_e:x:y"])
def test_the_form_of_a_tag_is_told(api: ApiClient, tag: str) -> None:
    assert re.search(parameter("get", "/pipeline-run", "tag")["pattern"], tag)
    assert api.get(f"/pipeline-run?tag={tag}").status == 200


@pytest.mark.parametrize("tag", ["team", ":x", "t m:x", "t:%00", ""])
def test_what_is_no_tag_is_told_too(api: ApiClient, tag: str) -> None:
    assert not re.search(parameter("get", "/pipeline-run", "tag")["pattern"], unquote(tag))
    assert api.get(f"/pipeline-run?tag={tag}").pointers() == ["/tag"]


def test_the_form_of_an_idempotency_key_is_told() -> None:
    for path in ("/pipeline-run", "/pipeline-run/{pipeline_run_id}/retry"):
        pattern = parameter("post", path, "Idempotency-Key")["pattern"]
        assert re.search(pattern, "a" * 255)
        for bad in ("", "a" * 256, "a b", "ä"):
            assert not re.search(pattern, bad)


def test_that_no_text_may_hold_nul_is_told(api: ApiClient) -> None:
    schemas = the_document()["components"]["schemas"]
    properties = (
        schemas["PipelineRequest"]["properties"] | schemas["PipelineRunRequest"]["properties"]
    )
    for name in ("name", "input_path_prefix"):
        assert not re.search(properties[name]["pattern"], "a\0b")
    refused = {"name": "a\0b", "mode": "BATCH", "workflow_name": "w"}
    assert api.post("/pipeline", refused).pointers() == ["/name"]
    assert api.post("/pipeline-run", WISH | {"input_path_prefix": "a\0b"}).pointers() == [
        "/input_path_prefix"
    ]


def test_that_no_other_names_of_tags_are_taken_is_told(api: ApiClient) -> None:
    tags = the_document()["components"]["schemas"]["PipelineRunRequest"]["properties"]["tags"]
    assert tags["additionalProperties"] is False
    assert [*tags["patternProperties"]] == ["^[A-Za-z0-9._/-]{1,64}$"]
    assert api.post("/pipeline-run", WISH | {"tags": {"t m": "x"}}).pointers() == ["/tags/t m"]


@pytest.mark.parametrize("name", ["id", "timeout_seconds"])
def test_bounds_are_told(name: str) -> None:
    properties = the_document()["components"]["schemas"]["PipelineRunRequest"]["properties"]
    told = properties["pipeline_id"] if name == "id" else properties[name]["anyOf"][0]
    bounds = (1, 2**63 - 1) if name == "id" else (60, 2_592_000)
    assert (told["minimum"], told["maximum"]) == bounds


@pytest.mark.parametrize("moment", ["0.5", "0", "1764000000", "2026-11-24", "2026-11-24T12:00:00"])
def test_a_moment_is_spelled_out(api: ApiClient, moment: str) -> None:
    assert api.get(f"/pipeline-run?created_before={moment}").pointers() == ["/created_before"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00"])
def test_any_moment_can_be_asked_for(api: ApiClient, moment: str) -> None:
    api.post("/pipeline-run", WISH)
    is_past = moment.startswith("0")
    for name, is_found in (("created_after", is_past), ("created_before", not is_past)):
        found = api.get(f"/pipeline-run?{name}={moment}").json["items"]
        assert len(found) == is_found
