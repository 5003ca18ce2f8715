"""Checkpoints and health metrics: bumped by failures in their own transaction, rolled up for successes.

Lock order: these rows come last in every transaction that touches them, the checkpoint before the metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    Connection,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    update,
)

from .._dialect import Changing, PerDialect, is_among, is_mysql, later, utc_now
from .._health import HealthPolicy, Signs, judge
from .._model import Checkpoint, EventRecord
from .._tables import (
    ProjectionAppliedEvent,
    ProjectionCheckpoint,
    ProjectionHealthMetrics,
    ProjectionPartition,
    ProjectionState,
    ProjectionStream,
)

__all__ = [
    "bump_checkpoint",
    "checkpoint",
    "clear_checkpoint",
    "count_failures",
    "ensure",
    "names_to_roll_up",
    "prune",
    "record_timing",
    "roll_up",
]

C, M, A, S, T, W = (
    ProjectionCheckpoint,
    ProjectionHealthMetrics,
    ProjectionAppliedEvent,
    ProjectionStream,
    ProjectionState,
    ProjectionPartition,
)

_NAME: BindParameter[str] = bindparam("projection")
_ensure_checkpoint = PerDialect(
    lambda insert: (
        insert(C)
        .values(
            projection_name=_NAME,
            checkpoint_at=utc_now(),
            events_processed=0,
            created_at=utc_now(),
            updated_at=utc_now(),
        )
        .on_conflict_do_nothing()
    )
)
_ensure_metrics = PerDialect(
    lambda insert: (
        insert(M)
        .values(
            projection_name=_NAME,
            total_events_processed=0,
            total_failures=0,
            active_failures=0,
            lag_seconds=0.0,
            health_status="healthy",
            created_at=utc_now(),
            updated_at=utc_now(),
        )
        .on_conflict_do_nothing()
    )
)


def ensure(connection: Connection, projection: str) -> None:
    """Make the checkpoint's and the metrics' rows, if they are not there."""
    connection.execute(_ensure_checkpoint.of(connection), {"projection": projection})
    connection.execute(_ensure_metrics.of(connection), {"projection": projection})


_SEQUENCE = bindparam("sequence", type_=C.last_event_sequence.type)
_PUSHED = exists(select(literal(1)).where(T.projection_name == _NAME, T.mode == "pushed"))
_MOVES = and_(
    _PUSHED,
    or_(
        and_(_SEQUENCE.is_not(None), or_(C.last_event_sequence.is_(None), C.last_event_sequence < _SEQUENCE)),
        and_(_SEQUENCE.is_(None), C.last_event_sequence.is_(None)),
    ),
)
_bump = (
    update(C)
    .where(C.projection_name == _NAME)
    .values(
        last_event_id=case((_MOVES, bindparam("event", type_=C.last_event_id.type)), else_=C.last_event_id),
        last_event_type=case((_MOVES, bindparam("type", type_=C.last_event_type.type)), else_=C.last_event_type),
        last_event_sequence=case((_MOVES, _SEQUENCE), else_=C.last_event_sequence),
        checkpoint_at=utc_now(),
        events_processed=C.events_processed + bindparam("processed"),
        updated_at=utc_now(),
    )
)


def bump_checkpoint(connection: Connection, projection: str, event: EventRecord, processed: int = 0) -> None:
    """Move the checkpoint forward to an event, never back, and count what was applied.

    A followed projection's is the smallest cursor of its followers: there this only counts.
    """
    connection.execute(
        _bump,
        {
            "projection": projection,
            "event": event.event_id,
            "type": event.event_type,
            "sequence": event.sequence,
            "processed": processed,
        },
    )


def has_past(connection: Connection, projection: str) -> bool:
    """Return whether anything was ever recorded of a projection since its last reset."""
    moved = select(C.projection_name).where(
        C.projection_name == projection, or_(C.last_event_id.is_not(None), C.events_processed > 0)
    )
    applied = select(A.event_id).where(A.projection_name == projection).limit(1)
    return connection.execute(moved).first() is not None or connection.execute(applied).first() is not None


def move_checkpoint(connection: Connection, projection: str) -> None:
    """Move a followed projection's checkpoint forward, to where all its cursors have come."""
    of_projection = (W.projection_name == projection, W.partition >= 0)
    cursors = select(W.cursor, W.last_event_id, W.last_event_type).where(*of_projection).order_by(W.cursor)
    low = cursors.limit(1).subquery()
    named = {"last_event_id": low.c.last_event_id, "last_event_type": low.c.last_event_type}
    moment = {"checkpoint_at": utc_now(), "updated_at": utc_now()}
    behind = or_(C.last_event_sequence.is_(None), C.last_event_sequence < low.c.cursor)
    statement = update(C).where(C.projection_name == projection, behind)
    connection.execute(statement.values(last_event_sequence=low.c.cursor, **named, **moment))


