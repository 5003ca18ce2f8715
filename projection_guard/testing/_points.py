"""The points of the flow at which a test can break it: their names, and how the one that is meant is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from ..errors import InvalidArgument

__all__ = ["CRASH_POINTS", "CrashPoint", "Passing", "Side", "Step", "point_of"]

Side = Literal["before", "after"]
Step = Literal["begin", "statement", "handler", "commit"]

CRASH_POINTS: Final = (
    "before begin",
    "after begin",
    "before statement",
    "after statement",
    "before handler",
    "after handler",
    "before commit",
    "after commit",
)
"""What `crash_at` takes, in the order of a delivery. A number may follow: "after commit 2"; the first is meant without.

`begin`: a transaction of the guard is opened. `statement`: one, or several in one round trip, of the guard's or of the
handler's. `handler`: the application's code. `commit`: what was written so far is there for others; "after commit" is
the lost reply.
"""


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """A point that was passed: on which side of which step, counted from 1 for each kind of step."""

    side: Side
    step: Step
    number: int = 1

    @property
    def kind(self) -> str:
        """The point without its number, as in `CRASH_POINTS`."""
        return f"{self.side} {self.step}"

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"


def point_of(says: str) -> CrashPoint:
    """Read a point's name. Raises `InvalidArgument`."""
    side, _, rest = says.partition(" ")
    step, _, number = rest.partition(" ")
    if side in get_args(Side) and step in get_args(Step) and (not number or (number.isdecimal() and int(number))):
        return CrashPoint(cast("Side", side), cast("Step", step), int(number or 1))
    raise InvalidArgument(f"There is no crash point {says!r}: it is one of {', '.join(CRASH_POINTS)}, and a number")


class Passing:
    """Counts the points that are passed, and strikes at the first one of which `is_meant` is true."""

    def __init__(self, is_meant: Callable[[CrashPoint], bool]) -> None:
        self.passed: list[CrashPoint] = []
        self.struck: CrashPoint | None = None
        self._is_meant = is_meant
        self._seen: Counter[Step] = Counter()

    @contextmanager
    def step(self, step: Step, strike: Callable[[CrashPoint], None]) -> Generator[None]:
        """Pass the two points of a step; the second one only if the step ends well."""
        self._seen[step] += 1
        number = self._seen[step]
        self._pass(CrashPoint("before", step, number), strike)
        yield
        self._pass(CrashPoint("after", step, number), strike)

    def _pass(self, point: CrashPoint, strike: Callable[[CrashPoint], None]) -> None:
        self.passed.append(point)
        if self.struck is None and self._is_meant(point):
            self.struck = point
            strike(point)
