"""The dashboard's page of one run: why it failed, how it goes on, and what one can do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from dashboard_site import BUCKET, S, move
from memory_storage import MemoryStorage
from runs.model import Finding

if TYPE_CHECKING:
    from dashboard_site import Site
    from dashboard_viewer import Viewer
    from fakes import World
    from runs.ports import StoredPage
    from runs.prefixes import Location

pytestmark = pytest.mark.usefixtures("a_day")
MARKUP = "<img src=x onerror=alert(1)><b>bold</b>"


class WebStorage(MemoryStorage):
    """Its links are the web's, as S3's are."""

    def objects(self, place: Location, *, page_size: int, after: str, inline: bool) -> StoredPage:
        page = super().objects(place, page_size=page_size, after=after, inline=inline)
        return replace(
            page,
            objects=[
                replace(one, url=f"https://storage.test/{one.key}?signed") for one in page.objects
            ],
        )


def test_why_a_run_failed_stands_first(viewer: Viewer) -> None:
    page = viewer.opens("/runs/4")
    why = page.get_by_role("region", name="Why it failed")
    expect(why).to_contain_text("Nothing lies below s3://user-data/in/reef-cameras/2026-03-01")
    expect(why).to_contain_text("correct it and submit a new run")
    expect(why).to_contain_text("USER · job_failed")
    assert page.title() == "Run 4 failed · Pipeline runs"


def test_why_a_run_failed_is_two_clicks_away(viewer: Viewer) -> None:
    page = viewer.opens()
    page.get_by_role("button", name="Failed").click()
    page.get_by_role("link", name="Run 17", exact=True).click()
    expect(page.get_by_role("region", name="Why it failed")).to_contain_text("out of memory")


def test_the_history_is_a_picture_that_tells_what_it_shows(viewer: Viewer) -> None:
    page = viewer.opens("/runs/17")
    told = "Created for 3 s, then Submitted for 21 s, then Running for 19 min, then Failed"
    expect(page.get_by_role("img", name=told)).to_be_visible()
    events = page.get_by_role("list", name="Events, oldest first").get_by_role("listitem")
    expect(events).to_have_text(
        [
            "Created13:26:00for 3 s",
            "Submitted13:26:03for 21 s",
            "Running13:26:24for 19 min",
            "Failed13:45:24",
        ]
    )


def test_what_was_asked_for_is_told(viewer: Viewer) -> None:
    page = viewer.opens("/runs/17")
    for text in ("in/nightly-clean/2026-03-01/17", "out/nightly-clean/2026-03-01/17", "job-00017"):
        expect(page.get_by_text(text, exact=True)).to_be_visible()
    expect(page.get_by_role("region", name="Parameters")).to_contain_text('"drop_empty_rows": true')
    pipeline = page.get_by_role("link", name="nightly-clean")
    expect(pipeline).to_have_attribute("href", "#/runs?pipeline_id=2")
    tag = page.get_by_role("link", name="team:ocean")
    expect(tag).to_have_attribute("href", "#/runs?tag=team%3Aocean")


def test_times_are_the_viewers_with_utc_beside(viewer: Viewer) -> None:
    times = viewer.opens("/runs/17").locator("dd time")
    expect(times.first).to_have_text("13:26:00")
    expect(times.first).to_have_attribute("title", "2026-03-01 13:26:00.000 UTC")


def test_how_a_run_is_now_is_told(viewer: Viewer) -> None:
    page = viewer.opens("/runs/18")
    now = page.get_by_role("region", name="How it is now")
    expect(now.get_by_role("progressbar")).to_have_attribute("value", "141")
    expect(now).to_contain_text("The Workbench says RUNNING")
    expect(now).to_contain_text("A check follows every 30 s")


def test_checks_without_an_answer_are_told(viewer: Viewer, world: World) -> None:
    for _ in range(3):
        at = world.database.now
        world.runs.observe([Finding(run_id=18, trouble="connection refused", next_check_at=at)])
    now = viewer.opens("/runs/18").get_by_role("region", name="How it is now")
    expect(now).to_contain_text("3 checks in a row got no answer. connection refused")


def test_a_run_that_ends_is_seen_to_end_without_a_reload(viewer: Viewer, site: Site) -> None:
    page = viewer.opens("/runs/18")
    expect(page.get_by_role("button", name="Cancel…")).to_be_enabled()
    with site.still() as world:
        move(world, 18, S.COMPLETED)
    expect(page.get_by_role("button", name="Retry…")).to_be_enabled()
    expect(page.locator("#announcements")).to_have_text("Run 18: Completed")
    assert page.title() == "Run 18 completed · Pipeline runs"
    assert "GET /pipeline-run/18?wait=20&since_version=3" in site.requests


def test_of_a_run_that_has_ended_nothing_more_is_asked(viewer: Viewer, site: Site) -> None:
    site.wiring.storage.put(BUCKET, "elsewhere")
    page = viewer.opens("/runs/17")
    expect(page.get_by_text("Nothing lies below the report prefix.")).to_be_visible()
    viewer.waits(300)
    asked = [one for one in site.requests if "/pipeline-run/17" in one]
    assert sorted(asked) == [
        "GET /pipeline-run/17",
        "GET /pipeline-run/17/events",
        "GET /pipeline-run/17/outputs?page_size=100",
        "GET /pipeline-run/17/report?page_size=100",
    ]


def test_a_run_that_nobody_can_wait_for_is_asked_about_again(viewer: Viewer, site: Site) -> None:
    site.wiring.waiters.free = 0
    page = viewer.opens("/runs/18")
    expect(page.get_by_role("button", name="Cancel…")).to_be_enabled()
    with site.still() as world:
        move(world, 18, S.COMPLETED)
    viewer.waits(4)
    expect(page.get_by_role("button", name="Retry…")).to_be_enabled()


# -- cancel and retry -----------------------------------------------------------------------------


def test_a_run_is_cancelled_after_a_question(viewer: Viewer, site: Site) -> None:
    page = viewer.opens("/runs/18")
    page.get_by_role("button", name="Cancel…").click()
    dialog = page.get_by_role("dialog", name="Cancel run 18?")
    dialog.get_by_label("Reason (optional)").fill("Wrong camera")
    dialog.get_by_role("button", name="Cancel the run").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="Being cancelled")).to_be_disabled()
    with site.still() as world:
        assert world.run(18).cancel_reason == "Wrong camera"
        move(world, 18, S.CANCELLED)
    expect(page.get_by_text("Its end was asked for at")).to_contain_text(": Wrong camera.")


def test_a_run_that_can_be_cancelled_at_once_is_shown_with_its_end(
    viewer: Viewer, site: Site
) -> None:
    with site.still() as world:
        recorded = world.runs.record(
            world.new_run(), route="made", key="another", fingerprint="f", lease=None
        )
        run_id = recorded.run.id
    page = viewer.opens(f"/runs/{run_id}")
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.get_by_role("button", name="Retry…")).to_be_enabled()
    events = page.get_by_role("list", name="Events, oldest first").get_by_role("listitem")
    expect(events.last).to_contain_text("Cancelled")


def test_who_thinks_again_cancels_nothing(viewer: Viewer, world: World) -> None:
    page = viewer.opens("/runs/18")
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Let it run").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Cancel…").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert not world.run(18).cancel_requested_at


def test_a_cancel_that_comes_too_late_is_told_kindly(viewer: Viewer, site: Site) -> None:
    page = viewer.opens("/runs/18")
    page.get_by_role("button", name="Cancel…").click()
    with site.still() as world:
        move(world, 18, S.COMPLETED)
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("COMPLETED")
    page.get_by_role("button", name="Let it run").click()
    expect(page.get_by_role("button", name="Retry…")).to_be_enabled()


def test_a_failed_run_is_retried_and_the_new_one_shown(viewer: Viewer) -> None:
    page = viewer.opens("/runs/17")
    page.get_by_role("button", name="Retry…").click()
    page.get_by_role("button", name="Run it again").click()
    expect(page.get_by_role("heading", name="Run 24")).to_be_visible()
    page.get_by_role("link", name="run 17").click()
    expect(page.get_by_role("heading", name="Run 17")).to_be_visible()


# -- results --------------------------------------------------------------------------------------


def test_what_a_run_wrote_can_be_opened(viewer: Viewer, site: Site) -> None:
    site.wiring.storage = WebStorage()
    site.wiring.storage.put(BUCKET, "out/weather-grids/2026-03-01/01/part-000.parquet", b"12345")
    site.wiring.storage.put(BUCKET, "reports/weather-grids/2026-03-01/01/report.html")
    page = viewer.opens("/runs/1")
    output = page.get_by_role("link", name="part-000.parquet")
    address = "https://storage.test/out/weather-grids/2026-03-01/01/part-000.parquet?signed"
    expect(output).to_have_attribute("href", address)
    expect(output).to_have_attribute("rel", "noopener noreferrer")
    expect(page.get_by_role("listitem").filter(has=output)).to_contain_text("5 bytes")
    headings = page.get_by_role("heading", level=2)
    expect(headings).to_have_text(["History", "Outputs", "Report", "Details", "Tags", "Parameters"])
    expect(page.get_by_role("link", name="report.html")).to_be_visible()


def test_a_storage_that_is_away_is_told_where_the_outputs_would_be(
    viewer: Viewer, site: Site
) -> None:
    site.wiring.storage.down = True
    page = viewer.opens("/runs/1")
    told = page.get_by_text("The storage can't be reached at the moment")
    expect(told).to_have_count(2)
    site.wiring.storage.down = False
    site.wiring.storage.put(BUCKET, "out/weather-grids/2026-03-01/01/part-000.parquet")
    page.get_by_role("button", name="Look now").first.click()
    expect(page.get_by_text("part-000.parquet")).to_be_visible()


# -- what comes from outside ----------------------------------------------------------------------


def test_markup_in_a_runs_data_is_only_text(viewer: Viewer, world: World) -> None:
    run = world.database.runs[17]
    assert run.error
    world.database.runs[17] = replace(
        run,
        error=replace(run.error, message=MARKUP),
        tags={"team": MARKUP},
        parameters={"note": MARKUP},
    )
    page = viewer.opens()
    expect(page.get_by_role("row").filter(has_text="Run 17")).to_contain_text(MARKUP)
    page.get_by_role("link", name="Run 17", exact=True).click()
    expect(page.get_by_role("region", name="Why it failed")).to_contain_text(MARKUP)
    assert page.locator("img, b").count() == 0


def test_an_address_that_is_none_of_the_webs_is_no_link(viewer: Viewer, world: World) -> None:
    world.runs.observe([Finding(run_id=18, upstream_status="RUNNING", logs_url="javascript:1")])
    page = viewer.opens("/runs/18")
    expect(page.get_by_text("Job's logs")).to_be_visible()
    assert page.get_by_role("link", name="Job's logs").count() == 0
