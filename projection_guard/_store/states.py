"""What a person wants of a projection, and the barrier behind a change of it; the breaker's hold is in `outages`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    Connection,
    bindparam,
    delete,
    func,
    null,
    or_,
    select,
    text,
    union,
    update,
)

from .._dialect import Changing, PerDialect, is_mysql, is_sqlite, statement_start, utc_now
from .._model import Order
from .._tables import (
    ParkedEvent,
    ProjectionAppliedEvent,
    ProjectionFailure,
    ProjectionReplay,
    ProjectionState,
    ProjectionStream,
)
from . import generations, partitions
from .attempts import is_reserved

__all__ = [
    "StateRow",
    "begin_job",
    "begin_reset",
    "end_job",
    "ensure",
    "followed",
    "forget_gates",
    "in_flight",
    "leased",
    "open_rows",
    "read",
    "set_ordering",
    "set_state",
]

T, S, P, A = ProjectionState, ProjectionStream, ParkedEvent, ProjectionAppliedEvent
F, R = ProjectionFailure, ProjectionReplay
_NAME: BindParameter[str] = bindparam("projection")


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRow:
    """A projection's state as it is stored."""

    state: str
    ordering: str
    mode: str
    rescan_until: int | None
    pruned_at: datetime | None
    held_since: datetime | None
    outage_began_at: datetime | None
    failed_probes: int


_ensure = PerDialect(
    lambda insert: (
        insert(T)
        .values(
            projection_name=_NAME,
            ordering=bindparam("order"),
            mode=bindparam("mode"),
            changed_at=utc_now(),
            created_at=utc_now(),
        )
        .on_conflict_do_nothing()
    )
)
_read = select(
    T.state,
    T.ordering,
    T.mode,
    T.rescan_until,
    T.pruned_at,
    T.held_since,
    T.outage_began_at,
    T.failed_probes,
).where(T.projection_name == _NAME)


def ensure(connection: Connection, projection: str, order: Order, mode: str) -> bool:
    """Make the projection's row; return False where it is there already."""
    if read(connection, projection) is not None:
        return False
    parameters = {"projection": projection, "order": order.value, "mode": mode}
    return connection.execute(_ensure.of(connection), parameters).rowcount == 1


def read(connection: Connection, projection: str) -> StateRow | None:
    """Read a projection's state."""
    row = connection.execute(_read, {"projection": projection}).one_or_none()
    return None if row is None else StateRow(**row._mapping)  # pyright: ignore[reportPrivateUsage]


def active(connection: Connection) -> frozenset[str]:
    """Name the projections that are neither paused nor being reset or rebuilt."""
    return frozenset(connection.execute(select(T.projection_name).where(T.state == "active")).scalars())


def followed(connection: Connection) -> frozenset[str]:
    """Name the projections that are followed, perhaps by others."""
    return frozenset(connection.execute(select(T.projection_name).where(T.mode == "followed")).scalars())


def hold_row(connection: Connection, projection: str) -> StateRow:
    """Hold a projection's state to the end of the transaction, and read it."""
    row = connection.execute(_read.with_for_update(), {"projection": projection}).one()
    return StateRow(**row._mapping)  # pyright: ignore[reportPrivateUsage]


def set_ordering(connection: Connection, projection: str, order: Order) -> None:
    """Store a changed order; only sound while nothing waits."""
    connection.execute(update(T).where(T.projection_name == projection).values(ordering=order.value))


def set_mode(connection: Connection, projection: str, mode: str, *, rescan_until: int | None) -> None:
    """Store whether a projection is followed or pushed. Pass the barrier after a change."""
    values = {"mode": mode, "rescan_until": rescan_until}
    connection.execute(update(T).where(T.projection_name == projection).values(values))


def open_rows(connection: Connection, projection: str) -> bool:
    """Return whether a projection has unresolved failures or parked events."""
    failed = select(F.id).where(F.projection_name == projection, F.resolved_at.is_(None)).limit(1)
    parked = select(P.id).where(P.projection_name == projection).limit(1)
    return connection.execute(failed).first() is not None or connection.execute(parked).first() is not None


def set_state(connection: Connection, projection: str, state: str, *, actor: str, reason: str | None) -> str:
    """Store what a person wants; return what was wanted before. Commit it, then pass the barrier."""
    before = connection.execute(select(T.state).where(T.projection_name == projection).with_for_update()).scalar_one()
    connection.execute(
        update(T)
        .where(T.projection_name == projection)
        .values(state=state, actor=actor, reason=reason, changed_at=utc_now())
    )
    return str(before)


def begin_job(connection: Connection, projection: str, state: str, *, actor: str, reason: str) -> None:
    """Let a replay or rebuild begin, and note what it ends in. Hold the projection's state."""
    values = {"actor": actor, "reason": reason, "changed_at": utc_now()}
    # MariaDB and MySQL set one after the other
    in_order: list[tuple[str, Any]] = [("state_after", T.state), ("state", state), *values.items()]
    connection.execute(update(T).where(T.projection_name == projection).ordered_values(*in_order))


