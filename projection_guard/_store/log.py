"""An event log in a SQL table: its pages, its head, and who may still write into one of its holes.

On PostgreSQL whoever inserts holds a RowExclusiveLock on the table from before the sequence's number is drawn until
after his rows can be seen. So a hole is final once all who held that lock, when something behind the hole could be seen
already, have let it go, and it is still empty then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    TEXT,
    VARCHAR,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    func,
    inspect,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import BIT
from sqlalchemy.engine.interfaces import ReflectedIndex
from sqlalchemy.exc import DataError, DBAPIError, NoSuchTableError

from .._dialect import is_mysql, is_postgresql
from .._frozen import quick
from .._model import EventRecord
from .._source import SeenTypes, Share
from ..errors import ConfigurationError

LogRow = Row[Any]
Part = Callable[[Table], ColumnElement[bool]]
"""Says which rows of a table are the log."""

_record = quick(EventRecord)
_HEX: Any = literal_column("'x'", Text)
_BITS: Any = BIT(32)
_SAME_TEXT: Final = (TEXT, VARCHAR, Uuid, Integer)

__all__ = ["LogTable", "Part", "find_table", "head", "is_prepared", "of_stream", "one", "page", "types", "writers"]


class LogTable:
    """A log's table as it was found, and the columns that matter by their parts. Rows are read by their places."""

    def __init__(
        self,
        table: Table,
        *,
        sequence: Column[Any],
        event_id: Column[Any],
        event_type: Column[Any],
        stream_id: Column[Any] | None,
        part: Part | None = None,
    ) -> None:
        self.table = table
        self.only: tuple[ColumnElement[bool], ...] = () if part is None else (part(table),)
        self.sequence = sequence
        self.event_id = event_id
        self.event_type = event_type
        self.columns = tuple(map(str, table.c.keys()))  # plain text: a row of these may be an event
        places = [self.columns.index(column.key) for column in (sequence, event_id, event_type)]
        self._sequence_at, self._id_at, self._type_at = places
        self._stream_at = None if stream_id is None else self.columns.index(stream_id.key)
        page = (
            select(table)
            .where(sequence > bindparam("after"), *self.only)
            .order_by(sequence)
            .limit(bindparam("most", type_=Integer))
        )
        self.page = page
        self.page_until = page.where(sequence <= bindparam("until"))
        self.shared: Select[Any] | None = None
        """Pages with one share's events only, where the database can tell which those are; else it is told here."""
        self.shared_until: Select[Any] | None = None
        self._keys = [event_id] if stream_id is None else [stream_id, event_id]
        self.stream_id = stream_id
        self.finds_streams = stream_id is None
        """Whether an index leads to a stream's events; a log without streams has none of any."""
        self.finds_types = False
        """Whether an index leads to a type's events."""

    @property
    def name(self) -> str:
        """The table's name, with its schema."""
        return self.table.fullname

    def sequence_of(self, row: LogRow) -> int:
        """Read a row's sequence."""
        return int(row[self._sequence_at])

    def sequences(self, rows: Iterable[LogRow]) -> list[int]:
        """Read the sequences of rows."""
        at = self._sequence_at
        return [int(row[at]) for row in rows]

    def share_in_postgresql(self) -> None:
        """Let the server tell whose an event is, if its text of the columns is Python's."""
        if all(isinstance(key.type, _SAME_TEXT) for key in self._keys):
            self.shared, self.shared_until = self._shared(self.page), self._shared(self.page_until)

    def _shared(self, page: Select[Any]) -> Select[Any]:
        """Return what reads which events are in a page, and all of those in a share; last, which those are.

        The inner query looks at the share once for each row; what is not in it is neither sent nor, if large, fetched:
        only its sequence, id and type are.
        """
        key = func.coalesce(*(cast(column, Text) for column in self._keys))
        number = _first_of_md5(key) % bindparam("of", type_=BigInteger)
        is_in = number.in_(bindparam("partitions", expanding=True))
        is_mine = func.coalesce(is_in, true())  # an event without any id is everybody's
        *columns, mine = page.add_columns(is_mine.label("projection_guard_is_mine")).subquery("page").c
        places = (self._sequence_at, self._id_at, self._type_at)
        shown = [each if at in places else case((mine, each)).label(each.name) for at, each in enumerate(columns)]
        return select(*shown, mine).order_by(columns[self._sequence_at])

    def of_share(self, rows: Sequence[LogRow], share: Share) -> list[LogRow]:
        """Leave out the rows that are not in a share."""
        if self.shared is not None:
            return [row for row in rows if row[-1]]
        said = self.records(rows)
        return [row for row, record in zip(rows, said, strict=True) if share.has(record.stream_id, record.event_id)]

    def records(self, rows: Iterable[LogRow]) -> list[EventRecord]:
        """Read what rows say of their events."""
        sequence, event_id, event_type, stream = self._sequence_at, self._id_at, self._type_at, self._stream_at
        return [
            _record(
                event_id=str(row[event_id]),
                event_type=str(row[event_type]),
                sequence=int(row[sequence]),
                stream_id=None if stream is None or row[stream] is None else str(row[stream]),
            )
            for row in rows
        ]


