"""What `make fuzz` lets pass is narrow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import requests
from schemathesis import Response
from schemathesis.core.failures import ServerError
from schemathesis.openapi.checks import (
    IgnoredAuth,
    JsonSchemaError,
    RejectedPositiveData,
    UndefinedStatusCode,
    UnsupportedMethodResponse,
)

from fuzz.exceptions import is_excepted, is_localstacks_own, leave_out_links_to_items

if TYPE_CHECKING:
    from schemathesis.core.failures import Failure


def answered(status: int, problem: object) -> Response:
    return Response(
        status,
        {"content-type": ["application/problem+json"]},
        json.dumps(problem).encode(),
        requests.Request("GET", "http://api.test").prepare(),
        0.0,
        verify=True,
    )


def invalid(*faults: tuple[str, str]) -> dict[str, Any]:
    errors = [{"pointer": pointer, "message": message} for pointer, message in faults]
    return {"code": "invalid_request", "errors": errors}


def of(kind: type[Failure]) -> Failure:
    """The failure; only its kind counts."""
    return kind.__new__(kind)


@pytest.mark.parametrize(
    "problem",
    [
        {"code": "invalid_page_token"},
        {"code": "idempotency_key_reused"},
        invalid(("/input_path_prefix", "must not contain '${'")),
        invalid(("/parameters", "must not contain NUL or lone surrogates")),
    ],
)
def test_what_no_schema_can_tell_is_excepted(problem: object) -> None:
    assert is_excepted(of(RejectedPositiveData), answered(422, problem))


@pytest.mark.parametrize(
    "problem",
    [
        {"code": "malformed_json"},
        {"code": "invalid_idempotency_key"},
        invalid(("/input_path_prefix", "Input should be a valid string")),
        invalid(("/parameters", "must not be so"), ("/pipeline_id", "must not be so")),
        invalid(("/tag", "must be name:value")),
        [],
        {},
    ],
)
def test_any_other_refusal_of_what_the_schema_allows_is_not(problem: object) -> None:
    assert not is_excepted(of(RejectedPositiveData), answered(422, problem))


def test_a_500_is_excepted_only_if_a_run_is_kept() -> None:
    kept = {"code": "submission_failed", "pipeline_run_id": 1}
    assert is_excepted(of(ServerError), answered(500, kept))
    assert not is_excepted(of(ServerError), answered(500, {"code": "submission_failed"}))
    assert not is_excepted(of(ServerError), answered(500, {"code": "internal_error"}))


def test_a_gateways_403_is_excepted_for_methods_that_nobody_declared() -> None:
    gateway = {"message": "Missing Authentication Token"}
    assert is_excepted(of(UnsupportedMethodResponse), answered(403, gateway))
    assert not is_excepted(of(UnsupportedMethodResponse), answered(200, {}))


@pytest.mark.parametrize("kind", [IgnoredAuth, JsonSchemaError, UndefinedStatusCode])
def test_no_other_failure_is_excepted(kind: type[Failure]) -> None:
    for problem in ({"code": "invalid_page_token"}, {"code": "submission_failed"}):
        assert not is_excepted(of(kind), answered(500, problem))


@pytest.mark.parametrize(
    ("status", "media_type", "content", "is_its"),
    [
        (400, "multipart/form-data", b"", True),
        (400, "multipart/form-data", b"{}", False),
        (400, "application/json", b"", False),
        (401, "multipart/form-data", b"", False),
    ],
)
def test_only_a_form_that_is_none_is_localstacks_business(
    status: int,
    media_type: str,
    content: bytes,
    is_its: bool,  # noqa: FBT001  # what is expected
) -> None:
    sent = requests.Request("POST", "http://api.test", headers={"Content-Type": media_type})
    response = Response(status, {}, content, sent.prepare(), 0.0, verify=True)
    assert is_localstacks_own(response) == is_its


def test_links_to_a_lists_items_are_left_out_and_no_others() -> None:
    links = {
        "item": {"parameters": {"path.id": "$response.body#/items/0/id"}},
        "next_page": {"parameters": {"query.page_token": "$response.body#/next_page_token"}},
    }
    document = {"paths": {"/x": {"get": {"responses": {"200": {"links": links}, "404": {}}}}}}
    leave_out_links_to_items(document)
    left = document["paths"]["/x"]["get"]["responses"]["200"]["links"]
    assert [*left] == ["next_page"]
