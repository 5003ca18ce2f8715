"""Reset: back to the beginning in one transaction, whatever is in flight or arrives meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, text
from tenacity import wait_fixed

from projection_guard import Breaker, RetryPolicy
from tests.bed import Bed, happened, noted
from tests.flow.acting import (
    Planned,
    Valve,
    active_equals_open_rows,
    audit,
    clears,
    going,
    listed,
    states_of,
    statuses,
    work_until_done,
)

HOURS = RetryPolicy(wait=wait_fixed(3600), breaker=None)


def test_reset_sets_a_projection_back_to_the_beginning(bed: Bed) -> None:
    """The read model is cleared, failures are resolved, parked events dropped, what was applied is forgotten."""
    guard, planned = bed.guard(retry=HOURS), Planned("P", "A#2")
    bed.joined(guard, "P", planned.joined, on_reset=clears(bed))
    bed.joined(guard, "Q", listed("Q"))
    events = [happened("A", 1, 1), happened("A", 2, 2), happened("A", 3, 3), happened("B", 1, 4)]
    for event in events:
        guard.publish(event)
    guard.reset("P", actor="alice")
    assert states_of(bed, "P") == {}
    assert bed.effects("P") == []
    assert bed.value("SELECT count(*) FROM projection_streams WHERE projection_name = 'P'") == 0
    health, checkpoint = guard.health("P"), guard.checkpoint("P")
    assert (health.status, health.active_failures, health.parked_events, health.state) == ("healthy", 0, 0, "active")
    assert (checkpoint.last_event_sequence, checkpoint.last_event_id, checkpoint.events_processed) == (None, None, 0)
    (failure,) = guard.failures("P", include_resolved=True).items
    assert (failure.resolution_method, failure.resolved_by) == ("manual_reset", "alice")
    assert active_equals_open_rows(bed)
    assert states_of(bed, "Q") == {event.event_id: "applied" for event in events}
    planned.heal()
    assert [statuses(guard.publish(event)) for event in events] == [["applied", "duplicate"]] * 4
    assert bed.effects("P") == [("A", 1), ("A", 2), ("A", 3), ("B", 1)]
    assert guard.checkpoint("P").last_event_sequence == 4
    assert ("reset", "alice", "P", None) in audit(bed)


def test_a_failing_on_reset_leaves_everything_as_it_was(bed: Bed) -> None:
    """Its error is raised, what it cleared is back, and the projection goes on."""
    fails = [True]
    guard, planned = bed.guard(retry=HOURS), Planned("P", "A#2")
    bed.joined(guard, "P", planned.joined, on_reset=clears(bed, fails=fails))
    for n in (1, 2, 3):
        guard.publish(happened("A", n, n))
    before = states_of(bed, "P")
    with pytest.raises(ValueError, match="does not want to be cleared"):
        guard.reset("P", actor="alice")
    assert states_of(bed, "P") == before == {"A#1": "applied", "A#2": "failed", "A#3": "parked"}
    assert bed.effects("P") == [("A", 1)]
    assert guard.checkpoint("P").last_event_sequence == 3
    assert guard.health("P").state == "active"
    assert active_equals_open_rows(bed)
    assert guard.publish(happened("B", 1))[0].status == "applied"
    fails[0] = False
    guard.reset("P", actor="alice")
    assert states_of(bed, "P") == {}


def test_events_published_during_a_reset_survive_it(server_bed: Bed) -> None:
    """They are parked and applied afterwards, in order, on top of the cleared read model."""
    bed, valve = server_bed, Valve(server_bed)
    guard = bed.guard()
    on_reset = valve.joined(lambda _, connection: connection.execute(text("DELETE FROM effects")))

    def blocking_reset(connection: Any) -> None:
        on_reset(None, connection)

    async def async_reset(connection: Any) -> None:
        await on_reset(None, connection)

    bed.joined(guard, "P", noted("P"), on_reset=async_reset if bed.is_async else blocking_reset)
    for n in (1, 2):
        guard.publish(happened("A", n))
    reset = going(bed, lambda: guard.real.reset("P", actor="alice"))
    bed.wait_until(lambda: valve.reached == 1)
    assert [guard.publish(event)[0].status for event in (happened("A", 3), happened("A", 4), happened("B", 1))] == [
        "parked"
    ] * 3
    valve.open()
    bed.wait_until(lambda: reset.is_done)
    reset.answer()
    work_until_done(bed, guard)
    assert bed.effects("P", "A") == [("A", 3), ("A", 4)]
    assert bed.effects("P", "B") == [("B", 1)]
    assert set(states_of(bed, "P").values()) == {"applied"}
    assert guard.streams("P").items == ()


def test_a_paused_projection_stays_paused_through_a_reset(bed: Bed) -> None:
    """Nobody resumed it; what was parked before belongs to the past."""
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"), on_reset=clears(bed))
    guard.pause("P", actor="alice")
    guard.publish(happened("A", 1))
    guard.reset("P", actor="alice")
    assert guard.health("P").state == "paused"
    assert guard.health("P").parked_events == 0
    assert guard.publish(happened("A", 1))[0].status == "parked"
    guard.resume("P", actor="alice")
    guard.work()
    assert bed.effects("P") == [("A", 1)]


def test_a_reset_ends_the_breakers_hold(bed: Bed) -> None:
    """The outage is forgotten with everything else."""
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600), breaker=Breaker(failures=2, streams=2)))
    planned = Planned("P", "A#1", "B#1")
    bed.joined(guard, "P", planned.joined)
    for stream in "AB":
        guard.publish(happened(stream, 1))
    assert guard.health("P").held_since is not None
    guard.reset("P", actor="alice")
    assert guard.health("P").held_since is None
    planned.heal()
    assert guard.publish(happened("A", 1))[0].status == "applied"


def test_a_reset_without_on_reset_forgets_only_the_books(bed: Bed) -> None:
    """The read model is the application's; without `on_reset` it stays as it is."""
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    guard.publish(happened("A", 1))
    guard.reset("P", actor="alice")
    assert bed.effects("P") == [("A", 1)]
    assert guard.publish(happened("A", 1))[0].status == "applied"


def test_on_reset_may_not_commit(bed: Bed) -> None:
    """It runs in the guard's transaction, like a joined handler."""
    guard = bed.guard()

    def clear(connection: Connection) -> None:
        connection.execute(text("DELETE FROM effects"))
        connection.commit()

    async def async_clear(connection: Any) -> None:
        await connection.run_sync(clear)

    bed.joined(guard, "P", noted("P"), on_reset=async_clear if bed.is_async else clear)
    guard.publish(happened("A", 1))
    with pytest.raises(RuntimeError, match="must not commit"):
        guard.reset("P", actor="alice")
    assert bed.effects("P") == [("A", 1)]
    assert states_of(bed, "P") == {"A#1": "applied"}
    assert guard.health("P").state == "active"
