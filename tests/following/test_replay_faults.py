"""Replays and rebuilds beside failures, outages, other followers and each other: nothing lost, nothing stuck."""

from __future__ import annotations

import pytest
from tenacity import wait_fixed

from projection_guard import Breaker, RetryPolicy
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
    bed.wait_until(lambda: guard.replay_of(job.id).is_finished, within=8)
    bed.wait_until(lambda: guard.health("P").active_failures == 0, within=8)
    assert {stream: len(bed.effects("P", stream)) for stream in "ABCDEF"} == dict.fromkeys("ABCDEF", 2)


def test_a_rebuild_in_one_line_ends_where_a_failure_holds_it(bed: Bed, log: FollowedLog) -> None:
    """The retries of `order="global"` stand still while it lasts: it would wait for them for ever."""
    guard, planned = log.guard(retry=LATER), Planned("P")
    planned.register(bed, guard, "joined", order="global", **clearing(bed))
    log.append("A", "B", "C")
    guard.catch_up("P")
    planned.failing.add("B#1")
    under_way = going(bed, lambda: guard.real.rebuild("P", actor="alice"))
    bed.wait_until(lambda: under_way.is_done, within=8)
    (job,) = guard.replays("P").items
    assert (job.status, guard.health("P").state) == ("failed", "active")
    planned.heal()
    make_due(bed)
    guard.work()
    guard.work()
    guard.catch_up("P")
    assert [stream for stream, _ in bed.effects("P")] == ["A", "B", "C"]
