"""A rebuild beside in which a set number of events may fail: they are failures of the live projection afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection

from projection_guard import ConfigurationError, InvalidArgument, Replay
from tests.bed import Bed, GuardOnBed, Happened
from tests.flow.acting import active_equals_open_rows, make_due, one_failure, snapshot, states_of, work_until_done
from tests.following.beside import LATER, Model, leftovers, run_for
from tests.following.logs import FollowedLog, rebuilt
from tests.following.verified import found, left_out


@pytest.fixture
def model(bed: Bed) -> Model:
    """A read model that follows a log."""
    return Model(bed, FollowedLog(bed))


def set_aside(bed: Bed) -> int:
    """Count what belongs to rebuilds that have not ended."""
    return int(bed.value("SELECT count(*) FROM projection_set_aside_events"))


def counts(job: Replay) -> tuple[str, int, int, int]:
    """Return what became of a job's events."""
    return job.status, job.events_replayed, job.events_skipped, job.events_failed


def in_order(bed: Bed, stream: str) -> list[int]:
    """Return a stream's events in the order in which they were applied."""
    return [row.n for row in bed.rows("SELECT n FROM entries WHERE stream = :s ORDER BY id", s=stream)]


def heal(bed: Bed, guard: GuardOnBed, model: Model) -> None:
    """Mend the handler, and let the retries and the drain do their work."""
    model.failing = set()
    make_due(bed)
    work_until_done(bed, guard)


def test_what_failed_beside_is_failed_after_the_exchange_and_heals_in_order(bed: Bed, model: Model) -> None:
    """With the later events of its stream parked behind it, gates, counts and notices included."""
    told: list[tuple[str, str | None]] = []
    guard = model.guard(observers=[lambda notice: told.append((str(notice.kind), notice.event_id))])
    model.log.append("A", "B", "A", "C", "B", "A", "B")
    guard.catch_up("P")
    model.failing, model.factor = {"A#2", "B#1"}, 10
    job = guard.rebuild("P", into="next", max_failures=2, actor="alice")
    assert counts(job) == ("completed", 2, 3, 2)
    assert told == [("failed", "B#1"), ("failed", "A#2"), ("status_changed", None), ("replayed", None)]
    assert states_of(bed, "P") == {
        "A#2": "failed",
        "A#3": "parked",
        "B#1": "failed",
        "B#2": "parked",
        "B#3": "parked",
    }
    assert (model.totals(), in_order(bed, "A")) == ({"A": 10, "C": 10}, [1])
    health = guard.health("P")
    assert (health.active_failures, health.parked_events, health.total_failures) == (2, 3, 2)
    assert active_equals_open_rows(bed)
    assert [stream.stream_id for stream in guard.streams("P", state="blocked").items] == ["A", "B"]
    assert guard.checkpoint("P").last_event_sequence == 7
    assert (leftovers(bed), set_aside(bed)) == ([], 0)
    model.log.append("A", "C")
    guard.catch_up("P")
    assert states_of(bed, "P")["A#4"] == "parked"
    heal(bed, guard, model)
    assert model.totals() == {"A": 40, "B": 30, "C": 20}
    assert {stream: in_order(bed, stream) for stream in "ABC"} == {"A": [1, 2, 3, 4], "B": [1, 2, 3], "C": [1, 2]}
    assert set(states_of(bed, "P").values()) == {"applied"}
    assert active_equals_open_rows(bed)


def test_one_failure_too_many_leaves_the_live_one_as_it_was(bed: Bed, model: Model) -> None:
    """What is open there stays open, and of what failed beside nothing is left."""
    guard = model.guard()
    model.failing = {"C#1"}
    model.log.append("A", "B", "C", "C", "A")
    guard.catch_up("P")
    before = snapshot(bed)
    model.failing, model.factor = {"A#1", "B#1"}, 10
    job = guard.rebuild("P", into="next", max_failures=1, actor="alice")
    assert (job.status, job.events_failed, job.max_failures) == ("failed", 1, 1)
    assert job.error == (
        "P: event 'B#1' (sequence 2) failed beside the live read model: ValueError; 1 had failed before, and "
        "max_failures is 1"
    )
    after = snapshot(bed)
    assert [table for table in before if before[table] != after[table]] == ["projection_audit_log"]
    assert (model.totals(), states_of(bed, "P")) == ({"A": 2, "B": 1}, {"C#1": "failed", "C#2": "parked"})
    assert (leftovers(bed), set_aside(bed)) == ([], 0)


