"""What leads out of the site: what a browser would load from elsewhere, and addresses that may have moved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from .names import ROOT
from .pages import links, pages

__all__ = ["answer", "dead_links", "loads"]

_LOADING: Final = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}
_LINK_KINDS: Final = {
    "stylesheet",
    "preload",
    "modulepreload",
    "prefetch",
    "icon",
    "manifest",
    "preconnect",
    "dns-prefetch",
}
_AWAY: Final = re.compile(r"(?:https?:)?//", re.IGNORECASE)
_TIMEOUT_SECONDS: Final = 20


class _Loads(HTMLParser):
    """Collects what a browser loads by itself while it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        wanted = given.get(_LOADING.get(tag, ""), "")
        if tag == "link" and _LINK_KINDS & set(given.get("rel", "").split()):
            wanted = given.get("href", "")
        if _AWAY.match(wanted):
            self.found.append(f"<{tag}> {wanted}")
        if tag in ("pre", "div") and "mermaid" in given.get("class", "").split():
            self.found.append("a mermaid diagram: the theme's script fetches its renderer from a CDN")


def loads(site: Path) -> Iterator[str]:
    """Return what the built pages would have a browser load from elsewhere, each with its page or style sheet."""
    for file in sorted(site.rglob("*.html")):
        parser = _Loads()
        parser.feed(file.read_text(encoding="utf-8"))
        yield from (f"{file.relative_to(site)}: {found}" for found in parser.found)
    for file in sorted(site.rglob("*.css")):
        for found in re.findall(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]+)", file.read_text(encoding="utf-8")):
            yield f"{file.relative_to(site)}: {found}"


def dead_links() -> Iterator[str]:
    """Ask each address of another site whether it still answers; return those that do not, with where they stand."""
    addresses: dict[str, list[str]] = {}
    for page in pages():
        for link in links(page.read_text(encoding="utf-8")):
            if link.is_external and link.target.startswith("http"):
                addresses.setdefault(link.target, []).append(f"{page.relative_to(ROOT)}:{link.line}")
    for address, places in sorted(addresses.items()):
        said = answer(address)
        if said is not None:
            yield f"{address} ({', '.join(places)}): {said}"


def answer(address: str) -> str | None:
    """Return what is wrong with an address; None where it answers."""
    request = Request(address, headers={"User-Agent": "projection_guard: make links"})
    try:
        with urlopen(request, timeout=_TIMEOUT_SECONDS):
            return None
    except HTTPError as error:
        return f"{error.code} {error.reason}"
    except (URLError, TimeoutError) as error:
        return str(error)
