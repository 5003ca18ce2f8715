"""Pause and resume: events wait parked, what is in flight is waited for, and the order is kept."""

from __future__ import annotations

from typing import Any

import pytest
from tenacity import wait_fixed

from projection_guard import FailureBusy, RetryPolicy
from tests.bed import Bed, GuardOnBed, Happened, happened, noted
from tests.flow.acting import (
    Valve,
    audit,
    clears,
    going,
    listed,
    make_due,
    one_failure,
    states_of,
    statuses,
    with_failure,
    work_until_done,
)

HOURS = RetryPolicy(wait=wait_fixed(3600), breaker=None)


def test_a_paused_projection_parks_and_resumes_in_order(bed: Bed) -> None:
    """Nothing is called meanwhile, failures are not retried; afterwards everything is applied in order."""
    guard, planned = with_failure(bed)
    bed.joined(guard, "Q", listed("Q"))
    guard.pause("P", actor="alice", reason="maintenance")
    results = [statuses(guard.publish(event)) for event in (happened("A", 2), happened("B", 1), happened("B", 2))]
    assert results == [["parked", "applied"]] * 3
    planned.heal()
    make_due(bed)
    guard.work()
    assert planned.calls == ["A#1"]
    health = guard.health("P")
    assert (health.state, health.parked_events, health.active_failures) == ("paused", 3, 1)
    assert [stream.stream_id for stream in guard.streams("P").items] == ["A", "B"]
    guard.resume("P", actor="bob")
    work_until_done(bed, guard)
    assert bed.effects("P", "A") == [("A", 1), ("A", 2)]
    assert bed.effects("P", "B") == [("B", 1), ("B", 2)]
    assert guard.health("P").state == "active"
    assert audit(bed) == [("pause", "alice", "P", "maintenance"), ("resume", "bob", "P", None)]


def test_a_known_event_is_answered_as_before_while_paused(bed: Bed) -> None:
    """A duplicate stays a duplicate, a failed event stays failed."""
    guard, _ = with_failure(bed, happened("B", 1))
    guard.pause("P", actor="alice")
    assert guard.publish(happened("B", 1))[0].status == "duplicate"
    assert guard.publish(happened("A", 1))[0].status == "failed"
    assert guard.health("P").parked_events == 0


def test_a_paused_projection_refuses_a_manual_retry_and_allows_a_skip(bed: Bed) -> None:
    """A retry would run the handler; a skip does not."""
    guard, planned = with_failure(bed)
    guard.pause("P", actor="alice")
    with pytest.raises(FailureBusy, match="paused"):
        guard.resolve(one_failure(guard).id, "retry", actor="alice")
    assert planned.calls == ["A#1"]
    guard.resolve(one_failure(guard).id, "skip", actor="alice")
    assert guard.health("P").active_failures == 0


def test_another_guard_sees_the_pause_at_once(bed: Bed) -> None:
    """What a person wants is in the database, and read with every claim."""
    guard, other = bed.guard(), bed.guard()
    for each in (guard, other):
        bed.joined(each, "P", noted("P"))
    assert other.publish(happened("A", 1))[0].status == "applied"
    guard.pause("P", actor="alice")
    assert other.publish(happened("A", 2))[0].status == "parked"
    other.resume("P", actor="alice")
    guard.work()
    assert bed.effects("P") == [("A", 1), ("A", 2)]


def test_pausing_twice_and_resuming_what_runs_changes_nothing(bed: Bed) -> None:
    """Each is on record; neither is an error."""
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    guard.resume("P", actor="alice")
    guard.pause("P", actor="alice")
    guard.pause("P", actor="bob")
    guard.resume("P", actor="bob")
    assert [entry[:2] for entry in audit(bed)] == [
        ("resume", "alice"),
        ("pause", "alice"),
        ("pause", "bob"),
        ("resume", "bob"),
    ]
    assert guard.publish(happened("A", 1))[0].status == "applied"


@pytest.mark.parametrize("action", ["pause", "reset"])
def test_pause_and_reset_wait_for_a_joined_handler_in_flight(server_bed: Bed, action: str) -> None:
    """When pause returns, the effect is there; a reset clears it: it does not land afterwards."""
    bed, valve = server_bed, Valve(server_bed)
    guard = bed.guard()
    guard.real.projection("P", handles=[Happened], on_reset=clears(bed))(valve.joined(noted("P")))
    delivery = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(lambda: valve.reached == 1)
    seen = list[Any]()
    acted = going(bed, lambda: acting_then_looking(bed, guard, action, seen))
    wanted = {"pause": "paused", "reset": "resetting"}[action]
    bed.wait_until(lambda: bed.value("SELECT state FROM projection_states") == wanted)
    assert guard.publish(happened("B", 1))[0].status == "parked"
    assert not acted.is_done
    valve.open()
    bed.wait_until(lambda: acted.is_done and delivery.is_done)
    acted.answer()
    assert statuses(delivery.answer()) == ["applied"]
    assert seen == [[("A", 1)] if action == "pause" else []]
    assert states_of(bed, "P") == ({"A#1": "applied"} if action == "pause" else {}) | {"B#1": "parked"}


@pytest.mark.parametrize("action", ["pause", "reset"])
def test_pause_and_reset_wait_for_an_apart_handler_in_flight(bed: Bed, action: str) -> None:
    """Its lease tells that it is still at work."""
    guard, valve, done = bed.guard(), Valve(bed), list[int]()
    guard.real.projection("P", handles=[Happened], on_reset=clears(bed))(
        valve.apart(lambda event: done.append(event.n))
    )
    delivery = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(lambda: valve.reached == 1)
    seen = list[Any]()
    acted = going(bed, lambda: acting_then_looking(bed, guard, action, seen, lambda: list(done)))
    wanted = {"pause": "paused", "reset": "resetting"}[action]
    bed.wait_until(lambda: bed.value("SELECT state FROM projection_states") == wanted)
    assert guard.publish(happened("B", 1))[0].status == "parked"
    assert not acted.is_done
    valve.open()
    bed.wait_until(lambda: acted.is_done and delivery.is_done)
    acted.answer()
    assert statuses(delivery.answer()) == ["applied"]
    assert seen == [[1]]


def acting_then_looking(bed: Bed, guard: GuardOnBed, action: str, seen: list[Any], look: Any = None) -> Any:
    """Pause or reset, and look at the effects the moment that returns."""
    act = getattr(guard.real, action)
    look = look or (lambda: bed.effects("P"))
    if not bed.is_async:
        act("P", actor="alice")
        return seen.append(look())

    async def act_then_look() -> None:
        await act("P", actor="alice")
        seen.append(look())

    return act_then_look()


def test_pause_waits_for_a_retry_in_flight(server_bed: Bed) -> None:
    """A worker's transaction is waited out like a delivery's."""
    bed, valve, note = server_bed, Valve(server_bed), noted("P")
    guard, _planned = with_failure(bed)
    other = bed.guard(retry=HOURS)
    other.real.projection("P", handles=[Happened])(valve.joined(note))
    make_due(bed)
    round_of_work = going(bed, lambda: other.real.worker().run_once())
    bed.wait_until(lambda: valve.reached == 1)
    seen = list[Any]()
    paused = going(bed, lambda: acting_then_looking(bed, guard, "pause", seen))
    bed.wait_until(lambda: bed.value("SELECT state FROM projection_states") == "paused")
    assert guard.publish(happened("B", 1))[0].status == "parked"
    assert not paused.is_done
    valve.open()
    bed.wait_until(lambda: paused.is_done and round_of_work.is_done)
    paused.answer()
    assert seen == [[("A", 1)]]
