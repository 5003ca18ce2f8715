"""One adoption: `look` tells what would be done and changes nothing; `adopt` does it in one transaction, or nothing.

Their tables are locked meanwhile, set aside by renaming, and never written. What the log says of their events is asked
before the transaction, and again where more have failed by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from ..._dialect import is_mysql
from ..._mapping import EventMapping
from ..._model import EventRecord, Json
from ..._store import tracker, tracker_views
from ..._store.tracker import Grant, Theirs
from ..._tables import metadata
from ...errors import CodecError, EventError, SchemaError
from ...migrations._found import look as look_at_schema
from ...migrations._place import enter, refusals_explained
from ...migrations._revisions import revisions, upgrade
from ..context import Context, decoded
from ..projection import Projection
from .moving import Gathered, gather, move
from .opened import Known, MoreToLookUp
from .rows import NAMES, NEEDED, Reader, columns_of
from .told import Adoption, told

__all__ = ["Adopting", "Desk"]

T = TypeVar("T")
_MOST_LOOKS: Final = 5
_LONGEST_LOCK_SECONDS: Final = 15


class Desk(Protocol):
    """What an adoption needs of a guard's service."""

    context: Context
    mapping: EventMapping
    projections: dict[str, Projection]

    async def on_schema(self, work: Callable[[Connection], T]) -> T:
        """Run work on the schema itself."""
        ...


