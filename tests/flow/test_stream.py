"""One stream through one pushed projection: what has become of its events, newest first."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy import event as engine_event
from tenacity import wait_fixed

from projection_guard import InvalidArgument, RetryPolicy, StreamEvent, StreamHistory, UnknownProjection
from projection_guard._store.cursors import cursor
from tests.bed import Bed, GuardOnBed, happened
from tests.flow.acting import Planned, clears, make_due, shift, work_until_done

HOURS = RetryPolicy(wait=wait_fixed(3600), breaker=None)
WEEK_AND_A_DAY = -8 * 86_400.0


@pytest.fixture
def bed(diagonal_bed: Bed) -> Bed:
    """Two of the four ways, in which each guard and each database is there once."""
    return diagonal_bed


def told(history: StreamHistory) -> list[tuple[str, str]]:
    """Return what is told of each event: its id and state."""
    return [(event.event_id, event.state) for event in history.page.items]


def pages(guard: GuardOnBed, stream: str, limit: int) -> list[StreamEvent]:
    """Return a stream's events, page by page."""
    seen, after = list[StreamEvent](), None
    while True:
        page = guard.stream("P", stream, limit=limit, after=after).page
        assert len(page.items) <= limit
        seen += page.items
        if page.after is None:
            return seen
        after = page.after


def one(history: StreamHistory, event_id: str) -> StreamEvent:
    """Return what is told of one event."""
    (found,) = [event for event in history.page.items if event.event_id == event_id]
    return found


def blocked(bed: Bed, **options: Any) -> tuple[GuardOnBed, Planned]:
    """Return a guard on which A#1 was applied, A#2 has failed, and A#3 and A#4 wait; B#1 was applied."""
    guard, planned = bed.guard(retry=HOURS), Planned("P", "A#2")
    bed.joined(guard, "P", planned.joined, **options)
    for n in (1, 2, 3, 4):
        guard.publish(happened("A", n, n))
    guard.publish(happened("B", 1, 5))
    return guard, planned


def test_a_blocked_stream_tells_what_was_applied_failed_and_waits(bed: Bed) -> None:
    """Newest first, since that is where the trouble is; the gate's state beside it."""
    guard, _ = blocked(bed)
    (failure,) = guard.failures("P").items
    history = guard.stream("P", "A")
    assert told(history) == [("A#4", "parked"), ("A#3", "parked"), ("A#2", "failed"), ("A#1", "applied")]
    assert (history.projection_name, history.stream_id) == ("P", "A")
    assert (history.blocked, history.tainted, history.tainted_reason, history.leased) == (True, False, None, False)
    assert (history.parked_events, history.failure_ids) == (2, (failure.id,))
    assert (history.applied_events, history.log_is_read, history.page.after) == ("recent", False, None)
    failed, applied = one(history, "A#2"), one(history, "A#1")
    assert (failed.failure_id, failed.how, failed.attempts, failed.at) == (failure.id, None, 1, failure.failed_at)
    assert (applied.failure_id, applied.how, applied.attempts) == (None, None, 1)
    assert applied.at is not None
    assert applied.at.tzinfo is not None
    assert (applied.event_type, applied.event_sequence) == ("Happened", 1)
    assert told(guard.stream("P", "B")) == [("B#1", "applied")]


def test_a_stream_that_has_healed_tells_which_event_had_failed(bed: Bed) -> None:
    """All are applied, in the stream's order; the failure stays with the one that had it."""
    guard, planned = blocked(bed)
    (failure,) = guard.failures("P").items
    planned.heal()
    make_due(bed)
    work_until_done(bed, guard, "P")
    history = guard.stream("P", "A")
    assert told(history) == [("A#4", "applied"), ("A#3", "applied"), ("A#2", "applied"), ("A#1", "applied")]
    assert [event.failure_id for event in history.page.items] == [None, None, failure.id, None]
    healed = one(history, "A#2")
    assert (healed.how, healed.attempts) == ("auto_retry", 2)
    assert healed.at is not None
    assert healed.at > failure.failed_at
    assert (history.blocked, history.parked_events, history.failure_ids) == (False, 0, ())


