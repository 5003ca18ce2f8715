"""The two brokers of a run: made, filled, counted, taken away; and how a consumer subscribes, by FastStream."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final, Protocol

import aio_pika
import nats
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from nats.js.api import ConsumerConfig, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from projection_guard.faststream import Guarding, partition_of
from tests.brokers.world import PARTITIONS, Fact

__all__ = [
    "ACK_WAIT_SECONDS",
    "BROKERS",
    "BrokerUnderTest",
    "Nats",
    "Rabbit",
    "nats_url",
    "rabbit_url",
    "why_no_broker",
]

ACK_WAIT_SECONDS: Final = 4.0
_HEARTBEAT_SECONDS: Final = 4
_quiet: Final = logging.getLogger("brokers.faststream")  # a line for each message would be most of the work
_quiet.setLevel(logging.WARNING)


def nats_url() -> str:
    """Return where NATS is."""
    return os.environ.get("PROJECTION_GUARD_TEST_NATS", "nats://127.0.0.1:4222")


def rabbit_url() -> str:
    """Return where RabbitMQ is."""
    return os.environ.get("PROJECTION_GUARD_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/")


def payload(fact: Fact) -> bytes:
    """Return what a message of this event holds."""
    return json.dumps(asdict(fact)).encode()


class BrokerUnderTest(Protocol):
    """A broker that a run is made with; `run` is part of every name there.

    `most_at_once` is how many messages of a partition may be on their way: the guard takes 1 and no other.
    """

    def __init__(self, run: str, *, most_at_once: int = 1) -> None: ...

    def made(self) -> Any:
        """Make what the run needs there, and take it away afterwards (an async context manager)."""
        ...

    async def publish(self, facts: Iterable[Fact]) -> int:
        """Publish all; return how many messages the broker says it has."""
        ...

    async def waiting(self) -> int:
        """Count the messages that nobody has settled yet."""
        ...

    def broker(self, guarding: Guarding, *, graceful_seconds: float = 5) -> Any:
        """Return FastStream's broker."""
        ...

    def subscriber(self, broker: Any, partition: int) -> Any:
        """Return a subscriber of one partition."""
        ...


class Nats:
    """JetStream: a subject and a durable pull consumer for each partition, one message of it on its way at a time."""

    def __init__(self, run: str, *, most_at_once: int = 1) -> None:
        self._name = f"projection-guard-{run}"
        self._most_at_once = most_at_once
        self._connection: Any = None

    @asynccontextmanager
    async def made(self) -> AsyncIterator[None]:
        """Make the stream, and delete it afterwards."""
        self._connection = await nats.connect(nats_url(), connect_timeout=5)
        jetstream = self._connection.jetstream()
        await jetstream.add_stream(
            StreamConfig(name=self._name, subjects=[f"{self._name}.*"], storage=StorageType.MEMORY)
        )
        try:
            yield
        finally:
            await jetstream.delete_stream(self._name)
            await self._connection.close()

    async def publish(self, facts: Iterable[Fact]) -> int:
        """Publish all, and look what the stream holds."""
        for number, fact in enumerate(facts):
            await self._connection.publish(f"{self._name}.{partition_of(fact.stream_id, PARTITIONS)}", payload(fact))
            if number % 500 == 499:
                await self._connection.flush(timeout=30)
        await self._connection.flush(timeout=30)
        info = await self._connection.jetstream().stream_info(self._name)
        return int(info.state.messages)

    async def waiting(self) -> int:
        """Count what is pending, and what is on its way."""
        jetstream, total = self._connection.jetstream(), 0
        for partition in range(PARTITIONS):
            try:
                info = await jetstream.consumer_info(self._name, f"p{partition}")
            except NotFoundError:
                return -1
            total += info.num_pending + info.num_ack_pending
        return total

    def broker(self, guarding: Guarding, *, graceful_seconds: float = 5) -> NatsBroker:
        """Return FastStream's broker."""
        return NatsBroker(nats_url(), middlewares=[guarding], graceful_timeout=graceful_seconds, logger=_quiet)

    def subscriber(self, broker: Any, partition: int) -> Any:
        """Return a pull subscriber; the consumer is the same for all processes."""
        return broker.subscriber(
            f"{self._name}.{partition}",
            stream=JStream(self._name, declare=False),
            durable=f"p{partition}",
            config=ConsumerConfig(max_ack_pending=self._most_at_once, ack_wait=ACK_WAIT_SECONDS),
            pull_sub=PullSub(batch_size=1, timeout=5),
            ack_policy=AckPolicy.MANUAL,
        )


