"""Workers say that they are at work: a row each, renewed while they live, taken away when they stop."""

from __future__ import annotations

import os
import socket
from importlib.metadata import version
from typing import Any

from projection_guard import WorkerState
from projection_guard._on_workers import BEAT_EVERY_SECONDS
from tests.bed import Bed, GuardOnBed, Happened, happened, noted
from tests.flow.acting import going

LONG_AGO = "UPDATE projection_workers SET seen_at = '2026-01-01 00:00:00.000000'"


async def _value(call: Any) -> Any:
    """Call something that needs a running loop, or none."""
    return call()


def workers(bed: Bed, guard: GuardOnBed) -> tuple[WorkerState, ...]:
    """Ask the guard who is at work."""
    found: tuple[WorkerState, ...] = bed.run(guard.real.workers())
    return found


def guard_with_two(bed: Bed) -> GuardOnBed:
    """Return a guard with two projections and no worker of its own."""
    guard = bed.guard(worker="external")
    for name in ("P", "Q"):
        bed.joined(guard, name, noted(name))
    return guard


def test_a_worker_is_on_record_while_it_works(bed: Bed) -> None:
    """Who it is, where it runs and for what; stopped, nothing is left of it."""
    guard = guard_with_two(bed)
    assert workers(bed, guard) == ()
    worker = bed.run(_value(lambda: guard.real.worker(poll_seconds=0.05).start()))
    bed.wait_until(lambda: workers(bed, guard))
    (found,) = workers(bed, guard)
    assert (found.kind, found.process_id, found.host) == ("embedded", os.getpid(), socket.gethostname())
    assert (found.projections, found.library_version) == (("P", "Q"), version("projection-guard"))
    assert found.stopping_at is None
    assert found.started_at <= found.seen_at
    assert found.silent_seconds < 3600
    bed.run(worker.stop())
    assert workers(bed, guard) == ()


def test_one_that_does_nothing_else_is_a_service(bed: Bed) -> None:
    """`run()` is what a process of its own calls."""
    guard = guard_with_two(bed)
    worker = guard.real.worker(poll_seconds=0.05)
    running = going(bed, worker.run)
    bed.wait_until(lambda: workers(bed, guard))
    assert [each.kind for each in workers(bed, guard)] == ["service"]
    bed.run(worker.stop())
    bed.wait_until(lambda: running.is_done)
    running.answer()
    assert workers(bed, guard) == ()


def test_it_gives_signs_of_life_also_where_it_looks_seldom(bed: Bed, monkeypatch: Any) -> None:
    """One that looks for work once an hour is not taken for dead; nor does it look more often for that."""
    assert BEAT_EVERY_SECONDS <= 10
    monkeypatch.setattr("projection_guard._on_workers.BEAT_EVERY_SECONDS", 0.05)
    guard = guard_with_two(bed)
    worker = bed.run(_value(lambda: guard.real.worker(poll_seconds=3600).start()))
    bed.wait_until(lambda: worker.pulse.looked_at)  # its first look is over: the row comes at that one's beginning
    looked = worker_looks(worker, guard)
    for _ in range(2):
        bed.change(LONG_AGO)
        bed.wait_until(lambda: workers(bed, guard)[0].silent_seconds < 3600)
    assert looked == []
    bed.run(worker.stop())


def worker_looks(worker: Any, guard: GuardOnBed) -> list[str]:
    """Note each time that the guard's service is asked for due work from now on."""
    looked: list[str] = []
    service = guard.real._service
    real = service.names_with_work

    async def noting() -> list[str]:
        looked.append("looked")
        found: list[str] = await real()
        return found

    service.names_with_work = noting
    return looked


def test_a_worker_that_stops_says_so_while_it_ends_what_it_has_in_hand(blocking_bed: Bed) -> None:
    """Between SIGTERM and its end a worker is stopping, not gone."""
    bed, seen = blocking_bed, list[Any]()
    guard = bed.guard(worker="external")
    worker = guard.real.worker(poll_seconds=0.05)

    def body(event: Happened) -> None:
        if worker.is_running:
            worker._hands.stop()
            bed.wait_until(lambda: guard.real.workers()[0].stopping_at is not None)
            seen.append(guard.real.workers()[0].stopping_at)
        else:
            raise ValueError("planned")

    guard.real.projection("P", handles=[Happened])(body)
    guard.publish(happened("A", 1))
    bed.change("UPDATE projection_failures SET next_retry_at = '2026-01-01 00:00:00.000000'")
    worker.start()
    bed.wait_until(lambda: seen)
    bed.run(worker.stop())
    assert len(seen) == 1
    assert workers(bed, guard) == ()


def test_the_row_of_one_that_was_killed_stays_for_a_day(bed: Bed) -> None:
    """Its last sign of life is what is left of it; a day later nobody asks any more."""
    guard = guard_with_two(bed)
    bed.change(
        "INSERT INTO projection_workers (worker_id, kind, host, process_id, library_version, projections, started_at,"
        " seen_at) VALUES ('w', 'service', 'h', 7, '1', '[\"P\"]', '2026-01-01 00:00:00.000000',"
        " CURRENT_TIMESTAMP)"
    )
    guard.work()
    (found,) = workers(bed, guard)
    assert (found.process_id, found.projections) == (7, ("P",))
    bed.change(LONG_AGO)
    assert workers(bed, guard)[0].silent_seconds > 24 * 3600
    guard.work()
    assert workers(bed, guard) == ()
