"""A registered projection: its handler, what it takes, and the rules it lives under."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from .._instruments import NOBODY, Watching
from .._io.protocol import Call
from .._model import EventRecord, Order
from .._policy import RetryPolicy
from .._source import key_of, partition_of
from .._store.claims import Ticket
from ..errors import EventError

__all__ = ["Projection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A projection as the flow sees it.

    `joins`: its handler takes the guard's connection too. `batch`: it takes a list of up to so many events instead of
    one. `partitions`: into how many parts its streams are divided where it is followed. `types` are the names of those
    that it takes, None where it goes by classes or takes all. `tables` are its read model's, for a rebuild beside them.
    `applies_again`: its read model takes an event that it has already; where it does not, no range is replayed.
    """

    name: str
    handler: Callable[..., object]
    is_async: bool
    joins: bool
    takes: Callable[[object, str], bool]
    types: frozenset[str] | None
    is_followed: bool
    partitions: int
    batch: int | None
    tables: tuple[str, ...]
    retry: RetryPolicy
    order: Order
    timeout_seconds: float
    on_reset: Callable[..., object] | None
    on_reset_stream: Callable[..., object] | None
    resets_async: bool
    applies_again: bool = True

    def is_others(self, *, is_followed: bool) -> bool:
        """Return whether it is followed by others, who have its log: what is open is theirs to apply, in its order."""
        return is_followed and not self.is_followed

    def could_take(self, event_type: str) -> bool:
        """Return whether an event that could not be rebuilt may be one of ours: its class is not known."""
        return self.types is None or event_type in self.types

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

    def lone_ticket(self, record: EventRecord) -> Ticket:
        """Say the same of an event that is in the log already; one whose stream cannot be told stands alone."""
        try:
            return self.ticket(record)
        except EventError:
            return Ticket(projection=self.name, gate=record.event_id, event=record)

    def partition(self, record: EventRecord) -> int:
        """Return the part of the streams that an event belongs to: its stream's, or its own where it has none."""
        if self.partitions == 1:
            return 0
        return partition_of(key_of(record), self.partitions)

    def given(self, event: object) -> object:
        """Return what the handler is called with for a single event."""
        return event if self.batch is None else [event]

    def given_each(self, events: Sequence[object]) -> Sequence[object]:
        """Return what the handler is called with, one call after the other, for several."""
        return events if self.batch is None else [list(events)]

    def call(self, *, abandonable: bool, watch: Watching = NOBODY) -> Call:
        """Say how the handler is to be called; from a worker a blocking one may be left behind in a thread."""
        return Call(
            handler=watch.around(self.handler, is_async=self.is_async),
            is_async=self.is_async,
            timeout_seconds=self.timeout_seconds,
            abandonable=abandonable and not self.is_async,
        )
