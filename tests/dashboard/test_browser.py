"""The suite's browser sees what no page may do: otherwise the tests that rely on it would say nothing."""

from __future__ import annotations

import pytest
from playwright.sync_api import Route

from tests.dashboard.browser import Browser

HOST = "http://dashboard.test/"
BAD = {
    "an inline script": ("<script>1</script>", "CSP script-src"),
    "a handler in an attribute": ("<img src=/x onerror='1' alt=''>", "CSP script-src-attr"),
    "a style in an attribute": ("<p style='color: red'>text</p>", "CSP style-src-attr"),
    "another host": ("<img src='http://elsewhere.test/x' alt=''>", "elsewhere http://elsewhere.test/x"),
    "an answer that fails": ("<img src='/broken' alt=''>", "answer 500"),
    "an error": ("<script src='/throws'></script>", "error"),
    "a dialog": ("<script src='/alerts'></script>", "dialog 1"),
    "a silent server": ("<img src='/silent' alt=''>", "failed GET"),
}


def _answer(route: Route, body: str) -> None:
    path = route.request.url.removeprefix(HOST)
    scripts = {"throws": "nothing.at.all", "alerts": "alert(1)"}
    if path == "silent":
        route.abort()
    elif path == "":
        policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src *"
        route.fulfill(body=body, content_type="text/html", headers={"Content-Security-Policy": policy})
    elif path in scripts:
        route.fulfill(body=scripts[path], content_type="text/javascript")
    else:
        route.fulfill(status=500 if path == "broken" else 200, body="")


@pytest.mark.parametrize("what", BAD)
def test_the_browser_sees_what_no_page_may_do(browser: Browser, what: str) -> None:
    """Each kind of it would fail the test in which it happens."""
    body, said = BAD[what]
    page = browser.enter(HOST)
    page.context.route("**/*", lambda route: _answer(route, body))
    page.goto("./")
    for _ in range(300):  # the page is there; what it did is told right after
        if any(said in trouble for trouble in browser.troubles()):
            break
        page.wait_for_timeout(100)
    else:
        pytest.fail(f"seen: {browser.troubles()}")
    browser.expect(".*")


def test_a_page_that_does_nothing_wrong_is_no_trouble(browser: Browser) -> None:
    """The same page without any of that."""
    page = browser.enter(HOST)
    page.context.route("**/*", lambda route: _answer(route, "<p>text</p>"))
    page.goto("./")
    assert browser.troubles() == []
