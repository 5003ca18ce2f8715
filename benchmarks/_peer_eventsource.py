"""`eventsource-py`: its `SubscriptionManager` with a checkpoint a batch or an event, and a `DatabaseProjection`.

Its `create_catch_up_config` is the configuration that it calls optimized for catching up: batches of 1,000. The
projection has a transaction an event, which its handler joins; the checkpoint is written apart from it, once a batch,
so that a crash may apply the events of a batch again. Its tracing is off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from contextlib import contextmanager
from uuid import UUID, uuid4

from eventsource import (
    DatabaseProjection,
    DomainEvent,
    ExpectedVersion,
    InMemoryEventBus,
    PostgreSQLEventStore,
    SQLCheckpointRepository,
    StreamId,
    handles,
    register_event,
)
from eventsource.adapters.sql.schemas import get_schema
from eventsource.application.subscriptions import SubscriptionManager
from eventsource.application.subscriptions.config import SubscriptionConfig, create_catch_up_config
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, async_sessionmaker, create_async_engine

from ._bed import STREAMS
from ._harness import Block
from ._log import applied_once
from ._peer import INSERT_COLUMNS, Watch
from ._stored import tidy

__all__ = ["Rows", "append", "install", "opened", "run"]

_CATEGORY = "Counter"
_INSERT = text(f"INSERT INTO {INSERT_COLUMNS} VALUES (:event_id, :stream_id, :amount)")


@register_event
class Counted(DomainEvent):
    """Something was counted."""

    event_type: str = "Counted"
    aggregate_type: str = _CATEGORY
    amount: int


class Rows(DatabaseProjection):
    """The projection."""

    watch = Watch(0)

    @handles(Counted)
    async def on_counted(self, connection: AsyncConnection, counted: Counted) -> None:
        """Write one row."""
        self.watch.begin()
        row = {"event_id": str(counted.event_id), "stream_id": str(counted.aggregate_id), "amount": counted.amount}
        await connection.execute(_INSERT, row)


@contextmanager
def opened(url: str) -> Generator[Block]:
    """Yield what applies events by a manager."""
    logging.getLogger("eventsource").setLevel(logging.WARNING)
    engine = create_engine(url)
    streams = [uuid4() for _ in range(STREAMS)]
    with asyncio.Runner() as runner:
        theirs = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
        store = PostgreSQLEventStore(theirs)
        runner.run(install(theirs))

        def block(number: int) -> float:
            runner.run(append(store, streams, number))
            tidy(engine)
            with applied_once(engine, number):
                return runner.run(run(theirs, store, create_catch_up_config()))

        yield block
        runner.run(theirs.dispose())
    engine.dispose()


async def install(engine: AsyncEngine) -> None:
    """Make the tables of the store and of its checkpoints."""
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute(get_schema("events"))
        # One of the functions beside the table of 0.15.1, never called here, is refused: "GET DIAGNOSTICS ... = FOUND".
        await driver.execute("SET check_function_bodies = off")
        await driver.execute(get_schema("checkpoints"))
        await driver.execute("RESET check_function_bodies")


async def append(store: PostgreSQLEventStore, streams: list[UUID], number: int) -> None:
    """Append so many events, spread over streams."""
    for place, stream in enumerate(streams):
        made = [Counted(aggregate_id=stream, amount=amount) for amount in range(place, number, len(streams))]
        if made:
            await store.append(StreamId(stream, _CATEGORY), made, ExpectedVersion.any_())


async def run(
    engine: AsyncEngine, store: PostgreSQLEventStore, config: SubscriptionConfig, name: str = "rows"
) -> float:
    """Start a manager: it has caught up when `start` returns."""
    # One thing to be done: what the handler cannot see is the last commit.
    Rows.watch = Watch(1)
    manager = SubscriptionManager(
        event_store=store,
        event_bus=InMemoryEventBus(enable_tracing=False),
        checkpoint_repo=SQLCheckpointRepository(engine, enable_tracing=False),
        enable_tracing=False,
    )
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    await manager.subscribe(Rows(sessions), config=config, name=name)
    failed = [error for error in (await manager.start()).values() if error is not None]
    Rows.watch.end()
    await manager.stop()
    if failed:
        raise failed[0]
    return float(Rows.watch.seconds)
