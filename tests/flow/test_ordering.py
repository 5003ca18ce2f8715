"""P2: within a stream effects happen in the order of their deliveries, whatever fails, and nobody has to look."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Connection
from tenacity import stop_never, wait_fixed

from projection_guard import Breaker, EventError, RetryPolicy
from tests.bed import AT_ONCE, Bed, GuardOnBed, Happened, happened, noted
from tests.flow.acting import (
    Planned,
    Valve,
    active_equals_open_rows,
    calls_of,
    going,
    listed,
    make_due,
    one_failure,
    states_of,
    statuses,
    work_until_done,
)

A123_B1 = [happened("A", 1, 1), happened("A", 2, 2), happened("A", 3, 3), happened("B", 1, 4)]


@contextmanager
def worker_of(bed: Bed, guard: GuardOnBed, **options: Any) -> Iterator[None]:
    """Run `with guard.worker():` on either kind of guard."""
    worker = guard.real.worker(**options)

    async def start() -> None:
        worker.start()

    bed.run(start()) if bed.is_async else worker.start()
    try:
        yield
    finally:
        assert bed.run(worker.stop())


def test_later_events_of_a_failed_stream_wait_and_are_visible_as_such(bed: Bed) -> None:
    """A#1 fails: B#1 is applied at once, A#2 and A#3 are parked in Outcome, health, streams and tables."""
    guard, planned = bed.guard(), Planned("P", "A#1")
    bed.joined(guard, "P", planned.joined)
    outcomes = [guard.publish(event)[0] for event in A123_B1]
    assert statuses(outcomes) == ["failed", "parked", "parked", "applied"]
    assert [outcome.attempts for outcome in outcomes] == [1, 0, 0, 1]
    assert outcomes[0].failure_id == one_failure(guard).id
    assert bed.effects("P") == [("B", 1)]
    assert planned.calls == ["A#1", "B#1"]
    health = guard.health("P")
    assert (health.status, health.active_failures, health.parked_events) == ("degraded", 1, 2)
    assert "2 events parked" in health.reasons
    (stream,) = guard.streams("P").items
    assert (stream.stream_id, stream.blocked, stream.tainted, stream.parked_events) == ("A", True, False, 2)
    assert stream.failure_ids == (outcomes[0].failure_id,)
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "parked", "A#3": "parked", "B#1": "applied"}


def test_after_the_repair_the_stream_is_applied_in_order_with_no_operator(bed: Bed) -> None:
    """Rounds of a worker are all it takes; every later event waits behind the first until then."""
    guard, planned = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600))), Planned("P", "A#1", note=noted("P"))
    bed.joined(guard, "P", planned.joined)
    for event in A123_B1:
        guard.publish(event)
    make_due(bed)
    guard.work()
    assert planned.calls == ["A#1", "B#1", "A#1"]
    assert bed.effects("P", "A") == []
    planned.heal()
    make_due(bed)
    guard.work()
    assert bed.effects("P", "A") == [("A", 1), ("A", 2), ("A", 3)]
    assert bed.count("A") == 3
    assert set(states_of(bed, "P").values()) == {"applied"}
    health = guard.health("P")
    assert (health.status, health.active_failures, health.parked_events) == ("healthy", 0, 0)
    assert guard.streams("P").items == ()
    assert guard.publish(happened("A", 4))[0].status == "applied"


def test_apart_effects_are_in_order_too(bed: Bed) -> None:
    """A handler that writes elsewhere is called for 1, 2, 3 in this order, once each after the repair."""
    guard, planned = bed.guard(), Planned("P", "A#1")
    bed.apart(guard, "P", planned.apart)
    assert [guard.publish(event)[0].status for event in A123_B1] == ["failed", "parked", "parked", "applied"]
    assert planned.done == [("B", 1)]
    planned.heal()
    work_until_done(bed, guard)
    assert planned.done == [("B", 1), ("A", 1), ("A", 2), ("A", 3)]
    assert set(states_of(bed, "P").values()) == {"applied"}


