"""The dashboard works wherever it is put: under any prefix, and behind proxies that take a path off and say nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

from tests.bed import happened
from tests.dashboard.browser import Browser
from tests.dashboard.crawling import crawl
from tests.dashboard.proxy import proxied
from tests.http.serving import Mount, Served
from tests.http.stage import Stage

AWAY = "/somewhere/else"
PLACES = {
    "under a prefix": (Mount(prefix="/a/b"), "/"),
    "behind a proxy that is told of": (Mount(prefix="/ops", root_path=AWAY), f"{AWAY}/"),
    "behind a proxy that is not": (Mount(prefix="/ops"), f"{AWAY}/"),
}
"""How it is mounted, and what the proxy in front of it takes off."""


@contextmanager
def _placed(stage: Stage, place: str) -> Iterator[tuple[Served, str]]:
    mount, stripped = PLACES[place]
    served = stage.serve(mount=mount)
    if stripped == "/":
        yield served, served.dashboard
        return
    with proxied(served.dashboard, stripped) as proxy:
        yield served, proxy.seen_from_outside(served.dashboard)


@pytest.mark.parametrize("place", PLACES)
def test_it_works_wherever_it_is_put(browser: Browser, either_stage: Stage, place: str) -> None:
    """Links, forms, where a form leads, what keeps a page up to date, and every link that a crawler finds."""
    either_stage.failed("A")
    either_stage.handler.heal()
    with _placed(either_stage, place) as (served, address):
        page = browser.visit(address.rstrip("/"), at=address.rstrip("/"))
        assert page.url == address
        page.get_by_role("navigation", name="Pages").get_by_role("link", name="Failures").click()
        page.locator("tbody tr").get_by_role("link", name="ValueError", exact=True).click()
        page.locator("tbody tr").get_by_role("link", name="Happened").click()
        page.get_by_role("button", name="Retry now").click()
        expect(page.get_by_role("status").filter(has_text="tried again and applied")).to_be_visible()
        assert page.url.startswith(address)
        page.clock.install()
        page.locator("a.brand").click()
        assert page.url == address
        either_stage.handler.failing.add("B#1")
        either_stage.guard.publish(happened("B", 1))
        page.clock.run_for(4_000)
        expect(page.locator("td[data-label=Failures]")).to_contain_text("1")
        found = crawl(served.operator, address)
        assert [each for each in found if each.status >= 400] == []
        assert len(found) > 5


def test_a_redirect_to_the_one_address_stays_behind_the_proxy(either_stage: Stage) -> None:
    """It is told relatively: the application does not know where its visitors see it."""
    with _placed(either_stage, "behind a proxy that is not") as (served, address):
        for given, meant in (("", ""), ("failures/", "failures")):
            answer = served.viewer.get(f"{address.rstrip('/')}{'/' if given else ''}{given}?a=1")
            assert answer.status_code == 303
            assert str(answer.next_request.url if answer.next_request else "") == f"{address}{meant}?a=1"
