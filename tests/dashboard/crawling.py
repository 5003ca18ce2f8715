"""Finds every page of a dashboard as a crawler does: from link to link, beginning with the overview."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit

import httpx

from projection_guard._dashboard.links import Links
from projection_guard._dashboard.places import PLACES

__all__ = ["Found", "crawl", "named", "one_of_each"]

_MOST = 400


@dataclass(frozen=True, slots=True)
class Found:
    """A page that a link leads to. `path` is what comes after the dashboard's own, with the query."""

    path: str
    status: int
    place: str
    text: str
    linked_from: str


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.extend(value or "" for name, value in attrs if tag == "a" and name == "href")


def crawl(client: httpx.Client, dashboard: str) -> list[Found]:
    """Follow every link of every page that is the dashboard's own; each address once."""
    found: list[Found] = []
    waiting = [(dashboard, "")]
    known = {dashboard}
    while waiting:
        address, before = waiting.pop(0)
        answer = client.get(address, follow_redirects=True)
        path = address.removeprefix(dashboard)
        found.append(Found(path or "./", answer.status_code, named(path), answer.text, before))
        assert len(found) < _MOST, f"more than {_MOST} pages: {[each.path for each in found[-20:]]}"
        reader = _Addresses()
        reader.feed(answer.text)
        for href in reader.found:
            to = urldefrag(urljoin(str(answer.url), href)).url
            if to.startswith(dashboard) and to not in known:
                known.add(to)
                waiting.append((to, path))
    return found


def named(path: str) -> str:
    """Return which place answers at a path; "" where none does."""
    bare = urlsplit(path).path
    matching = [place.name for place in PLACES if place.method == "GET" and Links.matched(place.path, bare) is not None]
    return matching[0] if matching else ""


def one_of_each(pages: list[Found]) -> dict[str, str]:
    """Return the path of one page of each kind: the one with the most on it."""
    longest: dict[str, Found] = {}
    for page in pages:
        if page.place not in longest or len(page.text) > len(longest[page.place].text):
            longest[page.place] = page
    return {place: page.path for place, page in longest.items()}
