"""A rebuild beside the live read model: readers never see a half-built one, and one that fails leaves all as it was."""

from __future__ import annotations

from typing import Any

import pytest

from projection_guard import FailureBusy, InvalidArgument, Replay, StoreUnavailable
from projection_guard._io.protocol import drive
from tests.bed import Bed
from tests.flow.acting import active_equals_open_rows, going, states_of
from tests.following.beside import Model, halfway, leftovers, run_for
from tests.following.logs import FollowedLog


@pytest.fixture
def model(bed: Bed) -> Model:
    """A read model that follows a log."""
    return Model(bed, FollowedLog(bed))


def test_it_takes_the_live_ones_place_at_once(bed: Bed, model: Model) -> None:
    """With everything that was appended meanwhile, open failures settled, and the differences told."""
    guard = model.guard()
    model.failing = {"B#2"}
    model.log.append("A", "B", "A", "B", "B")
    guard.catch_up("P")
    assert (model.totals(), model.entries()) == ({"A": 2, "B": 1}, 3)
    model.failing, model.factor = set(), 10
    model.log.append("C")
    job: Replay = guard.rebuild("P", into="next", actor="alice")
    assert (job.status, job.kind, job.events_replayed, job.error) == ("completed", "beside", 6, None)
    assert (model.totals(), model.entries()) == ({"A": 20, "B": 30, "C": 10}, 6)
    checkpoint = guard.checkpoint("P")
    assert (checkpoint.last_event_sequence, checkpoint.last_event_id) == (6, "C#1")
    assert bed.value("SELECT total FROM sums") == 60
    told = {each["table"]: each for each in job.compared}  # type: ignore[union-attr, call-overload, index]
    assert (told["totals"]["rows_before"], told["totals"]["rows_after"]) == (2, 3)  # type: ignore[index, call-overload]
    assert (told["entries"]["only_before"], told["entries"]["only_after"]) != (0, 0)  # type: ignore[index, call-overload]
    assert states_of(bed, "P") == {}
    assert active_equals_open_rows(bed)
    health = guard.health("P")
    assert (health.state, health.status, health.lag_events) == ("active", "healthy", 0)
    assert leftovers(bed) == []
    model.log.append("A", "B")
    guard.catch_up("P")
    assert (model.totals(), model.entries()) == ({"A": 30, "B": 40, "C": 10}, 8)
    assert guard.checkpoint("P").last_event_sequence == 8


def test_readers_never_see_a_half_built_one(bed: Bed, model: Model) -> None:
    """Whoever polls it meanwhile sees as many rows as before, or more; and events that are appended are applied."""
    guard, live = model.guard(), model.guard()
    model.log.append_many(600, streams=6)
    guard.catch_up("P")
    seen: list[int] = []

    def look() -> bool:
        seen.append(model.entries())
        return under_way.is_done

    job = guard.start_replay("P", into="next", events_per_second=400, actor="alice")
    bed.wait_until(lambda: halfway(bed, guard, job))
    assert model.entries() == 600
    model.log.append_many(30, streams=6)
    live.catch_up("P")
    assert model.entries() == 630

    def run() -> Any:
        work = guard.real._service.on_log.run_replay("P", job.id, stops=lambda: False)
        return work if bed.is_async else drive(work)

    under_way = going(bed, run)
    bed.wait_until(look, within=60)
    done = under_way.answer()
    assert (done.status, done.events_replayed) == ("completed", 630)
    assert set(seen) == {630}
    assert sum(model.totals().values()) == 630
    assert [each["only_before"] for each in done.compared if each["table"] == "totals"] == [0]


def test_one_that_fails_leaves_the_live_one_in_place(bed: Bed, model: Model) -> None:
    """It is said which event it was, and nothing is left behind."""
    guard = model.guard()
    model.log.append("A", "B", "A")
    guard.catch_up("P")
    model.failing = {"A#2"}
    job = guard.rebuild("P", into="next", actor="alice")
    assert job.status == "failed"
    assert job.error == "P: event 'A#2' (sequence 3) failed beside the live read model: ValueError"
    assert (model.totals(), model.entries(), states_of(bed, "P")) == ({"A": 2, "B": 1}, 3, {})
    assert leftovers(bed) == []
    model.failing = set()
    model.log.append("B")
    guard.catch_up("P")
    assert model.totals() == {"A": 2, "B": 2}
    assert guard.rebuild("P", into="next", actor="alice").status == "completed"


def test_it_may_be_cancelled(bed: Bed, model: Model) -> None:
    """The live one goes on, and what was built is gone."""
    guard = model.guard()
    model.log.append_many(300, streams=3)
    guard.catch_up("P")
    job = guard.start_replay("P", into="next", events_per_second=100, actor="alice")
    with pytest.raises(FailureBusy, match="being rebuilt already: beside"):
        guard.replay("P", actor="bob")
    with pytest.raises(FailureBusy, match=rf"being rebuilt already: beside {job.id}, begun by alice at 20"):
        guard.reset("P", actor="bob")
    assert guard.health("P").state == "active"
    assert guard.cancel_replay(job.id, actor="bob").status == "cancelled"
    model.log.append("A")
    guard.catch_up("P")
    assert model.entries() == 301
    assert leftovers(bed) == []


