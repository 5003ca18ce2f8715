"""Following after a switch, from elsewhere, and over events that no handler is ever called with: never stuck."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from hashlib import md5
from typing import Any

import pytest
from tenacity import wait_fixed

from projection_guard import ConfigurationError, RetryPolicy, StoreUnavailable
from projection_guard._io.protocol import drive
from projection_guard._source import Batch
from tests.bed import Bed
from tests.flow.acting import Planned, active_equals_open_rows, going, make_due, one_failure, states_of
from tests.following.logs import FollowedLog

LATER = RetryPolicy(wait=wait_fixed(3600), breaker=None)


@pytest.fixture
def log(bed: Bed) -> FollowedLog:
    """A log in the bed's database."""
    return FollowedLog(bed)


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_following_from_the_beginning_forgets_what_was_on_record_of_it(bed: Bed, log: FollowedLog, kind: str) -> None:
    """A#2 had failed and A#3 was parked: they come again in the log, behind A#1."""
    guard, planned = log.guard(retry=LATER), Planned("P", "A#2")
    planned.register(bed, guard, kind)
    log.append("A", "A", "A", "B")
    guard.catch_up("P")
    assert states_of(bed, "P") == {"A#2": "failed", "A#3": "parked"}
    planned.heal()
    planned.calls.clear()
    guard.pause("P", actor="alice")
    guard.follow_from("P", 0, actor="alice")
    guard.resume("P", actor="alice")
    under_way = going(bed, lambda: guard.real.catch_up("P"))
    bed.wait_until(lambda: under_way.is_done)
    guard.work()
    assert planned.calls == ["A#1", "A#2", "A#3", "B#1"]
    assert states_of(bed, "P") == {}
    assert active_equals_open_rows(bed)


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_following_from_the_beginning_applies_what_was_healed_before(bed: Bed, log: FollowedLog, kind: str) -> None:
    """What is on record of A#1 does not stand for its application anew."""
    guard, planned = log.guard(retry=LATER), Planned("P", "A#1")
    planned.register(bed, guard, kind)
    log.append("A", "A")
    guard.catch_up("P")
    planned.heal()
    make_due(bed)
    guard.work()
    guard.work()
    guard.pause("P", actor="alice")
    guard.follow_from("P", 0, actor="alice")
    guard.resume("P", actor="alice")
    planned.failing.add("A#1")
    guard.catch_up("P")
    planned.heal()
    planned.calls.clear()
    make_due(bed)
    guard.work()
    guard.work()
    assert planned.calls == ["A#1", "A#2"]


def test_what_is_at_or_below_the_place_stays_as_it_is(bed: Bed, log: FollowedLog) -> None:
    """A#1 had failed and A#2 was parked: both are healed in order after the move."""
    guard, planned = log.guard(retry=LATER), Planned("P", "A#1")
    planned.register(bed, guard, "joined")
    log.append("A", "A", "A")
    guard.catch_up("P")
    guard.pause("P", actor="alice")
    guard.follow_from("P", 2, actor="alice")
    guard.resume("P", actor="alice")
    guard.catch_up("P")
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "parked", "A#3": "parked"}
    planned.heal()
    make_due(bed)
    guard.work()
    guard.work()
    assert bed.effects("P", "A") == log.of_stream("A")


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_what_was_parked_without_a_sequence_is_drained_before_later_ones(bed: Bed, log: FollowedLog, kind: str) -> None:
    """The events that were pushed did not tell their sequence: the log does."""
    planned = Planned("P", "A#1")
    old = bed.guard(retry=LATER)
    planned.register(bed, old, kind)
    for event in log.append("A", "A", "A"):
        old.publish(replace(event, sequence=None))
    new = log.guard(retry=LATER)
    planned.register(bed, new, kind)
    log.append("A")
    new.catch_up("P")
    planned.heal()
    planned.calls.clear()
    make_due(bed)
    new.work()
    new.work()
    assert planned.calls == ["A#1", "A#2", "A#3", "A#4"]


