"""`db adopt` looks at a tracker whose application goes on, and fails, meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from projection_guard import EventRecord, _desk
from projection_guard._core.adopting.moving import Gathered
from projection_guard._core.adopting.work import Adopting
from projection_guard._store.tracker import Theirs
from projection_guard.errors import SchemaError
from tests.migrations import tracked
from tests.migrations.tracked import add, make_log, make_tracker

EVENTS = tuple(str(UUID(int=n)) for n in range(1, 31))


class FailsMeanwhile(Adopting):
    """The application fails at an event while the log is asked, or between two looks at what has failed."""

    __slots__ = ("engine", "left_while_asked", "left_while_read")
    engine: Engine
    left_while_asked: int
    left_while_read: int

    async def _look_up(self, event_id: str) -> EventRecord | None:
        if self.left_while_asked:
            self.left_while_asked -= 1
            self._fail()
        return await super()._look_up(event_id)

    def _gathered(self, connection: Connection, theirs: Mapping[str, Theirs], *, is_aside: bool) -> Gathered:
        gathered = super()._gathered(connection, theirs, is_aside=is_aside)
        if self.left_while_read:
            self.left_while_read -= 1
            self._fail()
        return gathered

    def _fail(self) -> None:
        with self.engine.begin() as other:
            fail(other)


def fail(connection: Connection) -> None:
    """Let the application fail at its next event."""
    ((event,),) = connection.execute(
        text("SELECT event_id FROM events EXCEPT SELECT event_id FROM projection_failures ORDER BY 1 LIMIT 1")
    ).all()
    add(
        connection,
        "projection_failures",
        {"id": event, "event_id": event, "projection_name": "Documents", "next_retry_at": "2026-01-02 03:04:05"},
    )


@pytest.fixture
def adopting(empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FailsMeanwhile]:
    """A tracker in which one event has failed."""
    monkeypatch.setenv("TRACKED_DATABASE", empty_postgres_url)
    monkeypatch.setenv("TRACKED_LOG", "1")
    engine = create_engine(empty_postgres_url)
    make_log(engine)
    with engine.begin() as connection:
        make_tracker(connection)
        add(connection, "events", *({"event_id": each, "event_type": "Uploaded", "stream_id": "a"} for each in EVENTS))
        fail(connection)
    guard = tracked.guard()
    made = FailsMeanwhile(
        desk=_desk.service_of(guard), actor="alice", zone=ZoneInfo("UTC"), from_schema=None, views=None, is_bare=False
    )
    made.engine, made.left_while_asked, made.left_while_read = engine, 0, 0
    yield made
    guard.close()
    _desk.engine_of(guard).dispose()
    engine.dispose()


def test_what_fails_while_the_log_is_asked_is_looked_up_too(adopting: FailsMeanwhile) -> None:
    """Else it would be told of as an event that the log does not have."""
    adopting.left_while_asked = 1
    looked = asyncio.run(adopting.look())
    (documents,) = looked.projections
    assert (documents.retried + documents.parked, documents.waits) == (2, 0)


def test_what_fails_while_the_tracker_is_read_is_read_too(adopting: FailsMeanwhile) -> None:
    """An application that does so all the time is to be stopped first, and somebody is told so."""
    adopting.left_while_read = 1
    looked = asyncio.run(adopting.look())
    assert looked.tables[0].rows == looked.tables[0].moved + looked.tables[0].parked == 2
    adopting.left_while_read = 20
    with pytest.raises(SchemaError, match="stop the application"):
        asyncio.run(adopting.look())
