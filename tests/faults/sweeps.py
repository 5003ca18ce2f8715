"""A process dies in one place after the other, and each time another one takes up what it left.

sweep = Sweep(bed, zygote, "retried", "joined", journal, url=proxy.url, is_over=no_session_is_left)
reached = sweep.run(range(1, 400), break_it, has_happened)      # until one place is not reached

CI takes each place of the short kinds and some of the long ones; `PROJECTION_GUARD_FAULTS=every` takes them all.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.bed import Bed
from tests.faults.crashes import KINDS, Play, company, one_engine
from tests.faults.zygote import End, Zygote
from tests.following.logs import FollowedLog

__all__ = ["IS_EVERY", "Sweep", "handlers", "is_left_out", "places"]

IS_EVERY = os.environ.get("PROJECTION_GUARD_FAULTS") == "every"
_STRIDE = 9
_MOST = 400
_PLACES = itertools.count(1)
"""A stream of its own for each."""


def handlers(name: str) -> tuple[str, ...]:
    """Return the handlers for which there is such a kind: a reset clears nothing that is elsewhere."""
    return ("joined",) if name == "reset" else ("joined", "apart")


def is_left_out(bed: Bed, name: str, handler: str) -> bool:
    """Return whether CI leaves this out: of a long kind it takes one handler blocking, and the other one async."""
    if IS_EVERY or KINDS[name].is_short:
        return False
    is_odd = list(KINDS).index(name) % 2
    return (handler == "apart") ^ bed.is_async ^ bool(is_odd)


def places(bed: Bed, name: str) -> Iterable[int]:
    """Return where to break it: everywhere, or every so often, beginning elsewhere for each kind and guard."""
    if IS_EVERY or KINDS[name].is_short:
        return range(1, _MOST)
    return range(1 + (3 * list(KINDS).index(name) + 5 * bed.is_async) % _STRIDE, _MOST, _STRIDE)


class Sweep:
    """One kind of event, and one who dies of it in one place after the other. `url`: where he finds the database.

    `is_over` says when the database has done with him. In `left` stands what each one left: states, by events' numbers.
    """

    def __init__(
        self,
        bed: Bed,
        zygote: Zygote,
        name: str,
        handler: str,
        journal: Path,
        *,
        url: str,
        is_over: Callable[[], bool] = lambda: True,
    ) -> None:
        self._bed = bed
        self._zygote = zygote
        self._name = name
        self._handler = handler
        self._journal = journal
        self._is_over = is_over
        self._told = {"url": url, "kind": bed.kind, "handler": handler, "journal": str(journal)}
        self._failing = set[str]()
        self.left: list[dict[int, str]] = []
        one_engine(bed)
        self._log = FollowedLog(bed) if KINDS[name].is_followed else None
        self._guard = self._healthy()
        self._guard.work()

    def run(
        self,
        places: Iterable[int],
        break_it: Callable[[int, int], int | None],
        has_happened: Callable[[int, End], bool],
        **order: Any,
    ) -> int:
        """Break one place after the other by `break_it(pid, place)`, until one is not reached; return the last one."""
        reached = 0
        for place in places:
            end = self.once(lambda pid, place=place: break_it(pid, place), **order)  # type: ignore[misc]
            if not has_happened(place, end):
                assert end.returned, end
                return reached
            reached = place
        pytest.fail("it was never survived")

    def once(self, break_it: Callable[[int], int | None], **order: Any) -> End:
        """Let one die, look at what he leaves, and let a healthy one take it up."""
        play = Play(
            self._bed,
            self._name,
            self._handler,
            self._journal,
            place=next(_PLACES),
            failing=self._failing,
            log=self._log,
        )
        play.prepare(self._guard)
        end = self._zygote.let_die({**self._told, **play.order(), **order}, break_it=break_it)
        self._bed.wait_until(self._is_over)
        play.check_at_rest(returned=end.returned)
        self.left.append(play.left())
        self._guard = self._healthy()
        play.take_up(self._guard, returned=end.returned)
        return end

    def _healthy(self) -> Any:
        return company(self._bed, self._handler, self._journal, self._failing, self._log)
