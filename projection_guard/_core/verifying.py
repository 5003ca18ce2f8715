"""A verification: a copy of the read model is made of the log alone, compared with the live one, and dropped.

The copy never overtakes the live projection, and leaves out what is failed, parked or skipped there. What has healed
there since is mended in the copy, and at the end the live projection stands still for as long as it takes to bring the
copy to exactly where that is, and to compare the two. `replaying` walks through these phases:

make -> build -> mend (both again, while it is far behind) -> still -> rest -> mend_rest -> compare
"""

from __future__ import annotations

from random import SystemRandom
from typing import Final

from sqlalchemy import Connection

from .._model import Json, Replay
from .._store import drift, left_out, partitions, replays, set_aside, shadows, standing_still, states
from .._store.drift import Comparing, Drift
from ..errors import StoreUnavailable
from . import building
from .admin import pass_barrier
from .asked import Verifying
from .context import Context, transact
from .log import EventLog
from .projection import Projection

__all__ = ["MENDING", "STILL", "came_to_its_end", "check", "compare", "next_mending", "plan", "say_how_far"]

MENDING: Final = ("mend", "mend_rest")
_MENDED_IN: Final = {"build": "mend", "rest": "mend_rest"}
STILL: Final = ("still", "rest", "mend_rest", "compare")
"""The phases in which the live projection stands still: they are neither throttled nor paused."""

_FAR_BEHIND: Final = 1000
"""So many sequences are not caught up with while the live projection stands still, if that can be helped."""

_ROUNDS: Final = 3
_MOST_ROUNDS: Final = 20
"""After these the rest is caught up with while it stands still: it may follow faster than this builds, without end."""

_WALK: Final = 500
_READ_AT_ONCE: Final = 20
_IN_VAIN: Final = 50
"""After so many draws in a row that met no other stream there are hardly any."""


async def plan(context: Context, projection: Projection, log: EventLog, asked: Verifying) -> Comparing:
    """Say what is to be compared: draw a sample of streams, if one is asked for."""
    streams = None if asked.streams is None else tuple(sorted(set(asked.streams)))
    if asked.sample_streams is not None:
        end = await transact(context, lambda connection: _low(connection, projection), what="reading")
        streams = tuple(sorted(await _drawn(projection, log, asked.sample_streams, end)))
    return Comparing(
        streams=streams,
        stream_column=asked.stream_column,
        ignore=tuple(asked.ignore),
        max_differences=asked.max_differences,
    )


async def _drawn(projection: Projection, log: EventLog, wanted: int, end: int) -> set[str]:
    """Draw streams by drawing places in the log: a stream with many events is the likelier for it."""
    drawn, in_vain = set[str](), 0
    while end and len(drawn) < wanted and in_vain < _IN_VAIN:
        in_vain += 1
        after = SystemRandom().randrange(end)
        for recorded in (await log.read(after, _READ_AT_ONCE, end)).events:
            incoming = log.incoming(projection, recorded)
            if incoming is not None and incoming.record.stream_id not in (None, *drawn):
                drawn.add(str(incoming.record.stream_id))
                in_vain = 0
                break
    return drawn


def check(connection: Connection, projection: Projection, how: Comparing) -> None:
    """Raise `InvalidArgument` for columns that no table has, `ConfigurationError` for a table that is not there."""
    drift.check(connection, projection.tables, how)


async def came_to_its_end(context: Context, projection: Projection, job: Replay, phase: str) -> None:
    """The copy has come to the end of a phase: what has healed by now is mended next.

    Nothing is done where it has not: whoever has seen it there may have been stopped since, while another one went on.
    """

    def go_on(connection: Connection) -> None:
        states.hold_row(connection, projection.name)
        seen, row = replays.one(connection, job.id), partitions.replay_row(connection, projection.name)
        if seen is not None and not seen.is_finished and seen.phase == phase and row and row.cursor >= seen.ends_at:
            replays.next_phase(connection, job.id, _MENDED_IN[phase])

    await transact(context, go_on, what=_what(projection, job))


