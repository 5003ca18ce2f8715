"""Samples are taken by workers, one a minute and projection; what charts are drawn from is read of them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import event as events
from sqlalchemy import insert, select
from tenacity import wait_fixed

from projection_guard import InvalidArgument, Point, RetryPolicy, UnknownProjection
from projection_guard._desk import engine_of, service_of
from projection_guard._dialect import this_minute
from projection_guard._io.protocol import drive
from projection_guard._store import history
from projection_guard._tables import ProjectionSample
from projection_guard.testing import advance
from tests.bed import Bed, GuardOnBed, happened
from tests.flow.acting import Planned, calls_of, listed
from tests.following.logs import FollowedLog

T = TypeVar("T")
HOURS = RetryPolicy(wait=wait_fixed(3600), breaker=None)


def minute_of(bed: Bed) -> int:
    """Return which minute it is by the database's clock."""
    return int(bed.past_the_library(lambda connection: connection.execute(select(this_minute())).scalar_one()))


def within_a_minute(bed: Bed, do: Callable[[], T]) -> T:
    """Return what something comes to that begins and ends in the same minute; it is done again where it did not."""
    while True:
        before, done = minute_of(bed), do()
        if minute_of(bed) == before:
            return done


def row(minute: int, *, name: str = "P", **changed: Any) -> dict[str, Any]:
    """Make a sample."""
    return {
        "projection_name": name,
        "minute": minute,
        "events_processed": 0,
        "total_failures": 0,
        "active_failures": 0,
        "parked_events": 0,
        "lag_seconds": 0.0,
        "lag_events": 0,
        "health_status": "healthy",
        **changed,
    }


def sample(bed: Bed, minute: int, **changed: Any) -> None:
    """Put a sample on record, past the library."""
    made = row(minute, **changed)
    bed.past_the_library(lambda connection: connection.execute(insert(ProjectionSample).values(made)))


def samples(bed: Bed, name: str = "P") -> list[Any]:
    """Return what is on record of a projection, the oldest first."""
    return bed.rows("SELECT * FROM projection_samples WHERE projection_name = :name ORDER BY minute", name=name)


