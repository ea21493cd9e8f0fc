"""The dashboard's list of runs: counts, filters, pages, and what changes by itself."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from dashboard_site import S, move
from fakes import WORKBENCH_URL
from runs.ports import Breaker

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

    from dashboard_site import Site
    from dashboard_viewer import Viewer
    from fakes import World

FAILED = ["17", "11", "4"]
"""Of the day's runs, newest first."""


def rows(page: Page) -> Locator:
    return page.get_by_role("table").get_by_role("rowheader")


def tile(page: Page, status: str) -> Locator:
    return page.get_by_role("region", name="Runs by status").get_by_role("button", name=status)


def choice(page: Page, name: str) -> Locator:
    return page.get_by_role("combobox", name=name)


def many(world: World, number: int) -> None:
    recorded = world.runs.record(
        world.new_run(), route="made", key="many", fingerprint="f", lease=None
    )
    copies = {run_id: replace(recorded.run, id=run_id) for run_id in range(1, number + 1)}
    world.database.runs.update(copies)


# -- what there is --------------------------------------------------------------------------------


@pytest.mark.usefixtures("a_day")
def test_runs_are_counted_by_status_and_listed_newest_first(viewer: Viewer) -> None:
    page = viewer.opens()
    expect(rows(page)).to_have_count(23)
    expect(rows(page).first).to_have_text("Run 23")
    for status, number in {"Submitted": 2, "Running": 3, "Completed": 14, "Failed": 3}.items():
        expect(tile(page, status)).to_contain_text(f"{status}{number}")


@pytest.mark.usefixtures("a_day")
def test_a_row_tells_how_far_a_run_is_and_why_one_failed(viewer: Viewer) -> None:
    page = viewer.opens()
    running = page.get_by_role("row").filter(has_text="Run 18")
    expect(running.get_by_role("progressbar")).to_have_attribute("value", "141")
    failed = page.get_by_role("row").filter(has_text="Run 17")
    expect(failed).to_contain_text("Worker 3 ran out of memory")
    expect(failed).to_contain_text("nightly-clean")


def test_with_no_runs_one_is_told_how_to_begin(viewer: Viewer) -> None:
    page = viewer.opens()
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    expect(page.get_by_role("link", name="How to submit one")).to_have_attribute("href", "docs")


@pytest.mark.usefixtures("a_day")
def test_a_bar_of_the_timeline_tells_its_run_and_leads_to_it(viewer: Viewer) -> None:
    page = viewer.opens()
    timeline = page.get_by_role("region", name="Timeline")
    expect(timeline.get_by_role("link")).to_have_count(23)
    bar = timeline.get_by_role("link", name="Run 17 · Failed · nightly-clean")
    bar.hover()
    expect(timeline.locator("p")).to_contain_text("Worker 3 ran out of memory")
    bar.click()
    expect(page.get_by_role("heading", name="Run 17")).to_be_visible()


@pytest.mark.usefixtures("a_day")
def test_a_run_is_gone_to_by_its_number(viewer: Viewer) -> None:
    page = viewer.opens()
    page.get_by_label("Run number").fill("4")
    page.get_by_role("button", name="Go").click()
    expect(page.get_by_role("heading", name="Run 4")).to_be_visible()
    page.go_back()
    expect(rows(page)).to_have_count(23)


# -- filters --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("a_day")
def test_a_tile_shows_its_status_alone_until_it_is_let_go(viewer: Viewer) -> None:
    page = viewer.opens()
    tile(page, "Failed").click()
    expect(rows(page)).to_have_text([f"Run {number}" for number in FAILED])
    expect(tile(page, "Failed")).to_have_attribute("aria-pressed", "true")
    assert page.url.endswith("#/runs?status=FAILED")
    tile(page, "Failed").click()
    expect(rows(page)).to_have_count(23)


