"""Events from a table of the application's own, read in the order of their sequence; holes are held until final.

Numbers of a sequence are drawn before the transaction that draws them can be seen, and some are never used. A reader
that took the next number it sees for the next event would miss those that come later. `_store.log` has the rule.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Final, TypedDict, TypeVar, Unpack

from sqlalchemy import Connection, Dialect, Engine, Table
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from ._dialect import is_mysql, is_postgresql, is_sqlite
from ._frozen import quick
from ._io import asyncpg_driver
from ._io.engines import async_engine_for, engine_for
from ._io.pooling import prepare_nothing_through_a_pooler
from ._source import Batch, Recorded, SeenTypes, Share, Skipped, check_range, check_stream_range
from ._store import log as logs
from .errors import ConfigurationError, SourceError

__all__ = ["AsyncSqlEventSource", "LogOptions", "LogReader", "SqlEventSource"]

T = TypeVar("T")
log = logging.getLogger("projection_guard")
Decode = Callable[[Mapping[str, object]], object]
_recorded = quick(Recorded)


class LogOptions(TypedDict, total=False):
    """What can be said of a log: its schema, its columns' names, how a row becomes an event, the last resort.

    Without more, the columns are named `sequence`, `event_id`, `event_type` and `stream_id`.
    """

    schema: str | None
    sequence: str
    event_id: str
    event_type: str
    stream_id: str | None
    decode: Decode | None
    give_up_after: timedelta | None
    in_order: bool


_EMPTY: Final = "nobody was left who could have filled it"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hold:
    """Who was writing into the log when `seen` could be seen already: one of them may fill a hole up to there."""

    seen: int
    writers: frozenset[str]
    since: float

    def is_over(self, writers: frozenset[str]) -> bool:
        """Return whether, with these still writing, none of those is left."""
        return not any(writer in self.writers or logs.is_prepared(writer) for writer in writers)


def holes(after: int, sequences: Sequence[int]) -> list[tuple[int, int]]:
    """Return the ranges between `after` and the last sequence in which there is nothing, ends included."""
    if not sequences or sequences[-1] - after == len(sequences):  # they rise, so there is none
        return []
    found: list[tuple[int, int]] = []
    for sequence in sequences:
        if sequence > after + 1:
            found.append((after + 1, sequence - 1))
        after = sequence
    return found


class LogReader:
    """Reads one log table over a connection that is given, in several threads at once; keeps what it waits for.

    `part`: which of its rows are the log; who reads only a part knows by himself about its holes.
    """

    def __init__(self, table: str | Table, options: LogOptions, part: logs.Part | None = None) -> None:
        self._name = table
        self._options = options
        self._part = part
        self._decode: Decode = options.get("decode") or _as_it_is
        give_up_after = options.get("give_up_after")
        self._give_up_seconds = None if give_up_after is None else give_up_after.total_seconds()
        if self._give_up_seconds is not None and self._give_up_seconds <= 0:
            raise ConfigurationError(f"give_up_after= takes a time above 0, not {give_up_after!r}")
        self._found: logs.LogTable | None = None
        self._final = 0
        self._holds: tuple[_Hold, ...] = ()  # replaced, never changed: readers in other threads look at it, too

    def read(
        self, connection: Connection, after: int, limit: int, until: int | None, share: Share | None = None
    ) -> Batch:
        """Read a page. Holes are judged on all its positions; those of others' events have a row here, too."""
        table = self._table(connection)
        rows = logs.page(connection, table, after, limit, until, share)
        end = self._end(connection, table, rows, after, limit, until)
        open_holes = holes(after, [*table.sequences(rows), end + 1])
        if not open_holes:
            return self._batch(table, rows, share, position=max(end, after))
        final, reason = self._final_up_to(connection, table, hole=open_holes[0], seen=end)
        if final < open_holes[0][1]:
            before = open_holes[0][0] - 1
            ready = [row for row in rows if table.sequence_of(row) <= before]
            return self._batch(table, ready, share, position=before, is_held=True)
        final = final if until is None else min(final, until)  # another reading may have come further
        rows = logs.page(connection, table, after, limit, final, share)
        end = final if len(rows) < limit else table.sequence_of(rows[-1])
        skipped = [
            Skipped(first=first, last=last, reason=reason, is_given_up=reason != _EMPTY)
            for first, last in holes(after, [*table.sequences(rows), end + 1])
        ]
        return self._batch(table, rows, share, position=end, skipped=skipped)

    def _end(
        self,
        connection: Connection,
        table: logs.LogTable,
        rows: Sequence[logs.LogRow],
        after: int,
        limit: int,
        until: int | None,
    ) -> int:
        """Return how far these rows reach: to the last of them, or to `until` where the log is beyond that."""
        last = table.sequence_of(rows[-1]) if rows else after
        if until is None or len(rows) >= limit or last == until:
            return last
        return until if logs.page(connection, table, until, 1, None) else last

    def _final_up_to(
        self, connection: Connection, table: logs.LogTable, *, hole: tuple[int, int], seen: int
    ) -> tuple[int, str]:
        """Return up to where holes are final now, and why; below this one where it is not yet.

        Who wrote when something behind a hole was seen first is looked up once, and then waited for: those who came
        later drew higher numbers, and would be waited for without an end. So a reader that is further ahead makes a
        hold of its own.
        """
        first, last = hole
        if last <= self._final:
            return self._final, _EMPTY
        holds = self._holds  # before the look: one made meanwhile by another thread may wait for who came after it
        writers = logs.writers(connection, table)
        if not any(hold.seen >= last for hold in holds):
            holds = (*holds, _Hold(seen=seen, writers=writers, since=monotonic()))
        self._final = max([self._final, *(hold.seen for hold in holds if hold.is_over(writers))])
        self._holds = tuple(hold for hold in holds if hold.seen > self._final)
        if last <= self._final:
            return self._final, _EMPTY
        return self._given_up(table, first, next(hold for hold in holds if hold.seen >= last))

    def _given_up(self, table: logs.LogTable, first: int, hold: _Hold) -> tuple[int, str]:
        waited = monotonic() - hold.since
        if self._give_up_seconds is None or waited < self._give_up_seconds:
            return first - 1, ""
        log.warning("%s: gave up waiting for sequence %d, which a transaction may still write", table.name, first)
        return hold.seen, f"given up after {waited:.0f} s, with transactions open that may still fill it"

    def head(self, connection: Connection) -> int:
        return logs.head(connection, self._table(connection))

    def get(self, connection: Connection, event_id: str) -> Recorded | None:
        table = self._table(connection)
        row = logs.one(connection, table, event_id)
        return None if row is None else self._events(table, [row])[0]

    def read_stream(
        self, connection: Connection, stream_id: str, before: int | None, limit: int
    ) -> Sequence[Recorded] | None:
        table = self._table(connection)
        if not table.finds_streams:
            return None
        return self._events(table, logs.of_stream(connection, table, stream_id, before, limit))

    def types(self, connection: Connection, names: Sequence[str], limit: int) -> SeenTypes:
        return logs.types(connection, self._table(connection), names, limit)

    def _table(self, connection: Connection) -> logs.LogTable:
        """Find the table at the first reading. Two readings at once may both find it: each goes on with its own."""
        if self._found is None:
            options = self._options
            found = self._found = logs.find_table(
                connection,
                self._name,
                options.get("schema"),
                sequence=options.get("sequence", "sequence"),
                event_id=options.get("event_id", "event_id"),
                event_type=options.get("event_type", "event_type"),
                stream_id=options.get("stream_id", "stream_id"),
                part=self._part,
            )
            return found
        return self._found

    def _batch(
        self,
        table: logs.LogTable,
        rows: Sequence[logs.LogRow],
        share: Share | None,
        *,
        position: int,
        skipped: Sequence[Skipped] = (),
        is_held: bool = False,
    ) -> Batch:
        events = self._events(table, rows if share is None else table.of_share(rows, share))
        last = None if share is None or not rows else table.records(rows[-1:])[0]
        return Batch(events=tuple(events), position=position, skipped=tuple(skipped), is_held=is_held, last=last)

    def _events(self, table: logs.LogTable, rows: Sequence[logs.LogRow]) -> list[Recorded]:
        """Make the events of rows. One loop, and nothing in it that holds for all: this is what reading costs."""
        decode, columns = self._decode, table.columns
        found: list[Recorded] = []
        for row, sequence, record in zip(rows, table.sequences(rows), table.records(rows), strict=True):
            event, refused = None, None
            try:
                event = decode(dict(zip(columns, row)))  # noqa: B905  # the same columns, for each event
            except Exception as error:
                refused = error
            found.append(_recorded(sequence=sequence, event=event, record=record, error=refused))
        return found


