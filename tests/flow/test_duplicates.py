"""P3: an event that is delivered again changes nothing, whatever became of it; two deliveries at once apply it once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from projection_guard import RetryPolicy
from projection_guard.testing import advance
from tests.bed import Bed, GuardOnBed, Happened, happened, noted
from tests.flow.acting import (
    Planned,
    Valve,
    calls_of,
    going,
    listed,
    make_due,
    one_failure,
    snapshot,
    states_of,
    statuses,
    work_until_done,
)


def in_every_state(bed: Bed, kind: str) -> tuple[GuardOnBed, Planned]:
    """Bring events into every state: applied, failed, exhausted, parked, skipped, mended by hand."""
    guard = bed.guard()
    planned = Planned("P", "A#2", "B#1", "C#1", "D#1")
    policy = RetryPolicy(wait=lambda _: 3600.0, permanent=(KeyError,))
    planned.register(bed, guard, kind, retry=policy)
    for stream, n in (("A", 1), ("A", 2), ("A", 3), ("B", 1), ("C", 1)):
        guard.publish(happened(stream, n))
    failed = {failure.event_id: failure.id for failure in guard.failures("P").items}
    guard.resolve(failed["B#1"], "skip", actor="alice")
    guard.resolve(failed["C#1"], "manual_fix", actor="alice")
    planned._error = lambda: KeyError("permanent")
    guard.publish(happened("D", 1))
    guard.health()
    return guard, planned


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_an_event_delivered_again_is_answered_by_what_is_on_record_and_changes_nothing(bed: Bed, kind: str) -> None:
    """Applied, skipped and fixed events are duplicates; failed and parked ones are answered as before."""
    guard, planned = in_every_state(bed, kind)
    assert states_of(bed, "P") == {
        "A#1": "applied",
        "A#2": "failed",
        "A#3": "parked",
        "B#1": "skipped",
        "C#1": "fixed",
        "D#1": "failed",
    }
    failed = {failure.event_id: failure.id for failure in guard.failures("P").items}
    before, calls = snapshot(bed), list(planned.calls)
    for _ in range(2):
        for event_id, expected in (
            ("A#1", ("duplicate", None, 0)),
            ("A#2", ("failed", failed["A#2"], 1)),
            ("A#3", ("parked", None, 0)),
            ("B#1", ("duplicate", None, 0)),
            ("C#1", ("duplicate", None, 0)),
            ("D#1", ("failed", failed["D#1"], 1)),
        ):
            stream, n = event_id.split("#")
            (outcome,) = guard.publish(happened(stream, int(n)))
            assert (outcome.status, outcome.failure_id, outcome.attempts) == expected, event_id
    assert planned.calls == calls
    assert snapshot(bed) == before


def test_a_failed_event_delivered_again_tells_how_often_it_was_tried(bed: Bed) -> None:
    """`attempts` counts the calls so far, not the deliveries."""
    guard, planned = bed.guard(retry=RetryPolicy(wait=lambda _: 3600.0)), Planned("P", "A#1")
    bed.joined(guard, "P", planned.joined)
    guard.publish(happened("A", 1))
    for _ in range(2):
        make_due(bed)
        guard.work()
    (outcome,) = guard.publish(happened("A", 1))
    assert (outcome.status, outcome.attempts) == ("failed", 3)
    assert len(planned.calls) == 3


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_an_event_that_healed_is_a_duplicate(bed: Bed, kind: str) -> None:
    """Also when it was applied by a retry or by the drain, and after a failure was resolved."""
    guard, planned = bed.guard(), Planned("P", "A#1")
    planned.register(bed, guard, kind)
    events = [happened("A", n) for n in (1, 2, 3)]
    for event in events:
        guard.publish(event)
    planned.heal()
    work_until_done(bed, guard)
    calls = list(planned.calls)
    assert [guard.publish(event)[0].status for event in events] == ["duplicate"] * 3
    assert planned.calls == calls


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_twenty_deliveries_of_one_event_at_once_apply_it_once(bed: Bed, kind: str) -> None:
    """Threads or tasks: one has applied it, the others see that, or are parked and find it done."""
    guard, planned = bed.guard(), Planned("P", note=noted("P"))
    planned.register(bed, guard, kind)
    guard.health()
    event = happened("A", 1)
    outcomes = calls_of(bed, [lambda: guard.publisher.publish(event)] * 20)
    answers = [outcome[0].status.value for outcome in outcomes]
    assert answers.count("applied") == 1
    assert set(answers) <= {"applied", "duplicate"} | ({"parked"} if kind == "apart" else set())
    work_until_done(bed, guard)
    assert (bed.effects("P") if kind == "joined" else planned.done) == [("A", 1)]
    assert bed.count("A") == (1 if kind == "joined" else 0)
    assert states_of(bed, "P") == {"A#1": "applied"}
    assert guard.health("P").total_events_processed == 1
    assert guard.publish(happened("A", 2))[0].status == "applied"


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_twenty_deliveries_of_one_failing_event_at_once_leave_one_failure(bed: Bed, kind: str) -> None:
    """It is tried once; the other deliveries are told of that failure."""
    guard = bed.guard(retry=RetryPolicy(wait=lambda _: 3600.0))
    planned = Planned("P", "A#1")
    planned.register(bed, guard, kind)
    guard.health()
    event = happened("A", 1)
    outcomes = calls_of(bed, [lambda: guard.publisher.publish(event)] * 20)
    failure = one_failure(guard)
    told = [outcome[0] for outcome in outcomes]
    assert {outcome.status.value for outcome in told} <= {"failed"} | ({"parked"} if kind == "apart" else set())
    assert {outcome.failure_id for outcome in told if outcome.status == "failed"} == {failure.id}
    assert planned.calls == ["A#1"]
    health = guard.health("P")
    assert (health.active_failures, health.total_failures) == (1, 1)
    planned.heal()
    make_due(bed)
    work_until_done(bed, guard)
    assert (bed.effects("P") if kind == "joined" else planned.done) == [("A", 1)]


@pytest.mark.parametrize("fails", [False, True])
def test_an_event_delivered_again_while_its_apart_call_runs_is_tried_once(bed: Bed, fails: bool) -> None:
    """Whatever the second delivery is told, the call's own end is on record at once, and the stream is free."""
    guard, valve, planned = bed.guard(retry=RetryPolicy(wait=lambda _: 3600.0)), Valve(bed), Planned("P")
    planned.failing = {"A#1"} if fails else set()
    guard.real.projection("P", handles=[Happened])(valve.apart(planned.apart))
    first = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(lambda: valve.reached == 1)
    assert guard.publish(happened("A", 1))[0].status in ("parked", "duplicate")
    valve.open()
    bed.wait_until(lambda: first.is_done)
    assert statuses(first.answer()) == ["failed" if fails else "applied"]
    assert bed.value("SELECT count(*) FROM projection_failures") == int(fails)
    assert bed.value("SELECT count(*) FROM projection_streams WHERE lease_owner IS NOT NULL") == 0
    planned.heal()
    make_due(bed)
    work_until_done(bed, guard)
    assert planned.done == [("A", 1)]
    assert planned.calls == ["A#1"] * (2 if fails else 1)


