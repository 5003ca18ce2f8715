"""How tests open pages and send their forms, as a browser does that runs no scripts.

page = visitor.sees("projections/P")               # as an operator; 200, and what holds for every page
page.text, page.links, page.forms                  # what stands there, where it leads
page = visitor.sends("projections/P/pause", reason="x")    # a form, and the page that the browser goes on to
visitor.viewer.sees("projections/P")               # the same, as a viewer
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Literal
from urllib.parse import urljoin

import httpx

from tests.http.serving import Served
from tests.http.stage import Stage

__all__ = ["Page", "Visitor"]

_UNSEEN = ("script", "style", "title")
_APART = ("dt", "dd", "td", "th", "li", "p", "h1", "h2", "a", "small")


@dataclass(slots=True)
class Page:
    """A page: its text as people read it, and the addresses, below the dashboard, of its links and forms."""

    status: int
    text: str = ""
    headings: list[str] = field(default_factory=list[str])
    links: list[str] = field(default_factory=list[str])
    forms: list[str] = field(default_factory=list[str])
    buttons: list[str] = field(default_factory=list[str])

    def says(self, *words: str) -> bool:
        """Return whether all of this stands on the page."""
        missing = [word for word in words if word not in self.text]
        assert not missing, f"{missing} not in: {self.text}"
        return True


class _Reader(HTMLParser):
    def __init__(self, at: str, root: str) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page(status=200)
        self._at, self._root = at, root
        self._open: list[str] = []
        self._words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert "style" not in given, f"a style= in {tag}: the policy forbids it"
        assert not any(name.startswith("on") for name in given), f"a script in an attribute of {tag}"
        if tag not in ("meta", "link", "input", "br", "img", "path", "rect", "line"):
            self._open.append(tag)
        if tag == "a":
            self.page.links.append(self._below(given["href"] or ""))
        if tag == "form" and given.get("method") == "post":
            self.page.forms.append(self._below(given["action"] or ""))
        if tag == "h1":
            self.page.headings.append("")
        if tag == "button":
            self.page.buttons.append("")

    def _below(self, address: str) -> str:
        return urljoin(self._at, address).removeprefix(self._root)

    def handle_endtag(self, tag: str) -> None:
        if tag in _APART:
            self._words.append(" ")
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if any(tag in self._open for tag in _UNSEEN):
            return
        self._words.append(data)
        for inside, heard in (("h1", self.page.headings), ("button", self.page.buttons)):
            if inside in self._open:
                heard[-1] += data

    def read(self, content: str) -> Page:
        self.feed(content)
        self.page.text = re.sub(r"\s+", " ", "".join(self._words)).replace("\u202f", " ")
        self.page.headings = [" ".join(heading.split()) for heading in self.page.headings]
        return self.page


class Visitor:
    """Somebody who opens pages. The stage is served at the first visit."""

    def __init__(self, stage: Stage, role: Literal["operator", "viewer"] = "operator", **options: Any) -> None:
        self._stage = stage
        self._role = role
        self._options = options
        self._viewer: Visitor | None = None
        self._served: Served | None = None

    @property
    def served(self) -> Served:
        """The server."""
        if self._served is None:
            self._served = self._stage.serve(**self._options)
        return self._served

    @property
    def viewer(self) -> Visitor:
        """One who may only look."""
        if self._viewer is None:
            self._viewer = Visitor(self._stage, "viewer")
            self._viewer._served = self.served
        return self._viewer

    @property
    def _client(self) -> httpx.Client:
        return self.served.operator if self._role == "operator" else self.served.viewer

    def asks(self, path: str) -> httpx.Response:
        """Ask for a page."""
        return self._client.get(f"/dashboard/{path}")

    def sees(self, path: str, status: int = 200) -> Page:
        """Open a page, and look at what holds for all of them."""
        response = self.asks(path)
        assert response.status_code == status, f"{path}: {response.status_code} {response.text}"
        return self._read(response)

    def _read(self, response: httpx.Response) -> Page:
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert "unsafe" not in response.headers["content-security-policy"]
        assert response.headers["cache-control"] == "no-store"
        at, root = str(response.url), f"{self.served.url}/dashboard/"
        page = _Reader(at, root).read(response.text)
        page.status = response.status_code
        assert len(page.headings) == 1, f"{at} has the headings {page.headings}"
        assert len(response.content) < 300_000
        return page

    def posts(self, path: str, **fields: str) -> httpx.Response:
        """Send a form."""
        return self._client.post(f"/dashboard/{path}", data=fields, headers={"Sec-Fetch-Site": "same-origin"})

    def sends(self, path: str, **fields: str) -> Page:
        """Send a form, and go on to where the browser is led; what was asked for is in `went`."""
        response = self.posts(path, **fields)
        assert response.status_code == 303, f"{path}: {response.status_code} {response.text}"
        self.went = urljoin(str(response.url), response.headers["location"])
        return self._read(self._client.get(self.went))

    went: str = ""
