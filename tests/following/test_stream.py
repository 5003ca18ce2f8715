"""One stream through one followed projection: its events as the log has them, and what has become of each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from projection_guard import InvalidArgument, SourceError
from projection_guard._source import Batch, Recorded
from projection_guard._store.cursors import cursor
from tests.bed import Bed, GuardOnBed, Happened
from tests.flow.acting import Planned, clears, make_due, shift, work_until_done
from tests.flow.test_stream import HOURS, WEEK_AND_A_DAY, one, pages, statements, told
from tests.following.logs import FollowedLog, rebuilt

STORY = ("A", "B", "A", "A", "B", "A")


@pytest.fixture
def bed(diagonal_bed: Bed) -> Bed:
    """Two of the four ways, in which each guard and each database is there once."""
    return diagonal_bed


@pytest.fixture
def log(bed: Bed) -> FollowedLog:
    """A log whose streams are found by an index, as those of an event store are."""
    made = FollowedLog(bed)
    bed.change("CREATE INDEX log_streams ON log (stream_id, sequence)")
    return made


def followed(bed: Bed, log: FollowedLog, *failing_on: str, **options: Any) -> tuple[GuardOnBed, Planned]:
    """Return a guard that follows the log, and its handler."""
    guard, planned = log.guard(retry=HOURS), Planned("P", *failing_on)
    bed.joined(guard, "P", planned.joined, **options)
    return guard, planned


@pytest.mark.parametrize("partitions", [1, 4])
def test_the_log_tells_all_events_of_a_stream(bed: Bed, log: FollowedLog, partitions: int) -> None:
    """Applied, failed, parked, and those that the projection has not come to."""
    guard, _ = followed(bed, log, "A#2", partitions=partitions)
    log.append(*STORY)
    guard.catch_up("P")
    log.append("A", "B")
    (failure,) = guard.failures("P").items
    history = guard.stream("P", "A")
    assert told(history) == [
        ("A#5", "pending"),
        ("A#4", "parked"),
        ("A#3", "parked"),
        ("A#2", "failed"),
        ("A#1", "applied"),
    ]
    assert (history.applied_events, history.log_is_read, history.page.after) == ("all", True, None)
    assert (history.blocked, history.parked_events, history.failure_ids) == (True, 2, (failure.id,))
    assert [event.event_sequence for event in history.page.items] == [7, 6, 4, 3, 1]
    applied, failed, pending = one(history, "A#1"), one(history, "A#2"), one(history, "A#5")
    assert (applied.at, applied.attempts, applied.how) == (None, 1, None)
    assert (failed.at, failed.failure_id, failed.attempts) == (failure.failed_at, failure.id, 1)
    assert (pending.at, pending.attempts, pending.failure_id) == (None, 0, None)
    assert told(guard.stream("P", "B")) == [("B#3", "pending"), ("B#2", "applied"), ("B#1", "applied")]
    assert told(guard.stream("P", "nobody's")) == []


def test_what_has_healed_keeps_its_failure_also_once_the_row_is_forgotten(bed: Bed, log: FollowedLog) -> None:
    """The retry has left a row that says when; a week later its failure says it."""
    guard, planned = followed(bed, log, "A#2")
    log.append(*STORY)
    guard.catch_up("P")
    (failure,) = guard.failures("P").items
    planned.heal()
    make_due(bed)
    work_until_done(bed, guard, "P")
    for _ in range(2):
        history = guard.stream("P", "A")
        assert {state for _, state in told(history)} == {"applied"}
        healed = one(history, "A#2")
        assert (healed.failure_id, healed.how, healed.attempts) == (failure.id, "auto_retry", 2)
        assert healed.at is not None
        shift(bed, "projection_applied_events", "applied_at", WEEK_AND_A_DAY)
        guard.work()
    assert bed.value("SELECT count(*) FROM projection_applied_events") == 0


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_skipped_event_is_skipped_until_its_stream_is_replayed(
    bed: Bed, log: FollowedLog, is_forgotten: bool
) -> None:
    """The replay of that stream alone has applied it, and ends the taint."""
    guard, planned = followed(bed, log, "A#2", on_reset_stream=_clearing(bed))
    log.append(*STORY)
    guard.catch_up("P")
    (failure,) = guard.failures("P").items
    guard.resolve(failure.id, "skip", actor="alice")
    work_until_done(bed, guard, "P")
    if is_forgotten:
        shift(bed, "projection_applied_events", "applied_at", WEEK_AND_A_DAY)
        guard.work()
    history = guard.stream("P", "A")
    skipped = one(history, "A#2")
    assert (skipped.state, skipped.how, skipped.failure_id) == ("skipped", "manual_skip", failure.id)
    assert skipped.at is not None
    assert history.tainted
    planned.heal()
    guard.replay("P", stream_id="A", actor="alice")
    history = guard.stream("P", "A")
    replayed = one(history, "A#2")
    assert (replayed.state, replayed.how, replayed.failure_id) == ("applied", "manual_replay", failure.id)
    assert replayed.at is None
    assert not history.tainted


def _clearing(bed: Bed) -> Any:
    if not bed.is_async:
        return lambda connection, stream_id: None

    async def clear(connection: object, stream_id: str) -> None: ...

    return clear


def test_after_a_reset_all_events_are_pending(bed: Bed, log: FollowedLog) -> None:
    """What had failed and healed before says nothing any more, also once they are applied again."""
    guard, planned = followed(bed, log, "A#2")
    log.append(*STORY)
    guard.catch_up("P")
    planned.heal()
    make_due(bed)
    work_until_done(bed, guard, "P")
    guard.reset("P", actor="alice")
    assert {state for _, state in told(guard.stream("P", "A"))} == {"pending"}
    guard.catch_up("P")
    history = guard.stream("P", "A")
    assert {(event.state, event.failure_id, event.at) for event in history.page.items} == {("applied", None, None)}


def test_a_rebuild_that_cleared_nothing_ends_nothing(bed: Bed, log: FollowedLog) -> None:
    """`on_reset` raises: what was skipped before is skipped; one that clears it begins anew."""
    fails = [True]
    guard, planned = followed(bed, log, "A#2", on_reset=clears(bed, fails=fails))
    log.append(*STORY)
    guard.catch_up("P")
    (failure,) = guard.failures("P").items
    guard.resolve(failure.id, "skip", actor="alice")
    work_until_done(bed, guard, "P")
    shift(bed, "projection_applied_events", "applied_at", WEEK_AND_A_DAY)
    guard.work()
    with pytest.raises(ValueError, match="does not want"):
        guard.rebuild("P", actor="alice")
    assert one(guard.stream("P", "A"), "A#2").state == "skipped"
    fails[0] = False
    planned.heal()
    guard.rebuild("P", actor="alice")
    rebuilt_one = one(guard.stream("P", "A"), "A#2")
    assert (rebuilt_one.state, rebuilt_one.failure_id) == ("applied", None)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_of_the_log_tell_each_event_once(bed: Bed, log: FollowedLog, limit: int) -> None:
    """What is appended meanwhile shifts nothing."""
    guard, _ = followed(bed, log, "A#2")
    log.append(*STORY)
    guard.catch_up("P")
    assert [event.event_id for event in pages(guard, "A", limit)] == ["A#4", "A#3", "A#2", "A#1"]
    first = guard.stream("P", "A", limit=2)
    log.append("A")
    rest = guard.stream("P", "A", after=first.page.after)
    assert [event for event, _ in told(first) + told(rest)] == ["A#4", "A#3", "A#2", "A#1"]


def test_events_that_the_projection_does_not_take_are_ignored(bed: Bed, log: FollowedLog) -> None:
    """They are told, since whoever looks for one wants to know why it is not in the read model."""
    source = log.source(decode=lambda row: dict(row) if row["event_id"] == "A#2" else rebuilt(row))
    guard = log.guard(source)
    bed.joined(guard, "P", Planned("P").joined)
    log.append("A", "A", "A")
    guard.catch_up("P")
    assert told(guard.stream("P", "A")) == [("A#3", "applied"), ("A#2", "ignored"), ("A#1", "applied")]


def test_an_event_that_cannot_be_rebuilt_has_failed(bed: Bed, log: FollowedLog) -> None:
    """Its row in the log says which one it is."""

    def decode(row: Mapping[str, Any]) -> Happened:
        if row["event_id"] == "A#2":
            raise ValueError("broken")
        return rebuilt(row)

    guard = log.guard(log.source(decode=decode), retry=HOURS)
    bed.joined(guard, "P", Planned("P").joined)
    log.append("A", "A", "A")
    guard.catch_up("P")
    assert told(guard.stream("P", "A")) == [("A#3", "parked"), ("A#2", "failed"), ("A#1", "applied")]


def test_what_was_committed_into_a_hole_that_was_given_up_is_missed(bed: Bed, log: FollowedLog) -> None:
    """It stands below the cursor, and nobody has applied it."""
    guard, _ = followed(bed, log)
    log.append("A", "A", "A")
    bed.change("DELETE FROM log WHERE event_id = 'A#2'")
    guard.catch_up("P")
    assert bed.change("UPDATE projection_skipped_ranges SET given_up = true") == 1
    overriding = "OVERRIDING SYSTEM VALUE" if bed.database == "postgresql" else ""
    columns = "(sequence, event_id, event_type, stream_id, n)"
    bed.change(f"INSERT INTO log {columns} {overriding} VALUES (2, 'A#2', 'Happened', 'A', 2)")
    assert told(guard.stream("P", "A")) == [("A#3", "applied"), ("A#2", "missed"), ("A#1", "applied")]


def test_what_was_applied_while_it_was_pushed_is_not_pending(bed: Bed, log: FollowedLog) -> None:
    """Until the follower has compared the log with what is on record, that record tells it."""
    pushed = bed.guard(retry=HOURS)
    bed.joined(pushed, "P", Planned("P", "A#2").joined)
    for happened in log.append("A", "A", "A"):
        pushed.publish(happened)
    log.append("A")
    guard, _ = followed(bed, log)
    assert told(guard.stream("P", "A")) == [
        ("A#4", "pending"),
        ("A#3", "parked"),
        ("A#2", "failed"),
        ("A#1", "applied"),
    ]


def test_in_one_line_the_log_still_tells_the_streams_own_events(bed: Bed, log: FollowedLog) -> None:
    """The gate is the projection's."""
    guard, _ = followed(bed, log, "A#1", order="global")
    log.append("A", "B", "B")
    guard.catch_up("P")
    (failure,) = guard.failures("P").items
    history = guard.stream("P", "B")
    assert (history.blocked, history.failure_ids, history.log_is_read) == (True, (failure.id,), True)
    assert [event for event, _ in told(history)] == ["B#2", "B#1"]


