"""Guarded subscribers of NATS JetStream, RabbitMQ and Redis, live: in short what a broker run does at length."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Literal

import pytest

pytest.importorskip("faststream.nats", reason="faststream[nats] is not installed", exc_type=ImportError)
pytest.importorskip("faststream.rabbit", reason="faststream[rabbit] is not installed", exc_type=ImportError)
pytest.importorskip("faststream.redis", reason="faststream[redis] is not installed", exc_type=ImportError)

import aio_pika
from faststream import AckPolicy
from faststream.rabbit import Channel, QueueType, RabbitQueue
from faststream.redis import RedisBroker, StreamSub
from nats.js.api import ConsumerConfig, RetentionPolicy
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from projection_guard import AsyncProjectionGuard
from projection_guard.faststream import Guarding
from tests.bed import AT_ONCE
from tests.brokers.brokers import BROKERS, Rabbit, rabbit_url, why_no_broker
from tests.brokers.world import PARTITIONS, Fact

pytestmark = pytest.mark.postgres
MANUAL: Any = AckPolicy.MANUAL
answers = cache(why_no_broker)


@pytest.fixture(params=["nats", "rabbitmq"])
def there(request: pytest.FixtureRequest) -> Any:
    """A broker with a queue or a subject for each partition, or the reason why there is none."""
    return made(request.param)


def made(name: str, kind: Callable[[str], Any] | None = None) -> Any:
    """Return a broker, by default the one of that name; skip the test where there is none."""
    missing = answers(name)
    if missing is not None:
        pytest.skip(missing)
    return (kind or BROKERS[name])(uuid.uuid4().hex[:8])


@pytest.fixture
def nats_there() -> Any:
    """NATS, or the reason why there is none."""
    missing = answers("nats")
    if missing is not None:
        pytest.skip(missing)
    return BROKERS["nats"](uuid.uuid4().hex[:8])


class Consumer:
    """What an application has in one process: an engine, a guard with one projection, a broker with all partitions."""

    def __init__(
        self, url: str, there: Any, *, graceful_seconds: float = 5, worker: Literal["auto", "external"] = "external"
    ) -> None:
        self.engine: AsyncEngine = create_async_engine(url, pool_size=PARTITIONS + 2)
        self.guard = AsyncProjectionGuard(self.engine, retry=AT_ONCE, worker=worker)
        self.guarding = Guarding(self.guard, retry_seconds=0.1)
        self.broker: Any = there.broker(self.guarding, graceful_seconds=graceful_seconds)
        self.done: list[tuple[str, int]] = []
        self.handle: Callable[[Fact], Awaitable[None]] = self._nothing

        @self.guarding.on(*(there.subscriber(self.broker, partition) for partition in range(PARTITIONS)))
        @self.guard.projection("Stock")
        async def stock(event: Fact, connection: AsyncConnection) -> None:
            await self.handle(event)
            self.done.append((event.stream_id, event.n))

    async def _nothing(self, event: Fact) -> None:
        pass

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Consume meanwhile."""
        await self.broker.start()
        try:
            yield
        finally:
            await self.broker.stop()
            await self.guard.close()
            await self.engine.dispose()

    async def comes_to(self, number: int) -> None:
        """Wait until so many events are applied."""
        await comes(lambda: len(self.done) >= number)


async def comes(is_so: Callable[[], bool]) -> None:
    """Wait on a condition."""
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110  # of another task's list
            await asyncio.sleep(0.01)


def fact(stream: str, n: int) -> Fact:
    """Return the n-th event of a stream."""
    return Fact(event_id=f"{stream}#{n}", stream_id=stream, n=n)


def test_one_poison_event_in_100_streams_holds_its_own_stream_alone(postgres_url: str, there: Any) -> None:
    """The others go on; after the fix the stream is complete and in order; what comes twice is applied once."""
    consumer = Consumer(postgres_url, there)
    cured = False

    async def handle(event: Fact) -> None:
        if event.stream_id == "s7" and event.n == 1 and not cured:
            raise LookupError

    async def scene() -> None:
        nonlocal cured
        consumer.handle = handle
        async with there.made():
            facts = [fact(f"s{stream}", n) for n in range(2) for stream in range(100)]
            await there.publish([*facts, *facts[:10], fact("s7", 2)])
            async with consumer.running():
                await consumer.comes_to(199)
                await settled(there)
                cured = True
                await consumer.guard.worker().run_once()

    asyncio.run(scene())
    assert sorted(consumer.done) == sorted([*((f"s{each}", n) for each in range(100) for n in range(2)), ("s7", 2)])
    assert [n for stream, n in consumer.done if stream == "s7"] == [0, 1, 2]


def test_what_failed_before_heals_beside_an_empty_queue(postgres_url: str, there: Any) -> None:
    """A consumer that is begun anew, with the bug mended, has no message to wait for."""
    broken, mended = Consumer(postgres_url, there), Consumer(postgres_url, there, worker="auto")

    async def fail(event: Fact) -> None:
        raise LookupError

    async def scene() -> None:
        broken.handle = fail
        async with there.made():
            await there.publish([fact("A", 1), fact("A", 2)])
            async with broken.running():
                await settled(there)
            async with mended.running():
                await mended.comes_to(2)

    asyncio.run(scene())
    assert (broken.done, mended.done) == ([], [("A", 1), ("A", 2)])


