"""Where a live read model differs from a copy that was made of the log alone: rows missing, unexpected, different.

All of it is compared in the database; no more than a few keys leave it, as text, and never another value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Connection, inspect, text

from .._model import Json
from ..errors import ConfigurationError, InvalidArgument
from . import samples, shadows

__all__ = ["Comparing", "Drift", "check", "compare"]

_NO_KEY: Final = "no key is left to tell rows by: a row that differs is one missing and one unexpected"
_NOT_SEEN: Final = "rows that are too many are not seen: the table has no column that names their streams"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparing:
    """What to compare: all, or some `streams`; without the columns in `ignore`; naming so many rows of a kind.

    `stream_column` names, in the tables that have it, the stream that a row belongs to. In `ignore` stands a column's
    name, or a table's and a column's with a dot between.
    """

    streams: tuple[str, ...] | None = None
    stream_column: str | None = None
    ignore: tuple[str, ...] = ()
    max_differences: int = samples.MOST_ROWS

    def as_json(self) -> dict[str, Json]:
        """Return it as it is kept with the job."""
        return {
            "streams": None if self.streams is None else list(self.streams),
            "stream_column": self.stream_column,
            "ignore": list(self.ignore),
            "max_differences": self.max_differences,
        }

    @classmethod
    def of(cls, kept: Any) -> Comparing:
        """Read what was kept."""
        return cls(
            streams=None if kept["streams"] is None else tuple(kept["streams"]),
            stream_column=kept["stream_column"],
            ignore=tuple(kept["ignore"]),
            max_differences=kept["max_differences"],
        )

    def ignores(self, table: str, column: str) -> bool:
        """Return whether a column is not to be compared."""
        return column in self.ignore or f"{table}.{column}" in self.ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Where a table differs from its copy. `unexpected` is None where that cannot be seen, and `note` says why.

    `key` names the columns by which rows are told, and the values of which are told of the first rows that differ;
    `ignored` those that were not compared.
    """

    table: str
    rows_live: int | None
    rows_copy: int
    missing: int
    unexpected: int | None
    different: int
    key: tuple[str, ...]
    ignored: tuple[str, ...]
    first_missing: tuple[samples.Key, ...] = ()
    first_unexpected: tuple[samples.Key, ...] = ()
    first_different: tuple[samples.Changed, ...] = ()
    note: str | None = None

    def as_json(self) -> dict[str, Json]:
        """Return it as it is kept with the job."""
        return asdict(self)


def check(connection: Connection, tables: Sequence[str], how: Comparing) -> None:
    """Raise `InvalidArgument` for columns that there are not, `ConfigurationError` for a table."""
    there = set(inspect(connection).get_table_names())
    known: set[str] = set()
    for table in tables:
        if table not in there:
            raise ConfigurationError(f"There is no table {table!r} to verify; tables= names the read model's")
        columns = shadows.stored_columns(connection, table)
        known.update(columns, (f"{table}.{column}" for column in columns))
        if all(how.ignores(table, column) for column in columns):
            raise InvalidArgument(f"ignore= leaves no column of table {table!r} to compare")
    for name in how.ignore:
        if name not in known:
            raise InvalidArgument(f"ignore= names {name!r}, and no table of {', '.join(tables)} has such a column")
    if how.stream_column is not None and how.stream_column not in known:
        raise InvalidArgument(
            f"stream_column= names {how.stream_column!r}, and no table of {', '.join(tables)} has such a column"
        )


def compare(connection: Connection, into: str, table: str, how: Comparing) -> Drift:
    """Compare a live table with its copy. Nothing may write to either meanwhile."""
    copy = shadows.shadow(connection, into, table)
    if connection.dialect.name != "sqlite":
        connection.execute(text(f"ANALYZE {copy}"))  # it is new: the planner knows nothing of it
    ignored = _ignored(connection, table, how)
    columns = [name for name in shadows.stored_columns(connection, table) if name not in ignored]
    pair = _Pair(
        connection=connection,
        table=table,
        live=shadows.quoted(connection, table),
        copy=copy,
        columns=columns,
        how=how,
        key=_key(connection, table, ignored),
        ignored=ignored,
    )
    return pair.by_key() if pair.key else pair.by_rows()


def _ignored(connection: Connection, table: str, how: Comparing) -> tuple[str, ...]:
    """Return the columns not to compare; numbers that the database hands out are none, where anything else is left."""
    columns = shadows.stored_columns(connection, table)
    by_hand = [name for name in columns if how.ignores(table, name)]
    with_numbers = {*by_hand, *shadows.handed_out(connection, table)}
    return tuple(name for name in columns if name in (by_hand if with_numbers.issuperset(columns) else with_numbers))


