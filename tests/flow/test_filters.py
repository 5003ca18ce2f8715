"""Failures are found by what they are: filters, groups and numbers agree with each other and with the rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import FailureFilter, InvalidArgument, RetryPolicy, UnknownProjection
from tests.bed import Bed, GuardOnBed, happened
from tests.flow.acting import Planned, shift

HOURS = RetryPolicy(wait=wait_fixed(3600), breaker=None)
NEVER = RetryPolicy(wait=wait_fixed(3600), stop=stop_after_attempt(1), breaker=None)


def wrong() -> BaseException:
    """Another error than the usual one."""
    return KeyError("wrong")


def with_failures(bed: Bed) -> GuardOnBed:
    """Return a guard: P failed on A#1 (A#2 is parked), B#1 and C#1, which is resolved; Q, exhausted, on A#1 and A#2."""
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P", "A#1", "B#1", "C#1").joined)
    bed.joined(guard, "Q", Planned("Q", "A#1", "A#2", error=wrong).joined, retry=NEVER, order="none")
    for event in (happened("A", 1), happened("B", 1), happened("C", 1), happened("A", 2)):
        guard.publish(event)
    (failure,) = [failure for failure in guard.failures("P").items if failure.stream_id == "C"]
    guard.resolve(failure.id, "manual_fix", actor="alice")
    return guard


def found(guard: GuardOnBed, *, name: str | None = None, include_resolved: bool = False, **where: Any) -> list[str]:
    """Return what a filter finds, in order, and see that it is counted so."""
    meant = FailureFilter(**where)
    items = guard.failures(name, where=meant, include_resolved=include_resolved).items
    if name is None and not include_resolved:
        assert guard.count_failures(meant) == len(items)
        groups = guard.failure_groups(where=meant).items
        assert sum(group.count for group in groups) == len(items)
    return [f"{failure.projection_name}:{failure.event_id}" for failure in items]


def test_a_filter_finds_what_it_says(bed: Bed) -> None:
    """Each criterion by itself and together with others; without a state what is unresolved."""
    guard = with_failures(bed)
    everything = ["Q:A#2", "P:B#1", "Q:A#1", "P:A#1"]
    assert found(guard) == everything
    assert found(guard, include_resolved=True) == ["Q:A#2", "P:C#1", *everything[1:]]
    assert found(guard, name="P") == found(guard, projection_name="P") == ["P:B#1", "P:A#1"]
    assert found(guard, name="P", projection_name="P") == ["P:B#1", "P:A#1"]
    assert found(guard, error_type="KeyError") == ["Q:A#2", "Q:A#1"]
    assert found(guard, event_type="Happened") == everything
    assert found(guard, event_type="Other") == []
    assert found(guard, stream_id="A") == ["Q:A#2", "Q:A#1", "P:A#1"]
    assert found(guard, stream_id="A", error_type="ValueError") == ["P:A#1"]
    first = guard.failures("P").items[-1]
    assert found(guard, fingerprint=first.fingerprint) == ["P:B#1", "P:A#1"]


def test_a_filter_by_state(bed: Bed) -> None:
    """Scheduled, exhausted, with events parked behind it, resolved."""
    guard = with_failures(bed)
    assert found(guard, state="scheduled") == ["P:B#1", "P:A#1"]
    assert found(guard, state="exhausted") == ["Q:A#2", "Q:A#1"]
    assert found(guard, state="parked") == ["P:A#1"]
    assert found(guard, state="resolved") == ["P:C#1"]
    assert found(guard, state="resolved", include_resolved=True) == ["P:C#1"]


def test_events_in_one_line_are_parked_behind_whatever_failed(bed: Bed) -> None:
    """`order="global"`: the events of other streams wait too; beside it another projection's do not."""
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "L", Planned("L", "A#1").joined, order="global")
    bed.joined(guard, "P", Planned("P", "A#1").joined)
    guard.publish(happened("A", 1))
    assert found(guard, state="parked") == []
    guard.publish(happened("B", 1))
    assert found(guard, state="parked") == ["L:A#1"]


