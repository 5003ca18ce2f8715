"""Pages of failures and streams stay stable while rows come and go."""

from __future__ import annotations

import pytest
from tenacity import wait_fixed

from projection_guard import InvalidArgument, RetryPolicy
from tests.bed import Bed, happened
from tests.flow.acting import (
    Planned,
    with_failure,
)

HOURS = RetryPolicy(wait=wait_fixed(3600), breaker=None)


def test_pages_of_failures_stay_stable_while_new_ones_arrive(bed: Bed) -> None:
    """Newest first; what fails between two pages shifts nothing, and nothing is seen twice or never."""
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P", *(f"{prefix}{n}#1" for prefix in "SN" for n in range(10))).joined)
    for number in range(10):
        guard.publish(happened(f"S{number}", 1))
    seen, after, number = list[str](), None, 0
    while True:
        page = guard.failures("P", limit=3, after=after)
        assert len(page.items) <= 3
        seen += [failure.stream_id for failure in page.items]
        if page.after is None:
            break
        after = page.after
        guard.publish(happened(f"N{number}", 1))
        number += 1
    assert seen == [f"S{number}" for number in reversed(range(10))]
    assert len(guard.failures("P").items) == 13


def test_failures_of_one_moment_are_paged_by_their_ids(bed: Bed) -> None:
    """Rows with the same time are neither lost nor repeated at a page's edge."""
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P", *(f"S{n}#1" for n in range(7))).joined)
    for number in range(7):
        guard.publish(happened(f"S{number}", 1))
    bed.change("UPDATE projection_failures SET failed_at = (SELECT min(failed_at) FROM projection_failures)")
    seen, after = list[str](), None
    for _ in range(4):
        page = guard.failures("P", limit=2, after=after)
        seen += [failure.stream_id for failure in page.items]
        after = page.after
    assert after is None
    assert sorted(seen) == [f"S{number}" for number in range(7)]


def test_resolved_failures_are_shown_on_request(bed: Bed) -> None:
    """And those of all projections, or of one."""
    guard = bed.guard(retry=HOURS)
    for name in "PQ":
        bed.joined(guard, name, Planned(name, "A#1", "B#1").joined)
    for stream in "AB":
        guard.publish(happened(stream, 1))
    guard.resolve(guard.failures("P").items[0].id, "skip", actor="alice")
    assert len(guard.failures("P").items) == 1
    assert len(guard.failures("P", include_resolved=True).items) == 2
    assert len(guard.failures().items) == 3
    assert len(guard.failures(include_resolved=True).items) == 4
    assert guard.failures("P", limit=1).after is None


def test_pages_of_streams_stay_stable_while_new_ones_come_and_go(bed: Bed) -> None:
    """By their ids: one that appears behind the cursor is not missed, one before it shifts nothing."""
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P", *(f"S{n}#1" for n in range(10))).joined)
    for number in (1, 3, 5, 7, 9):
        guard.publish(happened(f"S{number}", 1))
    first = guard.streams("P", limit=2)
    assert [stream.stream_id for stream in first.items] == ["S1", "S3"]
    for number in (0, 2, 6):
        guard.publish(happened(f"S{number}", 1))
    second = guard.streams("P", limit=2, after=first.after)
    assert [stream.stream_id for stream in second.items] == ["S5", "S6"]
    third = guard.streams("P", limit=2, after=second.after)
    assert [stream.stream_id for stream in third.items] == ["S7", "S9"]
    assert third.after is None


def test_very_many_streams_are_told_with_what_is_in_each(blocking_bed: Bed) -> None:
    """More than are looked up at once: each with its own failures and parked events."""
    guard = blocking_bed.guard(retry=HOURS)
    names = [f"S{number:03}" for number in range(120)]
    blocking_bed.joined(guard, "P", Planned("P", *(f"{name}#1" for name in names)).joined)
    for name in names:
        for n in range(1, 2 + int(name[1:]) % 3):
            guard.publish(happened(name, n))
    ids = {failure.stream_id: failure.id for failure in guard.failures("P", limit=1000).items}
    assert [
        (each.stream_id, each.parked_events, each.failure_ids) for each in guard.streams("P", limit=1000).items
    ] == [(name, int(name[1:]) % 3, (ids[name],)) for name in names]


def test_a_projection_in_one_line_has_one_stream_with_all_its_failures(bed: Bed) -> None:
    """It has no name, and what is parked waits there, whatever its own stream."""
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P", "A#1").joined, order="global")
    for stream in "ABC":
        guard.publish(happened(stream, 1))
    (failure,) = guard.failures("P").items
    (stream,) = guard.streams("P").items
    assert (stream.stream_id, stream.parked_events, stream.failure_ids) == ("", 2, (failure.id,))


@pytest.mark.parametrize("cursor", ["nonsense", "", "WyJhIl0", "Ww", "é", "e30"])
def test_a_cursor_that_is_none_is_refused(bed: Bed, cursor: str) -> None:
    """It says so, in one sentence."""
    guard, _ = with_failure(bed)
    with pytest.raises(InvalidArgument, match="after="):
        guard.failures("P", after=cursor)
    if cursor != "WyJhIl0":
        with pytest.raises(InvalidArgument, match="after="):
            guard.streams("P", after=cursor)
