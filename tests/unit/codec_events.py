"""Events of every kind, for the codec's tests; imported by a fresh interpreter too."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
from pydantic import BaseModel, ConfigDict, PrivateAttr


class Colour(StrEnum):
    RED = "r"


class Level(IntEnum):
    HIGH = 3


@dataclass(frozen=True, slots=True)
class Money:
    amount: Decimal
    currency: str = "EUR"


class Point(NamedTuple):
    x: int
    y: int = 0


class Base:
    """No event of its own: its subclasses are."""


@dataclass(frozen=True)
class Ordered(Base):
    event_id: UUID
    at: datetime
    local: datetime
    price: Money
    colour: Colour
    level: Level
    tags: tuple[str, ...]
    seen: frozenset[int]
    table: dict[object, object]
    day: date
    hour: time
    took: timedelta
    raw: bytes
    big: int
    limit: float = float("inf")
    note: str | None = None
    computed: int = field(default=0, init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "computed", len(self.tags))


@attrs.frozen
class Moved:
    to: Point
    steps: list[Point] = attrs.field(factory=list)


class Renamed(BaseModel):
    model_config = ConfigDict(extra="allow")
    event_id: str
    price: Money
    when: datetime
    _secret: int = PrivateAttr(default=1)


def ordered() -> Ordered:
    """An event with a value of nearly every kind in it."""
    return Ordered(
        event_id=UUID(int=7),
        at=datetime(2026, 11, 23, 12, tzinfo=UTC),
        local=datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        price=Money(Decimal("1.10")),
        colour=Colour.RED,
        level=Level.HIGH,
        tags=("a", "nul\0", "half \ud800"),
        seen=frozenset({1, 2}),
        table={1: "one", "$dict": [1, (2, 3)], None: {"$class": "trap"}},
        day=date(2026, 2, 28),
        hour=time(1, 2, 3, tzinfo=timezone(timedelta(hours=2))),
        took=timedelta(days=-1, microseconds=5),
        raw=b"\x00\xff",
        big=2**200,
    )


def renamed() -> Renamed:
    """A Pydantic event with an extra field and a private one."""
    event = Renamed(event_id="r", price=Money(Decimal(3)), when=datetime(2026, 1, 1, tzinfo=UTC), extra_field=5)  # type: ignore[call-arg]
    event._secret = 9
    return event


def all_events() -> list[object]:
    """One of each."""
    return [ordered(), Moved(Point(1), [Point(2, 3)]), renamed(), Point(5), {"event_id": "d", "n": {"deep": [1, None]}}]
