"""Following: what stands in the log is applied in its order, once, whoever published it and whatever fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text
from tenacity import wait_fixed

from projection_guard import Batch, RetryPolicy, SourceError, SqlEventSource
from projection_guard._io.protocol import drive
from tests.bed import Bed, Happened
from tests.flow.acting import Planned, make_due, one_failure, states_of, statuses
from tests.following.logs import FollowedLog, rebuilt

LATER = RetryPolicy(wait=wait_fixed(3600), breaker=None)


@pytest.fixture
def log(bed: Bed) -> FollowedLog:
    """A log in the bed's database."""
    return FollowedLog(bed)


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_what_stands_in_the_log_is_applied_in_its_order(bed: Bed, log: FollowedLog, kind: str) -> None:
    """Also what nobody published; and once, however often it is looked for."""
    guard, planned = log.guard(), Planned("P")
    planned.register(bed, guard, kind)
    log.append("A", "B", "A", "C", "A")
    caught_up = guard.catch_up("P")
    assert (caught_up.applied, caught_up.position, caught_up.waits) == (5, 5, None)
    log.append("B")
    assert guard.catch_up("P").applied == 1
    assert guard.catch_up("P").applied == 0
    assert planned.calls == ["A#1", "B#1", "A#2", "C#1", "A#3", "B#2"]
    checkpoint, health = guard.checkpoint("P"), guard.health("P")
    assert (checkpoint.last_event_sequence, checkpoint.last_event_id, checkpoint.events_processed) == (6, "B#2", 6)
    assert (health.status, health.lag_seconds, health.lag_events, health.total_events_processed) == ("healthy", 0, 0, 6)


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_many_stretches(bed: Bed, log: FollowedLog, kind: str) -> None:
    """More than fit into one transaction, with handlers that fail here and there."""
    guard, planned = log.guard(), Planned("P", "S3#7", "S1#20", "S1#21", "S5#1")
    planned.register(bed, guard, kind)
    log.append_many(730, streams=10)
    turn = guard.catch_up("P")
    assert turn.failed == 3
    assert turn.applied + turn.failed + turn.parked == 730
    states = states_of(bed, "P")
    assert states["S3#7"] == states["S1#20"] == states["S5#1"] == "failed"
    assert states["S1#21"] == states["S3#8"] == states["S5#73"] == "parked"
    assert log.cursors() == [730]
    planned.heal()
    for _ in range(3):
        make_due(bed)
        guard.work()
    effects = bed.effects("P") if kind == "joined" else planned.done
    for stream in log.lengths:
        assert [effect for effect in effects if effect[0] == stream] == log.of_stream(stream)
    health = guard.health("P")
    assert (health.active_failures, health.parked_events, health.status) == (0, 0, "healthy")
    assert guard.checkpoint("P").events_processed == 730


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_one_that_fails_holds_its_stream_only(bed: Bed, log: FollowedLog, kind: str) -> None:
    """A#1 fails: A#2 and A#3 wait, B#1 does not; healed, A is applied in order, with no operator."""
    guard, planned = log.guard(), Planned("P", "A#1")
    planned.register(bed, guard, kind)
    log.append("A", "A", "B", "A")
    guard.catch_up("P")
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "parked", "A#3": "parked"}
    assert planned.calls[-1] == "B#1"
    failure = one_failure(guard)
    assert (failure.event_sequence, failure.stream_id, failure.retry_count) == (1, "A", 0)
    planned.heal()
    guard.work()
    guard.work()
    effects = bed.effects("P", "A") if kind == "joined" else [done for done in planned.done if done[0] == "A"]
    assert effects == log.of_stream("A")
    log.append("A")
    guard.catch_up("P")
    assert planned.calls[-1] == "A#4"


