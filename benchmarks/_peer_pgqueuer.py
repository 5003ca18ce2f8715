"""`pgqueuer`: a job per event, whose entrypoint writes the row.

As its guide to performance says: asyncpg, a direct connection for the manager and a pool for the jobs, its autovacuum
settings, larger batches for short jobs (its default are ten), durable tables; on uvloop, as its command runs it. A job
is done at least once, jobs run beside each other, and nothing keeps those of a stream in order.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from uuid import uuid4

import asyncpg
import uvloop
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode
from sqlalchemy import create_engine, make_url

from ._bed import STREAMS
from ._harness import Block
from ._log import applied_once
from ._peer import INSERT_COLUMNS, Watch
from ._stored import tidy

__all__ = ["opened", "opened_in_hundreds"]

_ENTRYPOINT = "counted"
_INSERT = f"INSERT INTO {INSERT_COLUMNS} VALUES ($1, $2, $3)"
_POOL = 20
_ENQUEUED_AT_ONCE = 1_000


@contextmanager
def opened(url: str, *, batch: int = 10) -> Generator[Block]:
    """Yield what does jobs by a manager, which takes so many at once."""
    logging.getLogger("pgqueuer").setLevel(logging.CRITICAL)
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    engine = create_engine(url)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        queries, pool = runner.run(_connect(plain, stack))

        def block(number: int) -> float:
            runner.run(_enqueue(queries, number))
            tidy(engine)
            with applied_once(engine, number):
                return runner.run(_run(queries, pool, number, batch))

        yield block
        runner.run(stack.aclose())
    engine.dispose()


opened_in_hundreds = partial(opened, batch=100)


async def _connect(plain: str, stack: AsyncExitStack) -> tuple[Queries, asyncpg.Pool]:
    connection = await asyncpg.connect(plain)
    stack.push_async_callback(connection.close)
    pool = await stack.enter_async_context(asyncpg.create_pool(plain, min_size=_POOL, max_size=_POOL))
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    await queries.optimize_autovacuum()
    return queries, pool


async def _enqueue(queries: Queries, number: int) -> None:
    for first in range(0, number, _ENQUEUED_AT_ONCE):
        amounts = range(first, min(number, first + _ENQUEUED_AT_ONCE))
        payloads = [
            json.dumps({"event_id": str(uuid4()), "stream_id": f"stream-{n % STREAMS}", "amount": n}).encode()
            for n in amounts
        ]
        await queries.enqueue([_ENTRYPOINT] * len(payloads), payloads, [0] * len(payloads))


async def _run(queries: Queries, pool: asyncpg.Pool, number: int, batch: int) -> float:
    """Let a manager of its own drain the queue."""
    watch = Watch(number)
    manager = QueueManager(queries)

    @manager.entrypoint(_ENTRYPOINT)
    async def counted(job: Job) -> None:
        watch.begin()
        event = json.loads(job.payload)
        await pool.execute(_INSERT, event["event_id"], event["stream_id"], event["amount"])
        watch.end()

    await manager.run(batch_size=batch, mode=QueueExecutionMode.drain)
    return watch.seconds
