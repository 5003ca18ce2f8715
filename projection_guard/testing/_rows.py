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
    lines = _by_key(list(wanted), list(found), key) if key else _as_wholes(wanted, found)
    more = len(lines) - _MOST_SHOWN
    return [*lines[:_MOST_SHOWN], f"... and {more} more"] if more > 0 else lines


def without(rows: Rows, columns: Collection[str]) -> Rows:
    """Return rows without these columns."""
    return [{name: value for name, value in row.items() if name not in columns} for row in rows]


def _by_key(wanted: list[Mapping[str, Any]], found: list[Mapping[str, Any]], key: Sequence[str]) -> list[str]:
    before = {tuple(row[name] for name in key): row for row in wanted}
    after = {tuple(row[name] for name in key): row for row in found}
    lines = list[str]()
    for at in sorted(before.keys() | after.keys(), key=repr):
        named = ", ".join(f"{name}={value!r}" for name, value in zip(key, at, strict=True))
        if at not in after:
            lines.append(f"{named}: missing, wanted {_shown(before[at])}")
        elif at not in before:
            lines.append(f"{named}: too much, {_shown(after[at])}")
        elif before[at] != after[at]:
            columns = [name for name in before[at] if before[at][name] != after[at].get(name)]
            told = ", ".join(f"{name} is {after[at].get(name)!r}, wanted {before[at][name]!r}" for name in columns)
            lines.append(f"{named}: {told}")
    return lines


def _as_wholes(wanted: Iterable[Mapping[str, Any]], found: Iterable[Mapping[str, Any]]) -> list[str]:
    before, after = (Counter(map(_shown, rows)) for rows in (wanted, found))
    missing = [f"missing: {row}" for row in (before - after).elements()]
    return [*missing, *(f"too much: {row}" for row in (after - before).elements())]


def _shown(row: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {row[name]!r}" for name in sorted(row)) + "}"