def test_publish_defers_and_waits_if_it_is_asked_to(bed: Bed, log: FollowedLog) -> None:
    """It wakes the follower in this process, and tells what became of the event."""
    guard, planned = log.guard(worker="auto"), Planned("P", "B#1")
    planned.register(bed, guard, "joined", retry=LATER)
    (event,) = log.append("A")
    assert statuses(guard.publish(event)) == ["deferred"]
    bed.wait_until(lambda: planned.calls == ["A#1"])
    waiting = guard.real.publisher(wait=60)
    assert [statuses(bed.run(waiting.publish(event))) for event in log.append("A", "B", "B")] == [
        ["applied"],
        ["failed"],
        ["parked"],
    ]


def test_reading_ones_own_writes(bed: Bed, log: FollowedLog) -> None:
    """`wait_for` returns when a sequence was reached, and says so when it was not."""
    guard, planned = log.guard(worker="auto"), Planned("P")
    planned.register(bed, guard, "joined")
    guard.health()
    log.append("A", "B")
    guard.wait_for("P", 2, timeout=60)
    assert bed.effects("P") == [("A", 1), ("B", 1)]
    with pytest.raises(TimeoutError, match=r"has come to sequence 2 and not to 3 within 0\.05 s"):
        guard.wait_for("P", 3, timeout=0.05)


def test_a_handler_may_take_a_list(bed: Bed, log: FollowedLog) -> None:
    """With `batch=`; one that fails is taken one by one, so that it is known which event it was."""
    guard, sizes = log.guard(), list[int]()
    planned = Planned("P", "A#2")

    def body(events: list[Happened], connection: Connection) -> None:
        sizes.append(len(events))
        for event in events:
            planned.joined(event, connection)

    bed.joined(guard, "P", body, batch=500)
    log.append("A", "B", "A", "B")
    guard.catch_up("P")
    assert sizes[0] == 4
    assert states_of(bed, "P") == {"A#2": "failed"}
    assert bed.effects("P") == [("A", 1), ("B", 1), ("B", 2)]
    planned.heal()
    guard.work()
    assert bed.effects("P", "A") == log.of_stream("A")
    log.append_many(1000, streams=1)
    guard.catch_up("P")
    assert bed.effects("P", "S0") == log.of_stream("S0")
    assert max(sizes) == 500


def test_an_event_that_is_not_taken_moves_the_cursor(bed: Bed, log: FollowedLog) -> None:
    """A projection that handles nothing of the log has come to its end all the same."""
    guard = log.guard()
    bed.joined(guard, "P", lambda event, connection: None, handles=["SomethingElse"])
    log.append("A", "B")
    assert guard.catch_up("P").position == 2
    checkpoint = guard.checkpoint("P")
    assert (checkpoint.last_event_sequence, checkpoint.events_processed) == (2, 0)


def test_an_event_that_cannot_be_rebuilt_is_a_failure(bed: Bed, log: FollowedLog) -> None:
    """It holds its stream; with the mended reader it heals."""
    broken = [True]

    def decode(row: Any) -> Happened:
        if broken[0] and row["event_id"] == "A#1":
            raise KeyError("n")
        return rebuilt(row)

    guard, planned = log.guard(log.source(decode)), Planned("P")
    planned.register(bed, guard, "joined")
    log.append("A", "A", "B")
    guard.catch_up()
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "parked"}
    assert "could not rebuild" in one_failure(guard).error_message
    broken[0] = False
    guard.resolve(one_failure(guard).id, "retry", actor="alice")
    guard.work()
    assert bed.effects("P") == [("B", 1), ("A", 1), ("A", 2)]


