"""Where pages are, told relatively: a page finds the others under any prefix and behind any proxy, told of it or not.

A name or a stream stands in a path as one segment of letters, digits, `-`, `_`, `.` and `~`, however it is written: no
server or proxy on the way decodes, joins or refuses that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

__all__ = ["Links", "segment", "text_of"]

_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
_ESCAPED: Final = re.compile(r"~([0-9A-F]{2})")
_EMPTY: Final = "~"


def segment(text: str) -> str:
    """Write any text as one segment of a path; `text_of` reads it back."""
    if not text:
        return _EMPTY
    is_dots = not text.strip(".")  # "." and ".." mean something else in a path
    return "".join(character if character in _PLAIN and not is_dots else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    return "".join(f"~{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def text_of(given: str) -> str | None:
    """Read a segment; None where no text is written so."""
    if given == _EMPTY:
        return ""
    try:
        raw = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), given).encode("latin-1")
        text = raw.decode()
    except (UnicodeEncodeError, UnicodeDecodeError):
        return None
    return text if segment(text) == given else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The links of one page. `path` is its own, below the dashboard's root, without a slash at its beginning."""

    path: str
    query: tuple[tuple[str, str], ...] = ()

    @property
    def root(self) -> str:
        """The way up from this page to the overview."""
        return "../" * self.path.count("/") or "./"

    def to(self, *parts: str, **query: object) -> str:
        """Return the way to a page: its words and names, each a segment; of the query what is not None or empty."""
        return self.at("/".join(segment(part) for part in parts), **query)

    def at(self, path: str, **query: object) -> str:
        """Return the way to a page whose segments are written already."""
        return self._way(path, query)

    def here(self, **changes: object) -> str:
        """Return the way to this page, with a query that is changed so; None takes a parameter out."""
        asked: dict[str, object] = {**dict(self.query), **changes}
        return self._way(self.path, asked)

    def _way(self, path: str, query: Mapping[str, object]) -> str:
        asked = {name: str(value) for name, value in query.items() if value not in (None, "")}
        return f"{self.root}{path}{'?' if asked else ''}{urlencode(asked)}"

    def asset(self, name: str, version: str) -> str:
        """Return the way to a file that pages need; another version has another address."""
        return f"{self.root}assets/{version}/{name}"

    @staticmethod
    def matched(pattern: str, path: str) -> Mapping[str, str] | None:
        """Match a path against a pattern such as `projections/{name}`; return what stands for the names in it."""
        wanted, given = pattern.split("/"), path.split("/")
        if len(wanted) != len(given):
            return None
        found: dict[str, str] = {}
        for want, have in zip(wanted, given, strict=True):
            if not want.startswith("{"):
                if want != have:
                    return None
                continue
            text = text_of(have)
            if text is None or not have:
                return None
            found[want[1:-1]] = text
        return found
