"""Passwords are never on screen: whatever is written, for people or as JSON, goes through here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast

__all__ = ["Hidden"]

_STARS: Final = "***"
_IN_URL: Final = re.compile(r"(?<=://)([^\s:/@'\"]*):[^\s'\"]*@")
_IN_QUERY: Final = re.compile(r"(?i)\b(password|passwd|pwd|sslpassword)(\s*=\s*)('[^']*'|[^\s&'\"]+)")
_SHORTEST_WORD: Final = 4
"""A shorter one would be found in the middle of words; in a URL it is found by where it stands."""


class Hidden:
    """The passwords that are known, to be left out of every text."""

    def __init__(self) -> None:
        self._words: set[str] = set()

    def add(self, password: object) -> None:
        """Leave this one out, too."""
        if password is not None and len(str(password)) >= _SHORTEST_WORD:
            self._words.add(str(password))

    def out_of(self, text: str) -> str:
        """Return a text without passwords."""
        text = _IN_URL.sub(rf"\1:{_STARS}@", text)
        text = _IN_QUERY.sub(rf"\1\2{_STARS}", text)
        for word in sorted(self._words, key=len, reverse=True):
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", _STARS, text)
        return text

    def out_of_all(self, value: object) -> object:
        """Return JSON whose texts are without passwords; names of fields are ours."""
        if isinstance(value, str):
            return self.out_of(value)
        if isinstance(value, Mapping):
            return {key: self.out_of_all(each) for key, each in cast("Mapping[str, object]", value).items()}
        if isinstance(value, (list, tuple)):
            return [self.out_of_all(each) for each in cast("list[object]", value)]
        return value