def test_a_batch_with_the_same_event_twice_applies_it_once(bed: Bed) -> None:
    """`publish_all` goes through the same gate."""
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    outcomes = bed.run(guard.publisher.publish_all([happened("A", 1), happened("A", 2), happened("A", 1)]))
    assert statuses(outcomes) == ["applied", "applied", "duplicate"]
    assert bed.effects("P") == [("A", 1), ("A", 2)]


def test_two_projections_tell_duplicates_apart(bed: Bed) -> None:
    """An event applied by one projection is new to another."""
    guard, planned = bed.guard(), Planned("P", "A#1")
    bed.joined(guard, "P", planned.joined)
    bed.joined(guard, "Q", listed("Q"))
    assert statuses(guard.publish(happened("A", 1))) == ["failed", "applied"]
    assert statuses(guard.publish(happened("A", 1))) == ["failed", "duplicate"]
    planned.heal()
    guard.work()
    assert statuses(guard.publish(happened("A", 1))) == ["duplicate", "duplicate"]
    assert bed.effects("P") == bed.effects("Q") == [("A", 1)]


def test_what_is_older_than_the_dedupe_window_is_forgotten(bed: Bed) -> None:
    """A round prunes applied events and the rows of idle streams; after that an event is new again."""
    guard = bed.guard(dedupe_window=timedelta(hours=1))
    bed.joined(guard, "P", noted("P"))
    guard.publish(happened("A", 1))
    assert guard.work().pruned == 0
    bed.run(advance(guard.real, timedelta(minutes=50)))
    assert guard.work().pruned == 0
    assert guard.publish(happened("A", 1))[0].status == "duplicate"
    bed.run(advance(guard.real, timedelta(minutes=11)))
    assert guard.work().pruned == 1
    assert bed.value("SELECT count(*) FROM projection_streams") == 0
    assert guard.health("P").total_events_processed == 1
    assert guard.publish(happened("A", 1))[0].status == "applied"
    assert bed.effects("P") == [("A", 1), ("A", 1)]


def test_pruning_leaves_streams_alone_that_wait_or_are_tainted(bed: Bed) -> None:
    """A gate that is blocked, or tells of a skipped event, outlives its applied events."""
    guard = bed.guard(dedupe_window=timedelta(hours=1))
    planned = Planned("P", "A#2", "B#2")
    bed.joined(guard, "P", planned.joined, retry=RetryPolicy(wait=lambda _: 86_400.0))
    for stream in "ABC":
        for n in (1, 2, 3):
            guard.publish(happened(stream, n))
    (skipped,) = [failure for failure in guard.failures("P").items if failure.event_id == "B#2"]
    guard.resolve(skipped.id, "skip", actor="alice")
    guard.work()
    bed.run(advance(guard.real, timedelta(hours=2)))
    assert guard.work().pruned == 7
    assert states_of(bed, "P") == {"A#2": "failed", "A#3": "parked"}
    streams = bed.rows("SELECT stream_id, blocked, tainted FROM projection_streams ORDER BY stream_id")
    assert [(row.stream_id, bool(row.blocked), bool(row.tainted)) for row in streams] == [
        ("A", True, False),
        ("B", False, True),
    ]
    assert guard.publish(happened("A", 4))[0].status == "parked"


def test_an_event_that_was_delivered_again_during_its_own_call_is_in_one_state(bed: Bed) -> None:
    """The one behind itself was parked; applied, it is parked no more, also where nobody drains."""
    guard, valve = bed.guard(), Valve(bed)
    guard.real.projection("P", handles=[Happened])(valve.apart(lambda event: None))
    first = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(lambda: valve.reached == 1)
    assert [statuses(guard.publish(happened("A", n))) for n in (1, 2)] == [["parked"], ["parked"]]
    valve.open()
    bed.wait_until(lambda: first.is_done)
    assert statuses(first.answer()) == ["applied"]
    assert states_of(bed, "P") == {"A#1": "applied", "A#2": "parked"}
    guard.work()
    assert states_of(bed, "P") == {"A#1": "applied", "A#2": "applied"}
    assert guard.streams("P", state="tainted").items == ()
