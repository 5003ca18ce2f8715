"""What samples come to, without a database: how hours are divided, rates, gaps."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from projection_guard import HealthStatus, InvalidArgument
from projection_guard._history import Bucket, Span, laid_out, span_of

EMPTY = Bucket(
    number=0,
    minutes=1,
    events=0,
    failures=0,
    active_failures=0,
    parked_events=0,
    lag_seconds=0.0,
    lag_events=0,
    avg_processing_time_ms=None,
    status=HealthStatus.HEALTHY,
)


@pytest.mark.parametrize(
    ("hours", "points", "size", "buckets"),
    [
        (24, 96, 15, 96),
        (3, 36, 5, 36),
        (168, 500, 21, 480),
        (1, 60, 1, 60),
        (1, 500, 1, 60),
        (0.001, 2, 1, 1),
        (1, 7, 9, 7),
        (168, 2, 5040, 2),
    ],
)
def test_hours_are_divided_into_whole_minutes(hours: float, points: int, size: int, buckets: int) -> None:
    """Never more points than were asked for, never shorter than a minute, and all hours are covered."""
    assert span_of(hours, points) == Span(bucket_minutes=size, buckets=buckets)
    assert buckets <= points
    assert size * buckets >= hours * 60


@pytest.mark.parametrize(
    "asked",
    [
        (0, 96),
        (-1, 96),
        (168.1, 96),
        (float("nan"), 96),
        (float("inf"), 96),
        (True, 96),
        (24, 1),
        (24, 501),
        (24, True),
    ],
)
def test_what_cannot_be_divided_is_refused(asked: Any) -> None:
    """By the name of the argument."""
    with pytest.raises(InvalidArgument, match=r"hours=|points="):
        span_of(*asked)


def test_a_span_ends_with_the_minute_that_has_just_ended() -> None:
    """Buckets begin where minutes since 1970 can be divided, so that points stay where they are while time passes."""
    span = Span(bucket_minutes=5, buckets=3)

    def begins(minute: int) -> list[datetime]:
        return [point.at for point in laid_out(span, minute, [replace(EMPTY, number=(minute - 1) // 5)])]

    def at(minute: int) -> datetime:
        return datetime.fromtimestamp(minute * 60, UTC)

    assert begins(1_000_000) == [at(999_985), at(999_990), at(999_995)]
    assert begins(1_000_001) == begins(1_000_005) == [at(999_990), at(999_995), at(1_000_000)]


def test_a_gap_is_none_and_rest_is_zero() -> None:
    """Where no sample is, nothing is known; where there are some and nothing happened, 0."""
    found = [replace(EMPTY, number=6), replace(EMPTY, number=8, minutes=4, events=60, failures=2)]
    before, gap, busy = laid_out(Span(bucket_minutes=2, buckets=3), 18, found)
    assert (before.events_per_second, before.failures, before.status) == (0.0, 0, "healthy")
    assert (gap.events_per_second, gap.failures, gap.active_failures, gap.lag_seconds, gap.status) == (None,) * 5
    assert (busy.events_per_second, busy.failures) == (0.25, 2)


def test_of_the_first_sample_the_rate_is_not_known() -> None:
    """It has none before it to be compared with; how things stood is known."""
    (_, first) = laid_out(Span(bucket_minutes=1, buckets=2), 5, [replace(EMPTY, number=4, minutes=None, lag_events=3)])
    assert (first.events_per_second, first.failures, first.lag_events) == (None, None, 3)


def test_without_samples_there_are_no_points() -> None:
    """Also where the only ones are older than the span."""
    span = Span(bucket_minutes=1, buckets=2)
    assert laid_out(span, 5, []) == ()
    assert laid_out(span, 5, [replace(EMPTY, number=2)]) == ()