@pytest.mark.usefixtures("a_day")
def test_filters_go_together_and_are_in_the_address(viewer: Viewer) -> None:
    page = viewer.opens()
    choice(page, "Pipeline").select_option("reef-cameras")
    choice(page, "Status").select_option("Failed")
    expect(rows(page)).to_have_text(["Run 11", "Run 4"])

    page.reload()
    expect(rows(page)).to_have_text(["Run 11", "Run 4"])
    expect(choice(page, "Pipeline").locator(":checked")).to_have_text("reef-cameras")
    page.get_by_role("button", name="Clear filters").click()
    expect(rows(page)).to_have_count(23)


@pytest.mark.usefixtures("a_day")
def test_a_shared_link_shows_the_same_runs(viewer: Viewer) -> None:
    page = viewer.opens("/runs?tag=quarter%253A2026-q1%26status=CANCELLED")
    expect(rows(page)).to_have_text(["Run 7"])
    expect(page.get_by_label("Tag")).to_have_value("quarter:2026-q1")


@pytest.mark.usefixtures("a_day")
def test_runs_are_found_by_tag_by_time_and_by_job(viewer: Viewer) -> None:
    page = viewer.opens()
    page.get_by_label("Tag").fill("camera:reef-7")
    page.get_by_label("Tag").press("Enter")
    expect(rows(page)).to_have_text([f"Run {number}" for number in (23, 18, 12, 11, 6, 4)])
    choice(page, "Created").select_option("In the last hour")
    expect(rows(page)).to_have_text(["Run 23", "Run 18"])
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_label("Workbench job").fill("job-00009")
    page.get_by_label("Workbench job").press("Enter")
    expect(rows(page)).to_have_text(["Run 9"])


@pytest.mark.usefixtures("a_day")
def test_runs_between_two_moments_of_the_viewers_own_zone_are_found(viewer: Viewer) -> None:
    page = viewer.opens()
    choice(page, "Created").select_option("Between…")
    page.get_by_label("From", exact=True).fill("2026-03-01T12:35")
    page.get_by_label("To", exact=True).fill("2026-03-01T12:50")
    page.get_by_label("To", exact=True).press("Enter")
    expect(rows(page)).to_have_text(["Run 10", "Run 9", "Run 8"])


@pytest.mark.usefixtures("a_day")
def test_a_tag_without_a_value_is_complained_of_and_not_asked_for(viewer: Viewer) -> None:
    page = viewer.opens()
    page.get_by_label("Tag").fill("ocean")
    page.get_by_label("Tag").press("Enter")
    expect(page.get_by_role("alert").filter(has_text="name:value")).to_be_visible()
    expect(rows(page)).to_have_count(23)


@pytest.mark.usefixtures("a_day")
def test_where_nothing_fits_the_filters_can_be_cleared(viewer: Viewer) -> None:
    page = viewer.opens("/runs?status=CREATED")
    nothing = page.get_by_role("region", name="Runs", exact=True)
    expect(nothing.get_by_role("heading", name="No run is like that")).to_be_visible()
    nothing.get_by_role("button", name="Clear filters").click()
    expect(rows(page)).to_have_count(23)


# -- many -----------------------------------------------------------------------------------------


def test_of_10000_runs_a_page_is_shown_and_the_older_by_pages(viewer: Viewer, world: World) -> None:
    many(world, 10_000)
    page = viewer.opens()
    expect(rows(page)).to_have_count(50)
    expect(page.get_by_role("region", name="Timeline").get_by_role("link")).to_have_count(24)
    expect(page.get_by_text("26 more overlap")).to_be_visible()
    assert page.evaluate("document.querySelectorAll('*').length") < 2_000

    page.get_by_role("button", name="Older").click()
    expect(rows(page).first).to_have_text("Run 9950")
    expect(rows(page)).to_have_count(50)
    page.get_by_role("button", name="Newer").click()
    expect(rows(page).first).to_have_text("Run 10000")


# -- what changes by itself -----------------------------------------------------------------------


