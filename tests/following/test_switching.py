"""A projection that was pushed is followed from now on: the log is compared with what is on record; nothing is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.event import listen

from projection_guard import ConfigurationError, FailureBusy, InvalidArgument
from projection_guard._io.protocol import drive
from tests.bed import Bed, GuardOnBed, Happened
from tests.flow.acting import (
    Planned,
    Valve,
    active_equals_open_rows,
    going,
    make_due,
    states_of,
    statuses,
    work_until_done,
)
from tests.following.beside import Model
from tests.following.logs import FollowedLog


@pytest.fixture
def log(bed: Bed) -> FollowedLog:
    """A log in the bed's database."""
    return FollowedLog(bed)


def pushed(bed: Bed, planned: Planned, kind: str = "joined") -> GuardOnBed:
    """Return a guard without a source."""
    guard = bed.guard()
    planned.register(bed, guard, kind)
    return guard


def followed(bed: Bed, log: FollowedLog, planned: Planned, kind: str = "joined") -> GuardOnBed:
    """Return a guard with the log as its source."""
    guard = log.guard()
    planned.register(bed, guard, kind)
    return guard


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_what_was_applied_is_not_applied_again_and_what_was_missed_is(bed: Bed, log: FollowedLog, kind: str) -> None:
    """Applied, failed, parked, and never published: each is where it belongs, and in the end all have been applied."""
    planned = Planned("P", "B#2")
    old = pushed(bed, planned, kind)
    events = log.append("A", "B", "A", "B", "B", "C", "A")
    for event in events:
        if event.event_id not in ("C#1", "A#3"):
            old.publish(event)
    assert states_of(bed, "P")["B#2"] == "failed"
    planned.calls.clear()
    new = followed(bed, log, planned, kind)
    log.append("A", "B")
    new.catch_up("P")
    assert planned.calls == ["C#1", "A#3", "A#4"]
    assert states_of(bed, "P")["B#4"] == "parked"
    planned.heal()
    make_due(bed)
    new.work()
    new.work()
    effects = bed.effects("P") if kind == "joined" else planned.done
    for stream in log.lengths:
        assert [effect for effect in effects if effect[0] == stream] == log.of_stream(stream)
    assert new.checkpoint("P").last_event_sequence == 9
    assert new.streams("P", state="tainted").items == ()
    assert active_equals_open_rows(bed)
    assert [row.action for row in bed.rows("SELECT action FROM projection_audit_log")] == ["follow"]


def test_an_event_that_was_missed_before_later_ones_taints_its_stream(bed: Bed, log: FollowedLog) -> None:
    """It comes after them now: that is never silent."""
    planned = Planned("P")
    old = pushed(bed, planned)
    first, second = log.append("A", "A")
    old.publish(second)
    new = followed(bed, log, planned)
    new.catch_up("P")
    assert planned.calls == [second.event_id, first.event_id]
    (stream,) = new.streams("P", state="tainted").items
    assert "missed before" in str(stream.tainted_reason)


def test_an_event_that_was_missed_before_parked_ones_is_applied_before_them(bed: Bed, log: FollowedLog) -> None:
    """A#1 failed, A#3 is parked, A#2 was never published: the drain goes by the log's order."""
    planned = Planned("P", "A#1")
    old = pushed(bed, planned)
    first, _, third = log.append("A", "A", "A")
    old.publish(first)
    old.publish(third)
    new = followed(bed, log, planned)
    new.catch_up("P")
    planned.heal()
    make_due(bed)
    new.work()
    new.work()
    assert bed.effects("P", "A") == log.of_stream("A")


