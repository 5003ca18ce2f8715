"""Two things at once that were seen to go wrong: resets, pauses, parking, probes and retries by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.event import listen
from sqlalchemy.ext.asyncio import create_async_engine
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import Breaker, CodecError, FailureBusy, JsonCodec, ProjectionGuard, RetryPolicy
from tests.bed import Bed, Happened, happened, noted
from tests.flow.acting import Planned, Valve, active_equals_open_rows, going, one_failure, states_of, statuses

DEADLOCK = text("DO $$ BEGIN RAISE EXCEPTION 'a deadlock' USING ERRCODE = '40P01'; END $$")


def state_row(bed: Bed) -> Any:
    """Return what stands in the state of "P"."""
    (row,) = bed.rows("SELECT state, reason, held_since FROM projection_states WHERE projection_name = 'P'")
    return row


def test_of_two_resets_at_once_the_later_one_wins(bed: Bed) -> None:
    """Both wait for an apart call; then the first is refused, and the read model is cleared once."""
    guard, valve = bed.guard(), Valve(bed)
    guard.real.projection("P", handles=[Happened])(valve.apart(lambda event: None))
    delivery = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(lambda: valve.reached == 1)
    first = going(bed, lambda: guard.real.reset("P", actor="alice"))
    bed.wait_until(lambda: state_row(bed).state == "resetting")
    reason = state_row(bed).reason
    second = going(bed, lambda: guard.real.reset("P", actor="bob"))
    bed.wait_until(lambda: state_row(bed).reason != reason)
    valve.open()
    bed.wait_until(lambda: first.is_done and second.is_done and delivery.is_done)
    second.answer()
    with pytest.raises(FailureBusy, match="by somebody else"):
        first.answer()
    assert state_row(bed).state == "active"
    done = bed.rows("SELECT actor FROM projection_audit_log WHERE action = 'reset_done'")
    assert [row.actor for row in done] == ["bob"]


class SlowToEncode(JsonCodec):
    """Stops while A#2 is being parked: that happens under the lock of the stream's gate."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.opened = threading.Event(), threading.Event()

    def encode(self, event: object) -> Any:
        """Wait, then do it."""
        if isinstance(event, Happened) and event.event_id == "A#2":
            self.reached.set()
            assert self.opened.wait(30)
        return super().encode(event)


def test_an_event_that_is_being_parked_while_a_reset_clears_the_gates_is_applied_afterwards(postgres_url: str) -> None:
    """The gate it waits behind is spared, though it had not been parked when the reset began to clear."""
    bed, codec = Bed("blocking", "postgresql", postgres_url), SlowToEncode()
    guard = bed.guard(codec=codec)
    clearing, cleared = threading.Event(), threading.Event()

    def clear(_: object) -> None:
        clearing.set()
        assert cleared.wait(30)

    bed.joined(guard, "P", noted("P"), on_reset=clear)
    guard.publish(happened("A", 1))
    reset = going(bed, lambda: guard.reset("P", actor="alice"))
    assert clearing.wait(30)
    delivery = going(bed, lambda: guard.publish(happened("A", 2)))
    assert codec.reached.wait(30)
    cleared.set()
    bed.wait_until(bed.waiting)
    codec.opened.set()
    bed.wait_until(lambda: reset.is_done and delivery.is_done)
    reset.answer()
    assert statuses(delivery.answer()) == ["parked"]
    guard.work()
    assert states_of(bed, "P") == {"A#2": "applied"}
    assert bed.effects("P") == [("A", 1), ("A", 2)]
    bed.close()


def test_pause_waits_for_an_apart_claim_that_has_read_the_state_from_before(server_bed: Bed) -> None:
    """It waits for its stream's row, and will be granted: no handler begins after pause has returned."""
    bed, seen = server_bed, list[str]()
    guard = bed.guard()
    bed.apart(guard, "P", lambda event: seen.append(event.event_id))
    guard.publish(happened("A", 1))
    with bed.engine.connect() as somebody, somebody.begin():
        somebody.execute(text("SELECT 1 FROM projection_streams WHERE stream_id = 'A' FOR UPDATE"))
        delivery = going(bed, lambda: guard.publisher.publish(happened("A", 2)))
        bed.wait_until(lambda: bed.waiting() == 1)
        paused = going(bed, lambda: pausing(bed, guard, seen))
        bed.wait_until(lambda: state_row(bed).state == "paused")
        end = time.monotonic() + 0.5  # as long as a pause that does not wait would need to return
        bed.wait_until(lambda: paused.is_done or time.monotonic() > end)
    bed.wait_until(lambda: paused.is_done and delivery.is_done)
    paused.answer()
    assert seen[-1] == "paused"
    assert set(states_of(bed, "P").values()) <= {"applied", "parked"}


