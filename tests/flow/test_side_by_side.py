"""Projections do not disturb each other: failing, slow and hanging ones beside a healthy one."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import pytest
from sqlalchemy import Connection, text
from tenacity import wait_fixed

from projection_guard import RetryPolicy
from tests.bed import Bed, Happened, happened
from tests.flow.acting import (
    Planned,
    active_equals_open_rows,
    going,
    listed,
    make_due,
    one_failure,
    states_of,
    statuses,
)

HOURS = RetryPolicy(wait=wait_fixed(3600))


@pytest.mark.parametrize("order", list(itertools.permutations(["joined fails", "apart fails", "healthy"])))
def test_a_healthy_projection_has_run_beside_two_failing_ones(bed: Bed, order: tuple[str, ...]) -> None:
    """In whatever order they are registered, when publish returns the healthy one has its effect."""
    guard = bed.guard(retry=HOURS)
    for name in order:
        planned = Planned(name, *(() if name == "healthy" else ("A#1",)))
        planned.register(bed, guard, "apart" if name == "apart fails" else "joined")
    outcomes = {outcome.projection: outcome.status for outcome in guard.publish(happened("A", 1))}
    assert outcomes == {"joined fails": "failed", "apart fails": "failed", "healthy": "applied"}
    assert bed.effects("healthy") == [("A", 1)]
    assert {health.projection_name: health.status for health in guard.health()} == {
        "joined fails": "degraded",
        "apart fails": "degraded",
        "healthy": "healthy",
    }
    assert active_equals_open_rows(bed)


def test_an_observer_that_raises_disturbs_nobody(bed: Bed) -> None:
    """It is told of failures, raises, and everything goes on."""
    told = list[str]()

    def observer(notice: Any) -> None:
        told.append(notice.kind.value)
        raise ValueError("the pager is broken")

    guard, planned = bed.guard(observers=[observer]), Planned("P", "A#1")
    planned.register(bed, guard, "joined")
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    planned.heal()
    guard.work()
    assert states_of(bed, "P") == {"A#1": "applied"}
    assert {"failed", "healed"} <= set(told)


def test_the_log_tells_what_got_worse_louder_than_what_got_better(
    sqlite_bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning when a projection degrades, an information when it is healthy again."""
    guard, planned = sqlite_bed.guard(), Planned("P", "A#1")
    planned.register(sqlite_bed, guard, "joined")
    with caplog.at_level("INFO", logger="projection_guard"):
        guard.publish(happened("A", 1))
        planned.heal()
        guard.work()
    told = [
        (record.levelname, record.getMessage()) for record in caplog.records if "status_changed" in record.getMessage()
    ]
    assert [level for level, _ in told] == ["WARNING", "INFO"]
    assert "after=degraded" in told[0][1]
    assert "after=healthy" in told[1][1]


def test_a_ticker_keeps_ticking_while_a_blocking_apart_handler_runs(async_bed: Bed) -> None:
    """It runs in a thread: the handler itself waits until the loop has ticked ten times."""
    bed, ticked = async_bed, threading.Event()
    guard = bed.guard()
    projection = guard.real.projection

    @projection("P", handles=[Happened])  # type: ignore[untyped-decorator]
    def blocking(event: Happened) -> None:
        assert ticked.wait(30), "the loop stood still"

    async def ticker() -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        ticked.set()

    async def both() -> Any:
        ticking = asyncio.ensure_future(asyncio.sleep(0.05))
        ticking.add_done_callback(lambda _: kept.append(asyncio.ensure_future(ticker())))
        return await guard.publisher.publish(happened("A", 1))

    kept = list[Any]()
    assert statuses(bed.run(both())) == ["applied"]


def test_a_slow_projection_delays_no_other_one_under_async(async_bed: Bed) -> None:
    """The slow one, registered first, waits until the quick one has its effect."""
    if async_bed.database == "sqlite":
        pytest.skip("SQLite has one writer: documented in design, P4")
    bed = async_bed
    guard, quick_is_done = bed.guard(), asyncio.Event()

    async def slow(event: Happened, connection: Any) -> None:
        await quick_is_done.wait()
        await connection.run_sync(lambda sync: listed("slow")(event, sync))

    async def quick(event: Happened, connection: Any) -> None:
        await connection.run_sync(lambda sync: listed("quick")(event, sync))
        quick_is_done.set()

    guard.real.projection("slow", handles=[Happened])(slow)
    guard.real.projection("quick", handles=[Happened])(quick)
    assert statuses(guard.publish(happened("A", 1))) == ["applied", "applied"]
    assert bed.effects("slow") == bed.effects("quick") == [("A", 1)]


# -- timeouts