def test_publish_does_not_sleep_through_a_backoff(bed: Bed) -> None:
    """It returns while the retry is an hour away; the failure is on record by then."""
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600)))
    bed.joined(guard, "P", Planned("P", "A#1").joined)
    started = time.monotonic()
    guard.publish(happened("A", 1))
    guard.publish(happened("A", 2))
    assert time.monotonic() - started < 60
    assert bed.value("SELECT count(*) FROM projection_failures WHERE resolved_at IS NULL") == 1


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_worker_in_the_background_heals_in_order(bed: Bed, kind: str) -> None:
    """`with guard.worker():` retries, and drains what waited, while the application goes on."""
    guard, planned = bed.guard(retry=RetryPolicy(wait=wait_fixed(0.05), stop=stop_never)), Planned("P", "A#1")
    planned.register(bed, guard, kind)
    with worker_of(bed, guard, poll_seconds=0.05):
        for n in (1, 2, 3):
            guard.publish(happened("A", n))
        bed.wait_until(lambda: planned.calls.count("A#1") >= 3)
        assert set(planned.calls) == {"A#1"}
        planned.heal()
        bed.wait_until(lambda: guard.health("P").parked_events == 0 and guard.health("P").active_failures == 0)
    effects = bed.effects("P") if kind == "joined" else planned.done
    assert effects == [("A", 1), ("A", 2), ("A", 3)]


def test_a_second_failure_while_draining_keeps_the_order(bed: Bed) -> None:
    """A#3 fails when its turn comes: it becomes the failure, and A#4 goes on waiting behind it."""
    guard, planned = bed.guard(), Planned("P", "A#1", "A#3")
    bed.joined(guard, "P", planned.joined)
    for n in (1, 2, 3, 4):
        guard.publish(happened("A", n, n))
    planned.failing = {"A#3"}
    guard.work()
    assert bed.effects("P") == [("A", 1), ("A", 2)]
    assert states_of(bed, "P") == {"A#1": "applied", "A#2": "applied", "A#3": "failed", "A#4": "parked"}
    assert one_failure(guard).event_id == "A#3"
    assert guard.publish(happened("A", 5, 5))[0].status == "parked"
    assert active_equals_open_rows(bed)
    planned.heal()
    guard.work()
    assert bed.effects("P") == [("A", n) for n in (1, 2, 3, 4, 5)]


def test_an_event_that_arrives_after_the_repair_waits_behind_those_parked_before(bed: Bed) -> None:
    """The failure is resolved but A#2 is not drained yet: A#3 must not overtake it."""
    guard, planned = bed.guard(), Planned("P", "A#1")
    bed.joined(guard, "P", planned.joined)
    guard.publish(happened("A", 1))
    guard.publish(happened("A", 2))
    planned.heal()
    assert guard.resolve(one_failure(guard).id, "retry", actor="alice").status == "applied"
    assert guard.publish(happened("A", 3))[0].status == "parked"
    guard.work()
    assert bed.effects("P") == [("A", 1), ("A", 2), ("A", 3)]


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_workers_of_two_guards_that_race_keep_the_order_and_apply_once(bed: Bed, kind: str) -> None:
    """Two guards on one database, three workers at once, many rounds; several streams, each 1 to 8."""
    planned = Planned("P", *(f"{stream}#1" for stream in "ABC"))
    guards = [bed.guard() for _ in range(2)]
    for guard in guards:
        planned.register(bed, guard, kind)
    for n in range(1, 9):
        for stream in "ABC":
            guards[n % 2].publish(happened(stream, n))
    planned.heal()

    def rounds(guard: GuardOnBed) -> Any:
        worker = guard.real.worker()
        if not bed.is_async:
            return [worker.run_once() for _ in range(8)]

        async def one_after_the_other() -> list[Any]:
            return [await worker.run_once() for _ in range(8)]

        return one_after_the_other()

    made = calls_of(bed, [lambda guard=guard: rounds(guard) for guard in (*guards, guards[0])])  # type: ignore[misc]
    assert not [error for error in made if isinstance(error, BaseException)]
    work_until_done(bed, guards[1])
    for stream in "ABC":
        effects = bed.effects("P", stream) if kind == "joined" else [e for e in planned.done if e[0] == stream]
        assert effects == [(stream, n) for n in range(1, 9)]
    assert guards[0].streams("P", state="tainted").items == ()


def test_publishers_of_two_guards_that_race_on_one_stream_lose_nothing(bed: Bed) -> None:
    """Twenty deliveries of one stream, half of them through each guard: each has its effect once."""
    guards = [bed.guard() for _ in range(2)]
    for guard in guards:
        bed.joined(guard, "P", noted("P"))
        guard.health()
    events = [happened("A", n) for n in range(20)]
    outcomes = calls_of(
        bed,
        [lambda e=event: guards[e.n % 2].publisher.publish(e) for event in events],  # type: ignore[misc]
    )
    assert {outcome[0].status.value for outcome in outcomes} == {"applied"}
    assert sorted(bed.effects("P")) == [("A", n) for n in range(20)]
    assert bed.count("A") == 20