def find_table(
    connection: Connection,
    named: str | Table,
    schema: str | None,
    *,
    sequence: str,
    event_id: str,
    event_type: str,
    stream_id: str | None,
    part: Part | None = None,
) -> LogTable:
    """Find the table and its columns. Raises `ConfigurationError` where the log cannot be read safely.

    A `Table` says itself which columns are read, and what they are: no others are looked at.
    """
    if isinstance(named, Table):
        table = named
    else:
        try:
            table = Table(named, MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)
        except NoSuchTableError:
            raise _no_table(named) from None

    def column(option: str, called: str) -> Column[Any]:
        if called not in table.c:
            known = ", ".join(sorted(table.c.keys()))
            raise ConfigurationError(
                f"The log's table {table.name!r} has no column {called!r}; it has {known}: "
                f"say with {option}= which it is"
            )
        found: Column[Any] = table.c[called]
        return found

    found = LogTable(
        table,
        sequence=column("sequence", sequence),
        event_id=column("event_id", event_id),
        event_type=column("event_type", event_type),
        stream_id=None if stream_id is None else column("stream_id", stream_id),
        part=part,
    )
    _check_order(connection, found)
    if is_postgresql(connection.dialect):
        _check_postgresql(connection, found)
    return found


def _no_table(name: str) -> ConfigurationError:
    return ConfigurationError(f"There is no table {name!r} to read events from in this database")


def _check_order(connection: Connection, log: LogTable) -> None:
    """Pages are read by the sequence: it has to be unique, and an index has to find it."""
    looked = inspect(connection)
    name, schema = log.table.name, log.table.schema
    try:
        keys = [list(looked.get_pk_constraint(name, schema)["constrained_columns"])]
    except NoSuchTableError:
        raise _no_table(name) from None
    keys += [list(found["column_names"]) for found in looked.get_unique_constraints(name, schema)]
    indexes = looked.get_indexes(name, schema)
    keys += [[str(key) for key in found["column_names"]] for found in indexes if found["unique"]]
    led_to = {
        *(key[0] for key in keys if key),
        *(name for found in indexes if not _is_partial(found) for name in found["column_names"][:1]),
    }
    log.finds_streams = log.stream_id is None or log.stream_id.name in led_to
    log.finds_types = log.event_type.name in led_to
    if [log.sequence.name] not in keys:
        raise ConfigurationError(
            f"The column {log.sequence.name!r} of the log {log.name!r} is not unique; a log's sequence has to be its "
            "primary key, or have a unique index of its own"
        )
    lowest = connection.execute(select(func.min(log.sequence))).scalar_one()
    if lowest is not None and lowest < 1:
        raise ConfigurationError(f"The log {log.name!r} begins at sequence {lowest}; it has to begin at 1 or above")


