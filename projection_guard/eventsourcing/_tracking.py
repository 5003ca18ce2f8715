"""What a view has tracked: one row for each stream of a projection, in the view's own tracking table.

A view of the library refuses a notification id that is not above the last one it tracked under a name. Under the
application's name that is the highest of all streams, and an event that failed and heals later would be refused for
ever. Under a name of its own each stream is refused only what it has already: events of one stream rise, for the guard
applies them in the log's order. So a call that is made again after its effect was committed is told from one that was
not, in whichever database the view is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Final, cast

from eventsourcing.persistence import Tracking, TrackingRecorder
from sqlalchemy import Connection, Engine, text

from ..errors import RegistrationError
from ._recorders import is_of

__all__ = ["Tracked"]

_LOOK_AGAIN_SECONDS: Final = 1.0
_SQLITE: Final = "eventsourcing.sqlite", "SQLiteTrackingRecorder"
_POSTGRESQL: Final = "eventsourcing.postgres", "PostgresTrackingRecorder"
_IN_MEMORY: Final = "eventsourcing.popo", "POPOTrackingRecorder"


class Tracked:
    """The tracking of one projection in its view."""

    def __init__(self, view: TrackingRecorder, application_name: str, projection: str, engine: Engine) -> None:
        self._view: Any = view
        self._application_name = application_name
        self._prefix = f"{application_name}/{projection}/"
        self._cleared = f"{application_name}/{projection}#cleared/"
        if is_of(view, *_SQLITE):
            self._check_sqlite(projection, engine)
        elif is_of(view, *_IN_MEMORY):
            _check_in_memory(projection, engine)
        elif not is_of(view, *_POSTGRESQL):
            raise RegistrationError(
                f"Projection {projection!r} has a view whose tracking is not that of eventsourcing's popo, sqlite or "
                f"postgres modules ({type(view).__qualname__}): whether it keeps streams apart is not known, and an "
                "event that heals late might be taken for done"
            )
        self._is_same_file = _is_same_file(view, engine)
        self._runner_was_at: int | None = None
        self._looked_at = 0.0

    def _check_sqlite(self, projection: str, engine: Engine) -> None:
        if self._view.datastore.pool.is_sqlite_memory_mode:
            _check_in_memory(projection, engine)

    def of(self, stream_id: str, notification_id: int) -> Tracking:
        """Return what the projection is given for an event."""
        return Tracking(f"{self._prefix}{stream_id}", notification_id)

    def has(self, tracking: Tracking) -> bool:
        """Return whether the view has this event's effect, or that of a later one of its stream."""
        return bool(self._view.has_tracking_id(tracking.application_name, tracking.notification_id))

    def was_done_by_runner(self, tracking: Tracking) -> bool:
        """Return whether a `ProjectionRunner` has applied an event to this view, before the guard took it over.

        Not in a stream that was cleared since: what the runner did there is gone. A runner that still runs would apply
        events beside the guard: it is looked for once a second.
        """
        before, number = self._runner_was_at, tracking.notification_id
        if before is None or number <= before or monotonic() - self._looked_at > _LOOK_AGAIN_SECONDS:
            self._looked_at = monotonic()
            self._runner_was_at = found = int(self._view.max_tracking_id(self._application_name) or 0)
            if before is not None and found > before:  # it is lower where another process has reset it
                raise RegistrationError(
                    f"A ProjectionRunner of {self._application_name!r} is writing into the view of this guarded "
                    "projection at the same time: stop it; events may have been applied twice meanwhile"
                )
        if number > (self._runner_was_at or 0):
            return False
        stream_id = tracking.application_name.removeprefix(self._prefix)
        return not self._view.has_tracking_id(f"{self._cleared}{stream_id}", number)

    def forget(self, connection: Connection, stream_id: str | None = None) -> None:
        """Forget what was tracked, of one stream or of all, and where a runner stood: the read model was cleared."""
        view = self._view
        if is_of(view, *_IN_MEMORY):
            self._forget_in_memory(cast("dict[str, int | None]", vars(view)["_max_tracking_ids"]), stream_id)
        elif self._is_same_file:
            for statement, values in self._statements("tracking", "", stream_id):
                connection.execute(text(statement), values)
        elif is_of(view, *_SQLITE):
            with view.datastore.transaction(commit=True) as cursor:
                for statement, values in self._statements("tracking", "", stream_id):
                    cursor.execute(statement, values)
        else:
            self._forget_on_postgresql(stream_id)
        self._runner_was_at = None

    def _forget_in_memory(self, tracked: dict[str, int | None], stream_id: str | None) -> None:
        if stream_id is not None:
            tracked.pop(f"{self._prefix}{stream_id}", None)
            tracked[f"{self._cleared}{stream_id}"] = tracked.get(self._application_name) or 0
            return
        for name in [name for name in tracked if name.startswith((self._prefix, self._cleared))]:
            tracked.pop(name)
        tracked.pop(self._application_name, None)

    def _forget_on_postgresql(self, stream_id: str | None) -> None:
        from psycopg.sql import SQL, Identifier  # of the view's own driver

        view = self._view
        table = SQL("{}.{}").format(Identifier(view.datastore.schema), Identifier(view.tracking_table_name)).as_string()
        with view.datastore.transaction(commit=True) as cursor:
            for statement, values in self._statements(table, "%", stream_id):
                cursor.execute(statement, values)

    def _statements(self, table: str, style: str, stream_id: str | None) -> Sequence[tuple[str, dict[str, str]]]:
        """Return what deletes rows; for one stream also what notes up to where a runner's work in it is gone."""
        name, other = ("%(name)s", "%(other)s") if style == "%" else (":name", ":other")
        named = f"DELETE FROM {table} WHERE application_name = {name}"
        if stream_id is None:
            begins = f"DELETE FROM {table} WHERE substr(application_name, 1, length({name})) = {name}"
            return [
                (begins, {"name": self._prefix}),
                (begins, {"name": self._cleared}),
                (named, {"name": self._application_name}),
            ]
        stream, cleared = f"{self._prefix}{stream_id}", f"{self._cleared}{stream_id}"
        note = (
            f"INSERT INTO {table} (application_name, notification_id) "
            f"SELECT {name}, max(notification_id) FROM {table} WHERE application_name = {other} HAVING count(*) > 0"
        )
        values = {"name": cleared, "other": self._application_name}
        return [(named, {"name": stream}), (named, {"name": cleared}), (note, values)]


def _check_in_memory(projection: str, engine: Engine) -> None:
    """Refuse a view that is gone with its process where what the guard knows of it is not."""
    url = engine.url
    is_in_memory = url.get_backend_name() == "sqlite" and (
        url.database in (None, "", ":memory:") or "mode=memory" in str(url.query) or ":memory:" in str(url.database)
    )
    if not is_in_memory:
        raise RegistrationError(
            f"Projection {projection!r} has its view in memory, and the guard its checkpoint in a database: after a "
            "restart the view would be empty and nothing would fill it. Give it a SQLite or PostgreSQL view, or the "
            "guard the database sqlite://"
        )


def _is_same_file(view: Any, engine: Engine) -> bool:
    """Return whether view and guard are one SQLite file, in which a second writer would wait for the first."""
    if not is_of(view, *_SQLITE) or engine.dialect.name != "sqlite" or not engine.url.database:
        return False
    name = str(view.datastore.pool.db_name)
    path = name.removeprefix("file:").partition("?")[0]
    return Path(path).resolve() == Path(engine.url.database.removeprefix("file:").partition("?")[0]).resolve()