def pausing(bed: Bed, guard: Any, seen: list[str]) -> Any:
    """Pause, and say when that returned."""
    if not bed.is_async:
        guard.real.pause("P", actor="alice")
        return seen.append("paused")

    async def pause() -> None:
        await guard.real.pause("P", actor="alice")
        seen.append("paused")

    return pause()


def probe_is_due(bed: Bed) -> None:
    """Let the next probe come due."""
    past = bed.in_seconds(-86_400)
    bed.change(f"UPDATE projection_states SET probe_at = {past} WHERE probe_at IS NOT NULL")


def test_a_probe_that_could_try_nothing_does_not_end_the_hold(bed: Bed) -> None:
    """The only failure is being tried by hand: nobody knows whether the outage is over."""
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600), breaker=Breaker(failures=1, streams=1)))
    valve, calls = Valve(bed), list[str]()

    def fails(event: Happened) -> None:
        calls.append(event.event_id)
        raise ValueError("away")

    guard.real.projection("P", handles=[Happened])(valve.apart(fails))
    first = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    valve.open()
    bed.wait_until(lambda: first.is_done)
    assert state_row(bed).held_since is not None
    valve.close()
    failure_id = one_failure(guard).id
    by_hand = going(bed, lambda: guard.real.resolve(failure_id, "retry", actor="alice"))
    bed.wait_until(lambda: valve.reached == 2)
    probe_is_due(bed)
    guard.work()
    assert state_row(bed).held_since is not None
    assert calls == ["A#1"]
    valve.open()
    bed.wait_until(lambda: by_hand.is_done)
    assert state_row(bed).held_since is not None


def test_the_end_of_an_outage_leaves_an_attempt_that_is_under_way_alone(bed: Bed) -> None:
    """Its lease is not taken away with the retries that are given back: nobody else tries the event meanwhile."""
    breaker = Breaker(failures=2, streams=2)
    guard, valve = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600), breaker=breaker)), Valve(bed)
    away, calls = [True], list[str]()

    def body(event: Happened) -> None:
        calls.append(event.event_id)
        if away:
            raise ValueError("away")

    guard.real.projection("P", handles=[Happened])(valve.apart(body, only="A#1"))
    valve.open()
    for stream in "AB":
        bed.run(guard.real.publisher().publish(happened(stream, 1)))
    assert state_row(bed).held_since is not None
    valve.close()
    away.clear()
    of_a = next(failure for failure in guard.failures("P").items if failure.stream_id == "A")
    by_hand = going(bed, lambda: guard.real.resolve(of_a.id, "retry", actor="alice"))
    bed.wait_until(lambda: valve.reached == 2)
    for _ in range(3):
        probe_is_due(bed)
        guard.work()
    assert state_row(bed).held_since is None
    make_only_due(bed)
    guard.work()
    assert calls.count("A#1") == 1
    valve.open()
    bed.wait_until(lambda: by_hand.is_done)
    assert by_hand.answer().status == "applied"
    assert (calls.count("A#1"), states_of(bed, "P")) == (2, {"A#1": "applied", "B#1": "applied"})
    assert active_equals_open_rows(bed)


def make_only_due(bed: Bed) -> None:
    """Let every planned retry come due; leases stay."""
    past = bed.in_seconds(-86_400)
    bed.change(f"UPDATE projection_failures SET next_retry_at = {past} WHERE next_retry_at IS NOT NULL")