def _is_partial(index: ReflectedIndex) -> bool:
    return any(option.endswith("_where") for option in index.get("dialect_options", {}))


_SEQUENCES: Final = text(
    """
    SELECT s.seqrelid::regclass::text AS name, s.seqcache AS cache, s.seqincrement AS increment
    FROM pg_sequence s JOIN pg_depend d ON d.objid = s.seqrelid AND d.classid = 'pg_class'::regclass
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = CAST(:log AS regclass) AND d.refobjsubid = (
        SELECT attnum FROM pg_attribute WHERE attrelid = CAST(:log AS regclass) AND attname = :sequence)
    UNION
    SELECT s.seqrelid::regclass::text, s.seqcache, s.seqincrement
    FROM pg_attrdef a
    JOIN pg_depend d ON d.objid = a.oid AND d.classid = 'pg_attrdef'::regclass
    JOIN pg_sequence s ON d.refclassid = 'pg_class'::regclass AND s.seqrelid = d.refobjid
    WHERE a.adrelid = CAST(:log AS regclass) AND a.adnum = (
        SELECT attnum FROM pg_attribute WHERE attrelid = CAST(:log AS regclass) AND attname = :sequence)
    """
)
_KIND: Final = text("SELECT relkind::text FROM pg_class WHERE oid = CAST(:log AS regclass)")


def _check_postgresql(connection: Connection, log: LogTable) -> None:
    quoted = _quoted(connection, log)
    if connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one():
        raise ConfigurationError(
            f"The log {log.name!r} is read on a standby, which does not know who is writing; give the primary's URL"
        )
    if connection.execute(_KIND, {"log": quoted}).scalar_one() not in ("r", "p"):
        raise ConfigurationError(f"The log {log.name!r} is no table: nobody can tell who is writing into it")
    if _can_hash(connection):
        log.share_in_postgresql()
    for found in connection.execute(_SEQUENCES, {"log": quoted, "sequence": log.sequence.name}):
        if found.cache > 1:
            raise ConfigurationError(
                f"The sequence {found.name} behind the log {log.name!r} has CACHE {found.cache}: its numbers are not "
                f"drawn in the order of time, and events would be missed. ALTER SEQUENCE {found.name} CACHE 1"
            )
        if found.increment < 1:
            raise ConfigurationError(f"The sequence {found.name} behind the log {log.name!r} counts down")


def _first_of_md5(key: Any) -> Any:
    """Return the first four bytes of a text's MD5 as a number, in PostgreSQL's words."""
    digest = func.md5(func.convert_to(key, literal_column("'UTF8'")))
    return cast(cast(_HEX.concat(func.substr(digest, 1, 8)), _BITS), BigInteger)


def _can_hash(connection: Connection) -> bool:
    """Return whether the server has MD5, which one in FIPS mode refuses; the log is read in autocommit."""
    try:
        connection.execute(select(func.md5("")))
    except DBAPIError:
        return False
    return True


def _quoted(connection: Connection, log: LogTable) -> str:
    return connection.dialect.identifier_preparer.format_table(log.table)


def page(
    connection: Connection, log: LogTable, after: int, limit: int, until: int | None, share: Share | None = None
) -> Sequence[LogRow]:
    """Read rows by their sequence, as they can be seen now; also those that are not in a share, perhaps empty."""
    asked: dict[str, object] = {"after": after, "most": limit}
    if until is not None:
        asked["until"] = until
    statement = log.page if until is None else log.page_until
    shared = log.shared if until is None else log.shared_until
    if share is not None and shared is not None:
        statement = shared
        asked |= {"of": share.of, "partitions": sorted(share.partitions)}
    return connection.execute(statement, asked).all()


def head(connection: Connection, log: LogTable) -> int:
    """Read the highest sequence, 0 for an empty log."""
    return int(connection.execute(select(func.max(log.sequence)).where(*log.only)).scalar_one() or 0)


