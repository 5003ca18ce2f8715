"""Pages keep up to date: only while somebody looks, without taking him out of his place; they say when they cannot."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.dashboard.browser import Browser
from tests.dashboard.proxy import proxied
from tests.http.stage import Stage

HIDDEN = """(isHidden) => {
  Object.defineProperty(document, "hidden", {configurable: true, get: () => isHidden});
  document.dispatchEvent(new Event("visibilitychange"));
}"""
A_WHILE = 20_000
"""So many milliseconds are several looks, on every page."""


def _looks(page: Page) -> list[str]:
    """Return a list to which each look that the page takes by itself is added."""
    seen: list[str] = []

    def note(request: Request) -> None:
        if request.headers.get("hx-request"):
            seen.append(request.url)

    page.on("request", note)
    return seen


def test_a_hidden_page_asks_nothing_and_looks_at_once_when_it_is_seen_again(browser: Browser, stage: Stage) -> None:
    """A dashboard in a forgotten tab costs nobody anything."""
    page = browser.enter(stage.serve().dashboard)
    looks = _looks(page)
    page.clock.install()
    page.goto("./")
    with page.expect_response(lambda response: "hx-request" in response.request.headers):
        page.clock.run_for(4_000)
    page.evaluate(HIDDEN, True)
    looks.clear()
    page.clock.run_for(A_WHILE)
    assert looks == []
    with page.expect_response(lambda response: "hx-request" in response.request.headers):
        page.evaluate(HIDDEN, False)
    assert len(looks) == 1


def test_a_page_says_when_the_server_is_silent_and_when_it_is_back(browser: Browser, stage: Stage) -> None:
    """What is old must not look new."""
    address = stage.serve().dashboard
    with proxied(address) as proxy:
        page = browser.enter(proxy.seen_from_outside(address))
        browser.expect("ERR_EMPTY_RESPONSE|htmx:(sendError|afterRequest)")
        page.clock.install()
        page.goto("./")
        stale = page.get_by_text("The server does not answer")
        expect(stale).to_be_hidden()
        proxy.is_down = True
        page.clock.run_for(4_000)
        expect(stale).to_be_visible()
        proxy.is_down = False
        page.clock.run_for(4_000)
        expect(stale).to_be_hidden()


def test_a_look_takes_nobody_out_of_what_he_is_doing(browser: Browser, stage: Stage) -> None:
    """The focus, and what is written in a field, are the same when the page has been drawn anew."""
    for n in range(11):  # so many that they can be searched
        stage.also(f"Another {n:02}")
    page = browser.enter(stage.serve().dashboard)
    page.clock.install()
    page.goto("./")
    link = page.get_by_role("link", name="Another 07", exact=True)
    search = page.get_by_role("searchbox", name="Name")
    search.fill("half a wo")
    for place in (link, search):
        place.focus()
        stage.failed("A" if place is link else "B")
        page.clock.run_for(4_000)
        expect(page.locator("td[data-label=Failures]").first).to_contain_text("1" if place is link else "2")
        expect(place).to_be_focused()
    expect(search).to_have_value("half a wo")


@pytest.mark.parametrize("status", [200, 401])
def test_a_page_is_not_replaced_where_the_session_has_ended(browser: Browser, stage: Stage, status: int) -> None:
    """Neither by a page to sign in, to which somebody has led the look, nor by a refusal; it says so, and stays."""
    page = browser.enter(stage.serve().dashboard)
    browser.expect("status of 401|Response Status Error Code|htmx:")
    page.clock.install()
    page.goto("./")
    looks = _looks(page)
    body = "<!doctype html><title>Login</title><h1>Sign in here</h1><form><input name=password></form>"

    def answer(route: Route) -> None:
        if "hx-request" in route.request.headers:
            route.fulfill(status=status, content_type="text/html", body=body)
        else:
            route.continue_()

    page.route("**/*", answer)
    page.clock.run_for(4_000)
    expect(page.locator("#stale")).to_be_visible()
    expect(
        page.get_by_text("session may have ended" if status == 401 else "answers with something else")
    ).to_be_visible()
    expect(page.get_by_role("link", name="P", exact=True)).to_be_visible()
    expect(page.get_by_text("Sign in here")).to_have_count(0)
    before = len(looks)
    if status == 401:
        page.clock.run_for(A_WHILE)
        assert len(looks) == before  # a refusal is on record each time: once is enough
    else:
        with page.expect_response(lambda response: "hx-request" in response.request.headers):
            page.clock.run_for(4_000)
    page.unroute("**/*")
    if status == 401:
        page.get_by_role("link", name="Load the page again").click()
    else:
        page.clock.run_for(4_000)
    expect(page.locator("#stale")).to_be_hidden()