def _as_it_is(row: Mapping[str, object]) -> object:
    return row


def _unread(reader: str, error: Exception) -> SourceError:
    return SourceError(f"The event log {reader!r} could not be read: its database answered with {type(error).__name__}")


class SqlEventSource:
    """An event log in a SQL table, of any database: the guard's, or another one.

    `table` has one row per event; `sequence=`, `event_id=`, `event_type=` and `stream_id=` name its columns (no stream:
    None), `schema=` its schema. A `Table` of SQLAlchemy's says itself which columns are read. `decode=` makes the event
    of a row, given as a dict by column; without it that dict is the event. PostgreSQL and SQLite are read safely.
    `give_up_after=` is a last resort: a hole that a transaction may still fill is skipped after that time, recorded,
    and what is committed into it later is missed. A log on MariaDB or MySQL is read only with `in_order=True`: the
    application promises that it appends one transaction after the other.
    """

    def __init__(
        self,
        database: str | URL | Engine,
        table: str | Table,
        **options: Unpack[LogOptions],
    ) -> None:
        self._owns_engine = not isinstance(database, Engine)
        self._engine = database if isinstance(database, Engine) else engine_for(database, asked_by="SqlEventSource")
        _check_dialect(self._engine.dialect, options)
        self._table = table if isinstance(table, str) else table.fullname
        self._reader = LogReader(table, options)
        self.events_are: type | None = None if options.get("decode") else dict

    def read(self, after: int, limit: int, until: int | None = None, *, share: Share | None = None) -> Batch:
        """Return the next events; never waits. Raises `ConfigurationError` for a log that cannot be read safely.

        With a `share` only its events, of those at the next `limit` positions.
        """
        check_range(after, limit, until)
        return self._with(lambda connection: self._reader.read(connection, after, limit, until, share))

    def head(self) -> int:
        """Return the highest sequence that can be seen now, 0 for an empty log."""
        return self._with(self._reader.head)

    def get(self, event_id: str) -> Recorded | None:
        """Return one event; None where the log has none of this id."""
        return self._with(lambda connection: self._reader.get(connection, event_id))

    def read_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Recorded] | None:
        """Return up to `limit` events of one stream below a sequence, newest first, also those behind a hole.

        None where no index of the table begins with the stream's column: the log is not searched from end to end.
        """
        check_stream_range(before, limit)
        return self._with(lambda connection: self._reader.read_stream(connection, stream_id, before, limit))

    def types(self, names: Sequence[str], limit: int) -> SeenTypes:
        """Return which types the oldest and the newest `limit` events are of, and which of `names` an index finds."""
        check_range(0, limit, None)
        return self._with(lambda connection: self._reader.types(connection, names, limit))

    def _with(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                return work(prepare_nothing_through_a_pooler(connection))
        except (SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error) as error:  # the driver's: `AUTOCOMMIT` is set
            raise _unread(self._table, error) from error

    def close(self) -> None:
        """Close the connections, if the source made the engine."""
        if self._owns_engine:
            self._engine.dispose()


class AsyncSqlEventSource:
    """What `SqlEventSource` is, awaited; on an `AsyncEngine` or a URL."""

    def __init__(
        self,
        database: str | URL | AsyncEngine,
        table: str | Table,
        **options: Unpack[LogOptions],
    ) -> None:
        self._owns_engine = not isinstance(database, AsyncEngine)
        self._engine = (
            database if isinstance(database, AsyncEngine) else async_engine_for(database, asked_by="SqlEventSource")
        )
        _check_dialect(self._engine.dialect, options)
        self._table = table if isinstance(table, str) else table.fullname
        self._reader = LogReader(table, options)
        self.events_are: type | None = None if options.get("decode") else dict

    async def read(self, after: int, limit: int, until: int | None = None, *, share: Share | None = None) -> Batch:
        """Return the next events, with a `share` only its own; never waits for one.

        Raises `ConfigurationError` for an unsafe log.
        """
        check_range(after, limit, until)
        return await self._with(lambda connection: self._reader.read(connection, after, limit, until, share))

    async def head(self) -> int:
        """Return the highest sequence that can be seen now, 0 for an empty log."""
        return await self._with(self._reader.head)

    async def get(self, event_id: str) -> Recorded | None:
        """Return one event; None where the log has none of this id."""
        return await self._with(lambda connection: self._reader.get(connection, event_id))

    async def read_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Recorded] | None:
        """Return up to `limit` events of one stream, newest first; None where no index leads to them."""
        check_stream_range(before, limit)
        return await self._with(lambda connection: self._reader.read_stream(connection, stream_id, before, limit))

    async def types(self, names: Sequence[str], limit: int) -> SeenTypes:
        """Return which types the oldest and the newest `limit` events are of, and which of `names` an index finds."""
        check_range(0, limit, None)
        return await self._with(lambda connection: self._reader.types(connection, names, limit))

    async def _with(self, work: Callable[[Connection], T]) -> T:
        try:
            async with self._engine.connect() as connection:
                connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
                return await connection.run_sync(lambda sync: work(prepare_nothing_through_a_pooler(sync)))
        except Exception as error:  # the driver's own ones come of setting `AUTOCOMMIT`
            driver_error = self._engine.dialect.loaded_dbapi.Error
            if not isinstance(error, driver_error) and not asyncpg_driver.is_of_connecting(error):
                raise
            raise _unread(self._table, error) from error

    async def close(self) -> None:
        """Close the connections, if the source made the engine."""
        if self._owns_engine:
            await self._engine.dispose()


def _check_dialect(dialect: Dialect, options: LogOptions) -> None:
    if is_mysql(dialect):
        if not options.get("in_order", False):
            raise ConfigurationError(
                "A log on MariaDB or MySQL cannot be read safely by its sequence: its numbers can be seen in another "
                "order than they were drawn in, and nobody can tell who is still writing. If the application appends "
                "one transaction after the other, say in_order=True; docs/mariadb.md says how it does that"
            )
    elif not (is_postgresql(dialect) or is_sqlite(dialect)):
        name = dialect.name
        raise ConfigurationError(
            f"A log on {name} cannot be read safely by its sequence: the guard does not know there who is still "
            "writing. Write an EventSource of your own that does; docs/sources.md says what it has to know"
        )