@pytest.mark.parametrize(
    ("strategy", "state", "how"), [("skip", "skipped", "manual_skip"), ("manual_fix", "applied", "manual_fix")]
)
def test_what_a_person_decided_is_told(bed: Bed, strategy: str, state: str, how: str) -> None:
    """A skip taints the stream; both are remembered after the applied rows are forgotten."""
    guard, _ = blocked(bed)
    (failure,) = guard.failures("P").items
    guard.resolve(failure.id, strategy, actor="alice")
    work_until_done(bed, guard, "P")
    history = guard.stream("P", "A")
    assert told(history)[-2:] == [("A#2", state), ("A#1", "applied")]
    decided = one(history, "A#2")
    assert (decided.how, decided.failure_id, decided.attempts) == (how, failure.id, 1)
    assert (history.tainted, history.tainted_reason) == (
        (True, "an event was skipped by alice") if strategy == "skip" else (False, None)
    )
    shift(bed, "projection_applied_events", "applied_at", WEEK_AND_A_DAY)
    guard.work()
    assert bed.value("SELECT count(*) FROM projection_applied_events") == 0
    later = guard.stream("P", "A")
    assert told(later) == [("A#2", state)]
    assert (one(later, "A#2").how, one(later, "A#2").failure_id) == (how, failure.id)


def test_after_a_reset_what_was_before_is_not_told(bed: Bed) -> None:
    """Neither what was applied nor what had failed and healed: the read model knows nothing of it any more."""
    guard, planned = bed.guard(retry=HOURS), Planned("P", "A#1")
    bed.joined(guard, "P", planned.joined, on_reset=_nothing(bed))
    guard.publish(happened("A", 1))
    planned.heal()
    make_due(bed)
    work_until_done(bed, guard, "P")
    guard.publish(happened("A", 2))
    planned.failing.add("A#3")
    guard.publish(happened("A", 3))
    assert len(told(guard.stream("P", "A"))) == 3
    guard.reset("P", actor="alice")
    assert told(guard.stream("P", "A")) == []
    guard.publish(happened("A", 1))
    (again,) = guard.stream("P", "A").page.items
    assert (again.state, again.failure_id, again.how, again.attempts) == ("applied", None, None, 1)


def test_a_reset_that_did_not_come_about_ends_nothing(bed: Bed) -> None:
    """What a person had decided before is as true as it was."""
    guard, _ = blocked(bed, on_reset=clears(bed, fails=[True]))
    (failure,) = guard.failures("P").items
    guard.resolve(failure.id, "skip", actor="alice")
    work_until_done(bed, guard, "P")
    shift(bed, "projection_applied_events", "applied_at", WEEK_AND_A_DAY)
    guard.work()
    with pytest.raises(ValueError, match="does not want"):
        guard.reset("P", actor="alice")
    assert told(guard.stream("P", "A")) == [("A#2", "skipped")]


def _nothing(bed: Bed) -> Any:
    if not bed.is_async:
        return lambda connection: None

    async def on_reset(connection: object) -> None: ...

    return on_reset


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
def test_pages_tell_each_event_once(bed: Bed, limit: int) -> None:
    """Whatever the page's size, in one order."""
    guard, planned = blocked(bed)
    planned.heal()
    make_due(bed)
    work_until_done(bed, guard, "P")
    planned.failing.add("A#6")
    for n in (5, 6, 7, 8):
        guard.publish(happened("A", n, n))
    assert [event.event_id for event in pages(guard, "A", limit)] == [f"A#{n}" for n in (8, 7, 6, 5, 4, 3, 2, 1)]


def test_what_moves_between_two_pages_is_not_missed(bed: Bed) -> None:
    """A stream that heals meanwhile moves towards the end of the list; what was seen may be seen again."""
    guard, planned = blocked(bed)
    first = guard.stream("P", "A", limit=1)
    planned.heal()
    make_due(bed)
    work_until_done(bed, guard, "P")
    seen, after = [*told(first)], first.page.after
    while after is not None:
        history = guard.stream("P", "A", limit=1, after=after)
        seen += told(history)
        after = history.page.after
    assert {event for event, _ in seen} == {"A#1", "A#2", "A#3", "A#4"}
    assert seen[0] == ("A#4", "parked")