def test_it_is_refused_where_what_was_applied_is_forgotten(bed: Bed, log: FollowedLog) -> None:
    """With the way out: a person says where to begin."""
    planned = Planned("P")
    old = pushed(bed, planned)
    for event in log.append("A", "B"):
        old.publish(event)
    old.work()
    bed.change("UPDATE projection_applied_events SET applied_at = :then", then="2020-01-01 00:00:00.000000")
    old.work()
    new = followed(bed, log, planned)
    with pytest.raises(ConfigurationError, match=r"partly forgotten already.*follow_from"):
        new.catch_up("P")
    new.follow_from("P", 2, actor="alice", note="it was up to date")
    log.append("A")
    new.catch_up("P")
    assert planned.calls == ["A#1", "B#1", "A#2"]
    rows = bed.rows("SELECT action, actor, note FROM projection_audit_log")
    assert [tuple(row) for row in rows] == [("follow_from", "alice", "it was up to date")]


def test_what_was_applied_is_not_forgotten_before_the_log_was_compared_with_it(bed: Bed, log: FollowedLog) -> None:
    """A pause, or a long log: the deduplication window ends meanwhile, and the event comes again in the log (P3)."""
    planned = Planned("P")
    old = pushed(bed, planned)
    for event in log.append("A", "B", "A"):
        old.publish(event)
    old.work()
    new = followed(bed, log, planned)
    new.pause("P", actor="alice")
    bed.change("UPDATE projection_applied_events SET applied_at = :then", then="2020-01-01 00:00:00.000000")
    new.work()
    new.resume("P", actor="alice")
    new.catch_up("P")
    assert planned.calls == ["A#1", "B#1", "A#2"]
    assert new.work().pruned == 3


def test_nobody_follows_before_a_person_has_said_from_where(server_bed: Bed) -> None:
    """Others are refused while that waits for what is in flight: from the beginning, all would be applied again."""
    bed, log, planned, valve = server_bed, FollowedLog(server_bed), Planned("P"), Valve(server_bed)
    old, other = pushed(bed, planned), bed.guard()
    for event in log.append("A", "B"):
        old.publish(event)
    old.work()
    bed.change("UPDATE projection_applied_events SET applied_at = :then", then="2020-01-01 00:00:00.000000")
    old.work()
    other.real.projection("Q", handles=[Happened])(valve.joined(lambda *_: None))
    (event,) = log.append("C")
    call = going(bed, lambda: other.real.apply("Q", event))
    bed.wait_until(lambda: valve.reached == 1)
    new, worker = followed(bed, log, planned), followed(bed, log, planned)
    saying = going(bed, lambda: new.real.follow_from("P", 2, actor="alice"))
    bed.wait_until(lambda: bed.value("SELECT mode FROM projection_states WHERE projection_name = 'P'") == "followed")
    begun = going(bed, lambda: worker.real.catch_up("P"))
    try:
        bed.wait_until(lambda: begun.is_done, within=10)
        with pytest.raises(ConfigurationError, match="partly forgotten already"):
            begun.answer()
    finally:
        valve.open()
        bed.wait_until(lambda: call.is_done and saying.is_done)
    saying.answer()
    worker.catch_up("P")
    assert planned.calls == ["A#1", "B#1", "C#1"]


def test_where_to_begin_that_was_not_said_to_its_end_changes_nothing(server_bed: Bed) -> None:
    """Broken off while something is in flight, the log is still compared with what was pushed (P3)."""
    bed, log, planned, valve = server_bed, FollowedLog(server_bed), Planned("P"), Valve(server_bed)
    if not bed.is_async or bed.database != "postgresql":
        pytest.skip("a thread is not cancelled, and others wait in another way")
    old, other = pushed(bed, planned), bed.guard()
    first, second, third = log.append("A", "B", "C")
    old.publish(first)
    old.publish(second)
    new = followed(bed, log, planned)
    new.pause("P", actor="alice")
    other.real.projection("Q", handles=[Happened])(valve.joined(lambda *_: None))
    call = going(bed, lambda: other.real.apply("Q", third))
    bed.wait_until(lambda: valve.reached == 1)
    waits = list[bool]()

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        waits.extend([True] * ("pg_locks" in statement))

    listen(new.real._sync_engine, "before_cursor_execute", note)

    async def begun() -> asyncio.Task[None]:
        return asyncio.create_task(new.real.follow_from("P", 1, actor="alice"))

    saying = bed.run(begun())
    bed.wait_until(lambda: len(waits) > 2)
    saying.cancel()
    bed.wait_until(saying.done)
    valve.open()
    bed.wait_until(lambda: call.is_done)
    new.resume("P", actor="alice")
    new.catch_up("P")
    assert planned.calls == ["A#1", "B#1", "C#1"]


