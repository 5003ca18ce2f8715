"""A page of an application's log, whatever its events are called: what may be passed on, up to where, with what holes.

Positions are drawn before they can be seen, and some are never used: a hole is waited for until it is final.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Generic, Protocol, TypeVar

from .._source import Skipped

__all__ = ["Holes", "Page", "Pages"]

E = TypeVar("E")
_NOBODY: Final = "nobody was left who could have filled it"


class Holes(Protocol):
    """What is known of the holes of a log."""

    def final_up_to(self, hole: tuple[int, int], seen: int) -> int:
        """Return up to where nothing can appear any more; below the hole's end while that may still be filled.

        `seen` is the position behind the hole at which something was seen.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[E]):
    """What was found, and up to where. All that will ever stand there is in this page or an earlier one."""

    found: Sequence[E]
    position: int
    skipped: Sequence[Skipped] = ()
    is_held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages(Generic[E]):
    """Reads pages. `select(after, limit, until)` gives what can be seen now, each at its `position` (an attribute)."""

    select: Callable[[int, int, int | None], Sequence[E]]
    position: str
    holes: Holes

    def read(self, after: int, limit: int, until: int | None) -> Page[E]:
        """Return the next page; never waits."""
        at: Callable[[Any], int] = attrgetter(self.position)
        found = self.select(after, limit, until)
        end = self._end(found, after, limit, until)
        open_holes = _holes(after, [at(each) for each in found], end)
        if not open_holes:
            return Page(found=found, position=end)
        final = self.holes.final_up_to(open_holes[0], end)
        if final < open_holes[0][1]:
            before = open_holes[0][0] - 1
            return Page(found=[each for each in found if at(each) <= before], position=before, is_held=True)
        final = final if until is None else min(final, until)
        found = self.select(after, limit, final)  # whoever was waited for may have committed meanwhile
        end = final if len(found) < limit else at(found[-1])
        holes = _holes(after, [at(each) for each in found], end)
        skipped = [Skipped(first=first, last=last, reason=_NOBODY) for first, last in holes]
        return Page(found=found, position=end, skipped=skipped)

    def _end(self, found: Sequence[E], after: int, limit: int, until: int | None) -> int:
        """Return how far these reach: to the last of them, or to `until` where the log is beyond that."""
        last: int = getattr(found[-1], self.position) if found else after
        if until is None or len(found) >= limit or last == until:
            return last
        return until if self.select(until, 1, None) else last


def _holes(after: int, positions: Sequence[int], end: int) -> list[tuple[int, int]]:
    """Return the ranges between `after` and `end` in which there is nothing, ends included."""
    if end - after == len(positions):
        return []
    holes: list[tuple[int, int]] = []
    for position in (*positions, end + 1):
        if position > after + 1:
            holes.append((after + 1, position - 1))
        after = position
    return holes
