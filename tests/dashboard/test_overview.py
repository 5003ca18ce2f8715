"""The overview in a browser: what it shows, and that it keeps itself up to date."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.dashboard.acting import mark, marked
from tests.dashboard.browser import Browser
from tests.http.stage import Stage


def test_the_overview_shows_a_failing_projection_and_heals_without_reloading(
    browser: Browser, each_stage: Stage
) -> None:
    """What another process mends is seen by whoever looks at the page."""
    each_stage.also("Quiet")
    each_stage.failed("A", parked=2)
    page = browser.visit(each_stage.serve().dashboard, "viewer")
    rows = page.locator("table.projections tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("P")
    expect(rows.first).to_contain_text("degraded")
    expect(rows.first.locator("td[data-label=Failures]")).to_contain_text("1")
    expect(rows.first.locator("td[data-label=Parked]")).to_contain_text("2")
    mark(page)
    each_stage.handler.heal()
    (failure,) = each_stage.guard.failures("P").items
    each_stage.guard.resolve(failure.id, "retry", actor="olga")
    each_stage.bed.wait_until(lambda: each_stage.guard.work() and not each_stage.guard.health("P").parked_events)
    expect(rows.filter(has_text="P").locator("td[data-label=Failures]")).to_have_text("0")
    expect(page.locator(".chip.degraded")).to_have_count(1)  # the tile's
    assert marked(page)
