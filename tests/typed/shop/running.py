"""The same in asyncio: async handlers, and blocking ones that take the event only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar, assert_type

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from projection_guard import (
    AsyncGuarded,
    AsyncProjectionGuard,
    AsyncPublisher,
    AsyncWorker,
    Failure,
    Health,
    Outcome,
    Page,
    RetryPolicy,
    Round,
)

from .events import Event, Ordered

P = ParamSpec("P")
T = TypeVar("T")


def timed(call: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Decorate as many do: what comes out is awaited, and called no coroutine."""

    @wraps(call)
    async def called(*args: P.args, **kwargs: P.kwargs) -> T:
        return await call(*args, **kwargs)

    return called


async def clear(connection: AsyncConnection) -> None:
    """Empty the read model."""
    await connection.execute(text("DELETE FROM orders"))


async def clear_stream(connection: AsyncConnection, stream_id: str) -> None:
    """Empty one stream of it."""
    await connection.execute(text("DELETE FROM orders WHERE id = :id"), {"id": stream_id})


def handlers(
    guard: AsyncProjectionGuard,
) -> AsyncGuarded[Callable[[Ordered, AsyncConnection], Coroutine[Any, Any, None]]]:
    """Register one of each kind."""

    @guard.projection("Orders", handles=[Ordered], on_reset=clear, on_reset_stream=clear_stream)
    async def orders(event: Ordered, connection: AsyncConnection) -> None:
        """Joined."""
        await connection.execute(text("INSERT INTO orders VALUES (:id)"), {"id": event.stream_id})

    @guard.projection("Counted", batch=50, retry=RetryPolicy(immediate=0))
    async def counted(events: Sequence[Ordered], connection: AsyncConnection) -> None:
        """Joined, taking lists."""
        for event in events:
            await connection.execute(text("SELECT :id"), {"id": event.event_id})

    @guard.projection("Mails")
    @timed
    async def mails(event: Event) -> None:
        """Apart, awaited."""

    @guard.projection("Files", timeout=2)
    def files(event: Event) -> None:
        """Apart, in a thread."""

    assert_type(counted.name, str)
    assert_type(files.handler(Ordered(event_id="1", stream_id="a", sequence=1, article="tea")), None)
    assert_type(mails.name, str)
    return orders


class Bus:
    """The application's own publisher."""

    async def publish(self, event: Event) -> None:
        """Send it to whoever listens."""


async def run(database: str | AsyncEngine, events: Sequence[Event]) -> list[Outcome]:
    """Do all of it."""
    async with AsyncProjectionGuard(database, worker="external") as guard:
        await guard.migrate()
        orders = handlers(guard)
        publisher = guard.publisher(Bus(), wait=1)
        assert_type(publisher, AsyncPublisher)
        outcomes = [outcome for event in events for outcome in await publisher.publish(event)]
        assert_type(await orders(events[0]), Outcome)
        async with guard.worker() as worker:
            assert_type(worker, AsyncWorker)
        assert_type(await guard.worker().run_once(), Round)
        assert_type(await guard.health("Orders"), Health)
        assert_type(await guard.failures(), Page[Failure])
        await guard.pause("Orders", actor="alice", reason="a look")
        await guard.resume("Orders", actor="alice")
    return outcomes