def test_a_place_that_is_taken_is_refused(bed: Bed, model: Model) -> None:
    """Somebody's tables are never dropped for it."""
    guard = model.guard()
    model.log.append("A")
    guard.catch_up("P")
    bed.change("CREATE TABLE next_totals (n integer)" if bed.database == "sqlite" else "CREATE SCHEMA next")
    job = guard.rebuild("P", into="next", actor="alice")
    assert job.status == "failed"
    assert "there already" in str(job.error)
    assert len(leftovers(bed)) == 1


@pytest.mark.parametrize("into", ["Next", "a.b", "", "x" * 60, "1st"])
def test_a_name_that_cannot_be_is_refused(bed: Bed, model: Model, into: str) -> None:
    """It becomes the name of a schema, or part of a table's."""
    guard = model.guard()
    with pytest.raises(InvalidArgument, match="into= takes a name"):
        guard.rebuild("P", into=into, actor="alice")


def test_what_cannot_be_built_beside_is_refused(bed: Bed) -> None:
    """One that writes elsewhere, and one that does not say what its tables are."""
    log = FollowedLog(bed)
    guard = log.guard()
    bed.apart(guard, "apart", lambda event: None)
    bed.joined(guard, "joined", lambda event, connection: None)
    with pytest.raises(InvalidArgument, match="writes elsewhere"):
        guard.rebuild("apart", into="next", actor="alice")
    with pytest.raises(InvalidArgument, match="register it with tables="):
        guard.rebuild("joined", into="next", actor="alice")


def test_it_is_taken_up_where_it_stopped(bed: Bed, model: Model) -> None:
    """By whoever comes next, if the one who built is gone."""
    guard, other = model.guard(), model.guard()
    model.log.append_many(400, streams=4)
    guard.catch_up("P")
    job = guard.start_replay("P", into="next", events_per_second=400, actor="alice")
    bed.wait_until(lambda: halfway(bed, guard, job))
    assert guard.replay_of(job.id).status == "running"
    work = other.real._service.on_log.run_replay("P", job.id, stops=lambda: False)
    done = bed.run(work) if bed.is_async else drive(work)
    assert (done.status, done.events_replayed) == ("completed", 400)
    assert (sum(model.totals().values()), model.entries()) == (400, 400)


def test_one_that_is_paused_is_built_beside_and_stays_paused(bed: Bed, model: Model) -> None:
    """The live one stands still until it is resumed."""
    guard = model.guard()
    model.log.append_many(20, streams=2)
    guard.catch_up("P")
    guard.pause("P", actor="alice", reason="a bug")
    model.log.append("S0")
    model.factor = 10
    done = guard.rebuild("P", into="next", actor="alice")
    assert (done.status, done.events_replayed) == ("completed", 21)
    assert (guard.health("P").state, model.totals()) == ("paused", {"S0": 110, "S1": 100})
    model.log.append("S1")
    assert guard.catch_up("P").waits == "paused"
    guard.resume("P", actor="alice")
    guard.catch_up("P")
    assert model.totals() == {"S0": 110, "S1": 110}


def test_a_pause_does_not_wait_for_what_is_built_beside(blocking_bed: Bed) -> None:
    """Somebody has a range of it in hand, and keeps it."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    guard = model.guard()
    model.log.append("A")
    guard.catch_up("P")
    job = guard.start_replay("P", into="next", actor="alice")
    run_for(bed, guard, job, steps=1)
    bed.change(
        "UPDATE projection_partitions SET hand_first = 1, hand_last = 1, lease_owner = 'other', lease_expires_at = :end"
        " WHERE partition < 0",
        end="2100-01-01 00:00:00.000000",
    )
    pausing = going(bed, lambda: guard.real.pause("P", actor="bob"))
    bed.wait_until(lambda: pausing.is_done)


def test_it_is_taken_up_when_the_live_one_stands_still(blocking_bed: Bed) -> None:
    """Whoever built is gone before he knew that nothing is in flight: the next one waits for that, and goes on."""
    bed = blocking_bed
    model = Model(bed, FollowedLog(bed))
    guard, other = model.guard(), model.guard()
    model.log.append_many(20, streams=2)
    guard.catch_up("P")
    job = guard.start_replay("P", into="next", actor="alice")
    run_for(bed, guard, job, steps=1)
    bed.change("ALTER TABLE projection_failures RENAME TO away")
    with pytest.raises(StoreUnavailable, match="in flight"):
        run_for(bed, guard, job)
    bed.change("ALTER TABLE away RENAME TO projection_failures")
    assert guard.health("P").state == "rebuilding"
    assert run_for(bed, other, job, steps=20).status == "completed"
    assert guard.health("P").state == "active"


def test_a_part_of_the_log_that_is_for_others(bed: Bed, model: Model) -> None:
    """It is passed over: no handler is called, and no names are lent."""
    guard = model.log.guard()
    bed.joined(guard, "P", model.handle, handles=["SomethingElse"], tables=["totals", "entries"])
    model.log.append("A", "B")
    guard.catch_up("P")
    assert guard.rebuild("P", into="next", actor="alice").status == "completed"
    assert guard.checkpoint("P").last_event_sequence == 2
