"""Charts as geometry: what a template draws as SVG, with neither scripts nor styles of its own.

A point for which nobody has kept a figure is a gap in the line, never a zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil, floor, log10
from typing import Final

__all__ = ["Chart", "Hint", "Tick", "chart", "sparkline"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 6.0, 8.0, 18.0
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_NOTHING: Final = 1e-9  # what is less is drawn as none: of the least numbers that there are a quarter is 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A line of the grid, or a time under it: where, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """The column of one point, and what it says when a pointer rests on it."""

    left: float
    width: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A line and the area under it, in the coordinates of a box `width` by `height`. Empty: nothing is known."""

    width: float
    height: float
    line: str = ""
    area: str = ""
    rows: tuple[Tick, ...] = ()
    columns: tuple[Tick, ...] = ()
    hints: tuple[Hint, ...] = ()
    last: str = ""
    highest: str = ""

    @property
    def is_empty(self) -> bool:
        """True where there is nothing to draw."""
        return not self.line

    @property
    def plot(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of where the line is."""
        return _LEFT, _TOP, self.width - _RIGHT, self.height - _BOTTOM


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float
    highest: float

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * min(value / self.highest, 1.0)

    def x(self, number: int, of: int) -> float:
        return self.left if of < 2 else self.left + (self.right - self.left) * number / (of - 1)


def sparkline(values: Sequence[float | None], *, width: float = 120, height: float = 28) -> Chart:
    """Draw the bare line of some figures."""
    known = [value for value in values if value is not None]
    if not known:
        return Chart(width=width, height=height)
    box = _Box(left=1, top=2, right=width - 1, bottom=height - 1, highest=max(*known, 1e-9))
    return Chart(width=width, height=height, line=_line(values, box), area=_area(values, box))


def chart(
    values: Sequence[float | None],
    times: Sequence[datetime],
    *,
    told: Callable[[float], str],
    steps: Sequence[float] = (),
    width: float = 560,
    height: float = 170,
) -> Chart:
    """Draw figures over time with a scale; `told` says a figure in words. `steps` are round ones, the least first."""
    known = [value for value in values if value is not None]
    if not known:
        return Chart(width=width, height=height)
    step = _step(max(known), steps)
    highest = step * max(1, ceil(max(known) / step - 1e-9))
    box = _Box(left=_LEFT, top=_TOP, right=width - _RIGHT, bottom=height - _BOTTOM, highest=highest)
    rows = [Tick(at=box.y(step * number), text=told(step * number)) for number in range(round(highest / step) + 1)]
    last = next(value for value in reversed(values) if value is not None)
    return Chart(
        width=width,
        height=height,
        line=_line(values, box),
        area=_area(values, box),
        rows=tuple(rows),
        columns=_columns(times, box),
        hints=_hints(values, times, box, told),
        last=told(last),
        highest=told(max(known)),
    )


def _step(highest: float, steps: Sequence[float]) -> float:
    """Return a round step of which few make up the scale: one of those that were given, or else a decimal one."""
    if highest < _NOTHING:
        return 1.0
    rough = highest / 4
    given = next((step for step in steps if step >= rough * 0.999), None)
    if given is not None:
        return given
    size = 10.0 ** floor(log10(rough))
    return next(step * size for step in _STEPS if step * size >= rough * 0.999)


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Cut figures where there is a gap."""
    runs: list[list[tuple[int, float]]] = [[]]
    for number, value in enumerate(values):
        if value is not None:
            runs[-1].append((number, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _points(run: Sequence[tuple[int, float]], count: int, box: _Box) -> list[tuple[float, float]]:
    points = [(box.x(number, count), box.y(value)) for number, value in run]
    if len(points) > 1:
        return points
    ((x, y),) = points  # a figure alone is a dash
    return [(max(x - 1.5, box.left), y), (min(x + 1.5, box.right), y)]


def _line(values: Sequence[float | None], box: _Box) -> str:
    parts = [_points(run, len(values), box) for run in _runs(values)]
    return "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in part) for part in parts)


def _area(values: Sequence[float | None], box: _Box) -> str:
    parts = [_points(run, len(values), box) for run in _runs(values)]
    return "".join(
        f"M{part[0][0]:.1f} {box.bottom:.1f}L"
        + "L".join(f"{x:.1f} {y:.1f}" for x, y in part)
        + f"L{part[-1][0]:.1f} {box.bottom:.1f}Z"
        for part in parts
    )


def _columns(times: Sequence[datetime], box: _Box) -> tuple[Tick, ...]:
    """Say some of the times, as many as fit."""
    if len(times) < 2:
        return tuple(Tick(at=box.x(0, 1), text=f"{moment:%H:%M}") for moment in times)
    days = (times[-1] - times[0]).total_seconds() > 2 * 86_400
    wanted = 5
    numbers = sorted({round(part * (len(times) - 1) / (wanted - 1)) for part in range(wanted)})
    return tuple(
        Tick(at=box.x(number, len(times)), text=f"{times[number]:{'%d %b' if days else '%H:%M'}}") for number in numbers
    )


def _hints(
    values: Sequence[float | None], times: Sequence[datetime], box: _Box, told: Callable[[float], str]
) -> tuple[Hint, ...]:
    width = (box.right - box.left) / max(len(values), 1)
    return tuple(
        Hint(left=box.left + width * number, width=width, text=f"{moment:%H:%M} UTC: {told(value)}")
        for number, (value, moment) in enumerate(zip(values, times, strict=True))
        if value is not None
    )