def _key(connection: Connection, table: str, ignored: Sequence[str]) -> tuple[str, ...]:
    """Return the primary key, or another unique one that is never null, of which no column is ignored."""
    looked = inspect(connection)
    never_null = {column["name"] for column in looked.get_columns(table) if not column["nullable"]}
    unique: list[Sequence[str | None]] = [samples.key_of(connection, table)]
    unique += [each["column_names"] for each in looked.get_unique_constraints(table)]
    for index in looked.get_indexes(table, include_auto_indexes=True):  # SQLite's, of what is said to be unique
        options: Mapping[str, Any] = index.get("dialect_options", {})
        if index["unique"] and not any(name.endswith("_where") and options[name] is not None for name in options):
            unique.append(index["column_names"])
    for number, names in enumerate(unique):
        key = tuple(name for name in names if name is not None and name not in ignored)
        if key and len(key) == len(names) and (number == 0 or never_null.issuperset(key)):
            return key
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """A live table and its copy, both quoted, and what of them is compared."""

    connection: Connection
    table: str
    live: str
    copy: str
    columns: Sequence[str]
    how: Comparing
    key: tuple[str, ...]
    ignored: tuple[str, ...]

    def by_key(self) -> Drift:
        """Compare rows that have the same key."""
        connection, key, most = self.connection, self.key, self.how.max_differences
        same = samples.same(connection, key)
        others = [samples.differs(connection, column) for column in self.columns if column not in key]
        lacks = "SELECT count(*) FROM {0} f WHERE NOT EXISTS (SELECT 1 FROM {1} s WHERE " + same + ")"
        missing = self._count(lacks.format(self.copy, self.live))
        different = 0
        if others:
            joined = f"{self.live} f JOIN {self.copy} s ON {same}"
            different = self._count(f"SELECT count(*) FROM {joined} WHERE {' OR '.join(others)}")
        expected, unexpected = self._expected(), None
        if expected is not None:
            unexpected = self._count(lacks.format(expected, self.copy))
        first_unexpected: tuple[samples.Key, ...] = ()
        if expected is not None and unexpected:
            first_unexpected = samples.only_in(connection, expected, self.copy, key, most, self._parameters())
        compared = [column for column in self.columns if column not in key]
        return Drift(
            table=self.table,
            rows_live=None if expected is None else self._count(f"SELECT count(*) FROM {expected} f"),
            rows_copy=self._count(f"SELECT count(*) FROM {self.copy}"),
            missing=missing,
            unexpected=unexpected,
            different=different,
            key=key,
            ignored=self.ignored,
            first_missing=samples.only_in(connection, self.copy, self.live, key, most) if missing else (),
            first_unexpected=first_unexpected,
            first_different=samples.changed(connection, self.live, self.copy, key, compared, most) if different else (),
            note=None if expected is not None else _NOT_SEEN,
        )

    def by_rows(self) -> Drift:
        """Count equal rows on either side: there is no telling which of those that are left belong together."""
        expected = self._expected()
        missing = self._count(self._more(self.copy, self.live))
        unexpected = None if expected is None else self._count(self._more(expected, self.copy))
        return Drift(
            table=self.table,
            rows_live=None if expected is None else self._count(f"SELECT count(*) FROM {expected} f"),
            rows_copy=self._count(f"SELECT count(*) FROM {self.copy}"),
            missing=missing,
            unexpected=unexpected,
            different=0,
            key=(),
            ignored=self.ignored,
            note=_NO_KEY if expected is not None else f"{_NO_KEY}; {_NOT_SEEN}",
        )

    def _expected(self) -> str | None:
        """Return the rows that the copy should hold; None where it cannot be told which they are."""
        if self.how.streams is None:
            return self.live
        column = self.how.stream_column
        if column is None or column not in shadows.stored_columns(self.connection, self.table):
            return None
        if not self.how.streams:
            return f"(SELECT * FROM {self.live} WHERE 1 = 0)"
        named = ", ".join(f":stream_{number}" for number in range(len(self.how.streams)))
        return f"(SELECT * FROM {self.live} WHERE CAST({self._quoted(column)} AS text) IN ({named}))"

    def _parameters(self) -> dict[str, object]:
        return {f"stream_{number}": stream for number, stream in enumerate(self.how.streams or ())}

    def _quoted(self, name: str) -> str:
        return shadows.quoted(self.connection, name)

    def _more(self, first: str, second: str) -> str:
        """Count how often each row is in one more often than in the other, and add that up."""
        row = self._row()
        return (
            "SELECT coalesce(sum(n), 0) FROM (SELECT sum(d) AS n FROM ("
            f"SELECT {row}, 1 AS d FROM {first} f UNION ALL SELECT {row}, -1 AS d FROM {second} f"
            f") every GROUP BY {self._named()} HAVING sum(d) > 0) extra"
        )

    def _row(self) -> str:
        if self.connection.dialect.name == "sqlite":
            return ", ".join(f"{self._quoted(name)} AS c{number}" for number, name in enumerate(self.columns))
        return f"CAST(ROW({', '.join(f'f.{self._quoted(name)}' for name in self.columns)}) AS text) AS c"

    def _named(self) -> str:
        if self.connection.dialect.name == "sqlite":
            return ", ".join(f"c{number} COLLATE BINARY" for number in range(len(self.columns)))
        return "c"

    def _count(self, statement: str) -> int:
        parameters = self._parameters() if ":stream_0" in statement else {}
        return int(self.connection.execute(text(statement), parameters).scalar_one())