def of_stream(
    connection: Connection, log: LogTable, stream_id: str, before: int | None, limit: int
) -> Sequence[LogRow]:
    """Read the newest events of a stream, as they can be seen now. What the column cannot hold is no stream's id."""
    if log.stream_id is None:
        return ()
    try:
        wanted = _of_type(log.stream_id, stream_id)
    except ValueError:
        return ()
    if str(wanted) != stream_id:  # the same number or UUID in other letters
        return ()
    exactly = _letter_by_letter(connection, log.stream_id, stream_id)
    statement = select(log.table).where(log.stream_id == wanted, *exactly, *log.only)
    if before is not None:
        statement = statement.where(log.sequence < before)
    try:
        return connection.execute(statement.order_by(log.sequence.desc()).limit(limit)).all()
    except (OverflowError, DataError):
        return ()


def types(connection: Connection, log: LogTable, names: Iterable[str], limit: int) -> SeenTypes:
    """Look which types the oldest and the newest events are of; for `names` that are not there, also in an index."""
    ends = [_types_from(connection, log, order, limit) for order in (log.sequence.asc(), log.sequence.desc())]
    found = frozenset(str(each) for end in ends for each in end)
    if log.finds_types:
        found |= {name for name in names if name not in found and _has_type(connection, log, name)}
    is_whole = len(ends[0]) < limit
    return SeenTypes(found=found, limit=limit, is_complete=is_whole or log.finds_types)


def _types_from(connection: Connection, log: LogTable, order: ColumnElement[Any], limit: int) -> Sequence[object]:
    statement = select(log.event_type).where(*log.only).order_by(order).limit(limit)
    return connection.execute(statement).scalars().all()


def _has_type(connection: Connection, log: LogTable, name: str) -> bool:
    try:
        wanted = _of_type(log.event_type, name)
        exactly = _letter_by_letter(connection, log.event_type, name)
        statement = select(log.sequence).where(log.event_type == wanted, *exactly, *log.only).limit(1)
        return connection.execute(statement).first() is not None
    except (ValueError, OverflowError, DataError):  # what the column cannot hold is no event's type
        return False


def one(connection: Connection, log: LogTable, event_id: str) -> LogRow | None:
    """Read an event by its id. What the column cannot hold is no event's id."""
    try:
        wanted = _of_type(log.event_id, event_id)
    except ValueError:
        return None
    try:
        exactly = _letter_by_letter(connection, log.event_id, event_id)
        found = connection.execute(select(log.table).where(log.event_id == wanted, *exactly, *log.only))
    except (OverflowError, DataError):
        return None
    return found.one_or_none()


def _letter_by_letter(connection: Connection, column: Column[Any], wanted: str) -> list[ColumnElement[bool]]:
    """MariaDB and MySQL take `a` for `A` in most tables: what the index finds is looked at once more."""
    if not is_mysql(connection.dialect) or not isinstance(column.type, String):
        return []
    its_bytes, bytes_wanted = (cast(cast(each, String), LargeBinary) for each in (column, wanted))  # in one charset
    return [its_bytes == bytes_wanted]


def _of_type(column: Column[Any], text: str) -> object:
    if isinstance(column.type, Uuid):
        return UUID(text)
    return int(text) if isinstance(column.type, Integer) else text


_writers = text(
    """
    SELECT l.virtualtransaction FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.relation IN (SELECT relid FROM pg_partition_tree(CAST(:log AS regclass))
                         UNION SELECT CAST(CAST(:log AS regclass) AS oid))
    """
)


def is_prepared(writer: str) -> bool:
    """Return whether this is a prepared transaction that outlived a restart of the server.

    It had another name before that, perhaps one that is waited for: whoever waits, waits for it too.
    """
    return writer.startswith("-1/")


def writers(connection: Connection, log: LogTable) -> frozenset[str]:
    """Name the transactions that may still fill a hole in this table. Where there is one writer at a time: none."""
    if not is_postgresql(connection.dialect):
        return frozenset()
    return frozenset(connection.execute(_writers, {"log": _quoted(connection, log)}).scalars())