# -- without the log


class Bare:
    """A source that offers reading and no more."""

    def __init__(self, source: Any) -> None:
        self.read, self.head = source.read, source.head


@pytest.mark.parametrize("why", ["no method", "no index"])
def test_where_the_source_finds_no_streams_the_record_is_told(bed: Bed, why: str) -> None:
    """Failed and parked events, and what had failed; that applied ones are not listed is said."""
    log = FollowedLog(bed)
    if bed.database != "mariadb":  # it has no partial ones
        bed.change("CREATE INDEX log_some ON log (stream_id) WHERE n > 5")
    bed.change("CREATE INDEX log_other ON log (n, stream_id)")
    source = log.source()
    guard, planned = log.guard(Bare(source) if why == "no method" else source, retry=HOURS), Planned("P", "A#2")
    bed.joined(guard, "P", planned.joined)
    log.append(*STORY)
    guard.catch_up("P")
    log.append("A")
    history = guard.stream("P", "A")
    assert told(history) == [("A#4", "parked"), ("A#3", "parked"), ("A#2", "failed")]
    assert (history.log_is_read, history.applied_events) == (False, "unlisted")
    planned.heal()
    make_due(bed)
    work_until_done(bed, guard, "P")
    assert told(guard.stream("P", "A"))[-1] == ("A#2", "applied")
    assert [event.event_id for event in pages(guard, "A", 1)][-1] == "A#2"


