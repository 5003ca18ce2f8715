"""Errors of the store at a chosen statement of the guard, on both databases, by what the driver itself raises.

PostgreSQL: the proxy turns the statement into a syntax error. SQLite: SQLAlchemy's events do, on the engine that the
guard is given; a COMMIT fails before or after it was done, as a disk does.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.ext.asyncio import create_async_engine

from tests.bed import Bed, async_url
from tests.faults.proxy import Proxy

__all__ = ["ProxySpoiler", "Spoiler", "SqliteSpoiler"]


class SqliteSpoiler:
    """Breaks the `at`-th statement or COMMIT of the guard; `after` lets a COMMIT be done and then says it was not."""

    def __init__(self, bed: Bed) -> None:
        spoiler = self

        class Spoiled(sqlite3.Connection):
            """What the guard hands to the driver itself passes by here, all else by SQLAlchemy's event."""

            def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
                if spoiler._hits():
                    return super().execute("injected fault")
                return super().execute(statement, *parameters)

        options: Any = {"connect_args": {"factory": Spoiled}}
        if bed.is_async:
            asynchronous = create_async_engine(async_url(bed.url), **options)
            self.engine: Any = asynchronous
            sync: Engine = asynchronous.sync_engine
        else:
            self.engine = sync = create_engine(bed.url, **options)
        self._at = 0
        self._seen = 0
        self._after = False
        event.listen(sync, "before_cursor_execute", self._statement, retval=True)
        commit = sync.dialect.do_commit

        def do_commit(connection: Any) -> None:
            is_hit = self._hits()
            if is_hit and not self._after:
                raise sqlite3.OperationalError("injected: disk I/O error")
            commit(connection)
            if is_hit:
                raise sqlite3.OperationalError("injected: disk I/O error")

        sync.dialect.do_commit = do_commit  # type: ignore[method-assign,assignment]

    def spoil(self, *, at: int, after: bool = False) -> None:
        """Break the `at`-th."""
        self._at, self._seen, self._after = at, 0, after

    def disarm(self) -> bool:
        """Break nothing any more; return whether what was asked for has happened."""
        at, self._at = self._at, 0
        return self._seen >= at

    def _hits(self) -> bool:
        if not self._at:
            return False
        self._seen += 1
        return self._seen == self._at

    def _statement(
        self, connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        if re.search(r"\b(effects|counted)\b", statement) or not self._hits():
            return statement, parameters
        return "injected fault", ()

    def close(self) -> None:
        """Nothing to end: the engine is the bed's."""


class ProxySpoiler:
    """The same through the proxy."""

    def __init__(self, bed: Bed) -> None:
        self._proxy = Proxy(bed.url)
        self._proxy.__enter__()
        self.engine: Any = self._proxy.url

    def spoil(self, *, at: int, after: bool = False) -> None:
        """Break the `at`-th."""
        assert not after, "test_cuts swallows replies"
        self._proxy.spoil(at=at)

    def disarm(self) -> bool:
        """Break nothing any more; return whether what was asked for has happened."""
        return self._proxy.disarm()

    def close(self) -> None:
        """Stop the proxy."""
        self._proxy.__exit__(None, None, None)


Spoiler = SqliteSpoiler | ProxySpoiler
