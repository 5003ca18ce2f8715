"""Stock behind a broker: FastStream brings messages from NATS JetStream, the guard keeps their order and heals.

    pip install 'projection-guard[binary,aiosqlite,faststream]' 'faststream[nats]'
    python examples/behind_a_broker/app.py                                         # FastStream's broker in this process
    NATS_URL=nats://localhost:4222 python examples/behind_a_broker/app.py          # a real one; it makes a stream there

A message is acknowledged once its event is on record. One item is not in the catalogue when its first message comes:
it fails, is kept, and later messages of that item wait behind it; the broker is not asked to bring anything again.
Messages that come twice have their effect once. `DATABASE_URL=postgresql+psycopg://...` takes another database than
stock.db.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from faststream import AckPolicy
from faststream.nats import NatsBroker, PullSub, TestNatsBroker
from nats.js.api import ConsumerConfig
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from projection_guard import AsyncProjectionGuard
from projection_guard.faststream import Guarding, partition_of

NATS = os.environ.get("NATS_URL")
STREAM, PARTITIONS = "projection-guard-example", 2
MOVES = (100, -30, -25, 80)
TABLES = (
    "CREATE TABLE IF NOT EXISTS catalogue (item text PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS stock (item text PRIMARY KEY, quantity integer, moves integer, last_move integer)",
)

engine = create_async_engine(os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///stock.db"), pool_size=PARTITIONS + 4)
guard = AsyncProjectionGuard(engine)
guarding = Guarding(guard)
broker = NatsBroker(NATS or "nats://localhost:4222", middlewares=[guarding], logger=None)


@dataclass(frozen=True)
class Moved:
    """So many of an item came in, or went out. The item is the stream."""

    event_id: str
    stream_id: str
    number: int
    quantity: int


def partition(number: int) -> Any:
    """Subscribe to one partition: one message of it is on its way at a time, so that order is kept."""
    return broker.subscriber(
        f"{STREAM}.{number}",
        stream=STREAM,
        durable=f"stock-{number}",
        config=ConsumerConfig(max_ack_pending=1, ack_wait=30),
        pull_sub=PullSub(),
        ack_policy=AckPolicy.MANUAL,
    )


@guarding.on(*(partition(number) for number in range(PARTITIONS)))
@guard.projection("Stock")
async def stock(event: Moved, connection: AsyncConnection) -> None:
    """Write the read model, in the guard's transaction: exactly once, and each item's moves in order."""
    item = {"item": event.stream_id}
    if (await connection.execute(text("SELECT 1 FROM catalogue WHERE item = :item"), item)).first() is None:
        raise LookupError(f"{event.stream_id!r} is not in the catalogue yet")
    await connection.execute(
        text(
            "INSERT INTO stock VALUES (:item, :quantity, 1, :number) ON CONFLICT (item) DO UPDATE SET"
            " quantity = stock.quantity + excluded.quantity, moves = stock.moves + 1, last_move = excluded.last_move"
        ),
        {**item, "quantity": event.quantity, "number": event.number},
    )


async def publish(event: Moved) -> None:
    """Publish as the application that has the warehouse would."""
    subject = f"{STREAM}.{partition_of(event.stream_id, PARTITIONS)}"
    await broker.publish(event, subject, stream=STREAM)


async def enter(item: str) -> None:
    """Enter an item into the catalogue."""
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO catalogue VALUES (:item)"), {"item": item})


async def stock_of(items: list[str]) -> list[tuple[int, int, int]]:
    """Read the read model: of each item the quantity, the number of moves, and which was the last."""
    wanted = text("SELECT quantity, moves, last_move FROM stock WHERE item = :item")
    async with engine.connect() as connection:
        rows = [(await connection.execute(wanted, {"item": item})).first() for item in items]
    return [(0, 0, 0) if row is None else (row.quantity, row.moves, row.last_move) for row in rows]


async def waiting(item: str) -> int:
    """Return how many messages of an item have failed or wait behind that."""
    streams = (await guard.streams("Stock")).items
    return sum(len(stream.failure_ids) + stream.parked_events for stream in streams if stream.stream_id == item)


async def main() -> None:
    """Move items about, one of which is not known yet; enter it; show the stock."""
    await guard.migrate()
    async with engine.begin() as connection:
        for table in TABLES:
            await connection.execute(text(table))
    run = uuid4().hex[:6]
    items = [f"{name}-{run}" for name in ("bolt", "nut", "washer")]
    *known, unknown = items
    for item in known:
        await enter(item)
    running: AbstractAsyncContextManager[object] = broker if NATS else TestNatsBroker(broker)
    async with asyncio.timeout(60), guard, guard.worker(), running:
        if NATS:
            await broker.start()
        for number, quantity in enumerate(MOVES, start=1):
            for item in items:
                for _ in range(2):  # a broker delivers at least once
                    await publish(Moved(f"{item}-{number}", item, number, quantity))
        while await waiting(unknown) < len(MOVES) or any(moves < len(MOVES) for _, moves, _ in await stock_of(known)):
            await asyncio.sleep(0.05)
        print(f"{unknown} is not in the catalogue: its first message has failed, {len(MOVES) - 1} wait behind it")
        await enter(unknown)
        while await waiting(unknown):
            await asyncio.sleep(0.05)
    for item, (quantity, moves, last) in zip(items, await stock_of(items), strict=True):
        print(f"{item}: {quantity} in stock after {moves} moves, the last was number {last}")
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
