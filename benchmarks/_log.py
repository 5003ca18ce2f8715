"""The log that is followed, in a table of PostgreSQL; and the check that each of its events was applied once.

Variants that read the same log take turns: `Log.up_to` appends what the first of them lacks, the others find it there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Engine, text

from ._bed import STREAMS, Counted
from ._harness import Block
from ._stored import tidy

__all__ = ["TABLE", "Log", "applied_once", "decode", "log_in", "page", "turns"]

TABLE = "events"
_CREATE = f"""
CREATE TABLE {TABLE} (sequence bigserial PRIMARY KEY, event_id varchar(255) NOT NULL UNIQUE,
    event_type varchar(255) NOT NULL, stream_id varchar(255) NOT NULL, payload text NOT NULL)
"""
_APPEND = text(
    f"""INSERT INTO {TABLE} (event_id, event_type, stream_id, payload)
        SELECT gen_random_uuid(), 'Counted', 'stream-' || n % :streams, json_build_object('amount', n)::text
        FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n"""
)
_APPEND_ONE = text(
    f"""INSERT INTO {TABLE} (event_id, event_type, stream_id, payload)
        VALUES (:event_id, 'Counted', :stream_id, :payload) RETURNING sequence"""
)
_PAGE = text(
    f"SELECT sequence, event_id, stream_id, payload FROM {TABLE} WHERE sequence > :after ORDER BY sequence LIMIT :limit"
)

_ROWS = text("SELECT count(*), count(DISTINCT event_id) FROM read_model WHERE id > :last")


@dataclass(slots=True, kw_only=True)
class Log:
    """A log without holes, whose sequences begin at 1."""

    engine: Engine
    last: int = field(default=0, init=False)

    def up_to(self, last: int) -> None:
        """Append what is missing up to this sequence; leave the tables as autovacuum would."""
        if last <= self.last:
            return
        with self.engine.begin() as connection:
            connection.execute(_APPEND, {"first": self.last + 1, "last": last, "streams": STREAMS})
        self.last = last
        tidy(self.engine)

    def append(self, event: Counted) -> None:
        """Append one event, and commit."""
        payload = json.dumps({"amount": event.amount})
        parameters = {"event_id": event.event_id, "stream_id": event.stream_id, "payload": payload}
        with self.engine.begin() as connection:
            self.last = int(connection.execute(_APPEND_ONE, parameters).scalar_one())


def turns(log: Log, apply: Callable[[int], object]) -> Block:
    """Return what appends so many events where there are not so many, and has them applied: `apply(after)`."""
    done = 0

    def block(number: int) -> float:
        nonlocal done
        after, done = done, done + number
        log.up_to(done)
        with applied_once(log.engine, number):
            started = perf_counter()
            apply(after)
            return perf_counter() - started

    return block


def log_in(engine: Engine) -> Log:
    """Make an empty log."""
    with engine.begin() as connection:
        connection.exec_driver_sql(_CREATE)
    return Log(engine=engine)


def decode(row: Mapping[str, Any]) -> Counted:
    """Make the event of a row, for the source of the guard."""
    return Counted(
        event_id=row["event_id"],
        stream_id=row["stream_id"],
        sequence=row["sequence"],
        amount=json.loads(row["payload"])["amount"],
    )


def page(connection: Connection, after: int, limit: int) -> list[Counted]:
    """Read the next events, by their sequence: what a loop of one's own would do."""
    rows = connection.execute(_PAGE, {"after": after, "limit": limit})
    return [
        Counted(event_id=event_id, stream_id=stream_id, sequence=sequence, amount=json.loads(payload)["amount"])
        for sequence, event_id, stream_id, payload in rows
    ]


@contextmanager
def applied_once(engine: Engine, number: int) -> Generator[None]:
    """Raise `RuntimeError` unless so many events, each of them once, came into the read model meanwhile."""
    with engine.connect() as connection:
        last = connection.exec_driver_sql("SELECT coalesce(max(id), 0) FROM read_model").scalar_one()
    yield
    with engine.connect() as connection:
        rows, events = connection.execute(_ROWS, {"last": last}).one()
    if rows != number or events != number:
        raise RuntimeError(f"{number} events were to be applied once: {rows} rows were written, of {events} events")
