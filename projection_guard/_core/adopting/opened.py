"""What becomes of a tracker's unresolved failures: which are retried, which wait, and for what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

from ..._model import EventRecord, Json, Order
from ..._store.claims import Ticket
from ..projection import Projection
from .rows import Reader, failure_id_of, payload_of

__all__ = ["Known", "MoreToLookUp", "Opened", "decide", "place"]

_NOT_IN_LOG: Final = "the event log has no event of this id"
_NOT_KEPT: Final = "the tracker kept nothing of the event, and the guard has no source to read it from"
_NOT_OURS: Final = "what the tracker kept of the event does not become one that this projection takes"


class MoreToLookUp(Exception):
    """Their tables name failures or events of which nothing was known yet: somebody writes them meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the application knows: its projections, what its log says of events, and whether a payload is an event.

    `events`: what was looked up, None for what the log does not have. `reads` returns what a payload's event says.
    """

    projections: Mapping[str, Projection]
    is_bare: bool
    events: Mapping[str, EventRecord | None]
    reads: Callable[[Projection, EventRecord, Json], EventRecord | None]

    def order_of(self, projection: str) -> Order:
        """Return the order that a projection keeps; by streams, where nobody says."""
        found = self.projections.get(projection)
        return Order.STREAM if found is None else found.order

    def ticket(self, projection: str, record: EventRecord) -> Ticket:
        """Say behind which gate an event stands."""
        found = self.projections.get(projection)
        if found is not None:
            return found.lone_ticket(record)
        return Ticket(projection=projection, gate=record.stream_id or record.event_id, event=record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An unresolved failure. `fate`: it is retried, waits for a person (`why`), stands behind another, or is one twice.

    `behind` is the failure that stands before it in its stream, or is the newer one of the same event.
    """

    id: UUID
    ticket: Ticket
    payload: Json
    failed_at: datetime
    fate: Literal["retried", "waits", "parked", "twice"]
    why: str | None = None
    behind: UUID | None = None


def decide(rows: Iterable[Mapping[str, object]], reader: Reader, known: Known) -> dict[UUID, Opened]:
    """Decide about all unresolved failures at once: some stand behind others."""
    of_event: defaultdict[tuple[str, str], list[Opened]] = defaultdict(list)
    for row in rows:
        projection, record = reader.identity(row.get("projection_name")), reader.record(row)
        if projection is not None and record is not None:
            opened = _alone(row, projection, record, reader, known)
            of_event[projection, record.event_id].append(opened)
    decided: dict[UUID, Opened] = {}
    lines: defaultdict[tuple[str, str], list[Opened]] = defaultdict(list)
    for same in of_event.values():
        *older, newest = sorted(same, key=lambda each: (each.failed_at, str(each.id)))
        decided |= {each.id: replace(each, fate="twice", behind=newest.id) for each in older}
        lines[newest.ticket.projection, newest.ticket.gate].append(newest)
    for line in lines.values():
        first, *others = sorted(line, key=place)
        decided[first.id] = first
        decided |= {each.id: replace(each, fate="parked", behind=first.id) for each in others}
    return decided


def place(opened: Opened) -> tuple[bool, int, datetime, str]:
    """Return what failures of one stream are sorted by: the log's order; where it is unknown, that of their failing."""
    sequence = opened.ticket.event.sequence
    return sequence is None, sequence or 0, opened.failed_at, str(opened.id)


def _alone(row: Mapping[str, object], projection: str, record: EventRecord, reader: Reader, known: Known) -> Opened:
    payload = payload_of(row.get("event_payload"))
    said, why = _said_of(known, projection, record, payload)
    can_be_retried = why is None and projection in known.projections
    tried, most = reader.number(row.get("retry_count")) or 0, reader.number(row.get("max_retries"))
    is_exhausted = row.get("next_retry_at") is None or (most is not None and tried >= most)
    moment = reader.moment(row.get("failed_at")) or reader.moment(row.get("created_at"))
    return Opened(
        id=failure_id_of(row.get("id")),
        ticket=known.ticket(projection, said),
        payload=payload,
        failed_at=moment or datetime.fromtimestamp(0, UTC),
        fate="retried" if can_be_retried and not is_exhausted else "waits",
        why=why,
    )


def _said_of(known: Known, name: str, record: EventRecord, payload: Json) -> tuple[EventRecord, str | None]:
    """Return what is known of an event, from the best witness there is, and why it cannot be tried again, if so."""
    projection = known.projections.get(name)
    if projection is None:
        return record, None
    if projection.is_followed:
        logged = known.events.get(record.event_id)
        return (record, _NOT_IN_LOG) if logged is None else (replace(logged, event_id=record.event_id), None)
    if payload is None:
        return record, _NOT_KEPT
    told = known.reads(projection, record, payload)
    if told is None:
        return record, _NOT_OURS
    sequence = record.sequence if told.sequence is None else told.sequence
    return replace(told, sequence=sequence, stream_id=told.stream_id or record.stream_id), None
