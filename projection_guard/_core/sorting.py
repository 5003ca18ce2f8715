"""What becomes of the events of a stretch; and of those that are built beside, for a rebuild or a copy.

A rebuild lets wait what comes after something that failed there. A copy for a verification leaves out what the live
projection has not applied, as that is at this moment: what is applied there later is mended in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from .._model import Order
from .._store import amendments, left_out, partitions, set_aside
from .._store.claims import Ticket
from .course import Beside
from .log import Incoming, count_up_to
from .projection import Projection

__all__ = ["Sorted", "set_aside_more", "sort_beside"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """The events of a stretch by what is to become of them, each list in the log's order.

    `skips` are left out of a copy by themselves, for a person has skipped them; what stands in no list is passed over.
    """

    calls: tuple[Incoming, ...] = ()
    parks: tuple[Incoming, ...] = ()
    alone: tuple[Incoming, ...] = ()
    skips: tuple[Incoming, ...] = ()

    def parked_up_to(self, position: int) -> int:
        """Count what is parked up to a position."""
        return count_up_to(self.parks, position)


def sort_beside(connection: Connection, projection: Projection, beside: Beside, events: Sequence[Incoming]) -> Sorted:
    """Say what becomes of events beside the live read model; the live projection's gates do not matter."""
    if beside.is_copy:
        return _sort_copy(connection, projection, beside, events)
    if projection.order is not Order.STREAM:
        return Sorted(calls=tuple(events))
    gates_of = {event.sequence: projection.lone_ticket(event.record).gate for event in events}
    failed = set_aside.failed_among(connection, beside.job, sorted(set(gates_of.values())))
    return Sorted(
        calls=tuple(event for event in events if gates_of[event.sequence] not in failed),
        parks=tuple(event for event in events if gates_of[event.sequence] in failed),
    )


def _sort_copy(connection: Connection, projection: Projection, beside: Beside, events: Sequence[Incoming]) -> Sorted:
    """Call what the live projection has applied, in the order of its streams; it may not have come to all of them."""
    cursors = {row.partition: row.cursor for row in partitions.rows(connection, projection.name)}
    reached = [event for event in events if event.sequence <= cursors.get(projection.partition(event.record), 0)]
    tickets = {event.sequence: projection.lone_ticket(event.record) for event in reached}
    live = left_out.of_live(connection, projection.name, list(tickets.values()))
    if beside.mends:
        waiting = left_out.waiting_among(connection, beside.job, list(tickets))
        reached = [event for event in reached if event.sequence in waiting]
    waits = live.waits | _amended_since(connection, projection, reached)
    held = _held(connection, beside, [tickets[event.sequence] for event in reached])
    calls, parks, skips = list[Incoming](), list[Incoming](), list[Incoming]()
    for event in reached:
        gate = tickets[event.sequence].gate
        if event.record.event_id in live.skipped:
            skips.append(event)
        elif gate in held or event.record.event_id in waits:
            held.add(gate)
            parks.append(event)
        else:
            calls.append(event)
    if beside.mends:  # what waits goes on waiting as it is
        parks = []
    return Sorted(calls=tuple(calls), parks=tuple(parks), skips=tuple(skips))


def _amended_since(connection: Connection, projection: Projection, events: Sequence[Incoming]) -> set[str]:
    """Return those that were amended, and may have healed, after they were read: they wait to be read again.

    Ask after it is known what the live projection has applied.
    """
    now = amendments.payloads(connection, projection.name, [event.record.event_id for event in events])
    return {event.record.event_id for event in events if now.get(event.record.event_id) != event.amended}


def _held(connection: Connection, beside: Beside, tickets: Sequence[Ticket]) -> set[str]:
    """Return the gates behind which these events have to wait in the copy."""
    behind = left_out.waiting_behind(connection, beside.job, {ticket.gate for ticket in tickets})
    if not beside.mends:
        return set(behind)
    first: dict[str, int | None] = {}
    for ticket in tickets:
        first.setdefault(ticket.gate, ticket.event.sequence)
    return {gate for gate, sequence in behind.items() if sequence != first[gate]}


def set_aside_more(connection: Connection, projection: Projection, beside: Beside, todo: Sorted, position: int) -> None:
    """Write down what a stretch sets aside, up to a position, and what it sets aside no more."""

    def up_to(events: Sequence[Incoming]) -> list[Incoming]:
        return [event for event in events if event.sequence <= position]

    if beside.mends:
        left_out.take_back(connection, beside.job, [event.sequence for event in up_to((*todo.calls, *todo.skips))])
    set_aside.park(connection, beside.job, [projection.lone_ticket(event.record) for event in up_to(todo.parks)])
    skipped = [projection.lone_ticket(event.record) for event in up_to(todo.skips)]
    left_out.pass_by(connection, beside.job, skipped, left_out.SKIPPED)
