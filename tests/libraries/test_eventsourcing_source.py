"""What an application of `eventsourcing` does to its log, and what a source makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast
from uuid import UUID, uuid4

import pytest

from tests.libraries.eventsourcing_shop import Cart, Noted, Shop, change, environment

pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'projection-guard[postgresql]'")

from eventsourcing.application import Application
from eventsourcing.dcb.application import DCBApplication
from eventsourcing.domain import Aggregate, DomainEvent
from eventsourcing.persistence import ApplicationRecorder, IntegrityError, Notification, StoredEvent, Transcoding
from eventsourcing.utils import get_topic

from projection_guard import EventMapping
from projection_guard._source import Share
from projection_guard.errors import ConfigurationError, SourceError
from projection_guard.eventsourcing import ApplicationSource
from projection_guard.testing import PostgresServer


@pytest.fixture(scope="module")
def one_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database for all logs of this file, one after the other."""
    with postgres_server.database() as url:
        yield url


# -- holes


@pytest.fixture
def shop_on_postgresql(one_postgres_url: str) -> Iterator[Shop]:
    """An application that writes as it does by default."""
    with Shop(env=environment("postgresql", one_postgres_url)) as shop:
        yield shop
    change(one_postgres_url, "DROP TABLE shop_events CASCADE")


def test_what_is_rolled_back_leaves_a_hole_that_is_final(shop_on_postgresql: Shop) -> None:
    """A version that another one has saved first: its number is drawn in vain, and nobody waits for it."""
    shop = shop_on_postgresql
    cart_id = shop.open_cart("someone")
    shop.add(cart_id, 1)
    added: Any = Cart.Added
    late = added(originator_id=cart_id, originator_version=2, timestamp=added.create_timestamp(), amount=2)
    with pytest.raises(IntegrityError):
        shop.save(late)
    shop.add(cart_id, 3)
    batch = ApplicationSource(shop).read(0, 10)
    assert [recorded.sequence for recorded in batch.events] == [1, 2, 4]
    assert [(hole.first, hole.last, hole.is_given_up) for hole in batch.skipped] == [(3, 3, False)]
    assert (batch.position, batch.is_held) == (4, False)


def test_numbers_that_are_drawn_in_blocks_are_refused(shop_on_postgresql: Shop, one_postgres_url: str) -> None:
    """With a CACHE each session draws from a block of its own: what is missing may come after years."""
    shop = shop_on_postgresql
    change(one_postgres_url, "ALTER SEQUENCE shop_events_notification_id_seq CACHE 10 RESTART WITH 5")
    shop.open_cart("someone")
    with pytest.raises(ConfigurationError, match="CACHE above 1"):
        ApplicationSource(shop).read(0, 10)


# -- what is in a batch


class Money:
    """A value of the application's own."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    __hash__ = None  # type: ignore[assignment]


class MoneyAsCents(Transcoding):
    """How it is stored."""

    type = Money
    name = "money"

    def encode(self, obj: Money) -> int:
        return obj.cents

    def decode(self, data: int) -> Money:
        return Money(data)


class Wallet(Aggregate):
    """An aggregate whose events are stored in two versions."""

    class Paid(Aggregate.Event):
        """Something was paid."""

        price: Money
        currency: str
        class_version: ClassVar[int] = 2

        @staticmethod
        def upcast_v1_v2(state: dict[str, Any]) -> None:
            """Before, everything was in euros."""
            state["currency"] = "EUR"


class Bank(Application[UUID]):
    """Compresses, encrypts and transcodes."""

    def register_transcodings(self, transcoder: Any) -> None:
        super().register_transcodings(transcoder)
        transcoder.register(MoneyAsCents())


def test_events_are_made_as_the_application_makes_them() -> None:
    """Decompressed, decrypted, transcoded and upcast; as the mapper has it."""
    from eventsourcing.cryptography import AESCipher

    with Bank(
        env={
            "COMPRESSOR_TOPIC": "zlib",
            "CIPHER_TOPIC": "eventsourcing.cryptography:AESCipher",
            "CIPHER_KEY": AESCipher.create_key(num_bytes=16),
        }
    ) as bank:
        stored = _as_stored(bank, Wallet.Paid, price=Money(5))
        assert b"price" not in stored.state
        bank.recorder.insert_events([stored])
        (recorded,) = ApplicationSource(bank).read(0, 10).events
        paid: Any = recorded.event
        assert (type(paid), paid.price, paid.currency) == (Wallet.Paid, Money(5), "EUR")


def _as_stored(bank: Bank, kind: Any, **state: Any) -> StoredEvent:
    """Return an event as the application's version 1 has stored it."""
    plain = bank.mapper.transcoder.encode({"timestamp": kind.create_timestamp(), **state})
    assert bank.mapper.compressor is not None
    assert bank.mapper.cipher is not None
    sealed = bank.mapper.cipher.encrypt(bank.mapper.compressor.compress(plain))
    return StoredEvent(originator_id=uuid4(), originator_version=1, topic=get_topic(kind), state=sealed)


