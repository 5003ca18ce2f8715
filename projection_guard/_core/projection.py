"""A registered projection: its handler, what it takes, and the rules it lives under."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from .._io.protocol import Call
from .._model import EventRecord, Order
from .._policy import RetryPolicy
from .._store.claims import Ticket
from ..errors import EventError

__all__ = ["Projection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A projection as the flow sees it. `joins`: its handler takes the guard's connection too."""

    name: str
    handler: Callable[..., object]
    is_async: bool
    joins: bool
    takes: Callable[[object, str], bool]
    retry: RetryPolicy
    order: Order
    timeout_seconds: float
    on_reset: Callable[..., object] | None
    resets_async: bool

    def ticket(self, record: EventRecord) -> Ticket:
        """Say behind which gate an event belongs here. Raises `EventError` where its order cannot be told."""
        match self.order:
            case Order.STREAM:
                if record.stream_id is None:
                    raise EventError(
                        f"Projection {self.name!r} keeps the order of streams, but event {record.event_id!r} "
                        f"({record.event_type}) has no stream_id; pass EventMapping(stream_id=...) or order='none'"
                    )
                gate = record.stream_id
            case Order.NONE:
                gate = record.event_id
            case Order.GLOBAL:
                gate = ""
            case _:
                assert_never(self.order)
        return Ticket(projection=self.name, gate=gate, event=record)

    def call(self, *, abandonable: bool) -> Call:
        """Say how the handler is to be called; from a worker a blocking one may be left behind in a thread."""
        return Call(
            handler=self.handler,
            is_async=self.is_async,
            timeout_seconds=self.timeout_seconds,
            abandonable=abandonable and not self.is_async,
        )
