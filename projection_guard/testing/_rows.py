"""Rows of a read model, read and compared: by their key, with the values, since they are the test's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, MetaData, Select, Table, select

__all__ = ["Rows", "differences", "read_rows", "table_named", "without"]

Rows = list[dict[str, Any]]
_MOST_SHOWN = 20


def table_named(connection: Connection, named: str | Table) -> Table:
    """Return a table; one that is named is looked up: "accounts", or "sales.accounts"."""
    if isinstance(named, Table):
        return named
    schema, _, name = named.rpartition(".")
    return Table(name, MetaData(), schema=schema or None, autoload_with=connection)


def read_rows(connection: Connection, what: Table | Select[Any]) -> Rows:
    """Return the rows of a table or of a query."""
    statement = select(what) if isinstance(what, Table) else what
    return [dict(row) for row in connection.execute(statement).mappings()]


def differences(
    wanted: Iterable[Mapping[str, Any]], found: Iterable[Mapping[str, Any]], *, key: Sequence[str] = ()
) -> list[str]:
    """Return how rows differ, one line each, whatever order they are in; compared by `key`, else as wholes."""
    before, after = list(wanted), list(found)
    is_unique = all(len({_at(row, key) for row in rows}) == len(rows) for rows in (before, after))
    lines = _by_key(before, after, key) if key and is_unique else _as_wholes(before, after)
    more = len(lines) - _MOST_SHOWN
    return [*lines[:_MOST_SHOWN], f"... and {more} more"] if more > 0 else lines


def without(rows: Rows, columns: Collection[str]) -> Rows:
    """Return rows without these columns."""
    return [{name: value for name, value in row.items() if name not in columns} for row in rows]


def _at(row: Mapping[str, Any], key: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in key)


def _by_key(wanted: list[Mapping[str, Any]], found: list[Mapping[str, Any]], key: Sequence[str]) -> list[str]:
    before = {_at(row, key): row for row in wanted}
    after = {_at(row, key): row for row in found}
    lines = list[str]()
    for at in sorted(before.keys() | after.keys(), key=repr):
        named = ", ".join(f"{name}={value!r}" for name, value in zip(key, at, strict=True))
        if at not in after:
            lines.append(f"{named}: missing, wanted {_shown(before[at])}")
        elif at not in before:
            lines.append(f"{named}: too much, {_shown(after[at])}")
        elif before[at] != after[at]:
            lines.append(f"{named}: {_told(before[at], after[at])}")
    return lines


def _told(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Say in which columns two rows differ; one may have columns that the other one has not."""
    told = list[str]()
    for name in {**wanted, **found}:
        if name not in found:
            told.append(f"there is no column {name}")
        elif name not in wanted:
            told.append(f"{name} is {found[name]!r}, and this row does not say what is wanted")
        elif found[name] != wanted[name]:
            told.append(f"{name} is {found[name]!r}, wanted {wanted[name]!r}")
    return ", ".join(told)


def _as_wholes(wanted: Iterable[Mapping[str, Any]], found: Iterable[Mapping[str, Any]]) -> list[str]:
    before, after = (Counter(map(_shown, rows)) for rows in (wanted, found))
    missing = [f"missing: {row}" for row in (before - after).elements()]
    return [*missing, *(f"too much: {row}" for row in (after - before).elements())]


def _shown(row: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {row[name]!r}" for name in sorted(row)) + "}"