class HookedDecoding(JsonCodec):
    """Calls something between the claim of an event of record and the first look at it under its stream's lock."""

    def __init__(self) -> None:
        super().__init__()
        self.hook: Callable[[], object] = lambda: None

    def decode(self, data: Any) -> object:
        """Call it, then do it."""
        self.hook()
        return super().decode(data)


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_parked_event_is_the_turn_of_one_worker_from_its_count_on(blocking_bed: Bed, kind: str) -> None:
    """Another one neither takes it nor counts it: else an event that was never called would be taken for a killer."""
    bed, codec = blocking_bed, HookedDecoding()
    once = RetryPolicy(wait=wait_fixed(0), stop=stop_after_attempt(1), breaker=None)
    guard, other, planned = bed.guard(retry=once, codec=codec), bed.guard(retry=once), Planned("P")
    for each in (guard, other):
        planned.register(bed, each, kind)
    guard.pause("P", actor="alice")
    guard.publish(happened("A", 1))
    guard.resume("P", actor="alice")
    codec.hook = other.work
    guard.work()
    assert planned.calls == ["A#1"]
    assert states_of(bed, "P") == {"A#1": "applied"}
    assert bed.rows("SELECT 1 FROM projection_streams WHERE tainted OR lease_owner IS NOT NULL") == []


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_turn_that_meets_a_pause_is_given_back(bed: Bed, kind: str) -> None:
    """The event stays at the head of its line, uncounted, and nobody waits for a lease."""
    codec = HookedDecoding()
    guard, planned = bed.guard(codec=codec), Planned("P")
    planned.register(bed, guard, kind)
    guard.pause("P", actor="alice")
    guard.publish(happened("A", 1))
    guard.resume("P", actor="alice")
    codec.hook = lambda: bed.change("UPDATE projection_states SET state = 'paused'")
    guard.work()
    assert states_of(bed, "P") == {"A#1": "parked"}
    assert bed.value("SELECT attempts FROM projection_parked_events") == 0
    assert bed.rows("SELECT 1 FROM projection_streams WHERE tainted OR lease_owner IS NOT NULL") == []
    codec.hook = lambda: None
    guard.resume("P", actor="alice")
    guard.work()
    assert (planned.calls, states_of(bed, "P")) == (["A#1"], {"A#1": "applied"})


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_parked_event_that_cannot_be_rebuilt_becomes_a_failure_and_no_more(bed: Bed, kind: str) -> None:
    """It was not called: its stream's order is not in doubt."""
    codec, broken = HookedDecoding(), [True]

    def refuse() -> None:
        if broken[0]:
            raise CodecError("there is no way back")

    codec.hook = refuse
    guard, planned = bed.guard(codec=codec), Planned("P")
    planned.register(bed, guard, kind)
    guard.pause("P", actor="alice")
    for n in (1, 2):
        guard.publish(happened("A", n))
    guard.resume("P", actor="alice")
    guard.work()
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "parked"}
    assert "no way back" in one_failure(guard).error_message
    assert bed.rows("SELECT 1 FROM projection_streams WHERE tainted OR lease_owner IS NOT NULL") == []
    broken[0] = False
    guard.resolve(one_failure(guard).id, "retry", actor="alice")
    guard.work()
    assert (planned.calls, states_of(bed, "P")) == (["A#1", "A#2"], {"A#1": "applied", "A#2": "applied"})


def test_a_retry_by_hand_that_meets_a_pause_leaves_an_exhausted_failure_exhausted(bed: Bed) -> None:
    """Nothing was tried, so nothing is planned: a person is still asked."""
    codec = HookedDecoding()
    guard, planned = bed.guard(codec=codec, retry=RetryPolicy(stop=stop_after_attempt(1))), Planned("P", "A#1")
    planned.register(bed, guard, "joined")
    guard.publish(happened("A", 1))
    before = one_failure(guard)
    assert before.next_retry_at is None
    codec.hook = lambda: bed.change("UPDATE projection_states SET state = 'paused'")
    assert guard.resolve(before.id, "retry", actor="alice").status == "parked"
    after = one_failure(guard)
    assert (after.next_retry_at, after.retry_count, after.lease_owner) == (None, before.retry_count, None)
    assert len(planned.calls) == 1


def lend(bed: Bed, *, seconds: int) -> None:
    """Lend the streams of "P" to a call in another process, as it were; a barrier waits for it."""
    if seconds <= 0:
        bed.change("UPDATE projection_streams SET lease_owner = NULL, lease_expires_at = NULL")
        return
    end = bed.in_seconds(seconds)
    bed.change(f"UPDATE projection_streams SET lease_owner = 'somebody', lease_expires_at = {end}")