def test_what_was_open_or_skipped_before_belongs_to_the_model_that_goes(bed: Bed, model: Model) -> None:
    """Applied beside, it is resolved by that; failed there too, it is a new failure; waiting there, it is parked."""
    guard = model.guard()
    model.failing = {"A#1", "B#1", "C#2", "D#1"}
    model.log.append("A", "A", "B", "C", "C", "D", "D")
    guard.catch_up("P")
    (skipped,) = [failure for failure in guard.failures("P").items if failure.event_id == "D#1"]
    guard.resolve(skipped.id, "skip", actor="bob")
    model.failing = {"B#1", "C#1", "D#1"}
    job = guard.rebuild("P", into="next", max_failures=3, actor="alice")
    assert counts(job) == ("completed", 2, 2, 3)
    expected = {"B#1": "failed", "C#1": "failed", "C#2": "parked", "D#1": "failed", "D#2": "parked"}
    assert states_of(bed, "P") == expected
    ended = bed.rows("SELECT event_id, resolution_method FROM projection_failures WHERE resolved_at IS NOT NULL")
    assert {row.event_id: row.resolution_method for row in ended} == {
        "A#1": "manual_replay",
        "B#1": "manual_reset",
        "C#2": "manual_reset",
        "D#1": "manual_skip",
    }
    assert active_equals_open_rows(bed)
    assert guard.streams("P", state="tainted").items == ()
    heal(bed, guard, model)
    assert {stream: in_order(bed, stream) for stream in "ABCD"} == {"A": [1, 2], "B": [1], "C": [1, 2], "D": [1, 2]}
    assert active_equals_open_rows(bed)


def test_what_was_skipped_before_and_is_applied_now_is_on_record_as_applied(bed: Bed, model: Model) -> None:
    """It is in the new read model: nobody looks for it among what was left out, and no verification misses it there."""
    guard = model.guard()
    model.failing = {"A#2", "B#1"}
    model.log.append("A", "A", "A", "B")
    guard.catch_up("P")
    for failure in guard.failures("P").items:
        guard.resolve(failure.id, "skip" if failure.event_id == "A#2" else "manual_fix", actor="bob")
    work_until_done(bed, guard)
    model.failing = set()
    assert guard.rebuild("P", into="next", actor="alice").status == "completed"
    assert (model.totals(), in_order(bed, "A")) == ({"A": 3, "B": 1}, [1, 2, 3])
    assert set(states_of(bed, "P").values()) == {"applied"}
    verified = guard.verify("P", actor="alice")
    assert (found(verified), left_out(verified)) == ({}, {})


def test_until_the_exchange_it_is_no_concern_of_the_live_one(bed: Bed, model: Model) -> None:
    """Whoever takes the job up goes on with what was set aside; nothing of it is on record of the live one before."""
    guard, other = model.guard(), model.guard()
    model.log.append("A", "B", "A", "A")
    guard.catch_up("P")
    model.failing = {"A#2"}
    job = guard.start_replay("P", into="next", max_failures=1, actor="alice")
    run_until_set_aside(bed, guard, job, 2)
    assert (states_of(bed, "P"), guard.health("P").active_failures) == ({}, 0)
    model.log.append("A", "B")
    done = run_for(bed, other, job)
    assert counts(done) == ("completed", 2, 1, 1)
    other.catch_up("P")
    assert states_of(bed, "P") == {"A#2": "failed", "A#3": "parked", "A#4": "parked"}
    heal(bed, guard, model)
    assert (model.totals(), in_order(bed, "A")) == ({"A": 4, "B": 2}, [1, 2, 3, 4])


