"""A person ends a stream's taint, who has mended its read model; who says so is on record.

What was skipped there counts as mended by hand from then on, as it would if it had been resolved so at once.
"""

from __future__ import annotations

from sqlalchemy import Connection

from .._model import Json, Order
from .._notices import Notice, NoticeKind
from .._store import audits, gates, replays, settled, states
from ..errors import FailureBusy, InvalidArgument
from . import admin
from .admin import Deed
from .context import Context, transact
from .projection import Projection

__all__ = ["untaint"]


async def untaint(
    context: Context, projection: Projection, stream_id: str, *, tainted_reason: str | None, deed: Deed
) -> bool:
    """Say that a stream is right again, with a reason only where that is why it is tainted; False where it is not.

    It waits for whoever holds the stream: a taint is written under the same lock, and one that comes later stays.
    """
    name = projection.name
    if projection.order is Order.GLOBAL and stream_id:
        raise InvalidArgument(
            f"Projection {name!r} keeps one order over all of its streams, and is tainted as a whole: its stream is "
            "'', as it is listed among those that are tainted"
        )

    def write(connection: Connection) -> bool:
        found = gates.lock_taint(connection, name, stream_id)
        if audits.details_of(connection, name, deed.action_id) is not None:
            return True
        if found is None:
            return False
        _refuse_another(projection, stream_id, found, tainted_reason)
        _refuse_during_job(connection, projection)
        gates.untaint(connection, name, stream_id)
        _write_down(connection, projection, stream_id, found, deed)
        return True

    was_tainted = await transact(context, write, what=f"{name}: the taint of stream {stream_id!r} was not ended")
    if was_tainted:
        context.tell([Notice(kind=NoticeKind.UNTAINTED, projection=name, stream_id=stream_id, actor=deed.actor)])
    return was_tainted


def _refuse_another(projection: Projection, stream_id: str, found: str, seen: str | None) -> None:
    if seen is not None and seen != found:
        raise FailureBusy(
            f"Stream {stream_id!r} of projection {projection.name!r} is tainted for another reason by now: {found}; "
            "look at it again"
        )


def _refuse_during_job(connection: Connection, projection: Projection) -> None:
    """Refuse while a job is under way: it may clear the stream, or go by which streams are tainted. Hold the gate.

    The state's row is locked after it, as whoever counts a failure does.
    """
    states.hold_row(connection, projection.name)
    if replays.unfinished(connection, projection.name) is not None:
        raise FailureBusy(admin.why_busy(connection, projection, "busy"))


def _write_down(connection: Connection, projection: Projection, stream_id: str, found: str, deed: Deed) -> None:
    details: dict[str, Json] = {
        "stream_id": stream_id,
        "tainted_reason": found,
        "fixed_events": settled.fixed_behind(connection, projection.name, stream_id),
    }
    audits.write(
        connection,
        action_id=deed.action_id,
        actor=deed.actor,
        action="untaint",
        projection=projection.name,
        note=deed.note,
        details=details,
    )
