"""Guarded subscribers of Kafka, live: on the cluster that librdkafka brings for tests, in this process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faststream.confluent", reason="faststream[confluent] is not installed", exc_type=ImportError)

from confluent_kafka import Consumer, Producer, TopicPartition
from faststream import AckPolicy
from faststream.confluent import KafkaBroker
from sqlalchemy.ext.asyncio import AsyncConnection

from projection_guard import AsyncProjectionGuard
from projection_guard.faststream import Guarding
from tests.brokers.world import Fact

MANUAL: Any = AckPolicy.MANUAL


def test_what_is_held_in_one_partition_is_not_committed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that was given back is the first that the next consumer gets, though others were acknowledged since."""
    there = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
    (node,) = there.list_topics(timeout=30).brokers.values()
    address = f"{node.host}:{node.port}"
    there.produce("facts", b"{}", partition=0)
    there.flush(30)
    held, done = asyncio.Event(), asyncio.Event()

    async def scene() -> None:
        guard = AsyncProjectionGuard(f"sqlite+aiosqlite:///{tmp_path}/x.db", worker="external")
        await guard.migrate()
        guarding = Guarding(guard, retry_seconds=0.05, unreadable="hold")
        hold = guarding._hold

        async def noted(*arguments: Any) -> None:
            await hold(*arguments)
            held.set()

        monkeypatch.setattr(guarding, "_hold", noted)
        broker = KafkaBroker(address, middlewares=[guarding], logger=None, allow_auto_create_topics=False)

        @guarding.on(broker.subscriber("facts", group_id="stock", ack_policy=MANUAL, auto_offset_reset="earliest"))
        @guard.projection("Stock")
        async def stock(event: Fact, connection: AsyncConnection) -> None:
            done.set()

        async with broker, asyncio.timeout(60):
            await broker.start()
            await held.wait()
            there.produce("facts", b'{"event_id": "A#1", "stream_id": "A", "n": 1}', partition=1)
            await asyncio.to_thread(there.flush, 30)
            await done.wait()
            while (await asyncio.to_thread(committed, address))[1] < 1:  # noqa: ASYNC110  # it is the broker's
                await asyncio.sleep(0.05)
        await guard.close()

    asyncio.run(scene())
    assert committed(address)[0] <= 0


def committed(address: str) -> list[int]:
    """Return what the group has committed of each partition; below 0 where nothing."""
    looking = Consumer({"bootstrap.servers": address, "group.id": "stock"})
    try:
        return [each.offset for each in looking.committed([TopicPartition("facts", n) for n in (0, 1)], timeout=30)]
    finally:
        looking.close()
