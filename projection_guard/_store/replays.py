"""Replays and rebuilds as they are on record: begun, claimed, counted, ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, Connection, bindparam, func, insert, null, or_, select, update

from .._dialect import Changing, later, statement_start, utc_now
from .._model import Json, Order, Page, Replay
from .._tables import ParkedEvent, ProjectionFailure, ProjectionReplay
from .claims import Ticket
from .cursors import beyond, time_cursor

__all__ = [
    "NewReplay",
    "Stands",
    "anything_before",
    "begin",
    "claim",
    "count_left_out",
    "due",
    "end",
    "first_open",
    "go_on",
    "is_unfinished",
    "let_go",
    "next_phase",
    "one",
    "page",
    "slices_of",
    "unfinished",
    "unfinished_among",
    "want",
]

R, F, P = ProjectionReplay, ProjectionFailure, ParkedEvent
_JOB: BindParameter[UUID] = bindparam("job", type_=R.id.type)
_COLUMNS = [column for column in R.__table__.c if column.key not in ("lease_owner", "lease_expires_at", "slices")]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReplay:
    """A replay to be begun."""

    id: UUID
    projection_name: str
    kind: str
    from_sequence: int | None
    to_sequence: int | None
    stream_id: str | None
    skip_failed: bool
    events_per_second: float | None
    phase: str
    begins_after: int
    ends_at: int
    actor: str
    note: str | None
    built_into: str | None = None
    max_failures: int = 0
    comparing: Json = None
    slices: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stands:
    """What is wanted of a replay, its phase, and into how many slices its streams are divided, if they are."""

    wanted: str
    phase: str
    slices: int | None


def begin(connection: Connection, new: NewReplay, *, token: str | None, lease_seconds: float) -> None:
    """Write a replay down; with a token it is born to whoever runs it. Of one projection there is one at a time."""
    values: dict[str, Any] = {name: getattr(new, name) for name in NewReplay.__slots__}
    connection.execute(
        insert(R).values(
            **values,
            status="pending",
            position=new.begins_after,
            lease_owner=token,
            lease_expires_at=null() if token is None else later(bindparam("lease")),
            created_at=utc_now(),
            updated_at=utc_now(),
        ),
        {} if token is None else {"lease": lease_seconds},
    )


def one(connection: Connection, job: UUID) -> Replay | None:
    """Read a replay."""
    row = connection.execute(select(*_COLUMNS, utc_now().label("now")).where(R.id == _JOB), {"job": job}).one_or_none()
    return None if row is None else _replay(row)


def unfinished(connection: Connection, projection: str) -> Replay | None:
    """Read the replay of a projection that has not ended, if there is one."""
    return unfinished_among(connection, [projection]).get(projection)


def unfinished_among(connection: Connection, projections: Sequence[str]) -> dict[str, Replay]:
    """Read the replays of these projections that have not ended; each has one at most."""
    statement = select(*_COLUMNS, utc_now().label("now")).where(
        R.projection_name.in_(projections), R.finished_at.is_(None)
    )
    return {row.projection_name: _replay(row) for row in connection.execute(statement)}


def page(connection: Connection, projection: str | None, *, limit: int, after: str | None) -> Page[Replay]:
    """Read replays, newest first."""
    statement = select(*_COLUMNS, utc_now().label("now"))
    if projection is not None:
        statement = statement.where(R.projection_name == projection)
    if after is not None:
        statement = statement.where(beyond(R.created_at, R.id, after))
    rows = connection.execute(statement.order_by(R.created_at.desc(), R.id.desc()).limit(limit + 1)).all()
    items = tuple(_replay(row) for row in rows[:limit])
    more = time_cursor(items[-1].created_at, items[-1].id) if len(rows) > limit else None
    return Page(items=items, after=more)


def _replay(row: Any) -> Replay:
    fields = dict(row._mapping)
    now: datetime = fields.pop("now")
    started, position = fields["started_at"], fields["position"]
    until = fields["finished_at"] or now
    elapsed = 0.0 if started is None else max((until - started).total_seconds(), 0.0)
    done, total = position - fields["begins_after"], max(fields["ends_at"] - fields["begins_after"], 0)
    share = 1.0 if fields["status"] == "completed" else (min(done / total, 1.0) if total else 0.0)
    left = None
    if fields["finished_at"] is None and share > 0 and elapsed > 0:
        left = elapsed / share * (1 - share)
    rate = fields["events_replayed"] / elapsed if elapsed > 0 else 0.0
    return Replay(**fields, progress=share, events_per_second_measured=round(rate, 1), seconds_left=left)


_FREE = or_(R.lease_owner.is_(None), R.lease_expires_at <= statement_start())
_unfinished = select(R.id).where(R.id == _JOB, R.finished_at.is_(None))
_handed_out = _unfinished.where(
    R.lease_owner == bindparam("token"),
    R.lease_expires_at > statement_start(),
    R.wanted == "run",
    R.phase == "slices",
)
_WORKED_ON = or_(R.wanted != "pause", R.status != "paused")
_due = select(R.projection_name, R.id).where(R.finished_at.is_(None), _FREE, _WORKED_ON)
_claim = Changing(
    update(R).values(
        lease_owner=bindparam("token"),
        lease_expires_at=later(bindparam("lease")),
        started_at=func.coalesce(R.started_at, utc_now()),
        updated_at=utc_now(),
    ),
    (R.id == _JOB, R.finished_at.is_(None), or_(_FREE, R.lease_owner == bindparam("token"))),
    R.wanted,
)
_go_on = Changing(
    update(R).values(lease_expires_at=later(bindparam("lease")), status=bindparam("said"), updated_at=utc_now()),
    (R.id == _JOB, R.lease_owner == bindparam("token")),
    R.wanted,
    R.phase,
    R.slices,
)


def due(connection: Connection) -> dict[str, UUID]:
    """Name the replays that nobody runs at the moment and somebody should, by projection."""
    return {row.projection_name: row.id for row in connection.execute(_due)}


def claim(connection: Connection, job: UUID, *, token: str, lease_seconds: float) -> bool:
    """Take a replay that nobody runs, or prolong one's own; False where somebody else has it, or it has ended."""
    parameters = {"job": job, "token": token, "lease": lease_seconds}
    return bool(_claim.run(connection, parameters))


