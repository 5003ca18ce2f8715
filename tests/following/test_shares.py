"""Followers with some of the partitions read what is theirs; what they are given, each event is applied once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import Connection, text

from projection_guard._core import following, joined_stretch
from projection_guard._io.protocol import drive
from projection_guard._source import partition_of
from tests.bed import Bed
from tests.flow.acting import Planned
from tests.following.logs import FollowedLog, rebuilt

OWNED = "UPDATE projection_partitions SET lease_owner = 'other', lease_expires_at = :ends WHERE partition > 0"
FREED = "UPDATE projection_partitions SET lease_owner = NULL, lease_expires_at = NULL WHERE partition > 0"
OF = 4


class Unsharing:
    """A source of somebody's own, who knows nothing of shares."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def read(self, after: int, limit: int, until: int | None = None) -> Any:
        """Read the log."""
        return self.source.read(after, limit, until)

    def head(self) -> Any:
        """Return its end."""
        return self.source.head()


class AsyncUnsharing(Unsharing):
    """The same, awaited."""

    async def read(self, after: int, limit: int, until: int | None = None) -> Any:
        """Read the log."""
        return await self.source.read(after, limit, until)

    async def head(self) -> Any:
        """Return its end."""
        return await self.source.head()


def follow(bed: Bed, guard: Any) -> None:
    """Follow once with the partitions that can be had, and give them up."""
    follower = guard.real._service.on_log.follower("P")
    for work in (follower.follow(stops=lambda: False), follower.leave()):
        bed.run(work) if bed.is_async else drive(work)


@pytest.fixture
def log(bed: Bed) -> FollowedLog:
    """An empty log."""
    return FollowedLog(bed)


def test_a_follower_decodes_what_is_in_its_share_and_no_more(bed: Bed, log: FollowedLog) -> None:
    """He comes as far as everybody; who takes the others up later has all of theirs."""
    decoded = list[str]()

    def decode(row: Mapping[str, Any]) -> object:
        decoded.append(row["stream_id"])
        return rebuilt(row)

    guard, planned = log.guard(log.source(decode)), Planned("P")
    planned.register(bed, guard, "joined", partitions=OF)
    guard.health()
    log.append_many(1_300, streams=13)  # three pages
    bed.change(OWNED, ends="2100-01-01 00:00:00.000000")
    follow(bed, guard)
    mine = {stream for stream in log.lengths if partition_of(stream, OF) == 0}
    assert 0 < len(mine) < 13
    assert set(decoded) == mine
    assert {stream for stream, _ in bed.effects("P")} == mine
    assert log.cursors() == [1_300, 0, 0, 0]
    bed.change(FREED)
    guard.catch_up("P")
    for stream in log.lengths:
        assert bed.effects("P", stream) == log.of_stream(stream)


def named(bed: Bed, log: FollowedLog) -> list[tuple[Any, ...]]:
    """Return what the checkpoint says, and the log of the event at that sequence."""
    found = bed.rows(
        "SELECT last_event_sequence, last_event_id, last_event_type FROM projection_checkpoints"
        " UNION ALL SELECT log.sequence, log.event_id, log.event_type FROM log"
        " JOIN projection_checkpoints ON last_event_sequence = sequence"
    )
    return [tuple(row) for row in found]


