"""The charts of a projection: what it did over some hours, from the samples that workers have kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from .._history import History
from .charts import Chart, chart
from .wording import amount, span

__all__ = ["SPANS", "Course", "Spell", "course"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """Hours that charts can go over, in so many points, what that is called, and how often it is looked at anew."""

    hours: int
    points: int
    text: str
    live_seconds: float = 5


SPANS: Final = (
    Spell(hours=1, points=60, text="1 h"),
    Spell(hours=6, points=72, text="6 h"),
    Spell(hours=24, points=96, text="24 h"),
    Spell(hours=168, points=168, text="7 d", live_seconds=30),
)
_HOUR, _DAY = 3600, 86_400
_ROUND_SECONDS: Final = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(_HOUR, 2 * _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR),
    *(_DAY, 2 * _DAY, 7 * _DAY, 30 * _DAY, 365 * _DAY),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Four charts, and over what time each of their points is."""

    throughput: Chart
    failures: Chart
    lag: Chart
    handler: Chart
    bucket: str


def course(history: History) -> Course:
    """Draw a history."""
    points = history.points
    times = [point.at for point in points]

    def drawn(values: list[float | None], told: Callable[[float], str], steps: Sequence[float] = ()) -> Chart:
        return chart(values, times, told=told, steps=steps)

    return Course(
        throughput=drawn([point.events_per_second for point in points], lambda value: f"{_figure(value)}/s"),
        failures=drawn([None if point.failures is None else float(point.failures) for point in points], _figure),
        lag=drawn([point.lag_seconds for point in points], span, _ROUND_SECONDS),
        handler=drawn([point.avg_processing_time_ms for point in points], _milliseconds),
        bucket=span(history.bucket_seconds),
    )


def _figure(value: float) -> str:
    return amount(round(value)) if value >= 100 or value == round(value) else f"{value:.3g}"


def _milliseconds(value: float) -> str:
    return f"{_figure(value)} ms" if value < 1000 else span(value / 1000)
