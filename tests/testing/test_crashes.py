"""A guard that dies or loses its connection at each point of its flow: nothing is lost, joined effects happen once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal

import pytest
from sqlalchemy import Connection, insert

from projection_guard import InvalidArgument, StoreUnavailable
from projection_guard.testing import CRASH_POINTS, Crash, CrashOfSweep, advance, crash_at, crash_sweep, failing
from tests.bed import Bed, GuardOnBed, Happened, effects, happened, noted
from tests.flow.acting import statuses, work_until_done
from tests.turns import IS_EVERY

MINUTE = timedelta(minutes=1)


def guard_of(bed: Bed, kind: Literal["joined", "apart"], done: list[str] | None = None, **fault: Any) -> GuardOnBed:
    """Return a guard that is a process: a new one is the process started again."""
    guard = bed.guard()
    if kind == "joined":
        bed.joined(guard, "P", failing(noted("P"), **fault) if fault else noted("P"))
    else:
        bed.apart(guard, "P", lambda event: (done if done is not None else []).append(event.event_id))
    guard.health("P")
    return guard


def start_again(bed: Bed, stream: str, *, was: GuardOnBed, done: list[str] | None = None) -> GuardOnBed:
    """Be the process after it: leases have run out, the publisher delivers again, a worker works."""
    bed.run(was.real.close())
    guard = guard_of(bed, "joined" if done is None else "apart", done)
    bed.run(advance(guard.real, MINUTE))
    guard.publish(happened(stream, 1))
    work_until_done(bed, guard)
    return guard


def test_a_sweep_comes_by_each_kind_of_point_and_joined_effects_happen_once(bed: Bed) -> None:
    """Died before the commit, nothing was done; after it, the redelivery is recognised."""
    struck, points = dict[str, str](), points_of(bed)
    for crash in crash_sweep(at=points):
        guard = guard_of(bed, "joined")
        stream = f"S{crash.number}"
        with crash(guard.real):
            guard.publish(happened(stream, 1))
        if crash.point is not None:
            struck.setdefault(crash.point.kind, f"{bed.count(stream)} done")
        guard = start_again(bed, stream, was=guard)
        assert statuses(guard.publish(happened(stream, 1))) == ["duplicate"]
        assert (bed.count(stream), bed.effects("P", stream)) == (1, [(stream, 1)])
    assert set(struck) == set(points)
    assert {kind for kind, count in struck.items() if count == "1 done"} == {"after commit"}


def points_of(bed: Bed) -> tuple[str, ...]:
    """Return the points of a sweep: all of them once, or on each bed with `PROJECTION_GUARD_FAULTS=every`."""
    is_first = not bed.is_async and bed.database == "sqlite"
    return CRASH_POINTS if IS_EVERY or is_first else ("after handler", "after commit")


def test_apart_effects_happen_at_least_once(sqlite_bed: Bed) -> None:
    """Twice where the process died between the effect and its record, and nowhere else."""
    twice = list[str]()
    for crash in crash_sweep(at=("after handler", "before commit", "after commit")):
        done = list[str]()
        guard = guard_of(sqlite_bed, "apart", done)
        stream = f"S{crash.number}"
        with crash(guard.real):
            guard.publish(happened(stream, 1))
        start_again(sqlite_bed, stream, was=guard, done=done)
        assert 1 <= len(done) <= 2
        if len(done) == 2:
            assert crash.point is not None
            twice.append(str(crash.point))
    assert twice[0] == "after handler 1"
    assert "after commit 2" not in twice


def test_a_failure_that_is_being_written_down_is_not_lost(sqlite_bed: Bed) -> None:
    """The handler failed, and the process dies while that is put on record: delivered again, it heals."""
    for crash in crash_sweep(at=("before commit", "after commit")):
        stream = f"S{crash.number}"
        guard = guard_of(sqlite_bed, "joined", on=f"{stream}#1")
        with crash(guard.real):
            assert statuses(guard.publish(happened(stream, 1))) == ["failed"]
        start_again(sqlite_bed, stream, was=guard)
        assert sqlite_bed.count(stream) == 1


def test_a_lost_connection_is_survived(postgres_bed: Bed) -> None:
    """In the same call, or as a failure that heals; the effect is there once."""
    guard = guard_of(postgres_bed, "joined")
    points = [point for point in CRASH_POINTS if "handler" not in point]
    for point in points:
        with crash_at(guard.real, point, how="disconnect"):
            if point == "before begin":
                with pytest.raises(StoreUnavailable):
                    guard.publish(happened(point, 1))
            (outcome,) = guard.publish(happened(point, 1))
        assert outcome.status in ("applied", "duplicate", "failed")
    work_until_done(postgres_bed, guard)
    assert sorted(postgres_bed.effects("P")) == sorted((point, 1) for point in points)


def test_sqlite_has_no_connection_to_lose(sqlite_bed: Bed) -> None:
    """So nobody believes that it was tried."""
    guard = guard_of(sqlite_bed, "joined")
    with pytest.raises(InvalidArgument, match="SQLite"), crash_at(guard.real, "before commit", how="disconnect"):
        pass


def test_the_dead_do_nothing_more(sqlite_bed: Bed) -> None:
    """Not even what is done on the way out; after the block the same guard lives again."""
    guard = guard_of(sqlite_bed, "joined")
    with crash_at(guard.real, "before commit"):
        for _ in range(2):
            with pytest.raises(Crash):
                guard.publish(happened("A", 1))
        guard.publish(happened("B", 1))
    assert sqlite_bed.effects("P") == []
    assert statuses(guard.publish(happened("A", 1))) == ["applied"]


@pytest.mark.parametrize("point", ["after commit", "before handler 2", "after statement 3"])
def test_a_point_is_the_one_that_is_named(sqlite_bed: Bed, point: str) -> None:
    """The second call of the handler is that of the second event."""
    guard = guard_of(sqlite_bed, "joined")
    with crash_at(guard.real, point):
        for n in (1, 2, 3):
            guard.publish(happened("A", n))
        pytest.fail("it did not crash")
    assert sqlite_bed.count("A") == (0 if "statement" in point else 1)


def test_a_point_that_is_never_passed_fails_the_test(sqlite_bed: Bed) -> None:
    """And says which were."""
    guard = guard_of(sqlite_bed, "joined")
    with (
        pytest.raises(AssertionError, match=r"never came to the point after commit 9\. It came by: before begin 1, .*"),
        crash_at(guard.real, "after commit 9"),
    ):
        guard.publish(happened("A", 1))
    with pytest.raises(AssertionError, match="It came by: nothing"), crash_at(guard.real, "before begin"):
        pass


def test_other_errors_are_not_taken_for_the_crash(sqlite_bed: Bed) -> None:
    """They come out of the block, and the guard is whole after it."""
    guard = guard_of(sqlite_bed, "joined")
    with pytest.raises(ZeroDivisionError), crash_at(guard.real, "after commit"):
        raise ZeroDivisionError
    assert statuses(guard.publish(happened("A", 1))) == ["applied"]


def test_a_point_that_does_not_exist_is_refused(sqlite_bed: Bed) -> None:
    """With those that do."""
    guard = guard_of(sqlite_bed, "joined")
    for point in ("commit", "during commit", "after commits", "after commit x", "after commit 0", ""):
        with pytest.raises(InvalidArgument, match="before begin, after begin"), crash_at(guard.real, point):
            pass


def test_a_sweep_that_proves_nothing_fails(sqlite_bed: Bed) -> None:
    """Where nothing was broken, or nothing was there to break."""
    guard = guard_of(sqlite_bed, "joined")
    sweep: Iterator[CrashOfSweep] = crash_sweep()
    next(sweep)
    with pytest.raises(AssertionError, match="never said"):
        next(sweep)
    sweep = crash_sweep()
    with next(sweep)(guard.real):
        pass
    with pytest.raises(AssertionError, match="no point at all"):
        next(sweep)
    sweep = crash_sweep(at=["after handler"])
    with next(sweep)(guard.real):
        guard.health("P")
    with pytest.raises(AssertionError, match=r"none of after handler, so nothing was broken\. It came by: before"):
        next(sweep)
    refused: list[dict[str, Any]] = [{"how": "exit"}, {"at": ["during commit"]}, {"at": []}]
    for wrong in refused:
        with pytest.raises(InvalidArgument):
            next(crash_sweep(**wrong))


def test_a_handlers_own_statements_are_points(sqlite_bed: Bed) -> None:
    """So a handler that does several things is broken between them."""

    def twice(event: Happened, connection: Connection) -> None:
        for n in (1, 2):
            connection.execute(insert(effects).values(projection="P", stream=event.stream_id, n=n))

    guard = sqlite_bed.guard()
    sqlite_bed.joined(guard, "P", twice)
    guard.health("P")
    for crash in crash_sweep(at=["after statement"]):
        with crash(guard.real):
            guard.publish(happened(f"S{crash.number}", 1))
        if crash.point is not None:
            assert sqlite_bed.effects("P", f"S{crash.number}") == []
    assert crash.number - 1 >= 3