def test_order_none_lets_later_events_pass(bed: Bed) -> None:
    """With `order="none"` an event waits for nobody; the failed one is applied when it heals."""
    guard, planned = bed.guard(order="none"), Planned("P", "A#1")
    bed.joined(guard, "P", planned.joined)
    assert [guard.publish(event)[0].status for event in A123_B1] == ["failed", "applied", "applied", "applied"]
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "applied", "A#3": "applied", "B#1": "applied"}
    planned.heal()
    guard.work()
    assert bed.effects("P") == [("A", 2), ("A", 3), ("B", 1), ("A", 1)]
    assert guard.health("P").status == "healthy"


def test_order_global_holds_the_whole_projection(bed: Bed) -> None:
    """With `order="global"` a failure of A holds B too; other projections go on."""
    guard, planned = bed.guard(), Planned("P", "A#1")
    bed.joined(guard, "P", planned.joined, order="global")
    bed.joined(guard, "Q", listed("Q"))
    results = [statuses(guard.publish(event)) for event in A123_B1]
    assert results == [["failed", "applied"], ["parked", "applied"], ["parked", "applied"], ["parked", "applied"]]
    (stream,) = guard.streams("P").items
    assert (stream.stream_id, stream.parked_events) == ("", 3)
    planned.heal()
    guard.work()
    assert bed.effects("P") == [("A", 1), ("A", 2), ("A", 3), ("B", 1)]
    assert bed.effects("Q") == [("A", 1), ("A", 2), ("A", 3), ("B", 1)]


def test_a_projections_order_may_differ_from_the_guards(bed: Bed) -> None:
    """`order=` of the guard is the default; `order=` of a projection wins."""
    guard = bed.guard(order="global")
    first, second = Planned("P", "A#1"), Planned("Q", "A#1")
    bed.joined(guard, "P", first.joined)
    bed.joined(guard, "Q", second.joined, order="stream")
    guard.publish(happened("A", 1))
    assert statuses(guard.publish(happened("B", 1))) == ["parked", "applied"]


def test_events_without_a_sequence_are_ordered_by_their_arrival(bed: Bed) -> None:
    """The sequence only moves the checkpoint; parked events are drained as they came, whatever it says."""
    guard, planned = bed.guard(), Planned("P", "A#1")
    bed.joined(guard, "P", planned.joined)
    for n, sequence in ((1, None), (3, 30), (2, 20), (4, None)):
        guard.publish(happened("A", n, sequence))
    planned.heal()
    guard.work()
    assert bed.effects("P") == [("A", 1), ("A", 3), ("A", 2), ("A", 4)]
    assert guard.checkpoint("P").last_event_sequence == 30


@dataclass(frozen=True)
class Homeless:
    """An event of no stream."""

    event_id: str


def test_an_event_without_a_stream_is_refused_where_order_is_kept(bed: Bed) -> None:
    """No handler is called, also none of the projections that would not mind."""
    guard, calls = bed.guard(), []

    def body(event: object, connection: Connection) -> None:
        calls.append(event)

    bed.joined(guard, "Q", body, handles=[Homeless], order="none")
    bed.joined(guard, "P", body, handles=[Homeless])
    with pytest.raises(EventError, match=r"Projection 'P' keeps the order of streams.*'h-1'.*stream_id"):
        guard.publish(Homeless("h-1"))
    assert calls == []
    assert guard.apply("Q", Homeless("h-1")).status == "applied"


