"""The OpenAPI document, the page that shows it, and the catalogue of problems."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import openapi_spec_validator
import pytest

from api import catalogue
from api.app import app
from api.operations import OPERATIONS
from api.routes_docs import DOCS
from api_client import ApiClient
from api_contract import the_document
from infra import problems
from infra.local.layout import TEMPLATE
from infra.local.template import load_template
from runs.wiring import using
from wired import WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.operations import Operation
    from fakes import World

ROOT: Final = Path(__file__).parents[2]
VENDORED: Final = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "a6a4cf68f069eb89984d5d43644e6a812e749df08d2b1320c6e06e6973847d10",
}
"""Of swagger-ui-dist 5.35.0, but for the last line, which named a source map."""
WITH_EXAMPLES: Final = [operation for operation in OPERATIONS if operation.body]


@pytest.fixture
def api(world: World) -> Iterator[ApiClient]:
    world.pipeline()
    with using(WorldWiring(world)):
        yield ApiClient()


# -- the document ---------------------------------------------------------------------------------


def test_the_document_is_openapi_3_1() -> None:
    openapi_spec_validator.validate(the_document())
    assert the_document()["openapi"].startswith("3.1")


def test_the_document_has_the_apps_routes_and_no_other() -> None:
    documented = {
        (method.upper(), path)
        for path, methods in the_document()["paths"].items()
        for method in methods
    }
    served = {(method, path) for path, methods in app.routes.items() for method in methods}
    assert documented == served


def test_the_document_is_answered_to_anybody_with_where_it_was_asked(api: ApiClient) -> None:
    answer = ApiClient(bearer=None).get("/openapi.json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json["servers"] == [{"url": f"/{api.stage}"}]
    assert answer.json["paths"] == the_document()["paths"]


def test_names_of_operations_are_unique() -> None:
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert all(operation.summary for operation in OPERATIONS)


def test_a_tokens_scope_is_told() -> None:
    described = the_document()["paths"]["/pipeline-run"]["post"]
    assert described["security"] == [{"bearer": ["runs:write"]}]
    assert "security" not in the_document()["paths"]["/health"]["get"]


def test_s6_shapes_of_requests_take_no_unknown_field() -> None:
    schemas = the_document()["components"]["schemas"]
    for operation in WITH_EXAMPLES:
        assert operation.body
        assert schemas[operation.body.__name__]["additionalProperties"] is False


def examples(operation: Operation) -> list[dict[str, Any]]:
    assert operation.body
    shown = the_document()["components"]["schemas"][operation.body.__name__].get("examples", [{}])
    return list(shown)


@pytest.mark.parametrize("operation", WITH_EXAMPLES, ids=lambda operation: operation.name)
def test_examples_work_as_they_stand(api: ApiClient, world: World, operation: Operation) -> None:
    if "_run_id}" in operation.path:
        world.submit()
    if operation.name == "retry_pipeline_run":
        world.workbench.become("COMPLETED", run=1)
        world.pass_time(30)
        world.begin_minute()
        world.deliver()
    target = re.sub(r"{\w+}", "1", operation.path)
    for example in examples(operation):
        answer = api.send(operation.method, target, text=json.dumps(example))
        assert answer.status < 300, answer.text


# -- the page -------------------------------------------------------------------------------------


def test_the_page_loads_nothing_from_elsewhere(api: ApiClient) -> None:
    answer = ApiClient(bearer=None).get("/docs")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert {name.removeprefix("docs/") for name in loaded if name != "data:,"} == DOCS.assets()
    for asset in DOCS.assets():
        assert api.get(f"/docs/{asset}").status == 200


def test_s18_the_page_is_given_no_leave_for_inline_code_or_styles(api: ApiClient) -> None:
    policy = api.get("/docs").headers["Content-Security-Policy"]
    sources = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert sources["default-src"] == "'none'"
    assert sources["script-src"] == sources["style-src"] == "'self'"
    assert "unsafe" not in policy


def test_s18_the_pages_answers_have_the_security_headers_too(api: ApiClient) -> None:
    for target in ("/docs", "/openapi.json", *(f"/docs/{asset}" for asset in DOCS.assets())):
        headers = api.get(target).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Strict-Transport-Security"] == "max-age=31536000"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert not any(name.lower().startswith("access-control") for name in headers)


@pytest.mark.parametrize("asset", ["page.html", "..", "LICENSE", "%2e%2e", "no.js"])
def test_no_other_file_is_given(api: ApiClient, asset: str) -> None:
    api.get(f"/docs/{asset}").problem(404, "not_found")


@pytest.mark.parametrize("name", VENDORED)
def test_what_is_vendored_is_as_it_was_published(name: str) -> None:
    assert hashlib.sha256((DOCS.folder / name).read_bytes()).hexdigest() == VENDORED[name]


# -- problems -------------------------------------------------------------------------------------


def test_p30_the_list_of_problems_is_the_catalogue() -> None:
    assert problems.DOC.read_text() == problems.page(), "run `make problems`"


def test_p30_codes_and_statuses_fit() -> None:
    for code, kind in catalogue.KINDS.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
        assert 400 <= kind.status < 600
        assert kind.title
        assert kind.remedy.endswith(".")


def test_p30_every_problem_of_the_catalogue_can_be_met() -> None:
    """It is named by the API's code, or by the gateway's answers in the template."""
    code = "".join(
        path.read_text()
        for path in (ROOT / "functions" / "api").glob("*.py")
        if path.name != "catalogue.py"
    )
    used = {
        kind.code
        for name, kind in vars(catalogue).items()
        if isinstance(kind, catalogue.ProblemKind) and f"catalogue.{name}" in code
    }
    assert used | set(gateway_codes()) == set(catalogue.KINDS)


def gateway_codes() -> Iterator[str]:
    gateway = load_template(TEMPLATE)["Resources"]["Api"]["Properties"]["GatewayResponses"]
    for answer in gateway.values():
        text = answer["ResponseTemplates"]["application/json"]
        [code] = re.findall(r'"code": "(\w+)"', text)
        kind = catalogue.KINDS[code]
        assert answer["StatusCode"] == kind.status
        assert f'"title": "{kind.title}"' in text
        yield code


def test_p30_the_gateways_own_problems_are_of_the_catalogue() -> None:
    assert set(gateway_codes()) >= {"not_found", "unauthorized", "forbidden", "no_answer"}