def run_until_set_aside(bed: Bed, guard: GuardOnBed, job: Replay, number: int) -> None:
    """Run a job in small steps, until so many events are set aside; how far a step goes is the machine's affair."""
    for _ in range(50):
        if set_aside(bed) >= number:
            break
        run_for(bed, guard, job, steps=2)
    assert set_aside(bed) == number


def test_cancelled_it_leaves_nothing_behind(blocking_bed: Bed) -> None:
    """What was set aside is dropped, and the live one goes on."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    guard = model.guard()
    model.log.append("A", "B", "A", "A")
    guard.catch_up("P")
    model.failing = {"A#2"}
    job = guard.start_replay("P", into="next", max_failures=1, actor="alice")
    run_until_set_aside(bed, guard, job, 2)
    assert counts(guard.cancel_replay(job.id, actor="bob")) == ("cancelled", 2, 1, 1)
    assert (set_aside(bed), leftovers(bed)) == (0, [])
    model.log.append("A")
    guard.catch_up("P")
    assert (model.totals(), states_of(bed, "P")) == ({"A": 4, "B": 1}, {})


def test_an_event_that_kills_its_process_twice_has_failed(sqlite_bed: Bed) -> None:
    """It is known which one it was, for its attempt was written down; the others are applied."""
    bed, model = sqlite_bed, Model(sqlite_bed, FollowedLog(sqlite_bed))
    guard = model.guard()
    model.log.append("B", "A", "C", "B")
    guard.catch_up("P")
    job = guard.start_replay("P", into="next", max_failures=1, actor="alice")
    run_for(bed, guard, job, steps=1)
    bed.change("UPDATE projection_partitions SET hand_first = 1, hand_last = 1, hand_is_lone = 1 WHERE partition = -1")
    assert counts(run_for(bed, guard, job)) == ("completed", 2, 1, 1)
    assert states_of(bed, "P") == {"B#1": "failed", "B#2": "parked"}
    assert one_failure(guard, "P").error_type.endswith("HandlerDied")


def test_one_whose_transaction_is_lost_has_failed(bed: Bed, model: Model) -> None:
    """It is written down in a fresh one, in which no names are lent."""

    def handle(event: Happened, connection: Connection) -> None:
        model.handle(event, connection)
        if event.event_id == "A#1" and model.factor == 10:
            connection.exec_driver_sql("ROLLBACK")
            raise ValueError("planned")

    guard = model.log.guard(retry=LATER)
    bed.joined(guard, "P", handle, tables=["totals", "entries"])
    model.log.append("B", "A", "A", "B")
    model.factor = 10
    assert counts(guard.rebuild("P", into="next", max_failures=1, actor="alice")) == ("completed", 2, 1, 1)
    assert (model.totals(), states_of(bed, "P")) == ({"B": 20}, {"A#1": "failed", "A#2": "parked"})
    assert leftovers(bed) == []


def test_of_a_list_the_events_that_fail_are_told_one_by_one(blocking_bed: Bed) -> None:
    """A handler of lists is called again for each; one that cannot be rebuilt from the log has failed uncalled."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    spoilt = {"C#1"}

    def decoded(row: Any) -> Happened:
        if row["event_id"] in spoilt:
            raise KeyError("spoilt")
        return rebuilt(row)

    def handle(events: list[Happened], connection: Connection) -> None:
        for event in events:
            model.handle(event, connection)

    guard = model.log.guard(source=model.log.source(decoded), retry=LATER)
    bed.joined(guard, "P", handle, batch=10, tables=["totals", "entries"])
    model.log.append("A", "B", "C", "A", "D", "D")
    model.failing = {"A#1", "D#2"}
    assert guard.rebuild("P", into="next", max_failures=2, actor="alice").error == (
        "P: event 'D#2' (sequence 6) failed beside the live read model: ValueError; 2 had failed before, and "
        "max_failures is 2"
    )
    job = guard.rebuild("P", into="next", max_failures=3, actor="alice")
    assert counts(job) == ("completed", 2, 1, 3)
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "parked", "C#1": "failed", "D#2": "failed"}
    spoilt.clear()
    (unread,) = [failure for failure in guard.failures("P").items if failure.event_id == "C#1"]
    guard.resolve(unread.id, "retry", actor="alice")
    heal(bed, guard, model)
    assert model.totals() == {"A": 2, "B": 1, "C": 1, "D": 2}