def test_a_time_from_is_included_and_a_time_until_is_not(bed: Bed) -> None:
    """So that ranges beside each other find each failure once, whatever zone they are given in."""
    guard = with_failures(bed)
    shift(bed, "projection_failures", "failed_at", -60)
    at = guard.failures("P").items[0].failed_at
    assert found(guard, failed_from=at) == ["Q:A#2", "P:B#1"]
    assert found(guard, failed_until=at) == ["Q:A#1", "P:A#1"]
    assert found(guard, failed_from=at, failed_until=at + timedelta(microseconds=1)) == ["P:B#1"]
    elsewhere = at.astimezone(datetime.now().astimezone().tzinfo)
    assert found(guard, failed_from=elsewhere, projection_name="P") == ["P:B#1"]


@pytest.mark.parametrize(
    "where",
    [
        {"failed_from": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"failed_until": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"state": "open"},
        {"stream_id": "a\0b"},
        {"error_type": "\ud800"},
        {"event_type": 7},
    ],
)
def test_a_filter_that_cannot_be_is_refused(where: dict[str, Any]) -> None:
    """Before anything is asked of a database."""
    with pytest.raises(InvalidArgument):
        FailureFilter(**where)


def test_a_name_that_contradicts_the_filter_or_is_unknown_is_refused(bed: Bed) -> None:
    """Everywhere by the same errors."""
    guard = with_failures(bed)
    for call in (guard.failures, guard.failure_groups):
        with pytest.raises(InvalidArgument, match="where="):
            call("P", where=FailureFilter(projection_name="Q"))
    calls: tuple[Callable[[], object], ...] = (
        lambda: guard.failures(where=FailureFilter(projection_name="X")),
        lambda: guard.failure_groups("X"),
        lambda: guard.count_failures(FailureFilter(projection_name="X")),
        lambda: guard.parked("X"),
        lambda: guard.audit("X"),
    )
    for unknown in calls:
        with pytest.raises(UnknownProjection, match="No projection is named 'X'"):
            unknown()


def test_groups_tell_how_many_are_alike_and_show_the_newest(bed: Bed) -> None:
    """By projection and fingerprint, the biggest first, with what a person looks at next."""
    guard = with_failures(bed)
    bed.change("UPDATE projection_failures SET error_message = 'the newest' WHERE event_id = 'B#1'")
    of_p, of_q = guard.failure_groups().items
    newest, oldest = guard.failures("P").items
    assert (of_p.projection_name, of_p.count, of_p.exhausted) == ("P", 2, 0)
    assert (of_p.error_type, of_p.error_message, of_p.sample_failure_id) == ("ValueError", "the newest", newest.id)
    assert (of_p.first_failed_at, of_p.last_failed_at) == (oldest.failed_at, newest.failed_at)
    assert (of_q.projection_name, of_q.count, of_q.exhausted, of_q.error_type) == ("Q", 2, 2, "KeyError")
    assert [group.count for group in guard.failure_groups("P").items] == [2]
    (resolved,) = guard.failure_groups(where=FailureFilter(state="resolved")).items
    assert (resolved.count, resolved.exhausted, resolved.projection_name) == (1, 0, "P")


def test_pages_of_groups_show_each_group_once(bed: Bed) -> None:
    """By size, then by name; one that appears meanwhile shifts nothing."""
    guard = bed.guard(retry=HOURS)
    for number, name in enumerate("PQRST"):
        failing = [f"S{n}#1" for n in range(1 + number // 2)]
        bed.joined(guard, name, Planned(name, *failing, "new#1").joined)
    for n in range(3):
        guard.publish(happened(f"S{n}", 1))
    seen, after = list[tuple[str, int]](), None
    for _ in range(3):
        page = guard.failure_groups(limit=2, after=after)
        seen += [(group.projection_name, group.count) for group in page.items]
        after = page.after
    assert after is None
    assert seen == [("T", 3), ("R", 2), ("S", 2), ("P", 1), ("Q", 1)]
    with pytest.raises(InvalidArgument, match="after="):
        guard.failure_groups(after=guard.streams("P", limit=1).after or "WyJhIl0")


def test_pages_of_a_filter_are_pages_of_what_it_finds(bed: Bed) -> None:
    """The cursor and the filter go together."""
    guard = with_failures(bed)
    where = FailureFilter(error_type="KeyError")
    first = guard.failures(where=where, limit=1)
    second = guard.failures(where=where, limit=1, after=first.after)
    assert [page.items[0].event_id for page in (first, second)] == ["A#2", "A#1"]
    assert second.after is None
