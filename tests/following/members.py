"""Processes that follow one log together: starting them, looking who has what, appending meanwhile, an exact end."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Any, Self

from sqlalchemy import text

from tests.bed import Bed
from tests.faults.processes import Victim
from tests.flow.acting import states_of
from tests.following.logs import FollowedLog

__all__ = ["PROGRAM", "Appenders", "assert_exact", "has_come_to", "member", "owners", "prepared"]

PROGRAM = "tests.following.member"


@contextmanager
def member(bed: Bed, **order: Any) -> Generator[Victim]:
    """Start a process that follows."""
    with Victim(PROGRAM, url=bed.url, kind=bed.kind, **order) as process:
        assert process.line() == "begun"
        yield process


def prepared(bed: Bed, partitions: int = 1) -> FollowedLog:
    """Make a log, and a projection that follows it."""
    log = FollowedLog(bed)
    guard = log.guard()
    bed.joined(guard, "P", lambda event, connection: None, partitions=partitions)
    guard.health()
    return log


def owners(bed: Bed) -> dict[int, str | None]:
    """Return who follows in each partition, by leases that live."""
    rows = bed.rows(
        "SELECT partition, lease_owner FROM projection_partitions WHERE projection_name = 'P' ORDER BY partition"
    )
    return {row.partition: row.lease_owner for row in rows}


def has_come_to(bed: Bed, sequence: int) -> Callable[[], bool]:
    """Return a condition: all cursors have come that far, and nothing is open any more."""

    def holds() -> bool:
        low = bed.value("SELECT min(cursor) FROM projection_partitions WHERE projection_name = 'P' AND partition >= 0")
        return bool(low >= sequence) and not any(
            state in ("failed", "parked") for state in states_of(bed, "P").values()
        )

    return holds


def assert_exact(bed: Bed, log: FollowedLog) -> None:
    """Every event of the log has its effect once, in its stream's order (P1, P2, P3)."""
    for stream, length in log.lengths.items():
        assert bed.effects("P", stream) == log.of_stream(stream)
        assert bed.count(stream) == length


class Appenders:
    """Threads that append to a log until they are told to stop; some of what they do is rolled back.

    On MariaDB one transaction comes after the other: `in_order=True` says so.
    """

    def __init__(self, bed: Bed, number: int, *, pause_seconds: float = 0.01) -> None:
        self._bed = bed
        self._pause_seconds = pause_seconds
        self._turn = threading.Lock() if bed.database == "mariadb" else nullcontext()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._append, args=(chr(65 + index),)) for index in range(number)]
        self.committed: dict[str, int] = {}

    def _append(self, name: str) -> None:
        statement = text(
            "INSERT INTO log (event_id, event_type, stream_id, n) VALUES (:event_id, 'Happened', :stream, :n)"
        )
        for number in itertools.count():
            stream, n = f"{name}{number % 4}", number // 4 + 1
            with self._turn, self._bed.engine.connect() as connection:
                if number % 7 == 3:  # a number of the sequence that is never used
                    connection.execute(statement, {"event_id": f"{stream}#{n}x", "stream": stream, "n": -n})
                    connection.rollback()
                connection.execute(statement, {"event_id": f"{stream}#{n}", "stream": stream, "n": n})
                connection.commit()
            self.committed[stream] = n
            if self._stop.wait(self._pause_seconds):
                return

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Append no more."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