def test_order_none_and_global(bed: Bed, log: FollowedLog) -> None:
    """Without order nothing waits; with one line for all, the log waits."""
    guard = log.guard()
    loose, strict = Planned("loose", "A#1"), Planned("strict", "A#1")
    loose.register(bed, guard, "joined", order="none")
    strict.register(bed, guard, "joined", order="global")
    log.append("A", "A", "B")
    results = {turn.projection: turn for turn in guard.catch_up()}
    assert states_of(bed, "loose") == {"A#1": "failed"}
    assert bed.effects("loose") == [("A", 2), ("B", 1)]
    assert states_of(bed, "strict") == {"A#1": "failed"}
    assert bed.effects("strict") == []
    assert results["strict"].waits == "a failure holds the whole projection"
    loose.heal()
    strict.heal()
    make_due(bed)
    guard.work()
    guard.work()
    assert bed.effects("strict") == [("A", 1), ("A", 2), ("B", 1)]
    assert bed.effects("loose")[-1] == ("A", 1)


def test_a_paused_projection_leaves_events_in_the_log(bed: Bed, log: FollowedLog) -> None:
    """Nothing is parked; they are applied when it goes on."""
    guard, planned = log.guard(), Planned("P")
    planned.register(bed, guard, "joined")
    guard.pause("P", actor="alice")
    log.append("A")
    assert guard.catch_up("P").waits == "paused"
    assert (planned.calls, states_of(bed, "P")) == ([], {})
    assert guard.health("P").lag_events == 1
    guard.resume("P", actor="alice")
    guard.catch_up("P")
    assert planned.calls == ["A#1"]


def test_reset_begins_at_the_beginning(bed: Bed, log: FollowedLog) -> None:
    """The read model is cleared, the cursor is 0, and what follows fills it again."""
    guard, planned = log.guard(), Planned("P", "A#2")

    def clear(connection: Connection) -> None:
        connection.exec_driver_sql("DELETE FROM effects")

    async def clear_async(connection: Any) -> None:
        await connection.run_sync(clear)

    planned.register(bed, guard, "joined", on_reset=clear_async if bed.is_async else clear)
    log.append("A", "A", "A", "B")
    guard.catch_up("P")
    planned.heal()
    guard.reset("P", actor="alice")
    assert (log.cursors(), bed.effects("P"), guard.checkpoint("P").last_event_sequence) == ([0], [], None)
    guard.catch_up("P")
    assert bed.effects("P") == [("A", 1), ("A", 2), ("A", 3), ("B", 1)]
    assert states_of(bed, "P") == {}


def test_run_once_follows_too(bed: Bed, log: FollowedLog) -> None:
    """One round brings a projection to the log's end, and leaves its partitions to others."""
    guard, planned = log.guard(), Planned("P")
    planned.register(bed, guard, "joined")
    log.append("A", "B")
    assert guard.work().followed == 2
    assert bed.value("SELECT count(*) FROM projection_partitions WHERE lease_owner IS NOT NULL") == 0


def test_a_checkpoint_beyond_the_log_is_reported(bed: Bed, log: FollowedLog) -> None:
    """The log was restored from a backup: the projection is offline, with the reason."""
    guard, planned = log.guard(), Planned("P")
    planned.register(bed, guard, "joined")
    log.append("A", "B", "C")
    guard.catch_up("P")
    bed.change("DELETE FROM log WHERE sequence > 1")
    health = guard.health("P")
    assert health.status == "offline"
    assert any("come to sequence 3, and the log ends at 1" in reason for reason in health.reasons)


def test_a_lag_grows_while_nobody_follows(bed: Bed, log: FollowedLog) -> None:
    """In events and in seconds; it is 0 again once the projection has caught up."""
    guard, planned = log.guard(), Planned("P")
    planned.register(bed, guard, "joined")
    guard.catch_up("P")
    log.append("A", "B")
    bed.change("UPDATE projection_partitions SET moved_at = :then", then="2020-01-01 00:00:00.000000")
    health = guard.health("P")
    assert (health.lag_events, health.status) == (2, "offline")
    assert health.lag_seconds > 3600
    assert any("nobody has followed it" in reason for reason in health.reasons)
    guard.catch_up("P")
    assert (guard.health("P").lag_events, guard.health("P").lag_seconds) == (0, 0)