def go_on(connection: Connection, job: UUID, *, token: str, status: str, lease_seconds: float) -> Stands | None:
    """Prolong the lease, say where it stands, and return what is wanted, and its phase; None where it is lost."""
    parameters = {"job": job, "token": token, "said": status, "lease": lease_seconds}
    rows = _go_on.run(connection, parameters)
    return Stands(wanted=rows[0].wanted, phase=rows[0].phase, slices=rows[0].slices) if rows else None


def slices_of(connection: Connection, job: UUID) -> int | None:
    """Return into how many slices a job's streams are divided, if they are."""
    return connection.execute(select(R.slices).where(R.id == _JOB), {"job": job}).scalar_one_or_none()


def is_unfinished(connection: Connection, job: UUID, *, run_by: str | None = None) -> bool:
    """Return whether a job has not come to its end; with `run_by`, whether its slices go on with who has this token."""
    if run_by is None:
        return connection.execute(_unfinished, {"job": job}).first() is not None
    return connection.execute(_handed_out, {"job": job, "token": run_by}).first() is not None


def let_go(connection: Connection, job: UUID, *, token: str) -> None:
    """Give a replay up, to be run by others."""
    statement = update(R).where(R.id == _JOB, R.lease_owner == bindparam("token"))
    connection.execute(statement.values(lease_owner=null(), lease_expires_at=null()), {"job": job, "token": token})


def next_phase(connection: Connection, job: UUID, phase: str, *, ends_at: int | None = None) -> None:
    """Begin a replay's next part, which may end elsewhere."""
    values: dict[str, Any] = {"phase": phase, "updated_at": utc_now()}
    if ends_at is not None:
        values["ends_at"] = ends_at
    connection.execute(update(R).where(R.id == _JOB).values(values), {"job": job})


def want(connection: Connection, job: UUID, wanted: str) -> Replay | None:
    """Say what is wanted of a replay that has not ended; None where it has, or is not there."""
    statement = update(R).where(R.id == _JOB, R.finished_at.is_(None)).values(wanted=wanted, updated_at=utc_now())
    if connection.execute(statement, {"job": job}).rowcount == 0:
        return None
    return one(connection, job)


def end(connection: Connection, job: UUID, status: str, error: str | None, compared: Json = None) -> None:
    """Write down how it ended, and what was compared."""
    connection.execute(
        update(R)
        .where(R.id == _JOB)
        .values(
            status=status,
            error=error,
            compared=compared,
            finished_at=utc_now(),
            updated_at=utc_now(),
            lease_owner=null(),
            lease_expires_at=null(),
        ),
        {"job": job},
    )


def count_left_out(connection: Connection, job: UUID, skipped: int) -> None:
    """Say how many events were passed over in the end, without those mended later; it has come to where it was to."""
    values = {"events_skipped": skipped, "position": R.ends_at}
    connection.execute(update(R).where(R.id == _JOB).values(values), {"job": job})


def first_open(connection: Connection, projection: str) -> int | None:
    """Return the lowest sequence that is failed or parked."""
    failed = select(func.min(F.event_sequence)).where(F.projection_name == projection, F.resolved_at.is_(None))
    waits = select(func.min(P.event_sequence)).where(P.projection_name == projection)
    found = [connection.execute(statement).scalar_one() for statement in (failed, waits)]
    return min((sequence for sequence in found if sequence is not None), default=None)


def anything_before(connection: Connection, ticket: Ticket, order: Order) -> bool:
    """Return whether something earlier of an event's line is failed or parked. Hold the gate."""
    if order is Order.NONE:
        return False
    failed = select(F.id).where(
        F.projection_name == ticket.projection, F.resolved_at.is_(None), F.event_sequence < ticket.event.sequence
    )
    if order is Order.STREAM:
        failed = failed.where(F.stream_id == ticket.gate)
    waits = select(P.id).where(
        P.projection_name == ticket.projection, P.gate == ticket.gate, P.event_sequence < ticket.event.sequence
    )
    return any(connection.execute(statement.limit(1)).first() is not None for statement in (failed, waits))
