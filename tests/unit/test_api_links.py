"""The document tells how one call leads to the next, and what stands in headers."""

from __future__ import annotations

from typing import Any

import pytest

from api_contract import the_document


def answer(method: str, path: str, status: int) -> dict[str, Any]:
    return dict(the_document()["paths"][path][method]["responses"][str(status)])


RUN = "/pipeline-run/{pipeline_run_id}"


@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_created_run_leads_to_all_that_can_be_done_with_it(status: int) -> None:
    links = answer("post", "/pipeline-run", status)["links"]
    assert links.keys() >= {
        "get_pipeline_run",
        "cancel_pipeline_run",
        "retry_pipeline_run",
        "list_pipeline_run_events",
        "list_pipeline_run_outputs",
        "list_pipeline_run_report",
        "get_pipeline",
    }
    assert links["cancel_pipeline_run"] == {
        "operationId": "cancel_pipeline_run",
        "parameters": {"path.pipeline_run_id": "$response.body#/id"},
    }
    assert links["get_pipeline"]["parameters"] == {
        "path.pipeline_id": "$response.body#/pipeline_id"
    }


def test_a_list_leads_to_its_newest_and_to_its_next_page() -> None:
    links = answer("get", "/pipeline-run", 200)["links"]
    assert links["get_pipeline_run"]["parameters"] == {
        "path.pipeline_run_id": "$response.body#/items/0/id"
    }
    assert links["next_page"]["operationId"] == "list_pipeline_runs"
    assert links["next_page"]["parameters"] == {
        "query.page_token": "$response.body#/next_page_token",
        **{
            f"query.{name}": f"$request.query.{name}"
            for name in (
                "created_after",
                "created_before",
                "pipeline_id",
                "status",
                "tag",
                "workbench_job_id",
            )
        },
    }


def test_a_runs_list_leads_on_within_the_run() -> None:
    assert answer("get", f"{RUN}/outputs", 200)["links"]["next_page"]["parameters"] == {
        "path.pipeline_run_id": "$request.path.pipeline_run_id",
        "query.page_token": "$response.body#/next_page_token",
    }


def test_links_lead_to_operations_that_there_are() -> None:
    paths = the_document()["paths"]
    operations = {
        told["operationId"]: {f"{one['in']}.{one['name']}" for one in told["parameters"]}
        for methods in paths.values()
        for told in methods.values()
    }
    links = [
        link
        for methods in paths.values()
        for told in methods.values()
        for response in told["responses"].values()
        for link in response.get("links", {}).values()
    ]
    assert links
    for link in links:
        assert link["parameters"].keys() <= operations[link["operationId"]]


@pytest.mark.parametrize(
    ("method", "path", "status", "names"),
    [
        ("post", "/pipeline-run", 201, {"Location", "Retry-After", "Preference-Applied"}),
        ("post", "/pipeline-run", 500, {"Location", "Idempotent-Replayed"}),
        ("post", f"{RUN}/retry", 202, {"Location", "Idempotent-Replayed"}),
        ("post", f"{RUN}/cancel", 202, {"Retry-After"}),
        ("get", RUN, 200, {"ETag", "Retry-After"}),
        ("get", RUN, 304, {"ETag", "Retry-After"}),
        ("get", "/pipeline", 200, {"Link"}),
        ("get", f"{RUN}/outputs", 200, {"Link"}),
    ],
)
def test_headers_are_told(method: str, path: str, status: int, names: set[str]) -> None:
    assert answer(method, path, status)["headers"].keys() >= names


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (401, "WWW-Authenticate"),
        (403, "WWW-Authenticate"),
        (429, "Retry-After"),
        (503, "Retry-After"),
    ],
)
def test_what_a_problem_always_carries_is_told(status: int, name: str) -> None:
    assert answer("post", "/pipeline-run", status)["headers"][name]["required"] is True