@dataclass(frozen=True)
class Dated:
    """An event that tells when it occurred; its table does not."""

    event_id: str
    stream_id: str
    sequence: int
    occurred_at: datetime


def test_a_lag_is_the_age_of_the_next_event_where_that_tells_it(bed: Bed, log: FollowedLog) -> None:
    """A projection that moves through a long backlog is as far behind as the event before it is old."""

    def dated(row: Mapping[str, Any]) -> Dated:
        then = datetime.now(UTC) - timedelta(days=2)
        return Dated(event_id=row["event_id"], stream_id="A", sequence=row["sequence"], occurred_at=then)

    guard, planned = log.guard(log.source(dated)), Planned("P")
    bed.joined(guard, "P", planned.joined, handles=[Dated])
    guard.health("P")
    log.append("A", "B")
    health = guard.health("P")
    assert health.lag_seconds > 86_400
    assert not any("nobody has followed it" in reason for reason in health.reasons)


def test_an_apart_call_is_not_made_again_because_of_bookkeeping(bed: Bed, log: FollowedLog) -> None:
    """The store goes away while the handler runs: it is called once, and recorded when the store is back."""
    guard = log.guard()
    calls: list[str] = []

    def body(event: Happened) -> None:
        calls.append(event.event_id)
        if event.event_id == "A#1":
            with bed.engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE projection_checkpoints RENAME TO gone")

    bed.apart(guard, "P", body)
    log.append("A", "A")
    with pytest.raises(Exception, match="apart calls were made"):
        guard.catch_up("P")
    bed.change("ALTER TABLE gone RENAME TO projection_checkpoints")
    assert (calls, log.cursors()) == (["A#1", "A#2"], [0])
    log.append("A")
    guard.catch_up("P")
    assert (calls, log.cursors()) == (["A#1", "A#2", "A#3"], [3])
    assert guard.streams("P", state="tainted").items == ()


def test_holes_of_the_log_are_recorded(bed: Bed, log: FollowedLog) -> None:
    """What a projection has found nothing in, and why nothing will come there."""
    guard, planned = log.guard(), Planned("P")
    planned.register(bed, guard, "joined")
    log.append("A", "A", "B", "A", "B")
    bed.change("DELETE FROM log WHERE sequence IN (1, 3, 4)")
    assert guard.catch_up("P").applied == 2
    first = guard.skipped("P", limit=1)
    (second,) = guard.skipped("P", limit=1, after=first.after).items
    ranges = [(hole.first_sequence, hole.last_sequence, hole.given_up) for hole in (*first.items, second)]
    assert ranges == [(3, 4, False), (1, 1, False)]
    assert "nobody was left" in second.reason
    assert guard.health("P").status == "healthy"


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_an_event_whose_handler_exits_the_program_becomes_a_failure(bed: Bed, log: FollowedLog, kind: str) -> None:
    """Where somebody catches that, as threads do: it is taken by itself, and then it is not called any more."""
    guard, calls, broken = log.guard(retry=LATER), list[str](), [True]

    def exits(event: Happened) -> None:
        calls.append(event.event_id)
        if broken[0] and event.event_id == "A#2":
            raise SystemExit

    if kind == "joined":
        bed.joined(guard, "P", lambda event, connection: exits(event))
    else:
        bed.apart(guard, "P", exits)
    log.append("A", "A", "A", "B")
    guard.health()
    follower = guard.real._service.on_log.follower("P")
    for _ in range(2):
        with pytest.raises(SystemExit):
            bed.run(drive_or_await(bed, follower))
    bed.run(drive_or_await(bed, follower))
    assert states_of(bed, "P") == {"A#2": "failed", "A#3": "parked"}
    assert one_failure(guard).error_type == "projection_guard.errors.HandlerDied"
    assert calls[-1] == "B#1"
    broken[0] = False
    guard.resolve(one_failure(guard).id, "retry", actor="alice")
    guard.work()
    assert calls[-2:] == ["A#2", "A#3"]


