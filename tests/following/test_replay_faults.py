"""Replays and rebuilds beside failures, outages, other followers and each other: nothing lost, nothing stuck."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any

import pytest
from sqlalchemy import text
from tenacity import wait_fixed

from projection_guard import Breaker, RetryPolicy
from projection_guard._io.protocol import drive
from tests.bed import Bed
from tests.flow.acting import Planned, Valve, going, make_due, states_of
from tests.following.logs import FollowedLog
from tests.following.test_replay import clearing

LATER = RetryPolicy(wait=wait_fixed(3600), breaker=None)


@pytest.fixture
def log(bed: Bed) -> FollowedLog:
    """A log in the bed's database."""
    return FollowedLog(bed)


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_what_fails_in_a_replay_is_applied_again_though_it_was_healed_before(
    bed: Bed, log: FollowedLog, kind: str
) -> None:
    """A#1 was retried and A#2 drained before; their stream is cleared and replayed, A#1 fails, and heals once more."""
    guard, planned = log.guard(retry=LATER), Planned("P", "A#1")
    planned.register(bed, guard, kind, **clearing(bed))
    log.append("A", "A", "A")
    guard.catch_up("P")
    planned.heal()
    make_due(bed)
    guard.work()
    guard.work()
    assert planned.calls[-3:] == ["A#1", "A#2", "A#3"]
    planned.calls.clear()
    planned.failing.add("A#1")
    guard.replay("P", stream_id="A", actor="alice")
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "parked", "A#3": "parked"}
    planned.heal()
    planned.calls.clear()
    make_due(bed)
    guard.work()
    guard.work()
    assert planned.calls == ["A#1", "A#2", "A#3"]
    if kind == "joined":
        assert bed.effects("P", "A") == log.of_stream("A")


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_stream_is_replayed_up_to_what_was_in_flight_when_it_was_asked_for(
    bed: Bed, log: FollowedLog, kind: str
) -> None:
    """A follower commits A#2 after the replay was begun: it is cleared with the rest, and applied again."""
    guard, other, planned, valve = log.guard(), log.guard(), Planned("P"), Valve(bed)
    valve.open()
    guard.real.projection("P")(valve.joined(planned.joined) if kind == "joined" else valve.apart(planned.apart))
    planned.register(bed, other, kind, **clearing(bed))
    log.append("A")
    guard.catch_up("P")
    other.health()
    log.append("A")
    valve.close()
    following = going(bed, lambda: guard.real.catch_up("P"))
    bed.wait_until(lambda: valve.reached == 2)
    replay = going(bed, lambda: other.real.replay("P", stream_id="A", actor="alice"))
    if kind == "apart" or bed.database != "sqlite":
        bed.wait_until(lambda: bed.value("SELECT count(*) FROM projection_replays") == 1)
    valve.open()
    bed.wait_until(lambda: following.is_done and replay.is_done)
    assert replay.answer().status == "completed"
    assert planned.calls[-2:] == ["A#1", "A#2"]
    if kind == "joined":
        assert bed.effects("P", "A") == log.of_stream("A")


def test_a_rebuild_outlives_an_outage(bed: Bed, log: FollowedLog) -> None:
    """The breaker trips in the middle; the worker probes, and the rebuild goes on when the outage has ended."""
    breaker = Breaker(failures=4, streams=2, first_pause_seconds=0.05, longest_pause_seconds=0.1)
    retry = RetryPolicy(wait=wait_fixed(3600), breaker=breaker)
    guard, planned = log.guard(retry=retry, worker="auto"), Planned("P")
    planned.register(bed, guard, "joined", **clearing(bed))
    log.append("A", "B", "C", "D", "E", "F")
    guard.catch_up("P")
    planned.failing |= {f"{stream}#1" for stream in "ABCDEF"}
    job = guard.start_replay("P", from_sequence=1, actor="alice")
    bed.wait_until(lambda: bed.value("SELECT count(*) FROM projection_states WHERE held_since IS NOT NULL") == 1)
    planned.heal()
    bed.wait_until(lambda: guard.replay_of(job.id).is_finished)
    bed.wait_until(lambda: guard.health("P").active_failures == 0)
    assert {stream: len(bed.effects("P", stream)) for stream in "ABCDEF"} == dict.fromkeys("ABCDEF", 2)


def test_a_rebuild_in_one_line_ends_where_a_failure_holds_it(bed: Bed, log: FollowedLog) -> None:
    """The retries of `order="global"` stand still while it lasts: it would wait for them for ever."""
    guard, planned = log.guard(retry=LATER), Planned("P")
    planned.register(bed, guard, "joined", order="global", **clearing(bed))
    log.append("A", "B", "C")
    guard.catch_up("P")
    planned.failing.add("B#1")
    under_way = going(bed, lambda: guard.real.rebuild("P", actor="alice"))
    bed.wait_until(lambda: under_way.is_done)
    (job,) = guard.replays("P").items
    assert (job.status, guard.health("P").state) == ("failed", "active")
    planned.heal()
    make_due(bed)
    guard.work()
    guard.work()
    guard.catch_up("P")
    assert [stream for stream, _ in bed.effects("P")] == ["A", "B", "C"]


def test_a_replay_ends_when_all_partitions_have_come_to_its_end(bed: Bed, log: FollowedLog) -> None:
    """Also those which another follower had not given up yet when it began."""
    guard, planned = log.guard(), Planned("P")
    planned.register(bed, guard, "joined", partitions=4)
    guard.health()
    log.append(*"ABCDEFGHIJKL")
    owned = "UPDATE projection_partitions SET lease_owner = 'other', lease_expires_at = :ends WHERE partition > 1"
    ends = datetime.now(UTC) + timedelta(seconds=2)
    bed.change(owned, ends=ends if bed.database != "sqlite" else ends.strftime("%Y-%m-%d %H:%M:%S.%f"))
    job = guard.replay("P", actor="alice")
    assert (job.status, job.events_replayed) == ("completed", 12)
    assert log.cursors() == [12] * 4


