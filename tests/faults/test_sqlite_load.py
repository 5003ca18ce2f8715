"""SQLite under many writers: 4 processes of 8 threads and a worker each; nobody sees "database is locked"."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from tests.bed import Bed, happened, noted
from tests.faults.processes import script
from tests.flow.acting import active_equals_open_rows, calls_of, states_of, statuses

PROCESSES, THREADS, EVENTS = 4, 8, 8

WRITER = """
import asyncio, sys, threading
from projection_guard import AsyncProjectionGuard, ProjectionGuard, RetryPolicy
from tenacity import stop_never, wait_fixed
from tests.bed import Happened, happened, noted

kind, url, process, threads, events = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
retry, note, failed = RetryPolicy(wait=wait_fixed(0.05), stop=stop_never, breaker=None), noted("P"), set()

def body(event, connection):
    note(event, connection)
    if event.n % 4 == 1 and event.event_id not in failed:
        failed.add(event.event_id)
        raise ValueError("the first time")

def mine(thread):
    for n in range(1, events + 1):
        yield happened(f"{process}-{thread}", n)          # a stream of its own
        yield happened(f"shared-{n}", process * 100 + thread)

def blocking():
    guard = ProjectionGuard(url, retry=retry)
    guard.projection("P", handles=[Happened])(body)
    publisher, errors = guard.publisher(), []
    def run(thread):
        try:
            for event in mine(thread):
                publisher.publish(event)
        except BaseException as error:
            errors.append(error)
    running = [threading.Thread(target=run, args=(thread,)) for thread in range(threads)]
    [thread.start() for thread in running]
    [thread.join() for thread in running]
    guard.close()
    if errors:
        raise errors[0]

async def asynchronous():
    guard = AsyncProjectionGuard(url, retry=retry)
    @guard.projection("P", handles=[Happened])
    async def handler(event, connection):
        await connection.run_sync(lambda sync: body(event, sync))
    publisher = guard.publisher()
    async def run(thread):
        for event in mine(thread):
            await publisher.publish(event)
    await asyncio.gather(*(run(thread) for thread in range(threads)))
    await guard.close()

blocking() if kind == "blocking" else asyncio.run(asynchronous())
"""


@pytest.mark.slow
def test_many_threads_and_processes_write_at_once_and_every_effect_is_there_once_in_order(sqlite_bed: Bed) -> None:
    """Each thread has a stream of its own and all meet in shared ones; every fourth event fails at first."""
    bed = sqlite_bed
    arguments = [str(number) for number in (THREADS, EVENTS)]
    writers = [script(WRITER, bed.kind, bed.url, str(process), *arguments) for process in range(PROCESSES)]
    running = [writer.__enter__() for writer in writers]
    for started, writer in zip(running, writers, strict=True):
        _, said = started.communicate(timeout=150)
        writer.__exit__(None, None, None)
        assert started.returncode == 0, said[-3000:]
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    bed.wait_until(lambda: guard.work() and set(states_of(bed, "P").values()) == {"applied"}, within=60)
    for process in range(PROCESSES):
        for thread in range(THREADS):
            stream = f"{process}-{thread}"
            assert bed.effects("P", stream) == [(stream, n) for n in range(1, EVENTS + 1)]
    everybody = {process * 100 + thread: 1 for process in range(PROCESSES) for thread in range(THREADS)}
    for n in range(1, EVENTS + 1):
        assert Counter(number for _, number in bed.effects("P", f"shared-{n}")) == everybody
        assert bed.count(f"shared-{n}") == PROCESSES * THREADS
    assert active_equals_open_rows(bed)
    assert bed.value("PRAGMA journal_mode") == "wal"


def bare_engine(bed: Bed) -> Any:
    """Return an engine as a host may have made it: without WAL, and without patience."""
    options: dict[str, Any] = {"connect_args": {"timeout": 0}}
    if bed.is_async:
        return create_async_engine(bed.url.replace("sqlite:", "sqlite+aiosqlite:"), **options)
    return create_engine(bed.url, **options)


def test_another_writer_is_waited_for(sqlite_bed: Bed) -> None:
    """A transaction of somebody else's is longer than the host's engine would wait."""
    bed, path = sqlite_bed, sqlite_bed.url.removeprefix("sqlite:///")
    engine = bed.url = bare_engine(bed)
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    guard.publish(happened("warm", 1))
    begun, ended = threading.Event(), threading.Event()

    def hold() -> None:
        other = sqlite3.connect(path, timeout=30)
        other.execute("BEGIN IMMEDIATE")
        begun.set()
        ended.wait(1.5)  # nobody ends it sooner
        other.rollback()
        other.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert begun.wait(10)
    assert statuses(guard.publish(happened("A", 1))) == ["applied"]
    holder.join()
    bed.run(guard.real.close())
    bed.run(engine.dispose())


def test_an_engine_of_the_hosts_with_settings_of_its_own_is_made_to_wait_too(sqlite_bed: Bed) -> None:
    """No WAL, no busy timeout: both are the guard's business, on its own connections."""
    bed = sqlite_bed
    engine = bed.url = bare_engine(bed)
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    publish = guard.publisher.publish
    results = calls_of(bed, [lambda n=n: publish(happened(f"S{n}", 1)) for n in range(8)])  # type: ignore[misc]
    assert [statuses(outcomes) for outcomes in results] == [["applied"]] * 8
    bed.run(guard.real.close())
    bed.run(engine.dispose())
