"""Whether everybody can use the dashboard: by keyboard, by ear, on a phone, in light and dark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from playwright.sync_api import Page

    from dashboard_viewer import Viewer
    from fakes import World

pytestmark = pytest.mark.usefixtures("a_day")
PHONE: Final = {"viewport": {"width": 390, "height": 844}}
LIGHT: Final = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
DARK: Final = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"}
PLACES: Final = ("/runs", "/runs/17", "/runs/18", "/runs/1")
CONTROLS: Final = {"button", "link", "textbox", "combobox", "progressbar", "table", "dialog"}
AA: Final = 4.5
CONTRASTS: Final = """() => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    const brush = canvas.getContext("2d", { willReadFrequently: true });
    const over = (colors) => {
        brush.clearRect(0, 0, 1, 1);
        colors.forEach((color) => {
            brush.fillStyle = color;
            brush.fillRect(0, 0, 1, 1);
        });
        return [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const luminance = (color) => {
        const [r, g, b] = color.map((part) => {
            const value = part / 255;
            return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const grounds = (node) => {
        const colors = [];
        for (let one = node; one; one = one.parentElement) {
            const before = one.previousElementSibling;
            colors.unshift(getComputedStyle(one).backgroundColor);
            if (one.tagName === "text" && before?.tagName === "rect") {
                colors.push(getComputedStyle(before).fill);
            }
        }
        return colors;
    };
    const texts = [...document.querySelectorAll("body *")].filter((node) =>
        [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim()) &&
        node.checkVisibility() && node.tagName !== "OPTION" && node.tagName !== "title");
    return texts.map((node) => {
        const style = getComputedStyle(node);
        const isDrawn = node.namespaceURI.endsWith("svg");
        const under = grounds(node);
        const text = luminance(over([...under, isDrawn ? style.fill : style.color]));
        const ground = luminance(over(under));
        const ratio = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
        return [node.textContent.trim().slice(0, 40), ratio];
    });
}"""
"""Of every text that is to be seen: what it says, and its contrast to what it stands on."""
FOCUSED: Final = """() => {
    const node = document.activeElement;
    return node.getAttribute("aria-label") || node.textContent.trim();
}"""


@pytest.fixture
def screen(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    given: Mapping[str, Any] = getattr(request, "param", LIGHT)
    return given


def arrived(page: Page, place: str) -> None:
    page.evaluate("place => { location.hash = place; }", place)
    number = place.removeprefix("/runs").strip("/")
    expect(page.get_by_role("heading", name=f"Run {number}" if number else "Runs")).to_be_attached()
    expect(page.locator("[aria-busy]")).to_have_count(0)


def tab_to(page: Page, name: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if name in page.evaluate(FOCUSED):
            return
    pytest.fail(f"No way leads to {name} by Tab")


# -- by keyboard ----------------------------------------------------------------------------------


def test_a_run_is_cancelled_by_keyboard_alone(viewer: Viewer, world: World) -> None:
    page = viewer.opens()
    tab_to(page, "Run number")
    page.keyboard.type("18")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Run 18")).to_be_visible()
    tab_to(page, "Cancel…")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Cancel run 18?")).to_be_visible()
    tab_to(page, "Cancel the run")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Being cancelled")).to_be_visible()
    assert world.run(18).cancel_requested_at


def test_a_failed_run_is_found_by_keyboard_alone(viewer: Viewer) -> None:
    page = viewer.opens()
    tab_to(page, "Failed")
    page.keyboard.press("Space")
    expect(page.get_by_role("table").get_by_role("rowheader")).to_have_count(3)
    tab_to(page, "Run 17")
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Why it failed")).to_be_visible()


def test_arrows_go_from_bar_to_bar(viewer: Viewer) -> None:
    page = viewer.opens()
    tab_to(page, "Run 1 ·")
    for key, number in {"ArrowRight": 2, "End": 23, "ArrowLeft": 22, "Home": 1}.items():
        page.keyboard.press(key)
        assert page.evaluate(FOCUSED).startswith(f"Run {number} ·")


def test_the_first_stop_leads_past_the_top(viewer: Viewer) -> None:
    page = viewer.opens()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="To the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_what_has_the_focus_is_to_be_seen(viewer: Viewer) -> None:
    page = viewer.opens()
    tab_to(page, "Sign out")
    focused = "getComputedStyle(document.activeElement)"
    assert page.evaluate(f"{focused}.outlineStyle") == "solid"
    assert page.evaluate(f"{focused}.outlineWidth") == "2px"


# -- by ear ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("screen", [LIGHT, PHONE], indirect=True, ids=["wide", "phone"])
def test_every_control_has_a_name(viewer: Viewer) -> None:
    page = viewer.opens()
    session = viewer.context.new_cdp_session(page)
    for place in PLACES:
        arrived(page, place)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        controls = [node for node in nodes if node.get("role", {}).get("value") in CONTROLS]
        assert len(controls) > 8
        assert [node for node in controls if not node["name"]["value"].strip()] == []


def test_a_table_is_one_on_a_phone_too(viewer: Viewer) -> None:
    page = viewer.opens()
    page.set_viewport_size({"width": 390, "height": 844})
    table = page.get_by_role("table", name="Runs, newest first")
    expect(table.get_by_role("columnheader")).to_have_count(7)
    expect(table.get_by_role("row")).to_have_count(24)


# -- on a phone, in light and dark ----------------------------------------------------------------


@pytest.mark.parametrize("screen", [PHONE], indirect=True, ids=["phone"])
def test_nothing_is_wider_than_a_phone(viewer: Viewer) -> None:
    page = viewer.opens()
    for place in PLACES:
        arrived(page, place)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("link", name="All runs").click()
    page.get_by_text("Filters", exact=True).click()
    expect(page.get_by_role("combobox", name="Pipeline")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("screen", [LIGHT, DARK], indirect=True, ids=["light", "dark"])
def test_every_text_stands_out_from_its_ground(viewer: Viewer) -> None:
    page = viewer.opens()
    for place in PLACES:
        arrived(page, place)
        told = page.evaluate(CONTRASTS)
        assert len(told) > 40
        assert [(text, ratio) for text, ratio in told if ratio < AA] == []


@pytest.mark.parametrize("screen", [DARK], indirect=True, ids=["dark"])
def test_the_page_is_as_dark_as_the_system_until_one_chooses(viewer: Viewer) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page = viewer.opens()
    dark = page.evaluate(ground)
    page.get_by_role("combobox", name="Theme").select_option("Light")
    light = page.evaluate(ground)
    assert dark != light
    page.reload()
    expect(page.get_by_role("combobox", name="Theme")).to_have_value("light")
    assert page.evaluate(ground) == light


@pytest.mark.parametrize(
    "screen", [{**LIGHT, "reduced_motion": "reduce"}], indirect=True, ids=["still"]
)
def test_nothing_moves_for_who_wants_no_motion(viewer: Viewer) -> None:
    page = viewer.opens()
    moving = "[...document.querySelectorAll('*')].flatMap((one) => one.getAnimations()).length"
    assert page.evaluate(moving) == 0