@pytest.mark.parametrize("order", ["none", "global"])
def test_the_order_stays_what_it_was_until_the_rebuild_has_ended(sqlite_bed: Bed, order: str) -> None:
    """What waits beside waits in that order, and would be drained in another one never."""
    bed, model = sqlite_bed, Model(sqlite_bed, FollowedLog(sqlite_bed))
    guard, other = model.guard(), model.log.guard(retry=LATER)
    bed.joined(other, "P", model.handle, tables=["totals", "entries"], order=order)
    model.log.append("A", "A", "B")
    guard.catch_up("P")
    model.failing = {"A#1"}
    job = guard.start_replay("P", into="next", max_failures=1, actor="alice")
    run_for(bed, guard, job, steps=2)
    with pytest.raises(ConfigurationError, match=rf"beside {job.id}, .* then change order='stream' to '{order}'"):
        other.health()
    assert run_for(bed, guard, job).status == "completed"
    heal(bed, guard, model)
    assert in_order(bed, "A") == [1, 2]
    other.health()
    assert bed.value("SELECT ordering FROM projection_states") == order


def test_without_an_order_nothing_waits(sqlite_bed: Bed) -> None:
    """Each event stands for itself, beside as after the exchange."""
    bed, model = sqlite_bed, Model(sqlite_bed, FollowedLog(sqlite_bed))
    guard = model.log.guard(retry=LATER)
    bed.joined(guard, "P", model.handle, order="none", tables=["totals", "entries"])
    model.log.append("A", "A", "A")
    model.failing = {"A#1"}
    assert counts(guard.rebuild("P", into="next", max_failures=5, actor="alice")) == ("completed", 2, 0, 1)
    assert states_of(bed, "P") == {"A#1": "failed"}
    heal(bed, guard, model)
    assert in_order(bed, "A") == [2, 3, 1]


def test_in_one_line_none_may_fail(sqlite_bed: Bed) -> None:
    """A failure would hold all the rest: that is refused, and without failures it is built."""
    bed, model = sqlite_bed, Model(sqlite_bed, FollowedLog(sqlite_bed))
    guard = model.log.guard(retry=LATER)
    bed.joined(guard, "P", model.handle, order="global", tables=["totals", "entries"])
    model.log.append("A", "B")
    with pytest.raises(InvalidArgument, match="has order='global': a failure holds everything after it"):
        guard.rebuild("P", into="next", max_failures=1, actor="alice")
    assert guard.rebuild("P", into="next", actor="alice").status == "completed"
    model.failing = {"A#1"}
    assert guard.rebuild("P", into="next", actor="alice").status == "failed"


@pytest.mark.parametrize("most", [-1, True, 1.5, "3", 10_001])
def test_a_number_that_cannot_be_is_refused(sqlite_bed: Bed, most: Any) -> None:
    """It is a number of events."""
    guard = Model(sqlite_bed, FollowedLog(sqlite_bed)).guard()
    with pytest.raises(InvalidArgument, match="max_failures= takes a number of events from 0 to 10000, not"):
        guard.rebuild("P", into="next", max_failures=most, actor="alice")


def test_it_is_for_a_rebuild_beside_only(sqlite_bed: Bed) -> None:
    """A replay or rebuild in place keeps each failure, as following does."""
    guard = Model(sqlite_bed, FollowedLog(sqlite_bed)).guard()
    with pytest.raises(InvalidArgument, match="give into= too"):
        guard.rebuild("P", max_failures=1, actor="alice")
    with pytest.raises(InvalidArgument, match="give into= too"):
        guard.start_replay("P", max_failures=1, actor="alice")
