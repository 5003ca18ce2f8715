"""How far followed projections are behind their log: read from both, whenever somebody asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from .._health import Lag
from .._store import partitions, reading
from .._store.partitions import Reached
from ..errors import SourceError
from .context import Context, transact
from .log import EventLog
from .projection import Projection

__all__ = ["lags"]


async def lags(context: Context, projections: Sequence[Projection], log: EventLog | None) -> Mapping[str, Lag]:
    """Say for each followed projection how far it is behind; a log that cannot be read is no error here but a sign."""
    followed = [projection for projection in projections if projection.is_followed]
    if not followed or log is None:
        return {}
    names = [projection.name for projection in followed]

    def look(connection: Connection) -> tuple[dict[str, Reached], datetime]:
        return partitions.reached(connection, names), reading.now(connection)

    reached, now = await transact(context, look, what="the cursors")
    try:
        head = await log.head()
        return {name: await _lag(log, at, head, now) for name, at in reached.items()}
    except SourceError as error:
        return {name: Lag(unread=str(error), given_up=at.given_up) for name, at in reached.items()}


async def _lag(log: EventLog, at: Reached, head: int, now: datetime) -> Lag:
    if head < at.cursor:
        return Lag(is_beyond=True, given_up=at.given_up, cursor=at.cursor, head=head)
    if head == at.cursor:
        return Lag(given_up=at.given_up, cursor=at.cursor, head=head)
    batch = await log.read(at.cursor, 1, None)
    stands_for = max((now - at.moved_at).total_seconds(), 0.0)
    since = log.record_of(batch.events[0])[0].occurred_at if batch.events else None
    age = stands_for if since is None else max((now - since).total_seconds(), 0.0)
    return Lag(
        events=head - at.cursor,
        seconds=age,
        stuck_seconds=min(stands_for, age),
        is_held=batch.is_held and not batch.events,
        given_up=at.given_up,
        cursor=at.cursor,
        head=head,
    )
