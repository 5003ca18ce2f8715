"""Following after a switch, from elsewhere, and over events that no handler is ever called with: in order, never stuck."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tenacity import wait_fixed

from projection_guard import RetryPolicy
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
    bed.wait_until(lambda: under_way.is_done, within=8)
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
