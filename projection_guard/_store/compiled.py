"""Statements of the hot paths: written out as text, compiled once for a database and schema, handed to the driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, TextClause, text
from sqlalchemy.dialects.postgresql.base import PGDialect

from .._dialect import Bound, Condition, is_mysql, is_postgresql, is_sqlite

__all__ = ["Compiled", "words"]

_spelling: Callable[..., Dialect] = PGDialect
"""Writes parameters in any style, also as libpq does ($1): psycopg's own formatting is not used on the hot path."""


def words(dialect: Dialect, schema: str | None) -> dict[str, str]:
    """Return what such a statement is spelt with: `p` before a table's name, `now`, `lease_end` (`:lease_seconds`)."""
    if is_mysql(dialect):
        return {
            "p": "",
            "now": "UTC_TIMESTAMP(6)",
            "lease_end": "(UTC_TIMESTAMP(6) + INTERVAL CAST(:lease_seconds * 1000000 AS SIGNED) MICROSECOND)",
            "cursor": "`cursor`",
            "partition": "`partition`",
        }
    if is_sqlite(dialect):
        form = "'%Y-%m-%d %H\\:%M\\:%f000'"
        return {
            "p": "",
            "now": f"strftime({form}, 'now')",
            "lease_end": f"strftime({form}, 'now', printf('%+.3f seconds', :lease_seconds))",
            "cursor": "cursor",
            "partition": "partition",
        }
    return {
        "p": f'"{schema}".' if schema else "",
        "now": "clock_timestamp()",
        "lease_end": "clock_timestamp() + make_interval(secs => :lease_seconds)",
        "cursor": "cursor",
        "partition": "partition",
    }


@lru_cache(maxsize=512)
def _written(sql: str, paramstyle: str) -> tuple[str, tuple[str, ...] | None]:
    """Return a statement as the driver takes it, and the order of its parameters; guards of one process share it."""
    compiled = text(sql).compile(dialect=_spelling(paramstyle=paramstyle))
    order = compiled.positiontup
    return str(compiled), None if order is None else tuple(order)


class Compiled:
    """A statement in the driver's own words; `text` is the same for SQLAlchemy."""

    __slots__ = ("_condition", "_order", "_sql", "text")

    def __init__(self, sql: str, dialect: Dialect, condition: Condition | None = None) -> None:
        self._condition = condition
        self.text: TextClause = text(sql.strip())
        paramstyle = "numeric_dollar" if is_postgresql(dialect) else dialect.paramstyle
        self._sql, self._order = _written(self.text.text, paramstyle)

    def bind(self, parameters: Mapping[str, object]) -> Bound:
        """Give it its values."""
        if self._order is None:
            return Bound(self._sql, parameters, self._condition)
        return Bound(self._sql, tuple(parameters[name] for name in self._order), self._condition)

    def run(self, connection: Connection, parameters: Mapping[str, object]) -> Sequence[Any] | None:
        """Run it on a connection of SQLAlchemy's; return its rows, None where they are not told."""
        result = connection.execute(self.text, parameters)
        rows: Sequence[Any] = result.all() if result.returns_rows else []
        return rows if self._condition is None or self._condition.is_told else None
