"""What is asked of a recorder beside its notifications: is a hole final, where stands an event, what is in a stream.

One class for each of the library's own persistence modules; others are refused, for nothing is known of their holes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from eventsourcing.persistence import ApplicationRecorder, Notification

from ..errors import ConfigurationError
from ._pages import Holes

__all__ = ["Log", "is_of", "log_of"]

_PAGE: Final = 1000


class Log(Holes, Protocol):
    """A recorder's log, past its notifications."""

    def position_of(self, originator_id: UUID | str, version: int) -> int | None:
        """Return where an event stands in the log; None where there is none."""
        ...

    def of_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Notification]:
        """Return the newest events of one stream, in any order."""
        ...


def is_of(recorder: object, module: str, name: str) -> bool:
    """Return whether this is an instance of a class of the library, without importing its module (and its driver)."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(recorder, kind)


def log_of(recorder: ApplicationRecorder) -> Log:
    """Return what knows about a recorder's log. Raises `ConfigurationError` for one that cannot be read safely."""
    if is_of(recorder, "eventsourcing.popo", "POPOApplicationRecorder"):
        return _InMemory(recorder)
    if is_of(recorder, "eventsourcing.sqlite", "SQLiteApplicationRecorder"):
        return _OnSqlite(recorder)
    if is_of(recorder, "eventsourcing.postgres", "PostgresApplicationRecorder"):
        from ._on_postgresql import OnPostgresql  # needs psycopg, which this recorder has

        return OnPostgresql(recorder)
    raise ConfigurationError(
        f"{type(recorder).__qualname__} is no recorder of eventsourcing's popo, sqlite or postgres modules: whether "
        "holes in its notification log are final is not known. Write an EventSource that knows it (docs/sources.md)"
    )


class _InMemory:
    """A list: there are no holes. It is walked through, for it has no index that is its public part."""

    def __init__(self, recorder: ApplicationRecorder) -> None:
        self._recorder = recorder

    def final_up_to(self, hole: tuple[int, int], seen: int) -> int:
        del hole
        return seen

    def position_of(self, originator_id: UUID | str, version: int) -> int | None:
        wanted = str(originator_id), version
        found = (each.id for each in self._all() if (str(each.originator_id), each.originator_version) == wanted)
        return next(found, None)

    def of_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Notification]:
        return [each for each in self._all(before) if str(each.originator_id) == stream_id][-limit:]

    def _all(self, before: int | None = None) -> Sequence[Notification]:
        last = (self._recorder.max_notification_id() or 0) if before is None else before - 1
        found: Sequence[Notification] = self._recorder.select_notifications(start=1, limit=max(last, 1), stop=last)
        return found


class _OnSqlite:
    """The row's number is the position. There is one writer at a time, who draws it inside his transaction."""

    def __init__(self, recorder: Any) -> None:
        self._datastore = recorder.datastore
        self._table = '"' + str(recorder.events_table_name).replace('"', '""') + '"'
        self._convert = recorder.convert_originator_id

    def final_up_to(self, hole: tuple[int, int], seen: int) -> int:
        del hole
        return seen

    def position_of(self, originator_id: UUID | str, version: int) -> int | None:
        statement = f"SELECT rowid FROM {self._table} WHERE originator_id = ? AND originator_version = ?"
        rows = self._rows(statement, [_stored(originator_id), version])
        return int(rows[0]["rowid"]) if rows else None

    def of_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Notification]:
        statement = f"SELECT rowid, * FROM {self._table} WHERE originator_id IN (?, ?)"
        only_uuids = self._datastore.originator_id_type == "uuid"
        wanted: list[object] = [*_may_be_stored_as(stream_id, only_uuids=only_uuids)]
        if before is not None:
            statement += " AND rowid < ?"
            wanted.append(before)
        rows = self._rows(f"{statement} ORDER BY originator_version DESC LIMIT ?", [*wanted, limit])
        return [
            Notification(
                id=row["rowid"],
                originator_id=self._convert(row["originator_id"]),
                originator_version=row["originator_version"],
                topic=row["topic"],
                state=row["state"],
            )
            for row in rows
        ]

    def _rows(self, statement: str, values: Sequence[object]) -> list[Any]:
        with self._datastore.transaction(commit=False) as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())


def _stored(originator_id: UUID | str) -> str:
    return originator_id.hex if isinstance(originator_id, UUID) else originator_id


def _may_be_stored_as(stream_id: str, *, only_uuids: bool) -> tuple[str | None, str | None]:
    """Return how SQLite holds an originator's id: a UUID without its hyphens, also where the column takes any text."""
    try:
        found = UUID(stream_id)
    except ValueError:
        found = None
    as_uuid = found.hex if found is not None and str(found) == stream_id else None
    return (None if only_uuids else stream_id), as_uuid
