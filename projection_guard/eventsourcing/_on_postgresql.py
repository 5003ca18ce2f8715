"""The log of a PostgreSQL recorder: who may still fill a hole in it, where an event stands, what is in a stream.

The recorder locks its table in EXCLUSIVE mode before its numbers are drawn, so that whoever draws higher ones comes
after its commit, and a hole before something that is seen is final: what was drawn there was rolled back. That lock is
not relied on: with `POSTGRES_ENABLE_DB_FUNCTIONS` the recorder of 9.5 does not take it, and whoever writes past the
recorder need not. Who inserts holds a RowExclusiveLock from before a number is drawn until its row can be seen: those
who held it when something behind the hole was seen are waited for, as `SqlEventSource` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from eventsourcing.persistence import Notification
from psycopg.sql import SQL, Composed, Identifier

from .._store.log import is_prepared
from ..errors import ConfigurationError

__all__ = ["HolesOnPostgresql", "OnPostgresql"]

_WRITERS: Final = SQL(
    """
    SELECT virtualtransaction AS writer FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND relation = CAST(%s AS regclass)
    """
)
_CHECK: Final = SQL(
    """
    SELECT pg_is_in_recovery() AS is_standby, seqcache AS cache, seqincrement AS increment, seqcycle AS cycles
    FROM (SELECT 1) AS one
    LEFT JOIN pg_sequence ON seqrelid = CAST(pg_get_serial_sequence(%s, %s) AS regclass)
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hold:
    """Who was writing when `seen` could be seen already: one of them may fill a hole up to there."""

    seen: int
    writers: frozenset[str]

    def is_over(self, writers: frozenset[str]) -> bool:
        return not any(writer in self.writers or is_prepared(writer) for writer in writers)


class HolesOnPostgresql:
    """Judges holes over the recorder's own connections. `position`: the column whose numbers are drawn."""

    def __init__(self, recorder: Any, *, position: str) -> None:
        self._datastore = recorder.datastore
        self._table = SQL("{}.{}").format(Identifier(self._datastore.schema), Identifier(recorder.events_table_name))
        self._quoted = self._table.as_string()
        self._position = position
        self._is_checked = False
        self._final = 0
        self._holds: tuple[_Hold, ...] = ()  # replaced, never changed: other threads look at it, too

    def final_up_to(self, hole: tuple[int, int], seen: int) -> int:
        """Judge a hole by who is writing, and remember who was: those who come later are not waited for."""
        last = hole[1]
        if last <= self._final:
            return self._final
        self._check()
        holds = self._holds  # before the look: one made meanwhile by another thread may wait for who came after it
        writers = frozenset(str(row["writer"]) for row in self._rows(_WRITERS, [self._quoted]))
        if not any(hold.seen >= last for hold in holds):
            holds = (*holds, _Hold(seen=seen, writers=writers))
        self._final = max([self._final, *(hold.seen for hold in holds if hold.is_over(writers))])
        self._holds = tuple(hold for hold in holds if hold.seen > self._final)
        return self._final

    def _check(self) -> None:
        """Raise `ConfigurationError` where a hole cannot be judged: it is asked at the first one."""
        if self._is_checked:
            return
        found = self._rows(_CHECK, [self._quoted, self._position])[0]
        if found["is_standby"]:
            raise ConfigurationError(
                f"The events in {self._quoted} are read on a standby, which does not know who is writing; give the "
                "application that is followed the primary's address"
            )
        if (found["cache"] or 1) > 1 or (found["increment"] or 1) < 1 or found["cycles"]:
            raise ConfigurationError(
                f"The sequence of {self._position} of {self._quoted} has a CACHE above 1, counts down or begins anew: "
                "its numbers are not drawn in the order of time, and events would be missed; ALTER SEQUENCE ... CACHE 1"
            )
        self._is_checked = True

    def _rows(self, statement: Any, values: Sequence[object]) -> list[Any]:
        with self._datastore.get_connection() as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())


class OnPostgresql(HolesOnPostgresql):
    """What else is asked of a recorder of aggregates' events."""

    def __init__(self, recorder: Any) -> None:
        super().__init__(recorder, position="notification_id")

    def position_of(self, originator_id: UUID | str, version: int) -> int | None:
        statement = self._select("notification_id", "WHERE originator_id = %s AND originator_version = %s")
        rows = self._rows(statement, [originator_id, version])
        return int(rows[0]["notification_id"]) if rows else None

    def of_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Notification]:
        """Read a stream by the primary key, which begins with the originator's id."""
        originator_id: UUID | str = stream_id
        if self._datastore.originator_id_type == "uuid":
            try:
                originator_id = UUID(stream_id)
            except ValueError:
                return ()
            if str(originator_id) != stream_id:
                return ()
        if "\0" in stream_id:
            return ()
        values: list[object] = [originator_id]
        if before is not None:
            values.append(before)
        where = "WHERE originator_id = %s" + ("" if before is None else " AND notification_id < %s")
        rows = self._rows(self._select("*", f"{where} ORDER BY originator_version DESC LIMIT %s"), [*values, limit])
        return [
            Notification(
                id=row["notification_id"],
                originator_id=row["originator_id"],
                originator_version=row["originator_version"],
                topic=row["topic"],
                state=bytes(row["state"]),
            )
            for row in rows
        ]

    def _select(self, what: Any, where: Any) -> Composed:
        return SQL("SELECT {} FROM {} {}").format(SQL(what), self._table, SQL(where))
