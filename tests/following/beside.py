"""A read model that is rebuilt beside itself, for the tests of that."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text
from tenacity import wait_fixed

from projection_guard import Replay, RetryPolicy
from projection_guard._io.protocol import drive
from tests.bed import Bed, GuardOnBed, Happened
from tests.following.logs import FollowedLog

__all__ = ["LATER", "Model", "halfway", "leftovers", "run_for"]

LATER = RetryPolicy(wait=wait_fixed(3600), breaker=None)


class Model:
    """A read model of two tables, whose handler is changed by a deployment."""

    def __init__(self, bed: Bed, log: FollowedLog) -> None:
        self.bed = bed
        self.log = log
        self.factor = 1
        self.failing: set[str] = set()
        identity = "INTEGER PRIMARY KEY AUTOINCREMENT" if bed.database == "sqlite" else "serial PRIMARY KEY"
        bed.change("CREATE TABLE totals (stream varchar(50) PRIMARY KEY, total integer NOT NULL)")
        bed.change(
            f"CREATE TABLE entries (id {identity}, stream varchar(50) NOT NULL REFERENCES totals, n integer NOT NULL)"
        )
        bed.change("CREATE UNIQUE INDEX one_entry ON entries (stream, n)")
        bed.change("CREATE VIEW sums AS SELECT sum(total) AS total FROM totals")

    def guard(self, **options: Any) -> GuardOnBed:
        """Return a guard that fills it."""
        guard = self.log.guard(retry=LATER, **options)
        self.bed.joined(guard, "P", self.handle, tables=["totals", "entries"])
        return guard

    def handle(self, event: Happened, connection: Connection) -> None:
        """Count an event, and note it."""
        connection.execute(
            text(
                "INSERT INTO totals VALUES (:stream, :by) "
                "ON CONFLICT (stream) DO UPDATE SET total = totals.total + excluded.total"
            ),
            {"stream": event.stream_id, "by": self.factor},
        )
        connection.execute(
            text("INSERT INTO entries (stream, n) VALUES (:stream, :n) ON CONFLICT (stream, n) DO NOTHING"),
            {"stream": event.stream_id, "n": event.n},
        )
        if event.event_id in self.failing:
            raise ValueError("planned")

    def totals(self) -> dict[str, int]:
        """Read it."""
        return {row.stream: row.total for row in self.bed.rows("SELECT stream, total FROM totals")}

    def entries(self) -> int:
        """Count what is noted."""
        return int(self.bed.value("SELECT count(*) FROM entries"))


def leftovers(bed: Bed) -> list[str]:
    """Return what a rebuild has left behind."""
    if bed.database == "sqlite":
        rows = bed.rows("SELECT name FROM sqlite_schema WHERE name LIKE 'next_%' OR name LIKE 'projection_guard_live%'")
    else:
        rows = bed.rows("SELECT nspname AS name FROM pg_namespace WHERE nspname = 'next'")
    return [row.name for row in rows]


def run_for(bed: Bed, guard: GuardOnBed, job: Replay, steps: int = 1000) -> Replay:
    """Run a job for so many steps, as a worker does: making the tables is one, and then each slice of the log."""
    looks = iter([False] * steps)
    work: Any = guard.real._service.on_log.run_replay("P", job.id, stops=lambda: next(looks, True))
    done: Replay = bed.run(work) if bed.is_async else drive(work)
    return done


def halfway(bed: Bed, guard: GuardOnBed, job: Replay) -> bool:
    """Run a job for a little while, and stop."""
    run_for(bed, guard, job, steps=2)
    return bool(guard.replay_of(job.id).events_replayed > 50)
