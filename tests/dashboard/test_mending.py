"""An operator sees what is wrong, and mends it, in a browser."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.dashboard.acting import a_worker, failing_streams, mark, marked, posted
from tests.dashboard.browser import Browser
from tests.http.stage import Stage


def test_an_operator_finds_the_cause_retries_all_and_watches_it_heal(browser: Browser, each_stage: Stage) -> None:
    """From the overview to the group, to the page that says how many, to the job's, and back; nothing is reloaded."""
    failing_streams(each_stage, 3)
    page = browser.visit(each_stage.serve().dashboard)
    overview = browser.visit(page.url, "viewer")
    mark(overview)
    page.locator("tbody tr").filter(has_text="P").locator("td[data-label=Failures] a").click()
    group = page.locator("tbody tr").filter(has_text="ValueError")
    expect(group.locator("td[data-label=Failures]")).to_contain_text("3")
    each_stage.handler.heal()
    group.get_by_role("link", name=re.compile("Retry all 3 of ValueError")).click()
    expect(page.locator("main")).to_contain_text("3 failures")
    with a_worker(each_stage):
        page.get_by_role("textbox", name="Note for the audit log").fill("the fix is deployed")
        page.get_by_role("button", name="Retry 3 failures").click()
        page.wait_for_url(re.compile("/bulk/[0-9a-f-]{36}"))
        mark(page)
        expect(page.locator("main")).to_contain_text("3 of 3")
        expect(page.locator(".chip").first).to_have_text("completed")
        assert marked(page)
        row = overview.locator("tbody tr").filter(has_text="P")
        expect(row.locator("td[data-label=Parked]")).to_have_text("0")
        expect(row.locator("td[data-label=Failures]")).to_have_text("0")
    assert marked(overview)
    assert sorted(each_stage.bed.effects("P")) == sorted((f"S{n}", k) for n in range(3) for k in (1, 2))
    (entry, *_) = each_stage.guard.audit("P").items
    assert (entry.actor, entry.note) == ("Olga", "the fix is deployed")


def test_one_failure_is_understood_and_retried(browser: Browser, either_stage: Stage) -> None:
    """The error, the line, the event and what waits behind it are on one page; retrying leads back to it."""
    failure = either_stage.failed("A", parked=2)
    page = browser.visit(either_stage.serve(payloads_for="operator").dashboard, at=f"failures/{failure.id}")
    main = page.locator("main")
    for words in ("ValueError", "Attempt 1", "A#1", "A#2", "A#3"):
        expect(main).to_contain_text(words)
    page.get_by_text("The whole traceback").click()
    expect(page.get_by_label("Traceback")).to_contain_text(
        "injected" if "injected" in (failure.error_message or "") else "raise"
    )
    page.get_by_role("button", name="Retry now").click()
    expect(page.get_by_role("status").filter(has_text="failed again")).to_be_visible()
    either_stage.handler.heal()
    page.get_by_role("button", name="Retry now").click()
    expect(page.get_by_role("status").filter(has_text="tried again and applied")).to_be_visible()
    expect(main).to_contain_text("by Olga")
    expect(page.get_by_role("button", name="Retry now")).to_have_count(0)


def test_skipping_says_what_it_costs_before_it_is_done(browser: Browser, stage: Stage) -> None:
    """The page that asks names the consequences and counts; nothing is done by looking at it."""
    failure = stage.failed("A", parked=1)
    page = browser.visit(stage.serve().dashboard, at=f"failures/{failure.id}")
    page.get_by_role("link", name="Skip…").click()
    expect(page.locator("main")).to_contain_text("missing from the read model")
    expect(page.locator("main")).to_contain_text("1 event parked behind it")
    assert stage.guard.health("P").active_failures == 1
    page.get_by_role("textbox", name="Note for the audit log").fill("a test event")
    page.get_by_role("button", name="Skip the event").click()
    expect(page.get_by_role("status").filter(has_text="The event was skipped")).to_be_visible()
    assert stage.guard.health("P").active_failures == 0
    assert stage.guard.health("P").tainted_streams == 1


def test_a_stream_that_was_mended_by_hand_is_said_to_be(browser: Browser, stage: Stage) -> None:
    """From the list of tainted streams, by the keyboard, over the page that says what it means, to the stream's own."""
    stage.guard.resolve(stage.failed("A").id, "skip", actor="Olga")
    page = browser.visit(stage.serve().dashboard, at="projections/P/streams?show=tainted")
    link = page.get_by_role("link", name="It is mended: stream A")
    link.focus()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("an event was skipped by Olga")
    assert stage.guard.health("P").tainted_streams == 1
    page.get_by_role("textbox", name="Note").fill("the row was written by hand")
    page.get_by_role("button", name="It is mended").click()
    expect(page.get_by_role("status").filter(has_text="The taint has ended")).to_be_visible()
    expect(page.locator("main")).to_contain_text("mended by hand")
    assert stage.guard.health("P").tainted_streams == 0
    (entry,) = stage.guard.audit(action="untaint").items
    assert (entry.actor, entry.note) == ("Olga", "the row was written by hand")


def test_a_viewer_sees_no_button_and_cannot_act_without_one(browser: Browser, either_stage: Stage) -> None:
    """What acts is absent for a viewer, and refused where he sends it all the same."""
    failure = either_stage.failed("A")
    page = browser.visit(either_stage.serve().dashboard, "viewer", at=f"failures/{failure.id}")
    browser.expect("status of 403")
    acts = ["retry", "skip", "manual_fix"]
    assert page.locator("form[method=post], main .actions a, main button").count() == 0
    for act in acts:
        assert posted(page, f"./{failure.id}/{act}") == 403
        assert posted(page, f"../bulk/{act}") == 403
    page.goto("failures?projection=P")
    assert page.locator("form[method=post], main .actions a, tbody .button").count() == 0
    assert [each.action for each in either_stage.guard.audit().items] == []
    assert either_stage.guard.health("P").active_failures == 1


def test_it_works_without_javascript(browser: Browser, either_stage: Stage) -> None:
    """From the overview to the failure, and it is retried: links and forms alone."""
    failure = either_stage.failed("A", parked=1)
    either_stage.handler.heal()
    page = browser.visit(either_stage.serve().dashboard, java_script_enabled=False)
    page.locator("tbody tr").filter(has_text="P").locator("td[data-label=Failures] a").click()
    page.locator("tbody tr").get_by_role("link", name="ValueError", exact=True).click()
    page.locator("tbody tr").get_by_role("link", name="Happened").click()
    assert page.url.endswith(str(failure.id))
    page.get_by_role("button", name="Retry now").click()
    expect(page.get_by_role("status").filter(has_text="tried again and applied")).to_be_visible()
    either_stage.bed.wait_until(lambda: either_stage.guard.work() and not either_stage.guard.health("P").parked_events)
    assert either_stage.bed.effects("P") == [("A", 1), ("A", 2)]