def test_a_reset_begun_during_another_leaves_a_paused_projection_paused(bed: Bed) -> None:
    """What a reset ends in is the state before the first of them, not "being reset"."""
    guard = bed.guard()
    bed.apart(guard, "P", lambda event: None)
    guard.publish(happened("A", 1))
    guard.pause("P", actor="alice")
    lend(bed, seconds=60)
    first = going(bed, lambda: guard.real.reset("P", actor="alice"))
    bed.wait_until(lambda: state_row(bed).state == "resetting")
    reason = state_row(bed).reason
    second = going(bed, lambda: guard.real.reset("P", actor="bob"))
    bed.wait_until(lambda: state_row(bed).reason != reason)
    lend(bed, seconds=0)
    bed.wait_until(lambda: first.is_done and second.is_done)
    second.answer()
    assert state_row(bed).state == "paused"


def test_what_was_parked_during_a_reset_that_failed_is_the_past_of_the_next(bed: Bed) -> None:
    """Only what arrives during a reset itself outlives it."""
    guard, fails = bed.guard(), [True]

    def clear(connection: Any) -> None:
        if fails:
            raise ValueError("does not want to be cleared")

    async def clear_async(connection: Any) -> None:
        clear(connection)

    bed.apart(guard, "P", lambda event: None, on_reset=clear_async if bed.is_async else clear)
    guard.publish(happened("A", 1))
    lend(bed, seconds=60)
    first = going(bed, lambda: guard.real.reset("P", actor="alice"))
    bed.wait_until(lambda: state_row(bed).state == "resetting")
    assert statuses(guard.publish(happened("A", 2))) == ["parked"]
    lend(bed, seconds=0)
    bed.wait_until(lambda: first.is_done)
    with pytest.raises(ValueError, match="cleared"):
        first.answer()
    fails.clear()
    assert states_of(bed, "P") == {"A#1": "applied", "A#2": "parked"}
    guard.reset("P", actor="alice")
    assert (states_of(bed, "P"), state_row(bed).state) == ({}, "active")


@pytest.mark.parametrize("other", ["applied", "failed"])
@pytest.mark.parametrize("then", ["applied", "failed"])
def test_a_delivery_that_lost_its_place_to_a_later_event_taints(postgres_bed: Bed, other: str, then: str) -> None:
    """A deadlock rolls A#1 back, and A#2, which waits for the stream, comes first: nobody's failure, but no secret."""
    bed, calls, others = postgres_bed, list[str](), list[Any]()

    def body(event: Happened, connection: Connection) -> None:
        calls.append(event.event_id)
        noted("P")(event, connection)
        if calls == ["A#1"]:
            connection.execute(DEADLOCK)
        if (other if event.n == 2 else then) == "failed":
            raise ValueError("planned")

    somebody = ProjectionGuard(bed.url, worker="external")
    somebody.projection("P", handles=[Happened])(body)
    engine: Any = (create_async_engine if bed.is_async else create_engine)(bed.url)

    def come_in_between(*_: object) -> None:
        if calls == ["A#1"]:  # rolled back, and not yet begun again
            others.extend(somebody.publisher().publish(happened("A", 2)))

    listen(engine.sync_engine if bed.is_async else engine, "checkin", come_in_between)
    bed.url = engine
    guard = bed.guard()
    bed.joined(guard, "P", body)
    outcomes = guard.publish(happened("A", 1))
    assert statuses(others) == [other]
    assert statuses(outcomes) == ["parked" if other == "failed" else then]
    assert [stream.stream_id for stream in guard.streams("P", state="tainted").items] == ["A"]
    somebody.close()
    bed.run(guard.real.close())
    bed.run(engine.dispose())


def test_a_delivery_that_was_broken_off_and_kept_its_place_does_not_taint(postgres_bed: Bed) -> None:
    """Nobody came in between."""
    bed, guard, calls = postgres_bed, postgres_bed.guard(), list[str]()

    def body(event: Happened, connection: Connection) -> None:
        calls.append(event.event_id)
        if len(calls) == 2:
            connection.execute(DEADLOCK)
        noted("P")(event, connection)

    bed.joined(guard, "P", body)
    assert [statuses(guard.publish(happened("A", n))) for n in (1, 2, 3)] == [["applied"]] * 3
    assert calls == ["A#1", "A#2", "A#2", "A#3"]
    assert bed.effects("P") == [("A", 1), ("A", 2), ("A", 3)]
    assert guard.streams("P", state="tainted").items == ()