def test_a_stream_is_not_replayed_before_the_log_was_compared_with_what_was_pushed(bed: Bed, log: FollowedLog) -> None:
    """It would be cleared, and what is on record of it passed over in the log: gone from the read model (P1)."""
    planned = Planned("P")
    old = pushed(bed, planned)
    for event in log.append("A", "B", "A"):
        old.publish(event)
    new = log.guard()
    planned.register(bed, new, "joined", on_reset_stream=forgets(bed))
    with pytest.raises(FailureBusy, match="compared with what was pushed, up to sequence 3"):
        new.replay("P", stream_id="A", actor="alice")
    new.catch_up("P")
    assert planned.calls == ["A#1", "B#1", "A#2"]
    assert new.replay("P", stream_id="A", actor="alice").status == "completed"
    assert bed.effects("P") == [("B", 1), ("A", 1), ("A", 2)]


def forgets(bed: Bed) -> Any:
    """Return an `on_reset_stream` that empties `effects` of a stream."""

    def forget(connection: Connection, stream_id: str) -> None:
        connection.execute(text("DELETE FROM effects WHERE stream = :s"), {"s": stream_id})

    async def forget_async(connection: Any, stream_id: str) -> None:
        await connection.run_sync(forget, stream_id)

    return forget_async if bed.is_async else forget


def test_what_was_parked_during_a_reset_is_on_record_too(server_bed: Bed) -> None:
    """It is all that there is on record then; drained, it is not applied once more when the log comes to it (P3)."""
    bed, log, planned, valve = server_bed, FollowedLog(server_bed), Planned("P"), Valve(server_bed)
    old = bed.guard()
    clearing = valve.joined(lambda _, connection: connection.execute(text("DELETE FROM effects")))

    def blocking_reset(connection: Any) -> None:
        clearing(None, connection)

    async def async_reset(connection: Any) -> None:
        await clearing(None, connection)

    planned.register(bed, old, "joined", on_reset=async_reset if bed.is_async else blocking_reset)
    for event in log.append("A", "A"):
        old.publish(event)
    reset = going(bed, lambda: old.real.reset("P", actor="alice"))
    bed.wait_until(lambda: valve.reached == 1)
    for event in log.append("A", "B"):
        assert statuses(old.publish(event)) == ["parked"]
    valve.open()
    bed.wait_until(lambda: reset.is_done)
    reset.answer()
    planned.calls.clear()
    new = followed(bed, log, planned)
    assert new.health("P").parked_events == 2  # it has begun to follow
    draining = new.real._service.work_on("P", batch=100, stops=lambda: False)  # as a worker does, in a lane of its own
    bed.run(draining) if bed.is_async else drive(draining)
    assert bed.effects("P") == [("A", 3), ("B", 1)]
    new.catch_up("P")
    assert sorted(bed.effects("P")) == [("A", 1), ("A", 2), ("A", 3), ("B", 1)]


def test_a_new_projection_begins_at_the_logs_beginning(bed: Bed, log: FollowedLog) -> None:
    """Or where a person says."""
    log.append("A", "B", "A")
    first, second = Planned("P"), Planned("Q")
    guard = followed(bed, log, first)
    second.register(bed, guard, "joined")
    guard.follow_from("Q", 2, actor="alice")
    guard.catch_up()
    assert (first.calls, second.calls) == (["A#1", "B#1", "A#2"], ["A#2"])


