"""What a `Guarding` takes, refuses and settles: on FastStream's Kafka in memory, whose messages say how they ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faststream.confluent", reason="faststream[confluent] is not installed", exc_type=ImportError)
pytest.importorskip("faststream.nats", reason="faststream[nats] is not installed", exc_type=ImportError)
pytest.importorskip("faststream.rabbit", reason="faststream[rabbit] is not installed", exc_type=ImportError)
pytest.importorskip("faststream.redis", reason="faststream[redis] is not installed", exc_type=ImportError)

from faststream import AckPolicy, BaseMiddleware, Depends
from faststream.confluent import KafkaBroker, TestKafkaBroker
from faststream.message import AckStatus, StreamMessage
from faststream.nats import JStream, NatsBroker, PullSub
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue
from faststream.redis import RedisBroker, StreamSub
from nats.js.api import AckPolicy as NatsAcks
from nats.js.api import ConsumerConfig, RetentionPolicy
from pydantic import TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from projection_guard import (
    AsyncProjectionGuard,
    ConfigurationError,
    EventMapping,
    Notice,
    NoticeKind,
    ProjectionGuard,
    RegistrationError,
)
from projection_guard.faststream import Guarding, header, message_key, partition_of
from tests.bed import AT_ONCE

MANUAL: Any = AckPolicy.MANUAL


@dataclass(frozen=True)
class Moved:
    """An event of a warehouse."""

    event_id: str
    stream_id: str
    n: int


class Shop:
    """A guard on SQLite with one projection behind Kafka in memory, and the list of how each message ended."""

    def __init__(self, folder: Path, **options: Any) -> None:
        url = f"sqlite+aiosqlite:///{folder}/shop.db"
        self.engine = create_async_engine(url)
        self.notices: list[Notice] = []
        mapping = options.pop("mapping", None)
        self.guard = AsyncProjectionGuard(
            self.engine, retry=AT_ONCE, worker="external", mapping=mapping, observers=[self.notices.append]
        )
        self.ended: list[AckStatus | None] = []
        self.applied: list[Any] = []
        self.is_poison: Callable[[Any], bool] = lambda _: False
        self.guarding = Guarding(self.guard, retry_seconds=0.01, **options)
        self.broker = KafkaBroker(middlewares=[self._watching, self.guarding])

    def _watching(self, msg: Any, /, *, context: Any) -> BaseMiddleware[Any, Any]:
        ended = self.ended

        class Watching(BaseMiddleware[Any, Any]):
            async def consume_scope(self, call_next: Any, msg: StreamMessage[Any]) -> Any:
                try:
                    return await call_next(msg)
                finally:
                    ended.append(msg.committed)

        return Watching(msg, context=context)

    def subscriber(self, topic: str = "moves") -> Any:
        """Return a subscriber of Kafka with what it needs."""
        return self.broker.subscriber(topic, group_id="shop", ack_policy=MANUAL, auto_offset_reset="earliest")

    def on(self, *subscribers: Any, **options: Any) -> None:
        """Register the projection."""

        @self.guarding.on(*subscribers or (self.subscriber(),))
        @self.guard.projection("Stock", **options)
        async def stock(event: Moved, connection: AsyncConnection) -> None:
            self.applied.append(event)
            if self.is_poison(event):
                raise LookupError(event.n)

    def play(self, scene: Callable[[Any], Awaitable[None]]) -> None:
        """Run a scene with the broker started."""

        async def whole() -> None:
            await self.guard.migrate()
            async with TestKafkaBroker(self.broker) as broker:
                await scene(broker)
            await self.guard.close()
            await self.engine.dispose()

        asyncio.run(whole())


def moved(stream: str, n: int) -> dict[str, object]:
    """Return the body of a message."""
    return {"event_id": f"{stream}#{n}", "stream_id": stream, "n": n}


# -- settling


def test_a_message_is_acknowledged_once_its_event_is_on_record(tmp_path: Path) -> None:
    """Applied, duplicate, failed and parked are all durable: none of them comes again."""
    shop = Shop(tmp_path)
    shop.on()
    shop.is_poison = lambda event: event.n == 2

    async def scene(broker: Any) -> None:
        for n in (1, 1, 2, 3, 2):
            await broker.publish(moved("A", n), "moves")
        assert (await shop.guard.health("Stock")).active_failures == 1

    shop.play(scene)
    assert shop.ended == [AckStatus.ACKED] * 5
    assert [event.n for event in shop.applied] == [1, 2]
    assert all(type(event) is Moved for event in shop.applied), "FastStream decodes into the handler's annotation"


def test_one_poison_event_in_100_streams_holds_its_own_stream_alone(tmp_path: Path) -> None:
    """The others go on; after the fix the stream is complete and in order, each event applied once."""
    shop = Shop(tmp_path)
    done: list[tuple[str, int]] = []
    cured = False

    @shop.guarding.on(shop.subscriber())
    @shop.guard.projection("Stock")
    async def stock(event: Moved, connection: AsyncConnection) -> None:
        if (event.stream_id, event.n) == ("s7", 1) and not cured:
            raise LookupError
        done.append((event.stream_id, event.n))

    async def scene(broker: Any) -> None:
        nonlocal cured
        for n in (0, 1, 2):
            for stream in range(100):
                await broker.publish(moved(f"s{stream}", n), "moves")
        assert sorted(done) == sorted((f"s{each}", n) for each in range(100) for n in (0, 1, 2) if each != 7 or n < 1)
        cured = True
        await shop.guard.worker().run_once()

    shop.play(scene)
    assert len(done) == len(set(done)) == 300
    assert [n for stream, n in done if stream == "s7"] == [0, 1, 2]
    assert shop.ended == [AckStatus.ACKED] * 300


def test_a_message_comes_again_while_the_store_is_away(tmp_path: Path) -> None:
    """It is given back, and no handler's effect is left behind; when the store is back it is taken."""
    shop = Shop(tmp_path)
    shop.on()

    async def rename(before: str, after: str) -> None:
        async with shop.engine.begin() as connection:
            await connection.execute(text(f"ALTER TABLE {before} RENAME TO {after}"))

    async def scene(broker: Any) -> None:
        await broker.publish(moved("A", 1), "moves")
        await rename("projection_streams", "away")
        await broker.publish(moved("A", 2), "moves")
        await rename("away", "projection_streams")
        await broker.publish(moved("A", 2), "moves")

    shop.play(scene)
    assert shop.ended == [AckStatus.ACKED, AckStatus.NACKED, AckStatus.ACKED]
    assert [event.n for event in shop.applied] == [1, 2]


