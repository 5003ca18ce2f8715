"""Parked events of one stream are drained many at a time by a joined handler, and none is applied twice for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event, text

from projection_guard import PermanentFailure
from tests.bed import Bed, GuardOnBed, Happened, happened
from tests.flow.acting import Planned, active_equals_open_rows, one_failure, states_of

MANY = 40


@contextmanager
def counting_commits() -> Iterator[list[int]]:
    """Count the commits of every engine in this process."""
    seen = [0]

    def count(connection: Connection) -> None:
        seen[0] += 1

    event.listen(Engine, "commit", count)
    try:
        yield seen
    finally:
        event.remove(Engine, "commit", count)


def with_a_line(
    bed: Bed, *failing: str, kind: str = "joined", number: int = MANY, **options: Any
) -> tuple[Any, Planned]:
    """Return a guard with so many events of stream A parked, and free to be drained."""
    guard, planned = bed.guard(), Planned("P", *failing, **options)
    planned.register(bed, guard, kind)
    guard.pause("P", actor="the test")
    for n in range(1, number + 1):
        guard.publish(happened("A", n))
    guard.resume("P", actor="the test")
    return guard, planned


def numbers(bed: Bed) -> list[int]:
    """Return what was applied, in the order in which it was."""
    return [n for _, n in bed.effects("P")]


def drain(guard: GuardOnBed) -> int:
    """Work until nothing is drained any more."""
    total = 0
    while drained := guard.work().drained:
        total += drained
    return total


def test_a_line_is_drained_in_few_transactions(bed: Bed) -> None:
    """In order, each once."""
    guard, planned = with_a_line(bed)
    with counting_commits() as commits:
        assert drain(guard) == MANY
    assert numbers(bed) == list(range(1, MANY + 1))
    assert commits[0] < MANY
    assert planned.calls == [f"A#{n}" for n in range(1, MANY + 1)]
    assert guard.health("P").parked_events == 0
    assert guard.publish(happened("A", 7))[0].status == "duplicate"
    assert guard.publish(happened("A", MANY + 1))[0].status == "applied"


def test_one_that_fails_among_others_is_a_failure_and_those_before_it_are_applied_once(bed: Bed) -> None:
    """Those behind it wait on, and follow once it is mended."""
    guard, planned = with_a_line(bed, "A#25", error=lambda: PermanentFailure("planned"))
    drain(guard)
    assert numbers(bed) == list(range(1, 25))
    failure = one_failure(guard)
    assert (failure.event_id, failure.retry_count) == ("A#25", 0)
    assert set(list(states_of(bed, "P").values())[24:]) == {"failed", "parked"}
    assert active_equals_open_rows(bed)
    planned.heal()
    guard.resolve(failure.id, "retry", actor="the test")
    drain(guard)
    assert numbers(bed) == list(range(1, MANY + 1))


def test_where_nobody_can_tell_which_one_it_was_each_is_taken_by_itself(bed: Bed) -> None:
    """A handler that swallows an error of the database leaves the whole transaction aborted."""

    def swallows(given: Happened, connection: Connection) -> None:
        note(given, connection)
        if given.n == 3 and is_broken:
            try:
                connection.execute(text("SELECT * FROM there_is_no_such_table"))
            except Exception:
                if bed.database != "postgresql":  # the others go on as if nothing had been
                    raise

    is_broken, planned = True, Planned("P")
    note = planned._note
    guard = bed.guard()
    bed.joined(guard, "P", swallows)
    guard.pause("P", actor="the test")
    for n in range(1, 6):
        guard.publish(happened("A", n))
    guard.resume("P", actor="the test")
    drain(guard)
    assert numbers(bed) == [1, 2]
    assert one_failure(guard).event_id == "A#3"
    is_broken = False
    guard.resolve(one_failure(guard).id, "retry", actor="the test")
    drain(guard)
    assert numbers(bed) == [1, 2, 3, 4, 5]


def test_who_finds_the_marks_of_a_dead_process_takes_each_by_itself(bed: Bed) -> None:
    """One of them may be what has killed it. To be marked is no attempt."""
    guard, planned = with_a_line(bed, number=3)
    bed.change("UPDATE projection_parked_events SET attempts = -1")
    assert [parked.attempts for parked in guard.parked("P").items] == [0, 0, 0]
    with counting_commits() as commits:
        assert drain(guard) == 3
    assert commits[0] >= 6
    assert planned.calls == ["A#1", "A#2", "A#3"]


def test_an_event_that_cannot_be_rebuilt_stops_the_line_at_its_place(bed: Bed) -> None:
    """What is before it is applied."""
    guard, _ = with_a_line(bed, number=4)
    bed.change("UPDATE projection_parked_events SET event_payload = 'null' WHERE event_id = 'A#3'")
    drain(guard)
    assert numbers(bed) == [1, 2]
    assert one_failure(guard).event_id == "A#3"
    assert active_equals_open_rows(bed)


def test_apart_handlers_are_called_one_by_one(bed: Bed) -> None:
    """What they do elsewhere cannot be undone."""
    guard, planned = with_a_line(bed, "A#3", kind="apart", number=5, error=lambda: PermanentFailure("planned"))
    drain(guard)
    assert planned.calls == ["A#1", "A#2", "A#3"]


def test_a_handler_that_takes_lists_gets_none_longer_than_it_said(bed: Bed) -> None:
    """Also from a line that is longer."""
    lists: list[list[int]] = []

    def body(events: list[Happened], connection: Connection) -> None:
        lists.append([given.n for given in events])

    guard = bed.guard()
    bed.joined(guard, "P", body, batch=2)
    guard.pause("P", actor="the test")
    for n in range(1, 6):
        guard.publish(happened("A", n))
    guard.resume("P", actor="the test")
    assert drain(guard) == 5
    assert lists == [[1, 2], [3, 4], [5]]
