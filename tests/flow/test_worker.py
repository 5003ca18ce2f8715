"""The worker in the process: how it starts and stops, what it shares with others, that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection
from tenacity import stop_never, wait_fixed

from projection_guard import ConfigurationError, RetryPolicy
from tests.bed import Bed, GuardOnBed, Happened, happened, noted
from tests.flow.acting import Planned, Valve, going, listed, make_due, states_of, statuses

OTHERS = set[threading.Thread]()
SOON = RetryPolicy(wait=wait_fixed(0.05), stop=stop_never, breaker=None)


@pytest.fixture(autouse=True)
def others() -> Iterator[None]:
    """Threads that tests before have left in this process: not what these tests are about."""
    OTHERS.update(threading.enumerate())
    yield
    OTHERS.clear()


def ours(bed: Bed) -> list[str]:
    """Name the threads and tasks of the library's that are alive and were not before the test."""
    alive = [thread for thread in threading.enumerate() if thread not in OTHERS]
    threads = [thread.name for thread in alive if thread.name.startswith("projection_guard")]

    async def tasks() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("projection_guard")]

    return threads + (bed.run(tasks()) if bed.is_async else [])


def all_applied(bed: Bed, name: str = "P") -> bool:
    """Return whether every event of a projection has been applied."""
    return set(states_of(bed, name).values()) == {"applied"}


def broken_guard(bed: Bed, **options: Any) -> tuple[GuardOnBed, Planned]:
    """Return a guard on which A#1 has failed, and A#2 waits."""
    guard, planned = bed.guard(retry=SOON, **options), Planned("P", "A#1")
    planned.register(bed, guard, "joined")
    for n in (1, 2):
        guard.publish(happened("A", n))
    return guard, planned


def guard_with_failures(bed: Bed, streams: str) -> tuple[GuardOnBed, Valve]:
    """Return a guard on which the first event of each stream has failed; retries go well, once the valve is opened."""
    guard, valve, failing = bed.guard(retry=SOON), Valve(bed), [True]

    def body(event: Happened) -> None:
        if failing[0]:
            raise ValueError("planned")

    guard.real.projection("P", handles=[Happened])(valve.apart(body))
    valve.open()
    for stream in streams:
        guard.publish(happened(stream, 1))
    failing[0] = False
    valve.close()
    return guard, valve


def test_a_worker_works_until_it_is_stopped_and_leaves_nothing_behind(bed: Bed) -> None:
    """Started, it heals; stopped, none of its threads and tasks is left, and nothing is done any more."""
    guard, planned = broken_guard(bed)
    worker = bed.run(_value(lambda: guard.real.worker(poll_seconds=0.05).start()))
    assert bed.run(_value(lambda: worker.is_running))
    planned.heal()
    bed.wait_until(lambda: all_applied(bed))
    assert bed.run(worker.stop()) is True
    assert ours(bed) == []
    planned.failing.add("B#1")
    guard.publish(happened("B", 1))
    planned.heal()
    assert states_of(bed, "P")["B#1"] == "failed"


async def _value(call: Any) -> Any:
    """Call something that needs a running loop, or none."""
    return call()


def test_it_can_be_started_again(bed: Bed) -> None:
    """Stopping is no end; stopping twice and starting twice are no errors."""
    guard, planned = broken_guard(bed)
    worker = guard.real.worker(poll_seconds=0.05)
    for _ in range(2):
        bed.run(_value(worker.start))
        bed.run(_value(worker.start))
        bed.run(worker.stop())
        bed.run(worker.stop())
    bed.run(_value(worker.start))
    planned.heal()
    bed.wait_until(lambda: all_applied(bed))
    bed.run(worker.stop())
    assert ours(bed) == []


def test_run_blocks_until_stop(bed: Bed) -> None:
    """`run()` is for a process that does nothing else; the guard starts no second worker beside it."""
    guard, planned = broken_guard(bed, worker="auto")
    bed.run(guard.real.close())
    worker = guard.real.worker(poll_seconds=0.05)
    running = going(bed, worker.run)
    bed.wait_until(lambda: bed.run(_value(lambda: worker.is_running)))
    guard.publish(happened("A", 3))
    planned.heal()
    bed.wait_until(lambda: all_applied(bed))
    assert [name for name in ours(bed) if name == "projection_guard-worker"] == ["projection_guard-worker"]
    assert not running.is_done
    bed.run(worker.stop())
    bed.wait_until(lambda: running.is_done)
    running.answer()


