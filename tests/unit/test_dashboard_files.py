"""The dashboard's files: what is served of them, and what they may not do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from api.routes_dashboard import DASHBOARD
from api_client import ApiClient
from runs.wiring import using
from wired import WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakes import World

SOURCES: Final = {one.name: one.read_text() for one in sorted(DASHBOARD.folder.iterdir())}
SCRIPTS: Final = {name: text for name, text in SOURCES.items() if name.endswith(".js")}
MARKUP_FROM_TEXT: Final = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|DOMParser|"
    r"createContextualFragment|srcdoc|\beval\b|new Function"
)
IMPORTED: Final = re.compile(r'^(?:import|export)\b[^;]*?"\./([^"]+)";', re.MULTILINE)
ALLOWED_ADDRESSES: Final = {"http://www.w3.org/2000/svg"}
"""A name, not a place: nothing is loaded from there."""


@pytest.fixture
def anybody(world: World) -> Iterator[ApiClient]:
    with using(WorldWiring(world)):
        yield ApiClient(bearer=None)


def test_s1_the_shell_needs_no_token_and_holds_no_runs(anybody: ApiClient) -> None:
    answer = anybody.get("/dashboard")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.text == SOURCES["page.html"]


def test_s18_the_page_may_load_and_ask_nothing_but_its_own_host(anybody: ApiClient) -> None:
    policy = anybody.get("/dashboard").headers["Content-Security-Policy"]
    sources = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert sources["default-src"] == "'none'"
    assert sources["script-src"] == sources["style-src"] == sources["connect-src"] == "'self'"
    assert sources["img-src"] == "'self' data:"
    assert "unsafe" not in policy


def test_s18_its_files_have_the_security_headers(anybody: ApiClient) -> None:
    for asset in DASHBOARD.assets():
        headers = anybody.get(f"/dashboard/{asset}").headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_every_file_is_loaded_by_the_page_or_by_another(anybody: ApiClient) -> None:
    named = re.findall(r'(?:src|href)="dashboard/([^"]+)"', SOURCES["page.html"])
    reached: set[str] = set()
    while named:
        name = named.pop()
        if name not in reached:
            reached.add(name)
            named += IMPORTED.findall(SOURCES[name])
            assert anybody.get(f"/dashboard/{name}").text == SOURCES[name]
    assert reached == DASHBOARD.assets()


def test_a_file_that_the_browser_has_is_not_sent_again(anybody: ApiClient) -> None:
    answer = anybody.get("/dashboard/start.js")
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    again = anybody.get("/dashboard/start.js", If_None_Match=answer.headers["ETag"])
    assert (again.status, again.text) == (304, "")
    other = anybody.get("/dashboard/api.js", If_None_Match=answer.headers["ETag"])
    assert other.status == 200


@pytest.mark.parametrize("asset", ["page.html", "..", "%2e%2e", "no.js", "start.js.map"])
def test_no_other_file_is_given(anybody: ApiClient, asset: str) -> None:
    anybody.get(f"/dashboard/{asset}").problem(404, "not_found")


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_or_code_of_text(name: str) -> None:
    assert MARKUP_FROM_TEXT.findall(SCRIPTS[name]) == []


@pytest.mark.parametrize("name", SOURCES)
def test_no_file_names_another_host(name: str) -> None:
    assert set(re.findall(r"https?://[^\s\"')]+", SOURCES[name])) <= ALLOWED_ADDRESSES


def test_the_page_itself_has_no_code_and_no_style_in_it() -> None:
    page = SOURCES["page.html"]
    assert re.findall(r"<style|\sstyle=|\son\w+=", page) == []
    assert all(not body.strip() for body in re.findall(r"<script[^>]*>(.*?)</script>", page))


def test_tokens_are_kept_for_the_tab_alone() -> None:
    keeping = {name for name, text in SCRIPTS.items() if "sessionStorage" in text}
    assert keeping == {"session.js"}
    lasting = {name for name, text in SCRIPTS.items() if "localStorage" in text}
    assert lasting == {"theme.js"}
    assert not any("document.cookie" in text for text in SCRIPTS.values())
