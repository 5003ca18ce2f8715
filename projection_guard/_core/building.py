"""A rebuild beside the live read model: made, built by the same handler, compared, and exchanged in one transaction.

The live one goes on meanwhile. Only at the end it stands still, until the other one has come as far and takes its
place. Where more events fail than may, it all ends, and the live one is as it was.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from .._dialect import Trouble, trouble
from .._model import Json, Order, Replay
from .._notices import Notice, NoticeKind
from .._store import counters, partitions, replays, shadows, slices, states
from ..errors import ConfigurationError, InvalidArgument, RebuildRefused, StoreUnavailable
from .admin import pass_barrier
from .built import Settled, settle
from .context import Context, transact
from .describing import describe
from .projection import Projection

__all__ = [
    "LONGEST_SECONDS",
    "be_ready",
    "check",
    "check_tables",
    "exchange",
    "is_in",
    "join_slices",
    "make",
    "refused",
    "say_how_far",
    "stand_still",
]

LONGEST_SECONDS: Final = 3600.0


def check(projection: Projection, max_failures: int) -> None:
    """Raise `InvalidArgument` for a projection that cannot be built beside itself, or not with failures."""
    if not projection.joins:
        raise InvalidArgument(
            f"Projection {projection.name!r} writes elsewhere; only what is written through the guard's connection can "
            "be built beside the live read model, or verified. For a rebuild, leave into= out"
        )
    if not projection.tables:
        raise InvalidArgument(
            f"Projection {projection.name!r} does not say which tables are its read model's; register it with "
            "tables=[...]"
        )
    if max_failures and projection.order is Order.GLOBAL:
        raise InvalidArgument(
            f"Projection {projection.name!r} has order='global': a failure holds everything after it, so none may be "
            "left over beside the live read model. Leave max_failures= out"
        )


async def make(context: Context, projection: Projection, job: Replay, *, slices_number: int | None) -> None:
    """Make the tables, empty, and a row to stand on, or one for each slice. Raises `RebuildRefused`."""
    into = _into(job)

    def write(connection: Connection) -> None:
        if is_in(connection, job, "make"):
            shadows.make(connection, into, projection.tables)
            if job.kind == "verify":  # nothing of the live tables is touched, not even what they count by
                shadows.count_apart(connection, into, projection.tables)
            if slices_number is not None:
                slices.begin(connection, projection.name, slices_number, job.begins_after)
                replays.next_phase(connection, job.id, "slices")
            else:
                partitions.begin_replay(connection, projection.name, job.begins_after)
                replays.next_phase(connection, job.id, "build")

    try:
        await transact(context, write, what=f"{projection.name}: {job.kind} {job.id}")
    except (ConfigurationError, StoreUnavailable) as error:
        raise refused(projection, "the tables beside it could not be made", error) from error


async def check_tables(context: Context, projection: Projection, job: Replay) -> None:
    """Raise `RebuildRefused` where a table is gone, or has none beside it: then the live one would be written to.

    So it is where another deployment, which knew of other tables, has begun the job, or somebody has dropped one.
    """

    def look(connection: Connection) -> list[str]:
        seen = replays.one(connection, job.id)
        if seen is None or seen.is_finished or seen.built_into is None or seen.phase == "make":
            return []
        return shadows.lacking(connection, seen.built_into, projection.tables)

    lacking = await transact(context, look, what=f"{projection.name}: {job.kind} {job.id}")
    if lacking:
        raise RebuildRefused(
            f"{projection.name}: there is no table {', '.join(map(repr, lacking))}, or none beside it: either it was "
            "dropped, or tables= did not name it when this was begun; begin it again"
        )


async def join_slices(context: Context, projection: Projection, job: Replay) -> None:
    """Go on from where all slices have come."""
    is_beside = job.built_into is not None

    def join(connection: Connection) -> None:
        if is_in(connection, job, "slices"):
            slices.finish(connection, projection.name, beside=is_beside, after=job.begins_after)
            replays.next_phase(connection, job.id, "build" if is_beside else "follow")

    await transact(context, join, what=f"{projection.name}: rebuild {job.id}")


async def stand_still(context: Context, projection: Projection, job: Replay) -> None:
    """Let the live projection stand still. The phase says so with its state, whoever of those who run the job dies."""

    def stop(connection: Connection) -> None:
        state = states.hold_row(connection, projection.name)
        if is_in(connection, job, "build") and state.state in ("active", "paused"):
            states.begin_job(connection, projection.name, "rebuilding", actor=job.actor, reason=f"beside {job.id}")
            replays.next_phase(connection, job.id, "still")

    await transact(context, stop, what=f"{projection.name}: rebuild {job.id}")


async def say_how_far(context: Context, projection: Projection, job: Replay) -> None:
    """Say how far there is to go: to where the live one has come, of which nothing is in flight then."""

    def look(connection: Connection) -> None:
        if is_in(connection, job, "still"):
            furthest = max(row.cursor for row in partitions.rows(connection, projection.name))
            replays.next_phase(connection, job.id, "rest", ends_at=max(furthest, job.ends_at))

    await pass_barrier(context, projection)
    await transact(context, look, what=f"{projection.name}: rebuild {job.id}")


async def be_ready(context: Context, job: Replay) -> None:
    """Say that it has come as far as the live one."""
    await transact(
        context, lambda connection: replays.next_phase(connection, job.id, "exchange"), what=f"rebuild {job.id}"
    )


async def exchange(context: Context, projection: Projection, job: Replay) -> bool:
    """Compare the two, let the new one take the live one's place, and settle what was open; False if that was done."""
    into, name = _into(job), projection.name

    def write(connection: Connection) -> list[Notice] | None:
        states.hold_row(connection, name)
        if not is_in(connection, job, "exchange"):
            return None
        compared: Json = [shadows.compare(connection, into, table).as_json() for table in projection.tables]
        shadows.exchange(connection, into, projection.tables)
        shadows.drop(connection, into, projection.tables)
        partitions.jump_to_replay(connection, name)
        slices.end(connection, name)  # those of a rebuild that was cancelled before
        partitions.end_replay(connection, name)
        settled = settle(connection, projection, job.id)
        replays.end(connection, job.id, "completed", None, compared)
        states.end_job(connection, name, actor=job.actor, reason=None)
        counters.move_checkpoint(connection, name)
        return [*settled.notices, *_count(connection, context, projection, settled)]

    what = f"{name}: the read model that was built beside was not exchanged for the live one"
    try:
        notices = await transact(context, write, what=what, seconds=LONGEST_SECONDS)
    except StoreUnavailable as error:
        raise refused(projection, "it could not take the live one's place", error) from error
    context.tell(notices or [])
    return notices is not None


def _count(connection: Connection, context: Context, projection: Projection, settled: Settled) -> list[Notice]:
    before, after = counters.count_failures(
        connection,
        context.health,
        projection.name,
        new=settled.new,
        change=settled.new - settled.ended,
        failed=settled.new > 0,
    )
    if before == after:
        return []
    return [Notice(kind=NoticeKind.STATUS_CHANGED, projection=projection.name, before=before, after=after)]


def refused(projection: Projection, what: str, error: Exception) -> Exception:
    """Say that the database does not want this; one that is away is only waited for."""
    cause = error if error.__cause__ is None else error.__cause__  # StoreUnavailable by itself looks like an outage
    if isinstance(error, StoreUnavailable) and trouble(cause) is not Trouble.OTHER:
        return error
    return RebuildRefused(f"{projection.name}: {what}: {describe(cause).message}")


def is_in(connection: Connection, job: Replay, phase: str) -> bool:
    """Return whether a job is in a phase; who looks holds the projection's state, or does what may be done twice."""
    seen = replays.one(connection, job.id)
    return seen is not None and not seen.is_finished and seen.phase == phase


def _into(job: Replay) -> str:
    assert job.built_into is not None
    return job.built_into
