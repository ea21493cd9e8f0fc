"""`/outputs` and `/report`: what a run wrote, with links."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from api_client import ApiClient
from fakes import World
from memory_storage import MemoryStorage
from runs.wiring import using
from wired import WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = {"pipeline_id": 1, "input_path_prefix": "in", "output_path_prefix": "out"}


@pytest.fixture
def storage() -> MemoryStorage:
    storage = MemoryStorage()
    for name in ("a.parquet", "b.csv", "c/d.csv"):
        storage.put("user-data", f"out/{name}", b"12345")
    storage.put("user-data", "out2/not-ours", b"")
    storage.put("user-data", "rep/report.html", b"<p>")
    return storage


@pytest.fixture
def api(storage: MemoryStorage) -> Iterator[ApiClient]:
    """Run 1 has a report, run 2 has none."""
    world = World()
    world.pipeline()
    wiring = WorldWiring(world)
    wiring.storage = storage
    with using(wiring):
        api = ApiClient()
        api.post("/pipeline-run", {**RUN, "report_path_prefix": "rep"})
        api.post("/pipeline-run", RUN)
        yield api


def test_outputs_are_listed_with_what_is_needed_to_fetch_them(api: ApiClient) -> None:
    told = api.get("/pipeline-run/1/outputs").json
    assert [item["name"] for item in told["items"]] == ["a.parquet", "b.csv", "c/d.csv"]
    assert told["next_page_token"] == ""
    assert told["items"][0] == {
        "name": "a.parquet",
        "bucket": "user-data",
        "key": "out/a.parquet",
        "size_bytes": 5,
        "modified_at": "2026-03-01T12:00:00Z",
        "url": "memory://user-data/out/a.parquet#attachment",
    }


def test_a_report_is_to_be_looked_at(api: ApiClient) -> None:
    [item] = api.get("/pipeline-run/1/report").json["items"]
    assert item["url"] == "memory://user-data/rep/report.html#inline"


def test_p27_pages_of_outputs_hold_each_once(api: ApiClient) -> None:
    seen = []
    answer = api.get("/pipeline-run/1/outputs?page_size=2")
    while True:
        seen += [item["name"] for item in answer.json["items"]]
        if not answer.json["next_page_token"]:
            break
        link = answer.headers["Link"]
        assert link.startswith("</Prod/pipeline-run/1/outputs?page_size=2&page_token=")
        assert link.endswith('>; rel="next"')
        answer = api.get(link[len("</Prod") : link.index(">")])
    assert seen == ["a.parquet", "b.csv", "c/d.csv"]


def test_a_token_leads_on_in_its_own_list_alone(api: ApiClient) -> None:
    token = api.get("/pipeline-run/1/outputs?page_size=1").json["next_page_token"]
    for other in ("/pipeline-run/2/outputs", "/pipeline-run/1/report", "/pipeline-run"):
        api.get(f"{other}?page_token={token}").problem(400, "invalid_page_token")


def test_without_a_report_prefix_there_is_no_report(api: ApiClient) -> None:
    api.get("/pipeline-run/2/report").problem(404, "no_report")
    links = api.get("/pipeline-run/2").json["links"]
    assert "report" not in links
    assert links["outputs"] == "/Prod/pipeline-run/2/outputs"


def test_storage_that_is_away_is_a_503(api: ApiClient, storage: MemoryStorage) -> None:
    storage.down = True
    answer = api.get("/pipeline-run/1/outputs")
    answer.problem(503, "storage_unavailable")
    assert answer.headers["Retry-After"] == "2"


def test_a_bucket_that_is_not_for_us_is_told(api: ApiClient, storage: MemoryStorage) -> None:
    storage.forbidden.add("user-data")
    problem = api.get("/pipeline-run/1/outputs").problem(409, "storage_refused")
    assert "user-data" in problem["detail"]


@pytest.mark.parametrize("field", ["input_path_prefix", "output_path_prefix", "report_path_prefix"])
def test_s7_a_bucket_that_is_not_allowed_is_refused_by_its_field(
    api: ApiClient, field: str
) -> None:
    answer = api.post("/pipeline-run", {**RUN, field: "s3://foreign/x"})
    assert answer.pointers() == [f"/{field}"]
    assert len(api.get("/pipeline-run").json["items"]) == 2