def test_what_is_being_followed_is_paused_before_it_begins_elsewhere(bed: Bed, log: FollowedLog) -> None:
    """A cursor is not moved under somebody's feet."""
    log.append("A", "B", "A")
    planned = Planned("P")
    guard = followed(bed, log, planned)
    guard.catch_up("P")
    with pytest.raises(InvalidArgument, match="is being followed; pause it first"):
        guard.follow_from("P", 1, actor="alice")
    guard.pause("P", actor="alice")
    guard.follow_from("P", 1, actor="alice")
    guard.resume("P", actor="alice")
    guard.catch_up("P")
    assert planned.calls == ["A#1", "B#1", "A#2", "B#1", "A#2"]


def test_where_to_begin_is_not_said_while_a_job_is_under_way(bed: Bed) -> None:
    """Its slices' places would be forgotten with the cursors, and all would be applied to what it builds once more."""
    model = Model(bed, FollowedLog(bed))
    guard = model.guard()
    model.log.append("A", "B", "A")
    guard.catch_up("P")
    guard.pause("P", actor="alice")
    job = guard.start_replay("P", into="next", actor="alice")
    with pytest.raises(FailureBusy, match="is being rebuilt already"):
        guard.follow_from("P", 1, actor="alice")
    guard.cancel_replay(job.id, actor="alice")
    guard.follow_from("P", 1, actor="alice")
    assert model.log.cursors() == [1]


def test_a_publisher_without_the_log_leaves_the_event_to_the_followers(bed: Bed, log: FollowedLog) -> None:
    """A process of the old kind beside those of the new one: its events are in the log as well."""
    planned = Planned("P")
    old, new = pushed(bed, planned), followed(bed, log, planned)
    new.catch_up("P")
    (event,) = log.append("A")
    assert statuses(old.publish(event)) == ["deferred"]
    assert planned.calls == []
    new.catch_up("P")
    assert planned.calls == ["A#1"]


def test_a_process_that_has_no_log_leaves_what_is_open_to_those_that_have(bed: Bed, log: FollowedLog) -> None:
    """Also one that was there before: it drained by arrival, and had no way back to what others parked (P2)."""
    planned = Planned("P", "A#1")
    old = pushed(bed, planned)
    first, _, third, _ = log.append("A", "A", "A", "A")
    old.publish(first)
    old.publish(third)
    new = followed(bed, log, planned)
    new.catch_up("P")
    planned.heal()
    make_due(bed)
    done = old.work()
    assert (done.retried, done.drained, states_of(bed, "P")["A#1"]) == (0, 0, "failed")
    work_until_done(bed, new)
    assert bed.effects("P", "A") == log.of_stream("A")


def test_a_retry_needs_the_log_that_the_event_is_in(bed: Bed, log: FollowedLog) -> None:
    """A guard without a source leaves a followed projection's failures alone."""
    planned = Planned("P", "A#1")
    new = followed(bed, log, planned)
    log.append("A")
    new.catch_up("P")
    old = pushed(bed, planned)
    make_due(bed)
    assert old.work().retried == 0
    with pytest.raises(ConfigurationError, match="has no source= to read its events from"):
        old.resolve(new.failures("P").items[0].id, "retry", actor="alice")


def test_another_number_of_partitions_is_refused_with_the_way_out(bed: Bed, log: FollowedLog) -> None:
    """It is laid out anew by a person, who says where it has come to."""
    planned = Planned("P")
    log.append("A", "B")
    followed(bed, log, planned).catch_up("P")
    other = log.guard()
    bed.joined(other, "P", planned.joined, partitions=4)
    with pytest.raises(ConfigurationError, match="followed in 1 partitions, and partitions=4 was said"):
        other.catch_up("P")
    bed.change("UPDATE projection_states SET state = 'paused'")
    other.follow_from("P", 2, actor="alice")
    other.resume("P", actor="alice")
    log.append("C")
    other.catch_up("P")
    assert planned.calls == ["A#1", "B#1", "C#1"]
    assert log.cursors() == [3, 3, 3, 3]
