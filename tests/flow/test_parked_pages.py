"""What is parked is shown in the order in which it will be drained."""

from __future__ import annotations

import pytest
from tenacity import wait_fixed

from projection_guard import InvalidArgument, Parked, RetryPolicy
from tests.bed import Bed, GuardOnBed, happened
from tests.flow.acting import Planned
from tests.following.logs import FollowedLog

HOURS = RetryPolicy(wait=wait_fixed(3600), breaker=None)


def walk(guard: GuardOnBed, *, limit: int, stream_id: str | None = None) -> list[Parked]:
    """Return what is parked in P, page by page."""
    seen, after = list[Parked](), None
    while True:
        page = guard.parked("P", stream_id=stream_id, limit=limit, after=after)
        assert len(page.items) <= limit
        seen += page.items
        if page.after is None:
            return seen
        after = page.after


def test_parked_events_are_shown_as_they_wait(bed: Bed) -> None:
    """Whose they are, what they are, why they wait and since when."""
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P", "A#1").joined)
    guard.publish(happened("A", 1, 1))
    guard.publish(happened("A", 2, 7))
    (parked,) = guard.parked("P").items
    assert (parked.projection_name, parked.stream_id, parked.event_id) == ("P", "A", "A#2")
    assert (parked.event_type, parked.event_sequence, parked.attempts) == ("Happened", 7, 0)
    assert parked.reason == bed.value("SELECT reason FROM projection_parked_events")
    assert "A#2" in str(parked.event_payload)
    assert parked.parked_at.tzinfo is not None
    assert guard.parked("P", stream_id="B").items == ()


@pytest.mark.parametrize("order", ["stream", "none", "global"])
def test_pages_of_parked_events_show_each_once_in_the_order_of_their_arrival(bed: Bed, order: str) -> None:
    """Pushed: whatever their sequences say; what arrives between two pages shifts nothing."""
    guard, planned = bed.guard(retry=HOURS), Planned("P")
    bed.joined(guard, "P", planned.joined, order=order)
    guard.pause("P", actor="alice")
    for n, sequence in ((1, 9), (2, 3), (3, None), (4, 5)):
        for stream in "BA":
            guard.publish(happened(stream, n, sequence))
    of_a = [event.event_id for event in walk(guard, limit=3, stream_id="A")]
    everything = [event.event_id for event in walk(guard, limit=3)]
    assert of_a == ["A#1", "A#2", "A#3", "A#4"]
    assert sorted(everything) == sorted(f"{stream}#{n}" for stream in "AB" for n in (1, 2, 3, 4))
    assert [event for event in everything if event in of_a] == of_a
    first = guard.parked("P", limit=2)
    guard.publish(happened("0", 1))
    rest = guard.parked("P", limit=100, after=first.after)
    assert {"0#1"} >= {event.event_id for event in (*first.items, *rest.items)} - set(everything)
    guard.resume("P", actor="alice")
    for _ in range(9):
        guard.work()
    assert [event for event in planned.calls if event in of_a] == of_a


def test_those_of_a_followed_projection_are_shown_in_the_logs_order(bed: Bed) -> None:
    """What has no sequence yet comes last, as in the drain, also across pages."""
    log = FollowedLog(bed)
    guard = log.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P", "A#1").joined)
    log.append("A", "A", "A", "A", "A", "A")
    guard.catch_up("P")
    bed.change("UPDATE projection_parked_events SET event_sequence = NULL WHERE event_id IN ('A#3', 'A#2')")
    bed.change("UPDATE projection_parked_events SET event_sequence = 100 WHERE event_id = 'A#4'")
    for limit in (1, 2, 100):
        assert [event.event_id for event in walk(guard, limit=limit)] == ["A#5", "A#6", "A#4", "A#2", "A#3"]


@pytest.mark.parametrize("cursor", ["nonsense", "WyJhIl0", "WyJhIiwiIiwieCJd", "WyJcdTAwMDAiLCIiLCIxIl0"])
def test_a_cursor_that_is_none_is_refused(bed: Bed, cursor: str) -> None:
    """Whatever stands in it."""
    guard = bed.guard()
    bed.joined(guard, "P", Planned("P").joined)
    with pytest.raises(InvalidArgument, match="after="):
        guard.parked("P", after=cursor)
