"""What happens in the shop."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """Somebody ordered something."""

    event_id: str
    stream_id: str
    sequence: int
    article: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """Somebody did not want it any more."""

    event_id: str
    stream_id: str
    sequence: int


Event = Ordered | Cancelled


def first(count: int = 3) -> list[Event]:
    """Return some events, one in a stream of its own each."""
    return [
        Ordered(event_id=f"e{number}", stream_id=f"order-{number}", sequence=number, article="tea")
        for number in range(1, count + 1)
    ]
