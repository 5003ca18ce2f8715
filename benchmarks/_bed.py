"""What all benchmarks share: a run's settings, an event, a read model of one table, a handler that writes one row."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection

from projection_guard import ProjectionGuard
from projection_guard.testing import PostgresServer, find_postgres, postgres_server

__all__ = [
    "STREAMS",
    "Counted",
    "Run",
    "bed",
    "events",
    "insert",
    "insert_async",
    "insert_many",
    "make_read_model",
    "prepare",
    "running",
]

STREAMS = 100
_NUMBERS = count(1)
_INSERT = text("INSERT INTO read_model (event_id, stream_id, amount) VALUES (:event_id, :stream_id, :amount)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The settings of a run. `scale` shortens it: rounds and sizes are multiplied with it."""

    server: PostgresServer
    folder: Path
    scale: float

    def rounds(self, number: int) -> int:
        """Return how many rounds to make where a full run makes `number`."""
        return max(3, round(number * self.scale))

    def size(self, number: int) -> int:
        """Return how much to store where a full run stores `number`."""
        return max(1, round(number * self.scale))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Something was counted."""

    event_id: str
    stream_id: str
    sequence: int
    amount: int


def events(number: int, *, streams: int = STREAMS, prefix: str = "stream") -> list[Counted]:
    """Make new events, spread over streams."""
    made: list[Counted] = []
    for _ in range(number):
        sequence = next(_NUMBERS)
        stream = f"{prefix}-{sequence % streams}"
        made.append(Counted(event_id=str(uuid4()), stream_id=stream, sequence=sequence, amount=sequence))
    return made


def insert(event: Counted, connection: Connection) -> None:
    """Write one row: the handler that is measured."""
    connection.execute(_INSERT, _row(event))


async def insert_async(event: Counted, connection: AsyncConnection) -> None:
    """Write one row: the handler that is measured."""
    await connection.execute(_INSERT, _row(event))


def insert_many(events: Sequence[Counted], connection: Connection) -> None:
    """Write one row for each, with one executemany: the batch handler that is measured."""
    connection.execute(_INSERT, [_row(event) for event in events])


def _row(event: Counted) -> dict[str, object]:
    return {"event_id": event.event_id, "stream_id": event.stream_id, "amount": event.amount}


def prepare(url: str) -> None:
    """Make the guard's tables and the read model."""
    with ProjectionGuard(url, worker="external") as guard:
        guard.migrate()
    make_read_model(url)


def make_read_model(url: str) -> None:
    """Make the table that the handlers write into."""
    engine = create_engine(url)
    identity = "INTEGER PRIMARY KEY" if engine.dialect.name == "sqlite" else "bigserial PRIMARY KEY"
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE read_model (id {identity}, event_id varchar(255), stream_id varchar(255), amount bigint)"
        )
    engine.dispose()


@contextmanager
def bed(run: Run) -> Generator[str]:
    """Yield the URL of a PostgreSQL database of one's own, with the guard's tables and the read model."""
    with run.server.database() as url:
        prepare(url)
        yield url


@contextmanager
def running(postgres: str | None) -> Generator[PostgresServer]:
    """Yield the PostgreSQL server that is measured, with its own durability: the one named, or one that is found."""
    environ = dict(os.environ)
    if postgres:
        environ["PROJECTION_GUARD_TEST_POSTGRES"] = postgres
    with postgres_server(find_postgres(environ)) as server:
        yield server
