"""Verifying some streams of a read model: what that can see, what it cannot, and that it says so."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from projection_guard import Replay
from tests.bed import Bed, Happened
from tests.following.beside import LATER, Model
from tests.following.logs import FollowedLog
from tests.following.verified import copies, found, left_out, row_counts


def drawn(job: Replay) -> list[str]:
    """Return the streams that a verification was for."""
    comparing: Any = job.comparing
    return list(comparing["streams"])


def test_only_these_streams_are_applied_and_only_their_rows_compared(async_bed: Bed) -> None:
    """Missing and different ones; with the column that names their streams also those that are too many."""
    bed, model = async_bed, Model(async_bed, FollowedLog(async_bed))
    guard = model.guard()
    model.failing = {"C#2"}
    model.log.append(*"ABCABCD")
    guard.catch_up("P")
    bed.change("UPDATE totals SET total = 9 WHERE stream IN ('A', 'D')")
    bed.change("DELETE FROM entries WHERE stream IN ('A', 'B')")
    bed.change("INSERT INTO entries (stream, n) VALUES ('A', 7), ('D', 7)")
    job = guard.verify("P", streams=["C", "A"], actor="alice")
    assert (drawn(job), job.events_replayed, left_out(job)) == (["A", "C"], 3, {"waiting": ["C#2"]})
    assert found(job) == {"totals": [[], [], [("A", "total")]], "entries": [[("A", "1"), ("A", "2")], [], []]}
    assert row_counts(job) == {"totals": (0, None, 1), "entries": (2, None, 0)}
    assert "not seen" in job.compared["tables"][0]["note"]
    job = guard.verify("P", streams=["A", "C"], stream_column="stream", actor="alice")
    assert row_counts(job) == {"totals": (0, 0, 1), "entries": (2, 1, 0)}
    assert found(job)["entries"] == [[("A", "1"), ("A", "2")], [("A", "7")], []]
    assert found(guard.verify("P", streams=["C"], stream_column="stream", actor="alice")) == {}
    assert copies(bed) == []


def test_a_sample_is_drawn_of_the_streams_that_the_projection_takes(blocking_bed: Bed) -> None:
    """As many as asked for, or as there are; it is on record which ones."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    guard = model.guard()
    model.log.append_many(60, streams=12)
    guard.catch_up("P")
    model.log.append("beyond")  # the live projection has not come to that one
    job = guard.verify("P", sample_streams=5, stream_column="stream", actor="alice")
    assert (found(job), len(drawn(job)), job.events_replayed) == ({}, 5, 25)
    assert set(drawn(job)) <= {f"S{n}" for n in range(12)}
    bed.change("UPDATE totals SET total = 0")
    job = guard.verify("P", sample_streams=1000, actor="alice")
    assert (row_counts(job)["totals"], len(drawn(job))) == ((0, None, 12), 12)


def test_of_a_log_in_which_nothing_is_for_the_projection_none_is_drawn(sqlite_bed: Bed) -> None:
    """There is nothing to compare, then, and nothing is found."""
    bed, model = sqlite_bed, Model(sqlite_bed, FollowedLog(sqlite_bed))
    guard = model.log.guard()
    bed.joined(guard, "P", model.handle, handles=["SomethingElse"], tables=["totals", "entries"])
    for _ in range(2):
        job = guard.verify("P", sample_streams=3, stream_column="stream", actor="alice")
        assert (found(job), drawn(job)) == ({}, [])
        model.log.append("A")
        guard.catch_up("P")


def test_a_table_that_does_not_name_streams_is_compared_by_what_the_copy_has(blocking_bed: Bed) -> None:
    """Without a key as well: what is too many cannot be seen there."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))

    def handle(event: Happened, connection: Connection) -> None:
        connection.execute(text("INSERT INTO journal VALUES (:s, :n)"), {"s": event.stream_id, "n": event.n})
        connection.execute(text("INSERT INTO facts (n, what) VALUES (:n, :s)"), {"s": event.stream_id, "n": event.n})

    bed.change("CREATE TABLE journal (who varchar(50), n integer)")
    bed.change('CREATE TABLE facts (n integer NOT NULL, what varchar(50) NOT NULL UNIQUE, "at: all" integer)')
    guard = model.log.guard(retry=LATER)
    bed.joined(guard, "J", handle, tables=["journal", "facts"])
    model.log.append("A", "B")
    guard.catch_up("J")
    bed.change("UPDATE journal SET n = 3 WHERE who = 'B'")
    bed.change('UPDATE facts SET "at: all" = 3')
    job = guard.verify("J", streams=["B"], stream_column="what", actor="alice")
    assert row_counts(job) == {"journal": (1, None, 0), "facts": (0, 0, 1)}
    assert found(job) == {"facts": [[], [], [("B", "at: all")]]}