_clear_checkpoint = (
    update(C)
    .where(C.projection_name == _NAME)
    .values(
        last_event_id=None,
        last_event_type=None,
        last_event_sequence=None,
        events_processed=0,
        checkpoint_at=utc_now(),
        updated_at=utc_now(),
    )
)


def clear_checkpoint(connection: Connection, projection: str) -> None:
    """Set a projection back to the beginning (reset)."""
    connection.execute(_clear_checkpoint, {"projection": projection})


def checkpoint(connection: Connection, projection: str) -> Checkpoint | None:
    """Read a checkpoint."""
    row = connection.execute(select(*C.__table__.c).where(C.projection_name == projection)).one_or_none()
    return None if row is None else Checkpoint(**row._mapping)  # pyright: ignore[reportPrivateUsage]


_count = Changing(
    update(M).values(
        total_failures=M.total_failures + bindparam("new"),
        active_failures=M.active_failures + bindparam("change"),
        last_failure_at=case((bindparam("failed").is_(True), utc_now()), else_=M.last_failure_at),
        updated_at=utc_now(),
    ),
    (M.projection_name == _NAME,),
    M.active_failures,
    M.health_status,
)
_set_status = update(M).where(M.projection_name == _NAME).values(health_status=bindparam("status"))


_held = select(T.projection_name).where(T.projection_name == _NAME, T.held_since.is_not(None))


def count_failures(
    connection: Connection,
    policy: HealthPolicy,
    projection: str,
    *,
    new: int = 0,
    change: int = 0,
    failed: bool = False,
) -> tuple[str, str]:
    """Count new failures and the change of unresolved ones; return the status before and now.

    `failed` says that an attempt failed just now, also where the number of failures stays.
    """
    (row,) = _count.run(connection, {"projection": projection, "new": new, "change": change, "failed": failed})
    held = connection.execute(_held, {"projection": projection}).first() is not None
    status, _ = judge(policy, Signs(active_failures=row.active_failures, held=held))
    if status != row.health_status:
        connection.execute(_set_status, {"projection": projection, "status": status})
    return row.health_status, status