def test_an_event_that_has_failed_several_times_is_told_once(bed: Bed) -> None:
    """By its newest failure: skipped, replayed, failed again, and skipped again long ago."""
    log = FollowedLog(bed)
    guard, planned = log.guard(Bare(log.source()), retry=HOURS), Planned("P", "A#2")
    bed.joined(guard, "P", planned.joined, on_reset_stream=_clearing(bed))
    log.append("A", "A")
    guard.catch_up("P")
    guard.resolve(guard.failures("P").items[0].id, "skip", actor="alice")
    guard.replay("P", stream_id="A", actor="alice")
    (failure,) = guard.failures("P").items
    assert [(event.state, event.failure_id) for event in pages(guard, "A", 1)] == [("failed", failure.id)]
    guard.resolve(failure.id, "skip", actor="alice")
    shift(bed, "projection_applied_events", "applied_at", WEEK_AND_A_DAY)
    guard.work()
    assert [(event.state, event.failure_id) for event in pages(guard, "A", 1)] == [("skipped", failure.id)]


class Wrong(Bare):
    """One that answers with what was not asked for."""

    def __init__(self, source: Any, events: Any) -> None:
        super().__init__(source)
        self.events = events

    async def _awaited(self, *asked: Any) -> Any:
        return self.events

    @property
    def read_stream(self) -> Any:
        return self._awaited if inspect.iscoroutinefunction(self.read) else lambda *asked: self.events


