"""A traceback as people read it: which line of the application's own code went wrong, and the way there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Frame", "Traceback", "read"]

_FRAME: Final = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>.+)')
_NOT_THEIRS: Final = ("/site-packages/", "/dist-packages/", "/projection_guard/_", "/lib/python3", "<frozen ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A call on the way to the error. `is_theirs`: it is in the application's own code, as far as its path tells."""

    file: str
    line: int
    function: str
    code: str
    is_theirs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Traceback:
    """A traceback, and the call to be looked at first, which stands in its lines from `begins` to `ends`."""

    lines: tuple[str, ...]
    where: Frame | None
    begins: int
    ends: int

    @property
    def before(self) -> str:
        """What stands before the call to be looked at."""
        return "\n".join(self.lines[: self.begins])

    @property
    def here(self) -> str:
        """The lines of that call."""
        return "\n".join(self.lines[self.begins : self.ends])

    @property
    def after(self) -> str:
        """What stands behind it."""
        return "\n".join(self.lines[self.ends :])


def read(text: str) -> Traceback:
    """Read a traceback as failures keep it: the calls, the error's type, then what it came of, each told the same way.

    Of the calls in the application's own code the deepest is to be looked at first.
    """
    lines = tuple(text.rstrip("\n").split("\n"))
    found = _frames(lines)
    theirs = [each for each in found if each[0].is_theirs] or found
    if not theirs:
        return Traceback(lines=lines, where=None, begins=0, ends=0)
    frame, begins, ends = theirs[-1]
    return Traceback(lines=lines, where=frame, begins=begins, ends=ends)


def _frames(lines: Sequence[str]) -> list[tuple[Frame, int, int]]:
    """Return the calls of the error itself, each with the lines that it takes."""
    found: list[tuple[Frame, int, int]] = []
    number = 0
    while number < len(lines) and lines[number].startswith("  "):
        match = _FRAME.fullmatch(lines[number])
        begins, number = number, number + 1
        if match is None:
            continue
        while number < len(lines) and lines[number].startswith("    "):
            number += 1
        found.append((_frame(match, lines[begins + 1 : number]), begins, number))
    return found


def _frame(match: re.Match[str], code: Sequence[str]) -> Frame:
    path = match["file"].replace("\\", "/")
    return Frame(
        file=match["file"],
        line=int(match["line"]),
        function=match["function"],
        code=code[0].strip() if code else "",
        is_theirs=not any(part in path for part in _NOT_THEIRS),
    )