class Rabbit:
    """A queue for each partition with a single active consumer, which is sent one message at a time."""

    def __init__(self, run: str, *, most_at_once: int = 1) -> None:
        self._name = f"projection-guard-{run}"
        self._most_at_once = most_at_once
        self._connection: Any = None

    def _queue(self, partition: int) -> str:
        return f"{self._name}-{partition}"

    @asynccontextmanager
    async def made(self) -> AsyncIterator[None]:
        """Make the queues, and delete them afterwards."""
        self._connection = await aio_pika.connect(rabbit_url(), timeout=10)
        channel = await self._connection.channel(publisher_confirms=False)
        exchange = await channel.declare_exchange(self._name, aio_pika.ExchangeType.DIRECT, durable=True)
        await channel.declare_exchange(self.dead_letters, aio_pika.ExchangeType.FANOUT, durable=True)
        for partition in range(PARTITIONS):
            queue = await channel.declare_queue(self._queue(partition), durable=True, arguments=self._arguments)
            await queue.bind(exchange, routing_key=str(partition))
        try:
            yield
        finally:
            channel = await self._connection.channel()
            for partition in range(PARTITIONS):
                await channel.queue_delete(self._queue(partition))
            await channel.exchange_delete(self._name)
            await channel.exchange_delete(self.dead_letters)
            await self._connection.close()

    @property
    def dead_letters(self) -> str:
        """Name the exchange that what is no event goes to: this run's own, which no other run's goes to."""
        return f"{self._name}-dead"

    @property
    def _arguments(self) -> Any:
        return {"x-single-active-consumer": True, "x-dead-letter-exchange": self.dead_letters}

    async def publish(self, facts: Iterable[Fact]) -> int:
        """Publish all, and count what the queues hold once that is as much, where nobody consumes yet."""
        channel = await self._connection.channel(publisher_confirms=False)
        exchange = await channel.get_exchange(self._name)
        before, published = await self.waiting(), 0
        for fact in facts:
            message = aio_pika.Message(payload(fact), content_type="application/json")
            await exchange.publish(message, routing_key=str(partition_of(fact.stream_id, PARTITIONS)))
            published += 1
        if await self._counted("consumer_count"):
            return published
        held, looks = 0, 0
        while held != published and looks < 300:  # it is not told when a message has come to its queue
            await asyncio.sleep(0.1)
            held, looks = await self.waiting() - before, looks + 1
        return held

    async def waiting(self) -> int:
        """Count what is ready; what is on its way is not told here."""
        return await self._counted("message_count")

    async def _counted(self, what: str) -> int:
        channel = await self._connection.channel()
        try:
            names = [self._queue(partition) for partition in range(PARTITIONS)]
            queues = [await channel.declare_queue(name, passive=True) for name in names]
            return sum(getattr(queue.declaration_result, what) for queue in queues)
        finally:
            await channel.close()

    def broker(self, guarding: Guarding, *, graceful_seconds: float = 5) -> RabbitBroker:
        """Return FastStream's broker; its connection is given up soon when a process stands still."""
        return RabbitBroker(
            f"{rabbit_url()}?heartbeat={_HEARTBEAT_SECONDS}",
            middlewares=[guarding],
            graceful_timeout=graceful_seconds,
            logger=_quiet,
        )

    def subscriber(self, broker: Any, partition: int) -> Any:
        """Return a subscriber; all processes have one, of which the broker keeps one active."""
        return broker.subscriber(
            RabbitQueue(self._queue(partition), durable=True, routing_key=str(partition), arguments=self._arguments),
            RabbitExchange(self._name, type=ExchangeType.DIRECT, durable=True),
            channel=Channel(prefetch_count=self._most_at_once),
            ack_policy=AckPolicy.MANUAL,
        )


BROKERS: Final[dict[str, type[Nats | Rabbit]]] = {"nats": Nats, "rabbitmq": Rabbit}


def why_no_broker(name: str) -> str | None:
    """Return why a broker cannot be tested with here; None where it answers."""

    async def ask() -> None:
        if name == "nats":
            connection = await nats.connect(nats_url(), connect_timeout=2, allow_reconnect=False)
            await connection.jetstream().account_info()
            await connection.close()
        else:
            await (await aio_pika.connect(rabbit_url(), timeout=5)).close()

    url, variable = (
        (nats_url(), "PROJECTION_GUARD_TEST_NATS")
        if name == "nats"
        else (rabbit_url(), "PROJECTION_GUARD_TEST_RABBITMQ")
    )
    try:
        asyncio.run(asyncio.wait_for(ask(), 10))
    except Exception as error:
        return f"no {name} answers at {url.rpartition('@')[2]} ({type(error).__name__}); name one in ${variable}"
    return None
