"""The dashboard's files: what is served of them, and what they may not do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from api.routes_dashboard import DASHBOARD
from api.script_modules import ScriptUnclear, one_script
from api_client import ApiClient
from runs.wiring import using
from wired import WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


def test_the_page_loads_what_is_served_and_no_more(anybody: ApiClient) -> None:
    named = re.findall(r'(?:src|href)="dashboard/([^"]+)"', SOURCES["page.html"])
    assert set(named) == DASHBOARD.assets() == {"start.js", "page.css"}
    assert anybody.get("/dashboard/page.css").text == SOURCES["page.css"]


def test_every_module_is_part_of_the_script_once(anybody: ApiClient) -> None:
    script = anybody.get("/dashboard/start.js").text
    parts = re.findall(r'^modules\["(.+)"\] = ', script, re.MULTILINE)
    assert sorted(parts) == sorted(SCRIPTS)
    assert parts[-1] == "start.js"
    for name, text in SCRIPTS.items():
        for needed in IMPORTED.findall(text):
            assert parts.index(needed) < parts.index(name)


def test_a_module_sees_what_it_imports_and_keeps_the_rest_to_itself(tmp_path: Path) -> None:
    (tmp_path / "names.js").write_text(
        'const secret = "a";\nexport const shown = secret;\nexport function told() {}\n'
    )
    (tmp_path / "start.js").write_text(
        'import {\n  shown,\n  told,\n} from "./names.js";\n'
        'import * as names from "./names.js";\ntold(shown, names);\n'
    )
    assert one_script(tmp_path, "start.js") == (
        "const modules = {};\n"
        'modules["names.js"] = (() => {\n'
        'const secret = "a";\nconst shown = secret;\nfunction told() {}\n'
        "return { shown, told };\n})();\n"
        'modules["start.js"] = (() => {\n'
        'const { shown, told, } = modules["names.js"];\n'
        'const names = modules["names.js"];\ntold(shown, names);\n'
        "return {  };\n})();\n"
    )


@pytest.mark.parametrize(
    "line", ['import "./other.js";', "export default 1;", 'import x from "./other.js";']
)
def test_an_import_or_export_that_is_not_understood_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "start.js").write_text(f"{line}\n")
    with pytest.raises(ScriptUnclear, match=r"start\.js: (import|export)"):
        one_script(tmp_path, "start.js")


def test_a_file_that_the_browser_has_is_not_sent_again(anybody: ApiClient) -> None:
    answer = anybody.get("/dashboard/start.js")
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    again = anybody.get("/dashboard/start.js", If_None_Match=answer.headers["ETag"])
    assert (again.status, again.text) == (304, "")
    other = anybody.get("/dashboard/page.css", If_None_Match=answer.headers["ETag"])
    assert other.status == 200


@pytest.mark.parametrize("asset", ["page.html", "..", "%2e%2e", "no.js", "api.js"])
def test_no_other_file_is_given(anybody: ApiClient, asset: str) -> None:
    anybody.get(f"/dashboard/{asset}").problem(404, "not_found")


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_or_code_of_text(name: str) -> None:
    assert MARKUP_FROM_TEXT.findall(SCRIPTS[name]) == []


@pytest.mark.parametrize("name", SOURCES)
def test_no_file_names_another_host(name: str) -> None:
    assert set(re.findall(r"https?://[^\s\"')]+", SOURCES[name])) <= ALLOWED_ADDRESSES


@pytest.mark.parametrize("name", SOURCES)
def test_no_line_is_longer_than_those_of_the_other_code(name: str) -> None:
    assert [line for line in SOURCES[name].splitlines() if len(line) > 100] == []


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
