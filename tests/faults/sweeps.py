"""A process dies in one place after the other, and each time another one takes up what it left.

sweep = Sweep(bed, zygote, "retried", "joined", journal, url=proxy.url, is_over=no_session_is_left)
reached = sweep.run(range(1, 400), break_it, has_happened)      # until one place is not reached

CI takes each place of the short kinds and every twenty-ninth of the long ones, each kind one way: joined or apart,
blocking or async. `PROJECTION_GUARD_FAULTS=every` takes them all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import pytest

from tests.bed import Bed, database_of
from tests.faults.crashes import KINDS, Play, company, one_engine
from tests.faults.zygote import End, Zygote
from tests.following.logs import FollowedLog
from tests.turns import IS_EVERY

__all__ = ["Sweep", "bed_of", "places", "ways"]

GUARDS: Final[tuple[Literal["blocking", "async"], ...]] = ("blocking", "async")
_STRIDE = 29
_FEW, _STRIDE_OF_FEW = {"first"}, 5
_MOST = 400
_PLACES = itertools.count(1)
"""A stream of its own for each."""


def ways(*, shift: int) -> list[tuple[str, str, Literal["blocking", "async"]]]:
    """Return what is swept: each kind with its handlers, blocking and async; in CI each kind one of these four ways.

    Which one goes round from kind to kind; `shift` begins elsewhere. A reset clears nothing that is elsewhere.
    """
    found: list[tuple[str, str, Literal["blocking", "async"]]] = []
    for index, name in enumerate(KINDS, start=shift):
        handlers = ("joined",) if name == "reset" else ("joined", "apart")
        if IS_EVERY:
            found += [(name, handler, kind) for handler in handlers for kind in GUARDS]
        else:
            found.append((name, handlers[index % len(handlers)], GUARDS[index // 2 % 2]))
    return found


def places(name: str, *, strides: bool) -> Iterable[int]:
    """Return where to break it: everywhere, or every so often, beginning elsewhere for each kind."""
    if IS_EVERY or not strides:
        return range(1, _MOST)
    stride = _STRIDE_OF_FEW if name in _FEW else _STRIDE
    return range(1 + 4 * list(KINDS).index(name) % min(stride, 12), _MOST, stride)


@contextmanager
def bed_of(url: str, kind: Literal["blocking", "async"]) -> Iterator[Bed]:
    """A bed on a database that is this test's own."""
    made = Bed(kind, database_of(url), url)
    try:
        yield made
    finally:
        made.close()


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