def drive_or_await(bed: Bed, follower: Any) -> Any:
    """Let a follower follow, as a worker's lane does."""
    turn = follower.follow(stops=lambda: False)
    return turn if bed.is_async else drive(turn)


class Wrapped:
    """A source that does something to what another one returns."""

    def __init__(self, source: Any, change: Callable[[Batch], Batch]) -> None:
        self._source = source
        self._change = change

    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        """Read, and change that."""
        return self._change(self._source.read(after, limit, until))

    def head(self) -> int:
        """Return the end."""
        return int(self._source.head())


def raises(batch: Batch) -> Batch:
    """Raise in the middle of the log."""
    if batch.events and batch.events[-1].sequence >= 3:
        raise OSError("secret")
    return batch


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda batch: replace(batch, events=batch.events[::-1]), "that is not the log's order"),
        (lambda batch: replace(batch, events=[*batch.events, *batch.events[-1:]]), "twice"),
        (raises, r"the source's read\(\) raised OSError"),
        (lambda batch: None, "returned NoneType, not a Batch"),
    ],
    ids=["out of order", "repeats", "raises", "nonsense"],
)
def test_a_source_with_a_defect_does_no_harm(
    bed: Bed, log: FollowedLog, change: Callable[[Batch], Batch], says: str
) -> None:
    """It is said what it did, nothing of that is applied, and with a sound one it goes on."""
    sound = SqlEventSource(bed.url, "log", decode=rebuilt, in_order=bed.database == "mariadb")
    bed.on_close(sound.close)
    guard, planned = log.guard(Wrapped(sound, change)), Planned("P")
    planned.register(bed, guard, "joined")
    guard.health()
    log.append("A", "B", "A")
    with pytest.raises(SourceError, match=says) as refused:
        guard.catch_up("P")
    assert "secret" not in str(refused.value)
    assert (planned.calls, log.cursors()) == ([], [0])
    other = log.guard(Wrapped(sound, lambda batch: batch))
    planned.register(bed, other, "joined")
    other.catch_up("P")
    assert bed.effects("P") == [("A", 1), ("B", 1), ("A", 2)]


def test_a_hole_is_waited_for_while_it_may_be_filled(postgres_bed: Bed) -> None:
    """tx1 takes a number and stays open, tx2 commits the next one: both are applied, in the log's order."""
    bed = postgres_bed
    log = FollowedLog(bed)
    guard, planned = log.guard(), Planned("P")
    planned.register(bed, guard, "joined")
    guard.health()
    insert = text("INSERT INTO log (event_id, event_type, stream_id, n) VALUES (:id, 'Happened', 'A', :n)")
    with bed.engine.connect() as first:
        first.execute(insert, {"id": "A#1", "n": 1})
        bed.change("INSERT INTO log (event_id, event_type, stream_id, n) VALUES ('A#2', 'Happened', 'A', 2)")
        assert guard.catch_up("P").waits == "a hole in the log may still be filled"
        assert planned.calls == []
        assert any("may still write into the log" in reason for reason in guard.health("P").reasons)
        first.commit()
    assert guard.catch_up("P").applied == 2
    assert planned.calls == ["A#1", "A#2"]


def test_a_log_that_cannot_be_read_is_told(bed: Bed, log: FollowedLog) -> None:
    """Health is no error for that: the projection is offline, with the reason."""
    guard, planned = log.guard(), Planned("P")
    planned.register(bed, guard, "joined")
    log.append("A")
    guard.catch_up("P")
    bed.change("ALTER TABLE log RENAME TO elsewhere")
    health = guard.health("P")
    assert health.status == "offline"
    assert any("The event log 'log' could not be read" in reason for reason in health.reasons)
    bed.change("ALTER TABLE elsewhere RENAME TO log")
    assert guard.health("P").status == "healthy"