def test_stop_waits_for_the_event_in_hand(bed: Bed) -> None:
    """Asked to stop in the middle of a handler, it settles that event; the rest is left to the next worker."""
    guard, valve = guard_with_failures(bed, "ABC")
    worker = bed.run(_value(lambda: guard.real.worker(poll_seconds=0.05).start()))
    bed.wait_until(lambda: valve.reached > 3)
    stopped = going(bed, worker.stop)
    bed.wait_until(lambda: worker._hands.is_stopping)
    assert not stopped.is_done
    valve.open()
    bed.wait_until(lambda: stopped.is_done)
    assert stopped.answer() is True
    assert sorted(states_of(bed, "P").values()) == ["applied", "failed", "failed"]
    make_due(bed)
    guard.work()
    assert all_applied(bed)


def test_stop_with_a_time_limit_says_that_it_took_longer(bed: Bed) -> None:
    """Nothing is lost: the attempt was counted before, and its lease ends."""
    guard, valve = guard_with_failures(bed, "A")
    worker = bed.run(_value(lambda: guard.real.worker(poll_seconds=0.05).start()))
    bed.wait_until(lambda: valve.reached > 1)
    assert bed.run(worker.stop(0.05)) is False
    valve.open()

    def is_taken_over() -> bool:
        make_due(bed)
        guard.work()
        return all_applied(bed)

    bed.wait_until(is_taken_over)


def test_as_a_context_manager(bed: Bed) -> None:
    """`with guard.worker():`, `async with guard.worker():`."""
    healed = asyncio.Event()
    guard, planned = broken_guard(bed, observers=[lambda notice: healed.set() if notice.kind == "drained" else None])
    planned.heal()
    if bed.is_async:

        async def block() -> None:
            async with guard.real.worker(poll_seconds=0.05), asyncio.timeout(60):
                await healed.wait()

        bed.run(block())
    else:
        with guard.real.worker(poll_seconds=0.05):
            bed.wait_until(lambda: all_applied(bed))
    assert all_applied(bed)
    assert ours(bed) == []


@pytest.mark.parametrize(("choice", "expected"), [("external", []), ("auto", ["projection_guard-worker"])])
def test_the_guards_own_worker_is_there_if_nobody_forbids_it(bed: Bed, choice: str, expected: list[str]) -> None:
    """With `worker="auto"` the first event starts one; closing the guard ends it."""
    guard = bed.guard(worker=choice)
    bed.joined(guard, "P", noted("P"))
    assert ours(bed) == []
    guard.publish(happened("A", 1))
    bed.wait_until(lambda: [name for name in ours(bed) if name.endswith("-worker")] == expected)
    bed.run(guard.real.close())
    assert ours(bed) == []


def test_a_round_is_bounded_by_its_batch(bed: Bed) -> None:
    """`batch=2`: two retries, and it says that there is more."""
    guard, planned = bed.guard(), Planned("P", *(f"S{n}#1" for n in range(5)))
    planned.register(bed, guard, "joined")
    for n in range(5):
        guard.publish(happened(f"S{n}", 1))
    planned.heal()
    done = [guard.work(batch=2) for _ in range(3)]
    assert [(round_.retried, round_.has_more) for round_ in done] == [(2, True), (2, True), (1, False)]
    assert all_applied(bed)


@pytest.mark.parametrize("options", [{"poll_seconds": 0}, {"poll_seconds": -1}, {"batch": 0}, {"batch": 10_001}])
def test_options_that_cannot_be(sqlite_bed: Bed, options: dict[str, Any]) -> None:
    """Refused with the bounds."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        sqlite_bed.guard().real.worker(**options)


def test_two_projections_are_worked_on_side_by_side(bed: Bed) -> None:
    """One whose handler hangs in its retry keeps the other's waiting no longer."""
    guard, valve, failing = bed.guard(retry=SOON), Valve(bed), [True]

    def hangs(event: Happened) -> None:
        if failing[0]:
            raise ValueError("planned")

    def quick(event: Happened, connection: Connection) -> None:
        listed("quick")(event, connection)
        if failing[0]:
            raise ValueError("planned")

    guard.real.projection("slow", handles=[Happened])(valve.apart(hangs))
    bed.joined(guard, "quick", quick)
    valve.open()
    assert statuses(guard.publish(happened("A", 1))) == ["failed", "failed"]
    failing[0] = False
    valve.close()
    worker = bed.run(_value(lambda: guard.real.worker(poll_seconds=0.05).start()))
    bed.wait_until(lambda: all_applied(bed, "quick"))
    assert states_of(bed, "slow") == {"A#1": "failed"}
    valve.open()
    bed.wait_until(lambda: all_applied(bed, "slow"))
    bed.run(worker.stop())