def test_a_cancelled_delivery_is_given_back(tmp_path: Path) -> None:
    """The cancellation is raised, nothing is recorded, and the message comes again."""
    shop = Shop(tmp_path)
    begun, calls = asyncio.Event(), 0

    @shop.guarding.on(shop.subscriber())
    @shop.guard.projection("Stock")
    async def stock(event: Moved, connection: AsyncConnection) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            begun.set()
            await asyncio.Event().wait()

    async def scene(broker: Any) -> None:
        first = asyncio.create_task(broker.publish(moved("A", 1), "moves"))
        await begun.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await broker.publish(moved("A", 1), "moves")
        assert (await shop.guard.health("Stock")).active_failures == 0

    shop.play(scene)
    assert shop.ended == [AckStatus.NACKED, AckStatus.ACKED]
    assert calls == 2


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"event_id": "A#1", "stream_id": "A", "n": "many"}, id="not of its class"),
        pytest.param({"event_id": "", "stream_id": "A", "n": 1}, id="no id"),
        pytest.param({"event_id": "A#1", "stream_id": "", "n": 1}, id="no stream"),
        pytest.param(b"\xff", id="no JSON"),
    ],
)
def test_what_is_no_event_is_rejected_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, body: Any) -> None:
    """No handler is called; observers and the log hear of it, without what was in it; the next one goes on.

    Kafka's way to reject is to pass it over: the log keeps it.
    """
    shop = Shop(tmp_path)
    shop.on()

    async def scene(broker: Any) -> None:
        await broker.publish(body, "moves", headers={"content-type": "application/json"})
        await broker.publish(moved("A", 2), "moves")

    shop.play(scene)
    assert shop.ended == [AckStatus.ACKED, AckStatus.ACKED]
    assert [event.n for event in shop.applied] == [2]
    assert [notice.kind for notice in shop.notices] == [NoticeKind.UNREADABLE]
    assert "is no event" in caplog.text
    assert "many" not in caplog.text


