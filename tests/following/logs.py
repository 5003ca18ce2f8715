"""A log beside the guard's tables, for tests of following: events of `tests.bed`, appended past the library.

log = FollowedLog(bed)
guard = log.guard()                        # a guard with this log as its source
log.append("A", "A", "B")                  # A#1, A#2, B#1, committed
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import text

from projection_guard import AsyncSqlEventSource, SqlEventSource
from tests.bed import Bed, GuardOnBed, Happened

__all__ = ["IDENTITIES", "FollowedLog", "rebuilt"]

IDENTITIES = {
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "postgresql": "bigint GENERATED ALWAYS AS IDENTITY",
    "mariadb": "bigint NOT NULL AUTO_INCREMENT",
}

_INSERT = "INSERT INTO log (event_id, event_type, stream_id, n) VALUES (:event_id, 'Happened', :stream, :n)"


class FollowedLog:
    """A table of events, and what was appended to it."""

    def __init__(self, bed: Bed, *, is_there: bool = False) -> None:
        self.bed = bed
        self.lengths: Counter[str] = Counter()
        self.appended: list[Happened] = []
        if is_there:
            return
        identity = IDENTITIES[bed.database]
        key = "" if bed.database == "sqlite" else ", PRIMARY KEY (sequence)"
        bed.change(
            f"CREATE TABLE log (sequence {identity}, event_id varchar(255) UNIQUE, event_type varchar(255), "
            f"stream_id varchar(255), n integer{key})"
        )

    def append(self, *streams: str) -> list[Happened]:
        """Append the next event of each of these streams, one after the other, and return them."""
        made = []
        for stream in streams:
            self.lengths[stream] += 1
            n = self.lengths[stream]
            self.bed.change(_INSERT, event_id=f"{stream}#{n}", stream=stream, n=n)
            made.append(Happened(event_id=f"{stream}#{n}", stream_id=stream, sequence=len(self.appended) + 1, n=n))
            self.appended.append(made[-1])
        return made

    def append_many(self, number: int, streams: int) -> None:
        """Append events to so many streams in turn, in one transaction."""
        rows = []
        for each in range(number):
            stream = f"S{each % streams}"
            self.lengths[stream] += 1
            n = self.lengths[stream]
            rows.append({"event_id": f"{stream}#{n}", "stream": stream, "n": n})
            self.appended.append(
                Happened(event_id=f"{stream}#{n}", stream_id=stream, sequence=len(self.appended) + 1, n=n)
            )
        self.bed.past_the_library(lambda connection: connection.execute(text(_INSERT), rows))

    def source(self, decode: Callable[[Mapping[str, object]], object] | None = None, **options: Any) -> Any:
        """Return a reader of it."""
        kind = AsyncSqlEventSource if self.bed.is_async else SqlEventSource
        if self.bed.database == "mariadb":
            options.setdefault("in_order", True)
        source = kind(self.bed.url, "log", decode=decode or rebuilt, **options)
        self.bed.on_close(source.close)
        return source

    def guard(self, source: Any = None, **options: Any) -> GuardOnBed:
        """Return a guard that follows it."""
        return self.bed.guard(source=source or self.source(), **options)

    def of_stream(self, stream: str) -> list[tuple[str, int]]:
        """Return what a joined handler is to have noted of a stream."""
        return [(stream, n) for n in range(1, self.lengths[stream] + 1)]

    def cursors(self, projection: str = "P") -> list[int]:
        """Return the cursors of a projection's partitions."""
        rows = self.bed.rows(
            "SELECT p.cursor FROM projection_partitions p WHERE p.projection_name = :p ORDER BY p.partition",
            p=projection,
        )
        return [row.cursor for row in rows]


def rebuilt(row: Mapping[str, Any]) -> Happened:
    """Make the event of a row."""
    return Happened(event_id=row["event_id"], stream_id=row["stream_id"], sequence=row["sequence"], n=row["n"])