def test_without_order_a_stream_waits_for_nothing(bed: Bed) -> None:
    """What had failed is told, by the stream that it is of; applied events cannot be told from others'."""
    guard, planned = blocked(bed, order="none")
    (failure,) = guard.failures("P").items
    history = guard.stream("P", "A")
    assert told(history) == [("A#2", "failed")]
    assert (history.blocked, history.parked_events, history.failure_ids) == (False, 0, (failure.id,))
    assert history.applied_events == "unlisted"
    planned.failing.add("A#5")
    guard.publish(happened("A", 5, 5))
    (other,) = [found for found in guard.failures("P").items if found.event_id == "A#5"]
    guard.resolve(other.id, "skip", actor="alice")
    assert told(guard.stream("P", "A")) == [("A#2", "failed"), ("A#5", "skipped")]
    assert guard.health("P").tainted_streams == 0
    assert not guard.streams("P", state="tainted").items
    guard.pause("P", actor="alice")
    guard.publish(happened("A", 6))
    assert told(guard.stream("P", "A"))[0] == ("A#6", "parked")
    assert guard.stream("P", "A").parked_events == 1


def test_in_one_line_the_projections_gate_is_told(bed: Bed) -> None:
    """A failure of another stream holds this one; the events are the stream's own."""
    guard, _ = bed.guard(retry=HOURS), None
    bed.joined(guard, "P", Planned("P", "A#1").joined, order="global")
    guard.publish(happened("A", 1))
    guard.publish(happened("B", 1))
    guard.publish(happened("B", 2))
    (failure,) = guard.failures("P").items
    history = guard.stream("P", "B")
    assert told(history) == [("B#2", "parked"), ("B#1", "parked")]
    assert (history.blocked, history.parked_events, history.failure_ids) == (True, 2, (failure.id,))
    assert history.applied_events == "unlisted"
    assert told(guard.stream("P", "A")) == [("A#1", "failed")]


def test_a_call_under_way_is_told(bed: Bed) -> None:
    """A lease on the gate, or on a failure that is being retried; one that has ended or is only reserved is none."""
    guard, _ = blocked(bed)
    assert not guard.stream("P", "A").leased
    later = guard.stream("P", "A").page.items[0].at + timedelta(days=1)
    lease = {"token": "x", "later": later.strftime("%Y-%m-%d %H:%M:%S.%f")}
    sets = "SET lease_owner = :token, lease_expires_at = :later"
    assert bed.change(f"UPDATE projection_streams {sets} WHERE stream_id = 'B'", **lease) == 1
    assert guard.stream("P", "B").leased
    assert bed.change(f"UPDATE projection_failures {sets}", **lease) == 1
    assert guard.stream("P", "A").leased
    bed.change(f"UPDATE projection_failures {sets}", **(lease | {"token": "process:1"}))
    assert not guard.stream("P", "A").leased


def test_a_stream_that_nobody_knows_has_no_events(bed: Bed) -> None:
    """That is no error: it may come yet."""
    guard, _ = blocked(bed)
    history = guard.stream("P", "nobody's")
    assert (told(history), history.page.after, history.blocked, history.failure_ids) == ([], None, False, ())


def test_what_cannot_be_asked_is_refused(bed: Bed) -> None:
    """A projection that is not there, a length, an id or a cursor that cannot be."""
    guard, _ = blocked(bed)
    with pytest.raises(UnknownProjection):
        guard.stream("Q", "A")
    for stream in (None, 7, "a\0b", "\ud800"):
        with pytest.raises(InvalidArgument, match="stream_id="):
            guard.stream("P", stream)
    with pytest.raises(InvalidArgument, match="limit="):
        guard.stream("P", "A", limit=0)
    for place in (("what", "", "", ""), ("parked", "x", "", ""), ("failed", "x", "y", ""), ("done", "x", "1", "")):
        with pytest.raises(InvalidArgument, match="after="):
            guard.stream("P", "A", after=cursor(*place))
    with pytest.raises(InvalidArgument, match="after="):
        guard.stream("P", "A", after="nonsense")


def test_a_page_takes_as_many_statements_however_long_the_stream_is(bed: Bed) -> None:
    """A number that does not grow with the events."""
    guard, _ = blocked(bed)
    for n in range(5, 60):
        guard.publish(happened("A", n))
        guard.publish(happened("B", n))
    assert statements(guard, "A") == statements(guard, "B") <= 14
    assert statements(guard, "A", limit=1) < statements(guard, "A"), "a page that is full looks no further"


def statements(guard: GuardOnBed, stream: str, limit: int = 100) -> int:
    """Count the queries that a page takes."""
    seen = list[str]()

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        seen.append(statement)

    engine_event.listen(Engine, "before_cursor_execute", note)
    guard.stream("P", stream, limit=limit)
    engine_event.remove(Engine, "before_cursor_execute", note)
    return sum("FROM" in statement for statement in seen)