def test_what_is_no_event_may_be_held_or_kept_elsewhere(tmp_path: Path) -> None:
    """Held, it comes again until a person has seen to it; a function's keeping acknowledges it, its error does not."""
    kept: list[object] = []

    async def keep(message: StreamMessage[Any], error: Exception) -> None:
        if not kept:
            kept.append(None)
            raise OSError
        kept.append(message.body)

    ended: list[AckStatus | None] = []
    for number, (unreadable, tries) in enumerate([("hold", 1), (keep, 2)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        shop = Shop(folder, unreadable=unreadable)
        shop.on()

        async def scene(broker: Any, tries: int = tries) -> None:
            for _ in range(tries):
                await broker.publish({"what": "is this"}, "moves")

        shop.play(scene)
        ended += shop.ended
    assert ended == [AckStatus.NACKED, AckStatus.NACKED, AckStatus.ACKED]
    assert kept == [None, b'{"what":"is this"}']


def test_an_error_that_is_not_the_messages_rejects_nothing(tmp_path: Path) -> None:
    """A bug in `can_handle`, say, raises a ValueError for each message: all of them come again."""
    shop = Shop(tmp_path)

    class Stock:
        def can_handle(self, event: object) -> bool:
            raise ValueError

        async def handle(self, event: Moved) -> None:
            raise AssertionError

    shop.guarding.on(shop.subscriber())(shop.guard.register(Stock()))

    async def scene(broker: Any) -> None:
        await broker.publish(moved("A", 1), "moves")

    shop.play(scene)
    assert shop.ended == [AckStatus.NACKED]


def missing() -> None:
    """Look for what is not there."""
    raise KeyError("a setting")


def unfit() -> None:
    """Validate what is no part of the message, with the same library that reads the message."""
    TypeAdapter(int).validate_python("no number")


@pytest.mark.parametrize("depends", [missing, unfit])
def test_an_error_of_a_dependency_rejects_nothing(tmp_path: Path, depends: Callable[[], None]) -> None:
    """Whatever it raises: it is not the message's fault."""
    shop = Shop(tmp_path)
    shop.on(
        shop.broker.subscriber(
            "moves",
            group_id="shop",
            ack_policy=MANUAL,
            auto_offset_reset="earliest",
            dependencies=[Depends(depends)],
        )
    )

    async def scene(broker: Any) -> None:
        await broker.publish(moved("A", 1), "moves")

    shop.play(scene)
    assert shop.ended == [AckStatus.NACKED]
    assert shop.notices == []


def test_a_broker_without_the_middleware_acknowledges_nothing(tmp_path: Path) -> None:
    """A line that was forgotten is an error at the first message, which is not lost by it."""
    shop = Shop(tmp_path)
    shop.broker = KafkaBroker(middlewares=[shop._watching])
    shop.on()

    async def scene(broker: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"middlewares=\[guarding\]"):
            await broker.publish(moved("A", 1), "moves")

    shop.play(scene)
    assert shop.ended == [None]
    assert shop.applied == []


# -- what a message says


def test_the_stream_may_be_told_by_the_message(tmp_path: Path) -> None:
    """By Kafka's key, the id by a header: the events need not say it themselves."""
    shop = Shop(
        tmp_path,
        mapping=EventMapping(event_id=header("ce-id"), event_type=lambda _: "Moved", stream_id=message_key()),
    )

    @shop.guarding.on(shop.subscriber())
    @shop.guard.projection("Stock")
    async def stock(event: dict[str, int], connection: AsyncConnection) -> None:
        shop.applied.append(event["n"])
        if event["n"] == 1:
            raise LookupError

    async def scene(broker: Any) -> None:
        for n, key in enumerate([b"A", b"A", b"B", b"A"], 1):
            await broker.publish({"n": n}, "moves", key=key, headers={"ce-id": f"id-{n}"})
        streams = await shop.guard.streams("Stock", state="blocked")
        assert [stream.stream_id for stream in streams.items] == ["A"]

    shop.play(scene)
    assert shop.applied == [1, 3]
    assert shop.ended == [AckStatus.ACKED] * 4


def test_all_projections_may_share_a_subscriber(tmp_path: Path) -> None:
    """Each gets the event; other subscribers of the broker are left alone."""
    shop = Shop(tmp_path)
    seen: list[str] = []
    for name in ("Stock", "Ledger"):

        @shop.guard.projection(name)
        async def project(event: Moved, connection: AsyncConnection, *, name: str = name) -> None:
            seen.append(name)

    shop.guarding.all_on(shop.subscriber(), event=Moved)

    @shop.broker.subscriber("other")
    async def other(body: str) -> None:
        seen.append(body)

    async def scene(broker: Any) -> None:
        await broker.publish(moved("A", 1), "moves")
        await broker.publish("unguarded", "other")

    shop.play(scene)
    assert sorted(seen) == ["Ledger", "Stock", "unguarded"]


def test_partitions_are_the_same_everywhere() -> None:
    """A publisher in another language finds them too: the first four bytes of the MD5, modulo their number."""
    assert [partition_of(key, 8) for key in ("A", "s7", "日本")] == [0, 4, 6]


# -- refusing


def nats(**options: Any) -> Any:
    """Return a subscriber of JetStream as it has to be, but for these options."""
    right: dict[str, Any] = {
        "stream": JStream("shop"),
        "durable": "stock",
        "config": ConsumerConfig(max_ack_pending=1),
        "pull_sub": PullSub(),
        "ack_policy": MANUAL,
    }
    return NatsBroker().subscriber("shop.0", **{**right, **options})


SERIAL = {"x-single-active-consumer": True, "x-dead-letter-exchange": "dead"}


def rabbit(queue: dict[str, Any] | None = None, **options: Any) -> Any:
    """Return the same of RabbitMQ."""
    made: Any = RabbitQueue
    right: dict[str, Any] = {"channel": Channel(prefetch_count=1), "ack_policy": MANUAL}
    return RabbitBroker().subscriber(made("shop-0", **(queue or {"arguments": SERIAL})), **{**right, **options})


def kafka(**options: Any) -> Any:
    """Return the same of Kafka."""
    right: dict[str, Any] = {"group_id": "stock", "ack_policy": MANUAL, "auto_offset_reset": "earliest"}
    return KafkaBroker().subscriber("shop", **{**right, **options})


def redis(sub: Any = None, **options: Any) -> Any:
    """Return the same of Redis: it takes up what others of its group have left."""
    stream = sub or StreamSub("shop", group="stock", consumer="c1", min_idle_time=60_000)
    return RedisBroker().subscriber(**{"stream": stream, "ack_policy": MANUAL, **options})


QUORUM = {"queue_type": QueueType.QUORUM, "arguments": SERIAL}


@pytest.mark.parametrize(
    ("subscriber", "words"),
    [
        pytest.param(lambda: nats(ack_policy=AckPolicy.NACK_ON_ERROR), "AckPolicy.MANUAL", id="nats acks by itself"),
        pytest.param(lambda: nats(config=None), r"max_ack_pending=1", id="nats sends ahead"),
        pytest.param(
            lambda: nats(config=ConsumerConfig(max_ack_pending=1, max_deliver=5)), "max_deliver", id="nats gives up"
        ),
        pytest.param(lambda: nats(durable=None), "durable=", id="nats forgets the consumer"),
        pytest.param(lambda: nats(pull_sub=PullSub(batch=True)), "batches", id="nats in batches"),
        pytest.param(
            lambda: nats(stream=JStream("shop", retention=RetentionPolicy.WORK_QUEUE)),
            "unreadable",
            id="nats work queue",
        ),
        pytest.param(
            lambda: NatsBroker().subscriber("shop", ack_policy=MANUAL), "stream=", id="nats without JetStream"
        ),
        pytest.param(lambda: rabbit(channel=None), "prefetch_count=1", id="rabbit sends ahead"),
        pytest.param(
            lambda: rabbit({"arguments": {**SERIAL, "x-single-active-consumer": False}}),
            "single-active",
            id="rabbit shares",
        ),
        pytest.param(
            lambda: rabbit({"arguments": {"x-single-active-consumer": True}}), "dead-letter", id="rabbit drops"
        ),
        pytest.param(lambda: rabbit(QUORUM), "x-delivery-limit", id="rabbit gives up"),
        pytest.param(
            lambda: nats(config=ConsumerConfig(max_ack_pending=1, ack_policy=NatsAcks.ALL)),
            "ack_policy=",
            id="nats acks others",
        ),
        pytest.param(lambda: rabbit({"arguments": SERIAL, "auto_delete": True}), "go away", id="rabbit deletes"),
        pytest.param(lambda: rabbit({"arguments": SERIAL, "durable": False}), "go away", id="rabbit forgets"),
        pytest.param(lambda: kafka(auto_offset_reset="latest"), "earliest", id="kafka begins at the end"),
        pytest.param(lambda: kafka(ack_policy=AckPolicy.ACK_FIRST), "AckPolicy.MANUAL", id="kafka acks first"),
        pytest.param(lambda: kafka(batch=True), "batches", id="kafka in batches"),
        pytest.param(redis, "order='none'", id="redis has no order"),
        pytest.param(lambda: RedisBroker().subscriber(list="shop"), "stream=", id="redis lists"),
    ],
)
def test_what_would_lose_messages_or_their_order_is_refused(tmp_path: Path, subscriber: Any, words: str) -> None:
    """When it is registered, with a sentence that says what to set."""
    shop = Shop(tmp_path)
    with pytest.raises(RegistrationError, match=words):
        shop.on(subscriber())


@pytest.mark.parametrize("subscriber", [nats, rabbit, kafka])
def test_what_keeps_the_promises_is_taken(tmp_path: Path, subscriber: Any) -> None:
    """Also several at once, the partitions of one projection."""
    Shop(tmp_path).on(subscriber(), subscriber())


def test_a_projection_without_an_order_may_be_sent_ahead(tmp_path: Path) -> None:
    """Then Redis will do as well, if it is said what becomes of what is no event."""
    shop = Shop(tmp_path, unreadable="hold")
    shop.on(nats(config=None), rabbit({"arguments": {}}, channel=None), redis(), order="none")


def test_a_group_of_redis_needs_somebody_who_takes_up_what_was_left(tmp_path: Path) -> None:
    """Redis brings a message again to who claims it: without such a one what was given back would wait for ever."""
    shop = Shop(tmp_path, unreadable="hold")
    new = StreamSub("shop", group="stock", consumer="c0")
    with pytest.raises(RegistrationError, match="min_idle_time"):
        shop.on(redis(new), order="none")
    with pytest.raises(RegistrationError, match="min_idle_time"):
        Shop(tmp_path, unreadable="hold").on(
            redis(new), redis(StreamSub("shop", group="other", consumer="c1", min_idle_time=9)), order="none"
        )
    Shop(tmp_path, unreadable="hold").on(redis(new), redis(), order="none")


def test_a_channel_of_rabbitmq_is_not_shared(tmp_path: Path) -> None:
    """It is closed when its subscriber ends, so that what it has in hand goes back to its place."""
    channel = Channel(prefetch_count=1)
    with pytest.raises(RegistrationError, match="a Channel of its own"):
        Shop(tmp_path).on(rabbit(channel=channel), rabbit(channel=channel))
    Shop(tmp_path).on(rabbit(channel=channel), rabbit(channel=channel), order="none")


def test_one_line_of_events_has_one_subscriber(tmp_path: Path) -> None:
    """A projection with order='global' cannot be received by two at a time."""
    with pytest.raises(RegistrationError, match="order='global'"):
        Shop(tmp_path).on(nats(), nats(), order="global")


def test_a_subscriber_has_one_projection(tmp_path: Path) -> None:
    """FastStream would give a message to the first handler only."""
    shop = Shop(tmp_path)
    subscriber = nats()
    shop.on(subscriber)
    with pytest.raises(RegistrationError, match="all_on"):

        @shop.guarding.on(subscriber)
        @shop.guard.projection("Ledger")
        async def ledger(event: Moved, connection: AsyncConnection) -> None: ...


def test_a_blocking_guard_is_refused(tmp_path: Path) -> None:
    """FastStream runs on asyncio."""
    with ProjectionGuard(f"sqlite:///{tmp_path}/x.db") as guard:
        blocking: Any = guard
        with pytest.raises(ConfigurationError, match="AsyncProjectionGuard"):
            Guarding(blocking)