async def say_how_far(context: Context, projection: Projection, job: Replay) -> None:
    """Wait until nothing of the live projection is in flight any more, and say how far that has come."""

    def look(connection: Connection) -> None:
        states.hold_row(connection, projection.name)
        if building.is_in(connection, job, "still"):
            furthest = max((row.cursor for row in partitions.rows(connection, projection.name)), default=0)
            replays.next_phase(connection, job.id, "rest", ends_at=furthest)

    await pass_barrier(context, projection)
    await transact(context, look, what=_what(projection, job))


async def next_mending(context: Context, projection: Projection, job: Replay, phase: str, *, rounds: int) -> int | None:
    """Go back to the first event that has healed since it was left out, and return how far to walk from there.

    `rounds`: how often the copy was built on. None where there is none, and the next phase has begun. Where somebody
    died in a walk, it is taken up where he was.
    """

    def look(connection: Connection) -> int | None:
        state = states.hold_row(connection, projection.name)
        seen = replays.one(connection, job.id)
        if seen is None or seen.is_finished or seen.phase != phase:
            return None
        first = left_out.first_healed(connection, job.id, projection.name)
        if first is None:
            partitions.begin_replay(connection, projection.name, seen.ends_at)
            _begin_next(connection, projection, seen, is_live=state.state in ("active", "paused"), rounds=rounds)
            return None
        row = partitions.replay_row(connection, projection.name)
        if row is None or not first - _WALK <= row.cursor < first:
            partitions.begin_replay(connection, projection.name, first - 1)
        return min(first - 1 + _WALK, seen.ends_at)

    return await transact(context, look, what=_what(projection, job))


async def compare(context: Context, projection: Projection, job: Replay) -> bool | None:
    """Compare the two, drop the copy, and let the live projection go on; return whether they differ.

    None where somebody else has done that. Raises `RebuildRefused` where the database does not want it.
    """
    into, name = str(job.built_into), projection.name

    def write(connection: Connection) -> bool | None:
        states.hold_row(connection, name)
        if not building.is_in(connection, job, "compare"):
            return None
        how = Comparing.of(job.comparing)
        tables = [drift.compare(connection, into, table, how) for table in projection.tables]
        omitted = left_out.summary(connection, job.id)
        is_other = any(_differs(table) for table in tables) or omitted.failed.events > 0
        listed: list[Json] = [table.as_json() for table in tables]
        found: Json = {"drifted": is_other, "position": job.ends_at, "tables": listed, "left_out": omitted.as_json()}
        shadows.drop(connection, into, projection.tables)
        set_aside.clear(connection, job.id)
        partitions.end_replay(connection, name)
        replays.count_left_out(connection, job.id, omitted.passed)
        replays.end(connection, job.id, "completed", None, found)
        standing_still.go_on(connection, name)
        return is_other

    what = f"{name}: the read model was not compared with its copy"
    try:
        return await transact(context, write, what=what, seconds=building.LONGEST_SECONDS)
    except StoreUnavailable as error:
        raise building.refused(projection, "it could not be compared with its copy", error) from error


def _differs(table: Drift) -> bool:
    return bool(table.missing or table.unexpected or table.different)


def _begin_next(connection: Connection, projection: Projection, seen: Replay, *, is_live: bool, rounds: int) -> None:
    """Compare; before that, build on where the live one is far ahead by now, or let it stand still."""
    ahead = _low(connection, projection) - seen.ends_at
    if seen.phase == "mend_rest":
        replays.next_phase(connection, seen.id, "compare")
    elif ahead > _FAR_BEHIND and _is_worth_a_round(rounds, ahead, built=seen.ends_at - seen.begins_after):
        replays.next_phase(connection, seen.id, "build", ends_at=seen.ends_at + ahead)
    elif is_live:
        standing_still.stand_still(connection, projection.name)
        replays.next_phase(connection, seen.id, "still")


def _is_worth_a_round(rounds: int, ahead: int, *, built: int) -> bool:
    return rounds <= _ROUNDS or (rounds <= _MOST_ROUNDS and ahead < built // 2)


def _low(connection: Connection, projection: Projection) -> int:
    """Return how far all of the live projection's partitions have come."""
    return min((row.cursor for row in partitions.rows(connection, projection.name)), default=0)


def _what(projection: Projection, job: Replay) -> str:
    return f"{projection.name}: {job.kind} {job.id}"