def begin_reset(connection: Connection, projection: str, *, actor: str, reason: str) -> str:
    """Let a reset begin, and note what it ends in: the state before it, also before one that came to no end."""
    statement = select(T.state, T.state_after).where(T.projection_name == projection).with_for_update()
    row = connection.execute(statement).one()
    after = row.state_after if row.state == "resetting" else row.state
    values = {"state": "resetting", "state_after": after, "actor": actor, "reason": reason, "changed_at": utc_now()}
    connection.execute(update(T).where(T.projection_name == projection).values(values))
    return str(row.state)


def end_job(connection: Connection, projection: str, *, actor: str, reason: str | None) -> str:
    """Let a reset or replay end, however that went: in the state before it, which is returned. Hold the state."""
    ended = {"state": func.coalesce(T.state_after, "active"), "state_after": null()}
    values = {**ended, "actor": actor, "reason": reason, "changed_at": utc_now()}
    ending = Changing(update(T).values(values), (T.projection_name == projection,), T.state)
    ((state,),) = ending.run(connection, {})
    return str(state)


def is_reset_of(connection: Connection, projection: str, reason: str) -> bool:
    """Hold the projection's state, and return whether it is still being reset by whoever gave this reason."""
    statement = select(T.state, T.reason).where(T.projection_name == projection).with_for_update()
    row = connection.execute(statement).one()
    return bool(row.state == "resetting" and row.reason == reason)


_transactions = text(
    """
    SELECT l.virtualtransaction FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.relation IN (CAST(:applied AS regclass), CAST(:gates AS regclass))
      AND l.mode = 'RowExclusiveLock'
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.granted AND l.pid <> pg_backend_pid()
    """
)
_leases = (
    select(func.count())
    .select_from(S)
    .where(S.projection_name == _NAME, S.lease_owner.is_not(None), S.lease_expires_at > statement_start())
)
_failure_leases = (
    select(func.count())
    .select_from(F)
    .where(
        F.projection_name == _NAME,
        F.resolved_at.is_(None),
        F.lease_expires_at > statement_start(),
        ~is_reserved(F.lease_owner),
    )
)


def in_flight(connection: Connection, schema: str | None) -> frozenset[str]:
    """Name the transactions that may still land under an old state: all that hold the applied events or the gates.

    Every delivery takes that lock before the snapshot with which it reads the state, so that a transaction which is
    not in this set reads the state as it is now. SQLite has one writer: there is never another one.
    """
    if is_sqlite(connection.dialect):
        return frozenset()
    if is_mysql(connection.dialect):
        return generations.in_flight(connection)
    prefix = f'"{schema}".' if schema else ""
    tables = {"applied": prefix + A.__tablename__, "gates": prefix + S.__tablename__}
    return frozenset(connection.execute(_transactions, tables).scalars())


def leased(connection: Connection, projection: str) -> int:
    """Count the apart calls of a projection that are under way."""
    parameters = {"projection": projection}
    live = connection.execute(_leases, parameters).scalar_one()
    retried = connection.execute(_failure_leases, parameters).scalar_one()
    return int(live) + int(retried) + partitions.in_hand(connection, projection)


def is_leased_now(connection: Connection, failure_id: UUID) -> bool:
    """Return whether an attempt of this failure is under way; a retry that is only reserved does not count."""
    statement = select(F.id).where(
        F.id == failure_id,
        F.lease_expires_at > statement_start(),
        ~is_reserved(F.lease_owner),
    )
    return connection.execute(statement).first() is not None


def forget_applied(connection: Connection, projection: str, *, beyond: int = 0) -> int:
    """Forget which events were applied (reset), or which of those after a sequence."""
    statement = delete(A).where(A.projection_name == projection)
    if beyond:
        statement = statement.where(A.event_sequence > beyond)
    return connection.execute(statement).rowcount


def forget_gates(connection: Connection, projection: str) -> None:
    """Forget the gates of a projection, but for streams in which events are parked: those become drainable.

    Somebody may be parking right now. The condition that spares his gate is in its own row, which he touches: what a
    subquery says is as old as the statement, also after it has waited for the row.
    """
    waiting = select(P.gate).where(P.projection_name == projection)
    began = select(T.changed_at).where(T.projection_name == projection).scalar_subquery()
    connection.execute(
        delete(S).where(S.projection_name == projection, S.touched_at < began, S.stream_id.not_in(waiting))
    )
    connection.execute(
        update(S)
        .where(S.projection_name == projection)
        .values(
            blocked=True,
            drain_after=utc_now(),
            tainted=False,
            tainted_reason=None,
            lease_owner=None,
            lease_expires_at=None,
            epoch=S.epoch + 1,
        )
    )


_with_retries = (
    select(F.projection_name)
    .where(
        F.resolved_at.is_(None),
        F.next_retry_at <= statement_start(),
        or_(
            F.lease_expires_at.is_(None), F.lease_expires_at <= statement_start(), F.lease_owner == bindparam("process")
        ),
    )
    .distinct()
)
_with_streams = select(S.projection_name).where(S.drain_after <= statement_start()).distinct()
_with_probes = select(T.projection_name).where(T.held_since.is_not(None), T.probe_at <= statement_start())
_names_with_work = union(_with_retries, _with_streams, _with_probes)


def names_with_work(connection: Connection, process: str) -> frozenset[str]:
    """Name the projections in which something is due now: a retry, a drain or a probe."""
    return frozenset(connection.execute(_names_with_work, {"process": process}).scalars())
