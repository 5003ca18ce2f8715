"""An operator stops a projection, lets it go on, and has events replayed; a keyboard is enough."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.bed import happened
from tests.dashboard.acting import a_worker, mark, marked, posted
from tests.dashboard.browser import Browser
from tests.http.stage import Stage

HALFWAY = """() => {
  const bar = document.querySelector("progress");
  return bar !== null && bar.value > 0 && bar.value < bar.max;
}"""


def test_a_projection_is_paused_and_goes_on(browser: Browser, either_stage: Stage) -> None:
    """The page that asks says what happens; the reason is seen by everybody; events wait meanwhile."""
    guard = either_stage.guard
    guard.publish(happened("A", 1))
    page = browser.visit(either_stage.serve().dashboard)
    page.get_by_role("link", name="P", exact=True).click()
    page.locator(".actions").get_by_role("link", name="Pause").click()
    assert guard.health("P").state == "active"
    page.get_by_label("Reason").fill("the index is rebuilt")
    page.get_by_role("button", name="Pause it").click()
    expect(page.get_by_role("status").filter(has_text="The projection is paused")).to_be_visible()
    expect(page.locator("main")).to_contain_text("the index is rebuilt")
    guard.publish(happened("A", 2))
    assert guard.health("P").parked_events == 1
    page.locator(".actions").get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status").filter(has_text="The projection goes on")).to_be_visible()
    either_stage.bed.wait_until(lambda: guard.work() and not guard.health("P").parked_events)
    assert either_stage.bed.effects("P") == [("A", 1), ("A", 2)]


def looked(page: Page) -> Page:
    """Let a page take its next look at once."""
    page.clock.run_for(3_000)
    return page


def test_a_replay_is_watched_to_its_end(browser: Browser, each_stage: Stage) -> None:
    """Its progress is seen while it runs, on a page that nobody loads anew."""
    log = each_stage.follow()
    log.append(*["A", "B"] * 30)
    each_stage.guard.catch_up("P")
    page = browser.enter(each_stage.serve().dashboard)
    page.clock.install()
    page.goto("projections/P")
    page.locator(".actions").get_by_role("link", name="Replay").click()
    page.get_by_label("From event (sequence)").fill("1")
    page.get_by_label("Events a second, at most").fill("15")
    page.get_by_role("button", name="Begin the replay").click()
    page.wait_for_url(re.compile("/jobs/[0-9a-f-]{36}"))
    mark(page)
    with a_worker(each_stage):
        each_stage.bed.wait_until(lambda: looked(page).evaluate(HALFWAY))
        each_stage.bed.wait_until(lambda: "completed" in looked(page).inner_text("main"))
    assert marked(page)
    assert len(each_stage.bed.effects("P")) == 120


def test_a_viewer_steers_nothing(browser: Browser, either_stage: Stage) -> None:
    """The pages that ask are refused to a viewer, and so is what their forms send."""
    either_stage.follow().append("A")
    either_stage.guard.catch_up("P")
    page = browser.visit(either_stage.serve().dashboard, "viewer", at="projections/P")
    browser.expect("status of 403")
    assert page.locator("form[method=post], .actions *").count() == 0
    for act in ("pause", "resume", "replay", "rebuild", "reset", "verify"):
        assert posted(page, f"./P/{act}") == 403, act
        if act != "resume":
            answer = page.goto(f"projections/P/{act}")
            assert answer is not None
            assert answer.status == 403
            page.goto("projections/P")
    assert either_stage.guard.audit().items == ()


def _tab_to(page: Page, wanted: Locator, most: int = 40) -> None:
    for _ in range(most):
        page.keyboard.press("Tab")
        if wanted.evaluate("each => each === document.activeElement"):
            return
    pytest.fail(f"the focus never comes to {wanted}")


def _focus_is_seen(page: Page) -> bool:
    return bool(
        page.evaluate(
            """() => { const style = getComputedStyle(document.activeElement);
            return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 1 }"""
        )
    )


def test_a_keyboard_is_enough(browser: Browser, stage: Stage) -> None:
    """Past the head of the page, to the projection, and it is paused; what has the focus is seen at each step."""
    stage.guard.publish(happened("A", 1))
    page = browser.visit(stage.serve().dashboard)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    assert _focus_is_seen(page)
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    for wanted in (
        page.get_by_role("link", name="P", exact=True),
        page.locator(".actions").get_by_role("link", name="Pause"),
    ):
        _tab_to(page, wanted)
        assert _focus_is_seen(page)
        page.keyboard.press("Enter")
    _tab_to(page, page.get_by_label("Reason"))
    page.keyboard.type("by keyboard")
    _tab_to(page, page.get_by_role("button", name="Pause it"))
    assert _focus_is_seen(page)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="The projection is paused")).to_be_visible()
    assert stage.guard.health("P").state == "paused"


def test_what_is_unfolded_stays_so(browser: Browser, stage: Stage) -> None:
    """A traceback that somebody reads is not folded when the page is drawn anew."""
    failure = stage.failed("A")
    page = browser.enter(stage.serve().dashboard)
    page.clock.install()
    page.goto(f"failures/{failure.id}")
    page.get_by_text("The whole traceback").click()
    stage.guard.publish(happened("A", 2))
    page.clock.run_for(6_000)
    expect(page.locator("main")).to_contain_text("A#2")
    expect(page.get_by_label("Traceback")).to_be_visible()