def test_a_cancelled_worker_leaves_what_is_in_hand_to_the_next(async_bed: Bed) -> None:
    """The task that runs it is cancelled, as a server does at its end: no task is left, the event is taken over."""
    bed = async_bed
    guard, valve = guard_with_failures(bed, "A")
    running = going(bed, guard.real.worker(poll_seconds=0.05).run)
    bed.wait_until(lambda: valve.reached > 1)

    async def cancel() -> None:
        for task in asyncio.all_tasks():
            if task.get_name() == "projection_guard-worker":
                task.cancel()

    bed.run(cancel())
    bed.wait_until(lambda: running.is_done)
    assert isinstance(running.error, asyncio.CancelledError)
    assert ours(bed) == []
    valve.open()
    make_due(bed)
    guard.work()
    assert all_applied(bed)


def test_a_handler_may_stop_the_worker_that_called_it(bed: Bed) -> None:
    """It does not wait for itself: it settles its event, and the worker ends."""
    guard, failing, answers = bed.guard(retry=SOON), [True], list[bool]()

    def blocking(event: Happened) -> None:
        if failing[0]:
            raise ValueError("planned")
        answers.append(worker.stop())

    async def awaited(event: Happened) -> None:
        if failing[0]:
            raise ValueError("planned")
        answers.append(await worker.stop())

    guard.real.projection("P", handles=[Happened])(awaited if bed.is_async else blocking)
    guard.publish(happened("A", 1))
    failing[0] = False
    worker = bed.run(_value(lambda: guard.real.worker(poll_seconds=0.05).start()))
    bed.wait_until(lambda: not bed.run(_value(lambda: worker.is_running)))
    assert answers == [False]
    assert all_applied(bed)
    assert [name for name in ours(bed) if name != "projection_guard-leases"] == []  # the guard's, for any call


def test_it_can_be_started_while_it_still_stops(bed: Bed) -> None:
    """The old one ends with the event it has in hand; the new one works meanwhile."""
    guard, valve = guard_with_failures(bed, "A")
    quick = Planned("Q", "B#1")
    quick.register(bed, guard, "joined")
    bed.run(guard.real.apply("Q", happened("B", 1)))
    quick.heal()
    worker = bed.run(_value(lambda: guard.real.worker(poll_seconds=0.05).start()))
    bed.wait_until(lambda: valve.reached > 1 and all_applied(bed, "Q"))
    stopped = going(bed, worker.stop)
    bed.wait_until(lambda: worker._hands.is_stopping)
    bed.run(_value(worker.start))
    quick.failing.add("B#2")
    bed.run(guard.real.apply("Q", happened("B", 2)))
    quick.heal()
    bed.wait_until(lambda: all_applied(bed, "Q"))
    assert not stopped.is_done
    valve.open()
    bed.wait_until(lambda: stopped.is_done and all_applied(bed))
    assert stopped.answer() is True
    bed.run(worker.stop())
    assert [name for name in ours(bed) if name != "projection_guard-leases"] == []  # the guard's, for any call


def test_a_stop_with_a_time_limit_does_not_wait_for_a_thread(async_bed: Bed) -> None:
    """A blocking handler cannot be cancelled: it is left to itself a second later, and recorded when it ends."""
    bed, failing, go_on, reached = async_bed, [True], threading.Event(), threading.Event()
    guard = bed.guard(retry=SOON)

    def handler(event: Happened) -> None:
        if failing[0]:
            raise ValueError("planned")
        reached.set()
        assert go_on.wait(30)

    guard.real.projection("P", handles=[Happened])(handler)
    guard.publish(happened("A", 1))
    failing[0] = False
    worker = bed.run(_value(lambda: guard.real.worker(poll_seconds=0.05).start()))
    bed.wait_until(reached.is_set)
    assert bed.run(worker.stop(0.05)) is False
    assert [name for name in ours(bed) if name != "projection_guard-handler"] == []
    assert states_of(bed, "P") == {"A#1": "failed"}
    go_on.set()
    bed.wait_until(lambda: all_applied(bed))
    assert bed.rows("SELECT 1 FROM projection_streams WHERE tainted") == []


def test_a_thread_that_cannot_be_had_is_asked_for_again(blocking_bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system refuses a lane its thread, once: the projection is worked on a moment later."""
    guard, planned = broken_guard(blocking_bed)
    planned.heal()
    begin, refused = threading.Thread.start, list[str]()

    def start(thread: threading.Thread) -> None:
        if thread.name == "projection_guard-lane" and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with guard.real.worker(poll_seconds=0.05):
        blocking_bed.wait_until(lambda: all_applied(blocking_bed))
    assert refused
    assert ours(blocking_bed) == []