@pytest.mark.parametrize("topic", ["tests.libraries.nothing:Cart.Gone", "gone"])
def test_an_event_that_cannot_be_made_stops_no_other(topic: str) -> None:
    """Its class is gone: it comes with what the log says of it, and with the error."""
    with Shop() as shop:
        cart_id = shop.open_cart("someone")
        shop.recorder.insert_events([StoredEvent(cart_id, 2, topic, b"{}"), StoredEvent(cart_id, 3, topic, b"{}")])
        first, gone, _ = ApplicationSource(shop).read(0, 10).events
        assert first.error is None
        assert gone.error is not None
        assert gone.record is not None
        assert (gone.record.event_id, gone.record.stream_id) == (f"{cart_id}:2", str(cart_id))
        assert gone.record.event_type == topic.rpartition(".")[2]


@pytest.mark.parametrize("originator_id", [uuid4(), "cart-7"], ids=["uuid", "text"])
def test_a_mapping_reads_what_the_source_says(originator_id: UUID | str) -> None:
    """`EventMapping` without configuration: of a domain event, and of its notification."""
    happened: Any = (
        Noted(originator_id, 3)
        if isinstance(originator_id, str)
        else DomainEvent(originator_id=originator_id, originator_version=3, timestamp=Cart.Added.create_timestamp())
    )
    with Application[Any]() as application:
        application.save(happened)
        (recorded,) = ApplicationSource(application).read(0, 10).events
        read = EventMapping().read(recorded.event)
        said = recorded.record
        assert said is not None
        assert (read.event_id, read.event_type, read.stream_id) == (said.event_id, said.event_type, said.stream_id)
        assert (read.event_id, said.sequence, said.stream_version) == (f"{originator_id}:3", 1, 3)
        assert read.occurred_at == getattr(happened, "timestamp", None)
        (notification,) = application.recorder.select_notifications(start=1, limit=1)
        noticed = EventMapping().read(notification)
        assert (noticed.sequence, noticed.stream_id, noticed.stream_version) == (1, str(originator_id), 3)
        assert (noticed.event_id, noticed.event_type) == ("1", get_topic(type(happened)))


def test_a_uuid_in_a_column_of_text_is_the_events_own(tmp_path: Path) -> None:
    """SQLite holds it without hyphens there; in shares, streams and by its id it is found as the event has it."""
    with Shop(env={**environment("sqlite", f"{tmp_path}/log.db"), "ORIGINATOR_ID_TYPE": "text"}) as shop:
        stream_id = str(shop.open_cart("someone"))
        source = ApplicationSource(shop)
        (recorded,) = source.read(0, 10).events
        assert recorded.record is not None
        assert recorded.record.stream_id == stream_id
        shares = [Share(partitions=frozenset({number}), of=4) for number in range(4)]
        given = [source.read(0, 10, share=share).events for share in shares]
        assert [bool(events) for events in given] == [share.has(stream_id, "") for share in shares]
        assert source.read_stream(stream_id, None, 10) == [recorded]
        assert source.get(f"{stream_id}:1") == recorded


def test_an_event_is_found_in_the_log_again(tmp_path: Path) -> None:
    """A retry, days later, in another process: where it stands is looked up; an event of no log is told."""
    settings = environment("sqlite", f"{tmp_path}/log.db")
    with Shop(env=settings) as shop:
        shop.add(shop.open_cart("someone"), 5)
        found = ApplicationSource(shop).read(0, 10).events[1].event
    with Shop(env=settings) as again:
        source = ApplicationSource(again)
        assert source.notification_id_of(found) == 2
        with pytest.raises(SourceError, match=r"has no event .*:1; is it one of its own"):
            source.notification_id_of(Cart("other").pending_events[0])


# -- what is refused


class Elsewhere(ApplicationRecorder):
    """A recorder of somebody else."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        raise NotImplementedError

    def select_events(self, originator_id: Any, **kwargs: Any) -> Sequence[StoredEvent]:
        raise NotImplementedError

    def select_notifications(self, *args: Any, **kwargs: Any) -> Sequence[Notification]:
        raise NotImplementedError

    def max_notification_id(self) -> int | None:
        raise NotImplementedError

    def subscribe(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


def test_recorders_of_others_and_dcb_are_refused() -> None:
    """Whether their holes are final is not known; a DCB application has a source of its own."""
    with Application[Any]() as application:
        application.recorder = Elsewhere()
        with pytest.raises(ConfigurationError, match="Elsewhere is no recorder of eventsourcing's"):
            ApplicationSource(application)
    with DCBApplication() as tagged, pytest.raises(ConfigurationError, match="DCBApplicationSource reads the events"):
        ApplicationSource(cast("Any", tagged))