@pytest.mark.usefixtures("a_day")
def test_a_change_appears_without_a_reload_and_is_announced(viewer: Viewer, site: Site) -> None:
    page = viewer.opens()
    running = page.get_by_role("row").filter(has_text="Run 18")
    expect(running).to_contain_text("Running")
    with site.still() as world:
        move(world, 18, S.COMPLETED)
    viewer.waits(5)
    expect(running).to_contain_text("Completed")
    expect(page.locator("#announcements")).to_have_text("Run 18: Completed")
    expect(tile(page, "Running")).to_contain_text("2")


def test_a_new_run_appears_on_top(viewer: Viewer, site: Site) -> None:
    page = viewer.opens()
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    with site.still() as world:
        many(world, 1)
    viewer.waits(5)
    expect(rows(page)).to_have_text(["Run 1"])


@pytest.mark.usefixtures("a_day")
def test_what_has_the_focus_keeps_it_when_the_list_changes(viewer: Viewer, site: Site) -> None:
    page = viewer.opens()
    link = page.get_by_role("table").get_by_role("link", name="Run 18")
    link.focus()
    with site.still() as world:
        move(world, 18, S.COMPLETED)
    viewer.waits(5)
    expect(page.get_by_role("row").filter(has_text="Run 18")).to_contain_text("Completed")
    expect(link).to_be_focused()


@pytest.mark.usefixtures("a_day")
def test_an_outage_is_told_and_over_once_it_is_over(viewer: Viewer, world: World) -> None:
    page = viewer.opens()
    expect(rows(page)).to_have_count(23)
    world.database.down = True
    viewer.waits(5)
    notice = page.get_by_text("The database can't be reached at the moment")
    health = page.get_by_role("region", name="Health")
    expect(notice).to_be_visible()
    expect(health).to_contain_text("Health not known")
    expect(rows(page)).to_have_count(23)
    world.database.down = False
    page.get_by_role("button", name="Try now").click()
    viewer.waits(60)
    expect(notice).to_be_hidden()
    expect(health).to_contain_text("Poller healthy")


def test_the_api_is_left_alone_for_as_long_as_it_asks(viewer: Viewer) -> None:
    asked: list[str] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        problem = json.dumps({"detail": "Too many requests"})
        route.fulfill(status=429, headers={"Retry-After": "40"}, body=problem)

    page = viewer.opens()
    page.route("**/pipeline-run?*", refuse)
    viewer.waits(5)
    expect(page.get_by_text("Too many requests")).to_be_visible()
    viewer.waits(30)
    assert len(asked) == 1
    with page.expect_request("**/pipeline-run?*"):
        viewer.waits(15)


def test_a_tab_that_nobody_sees_asks_nothing(viewer: Viewer, site: Site) -> None:
    page = viewer.opens()
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    page.evaluate(
        """() => {
            Object.defineProperty(document, "hidden", { get: () => window.isHidden });
            window.isHidden = true;
        }"""
    )
    before = len(site.requests)
    viewer.waits(120)
    assert len(site.requests) == before
    page.evaluate(
        "() => { window.isHidden = false; document.dispatchEvent(new Event('visibilitychange')); }"
    )
    with page.expect_response("**/service-info"):
        pass


# -- how the service is ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(5, "Poller healthy"), (100, "Poller late"), (600, "Poller stopped")]
)
@pytest.mark.usefixtures("a_day")
def test_the_pollers_health_is_told_in_words(
    viewer: Viewer, world: World, seconds: float, verdict: str
) -> None:
    world.time.advance(seconds)
    page = viewer.opens()
    expect(page.get_by_role("region", name="Health")).to_contain_text(verdict)


def test_a_poller_that_never_swept_is_told(viewer: Viewer) -> None:
    health = viewer.opens().get_by_role("region", name="Health")
    expect(health).to_contain_text("Poller stopped")
    expect(health).to_contain_text("it has not swept yet")


def test_an_open_breaker_is_told(viewer: Viewer, world: World) -> None:
    world.database.breakers[WORKBENCH_URL] = Breaker(opened_at=world.database.now)
    health = viewer.opens().get_by_role("region", name="Health")
    expect(health).to_contain_text("Breaker open")