@pytest.mark.parametrize("kind", ["joined", "apart"])
@pytest.mark.parametrize("swallows", [False, True])
def test_an_async_handler_is_cancelled_when_its_time_is_up(async_bed: Bed, kind: str, swallows: bool) -> None:
    """Its work is undone, the failure says how long it had, and others go on; also where it returns half done."""
    bed, cancelled = async_bed, list[str]()
    guard, hangs = bed.guard(retry=HOURS), [True]

    async def hang() -> None:
        try:
            await asyncio.Event().wait() if hangs[0] else None
        except asyncio.CancelledError:
            cancelled.append("cancelled")
            if not swallows:
                raise

    async def joined(event: Happened, connection: Any) -> None:
        await connection.run_sync(lambda sync: listed("P")(event, sync))
        await hang()

    async def apart(event: Happened) -> None:
        await hang()

    guard.real.projection("P", handles=[Happened], timeout=1.25)(joined if kind == "joined" else apart)
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    failure = one_failure(guard)
    assert failure.error_type.endswith("HandlerTimeout")
    assert "1.25" in failure.error_message
    assert cancelled == ["cancelled"]
    assert bed.effects("P") == []
    hangs[0] = False
    make_due(bed)
    guard.work()
    assert states_of(bed, "P") == {"A#1": "applied"}


def test_an_async_handler_that_hangs_in_a_statement_gives_everything_back(async_bed: Bed) -> None:
    """Cancelled in the middle of SQL: the connection is thrown away, SQLite's lock with it."""
    bed = async_bed
    guard, hangs = bed.guard(retry=HOURS), [True]

    async def joined(event: Happened, connection: Any) -> None:
        await connection.run_sync(lambda sync: listed("P")(event, sync))
        if hangs[0]:
            await connection.execute(text(bed.sleeping))

    guard.real.projection("P", handles=[Happened], timeout=1.0)(joined)
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    hangs[0] = False
    assert statuses(guard.publish(happened("B", 1))) == ["applied"]
    make_due(bed)
    guard.work()
    assert sorted(bed.effects("P")) == [("A", 1), ("B", 1)]
    assert guard.real._sync_engine.pool.checkedout() == 0


def test_a_blocking_handler_that_overran_in_a_statement_is_cut_by_the_database(blocking_bed: Bed) -> None:
    """On the caller's own thread nobody can interrupt it but PostgreSQL's own limit; the overrun is its failure."""
    if blocking_bed.database == "sqlite":
        pytest.skip("SQLite has no statement timeout; docs/handlers.md says so")
    bed = blocking_bed
    guard, hangs = bed.guard(retry=HOURS), [True]

    def joined(event: Happened, connection: Connection) -> None:
        listed("P")(event, connection)
        if hangs[0]:
            connection.execute(text(bed.sleeping))

    bed.joined(guard, "P", joined, timeout=1.0)
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    hangs[0] = False
    make_due(bed)
    guard.work()
    assert bed.effects("P") == [("A", 1)]


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_blocking_handler_that_hangs_in_a_worker_is_left_behind(blocking_bed: Bed, kind: str) -> None:
    """Its transaction is cut, a late result is thrown away, and the worker goes on with others."""
    bed = blocking_bed
    guard, go_on, ended = bed.guard(retry=HOURS), threading.Event(), threading.Event()
    mode, done = ["fail"], list[str]()

    def what() -> None:
        if mode[0] == "fail":
            raise ValueError("planned")
        if mode[0] == "hang":
            mode[0] = "well"
            go_on.wait(60)
            ended.set()

    def joined(event: Happened, connection: Connection) -> None:
        what()
        listed("P")(event, connection)

    def apart(event: Happened) -> None:
        what()
        done.append(event.event_id)

    bed.joined(guard, "P", joined, timeout=1.0) if kind == "joined" else bed.apart(guard, "P", apart, timeout=1.0)
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    mode[0] = "hang"
    make_due(bed)
    guard.work()
    failure = one_failure(guard)
    assert guard.attempts(failure.id)[-1].error_type.endswith("HandlerTimeout")
    assert statuses(guard.publish(happened("B", 1))) == ["applied"]
    go_on.set()
    assert ended.wait(30)
    assert states_of(bed, "P") == {"A#1": "failed", "B#1": "applied"}
    make_due(bed)
    guard.work()
    assert states_of(bed, "P") == {"A#1": "applied", "B#1": "applied"}
    if kind == "joined":
        assert sorted(bed.effects("P")) == [("A", 1), ("B", 1)]


def test_publish_goes_on_beside_one_that_hangs(server_bed: Bed) -> None:
    """A handler that hangs in stream A holds A only: B's event is applied meanwhile, by another publisher."""
    bed = server_bed
    guard, hung, go_on = bed.guard(), threading.Event(), threading.Event()

    def body(event: Happened, connection: Connection) -> None:
        listed("P")(event, connection)

    async def async_handler(event: Happened, connection: Any) -> None:
        await connection.run_sync(lambda sync: body(event, sync))
        if event.stream_id == "A":
            hung.set()
            await asyncio.to_thread(go_on.wait, 30)

    def handler(event: Happened, connection: Connection) -> None:
        body(event, connection)
        if event.stream_id == "A":
            hung.set()
            assert go_on.wait(30)

    guard.real.projection("P", handles=[Happened])(async_handler if bed.is_async else handler)
    delivery = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(hung.is_set)
    assert statuses(guard.publish(happened("B", 1))) == ["applied"]
    go_on.set()
    bed.wait_until(lambda: delivery.is_done)
    assert statuses(delivery.answer()) == ["applied"]
