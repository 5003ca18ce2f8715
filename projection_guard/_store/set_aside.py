"""Events set aside: they failed where a read model is built beside the live one, or wait there behind one that did.

They belong to a job until its exchange. Whoever builds writes here, while he holds the row that the job stands on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, Connection, bindparam, delete, insert, literal, select, update

from .._dialect import utc_now
from .._model import EventRecord, ResolutionMethod
from .._policy import Verdict, VerdictKind
from .._tables import ParkedEvent, ProjectionAppliedEvent, ProjectionFailure, SetAsideEvent
from .attempts import DescribedError
from .claims import Ticket

__all__ = ["FailedBeside", "clear", "failed", "failed_among", "forget_before", "keep", "park", "park_all"]

S, P, A, F = SetAsideEvent, ParkedEvent, ProjectionAppliedEvent, ProjectionFailure
_JOB: BindParameter[UUID] = bindparam("job", type_=S.replay_id.type)
_FAILED = S.error_type.is_not(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedBeside:
    """An event that failed, its error, and what the policy said."""

    ticket: Ticket
    error: DescribedError
    verdict: Verdict


_keep = insert(S)
_failed_among = (
    select(S.gate).where(S.replay_id == _JOB, _FAILED, S.gate.in_(bindparam("gates", expanding=True))).distinct()
)
_failed = select(*S.__table__.c).where(S.replay_id == _JOB, _FAILED).order_by(S.event_sequence)


def keep(connection: Connection, job: UUID, ticket: Ticket, error: DescribedError, verdict: Verdict) -> None:
    """Write down that an event failed."""
    kept = {
        "error_type": error.type,
        "error_message": error.message,
        "error_traceback": error.traceback,
        "fingerprint": error.fingerprint,
        "verdict": verdict.kind.value,
        "delay_seconds": verdict.delay_seconds,
    }
    connection.execute(_keep, _parameters(job, ticket) | kept)


def park(connection: Connection, job: UUID, tickets: Sequence[Ticket]) -> None:
    """Write down that events wait."""
    if tickets:
        connection.execute(_keep, [_parameters(job, ticket) for ticket in tickets])


def _parameters(job: UUID, ticket: Ticket) -> dict[str, object]:
    return {
        "replay_id": job,
        "event_sequence": ticket.event.sequence,
        "gate": ticket.gate,
        "event_id": ticket.event.event_id,
        "event_type": ticket.event.event_type,
        "stream_id": ticket.event.stream_id,
    }


def failed_among(connection: Connection, job: UUID, gates: Sequence[str]) -> frozenset[str]:
    """Return behind which of these gates something has failed."""
    return frozenset(connection.execute(_failed_among, {"job": job, "gates": list(gates)}).scalars())


def failed(connection: Connection, job: UUID, projection: str) -> list[FailedBeside]:
    """Read what has failed, in the log's order."""
    return [_failed_beside(row, projection) for row in connection.execute(_failed, {"job": job})]


def _failed_beside(row: Any, projection: str) -> FailedBeside:
    event = EventRecord(
        event_id=row.event_id, event_type=row.event_type, sequence=row.event_sequence, stream_id=row.stream_id
    )
    return FailedBeside(
        ticket=Ticket(projection=projection, gate=row.gate, event=event),
        error=DescribedError(
            type=row.error_type,
            message=row.error_message,
            traceback=row.error_traceback,
            fingerprint=row.fingerprint,
        ),
        verdict=Verdict(kind=VerdictKind(row.verdict), delay_seconds=row.delay_seconds),
    )


def park_all(connection: Connection, job: UUID, projection: str) -> None:
    """Park in a projection what waits. Hold the gates, and settle them afterwards."""
    columns = [S.gate, S.event_id, S.event_type, S.event_sequence, S.stream_id]
    waiting = (
        select(literal(projection), *columns, literal("blocked"), utc_now())
        .where(S.replay_id == _JOB, ~_FAILED)
        .order_by(S.event_sequence)
    )
    into = ["projection_name", *(column.key for column in columns), "reason", "parked_at"]
    connection.execute(insert(P).from_select(into, waiting, include_defaults=False), {"job": job})


def forget_before(connection: Connection, job: UUID, projection: str, by: str) -> int:
    """Forget what became of these events in the read model before: applied, or failed. Return how many had failed."""
    events = select(S.event_id).where(S.replay_id == _JOB)
    applied = delete(A).where(A.projection_name == projection, A.event_id.in_(events))
    connection.execute(applied, {"job": job})
    ended = update(F).where(F.projection_name == projection, F.resolved_at.is_(None), F.event_id.in_(events))
    return connection.execute(
        ended.values(
            resolved_at=utc_now(),
            resolution_method=ResolutionMethod.MANUAL_RESET.value,
            resolved_by=by,
            next_retry_at=None,
            lease_owner=None,
            lease_expires_at=None,
            updated_at=utc_now(),
        ),
        {"job": job},
    ).rowcount


def clear(connection: Connection, job: UUID) -> None:
    """Drop it all: the job has ended."""
    connection.execute(delete(S).where(S.replay_id == _JOB), {"job": job})
