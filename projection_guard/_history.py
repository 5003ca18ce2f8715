"""How projections did over time: which samples a point of a chart is made of, and what they come to.

A sample tells how a projection stood as a minute began, so it belongs to the minute that has just ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ._model import HealthStatus
from .errors import InvalidArgument

__all__ = ["KEPT_MINUTES", "MOST_HOURS", "MOST_POINTS", "Bucket", "History", "Point", "Span", "laid_out", "span_of"]

MOST_HOURS: Final = 168
KEPT_MINUTES: Final = MOST_HOURS * 60
MOST_POINTS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a projection did from `at` (aware UTC) on, for as long as the history's buckets are.

    Everything else is None where no worker took a sample: that is not the same as 0. `events_per_second` and `failures`
    (new ones) also are at the first sample that there is; after a gap they tell what came since the sample before it.
    All others tell the worst of the bucket's samples.
    """

    at: datetime
    events_per_second: float | None = None
    failures: int | None = None
    active_failures: int | None = None
    parked_events: int | None = None
    lag_seconds: float | None = None
    lag_events: int | None = None
    avg_processing_time_ms: float | None = None
    status: HealthStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One projection's points, the oldest first, one every `bucket_seconds`; none where nothing was sampled."""

    projection_name: str
    bucket_seconds: int
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The time up to now, in so many buckets; they begin where the minutes since 1970 can be divided."""

    bucket_minutes: int
    buckets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """What the samples of one bucket come to. `number` counts buckets since 1970.

    `minutes` passed between its samples and the one before each; None where there is none before. `events` and
    `failures` are new ones of that time.
    """

    number: int
    minutes: int | None
    events: int
    failures: int
    active_failures: int
    parked_events: int
    lag_seconds: float
    lag_events: int
    avg_processing_time_ms: float | None
    status: HealthStatus


def span_of(hours: float, points: int) -> Span:
    """Divide hours (up to 168) into at most so many points (2 to 500), of a whole minute at least.

    Raises `InvalidArgument`.
    """
    if isinstance(hours, bool) or not 0 < hours <= MOST_HOURS:
        raise InvalidArgument(f"hours= takes a number above 0, up to {MOST_HOURS}: samples are kept for a week")
    if isinstance(points, bool) or not 2 <= points <= MOST_POINTS:
        raise InvalidArgument(f"points= takes 2 to {MOST_POINTS}")
    minutes = math.ceil(hours * 60)
    size = math.ceil(minutes / points)
    return Span(bucket_minutes=size, buckets=math.ceil(minutes / size))


def laid_out(span: Span, minute: int, buckets: Iterable[Bucket]) -> tuple[Point, ...]:
    """Return a point for every bucket of a span that ends with the minute before this one; none without samples."""
    found = {bucket.number: bucket for bucket in buckets}
    last = (minute - 1) // span.bucket_minutes
    numbers = range(last - span.buckets + 1, last + 1)
    if found.keys().isdisjoint(numbers):
        return ()
    return tuple(_point(_beginning(span, number), found.get(number)) for number in numbers)


def _beginning(span: Span, number: int) -> datetime:
    return datetime.fromtimestamp(number * span.bucket_minutes * 60, UTC)


def _point(at: datetime, bucket: Bucket | None) -> Point:
    if bucket is None:
        return Point(at=at)
    return Point(
        at=at,
        events_per_second=bucket.events / (60 * bucket.minutes) if bucket.minutes else None,
        failures=bucket.failures if bucket.minutes else None,
        active_failures=bucket.active_failures,
        parked_events=bucket.parked_events,
        lag_seconds=bucket.lag_seconds,
        lag_events=bucket.lag_events,
        avg_processing_time_ms=bucket.avg_processing_time_ms,
        status=bucket.status,
    )
