"""The variants of `eventsource_py`: what takes turns on one log of `eventsource-py`'s."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from time import perf_counter
from uuid import uuid4

from eventsource import PostgreSQLEventStore
from eventsource.application.subscriptions.config import CheckpointStrategy, SubscriptionConfig
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from projection_guard import AsyncProjectionGuard
from projection_guard.eventsource import EventStoreSource, register

from . import _peer_eventsource as peer
from ._bed import STREAMS
from ._harness import Block
from ._log import applied_once
from ._stored import tidy

__all__ = ["opened"]

_PAGE = 100  # the library's default, and the guard's


@contextmanager
def opened(url: str, ours: str, every_event: str, every_batch: str) -> Generator[dict[str, Block]]:
    """Yield the three, by these names."""
    engine = create_engine(url)
    theirs = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    own = create_async_engine(url)
    store = PostgreSQLEventStore(theirs)
    strategies = {every_event: CheckpointStrategy.EVERY_EVENT, every_batch: CheckpointStrategy.EVERY_BATCH}

    def native(name: str) -> Callable[[], Awaitable[float]]:
        config = SubscriptionConfig(batch_size=_PAGE, checkpoint_strategy=strategies[name])
        return lambda: peer.run(theirs, store, config, name)

    with asyncio.Runner() as runner:
        runner.run(peer.install(theirs))
        guard = AsyncProjectionGuard(own, source=EventStoreSource(theirs), schema="guarded", worker="external")
        runner.run(guard.migrate())
        register(guard, peer.Rows(async_sessionmaker(own, expire_on_commit=False)))

        async def guarded() -> float:
            started = perf_counter()
            await guard.catch_up("Rows")
            return perf_counter() - started

        log = _Log(engine, store, runner)
        do = {ours: guarded, every_event: native(every_event), every_batch: native(every_batch)}
        yield {name: log.turns(each) for name, each in do.items()}
        runner.run(guard.close())
        runner.run(theirs.dispose())
        runner.run(own.dispose())
    engine.dispose()


class _Log:
    """The log, which is appended to by whoever comes to its end first."""

    def __init__(self, engine: Engine, store: PostgreSQLEventStore, runner: asyncio.Runner) -> None:
        self._engine, self._store, self._runner = engine, store, runner
        self._streams = [uuid4() for _ in range(STREAMS)]
        self._last = 0

    def turns(self, apply: Callable[[], Awaitable[float]]) -> Block:
        """Return what has so many more events applied."""
        done = 0

        async def apply_it() -> float:
            return await apply()

        def block(number: int) -> float:
            nonlocal done
            done += number
            if self._last < done:
                self._runner.run(peer.append(self._store, self._streams, done - self._last))
                self._last = done
                tidy(self._engine)
            with applied_once(self._engine, number):
                return self._runner.run(apply_it())

        return block
