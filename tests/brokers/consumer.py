"""A consumer of a broker run, which is killed and begun anew: `python -m tests.brokers.consumer '{"name": "c0", ...}'`.

It is what an application would write: a FastStream app, a guard, a projection. At SIGTERM it ends what is in hand.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

from faststream import FastStream
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import AsyncProjectionGuard, RetryPolicy
from projection_guard.faststream import Guarding
from tests.brokers.brokers import BROKERS
from tests.brokers.world import PARTITIONS, PROJECTION, Fact, apply

_STANDBY_AFTER_SECONDS = 10.0


async def main(order: dict[str, Any]) -> None:
    """Consume until told to end."""
    engine = create_async_engine(order["url"], pool_size=PARTITIONS + 4)
    guard = AsyncProjectionGuard(engine, retry=RetryPolicy(wait=wait_fixed(2), stop=stop_after_attempt(10_000)))
    there = BROKERS[order["broker"]](order["run"], most_at_once=order["most_at_once"])
    if order["most_at_once"] != 1:
        _let_it_pass()
    guarding = Guarding(guard, retry_seconds=0.5)
    broker = there.broker(guarding)
    own = [p for p in range(PARTITIONS) if p % order["of"] == order["number"] % order["of"]]

    @guard.projection(PROJECTION, timeout=20)
    async def project(event: Fact, connection: AsyncConnection) -> None:
        await apply(connection, event, order["name"])

    guarding.on(*(there.subscriber(broker, partition) for partition in own))(project)
    app = FastStream(broker)

    @app.after_startup
    async def stand_by() -> None:
        asyncio.get_running_loop().call_later(_STANDBY_AFTER_SECONDS, lambda: tasks.append(asyncio.create_task(rest())))

    async def rest() -> None:
        """Take part in the other partitions, too: where RabbitMQ keeps one consumer active, the first one has it."""
        others = [there.subscriber(broker, p) for p in range(PARTITIONS) if p not in own]
        if others:
            guarding.on(*others)(project)
        for subscriber in others:
            await subscriber.start()

    tasks: list[asyncio.Task[None]] = []
    await app.run(log_level=logging.WARNING)
    await guard.close()
    await engine.dispose()


def _let_it_pass() -> None:
    """Take a subscriber as it is, to see what the settings are good for."""
    guarding: Any = import_module("projection_guard.faststream._guarding")

    async def verify(*_: object, **__: object) -> None:
        pass

    guarding.check, guarding.verify = (lambda *_, **__: None), verify


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    loop = None
    with suppress(ImportError):  # not everywhere; it makes room for messages
        loop = import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main(json.loads(sys.argv[1])))
