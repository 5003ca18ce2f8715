"""Verifying a live read model: a copy is made of the log alone and compared with it; the live one is not touched."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, text

from projection_guard import ConfigurationError, FailureBusy, InvalidArgument, Replay
from projection_guard._io.protocol import drive
from tests.bed import Bed, Happened, noted
from tests.faults.processes import Victim
from tests.flow.acting import audit
from tests.following.beside import LATER, Model, run_for
from tests.following.logs import FollowedLog
from tests.following.members import PROGRAM
from tests.following.verified import copies, found, left_out, row_counts, untouched

MODEL = ("totals", "entries")
TABLES = ["effects", "counted"]


@pytest.fixture
def model(bed: Bed) -> Model:
    """A read model that follows a log."""
    return Model(bed, FollowedLog(bed))


def test_one_that_is_as_the_log_says_is_found_to_be_so_and_not_touched(bed: Bed, model: Model) -> None:
    """With what is failed and parked left out of the copy: it is counted apart, and is no difference."""
    told: list[tuple[str, str | None]] = []
    guard = model.guard(observers=[lambda notice: told.append((str(notice.kind), notice.after))])
    model.failing = {"B#2"}
    model.log.append("A", "B", "A", "B", "C", "B", "A")
    guard.catch_up("P")
    model.failing = set()  # it would be applied now: it is left out because the live one waits for it
    told.clear()
    before = untouched(bed, *MODEL)
    job: Replay = guard.verify("P", actor="alice", note="a look")
    assert untouched(bed, *MODEL) == before
    assert (found(job), job.drifted, job.kind) == ({}, False, "verify")
    assert left_out(job) == {"waiting": ["B#2", "B#3"]}
    assert (job.events_replayed, job.events_skipped, job.events_failed, job.position) == (5, 2, 0, 7)
    assert row_counts(job) == dict.fromkeys(MODEL, (0, 0, 0))
    assert copies(bed) == []
    assert told == [("verified", "alike")]
    assert audit(bed)[-1] == ("verify", "alice", "P", "a look")
    guard.catch_up("P")
    assert model.totals() == {"A": 3, "B": 1, "C": 1}


def test_rows_that_were_changed_deleted_or_added_by_hand_are_told_by_their_keys(bed: Bed, model: Model) -> None:
    """No others, and no values of them."""
    guard = model.guard()
    model.log.append_many(60, streams=6)
    guard.catch_up("P")
    bed.change("UPDATE totals SET total = 987654 WHERE stream = 'S1'")
    bed.change("DELETE FROM entries WHERE stream IN ('S2', 'S4')")
    bed.change("DELETE FROM totals WHERE stream = 'S4'")
    bed.change("INSERT INTO totals VALUES ('by hand', 4321)")
    before = untouched(bed, *MODEL)
    job = guard.verify("P", into="copied", max_differences=3, actor="alice")
    assert untouched(bed, *MODEL) == before
    assert found(job) == {
        "totals": [[("S4",)], [("by hand",)], [("S1", "total")]],
        "entries": [[("S2", "1"), ("S2", "2"), ("S2", "3")], [], []],
    }
    assert row_counts(job) == {"totals": (1, 1, 1), "entries": (20, 0, 0)}
    assert job.compared["tables"][1]["ignored"] == ["id"]
    told = str(bed.value("SELECT compared FROM projection_replays"))
    assert "987654" not in told
    assert "4321" not in told
    assert copies(bed) == []


def test_the_live_one_goes_on_meanwhile_and_is_compared_where_it_is_then(bed: Bed, model: Model) -> None:
    """What is appended is applied while the copy is made, and is in the copy in the end."""
    guard, live = model.guard(), model.guard()
    model.log.append_many(120, streams=5)
    guard.catch_up("P")
    job = guard.start_verify("P", events_per_second=1000, actor="alice")
    assert run_for(bed, guard, job, steps=1).phase == "build"
    assert guard.health("P").state == "active"
    with pytest.raises(FailureBusy, match=f"being verified already: verify {job.id}, begun by alice"):
        live.rebuild("P", actor="bob")
    model.log.append_many(30, streams=7)
    live.catch_up("P")
    assert model.entries() == 150
    before = untouched(bed, *MODEL)
    done = run_for(bed, guard, job)
    assert untouched(bed, *MODEL) == before
    assert (found(done), done.events_replayed, done.ends_at, done.progress) == ({}, 150, 150, 1.0)
    model.log.append("A")
    live.catch_up("P")
    assert model.entries() == 151


def test_while_the_two_are_compared_nothing_is_applied(async_bed: Bed) -> None:
    """A follower waits for that moment, and goes on after it; so does one who is paused stay paused, by whom he was."""
    bed, model = async_bed, Model(async_bed, FollowedLog(async_bed))
    guard, live = model.guard(), model.guard()
    model.log.append("A", "B")
    guard.catch_up("P")
    guard.pause("P", actor="bob", reason="a look")
    before = bed.rows("SELECT state, actor, reason, changed_at FROM projection_states")
    job = guard.start_verify("P", actor="alice")
    bed.wait_until(lambda: run_for(bed, guard, job, steps=1).phase == "still")
    model.log.append("A")
    assert live.catch_up("P").waits == "replaying"
    with pytest.raises(FailureBusy, match="is replaying; wait until that has ended"):
        live.resume("P", actor="carol")
    assert found(run_for(bed, guard, job)) == {}
    assert bed.rows("SELECT state, actor, reason, changed_at FROM projection_states") == before
    guard.resume("P", actor="bob")
    live.catch_up("P")
    assert model.totals() == {"A": 2, "B": 1}


def test_while_the_live_one_stands_still_a_pause_comes_too_late(sqlite_bed: Bed) -> None:
    """Before that it rests, and the live one goes on; held by the breaker, that is no concern of the copy."""
    bed, model = sqlite_bed, Model(sqlite_bed, FollowedLog(sqlite_bed))
    guard = model.guard()
    model.log.append("A", "B")
    guard.catch_up("P")
    job = guard.start_verify("P", actor="alice")
    run_for(bed, guard, job, steps=1)
    guard.pause_replay(job.id, actor="bob")
    assert run_for(bed, guard, job).status == "paused"
    assert guard.health("P").state == "active"
    bed.change("UPDATE projection_states SET held_since = :now, probe_at = :now", now="2100-01-01 00:00:00.000000")
    guard.resume_replay(job.id, actor="bob")
    while run_for(bed, guard, job, steps=1).phase != "still":
        assert guard.replay_of(job.id).status == "running"
    guard.pause_replay(job.id, actor="bob")
    assert found(run_for(bed, guard, job)) == {}


def test_cancelled_it_drops_the_copy(blocking_bed: Bed) -> None:
    """In whichever part it is; the live one goes on."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    guard = model.guard()
    model.log.append_many(20, streams=2)
    guard.catch_up("P")
    for phase in ("build", "rest"):
        job = guard.start_verify("P", into="copied", actor="alice")
        while run_for(bed, guard, job, steps=1).phase != phase:
            assert guard.replay_of(job.id).status == "running"
        assert copies(bed) != []
        done = guard.cancel_replay(job.id, actor="bob")
        assert (done.status, done.drifted, copies(bed)) == ("cancelled", None, [])
        assert guard.health("P").state == "active"