def test_one_that_was_missed_before_others_without_a_sequence_taints(bed: Bed, log: FollowedLog) -> None:
    """A#2 was applied, and did not tell that it comes after A#1."""
    planned = Planned("P")
    old = bed.guard()
    planned.register(bed, old, "joined")
    _, second = log.append("A", "A")
    old.publish(replace(second, sequence=None))
    new = log.guard()
    planned.register(bed, new, "joined")
    new.catch_up("P")
    assert [stream.stream_id for stream in new.streams("P", state="tainted").items] == ["A"]


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_one_that_was_missed_and_fails_taints_too(bed: Bed, log: FollowedLog, kind: str) -> None:
    """It is healed after later ones."""
    planned = Planned("P")
    old = bed.guard()
    planned.register(bed, old, kind)
    _, second = log.append("A", "A")
    old.publish(second)
    planned.failing.add("A#1")
    new = log.guard(retry=LATER)
    planned.register(bed, new, kind)
    new.catch_up("P")
    assert one_failure(new).event_id == "A#1"
    assert [stream.stream_id for stream in new.streams("P", state="tainted").items] == ["A"]


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_predicate_that_raises_is_a_failure_of_that_event(bed: Bed, log: FollowedLog, kind: str) -> None:
    """It holds its stream, not the log."""
    guard, planned = log.guard(retry=LATER), Planned("P")
    broken = [True]

    class Registered:
        def can_handle(self, event: Any) -> bool:
            if broken[0] and event.event_id == "A#1":
                raise KeyError("n")
            return True

    registered = Registered()
    if kind == "joined" and not bed.is_async:
        registered.handle = planned.joined  # type: ignore[attr-defined]
    elif kind == "joined":

        async def handle(event: Any, connection: Any) -> None:
            await connection.run_sync(lambda sync: planned.joined(event, sync))

        registered.handle = handle  # type: ignore[attr-defined]
    else:
        registered.handle = planned.apart  # type: ignore[attr-defined]
    guard.real.register(registered, name="P")
    log.append("A", "A", "B")
    guard.catch_up("P")
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "parked"}
    assert planned.calls == ["B#1"]
    broken[0] = False
    make_due(bed)
    guard.resolve(one_failure(guard).id, "retry", actor="alice")
    guard.work()
    assert planned.calls == ["B#1", "A#1", "A#2"]


@pytest.mark.parametrize("field", ["event_id", "event_type", "stream_id"])
def test_an_event_that_says_what_cannot_be_stored_is_a_failure(bed: Bed, log: FollowedLog, field: str) -> None:
    """A source's own record may be longer than any of our columns: it does not hold up what is behind it."""
    guard, planned = log.guard(retry=LATER), Planned("P")
    planned.register(bed, guard, "joined")
    log.append("A")
    guard.health()
    events = guard.real._service.on_log.log
    read = events.read

    async def odd(*asked: Any) -> Batch:
        batch: Batch = await read(*asked)
        told: dict[str, Any] = {field: "x" * 300}
        changed = [
            replace(found, record=replace(found.record, **told))
            if found.sequence == 1 and found.record is not None
            else found
            for found in batch.events
        ]
        return replace(batch, events=changed)

    events.read = odd
    guard.catch_up("P")
    log.append("B")
    guard.catch_up("P")
    assert planned.calls == ["B#1"]
    failure = one_failure(guard)
    assert failure.event_sequence == 1
    assert f"{field} has 300 characters" in failure.error_message


def test_a_partition_that_was_taken_over_during_apart_calls_is_tainted(server_bed: Bed) -> None:
    """One of two: what was called for it is not recorded beside whoever has it now; the other's is."""
    bed = server_bed
    log = FollowedLog(bed)
    guard, planned = log.guard(retry=LATER), Planned("P")
    mine, lost = log_streams()

    def body(event: Any) -> None:
        planned.apart(event)
        if event.event_id == f"{mine}#1":
            bed.change("UPDATE projection_partitions SET lease_owner = 'other' WHERE partition = 1")

    bed.apart(guard, "P", body, partitions=2)
    log.append(lost, mine)
    guard.health()
    work = guard.real._service.on_log.follower("P").follow(stops=lambda: False)
    bed.run(work) if bed.is_async else drive(work)
    assert planned.calls == [f"{lost}#1", f"{mine}#1"]
    assert log.cursors() == [2, 0]
    assert [stream.stream_id for stream in guard.streams("P", state="tainted").items] == [lost]


def log_streams() -> tuple[str, str]:
    """Return a stream of partition 0 and one of partition 1, of two."""
    names = [chr(ord("A") + place) for place in range(26)]
    parts = {int.from_bytes(md5(name.encode()).digest()[:4]) % 2: name for name in names}
    return parts[0], parts[1]


def test_a_share_whose_reply_was_lost_is_looked_up_before_anything_is_applied(bed: Bed, log: FollowedLog) -> None:
    """A partition that came to him without his knowing, further behind than the others, is not carried along."""
    guard, planned = log.guard(), Planned("P")
    planned.register(bed, guard, "joined", partitions=2)
    first, second = log_streams()
    log.append(second, first)
    guard.health()
    follower = guard.real._service.on_log.follower("P")
    owned = "UPDATE projection_partitions SET lease_owner = 'other', lease_expires_at = :ends WHERE partition = 1"
    bed.change(owned, ends="2100-01-01 00:00:00.000000")

    def turn() -> Any:
        work = follower.follow(stops=lambda: False)
        return bed.run(work) if bed.is_async else drive(work)

    turn()
    assert planned.calls == [f"{first}#1"]
    bed.change("UPDATE projection_partitions SET lease_owner = NULL, lease_expires_at = NULL WHERE partition = 1")
    log.append(first)
    context = guard.real._service.context
    begin, times = context.io.begin, list[int]()

    class Lost:
        def __init__(self, real: Any) -> None:
            self.real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        async def commit(self) -> None:
            await self.real.commit()
            times.append(1)
            raise StoreUnavailable("the reply was lost")

    async def losing() -> Any:
        return Lost(await begin())

    context.io.begin = losing
    share = follower._share()
    with pytest.raises(StoreUnavailable):
        bed.run(share) if bed.is_async else drive(share)
    context.io.begin = begin
    turn()
    assert planned.calls == [f"{first}#1", f"{second}#1", f"{first}#2"]


