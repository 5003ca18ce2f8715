"""The breaker's hold on a projection in an outage, and its probes: when one is due, and what is tried then."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    Connection,
    Select,
    and_,
    bindparam,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import aliased

from .._dialect import Changing, later, statement_start, utc_now
from .._model import Order
from .._tables import ProjectionFailure, ProjectionReplay, ProjectionState

__all__ = ["hasten_probe", "hold", "let_go", "may_be_probed", "postpone_probe", "probe_candidate", "take_probe"]

T, F, R = ProjectionState, ProjectionFailure, ProjectionReplay
_Earlier = aliased(ProjectionFailure)
_NAME: BindParameter[str] = bindparam("projection")

_hold = (
    update(T)
    .where(T.projection_name == _NAME, T.held_since.is_(None))
    .values(
        held_since=utc_now(),
        outage_began_at=bindparam("began", type_=T.outage_began_at.type),
        probe_at=later(bindparam("pause")),
        failed_probes=0,
    )
)
_let_go = (
    update(T)
    .where(T.projection_name == _NAME)
    .values(held_since=null(), outage_began_at=null(), probe_at=null(), failed_probes=0)
)
_WALKING: Final = ("active", "replaying", "rebuilding")
"""In which states a projection held by the breaker waits for a probe: a replay does, too. A verification does not."""
_verified = exists(select(literal(1)).where(R.projection_name == _NAME, R.finished_at.is_(None), R.kind == "verify"))
_WALKS = and_(T.state.in_(_WALKING), or_(T.state == "active", ~_verified))
_take_probe = Changing(
    update(T).values(probe_at=later(bindparam("pause")), failed_probes=T.failed_probes + 1),
    (T.projection_name == _NAME, T.held_since.is_not(None), T.probe_at <= statement_start(), _WALKS),
    T.failed_probes,
)
_postpone_probe = (
    update(T)
    .where(T.projection_name == _NAME, T.failed_probes == bindparam("number"))
    .values(probe_at=later(bindparam("pause")))
)
_hasten_probe = (
    update(T).where(T.projection_name == _NAME, T.held_since.is_not(None)).values(probe_at=utc_now(), failed_probes=0)
)


def hold(connection: Connection, projection: str, *, began: datetime, pause_seconds: float) -> bool:
    """Hold a projection for an outage; False where it is held already."""
    parameters = {"projection": projection, "began": began, "pause": pause_seconds}
    return connection.execute(_hold, parameters).rowcount == 1


def let_go(connection: Connection, projection: str) -> None:
    """End the hold."""
    connection.execute(_let_go, {"projection": projection})


def take_probe(connection: Connection, projection: str, *, longest_call_seconds: float) -> int | None:
    """Take the next probe of a held projection if it is due: return its number, from 1. One worker gets it.

    The next one is put off for the longest a call may take; `postpone_probe` sets the real pause afterwards.
    """
    parameters = {"projection": projection, "pause": longest_call_seconds}
    taken = _take_probe.run(connection, parameters)
    return int(taken[0].failed_probes) if taken else None


def may_be_probed(connection: Connection, projection: str) -> bool:
    """Return whether a probe may be made: not while a copy is compared with the read model, which stands still."""
    statement = select(T.projection_name).where(T.projection_name == _NAME, _WALKS)
    return connection.execute(statement, {"projection": projection}).first() is not None


def postpone_probe(connection: Connection, projection: str, *, number: int, pause_seconds: float) -> None:
    """Set when the next probe is due, after the one of this number: not where it was hastened meanwhile."""
    connection.execute(_postpone_probe, {"projection": projection, "number": number, "pause": pause_seconds})


def hasten_probe(connection: Connection, projection: str) -> bool:
    """Let the next probe be due now, and the pauses begin anew; False where the projection is not held.

    Its row is locked: to be called last, as `hold` is. A probe that is under way does not postpone the next one then.
    """
    return connection.execute(_hasten_probe, {"projection": projection}).rowcount == 1


def _probe(order: Order) -> Select[Any]:
    """Return what names a failure to be tried, of those that wait for no earlier one of their stream."""
    statement = (
        select(F.id)
        .where(F.projection_name == _NAME, F.resolved_at.is_(None), F.next_retry_at.is_not(None))
        .where(
            ~exists(
                select(literal(1)).where(
                    R.projection_name == _NAME,
                    R.finished_at.is_(None),
                    R.kind.not_in(("beside", "verify")),  # the live projection goes on beside those
                    F.event_sequence > R.position,
                )
            )
        )
    )
    if order is not Order.NONE:
        same = (_Earlier.stream_id == F.stream_id,) if order is Order.STREAM else ()
        is_open = (_Earlier.projection_name == _NAME, _Earlier.resolved_at.is_(None))
        is_earlier = _Earlier.event_sequence < F.event_sequence
        statement = statement.where(~exists(select(literal(1)).where(*is_open, is_earlier, *same)))
    return statement.order_by(func.coalesce(F.last_retry_at, F.failed_at), F.id).limit(1)


_probes = {order: _probe(order) for order in Order}


def probe_candidate(connection: Connection, projection: str, order: Order) -> UUID | None:
    """Name the failure that was tried longest ago: so probes go from stream to stream.

    What a replay has not come to yet is left to it. What waits for an earlier failure of its stream would not be tried
    (`gates.wait_for_earlier`): it would be named each time, and the hold last until a person has ended the other one.
    """
    return connection.execute(_probes[order], {"projection": projection}).scalar_one_or_none()