def test_what_is_open_beyond_the_smallest_cursor_is_replayed(bed: Bed, log: FollowedLog) -> None:
    """A partition that is ahead of the others has failures there."""
    guard, planned = log.guard(retry=LATER), Planned("P", "A#1")
    planned.register(bed, guard, "joined", partitions=4)
    log.append("B", "C", "A", "A")
    guard.catch_up("P")
    planned.heal()
    other = bed.value(
        "SELECT min(partition) FROM projection_partitions WHERE cursor > 0 AND partition <> :p", p=part("A")
    )
    bed.change("UPDATE projection_partitions SET cursor = 2 WHERE partition = :other", other=other)
    job = guard.replay("P", actor="alice")
    assert job.status == "completed"
    assert states_of(bed, "P") == {}
    assert bed.effects("P", "A") == log.of_stream("A")


def part(stream: str) -> int:
    """Return the partition, of four, that a stream belongs to."""
    return int.from_bytes(md5(stream.encode()).digest()[:4]) % 4


def test_a_slow_clearing_is_not_begun_by_another_one_too(server_bed: Bed) -> None:
    """`on_reset` takes longer than the lease: whoever takes the job up meanwhile waits for it."""
    bed = server_bed
    log = FollowedLog(bed)
    begun, valve = list[int](), Valve(bed)

    def clear(connection: Any) -> None:
        connection.execute(text("DELETE FROM effects"))

    def clears(connection: Any) -> None:
        clear(connection)
        begun.append(1)
        valve._wait()

    async def clears_async(connection: Any) -> None:
        await connection.run_sync(clear)
        begun.append(1)
        await valve._awaited()

    planned, guards = Planned("P"), []
    for _ in range(2):
        guard = log.guard(lease=timedelta(seconds=1))
        planned.register(bed, guard, "joined", on_reset=clears_async if bed.is_async else clears)
        guards.append(guard)
    log.append("A", "A")
    guards[0].catch_up("P")
    rebuilds = going(bed, lambda: guards[0].real.rebuild("P", actor="alice"))
    bed.wait_until(lambda: begun)
    worker = guards[1].real.worker(poll_seconds=0.1)
    bed.run(worker.start()) if not bed.is_async else bed.run(begin(worker))
    end = time.monotonic() + 2.5
    bed.wait_until(lambda: time.monotonic() > end)
    valve.open()
    bed.wait_until(lambda: rebuilds.is_done)
    bed.run(worker.stop())
    assert rebuilds.answer().status == "completed"
    bed.wait_until(lambda: guards[0].replays().items[0].is_finished)
    assert len(begun) == 1
    assert bed.effects("P") == log.of_stream("A")


async def begin(worker: Any) -> None:
    """Start a worker on the loop that is running."""
    worker.start()


def test_a_follower_whose_lease_is_lost_while_he_reads(bed: Bed, log: FollowedLog) -> None:
    """Another one has taken all of his partitions over: he stops, and that is no error."""
    guard = log.guard()
    bed.joined(guard, "P", lambda events, connection: None, batch=500)
    log.append_many(600, streams=3)
    guard.health()
    events = guard.real._service.on_log.log
    read = events.read

    async def losing(*asked: Any) -> Any:
        bed.change("UPDATE projection_partitions SET lease_owner = 'other'")
        return await read(*asked)

    events.read = losing
    work = guard.real._service.on_log.follower("P").follow(stops=lambda: False)
    turn = bed.run(work) if bed.is_async else drive(work)
    assert (turn.applied, turn.partitions) == (0, 0)


def test_a_cancelled_replay_has_no_call_in_flight(bed: Bed, log: FollowedLog) -> None:
    """Whoever runs it is in a call that has outlasted the job's lease: who cancels waits for that."""
    planned, valve, guards = Planned("P"), Valve(bed), []
    valve.open()
    for _ in range(2):
        guard = log.guard(lease=timedelta(seconds=3))
        guard.real.projection("P")(valve.apart(planned.apart))
        guards.append(guard)
    log.append("A", "A")
    guards[0].catch_up("P")
    valve.close()
    replays = going(bed, lambda: guards[0].real.replay("P", from_sequence=1, actor="alice"))
    bed.wait_until(lambda: valve.reached == 3)
    end = time.monotonic() + 3.3
    bed.wait_until(lambda: time.monotonic() > end)
    job = bed.value("SELECT id FROM projection_replays")
    cancels = going(bed, lambda: guards[1].real.cancel_replay(str(job), actor="bob"))
    end = time.monotonic() + 1.0
    bed.wait_until(lambda: time.monotonic() > end)
    assert not cancels.is_done
    valve.open()
    bed.wait_until(lambda: cancels.is_done and replays.is_done)
    assert cancels.answer().status == "cancelled"
    assert guards[0].streams("P", state="tainted").items == ()


def test_a_lost_connection_in_a_replay_gives_nothing_back(bed: Bed, log: FollowedLog) -> None:
    """No retry was claimed for it: the failure's count stays what it was."""
    guard, planned = log.guard(retry=LATER), Planned("P", "A#1", error=lambda: ConnectionError("away"))
    planned.register(bed, guard, "joined")
    log.append("A")
    guard.catch_up("P")
    guard.replay("P", actor="alice")
    guard.replay("P", actor="alice")
    (failure,) = guard.failures("P").items
    assert failure.retry_count == 0