def test_killed_in_the_middle_it_is_taken_up_by_another_worker(blocking_bed: Bed) -> None:
    """Nothing is applied to the copy twice, and nothing of the live one is touched."""
    bed = blocking_bed
    log = FollowedLog(bed)
    guard = log.guard(retry=LATER)
    bed.joined(guard, "P", noted("P"), tables=TABLES)
    log.append_many(45, streams=3)
    guard.catch_up("P")
    before = [bed.effects("P"), bed.rows("SELECT * FROM counted"), bed.rows("SELECT * FROM projection_failures")]
    order = {"tables": TABLES, "verifies": {"events_per_second": 80.0}, "ends_at": "S1#12", "how": "hang"}
    with Victim(PROGRAM, url=bed.url, kind=bed.kind, **order) as process:
        assert process.line() == "begun"
        assert process.line() == "reached"
        process.kill()
    (job,) = guard.replays("P").items
    assert (job.status, job.phase) == ("running", "build")
    assert 0 < job.events_replayed < 35
    with guard.real.worker(poll_seconds=0.05):
        bed.wait_until(lambda: guard.replay_of(job.id).is_finished)
    done = guard.replay_of(job.id)
    assert (found(done), done.events_replayed) == ({}, 45)
    live = [bed.effects("P"), bed.rows("SELECT * FROM counted"), bed.rows("SELECT * FROM projection_failures")]
    assert live == before
    assert copies(bed) == []


def test_what_cannot_be_verified_is_refused(sqlite_bed: Bed) -> None:
    """One that writes elsewhere, one that does not say what its tables are, one without a log."""
    bed = sqlite_bed
    guard = FollowedLog(bed).guard()
    bed.apart(guard, "apart", lambda event: None)
    bed.joined(guard, "joined", lambda event, connection: None)
    bed.joined(guard, "astray", lambda event, connection: None, tables=["nowhere"])
    with pytest.raises(InvalidArgument, match=r"'apart' writes elsewhere; only what .* or verified"):
        guard.verify("apart", actor="alice")
    with pytest.raises(InvalidArgument, match="register it with tables="):
        guard.start_verify("joined", actor="alice")
    with pytest.raises(ConfigurationError, match="no table 'nowhere' to verify"):
        guard.verify("astray", actor="alice")
    with pytest.raises(InvalidArgument, match="actor="):
        guard.verify("joined", actor="")
    pushed = bed.guard()
    bed.joined(pushed, "pushed", lambda event, connection: None, tables=["effects"])
    with pytest.raises(ConfigurationError, match="no event log"):
        pushed.verify("pushed", actor="alice")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"ignore": ["nothing"]}, "ignore= names 'nothing', and no table of totals, entries has such a column"),
    ({"ignore": ["totals.stream", "total"]}, "leaves no column of table 'totals'"),
    ({"ignore": "total"}, "ignore= takes a list of names"),
    ({"streams": ["A"], "stream_column": "nothing"}, "stream_column= names 'nothing'"),
    ({"stream_column": "stream"}, "give sample_streams= or streams= too"),
    ({"streams": ["A"], "sample_streams": 1}, "give one of the two"),
    ({"streams": []}, "streams= takes 1 to 1000 streams, not 0"),
    ({"streams": ["A\0"]}, "streams= takes a list of names"),
    ({"sample_streams": 0}, "sample_streams= takes a number from 1 to 1000, not 0"),
    ({"sample_streams": True}, "sample_streams= takes a number"),
    ({"max_differences": 1001}, "max_differences= takes a number from 0 to 1000"),
    ({"into": "No"}, "into= takes a name"),
    ({"events_per_second": 0}, "events_per_second= takes 0.1 or more"),
    ({"max_failures": -1}, "max_failures= takes a number of events"),
]


