"""`eventsourcing`: a `ProjectionRunner`, its view a `PostgresTrackingRecorder`, as its documentation has it.

One transaction an event writes the row and the position; psycopg prepares both statements. The runner reads by pages of
500 in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any
from uuid import UUID, uuid4

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.sql import SQL
from sqlalchemy import create_engine, make_url

from ._bed import STREAMS
from ._harness import Block
from ._log import applied_once
from ._peer import INSERT_COLUMNS, Watch
from ._stored import tidy

__all__ = ["Counter", "Rows", "View", "count", "environment_of", "opened", "run"]

_INSERT = SQL(f"INSERT INTO {INSERT_COLUMNS} VALUES (%s, %s, %s)")
_TIMEOUT_SECONDS = 600


class Counter(Aggregate):
    """A stream."""

    @event("Begun")
    def __init__(self, event_id: str) -> None:
        self.event_id = event_id

    class Counted(Aggregate.Event):
        """Something was counted."""

        event_id: str
        amount: int

    @event(Counted)
    def count(self, event_id: str, amount: int) -> None:
        """Count something."""


class View(PostgresTrackingRecorder):
    """The read model."""

    watch = Watch(0)
    is_done = Event()

    def add(self, counted: Any, tracking: Tracking) -> None:
        """Write one row, and the position, in one transaction."""
        self.watch.begin()
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            row = (counted.event_id, str(counted.originator_id), counted.amount)
            cursor.execute(_INSERT, row, prepare=True)
        if self.watch.end():
            self.is_done.set()

    def skip(self, tracking: Tracking) -> None:
        """Write the position only."""
        self.insert_tracking(tracking)


class Rows(Projection[View]):
    """The projection."""

    name = "rows"

    def process_event(self, domain_event: object, tracking: Tracking) -> None:
        """Write one row for each event that counts."""
        if isinstance(domain_event, Counter.Counted):
            self.view.add(domain_event, tracking)
        else:
            self.view.skip(tracking)


@contextmanager
def opened(url: str) -> Generator[Block]:
    """Yield what applies events by a runner."""
    environment = environment_of(url)
    engine = create_engine(url)
    application = Application[UUID](env=environment)
    counters = [Counter(event_id=str(uuid4())) for _ in range(STREAMS)]
    application.save(*counters)
    run(environment, 0)

    def block(number: int) -> float:
        count(application, counters, number)
        tidy(engine)
        with applied_once(engine, number):
            return run(environment, number)

    yield block
    application.close()
    engine.dispose()


def count(application: Application[UUID], counters: Sequence[Counter], number: int) -> None:
    """Append so many events that count, in turns of the streams."""
    for amount in range(number):
        counters[amount % STREAMS].count(event_id=str(uuid4()), amount=amount)
    application.save(*counters)


def run(environment: dict[str, str], number: int) -> float:
    """Let a runner apply so many events that count; with 0 what is in the log so far."""
    View.watch, View.is_done = Watch(number), Event()
    with ProjectionRunner(
        application_class=Application, projection_class=Rows, view_class=View, env=environment
    ) as runner:
        if not number:
            runner.wait(STREAMS, timeout=_TIMEOUT_SECONDS)
            return 0.0
        while not View.is_done.wait(timeout=1.0):
            runner.run_forever(timeout=0.0)  # raises what its thread has raised
    return View.watch.seconds


def environment_of(url: str) -> dict[str, str]:
    """Return the library's settings for a database."""
    found = make_url(url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": found.database or "",
        "POSTGRES_HOST": found.host or str(found.query.get("host", "")),
        "POSTGRES_PORT": str(found.port or 5432),
        "POSTGRES_USER": found.username or "",
        "POSTGRES_PASSWORD": found.password or "",
    }