async def settled(there: Any) -> None:
    """Wait until the broker has nothing left."""
    async with asyncio.timeout(60):
        while await there.waiting():  # noqa: ASYNC110  # it is the broker's
            await asyncio.sleep(0.05)


def test_messages_come_again_while_the_store_is_away(postgres_url: str, there: Any) -> None:
    """Each stream's in its order, the first one first; nothing is lost and nothing twice."""
    consumer = Consumer(postgres_url, there)

    async def rename(before: str, after: str) -> None:
        async with consumer.engine.begin() as connection:
            await connection.execute(text(f"ALTER TABLE {before} RENAME TO {after}"))

    async def scene() -> None:
        async with there.made(), consumer.running():
            await there.publish([fact("A", 1)])
            await consumer.comes_to(1)
            await rename("projection_streams", "away")
            await there.publish([fact(stream, n) for n in (2, 3) for stream in "AB"])
            await asyncio.sleep(0.5)  # long enough for each to have come more than once
            assert consumer.done == [("A", 1)]
            await rename("away", "projection_streams")
            await consumer.comes_to(5)

    asyncio.run(scene())
    assert [n for stream, n in consumer.done if stream == "A"] == [1, 2, 3]
    assert [n for stream, n in consumer.done if stream == "B"] == [2, 3]


async def hung_up(consumer: Consumer, begun: threading.Event, may_end: threading.Event) -> None:
    """Let a consumer live until its handler hangs, and end it as the end of a process's loop does."""

    async def hang(event: Fact) -> None:
        begun.set()
        await asyncio.Event().wait()

    consumer.handle = hang
    await consumer.broker.start()
    assert await asyncio.to_thread(may_end.wait, 60)
    await consumer.broker.stop()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    async with asyncio.timeout(30):
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left)
    await consumer.guard.close()
    await consumer.engine.dispose()


def shut_down(url: str, there: Any, *, stands_by: bool) -> None:
    """Shut a consumer down whose handler hangs; another one begins afterwards, or `stands_by` already."""
    first, second = Consumer(url, there, graceful_seconds=0.1), Consumer(url, there)

    async def scene() -> None:
        begun, may_end = threading.Event(), threading.Event()
        async with there.made():
            await there.publish([fact("A", n) for n in (1, 2, 3)])
            first_life = asyncio.create_task(asyncio.to_thread(asyncio.run, hung_up(first, begun, may_end)))
            await comes(begun.is_set)
            if not stands_by:
                may_end.set()
                await first_life
            async with second.running():
                may_end.set()
                await second.comes_to(3)
            await first_life

    asyncio.run(scene())
    assert first.done == []
    assert second.done == [("A", n) for n in (1, 2, 3)]


def test_what_is_in_hand_at_a_shutdown_goes_to_the_next_one(postgres_url: str, there: Any) -> None:
    """A consumer that ends while its handler hangs gives the message up; the next one applies it, in order."""
    shut_down(postgres_url, there, stands_by=False)


class Quorum(Rabbit):
    """With quorum queues: RabbitMQ sends the next consumer what is behind a message that a cancelled one still has."""

    @property
    def _arguments(self) -> Any:
        return {**super()._arguments, "x-queue-type": "quorum"}  # before RabbitMQ 4 there is no limit, nor a -1

    def subscriber(self, broker: Any, partition: int) -> Any:
        """Return a subscriber of a queue that is there."""
        made: Any = RabbitQueue
        queue = made(
            self._queue(partition),
            queue_type=QueueType.QUORUM,
            declare=False,
            arguments={**super()._arguments, "x-delivery-limit": -1},
        )
        return broker.subscriber(queue, channel=Channel(prefetch_count=1), ack_policy=MANUAL)


def test_nobody_is_sent_what_is_behind_a_message_in_hand(postgres_url: str) -> None:
    """Of a consumer that ends: the one that stands by gets that message first, and then what is behind it."""
    shut_down(postgres_url, made("rabbitmq", Quorum), stands_by=True)


