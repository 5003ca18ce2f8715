"""The library's main job, told once: an event fails, its stream waits, everything heals by itself, in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from sqlalchemy import Connection
from tenacity import wait_fixed

from projection_guard import RetryPolicy
from tests.bed import Bed, Happened, happened, noted

ROOT = Path(__file__).parents[2]


def failing_first(name: str, broken: list[bool]) -> object:
    """Return a joined handler that notes its event and then fails on A#1 while `broken` says so."""
    note = noted(name)

    def body(event: Happened, connection: Connection) -> None:
        note(event, connection)
        if broken[0] and event.event_id == "A#1":
            raise ValueError("the first of A fails")

    return body


def test_a_failed_event_holds_its_stream_only_and_heals_in_order(bed: Bed) -> None:
    """A#1 fails: B#1 is applied at once, A#2 and A#3 are parked and visible; repaired, A's effects are 1, 2, 3."""
    guard, broken = bed.guard(), [True]
    bed.joined(guard, "P", failing_first("P", broken))  # type: ignore[arg-type]
    statuses = [guard.publish(event)[0].status for event in map(happened, "AAAB", (1, 2, 3, 1))]
    assert statuses == ["failed", "parked", "parked", "applied"]
    assert bed.effects("P") == [("B", 1)]
    health = guard.health("P")
    assert (health.status, health.active_failures, health.parked_events) == ("degraded", 1, 2)
    blocked = guard.streams("P").items
    assert [(stream.stream_id, stream.parked_events) for stream in blocked] == [("A", 2)]
    broken[0] = False
    guard.work()
    assert bed.effects("P", "A") == [("A", 1), ("A", 2), ("A", 3)]
    assert bed.count("A") == 3
    assert guard.health("P").status == "healthy"
    assert guard.streams("P").items == ()


def test_publish_does_not_sleep_through_the_backoff(bed: Bed) -> None:
    """`publish` has returned long before the first retry is due."""
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600)))
    bed.joined(guard, "P", failing_first("P", [True]))  # type: ignore[arg-type]
    started = time.monotonic()
    guard.publish(happened("A", 1))
    assert time.monotonic() - started < 60
    assert guard.failures("P").items[0].next_retry_at is not None


def test_the_process_heals_by_itself_without_a_worker_of_the_application(bed: Bed) -> None:
    """The guard starts a small worker of its own."""
    broken = [True]
    guard = bed.guard(worker="auto", retry=RetryPolicy(wait=wait_fixed(0.05)))
    bed.joined(guard, "P", failing_first("P", broken))  # type: ignore[arg-type]
    for n in (1, 2, 3):
        guard.publish(happened("A", n))
    broken[0] = False
    bed.wait_until(lambda: bed.effects("P", "A") == [("A", 1), ("A", 2), ("A", 3)])
    bed.wait_until(lambda: guard.health("P").parked_events == 0)


def test_two_workers_that_race_keep_order_and_apply_once(database_url: str) -> None:
    """Two guards of one database work in two threads, round after round."""
    bed = Bed("blocking", "any", database_url)
    broken = [True]
    guards = [bed.guard() for _ in range(2)]
    for guard in guards:
        bed.joined(guard, "P", failing_first("P", broken))  # type: ignore[arg-type]
    for n in range(1, 16):
        guards[n % 2].publish(happened("A", n))
    broken[0] = False
    errors: list[BaseException] = []

    def work(guard: object) -> None:
        try:
            for _ in range(20):
                guard.work()  # type: ignore[attr-defined]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(guard,)) for guard in guards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bed.wait_until(lambda: guards[0].work().drained == 0 and guards[0].health("P").parked_events == 0)
    assert not errors
    assert bed.effects("P") == [("A", n) for n in range(1, 16)]
    bed.close()


VICTIM = """
import sys, time
from tests.bed import Happened, happened
from projection_guard import ProjectionGuard, RetryPolicy
from tenacity import wait_fixed
guard = ProjectionGuard(sys.argv[1], retry=RetryPolicy(wait=wait_fixed(1)))
@guard.projection("P", handles=[Happened])
def fails(event, connection):
    raise ValueError("it always fails here")
for n in (1, 2, 3):
    guard.publisher().publish(happened("A", n))
print("published", flush=True)
time.sleep(600)
"""


def test_another_process_takes_over_from_one_that_was_killed(database_url: str) -> None:
    """SIGKILL the process that saw the failure, and to which its immediate retries are reserved."""
    bed = Bed("blocking", "any", database_url)
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, database_url],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"published\n"
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    bed.wait_until(lambda: guard.work() is not None and len(bed.effects("P")) == 3, within=60)
    assert bed.effects("P", "A") == [("A", 1), ("A", 2), ("A", 3)]
    bed.close()