_new = (
    select(A.event_id)
    .where(A.projection_name == _NAME, ~A.rolled_up)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_roll_up = (
    update(A)
    .where(A.projection_name == _NAME, is_among(A.event_id, _new.scalar_subquery()))
    .values(rolled_up=true())
    .returning(A.event_id, A.event_type, A.event_sequence, A.applied_at, A.how)
)
_roll_up_found = Changing(
    update(A).values(rolled_up=true()),
    (A.projection_name == _NAME, A.event_id.in_(bindparam("found", expanding=True))),
    A.event_id,
    A.event_type,
    A.event_sequence,
    A.applied_at,
    A.how,
)
_succeeded = (
    update(M)
    .where(M.projection_name == _NAME)
    .values(
        total_events_processed=M.total_events_processed + bindparam("processed"),
        last_success_at=case(
            (
                or_(M.last_success_at.is_(None), M.last_success_at < bindparam("at", type_=M.last_success_at.type)),
                bindparam("at", type_=M.last_success_at.type),
            ),
            else_=M.last_success_at,
        ),
        updated_at=utc_now(),
    )
)


def names_to_roll_up(connection: Connection) -> list[str]:
    """Name the projections that have successes which are not counted yet."""
    return list(connection.execute(select(A.projection_name).where(~A.rolled_up).distinct()).scalars())


def roll_up(connection: Connection, projection: str, limit: int) -> int:
    """Count up to `limit` successes into checkpoint and metrics, and flag them; return how many.

    The flag and the counters commit together, so that no success is counted twice or never.
    """
    parameters = {"projection": projection, "limit": limit}
    rows: Sequence[Any] = ()
    if not is_mysql(connection.dialect):
        rows = connection.execute(_roll_up, parameters).all()
    elif found := connection.execute(_new, parameters).scalars().all():  # no LIMIT in its subqueries
        rows = _roll_up_found.run(connection, {"projection": projection, "found": found})
    if not rows:
        return 0
    applied = [row for row in rows if row.how == "applied"]
    newest = max(rows, key=_by_sequence_then_time)
    record = EventRecord(event_id=newest.event_id, event_type=newest.event_type, sequence=newest.event_sequence)
    bump_checkpoint(connection, projection, record, processed=len(applied))
    if applied:
        at = max(row.applied_at for row in applied)
        connection.execute(_succeeded, {"projection": projection, "processed": len(applied), "at": at})
    return len(rows)


def _by_sequence_then_time(row: Any) -> tuple[int, datetime]:
    return (-1 if row.event_sequence is None else row.event_sequence, row.applied_at)


_MEAN: Final[BindParameter[float]] = bindparam("mean")
_timing = (
    update(M)
    .where(M.projection_name == _NAME)
    .values(
        avg_processing_time_ms=case(
            (M.avg_processing_time_ms.is_(None), _MEAN),
            else_=M.avg_processing_time_ms + (_MEAN - M.avg_processing_time_ms) * bindparam("weight"),
        )
    )
)


def record_timing(connection: Connection, projection: str, *, calls: int, total_ms: float) -> None:
    """Let the handler times measured by one process since it last told flow into the average.

    A moving average over about the last 1,000 calls: an old fast past does not hide that a handler has become slow.
    """
    connection.execute(
        _timing, {"projection": projection, "mean": total_ms / calls, "weight": min(1.0, calls / 1000 + 0.001)}
    )


_is_behind = exists().where(
    W.projection_name == T.projection_name, W.partition >= 0, W.cursor < func.coalesce(T.rescan_until, 0)
)
_is_anywhere = exists().where(W.projection_name == T.projection_name, W.partition >= 0)
_compared = select(T.projection_name).where(T.mode == "followed", or_(_is_behind, ~_is_anywhere))
"""With whose applied events the log is still compared, or will be: those are not forgotten before."""
_oldest = (
    select(A.projection_name, A.event_id)
    .where(A.rolled_up, A.applied_at < later(bindparam("before")), A.projection_name.not_in(_compared))
    .order_by(A.applied_at)
    .limit(bindparam("limit"))
)
_prune = delete(A).where(tuple_(A.projection_name, A.event_id).in_(_oldest)).returning(A.projection_name, A.stream_id)
_prune_found = Changing(
    delete(A),
    (tuple_(A.projection_name, A.event_id).in_(bindparam("found", expanding=True)), A.rolled_up == true()),
    A.projection_name,
    A.stream_id,
)
_prune_gates = delete(S).where(
    tuple_(S.projection_name, S.stream_id).in_(bindparam("gates", expanding=True)),
    S.touched_at < later(bindparam("before")),
    ~S.blocked,
    ~S.tainted,
    S.lease_owner.is_(None),
)


_note_pruned = update(T).where(T.projection_name.in_(bindparam("names", expanding=True))).values(pruned_at=utc_now())


def prune(connection: Connection, *, older_than_seconds: float, limit: int) -> int:
    """Forget up to `limit` applied events older than that, and the gates of streams that had nothing since.

    A gate that is blocked, tainted or leased stays; the condition is tested on the locked row. What was pushed stays
    until the log was compared with it.
    """
    parameters = {"before": -older_than_seconds, "limit": limit}
    rows: Sequence[Any] = ()
    if not is_mysql(connection.dialect):
        rows = connection.execute(_prune, parameters).all()
    elif found := connection.execute(_oldest, parameters).all():
        rows = _prune_found.run(connection, {"found": [tuple(row) for row in found]})
    gates: Iterable[tuple[str, str]] = {(row.projection_name, row.stream_id) for row in rows}
    if rows:
        connection.execute(_note_pruned, {"names": sorted({row.projection_name for row in rows})})
        connection.execute(_prune_gates, {"gates": sorted(gates), "before": -older_than_seconds})
    return len(rows)
