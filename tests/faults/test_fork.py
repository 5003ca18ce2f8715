"""A guard that was made, and used, before `fork()` works in the children: gunicorn's `--preload`, multiprocessing."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from tenacity import stop_never, wait_fixed

from projection_guard import ProjectionGuard, RetryPolicy
from tests.bed import Bed, GuardOnBed, Happened, async_url, happened, noted
from tests.flow.acting import active_equals_open_rows, states_of, statuses

CHILDREN = 4
PATIENT = RetryPolicy(wait=wait_fixed(0.05), stop=stop_never)


def in_children(bed: Bed, work: Callable[[int], None], between: Callable[[], object] = lambda: None) -> None:
    """Fork children that do the work at once, while the parent does something too; fail if one of them does."""
    children = []
    for number in range(CHILDREN):
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # Python 3.12: this process has threads; so has gunicorn's
            child = os.fork()
        if child == 0:
            code = 1
            try:
                work(number)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    between()
    ends: list[int] = []

    def all_have_ended() -> bool:
        for child in list(children):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                children.remove(child)
                ends.append(os.waitstatus_to_exitcode(status))
        return not children

    bed.wait_until(all_have_ended, within=60)  # the parent's worker goes on meanwhile, on the async bed too
    assert ends == [0] * CHILDREN


def rest(bed: Bed, guard: GuardOnBed) -> None:
    """Async: end the loop, as `asyncio.run` does when start-up code is done; nobody forks beside a running loop."""
    if bed.is_async:
        bed.run(guard.real.close())
        bed.end_loop()


def test_a_guard_made_and_used_before_the_fork_works_in_parent_and_children(bed: Bed) -> None:
    """Connections, a worker and leases of the parent stay the parent's; every effect of every process is there once."""
    guard = bed.guard(worker="auto", retry=PATIENT)
    broken = {"A#1"}
    note = noted("P")

    def body(event: Happened, connection: Connection) -> None:
        note(event, connection)
        if event.event_id in broken:
            raise ValueError("broken before the fork")

    bed.joined(guard, "P", body)
    done: list[str] = []
    bed.apart(guard, "X", lambda event: done.append(event.event_id))
    assert statuses(guard.publish(happened("A", 1))) == ["failed", "applied"]
    guard.publish(happened("warm", 1))
    broken.clear()
    rest(bed, guard)

    def work(number: int) -> None:
        bed.begin_anew()
        for n in range(1, 11):
            assert statuses(guard.publish(happened(f"S{number}", n))) == ["applied", "applied"]
        guard.publish(happened("shared", number))
        assert [event_id for event_id in done if event_id.startswith("S")] == [f"S{number}#{n}" for n in range(1, 11)]
        bed.run(guard.real.close())

    in_children(bed, work, lambda: [guard.publish(happened("parent", n)) for n in range(1, 11)])
    assert statuses(guard.publish(happened("parent", 11))) == ["applied", "applied"]
    bed.wait_until(lambda: guard.work() and set(states_of(bed, "P").values()) == {"applied"})
    for number in range(CHILDREN):
        assert bed.effects("P", f"S{number}") == [(f"S{number}", n) for n in range(1, 11)]
    assert sorted(bed.effects("P", "shared")) == [("shared", number) for number in range(CHILDREN)]
    assert bed.effects("P", "parent") == [("parent", n) for n in range(1, 12)]
    assert bed.count("A") == 1
    assert active_equals_open_rows(bed)


def test_the_hosts_own_engine_is_left_alone_by_its_children(bed: Bed) -> None:
    """An engine that was handed in, with an open connection in its pool: the child closes none of the parent's."""
    engine: Any = create_async_engine(async_url(bed.url)) if bed.is_async else create_engine(bed.url)
    bed.url = engine
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    guard.publish(happened("A", 1))

    def work(number: int) -> None:
        bed.begin_anew()
        assert statuses(guard.publish(happened(f"S{number}", 1))) == ["applied"]

    in_children(bed, work)
    assert statuses(guard.publish(happened("A", 2))) == ["applied"]
    assert bed.effects("P", "A") == [("A", 1), ("A", 2)]
    bed.run(guard.real.close())
    bed.run(engine.dispose())


def test_a_failure_that_a_child_saw_is_retried_by_the_child(bed: Bed) -> None:
    """The worker of its own that a guard starts is started in the child too, though the parent's had been started."""
    guard = bed.guard(worker="auto", retry=PATIENT)
    seen: set[str] = set()
    note = noted("P")

    def body(event: Happened, connection: Connection) -> None:
        note(event, connection)
        if event.stream_id != "warm" and event.event_id not in seen:
            seen.add(event.event_id)
            raise ValueError("the first time")

    bed.joined(guard, "P", body)
    guard.publish(happened("warm", 1))
    rest(bed, guard)

    def work(number: int) -> None:
        bed.begin_anew()
        assert statuses(guard.publish(happened(f"S{number}", 1))) == ["failed"]
        bed.wait_until(lambda: bed.effects("P", f"S{number}") == [(f"S{number}", 1)])
        bed.run(guard.real.close())

    in_children(bed, work)
    assert set(states_of(bed, "P").values()) == {"applied"}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_handler_on_a_thread_of_its_own_may_fork(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """The transaction that is open then is its own: the fork does not wait for that."""
    guard = ProjectionGuard(sqlite_url, worker="external", retry=RetryPolicy(wait=wait_fixed(0)))
    calls: list[int] = []

    @guard.projection("P")
    def forks(event: object, connection: object) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("planned")
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

    guard.apply("P", {"event_id": "1", "event_type": "t", "stream_id": "s"})
    guard.worker().run_once()
    assert not guard.failures("P").items
    assert "did not wait any longer" not in caplog.text
    guard.close()
