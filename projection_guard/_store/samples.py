"""A few of the rows in which a table and its shadow differ, told by their primary keys.

The sample stays on record with the job, so it holds nothing else of the application's data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, inspect, text

__all__ = ["MOST_ROWS", "Changed", "Sample", "changed", "differs", "key_of", "only_in", "same", "take"]

MOST_ROWS: Final = 10
_LONGEST_VALUE: Final = 200

Key = tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A row that both have, and the columns in which they differ."""

    key: Key
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The first rows, in the order of the primary key, that only one has, and that both have and that differ.

    `key` names the columns of the primary key, whose values are told as text. `none_because`: why nothing can be told.
    """

    key: tuple[str, ...]
    only_before: tuple[Key, ...] = ()
    only_after: tuple[Key, ...] = ()
    changed: tuple[Changed, ...] = ()
    none_because: str | None = None


def take(connection: Connection, table: str, before: str, after: str, columns: Sequence[str]) -> Sample:
    """Return at most ten rows of each kind. `before` and `after` are quoted; `columns` are those to compare."""
    key = key_of(connection, table)
    if not key:
        return Sample(key=(), none_because="the table has no primary key")
    return Sample(
        key=key,
        only_before=only_in(connection, before, after, key, MOST_ROWS),
        only_after=only_in(connection, after, before, key, MOST_ROWS),
        changed=changed(connection, before, after, key, columns, MOST_ROWS),
    )


def key_of(connection: Connection, table: str) -> tuple[str, ...]:
    """Return the columns of the primary key; none where there is none."""
    return tuple(inspect(connection).get_pk_constraint(table)["constrained_columns"])


def only_in(
    connection: Connection,
    first: str,
    second: str,
    key: Sequence[str],
    most: int,
    parameters: Mapping[str, object] | None = None,
) -> tuple[Key, ...]:
    """Return the keys of the first rows that only one of two tables has; `first` and `second` are quoted."""
    found = connection.execute(
        text(
            f"SELECT {_list(connection, key)} FROM {first} f "
            f"WHERE NOT EXISTS (SELECT 1 FROM {second} s WHERE {same(connection, key)}) "
            f"ORDER BY {_list(connection, key)} LIMIT {most}"
        ),
        parameters or {},
    )
    return tuple(_told(row) for row in found)


def changed(
    connection: Connection, before: str, after: str, key: Sequence[str], columns: Sequence[str], most: int
) -> tuple[Changed, ...]:
    """Return the keys of the first rows that both have, and the columns in which they differ."""
    others = [differs(connection, column) for column in columns]
    found = connection.execute(
        text(
            f"SELECT {_list(connection, key)}, {', '.join(others)} FROM {before} f "
            f"JOIN {after} s ON {same(connection, key)} WHERE {' OR '.join(others)} "
            f"ORDER BY {_list(connection, key)} LIMIT {most}"
        )
    )
    return tuple(
        Changed(
            key=_told(row[: len(key)]),
            columns=tuple(column for column, is_other in zip(columns, row[len(key) :], strict=True) if is_other),
        )
        for row in found
    )


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)


def _list(connection: Connection, key: Sequence[str]) -> str:
    return ", ".join(f"f.{_quoted(connection, column)}" for column in key)


def same(connection: Connection, key: Sequence[str]) -> str:
    """Say that two rows have the same key; on SQLite a part of it may be NULL."""
    equals = "IS" if connection.dialect.name == "sqlite" else "="
    return " AND ".join(f"s.{name} {equals} f.{name}" for name in (_quoted(connection, column) for column in key))


def differs(connection: Connection, column: str) -> str:
    """Say that two rows differ in a column, as strictly as the digests do: as text, whatever its collation."""
    name = _quoted(connection, column)
    if connection.dialect.name == "sqlite":
        return f"(f.{name} COLLATE BINARY IS NOT s.{name})"
    return f"(CAST(f.{name} AS text) IS DISTINCT FROM CAST(s.{name} AS text))"


def _told(values: Sequence[object]) -> Key:
    return tuple(None if value is None else _as_text(value)[:_LONGEST_VALUE] for value in values)


def _as_text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
