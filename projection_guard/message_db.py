"""Events from Message DB, the message store of the Eventide project: a schema of functions and one table in PostgreSQL.

The whole store is a log in a table like any other: its global positions are drawn before they can be seen, by writers
side by side, and are read with holes held. A category is not: `write_message` takes a lock of the category before it
draws a position, and keeps it until the commit. So what can be seen of a category is all that will ever stand there,
whatever writers of other categories still do; it is read by itself, and no one else's transaction holds it up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import Connection, Engine, Table, Text, func
from sqlalchemy import cast as cast_to
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from ._source import Batch, Share
from ._sql_source import AsyncSqlEventSource, LogOptions, LogReader, SqlEventSource
from ._store import log as logs
from .errors import ConfigurationError

__all__ = ["AsyncMessageDbSource", "Message", "MessageDbSource"]

_TABLE: Final = "messages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as it stands in the store. `position` is its place in its stream, from 0; `time` is aware.

    `data` and `metadata` are what their JSON says: as a rule a dict, None where there is nothing.
    """

    id: UUID
    type: str
    stream_name: str
    position: int
    global_position: int
    data: Any = field(repr=False)
    metadata: Any = field(repr=False)
    time: datetime


Decode = Callable[[Message], object]


class MessageDbSource(SqlEventSource):
    """A Message DB store, or one category of it, as a source. Streams are ordered by the store's stream names.

    `category=` reads the streams of one category ("account", "account:command"), without holding at other writers'
    transactions. `decode=` makes the application's event of a `Message`; without it that is the event. `schema=` is the
    store's, `give_up_after=` as for `SqlEventSource`, of the whole store only.
    """

    def __init__(
        self,
        database: str | URL | Engine,
        *,
        category: str | None = None,
        decode: Decode | None = None,
        schema: str = "message_store",
        give_up_after: timedelta | None = None,
    ) -> None:
        options = _options(schema, decode, give_up_after)
        reader = _reader(options, schema, category)
        super().__init__(database, _TABLE, **options)
        _check(self._engine.dialect.name)
        self._reader = reader
        self.events_are = Message if decode is None else None


class AsyncMessageDbSource(AsyncSqlEventSource):
    """What `MessageDbSource` is, awaited; on an `AsyncEngine` or a URL."""

    def __init__(
        self,
        database: str | URL | AsyncEngine,
        *,
        category: str | None = None,
        decode: Decode | None = None,
        schema: str = "message_store",
        give_up_after: timedelta | None = None,
    ) -> None:
        options = _options(schema, decode, give_up_after)
        reader = _reader(options, schema, category)
        super().__init__(database, _TABLE, **options)
        _check(self._engine.dialect.name)
        self._reader = reader
        self.events_are = Message if decode is None else None


class _CategoryReader(LogReader):
    """Reads one category. Its writers take turns, so it has no holes that could be filled."""

    def read(
        self, connection: Connection, after: int, limit: int, until: int | None, share: Share | None = None
    ) -> Batch:
        """Read a page. What is seen beyond `until` tells that all up to it is there: the page is then read again."""
        table = self._table(connection)
        rows = logs.page(connection, table, after, limit, until, share)
        end = self._end(connection, table, rows, after, limit, until)
        if end == until:
            rows = logs.page(connection, table, after, limit, until, share)
            end = table.sequence_of(rows[-1]) if len(rows) >= limit else end
        return self._batch(table, rows, share, position=end)


def _reader(options: LogOptions, schema: str, category: str | None) -> LogReader:
    if category is None:
        return LogReader(_TABLE, options)
    if not category or "-" in category:
        raise ConfigurationError(
            f"category= takes a category's name, such as 'account', not {category!r}: what has a hyphen is a stream's"
        )
    if options.get("give_up_after") is not None:
        raise ConfigurationError("give_up_after= is for the whole store: a category is never held, take it out")

    def of_category(table: Table) -> Any:
        category_of = getattr(getattr(func, schema), "category")  # noqa: B009 - the store's own function, by its schema
        return cast_to(category_of(table.c.stream_name), Text) == category

    return _CategoryReader(_TABLE, options, of_category)


def _options(schema: str, decode: Decode | None, give_up_after: timedelta | None) -> LogOptions:
    def event_of(row: Mapping[str, object]) -> object:
        message = _message(row)
        return message if decode is None else decode(message)

    return {
        "schema": schema,
        "sequence": "global_position",
        "event_id": "id",
        "event_type": "type",
        "stream_id": "stream_name",
        "decode": event_of,
        "give_up_after": give_up_after,
    }


def _message(row: Mapping[str, object]) -> Message:
    at = cast("datetime", row["time"])  # of a column without a time zone: the store writes UTC
    return Message(
        id=cast("UUID", row["id"]),
        type=cast("str", row["type"]),
        stream_name=cast("str", row["stream_name"]),
        position=cast("int", row["position"]),
        global_position=cast("int", row["global_position"]),
        data=row["data"],
        metadata=row["metadata"],
        time=at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC),
    )


def _check(dialect: str) -> None:
    if dialect != "postgresql":
        raise ConfigurationError(f"Message DB is a store in PostgreSQL; this URL or engine is one of {dialect}")
