"""The slices of a rebuild that is spread over an executor: rows beside those of the partitions, one for each slice.

Like a partition, a slice has a cursor, a lease and a range in hand, and its row is held in every transaction that
applies something of it: two tasks for one slice cannot both do so. Where such a rebuild is cancelled its slices stand
at different places. Their rows stay then, and say what a follower passes over until it has come as far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, delete, func, select, update

from .._dialect import utc_now
from .._source import partition_of
from .._tables import ProjectionPartition, ProjectionReplay, ProjectionState
from . import counters, partitions
from .partitions import REPLAY, PartitionRow

__all__ = ["Ahead", "ahead", "begin", "end", "finish", "leave", "level", "row_of", "rows", "slice_of"]

W, R, T = ProjectionPartition, ProjectionReplay, ProjectionState
_FIRST: Final = REPLAY - 1
_of_slices = (W.partition < REPLAY,)
_under_way = select(R.id).where(
    R.projection_name == bindparam("projection"), R.finished_at.is_(None), R.slices.is_not(None)
)


def row_of(number: int) -> int:
    """Return the row of a slice."""
    return _FIRST - number


def slice_of(row: int) -> int:
    """Return the slice of a row."""
    return _FIRST - row


def begin(connection: Connection, projection: str, number: int, after: int) -> None:
    """Make the rows of so many slices, each of which begins after a sequence."""
    end(connection, projection)
    for each in range(number):
        partitions.ensure_row(connection, projection, row_of(each), after)


def end(connection: Connection, projection: str) -> None:
    """Take the rows away, whoever stands on them."""
    connection.execute(delete(W).where(W.projection_name == projection, *_of_slices))


def rows(connection: Connection, projection: str, *, are_held: bool = False) -> list[PartitionRow]:
    """Read the slices; `are_held` waits for what is in flight on them, and lets nothing more through."""
    if are_held:
        held = select(W.partition).where(W.projection_name == projection, *_of_slices).order_by(W.partition)
        connection.execute(held.with_for_update()).all()
    return partitions.rows_where(connection, projection, *_of_slices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """How far the slices of a rebuild have come, by their numbers."""

    cursors: tuple[int, ...]

    def has(self, key: str, sequence: int) -> bool:
        """Return whether what is at a sequence of a stream is done."""
        return bool(self.cursors) and sequence <= self.cursors[partition_of(key, len(self.cursors))]


def ahead(connection: Connection, projection: str) -> Ahead:
    """Read how far the slices of a cancelled rebuild have come; those of one under way may be built beside."""
    if connection.execute(_under_way, {"projection": projection}).first() is not None:
        return Ahead(cursors=())
    found = {slice_of(row.partition): row.cursor for row in rows(connection, projection)}
    return Ahead(cursors=tuple(found[number] for number in sorted(found)))


def _lowest(connection: Connection, projection: str) -> Any:
    """Read where the last slice stands: it only moves on, so whoever writes that down later is not too far."""
    is_named = case((W.last_event_id.is_(None), 1), else_=0)
    low = select(W.cursor, W.last_event_id, W.last_event_type).where(W.projection_name == projection, *_of_slices)
    return connection.execute(low.order_by(W.cursor, is_named).limit(1)).one_or_none()


def _bring(connection: Connection, projection: str, low: Any, *which: Any) -> None:
    statement = update(W).where(W.projection_name == projection, W.cursor < low.cursor, *which)
    connection.execute(statement.values(**low._mapping, moved_at=utc_now()))


def level(connection: Connection, projection: str, *, beside: bool = False) -> None:
    """Let the partitions come to where all slices have come, and the job say so; `beside`, only the job.

    The projection stands still, unless the slices are built beside it.
    """
    low = _lowest(connection, projection)
    if low is None:
        return
    if not beside:
        _bring(connection, projection, low, W.partition >= 0)
        counters.move_checkpoint(connection, projection)
    unfinished = (R.projection_name == projection, R.finished_at.is_(None), R.slices.is_not(None))
    behind = update(R).where(*unfinished, R.position < low.cursor)
    connection.execute(behind.values(position=low.cursor, updated_at=utc_now()))


def finish(connection: Connection, projection: str, *, beside: bool, after: int) -> None:
    """Let the partitions come to where the slices have come, `beside` the row of a replay; the slices' rows go."""
    level(connection, projection, beside=beside)
    low = _lowest(connection, projection)
    if beside:
        partitions.begin_replay(connection, projection, after)
        if low is not None:
            _bring(connection, projection, low, W.partition == REPLAY)
    end(connection, projection)


def leave(connection: Connection, projection: str) -> None:
    """Leave the slices where they are: what they have applied is passed over by whoever follows.

    Hold the projection's state, in which nothing is applied any more.
    """
    left = rows(connection, projection, are_held=True)
    level(connection, projection)
    furthest = max((row.cursor for row in left), default=0)
    until = case((func.coalesce(T.rescan_until, 0) < furthest, furthest), else_=T.rescan_until)
    connection.execute(update(T).where(T.projection_name == projection).values(rescan_until=until))