def test_every_apart_call_is_said_to_be_in_hand(bed: Bed, log: FollowedLog) -> None:
    """Also one by itself, at the beginning of a turn: a barrier waits for it, and its crash is known."""
    guard, hands = log.guard(), list[int]()

    def body(events: list[Any]) -> None:
        hands.append(bed.value("SELECT count(*) FROM projection_partitions WHERE hand_first IS NOT NULL"))
        if len(events) > 1:
            raise ValueError("planned")

    bed.apart(guard, "P", body, batch=4)
    log.append("A", "B", "C")
    guard.health()
    follower = guard.real._service.on_log.follower("P")
    for most in (2, 9):
        work = follower.follow(stops=lambda most=most: len(hands) >= most)
        bed.run(work) if bed.is_async else drive(work)
    assert hands == [1] * 4


@pytest.mark.parametrize("kind", ["joined", "apart"])
@pytest.mark.parametrize("fails", [False, True], ids=["well", "failing"])
def test_a_partition_that_a_follower_does_not_know_to_be_his_is_not_passed_over(
    bed: Bed, log: FollowedLog, kind: str, fails: bool
) -> None:
    """A share that met somebody's wish in the row leaves it out: its events were not read, so its cursor stays."""
    guard, planned = log.guard(retry=LATER), Planned("P", *(["S0#1"] if fails else []))
    planned.register(bed, guard, kind, partitions=4)
    guard.health()
    follower = guard.real._service.on_log.follower("P")

    def follow() -> None:
        turn = follower.follow(stops=lambda: False)
        bed.run(turn) if bed.is_async else drive(turn)

    follow()
    for forgotten in (1, 2, 3):
        del follower._stand.cursors[forgotten]
    log.append_many(40, streams=10)
    follow()
    assert log.cursors().count(0) == 3
    bed.run(follower.leave()) if bed.is_async else drive(follower.leave())
    guard.catch_up("P")
    planned.heal()
    make_due(bed)
    guard.work()
    guard.work()
    effects = bed.effects("P") if kind == "joined" else planned.done
    for stream in log.lengths:
        assert [effect for effect in effects if effect[0] == stream] == log.of_stream(stream)


def test_a_worker_of_another_layout_is_stopped(blocking_bed: Bed) -> None:
    """The partitions are laid out anew while it lives: it would look for events in others' parts, and miss some."""
    bed, planned = blocking_bed, Planned("P")
    log = FollowedLog(bed)
    old, new = log.guard(), log.guard()
    planned.register(bed, old, "joined", partitions=2)
    planned.register(bed, new, "joined", partitions=4)
    log.append_many(20, streams=10)
    old.catch_up("P")
    follower = old.real._service.on_log.follower("P")
    drive(follower.follow(stops=lambda: False))
    old.pause("P", actor="alice")
    new.follow_from("P", 20, actor="alice")
    new.resume("P", actor="alice")
    log.append_many(20, streams=10)
    with suppress(ConfigurationError):  # where it has just looked whether its share is fair
        assert drive(follower.follow(stops=lambda: False)).partitions == 0
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="is followed in 4 partitions, and partitions=2 was said"):
            drive(follower.follow(stops=lambda: False))
    new.catch_up("P")
    for stream in log.lengths:
        assert bed.effects("P", stream) == log.of_stream(stream)


def test_a_follower_that_slept_takes_over_from_one_who_has_died_meanwhile(sqlite_bed: Bed) -> None:
    """For two leases: what he held was another one's in between, who died at an event taken by itself."""
    bed, planned = sqlite_bed, Planned("P")
    log = FollowedLog(bed)
    guard = log.guard()
    planned.register(bed, guard, "joined")
    log.append("A", "B")
    guard.health()
    follower = guard.real._service.on_log.follower("P")

    def follow() -> None:
        turn = follower.follow(stops=lambda: False)
        bed.run(turn) if bed.is_async else drive(turn)

    follow()
    log.append("A")
    bed.change(
        "UPDATE projection_partitions SET lease_owner = 'other', lease_expires_at = '2020-01-01 00:00:00.000000',"
        " hand_first = 3, hand_last = 3, hand_is_lone = 1"
    )
    follower._shared_at = 0.0
    follow()
    assert planned.calls == ["A#1", "B#1"]
    assert one_failure(guard).error_type == "projection_guard.errors.HandlerDied"
