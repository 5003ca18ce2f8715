"""Events of `eventsource-py` and their envelopes: read without configuration, and back from JSON as they were."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from projection_guard import EventMapping, EventRecord, JsonCodec
from projection_guard.testing.codec_conformance import CodecConformance
from tests.libraries.eventsource_events import append, eventsource, id_of

AT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


class Currency(Enum):
    EURO = "EUR"


class Line(BaseModel):
    article: str
    price: Decimal


@eventsource.register_event
class OrderPlaced(eventsource.DomainEvent):  # type: ignore[misc]
    """What else it has is its own business: none of it is its id, stream or position."""

    aggregate_type: str = "Order"
    id: int = 7
    stream_id: str = "not this one"
    sequence: int = 3
    currency: Currency = Currency.EURO
    lines: tuple[Line, ...] = ()
    delivered: datetime | None = None
    anything: Any = None


def placed(number: int, **fields: Any) -> Any:
    """Make an event, the same one in each process."""
    return OrderPlaced(
        event_id=UUID(int=number),
        aggregate_id=id_of("A"),
        aggregate_version=5,
        correlation_id=UUID(int=99),
        occurred_at=AT,
        **fields,
    )


def test_an_event_is_read_without_configuration() -> None:
    """By what every event of the library has."""
    assert EventMapping().read(placed(1)) == EventRecord(
        event_id=str(UUID(int=1)),
        event_type="OrderPlaced",
        stream_id=str(id_of("A")),
        stream_version=5,
        occurred_at=AT,
    )


def test_an_envelope_is_read_without_configuration() -> None:
    """It says where the event stands, in its stream and in the store."""

    async def stored() -> Any:
        store = eventsource.InMemoryEventStore()
        await append(store, placed(1), placed(2))
        return [envelope async for envelope in store.read_all()][1]

    assert EventMapping().read(asyncio.run(stored())) == EventRecord(
        event_id=str(UUID(int=2)),
        event_type="OrderPlaced",
        sequence=2,
        stream_id=str(id_of("A")),
        stream_version=2,
        occurred_at=AT,
    )


@pytest.mark.parametrize("position", [None, ("a", 1), ("a",)], ids=["none", "of two parts", "no number"])
def test_a_position_that_is_no_number_is_no_sequence(position: tuple[Any, ...] | None) -> None:
    """A store without a feed, or one whose positions are made otherwise."""
    at = None if position is None else eventsource.Position("elsewhere", position)
    envelope = eventsource.EventEnvelope(placed(1), eventsource.StreamId(id_of("A"), "Order"), 1, at, AT)
    assert EventMapping().read(envelope).sequence is None


class TestCodec(CodecConformance):
    """The default codec, with the classes that `handles=` would name."""

    def codec(self) -> JsonCodec:
        codec = JsonCodec()
        codec.register(OrderPlaced)
        return codec

    def events(self) -> list[Any]:
        lines = (Line(article="pen", price=Decimal("1.50")), Line(article="ink", price=Decimal("0.1")))
        return [
            placed(1),
            placed(2, lines=lines, delivered=AT.astimezone(timezone(timedelta(hours=2)))),
            placed(3, tenant_id=UUID(int=5), metadata={"why": ["a", {"b": 1}]}).with_causation(placed(1)),
        ]

    def event_with(self, value: object) -> Any:
        return placed(4, anything=value)