@dataclass(slots=True, kw_only=True)
class Adopting:
    """One adoption. `zone`: where times without one are from; `views`: a schema for views of the old shape."""

    desk: Desk
    actor: str
    zone: ZoneInfo
    from_schema: str | None
    views: str | None
    is_bare: bool
    _events: dict[str, EventRecord | None] = field(default_factory=dict[str, EventRecord | None])

    async def is_wanted(self) -> bool:
        """Return whether there is a tracker to adopt."""
        return await self.desk.on_schema(lambda connection: bool(self._theirs(connection)))

    async def set_aside_before(self) -> tuple[str, ...]:
        """Name the tables that an earlier adoption has set aside."""
        return await self.desk.on_schema(lambda connection: tracker.set_aside_before(connection, self._at(connection)))

    async def look(self) -> Adoption:
        """Tell what would be done. Raises `SchemaError` where the tables cannot be adopted."""
        return await self._with_events(self._look)

    async def adopt(self) -> Adoption:
        """Do it, or nothing. Raises `SchemaError`."""
        return await self._with_events(self._adopt)

    # -- what the log says

    async def _with_events(self, work: Callable[[Connection], Adoption]) -> Adoption:
        for _ in range(_MOST_LOOKS):
            for event_id in await self.desk.on_schema(self._unknown_events):
                self._events[event_id] = await self._look_up(event_id)
            with suppress(MoreToLookUp):
                return await self.desk.on_schema(work)
        raise SchemaError("The tracker goes on failing while it is adopted; stop the application that writes it first")

    async def _look_up(self, event_id: str) -> EventRecord | None:
        log = self.desk.context.log
        return None if log is None else await log.said_of(event_id)

    def _unknown_events(self, connection: Connection) -> list[str]:
        """Name the events that only a log can tell about: those of followed projections."""
        theirs, reader, named = self._theirs(connection), Reader(zone=self.zone), set[str | None]()
        for name, column in (("projection_failures", "event_id"), ("projection_checkpoints", "last_event_id")):
            if name not in theirs:
                continue
            columns = _columns(theirs[name])
            for row in tracker.rows(connection, theirs[name], columns, is_aside=False, only_open=True):
                projection = self.desk.projections.get(str(row.get("projection_name")))
                if projection is not None and projection.is_followed:
                    named.add(reader.identity(row.get(column)))
        return sorted(each for each in named if each is not None and each not in self._events)

    def _known(self) -> Known:
        return Known(
            projections=self.desk.projections, is_bare=self.is_bare, events=self._events, reads=self._what_it_says
        )

    def _what_it_says(self, projection: Projection, record: EventRecord, payload: Json) -> EventRecord | None:
        """Return what the event of a payload says of itself, if it is the one, and the projection takes it."""
        try:
            event = decoded(self.desk.context, projection.lone_ticket(record), payload)
            said = self.desk.mapping.read(event)
            is_it = said.event_id == record.event_id and projection.takes(event, said.event_type)
        except (CodecError, EventError):
            return None
        except Exception:  # a predicate of the application's
            return None
        return said if is_it else None

    # -- where their tables are

    def _at(self, connection: Connection) -> str | None:
        return self.from_schema or tracker.place_of(connection, self.desk.context.schema)

    def _theirs(self, connection: Connection) -> dict[str, Theirs]:
        """Return the tracker's tables; none where what is there is the guard's, or a part of it.

        Raises `SchemaError` on MariaDB and MySQL.
        """
        if is_mysql(connection.dialect):
            raise SchemaError(
                "Tables on MariaDB or MySQL cannot be adopted: they cannot be renamed, made and filled in one "
                "transaction. Rename a tracker's, let guard.migrate() make the guard's, and copy the rows"
            )
        at = self._at(connection)
        if at == tracker.place_of(connection, self.desk.context.schema):
            seen = look_at_schema(connection, self.desk.context.schema)
            if seen.own | seen.hosts or seen.tables.keys() - set(NAMES):
                return {}
        found = tracker.found(connection, at)
        failures = found.get("projection_failures")
        is_ours = failures is not None and failures.types.keys() >= set(metadata.tables["projection_failures"].c.keys())
        return {} if is_ours else found

    # -- looking and doing

    def _look(self, connection: Connection) -> Adoption:
        with refusals_explained("The tracker could not be looked at"):
            theirs = self._theirs(connection)
            if self._unknown_events(connection):
                raise MoreToLookUp
            gathered = self._gathered(connection, theirs, is_aside=False)
            for _ in gathered.failures:
                pass
            return self._told(theirs, gathered, in_the_way=tracker.in_the_way(connection, list(theirs.values())))

    def _adopt(self, connection: Connection) -> Adoption:
        schema = self.desk.context.schema
        with refusals_explained("The tracker could not be adopted; nothing was changed"):
            enter(connection, schema)
            theirs = self._theirs(connection)
            tables = list(theirs.values())
            if not tables:
                raise SchemaError("There is no tracker to adopt any more: somebody has just done it")
            tracker.lock(connection, tables, seconds=_LONGEST_LOCK_SECONDS)
            if self._unknown_events(connection):
                raise MoreToLookUp
            in_the_way = tracker.in_the_way(connection, tables)
            if in_the_way:
                raise SchemaError(f"In the way of adopting the tracker: {'; '.join(in_the_way)}. Nothing was changed")
            given = tracker.grants(connection, tables)
            for each in tables:
                tracker.set_aside(connection, each)
            _make_ours(connection, schema)
            gathered = self._gathered(connection, theirs, is_aside=True)
            move(connection, gathered, self._known(), self.desk.context.health, actor=self.actor)
            tracker.grant(connection, given, {name: _columns(each) for name, each in theirs.items()}, schema)
            return self._told(theirs, gathered, views=self._make_views(connection, theirs, given), is_done=True)

    def _gathered(self, connection: Connection, theirs: Mapping[str, Theirs], *, is_aside: bool) -> Gathered:
        columns = {name: _columns(each) for name, each in theirs.items()}
        return gather(connection, theirs, columns, self._known(), Reader(zone=self.zone), is_aside=is_aside)

    def _told(
        self,
        theirs: Mapping[str, Theirs],
        gathered: Gathered,
        *,
        in_the_way: list[str] | None = None,
        views: tuple[str, ...] = (),
        is_done: bool = False,
    ) -> Adoption:
        columns = {name: _columns(each) for name, each in theirs.items()}
        return told(
            theirs,
            columns,
            gathered.tally,
            self._known(),
            gathered.checkpoints,
            in_the_way=in_the_way or (),
            views=views,
            is_done=is_done,
        )

    def _make_views(self, connection: Connection, theirs: Mapping[str, Theirs], given: list[Grant]) -> tuple[str, ...]:
        if self.views is None:
            return ()
        ours_in = tracker.place_of(connection, self.desk.context.schema)
        columns = {name: _columns(each) for name, each in theirs.items()}
        zone, into = self.zone.key, self.views
        return tracker_views.make_views(
            connection, theirs, columns, into=into, ours_in=ours_in, zone=zone, grants=given
        )


def _columns(theirs: Theirs) -> dict[str, str]:
    """Return by which of their columns ours are filled. Raises `SchemaError` where one that is needed is missing."""
    columns = columns_of(theirs.name, list(theirs.types))
    lacking = [name for name in NEEDED[theirs.name] if name not in columns]
    if lacking:
        raise SchemaError(
            f"The table {theirs.name} has no column for {', '.join(lacking)}, and cannot be adopted; it would be "
            f"called {' or '.join(NAMES[theirs.name][lacking[0]])}"
        )
    return columns


def _make_ours(connection: Connection, schema: str | None) -> None:
    seen = look_at_schema(connection, schema)
    if not seen.tables:
        upgrade(connection, schema)
    elif revisions().newest not in seen.own | seen.hosts:
        raise SchemaError("The guard's own tables are of an older version; run projection-guard db upgrade first")
