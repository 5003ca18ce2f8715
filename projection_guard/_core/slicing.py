"""Slices of a rebuild, replayed by a task of an executor: in this process, in another one, or on another machine.

A task takes the slices' leases, and gives up at once where somebody else has them; so it does no harm that an executor
runs a task twice. It walks with all of its slices at once: the log is read once for them. It goes on for a while only,
as long as the job is to go on with whoever has sent it.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Final
from uuid import UUID

from .._model import Replay
from .._store import replays
from .._store.slices import row_of
from ..errors import (
    ConfigurationError,
    ExecutorLost,
    KeysUnavailable,
    ProjectionGuardError,
    RebuildRefused,
    SchemaError,
    SourceError,
    StoreUnavailable,
    UnknownProjection,
)
from . import building
from .context import Context, transact
from .course import Beside, Course
from .following import Follower
from .log import EventLog
from .projection import Projection

__all__ = ["PHASE", "SliceDone", "SliceOrder", "course_of", "failed", "raised_by", "work_on_slice"]

PHASE: Final = "slices"
_RAISED: Final = {
    kind.__name__: kind
    for kind in (
        ConfigurationError,
        KeysUnavailable,
        RebuildRefused,
        SchemaError,
        SourceError,
        StoreUnavailable,
        UnknownProjection,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceOrder:
    """What a task is to do: names and numbers, and nothing that gives access to a database.

    `numbers`: which slices, of so many; none where it is only to say whether it comes by its guard. `token` is whose
    tasks these are: once he runs the job no more, they end. `seconds`: how long it is to go on. `attempt` is another
    one each time, for executors that answer the same question from memory.
    """

    projection: str
    job: UUID
    token: str
    numbers: tuple[int, ...]
    of: int
    until: int
    seconds: float
    events_per_second: float | None = None
    attempt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceDone:
    """What a task has come to. `waits`: why it stopped early; `error` and `message`: what it raised, in words."""

    applied: int = 0
    waits: str | None = None
    error: str | None = None
    message: str = ""


def course_of(
    projection: Projection,
    job: Replay,
    *,
    of: int,
    only: frozenset[int] | None = None,
    run_by: str | None = None,
    events_per_second: float | None = None,
) -> Course:
    """Say what a follower is out for who replays slices, all of them or `only` some rows."""
    beside = None
    if job.built_into is not None:
        beside = Beside(job=job.id, into=job.built_into, tables=projection.tables)
    return Course(
        states=frozenset({"rebuilding"} if beside is None else {"active", "paused"}),
        beside=beside,
        job=job.id,
        events_per_second=events_per_second,
        slices=of,
        only=only,
        run_by=run_by,
    )


async def work_on_slice(context: Context, projection: Projection, log: EventLog, order: SliceOrder) -> SliceDone:
    """Replay slices for a while, or to their end. Raises what the source or the store raises, and `RebuildRefused`."""
    if not order.numbers:
        return SliceDone()
    what = f"{projection.name}: replay {order.job}"
    job = await transact(context, lambda connection: replays.one(connection, order.job), what=what)
    if job is None:
        raise ConfigurationError(
            f"{projection.name}: there is no replay {order.job} in the database of the guard that a process of the "
            "executor has made; guard_factory= has to make one for the same database and schema"
        )
    await building.check_tables(context, projection, job)
    course = course_of(
        projection,
        job,
        of=order.of,
        only=frozenset(map(row_of, order.numbers)),
        run_by=order.token,
        events_per_second=order.events_per_second,
    )
    follower = Follower(context, projection, log, course)
    try:
        done = await _follow(follower, order)
    except Exception:
        await context.io.shielded(follower.leave())
        raise
    # After an exit or an interruption the lease stays: who takes it over once it ends finds what was in hand.
    await context.io.shielded(follower.leave())
    return done


async def _follow(follower: Follower, order: SliceOrder) -> SliceDone:
    """Follow in one go; whether it is wanted still is asked wherever the leases are prolonged."""
    end = monotonic() + order.seconds
    turn = await follower.follow(stops=lambda: monotonic() > end, until=order.until)
    waits = turn.waits if turn.partitions else turn.waits or "another task has it"
    return SliceDone(applied=turn.applied, waits=waits)


def failed(error: Exception) -> SliceDone:
    """Put what a task raised into words: an error would not always get across, and may say too much."""
    message = str(error) if isinstance(error, ProjectionGuardError) else ""
    return SliceDone(error=type(error).__name__, message=message)


def raised_by(done: SliceDone, projection: str) -> Exception | None:
    """Return what a task raised, as an error again."""
    if done.error is None:
        return None
    kind = _RAISED.get(done.error)
    if kind is not None:
        return kind(done.message)
    said = f": {done.message}" if done.message else ""
    return ExecutorLost(
        f"{projection}: a task of the rebuild ended in a process of the executor with {done.error}{said}"
    )
