"""Bulk actions as they are on record: proposed, confirmed, claimed, counted, ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    Connection,
    bindparam,
    case,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    tuple_,
    update,
)

from .._dialect import Changing, later, statement_start, utc_now
from .._model import Failure, FailureFilter, Page
from .._records import BulkAction
from .._tables import ProjectionBulkAction, ProjectionFailure
from .cursors import beyond, time_cursor
from .matching import conditions, in_order

__all__ = [
    "InHand",
    "claim",
    "confirm",
    "count",
    "due",
    "end",
    "go_on",
    "in_hand",
    "let_go",
    "locked",
    "next_failure",
    "one",
    "page",
    "propose",
    "renew",
    "take",
    "want_cancelled",
]

B, F = ProjectionBulkAction, ProjectionFailure
PROPOSAL_SECONDS: Final = 600.0
_JOB: BindParameter[UUID] = bindparam("job", type_=B.id.type)
_TOKEN: BindParameter[str] = bindparam("token")
_FILTER: Final = FailureFilter.__slots__
_SHOWN: Final = [
    *(getattr(B, name) for name in BulkAction.__slots__ if name not in ("where", "count", "status", "waits")),
    B.matched.label("count"),
    case(((B.status == "proposed") & (B.expires_at <= statement_start()), "expired"), else_=B.status).label("status"),
    *(getattr(B, name) for name in _FILTER),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class InHand:
    """What whoever runs an action has before him: whether to end it, and the failure that is in hand, if one is."""

    is_cancelled: bool
    failure_id: UUID | None
    position_at: datetime | None
    position_id: UUID | None


def propose(
    connection: Connection,
    *,
    job: UUID,
    strategy: str,
    where: FailureFilter,
    at: datetime,
    projections: list[str],
    matched: int,
    actor: str,
    note: str | None,
) -> None:
    """Write a proposal down."""
    values: dict[str, Any] = {name: getattr(where, name) for name in _FILTER}
    connection.execute(
        insert(B).values(
            **values,
            id=job,
            strategy=strategy,
            status="proposed",
            projections=projections,
            matched=matched,
            actor=actor,
            note=note,
            created_at=at,
            expires_at=later(literal(PROPOSAL_SECONDS)),
            updated_at=utc_now(),
        )
    )


def one(connection: Connection, job: UUID) -> BulkAction | None:
    """Read a bulk action."""
    row = connection.execute(select(*_SHOWN).where(B.id == _JOB), {"job": job}).one_or_none()
    return None if row is None else _action(row)


def locked(connection: Connection, job: UUID) -> BulkAction | None:
    """Hold a bulk action to the end of the transaction, and read it."""
    row = connection.execute(select(*_SHOWN).where(B.id == _JOB).with_for_update(), {"job": job}).one_or_none()
    return None if row is None else _action(row)


def page(connection: Connection, *, limit: int, after: str | None) -> Page[BulkAction]:
    """Read bulk actions, newest first."""
    statement = select(*_SHOWN)
    if after is not None:
        statement = statement.where(beyond(B.created_at, B.id, after))
    rows = connection.execute(statement.order_by(B.created_at.desc(), B.id.desc()).limit(limit + 1)).all()
    items = tuple(_action(row) for row in rows[:limit])
    more = time_cursor(items[-1].created_at, items[-1].id) if len(rows) > limit else None
    return Page(items=items, after=more)


def _action(row: Any) -> BulkAction:
    fields = dict(row._mapping)
    where = FailureFilter(**{name: fields.pop(name) for name in _FILTER})
    return BulkAction(where=where, projections=tuple(fields.pop("projections")), **fields)


def confirm(connection: Connection, job: UUID, *, actor: str, request_id: str | None) -> None:
    """Let workers run it. Hold its row."""
    values = {"status": "pending", "confirmed_by": actor, "confirmed_at": utc_now(), "request_id": request_id}
    connection.execute(update(B).where(B.id == _JOB).values(**values, updated_at=utc_now()), {"job": job})


_FREE = or_(B.lease_owner.is_(None), B.lease_expires_at <= statement_start())
_due = select(*_SHOWN).where(B.confirmed_at.is_not(None), B.finished_at.is_(None), _FREE).order_by(B.confirmed_at)
_claim = Changing(
    update(B).values(
        status="running",
        lease_owner=_TOKEN,
        lease_expires_at=later(bindparam("lease")),
        started_at=func.coalesce(B.started_at, utc_now()),
        updated_at=utc_now(),
    ),
    (B.id == _JOB, B.confirmed_at.is_not(None), B.finished_at.is_(None), or_(_FREE, B.lease_owner == _TOKEN)),
    B.id,
)
_MINE = (B.id == _JOB, B.lease_owner == _TOKEN, B.finished_at.is_(None))
_PROLONGED = update(B).values(lease_expires_at=later(bindparam("lease")), updated_at=utc_now())
_BEFORE_US = (B.wanted, B.hand_id, B.position_at, B.position_id)
_renew = _PROLONGED.where(*_MINE)
_go_on = Changing(_PROLONGED, _MINE, *_BEFORE_US)
_PUT_DOWN: dict[str, Any] = {"hand_at": null(), "hand_id": null(), "updated_at": utc_now()}


def due(connection: Connection) -> list[BulkAction]:
    """Read the confirmed actions that nobody runs at the moment, longest waiting first."""
    return [_action(row) for row in connection.execute(_due)]


def claim(connection: Connection, job: UUID, *, token: str, lease_seconds: float) -> bool:
    """Take an action that nobody runs; False where somebody else has it, or it has ended."""
    parameters = {"job": job, "token": token, "lease": lease_seconds}
    return bool(_claim.run(connection, parameters))


def renew(connection: Connection, job: UUID, *, token: str, lease_seconds: float) -> bool:
    """Prolong the lease from now on; False where it is no longer ours."""
    return connection.execute(_renew, {"job": job, "token": token, "lease": lease_seconds}).rowcount == 1


def go_on(connection: Connection, job: UUID, *, token: str, lease_seconds: float) -> InHand | None:
    """Hold an action, prolong its lease, and say what is before us; None where it is no longer ours."""
    rows = _go_on.run(connection, {"job": job, "token": token, "lease": lease_seconds})
    return _in_hand(rows[0]) if rows else None


def in_hand(connection: Connection, job: UUID) -> InHand:
    """Say what is before whoever runs an action, or would run it."""
    statement = select(B.wanted, B.hand_id, B.position_at, B.position_id).where(B.id == _JOB)
    return _in_hand(connection.execute(statement, {"job": job}).one())


def _in_hand(row: Any) -> InHand:
    return InHand(
        is_cancelled=row.wanted == "cancel",
        failure_id=row.hand_id,
        position_at=row.position_at,
        position_id=row.position_id,
    )


def next_failure(connection: Connection, action: BulkAction, at: InHand) -> Failure | None:
    """Read the failure after the last one that was counted, the oldest first; None where there is none."""
    meant = conditions(connection, action.where)
    meant.append(F.failed_at <= bindparam("proposed", action.created_at, type_=F.failed_at.type))
    if at.position_id is not None:
        meant.append(
            tuple_(F.failed_at, F.id)
            > tuple_(
                bindparam("position_at", at.position_at, type_=F.failed_at.type),
                bindparam("position_id", at.position_id, type_=F.id.type),
            )
        )
    return next(iter(in_order(connection, action.projections, meant, limit=1, newest_first=False)), None)


def take(connection: Connection, job: UUID, failure: Failure) -> None:
    """Say which failure is in hand. Hold the action."""
    values = {"hand_at": failure.failed_at, "hand_id": failure.id, "updated_at": utc_now()}
    connection.execute(update(B).where(B.id == _JOB).values(values), {"job": job})


def count(connection: Connection, job: UUID, *, succeeded: bool) -> InHand:
    """Count the failure in hand, and put it down; return what is before us then. Hold the action."""
    counted = update(B).values(
        done=B.done + 1,
        succeeded=B.succeeded + int(succeeded),
        failed=B.failed + int(not succeeded),
        position_at=B.hand_at,
        position_id=B.hand_id,
        **_PUT_DOWN,
    )
    (row,) = Changing(counted, (B.id == _JOB,), *_BEFORE_US).run(connection, {"job": job})
    return _in_hand(row)


def let_go(connection: Connection, job: UUID, *, token: str) -> None:
    """Give an action up, to be run on by others."""
    values = {"lease_owner": null(), "lease_expires_at": null()}
    connection.execute(update(B).where(*_MINE).values(values), {"job": job, "token": token})


def want_cancelled(connection: Connection, job: UUID) -> None:
    """Let whoever runs an action end it; one that nobody runs is ended here. Hold its row."""
    connection.execute(update(B).where(B.id == _JOB).values(wanted="cancel", updated_at=utc_now()), {"job": job})
    unused = {"status": "cancelled", "finished_at": utc_now()}
    connection.execute(update(B).where(B.id == _JOB, _FREE, B.hand_id.is_(None)).values(unused), {"job": job})


def end(connection: Connection, job: UUID, status: str, error: str | None = None) -> None:
    """Write down how it ended. Hold the action."""
    values = {"status": status, "error": error, "finished_at": utc_now(), "lease_owner": null()}
    statement = update(B).where(B.id == _JOB).values(**values, lease_expires_at=null(), **_PUT_DOWN)
    connection.execute(statement, {"job": job})