def test_an_event_without_a_stream_is_taken_where_the_whole_projection_is_one_line(bed: Bed) -> None:
    """`order="global"` needs no stream."""
    guard, fails = bed.guard(order="global"), [True]

    def body(event: object, connection: Connection) -> None:
        if fails[0]:
            raise ValueError("planned")

    bed.joined(guard, "P", body, handles=[Homeless])
    assert guard.publish(Homeless("h-1"))[0].status == "failed"
    assert guard.publish(Homeless("h-2"))[0].status == "parked"
    fails[0] = False
    guard.work()
    assert states_of(bed, "P") == {"h-1": "applied", "h-2": "applied"}


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_many_streams_interleaved_with_random_failures_end_in_order_exactly_once(bed: Bed, kind: str) -> None:
    """Five streams of 8 events; a third of the calls fail, rounds of a worker come in between."""
    chance = random.Random(f"{bed.kind} {bed.database} {kind}")
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(0), stop=stop_never, breaker=None))
    note, done = noted("P"), list[tuple[str, int]]()

    def fail() -> None:
        if chance.random() < 0.33:
            raise ValueError("planned")

    def joined(event: Happened, connection: Connection) -> None:
        note(event, connection)
        fail()

    def apart(event: Happened) -> None:
        fail()
        done.append((event.stream_id, event.n))

    if kind == "joined":
        bed.joined(guard, "P", joined)
    else:
        bed.apart(guard, "P", apart)
    streams = [f"S{number}" for number in range(5)]
    left = dict.fromkeys(streams, 0)
    while left:
        stream = chance.choice(list(left))
        left[stream] += 1
        guard.publish(happened(stream, left[stream]))
        if left[stream] == 8:
            del left[stream]
        if chance.random() < 0.1:
            guard.work()
            assert active_equals_open_rows(bed)
    work_until_done(bed, guard)
    effects = bed.effects("P") if kind == "joined" else done
    for stream in streams:
        assert [n for of, n in effects if of == stream] == list(range(1, 9))
    assert set(states_of(bed, "P").values()) == {"applied"}
    assert guard.streams("P", state="tainted").items == ()


def test_an_event_that_meets_a_running_apart_call_of_its_stream_is_parked(bed: Bed) -> None:
    """The stream is lent to the call: what comes meanwhile waits, and is drained right after it."""
    guard, valve, done = bed.guard(), Valve(bed), list[int]()
    guard.real.projection("P", handles=[Happened])(valve.apart(lambda event: done.append(event.n)))
    first = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(lambda: valve.reached == 1)
    assert guard.publish(happened("A", 2))[0].status == "parked"
    guard.work()
    assert done == []
    valve.open()
    bed.wait_until(lambda: first.is_done)
    assert statuses(first.answer()) == ["applied"]
    work_until_done(bed, guard)
    assert done == [1, 2]


def test_an_event_that_meets_a_running_joined_call_of_its_stream_waits_for_it(server_bed: Bed) -> None:
    """The second delivery waits at the gate, then is applied: in order, and not parked."""
    bed, note = server_bed, noted("P")
    guard, valve = bed.guard(), Valve(server_bed)
    guard.real.projection("P", handles=[Happened])(valve.joined(note))
    first = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(lambda: valve.reached == 1)
    second = going(bed, lambda: guard.publisher.publish(happened("A", 2)))
    bed.wait_until(lambda: bed.waiting() == 1)
    valve.open()
    bed.wait_until(lambda: first.is_done and second.is_done)
    assert statuses(first.answer()) == statuses(second.answer()) == ["applied"]
    assert bed.effects("P") == [("A", 1), ("A", 2)]


def test_another_order_is_refused_while_something_waits_and_taken_afterwards(bed: Bed) -> None:
    """A projection registered with another `order` than before must have nothing open."""
    first, planned = bed.guard(), Planned("P", "A#1")
    bed.joined(first, "P", planned.joined)
    first.publish(happened("A", 1))
    second = bed.guard(retry=AT_ONCE)
    bed.joined(second, "P", planned.joined, order="global")
    with pytest.raises(ValueError, match="'P' was registered with order='stream' and has unresolved failures"):
        second.publish(happened("A", 2))
    planned.heal()
    first.work()
    assert second.publish(happened("A", 2))[0].status == "applied"
    assert bed.effects("P") == [("A", 1), ("A", 2)]


def test_a_held_breaker_does_not_break_the_order(bed: Bed) -> None:
    """Events that came during an outage are applied after those that failed in it."""
    policy = RetryPolicy(wait=wait_fixed(0), stop=stop_never, breaker=Breaker(failures=2, streams=2))
    guard, planned = bed.guard(retry=policy), Planned("P", "A#1", "B#1")
    bed.joined(guard, "P", planned.joined)
    results = [guard.publish(happened(stream, n))[0].status for n in (1, 2) for stream in "AB"]
    assert results == ["failed", "failed", "parked", "parked"]
    assert guard.health("P").held_since is not None
    planned.heal()
    bed.change("UPDATE projection_states SET probe_at = created_at")
    work_until_done(bed, guard)
    assert bed.effects("P", "A") == [("A", 1), ("A", 2)]
    assert bed.effects("P", "B") == [("B", 1), ("B", 2)]
