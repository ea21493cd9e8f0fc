"""Who may look at the dashboard, and what becomes of the token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from dashboard_site import EVERYTHING, readable_token
from runs.callers import Scope

if TYPE_CHECKING:
    from dashboard_viewer import Viewer
    from fakes import World

pytestmark = pytest.mark.usefixtures("a_day")
KEPT = (
    "JSON.stringify([Object.values(sessionStorage), Object.values(localStorage), document.cookie])"
)


def sign_in(viewer: Viewer, token: str) -> None:
    viewer.page.goto(viewer.site.dashboard)
    viewer.page.get_by_label("Token").fill(token)
    viewer.page.get_by_role("button", name="Sign in").click()


def test_nothing_is_asked_of_the_api_before_there_is_a_token(viewer: Viewer) -> None:
    viewer.page.goto(viewer.site.dashboard)
    expect(viewer.page.get_by_label("Token")).to_be_focused()
    assert {one.split("/")[1] for one in viewer.site.requests} == {"dashboard"}


def test_a_token_lets_one_in_and_stays_in_the_tab(viewer: Viewer) -> None:
    token = readable_token()
    sign_in(viewer, token)
    expect(viewer.page.get_by_role("link", name="Run 17", exact=True)).to_be_visible()
    assert viewer.page.evaluate(KEPT) == f'[["{token}"],[],""]'

    viewer.page.reload()
    expect(viewer.page.get_by_role("link", name="Run 17", exact=True)).to_be_visible()
    another_tab = viewer.context.new_page()
    another_tab.goto(viewer.site.dashboard)
    expect(another_tab.get_by_label("Token")).to_be_visible()


def test_a_wrong_token_is_told(viewer: Viewer) -> None:
    sign_in(viewer, "nonsense")
    expect(viewer.page.get_by_role("alert")).to_contain_text("The token is not a JWT")
    assert viewer.page.evaluate("sessionStorage.length") == 0


def test_what_can_be_no_token_is_not_sent(viewer: Viewer) -> None:
    sign_in(viewer, "two wörds")
    expect(viewer.page.get_by_role("alert")).to_contain_text("That is no token")
    assert "GET /service-info" not in viewer.site.requests


def test_a_token_that_has_ended_is_told_with_its_end(viewer: Viewer) -> None:
    sign_in(viewer, readable_token(ends_at=1_700_000_000))
    expect(viewer.page.get_by_role("alert")).to_contain_text("ended at 14 Nov")


def test_a_token_that_ends_meanwhile_brings_one_back_to_the_door(viewer: Viewer) -> None:
    token = readable_token()
    page = viewer.opens(token=token)
    viewer.site.wiring.tokens.revoked.add(token)
    viewer.waits(5)
    expect(page.get_by_role("alert")).to_contain_text("The token has expired")


def test_a_token_that_ends_while_a_question_is_open_closes_the_question(viewer: Viewer) -> None:
    token = readable_token()
    page = viewer.opens("/runs/18", token=token)
    page.get_by_role("button", name="Cancel…").click()
    expect(page.get_by_role("button", name="Cancel the run")).to_be_visible()
    viewer.site.wiring.tokens.revoked.add(token)
    # Whatever the page asks next is refused; how the service is it asks every few seconds.
    expect(page.get_by_role("button", name="Sign in")).to_be_visible(timeout=20_000)
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_missing_scope_is_named(viewer: Viewer) -> None:
    sign_in(viewer, readable_token([Scope.PIPELINES_WRITE]))
    expect(viewer.page.get_by_role("alert")).to_contain_text("Your token lacks runs:read")


def test_a_token_in_a_link_is_read_once_and_taken_out_of_the_address(viewer: Viewer) -> None:
    page = viewer.opens("/runs/17")
    expect(page.get_by_role("heading", name="Run 17")).to_be_visible()
    assert page.url == f"{viewer.site.dashboard}#/runs/17"
    page.evaluate("location.hash = '#token=another'")
    expect(page.get_by_role("alert")).to_be_visible()
    assert "another" not in page.url


def test_who_signs_out_is_forgotten(viewer: Viewer) -> None:
    page = viewer.opens()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_who_may_only_read_can_do_nothing_and_is_told_why(viewer: Viewer, world: World) -> None:
    page = viewer.opens("/runs/18", token=readable_token([Scope.RUNS_READ]))
    expect(page.get_by_role("button", name="Cancel…")).to_be_disabled()
    expect(page.get_by_text("Your token lacks runs:write")).to_be_visible()
    assert not world.run(18).cancel_requested_at


def test_s4_another_tenant_sees_none_of_it(viewer: Viewer) -> None:
    page = viewer.opens(token=readable_token(EVERYTHING, tenant_id="other"))
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    page.goto(f"{viewer.site.dashboard}#/runs/17")
    expect(page.get_by_role("heading", name="There is no run 17")).to_be_visible()