def test_what_comes_while_a_consumer_begins_is_taken(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ may send a message before it is known that the consumer is there: its queue must not stand still."""
    consume = aio_pika.robust_queue.RobustQueue.consume

    async def slowly(*asked: Any, **options: Any) -> Any:
        answer = await consume(*asked, **options)
        await asyncio.sleep(0.1)  # as the loop of a process that has other things to do
        return answer

    monkeypatch.setattr(aio_pika.robust_queue.RobustQueue, "consume", slowly)
    there = made("rabbitmq")
    consumer = Consumer(postgres_url, there)

    async def scene() -> None:
        async with there.made():
            await there.publish([fact("A", 1), fact("A", 2)])
            async with consumer.running():
                await consumer.comes_to(2)

    asyncio.run(scene())
    assert consumer.done == [("A", 1), ("A", 2)]


def test_what_is_no_event_goes_to_the_dead_letters(postgres_url: str) -> None:
    """RabbitMQ has them taken away; the line behind it goes on."""
    missing = answers("rabbitmq")
    if missing is not None:
        pytest.skip(missing)
    there = Rabbit(uuid.uuid4().hex[:8])
    consumer = Consumer(postgres_url, there)
    dead: list[bytes] = []

    async def bury(message: Any) -> None:
        dead.append(message.body)

    async def scene() -> None:
        connection = await aio_pika.connect(rabbit_url())
        channel = await connection.channel()
        taken = await channel.declare_queue(exclusive=True)
        async with there.made(), consumer.running():
            await taken.bind(there.dead_letters)
            await taken.consume(bury, no_ack=True)
            for partition in range(PARTITIONS):
                await channel.default_exchange.publish(
                    aio_pika.Message(b'{"what": "is this"}', content_type="application/json"),
                    routing_key=f"{there._name}-{partition}",
                )
            await there.publish([fact(f"s{number}", 1) for number in range(20)])
            await consumer.comes_to(20)
            await comes(lambda: len(dead) == PARTITIONS)
        await connection.close()

    asyncio.run(scene())
    assert set(dead) == {b'{"what": "is this"}'}


def test_a_consumer_that_was_there_before_is_looked_at(
    postgres_url: str, nats_there: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """NATS keeps the settings of a durable consumer, whatever a subscriber asks for: such a one is not taken from."""
    consumer = Consumer(postgres_url, nats_there)

    async def scene() -> None:
        async with nats_there.made():
            jetstream = nats_there._connection.jetstream()
            for partition in range(PARTITIONS):
                await jetstream.add_consumer(
                    nats_there._name,
                    ConsumerConfig(
                        durable_name=f"p{partition}",
                        filter_subject=f"{nats_there._name}.{partition}",
                        max_ack_pending=1000,
                    ),
                )
            async with consumer.running():
                await nats_there.publish([fact("A", 1)])
                await comes(lambda: "as the server has it" in caplog.text)

    with caplog.at_level(logging.WARNING, logger="projection_guard"):
        asyncio.run(scene())
    assert consumer.done == []
    assert "max_ack_pending=1" in caplog.text


def test_a_stream_that_forgets_what_is_rejected_is_looked_at(
    postgres_url: str, nats_there: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no event would be gone from a work queue: nothing is taken from one until it is said what is wanted."""
    consumer = Consumer(postgres_url, nats_there)

    async def scene() -> None:
        async with nats_there.made():
            jetstream = nats_there._connection.jetstream()
            config = (await jetstream.stream_info(nats_there._name)).config
            await jetstream.delete_stream(nats_there._name)
            config.retention = RetentionPolicy.WORK_QUEUE
            await jetstream.add_stream(config)
            async with consumer.running():
                await nats_there.publish([fact("A", 1)])
                await comes(lambda: "as the server has it" in caplog.text)

    with caplog.at_level(logging.WARNING, logger="projection_guard"):
        asyncio.run(scene())
    assert consumer.done == []
    assert "unreadable=" in caplog.text


def test_redis_serves_where_no_order_is_asked_for(postgres_url: str) -> None:
    """A message that a dead consumer has left is claimed by another one, and is applied once."""
    url = os.environ.get("PROJECTION_GUARD_TEST_REDIS", "redis://127.0.0.1:6379")
    name = f"projection-guard-{uuid.uuid4().hex[:8]}"

    async def scene() -> list[int]:
        client = Redis.from_url(url)
        try:
            await client.ping()
        except Exception as error:
            pytest.skip(f"no Redis answers ({type(error).__name__}); name one in $PROJECTION_GUARD_TEST_REDIS")
        engine = create_async_engine(postgres_url)
        guard = AsyncProjectionGuard(engine, retry=AT_ONCE, worker="external")
        guarding = Guarding(guard, retry_seconds=0.1, unreadable="hold")
        broker = RedisBroker(url, middlewares=[guarding])
        done: list[int] = []

        @guarding.on(
            broker.subscriber(stream=StreamSub(name, group="stock", consumer="c0"), ack_policy=MANUAL),
            broker.subscriber(
                stream=StreamSub(name, group="stock", consumer="c1", min_idle_time=50), ack_policy=MANUAL
            ),
        )
        @guard.projection("Stock", order="none")
        async def stock(event: Fact, connection: AsyncConnection) -> None:
            done.append(event.n)

        await client.xgroup_create(name, "stock", id="0", mkstream=True)
        publisher = RedisBroker(url)
        async with publisher:
            for n in (1, 2, 3):
                await publisher.publish(fact("A", n), stream=name)
        await client.xreadgroup("stock", "dead", {name: ">"}, count=1)
        await broker.start()
        await comes(lambda: len(done) == 3)
        async with asyncio.timeout(30):
            while (await client.xpending(name, "stock"))["pending"]:  # noqa: ASYNC110  # it is the broker's
                await asyncio.sleep(0.05)
        await broker.stop()
        await client.delete(name)
        await client.aclose()
        await guard.close()
        await engine.dispose()
        return done

    assert sorted(asyncio.run(scene())) == [1, 2, 3]
