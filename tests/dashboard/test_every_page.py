"""What holds on every page of the dashboard, found as a crawler finds them: also where texts are meant to do harm."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from projection_guard import FailureFilter
from projection_guard._dashboard.places import PLACES
from tests.dashboard.browser import PHONE, Browser
from tests.dashboard.crawling import Found, crawl, one_of_each
from tests.dashboard.scene import Scene
from tests.http.serving import Served
from tests.http.stage import Stage
from tests.turns import IS_EVERY

AXE = (Path(__file__).parent / "axe.min.js").read_text(encoding="utf-8")
HARM = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}</textarea><a href=javascript:alert(3)>&amp;"
BRAND = '<img src="'
SAID = [
    ("failure", "stream open", ["error", "type", "stream open", "projection", "note"]),
]
"""On which page, one that has which words on it, what is to be read as it was given."""
LONG = "averylongwordwithoutanyspace" * 7


def harmful(name: str) -> str:
    """Return a text that would do harm wherever it is not escaped, and that says what it is."""
    return f"{name} {HARM}"


@dataclass(frozen=True)
class Shown:
    """A dashboard with something on every page, and its pages as an operator finds them."""

    served: Served
    pages: list[Found]

    @property
    def kinds(self) -> dict[str, str]:
        """The path of one page of each kind."""
        return one_of_each(self.pages)


@pytest.fixture(scope="module")
def shown(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The dashboard of a service in which every text that is not ours is meant to do harm."""
    path = tmp_path_factory.mktemp("every_page") / "service.db"
    shutil.copyfile(sqlite_template, path)
    scene = Scene(f"sqlite:///{path}", harmful("projection"), harmful("replayed"), harmful("paused"), LONG)
    _happen(scene)
    with scene.served() as served:
        yield Shown(served, crawl(served.operator, served.dashboard))
    scene.close()


def _happen(scene: Scene) -> None:
    """Let everything happen that leaves something to be seen."""
    broken, replayed, paused, long = scene.names
    streams = [harmful(f"stream {word}") for word in ("open", "skipped", "retried", "planned")] + [LONG + "/" + LONG]
    for stream in streams:
        scene.broken[broken, stream] = harmful("error")
        for n in (1, 2):
            scene.append(harmful("type"), stream, title=harmful("title"), event_id=harmful(f"event {n} {stream[:20]}"))
    scene.broken[long, streams[-1]] = LONG
    scene.work()
    guard = scene.guard
    note = harmful("note")
    for stream in streams[:3]:
        guard.resolve(scene.failure(broken, stream).id, "retry", actor=harmful("actor"), note=note)
    guard.resolve(scene.failure(broken, streams[1]).id, "skip", actor=harmful("actor"), note=note)
    del scene.broken[broken, streams[2]]
    guard.resolve(scene.failure(broken, streams[2]).id, "retry", actor=harmful("actor"), note=note)
    guard.pause(paused, actor=harmful("actor"), reason=harmful("reason"))
    guard.replay(replayed, from_sequence=1, actor=harmful("actor"), note=note)
    proposed = guard.propose_bulk("retry", where=FailureFilter(projection_name=long), actor=harmful("actor"), note=note)
    guard.confirm_bulk(proposed.id, actor=harmful("actor"))
    scene.work()
    guard.start_replay(replayed, from_sequence=1, actor=harmful("actor"), note=note)
    guard.propose_bulk("skip", where=FailureFilter(projection_name=broken), actor=harmful("actor"), note=note)


def test_every_link_leads_to_a_page(shown: Shown) -> None:
    """A crawler that follows them all meets no refusal and no error, and comes to every kind of page."""
    refused = [f"{page.status} {page.path} from {page.linked_from}" for page in shown.pages if page.status >= 400]
    assert not refused, "\n".join(refused)
    assert {page.place for page in shown.pages} == {place.name for place in PLACES if place.method == "GET"}


def test_texts_from_elsewhere_are_escaped(shown: Shown) -> None:
    """None of what would do harm stands in any page as it was given, and each page was given some of it."""
    assert [page.path for page in shown.pages if "<img" in page.text.replace(BRAND, "")] == []
    assert [page.path for page in shown.pages if "alert(1)" in page.text] != []


def test_texts_from_elsewhere_stay_texts(browser: Browser, shown: Shown) -> None:
    """What is in an error, an event, a name, a stream or a note is read as it is, and does nothing."""
    page = browser.enter(shown.served.dashboard)
    for path in shown.kinds.values():
        page.goto(path)
        assert page.locator("main").locator("script, img, [onerror], a[href^='javascript:']").count() == 0, path
        assert page.locator("h1").count() == 1, path
    for place, holding, words in SAID:
        page.goto(next(each.path for each in shown.pages if each.place == place and escape(holding) in each.text))
        for word in words:
            expect(page.locator("main")).to_contain_text(harmful(word))


def test_an_event_is_shown_as_it_is(browser: Browser, stage: Stage) -> None:
    """What stands in its payload is text, also where somebody edits it."""
    failure = stage.failed(harmful("stream"))
    page = browser.visit(stage.serve(payloads_for="operator").dashboard, at=f"failures/{failure.id}")
    expect(page.get_by_label("Event", exact=True)).to_contain_text(HARM.replace('"', '\\"'))
    page.get_by_role("link", name="Edit and retry").click()
    assert HARM.replace('"', '\\"') in page.locator("textarea").first.input_value()
    assert page.locator("main").locator("script, img, [onerror]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"] if IS_EVERY else ["dark"])
def test_every_page_can_be_read_on_a_phone(browser: Browser, shown: Shown, scheme: Any) -> None:
    """No page is wider than a phone, whatever stands on it."""
    page = browser.enter(shown.served.dashboard, width=PHONE, color_scheme=scheme)
    wide: list[tuple[str, int, list[str]]] = []
    for path in shown.kinds.values():
        page.goto(path)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE:
            wide.append((path, width, page.evaluate(TOO_WIDE, PHONE)))
    assert wide == []


TOO_WIDE = """(most) => [...document.querySelectorAll("main *")]
  .filter((each) => each.getBoundingClientRect().right > most + 1)
  .slice(0, 5).map((each) => each.outerHTML.slice(0, 120))"""


def test_no_page_shuts_anybody_out(browser: Browser, shown: Shown) -> None:
    """axe-core finds nothing serious: names of fields, the order of headings, contrast in light and dark."""
    page = browser.enter(shown.served.dashboard)
    found: dict[str, list[str]] = {}
    for path in shown.kinds.values():
        page.goto(path)
        page.evaluate(AXE)
        found[path] = _serious(page, "{}")
        page.emulate_media(color_scheme="dark")
        found[path] += _serious(page, "{runOnly: {type: 'rule', values: ['color-contrast']}}")
        page.emulate_media(color_scheme="light")
    assert {path: violations for path, violations in found.items() if violations} == {}


def _serious(page: Page, options: str) -> list[str]:
    result = page.evaluate(f"axe.run({{resultTypes: ['violations'], preload: false, ...{options}}})")
    serious = [each for each in result["violations"] if each["impact"] in ("serious", "critical")]
    return [f"{each['id']}: {node['html'][:160]}" for each in serious for node in each["nodes"][:3]]