@pytest.mark.parametrize(
    ("streams", "sequences", "limit"),
    [("B", [1], 9), ("A", [1, 2], 9), ("A", [2, 2], 9), ("A", [3, 2, 1], 1)],
    ids=["another stream", "oldest first", "one twice", "too many"],
)
def test_a_source_that_answers_wrongly_is_refused(
    bed: Bed, log: FollowedLog, streams: str, sequences: list[int], limit: int
) -> None:
    """It is the source's fault, and is said to be."""
    source = log.source()
    log.append("A", "A", "A")
    batch: Batch = bed.run(source.read(0, 10))
    events = [_of(streams, batch.events[sequence - 1]) for sequence in sequences]
    guard = log.guard(Wrong(source, events))
    bed.joined(guard, "P", Planned("P").joined)
    with pytest.raises(SourceError):
        guard.stream("P", "A", limit=limit)


def _of(stream: str, recorded: Recorded) -> Recorded:
    assert recorded.record is not None
    return replace(recorded, record=replace(recorded.record, stream_id=stream))


def test_a_cursor_of_the_other_list_goes_on_there_or_is_refused(bed: Bed, log: FollowedLog) -> None:
    """A page of the record is followed by one of the record; one of the log needs the log."""
    guard, _ = followed(bed, log, "A#2")
    log.append(*STORY)
    guard.catch_up("P")
    place = guard.stream("P", "A", limit=1).page.after
    without = log.guard(Bare(log.source()), retry=HOURS)
    bed.joined(without, "P", Planned("P").joined)
    with pytest.raises(InvalidArgument, match="after="):
        without.stream("P", "A", after=place)
    on_record = without.stream("P", "A", limit=1).page.after
    assert told(guard.stream("P", "A", after=on_record)) == [("A#3", "parked"), ("A#2", "failed")]
    with pytest.raises(InvalidArgument, match="after="):
        guard.stream("P", "A", after=cursor("log", "x", "", ""))


def test_a_page_of_the_log_takes_as_many_statements_however_long_the_stream_is(bed: Bed, log: FollowedLog) -> None:
    """One of the log's, and a number that does not grow with the events."""
    guard, _ = followed(bed, log, "A#2")
    log.append(*STORY)
    guard.catch_up("P")
    log.append_many(100, 1)
    guard.stream("P", "A")
    counts = {statements(guard, stream, limit) for stream, limit in (("A", 1), ("A", 100), ("S0", 100))}
    assert len(counts) == 1
    assert max(counts) <= 14
