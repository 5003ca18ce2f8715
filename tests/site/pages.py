"""Markdown as it is written here: which pages there are, their headings' anchors, and their links.

Python code knows the pages before any generator does, so that what is wrong with a link is told in a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .names import ROOT

__all__ = ["Link", "anchors", "links", "pages", "without_code"]

_LINK: Final = re.compile(r"(?<!\\)(!?\[(?:[^\[\]]|\[[^\[\]]*\])*\])\(([^()\s]+(?:\([^()\s]*\))?)(?: \"[^\"]*\")?\)")
_CODE: Final = re.compile(r"(`+)(?:.+?)(?<!`)\1(?!`)")
_FENCE: Final = re.compile(r" *(```+|~~~+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link as it stands on a page: `target` is a path or an address, `anchor` what follows its #."""

    line: int
    target: str
    anchor: str

    @property
    def is_external(self) -> bool:
        """True where it leads out of the repository."""
        return re.match(r"[a-z]+:", self.target) is not None


def pages() -> list[Path]:
    """Return every page that people read: in docs, at the root, and each example's README."""
    return [
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "examples").rglob("*.md")),
    ]


def without_code(text: str) -> Iterator[tuple[int, str]]:
    """Return the lines of a page that are in no block of code, with their numbers."""
    fence = None
    for number, line in enumerate(text.splitlines(), start=1):
        opening = _FENCE.match(line)
        if opening and fence is None:
            fence = opening[1]
        elif fence is not None:
            if opening and opening[1].startswith(fence):
                fence = None
        else:
            yield number, line


def links(text: str) -> Iterator[Link]:
    """Return the links and images of a page; an image within a link comes before it."""
    for number, line in without_code(text):
        yield from _links_in(number, _CODE.sub("code", line))


def _links_in(number: int, text: str) -> Iterator[Link]:
    for found in _LINK.finditer(text):
        yield from _links_in(number, found[1].lstrip("!")[1:-1])
        target, _, anchor = found[2].partition("#")
        yield Link(line=number, target=target, anchor=anchor)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them, and those written as `<a id=...>`."""
    found: dict[str, int] = {}
    for _, line in without_code(text):
        heading = re.match(r"#{1,6} +(.*?)(?: +#+)?$", line)
        if heading:
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", words.lower()).strip().replace(" ", "-")
            count = found.get(slug, 0)
            found[slug] = count + 1
            if count:
                found[f"{slug}-{count}"] = 1
    return {*found, *re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text)}