def test_the_checkpoint_names_the_event_that_it_stands_at(
    bed: Bed, log: FollowedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where that is in nobody's share who is here, and where a stretch ends early between two of one's own."""
    guard, seen = log.guard(), list[list[tuple[Any, ...]]]()
    monkeypatch.setattr(joined_stretch, "LONGEST_STRETCH_SECONDS", 0.0)

    def note(event: object, connection: Connection) -> None:
        sql = "SELECT last_event_sequence, last_event_id FROM projection_checkpoints"
        seen.append([tuple(row) for row in connection.execute(text(sql))])

    bed.joined(guard, "P", note, partitions=OF)
    guard.health()
    bed.change(OWNED, ends="2100-01-01 00:00:00.000000")
    bed.change("UPDATE projection_partitions SET cursor = 1000 WHERE partition > 0")
    mine, *_ = (f"S{n}" for n in range(9) if partition_of(f"S{n}", OF) == 0)
    others, *_ = (f"S{n}" for n in range(9) if partition_of(f"S{n}", OF) == 1)
    for streams in ([mine], [others], [mine, others], [mine, others, mine, others]):
        log.append(*streams)
        follow(bed, guard)
        checkpoint, of_log = named(bed, log)
        assert checkpoint == of_log == (len(log.appended), log.appended[-1].event_id, "Happened")
    assert seen == [[(None, None)], [(2, f"{others}#1")], [(4, f"{others}#2")], [(5, f"{mine}#3")]]


def test_a_source_without_shares_goes_on(sqlite_bed: Bed) -> None:
    """The guard leaves out by itself what is others'."""
    bed = sqlite_bed
    log = FollowedLog(bed)
    guard, planned = log.guard((AsyncUnsharing if bed.is_async else Unsharing)(log.source())), Planned("P")
    planned.register(bed, guard, "joined", partitions=OF)
    guard.health()
    log.append_many(26, streams=13)
    bed.change(OWNED, ends="2100-01-01 00:00:00.000000")
    follow(bed, guard)
    assert {partition_of(stream, OF) for stream, _ in bed.effects("P")} == {0}
    assert log.cursors() == [26, 0, 0, 0]


def test_an_event_that_cannot_be_stored_goes_by_what_the_log_says_of_its_stream(sqlite_bed: Bed) -> None:
    """It has another name on record, and is in the share of its stream all the same: nobody misses it."""
    bed = sqlite_bed
    log = FollowedLog(bed)
    guard, planned = log.guard(), Planned("P")
    planned.register(bed, guard, "joined", partitions=OF)
    guard.health()
    streams = [f"{'long' * 100}{number}" for number in range(8)]
    log.append(*streams)
    bed.change(OWNED, ends="2100-01-01 00:00:00.000000")
    follow(bed, guard)
    bed.change(FREED)
    guard.catch_up("P")
    assert bed.value("SELECT count(*) FROM projection_failures") == len(streams)


def test_what_a_share_adds_in_the_middle_of_the_log_is_said_to_be_in_hand(
    blocking_bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event is in its partition's range before it is applied, also where that came to us a moment ago."""
    bed = blocking_bed
    for name, value in (("_SHARE_EVERY_SECONDS", 0.0), ("_READ", 20), ("_STRETCH", 3)):
        monkeypatch.setattr(following, name, value)
    log = FollowedLog(bed)
    log.append_many(60, streams=6)
    guard, seen, is_freed = log.guard(), list[tuple[int, Any, Any]](), list[bool]()

    def note(event: Any, connection: Connection) -> None:
        sql = "SELECT hand_first, hand_last FROM projection_partitions p WHERE p.partition = :partition"
        partition = partition_of(event.stream_id, 2)
        (row,) = connection.execute(text(sql), {"partition": partition})
        seen.append((event.sequence, row.hand_first, row.hand_last))

    bed.joined(guard, "P", note, partitions=2)
    guard.health()
    bed.change(OWNED, ends="2100-01-01 00:00:00.000000")
    follower = guard.real._service.on_log.follower("P")
    share = follower._share

    async def freeing() -> None:
        if seen and seen[-1][0] > 15 and not is_freed:
            is_freed.append(True)
            bed.change(
                "UPDATE projection_partitions SET lease_owner = NULL, lease_expires_at = NULL, cursor = :come_to "
                "WHERE partition = 1",
                come_to=bed.value("SELECT cursor FROM projection_partitions WHERE partition = 0"),
            )
        await share()

    follower._share = freeing
    drive(follower.follow(stops=lambda: False))
    assert is_freed
    assert {partition_of(log.appended[at - 1].stream_id, 2) for at, _, _ in seen} == {0, 1}
    assert [each for each in seen if each[1] is None or not each[1] <= each[0] <= each[2]] == []
