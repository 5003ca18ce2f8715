"""The application's own tests, with the testing kit."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from sqlalchemy import Column, Connection, MetaData, String, Table, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from projection_guard import ProjectionGuard
from projection_guard.testing import AsyncProjected, Projected, advance, failing, given

from .events import Ordered, first

tables = MetaData()
orders = Table("orders", tables, Column("id", String(40), primary_key=True))


def fill(event: Ordered, connection: Connection) -> None:
    """Fill the read model."""
    connection.execute(insert(orders).values(id=event.stream_id))


async def fill_later(event: Ordered, connection: AsyncConnection) -> None:
    """The same, awaited."""
    await connection.execute(insert(orders).values(id=event.stream_id))


def try_it() -> Projected:
    """Given, when, then."""
    return given(*first(1)).when(fill).then(orders, [{"id": "order-1"}])


async def try_it_later() -> AsyncProjected:
    """The same, awaited."""
    return await given(*first(1)).when(fill_later).then(orders, [{"id": "order-1"}])


def heal(guard: ProjectionGuard) -> int:
    """Let it fail once, and heal."""
    faulty = failing(fill, on="e1", times=1)
    assert_type(faulty.calls, int)
    guard.projection("Orders", handles=[Ordered])(faulty)
    for event in first(2):
        guard.publisher().publish(event)
    advance(guard, timedelta(minutes=1))
    guard.worker().run_once()
    return faulty.calls