def by_minute(guard: GuardOnBed, name: str = "P", *, hours: float = 1.0) -> dict[int, Point]:
    """Return the points of a history of minutes, each by the minute that it begins with."""
    found = guard.history(name, hours=hours, points=int(60 * hours))
    assert found.bucket_seconds == 60
    return {int(point.at.timestamp()) // 60: point for point in found.points}


@contextmanager
def noted(guard: GuardOnBed) -> Generator[list[str]]:
    """Note the statements about samples that a guard makes."""
    told: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "projection_samples" in statement:
            told.append(statement)

    engine = engine_of(guard.real)
    events.listen(engine, "before_cursor_execute", note)
    yield told
    events.remove(engine, "before_cursor_execute", note)


def let_pass(bed: Bed, guard: GuardOnBed, minutes: int) -> None:
    """Let time pass."""
    bed.run(advance(guard.real, timedelta(minutes=minutes)))


# -- taking samples


def test_a_sample_says_what_was_judged(bed: Bed) -> None:
    """The counters as they stand, what fails and waits, and the status."""
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P", "A#1").joined)
    for stream, n in (("A", 1), ("A", 2), ("B", 1), ("C", 1)):
        guard.publish(happened(stream, n))
    guard.work()
    taken, health = samples(bed)[0], guard.health("P")
    assert (taken.events_processed, taken.total_failures, taken.active_failures, taken.parked_events) == (2, 1, 1, 1)
    assert (taken.lag_events, taken.health_status) == (2, "degraded")
    assert 0 < taken.lag_seconds <= health.lag_seconds
    assert taken.avg_processing_time_ms == health.avg_processing_time_ms is not None
    assert taken.minute in (minute_of(bed) - 1, minute_of(bed))


def test_there_is_one_sample_a_minute_and_projection_however_many_workers(bed: Bed) -> None:
    """Whoever is first takes it; the others do not trip over that."""
    guards = [bed.guard() for _ in range(4)]
    for guard in guards:
        for name in "PQ":
            bed.joined(guard, name, listed(name))

    def work() -> tuple[int, int]:
        bed.change("DELETE FROM projection_samples")
        for _ in range(2):
            results = calls_of(bed, [guard.real.worker().run_once for guard in guards])
            assert [result for result in results if isinstance(result, BaseException)] == []
        return len(samples(bed, "P")), len(samples(bed, "Q"))

    guards[0].health()
    assert within_a_minute(bed, lambda: _anew(guards, work)) == (1, 1)


def _anew(guards: list[GuardOnBed], do: Callable[[], T]) -> T:
    for guard in guards:
        service_of(guard.real).context.last_samples.forget()
    return do()


def test_the_next_minute_gets_its_own(bed: Bed) -> None:
    """Also from the same worker, which remembers the minute before."""
    guard = bed.guard()
    bed.joined(guard, "P", listed("P"))
    guard.work()
    bed.change("UPDATE projection_samples SET minute = minute - 2")
    service_of(guard.real).context.last_samples.note("P", minute_of(bed) - 2)
    guard.work()
    first, second = samples(bed)
    assert second.minute - first.minute in (2, 3)


def test_a_judgement_takes_no_statement_more_while_the_minute_lasts(bed: Bed) -> None:
    """All projections get their samples in one, and after that the process remembers."""
    guard = bed.guard()
    for name in "PQR":
        bed.joined(guard, name, listed(name))
    service = service_of(guard.real)

    def judge() -> list[int]:
        service.context.last_samples.forget()
        taken = list[int]()
        for _ in range(3):
            with noted(guard) as told:
                _ = bed.run(service.store_judgements()) if bed.is_async else drive(service.store_judgements())
            taken.append(len(told))
        return taken

    guard.health()
    assert within_a_minute(bed, judge) == [1, 0, 0]


def test_a_worker_that_runs_takes_samples(bed: Bed) -> None:
    """By itself, soon after it has begun."""
    guard = bed.guard()
    bed.joined(guard, "P", listed("P"))
    worker = guard.real.worker()

    async def start() -> None:
        worker.start()

    bed.run(start()) if bed.is_async else worker.start()
    bed.wait_until(lambda: samples(bed))
    bed.run(worker.stop())


def test_looking_takes_no_samples(bed: Bed) -> None:
    """Only a worker does: what nobody worked on has a gap, however often it is looked at."""
    guard = bed.guard()
    bed.joined(guard, "P", listed("P"))
    guard.publish(happened("A", 1))
    guard.health()
    guard.status()
    assert guard.history("P").points == ()
    assert samples(bed) == []


def test_what_is_followed_elsewhere_is_sampled_there(bed: Bed) -> None:
    """A worker without the log does not know the lag, and would say 0."""
    log = FollowedLog(bed)
    following, other = log.guard(), bed.guard()
    for guard in (following, other):
        bed.joined(guard, "P", listed("P"))
    following.health()
    other.work()
    assert samples(bed) == []
    following.work()
    assert len(samples(bed)) == 1


def test_samples_are_forgotten_after_a_week(bed: Bed) -> None:
    """Those of projections that are not registered any more as well; so many at a time."""
    guard = bed.guard()
    bed.joined(guard, "P", listed("P"))
    now, week = minute_of(bed), 7 * 24 * 60
    for old in range(1, 6):
        sample(bed, now - week - old, name="Gone")
    for young in (week - 10, 1):
        sample(bed, now - young, name="Gone")
    assert bed.past_the_library(lambda connection: history.prune(connection, 2)) == 2
    assert [each.minute for each in samples(bed, "Gone")][:3] == [now - week - old for old in (3, 2, 1)]
    assert guard.work().pruned == 3
    assert [each.minute for each in samples(bed, "Gone")] == [now - week + 10, now - 1]


def test_samples_of_a_clock_that_was_ahead_are_forgotten(bed: Bed) -> None:
    """Once their minutes come they would stand for what is then, and what follows would be compared with them."""
    guard = bed.guard()
    bed.joined(guard, "P", listed("P"))
    now = minute_of(bed)
    sample(bed, now + 60, name="Gone")
    sample(bed, now - 1, name="Gone")
    guard.work()
    assert [each.minute for each in samples(bed, "Gone")] == [now - 1]


# -- reading them


def test_before_any_worker_there_is_nothing(bed: Bed) -> None:
    """No points, and no error."""
    guard = bed.guard()
    bed.joined(guard, "P", listed("P"))
    found = guard.history("P")
    assert (found.projection_name, found.bucket_seconds, found.points) == ("P", 900, ())
    assert guard.histories()[0].points == ()


def test_throughput_is_what_was_applied_in_between(bed: Bed) -> None:
    """Per second of the time between two samples; the minute that is over gets what came in it."""
    guard = bed.guard()
    bed.joined(guard, "P", listed("P"))

    def work() -> list[Point]:
        bed.change("DELETE FROM projection_samples")
        service_of(guard.real).context.last_samples.forget()
        guard.work()
        let_pass(bed, guard, 1)
        number = bed.value("SELECT count(*) FROM effects")
        for n in range(6):
            guard.publish(happened("A", number + n))
        guard.work()
        return [point for _, point in sorted(by_minute(guard).items())][-2:]

    before, after = within_a_minute(bed, work)
    assert (before.events_per_second, before.active_failures) == (None, 0)
    assert after.events_per_second == pytest.approx(6 / 60)
    assert (after.failures, after.status) == (0, "healthy")


def test_gaps_are_told_apart_from_rest(bed: Bed) -> None:
    """None where nobody sampled, 0 where nothing happened; what came in a gap is told after it, and nothing is lost."""
    guard = bed.guard()
    bed.joined(guard, "P", listed("P"))
    now = minute_of(bed)
    for ago, applied, failed in ((30, 100, 1), (29, 100, 1), (28, 160, 3), (20, 640, 5), (19, 640, 5)):
        sample(bed, now - ago, events_processed=applied, total_failures=failed)
    points = by_minute(guard)
    told = [points[now - 1 - ago] for ago in (30, 29, 28, 27, 21, 20, 19)]
    assert [point.events_per_second for point in told] == [None, 0.0, 1.0, None, None, 1.0, 0.0]
    assert [point.failures for point in told] == [None, 0, 2, None, None, 2, 0]
    assert [point.status for point in told] == ["healthy"] * 3 + [None] * 2 + ["healthy"] * 2
    assert sum(point.failures or 0 for point in guard.history("P", hours=168, points=2).points) == 4


def test_the_first_point_is_compared_with_the_sample_before_it(bed: Bed) -> None:
    """The span's first bucket is no gap only because it is the first."""
    guard = bed.guard()
    bed.joined(guard, "P", listed("P"))

    def look() -> Point:
        bed.change("DELETE FROM projection_samples")
        now = minute_of(bed)
        for ago in range(10, -1, -1):
            sample(bed, now - ago, events_processed=60 * (10 - ago))
        first: Point = guard.history("P", hours=0.05, points=3).points[0]
        return first

    assert within_a_minute(bed, look).events_per_second == 1.0


def test_a_reset_sets_counters_back_and_nothing_is_negative(bed: Bed) -> None:
    """Not in its minute, and not in a bucket around it: what came before and after counts."""
    guard = bed.guard()
    bed.joined(guard, "P", listed("P"))
    now = minute_of(bed)
    for ago, applied in ((30, 1000), (29, 1060), (28, 0), (27, 120)):
        sample(bed, now - ago, events_processed=applied, total_failures=applied)
    points = by_minute(guard)
    told = [points[now - 1 - ago] for ago in (29, 28, 27)]
    assert [point.events_per_second for point in told] == [1.0, 0.0, 2.0]
    assert [point.failures for point in told] == [60, 0, 120]
    assert sum(point.failures or 0 for point in guard.history("P", hours=168, points=2).points) == 180


def test_a_point_tells_the_worst_of_its_samples(bed: Bed) -> None:
    """A short peak does not vanish in a long bucket, and healthy does not hide critical."""
    guard = bed.guard()
    bed.joined(guard, "P", listed("P"))
    now = minute_of(bed)
    size, middle = 60, (now // 60 - 3) * 60
    peak: dict[str, Any] = {"active_failures": 12, "parked_events": 5, "lag_seconds": 70.5, "lag_events": 17}
    sample(bed, middle + 10, avg_processing_time_ms=1.5)
    sample(bed, middle + 20, **peak, avg_processing_time_ms=9.5, health_status="critical")
    sample(bed, middle + 30, health_status="degraded")
    found = guard.history("P", hours=24, points=24)
    assert (found.bucket_seconds, len(found.points)) == (60 * size, 24)
    (point,) = [point for point in found.points if point.status is not None]
    assert point.at == datetime.fromtimestamp(middle * 60, UTC)
    assert {name: getattr(point, name) for name in peak} == peak
    assert (point.avg_processing_time_ms, point.status) == (9.5, "critical")


def test_two_hundred_projections_are_read_in_one_query(bed: Bed) -> None:
    """An overview of all of them takes no statement more than one of them does, and no more rows than points."""
    guard = bed.guard()
    names = [f"P{number:03}" for number in range(200)]
    for name in names:
        bed.joined(guard, name, listed(name))
    guard.health()
    now = minute_of(bed)
    rows = [row(now - ago, name=name, events_processed=60 * (40 - ago)) for name in names[:-1] for ago in range(40)]
    bed.past_the_library(lambda connection: connection.execute(insert(ProjectionSample), rows))
    with noted(guard) as told:
        found = guard.histories(hours=0.5, points=6)
    assert len(told) == 1
    assert [each.projection_name for each in found] == names
    assert {len(each.points) for each in found[:-1]} == {6}
    assert {each.points[2].events_per_second for each in found[:-1]} == {1.0}
    assert found[-1].points == ()


def test_a_question_that_makes_no_sense_is_refused(bed: Bed) -> None:
    """Before the database is asked."""
    guard = bed.guard()
    bed.joined(guard, "P", listed("P"))
    with pytest.raises(UnknownProjection):
        guard.history("Q")
    with pytest.raises(InvalidArgument, match="hours="):
        guard.history("P", hours=169)
    with pytest.raises(InvalidArgument, match="points="):
        guard.histories(points=1)


def test_time_that_passes_takes_samples_along(bed: Bed) -> None:
    """By whole minutes, none onto another; the guard of a test takes a new one then."""
    guard = bed.guard()
    bed.joined(guard, "P", listed("P"))
    now = minute_of(bed)
    for ago in (3, 2, 1):
        sample(bed, now - ago)
    bed.run(advance(guard.real, timedelta(seconds=90)))
    assert [each.minute for each in samples(bed)] == [now - 4, now - 3, now - 2]