def test_what_cannot_be_asked_is_refused_and_nothing_is_begun(sqlite_bed: Bed) -> None:
    """Each with a sentence that names the option."""
    model = Model(sqlite_bed, FollowedLog(sqlite_bed))
    guard = model.guard()
    for options, words in WRONG:
        with pytest.raises(InvalidArgument, match=words):
            guard.verify("P", actor="alice", **options)
    assert guard.replays("P").items == ()


def test_a_place_that_is_taken_is_refused(blocking_bed: Bed) -> None:
    """Somebody's tables are never dropped for it."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    guard = model.guard()
    model.log.append("A")
    guard.catch_up("P")
    bed.change("CREATE TABLE copied_totals (n integer)" if bed.database == "sqlite" else "CREATE SCHEMA copied")
    job = guard.verify("P", into="copied", actor="alice")
    assert (job.status, job.drifted, len(copies(bed))) == ("failed", None, 1)
    assert "there already" in str(job.error)


def test_one_that_has_followed_nothing_yet_is_compared_with_nothing(sqlite_bed: Bed) -> None:
    """The log is not read past the live projection: what that has not come to is no difference."""
    model = Model(sqlite_bed, FollowedLog(sqlite_bed))
    guard = model.guard()
    model.log.append("A")
    job = guard.verify("P", actor="alice")
    assert (found(job), job.events_replayed, job.ends_at) == ({}, 0, 0)
    sqlite_bed.change("INSERT INTO totals VALUES ('A', 1)")
    assert found(guard.verify("P", actor="alice")) == {"totals": [[], [("A",)], []]}


def test_partitions_that_have_come_to_different_places_are_compared_each_where_it_is(blocking_bed: Bed) -> None:
    """An event beyond its own partition's place is not in the copy, whatever the others have."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    guard = model.log.guard(retry=LATER)
    bed.joined(guard, "P", model.handle, tables=["totals", "entries"], partitions=4)
    model.log.append_many(20, streams=8)
    guard.catch_up("P")
    model.log.append_many(20, streams=8)
    bed.change(
        "UPDATE projection_partitions SET lease_owner = 'other', lease_expires_at = :end WHERE partition = 1",
        end="2100-01-01 00:00:00.000000",
    )
    drive(guard.real._service.on_log.follow_once("P"))
    bed.change("UPDATE projection_partitions SET lease_owner = NULL, lease_expires_at = NULL")
    assert len(set(model.log.cursors())) == 2
    assert model.entries() < 40
    job = guard.verify("P", actor="alice")
    assert (found(job), job.events_replayed, job.ends_at) == ({}, model.entries(), 40)


def test_without_a_key_rows_are_counted(blocking_bed: Bed) -> None:
    """Equal ones as often as they are there."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    guard = model.log.guard(retry=LATER)

    def handle(event: Happened, connection: Connection) -> None:
        connection.execute(text("INSERT INTO journal VALUES (:s, :n)"), {"s": event.stream_id, "n": event.n % 2})

    bed.change("CREATE TABLE journal (stream varchar(50), n integer)")
    bed.joined(guard, "J", handle, tables=["journal"])
    model.log.append("A", "A", "A", "B", "B", "B")
    guard.catch_up("J")
    assert row_counts(guard.verify("J", actor="alice")) == {"journal": (0, 0, 0)}
    bed.change("INSERT INTO journal VALUES ('A', 1), ('A', 1), (NULL, NULL)")
    bed.change("UPDATE journal SET n = 7 WHERE stream = 'B' AND n = 0")
    job = guard.verify("J", actor="alice")
    assert (row_counts(job), job.drifted) == ({"journal": (1, 4, 0)}, True)
    assert "no key is left" in job.compared["tables"][0]["note"]
    job = guard.verify("J", ignore=["journal.n"], actor="alice")
    assert row_counts(job) == {"journal": (0, 3, 0)}
