"""The beginning of a durable job: what a person asked for becomes a row, and `replaying` runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal
from uuid import UUID, uuid4

from sqlalchemy import Connection

from .._model import Order, Replay
from .._store import audits, partitions, replays, slices, states
from .._store.replays import NewReplay
from .._store.states import StateRow
from ..errors import FailureBusy, InvalidArgument
from . import building, verifying
from .admin import why_busy
from .asked import Asked
from .context import Context, transact
from .log import EventLog
from .projection import Projection

__all__ = ["begin"]


async def begin(context: Context, projection: Projection, log: EventLog, asked: Asked, *, token: str | None) -> Replay:
    """Write a job down, and let the projection stand still for a replay. Raises `InvalidArgument`, `FailureBusy`."""
    head = await log.head()
    asked.check(head)
    if asked.into is not None or asked.verifying is not None:
        building.check(projection, asked.max_failures)
    if asked.slices is not None and projection.order is Order.GLOBAL:
        raise InvalidArgument(
            f"Projection {projection.name!r} has order='global': all its events are one line, of which nothing can be "
            "done beside the rest. Leave executor= out"
        )
    how = None
    if asked.verifying is not None:
        how = await verifying.plan(context, projection, log, asked.verifying)
    name, job = projection.name, uuid4()

    def write(connection: Connection) -> Replay:
        known = replays.one(connection, job)
        if known is not None:  # only the reply was lost
            return known
        state = states.hold_row(connection, name)
        if state.state not in ("active", "paused") or replays.unfinished(connection, name) is not None:
            raise FailureBusy(why_busy(connection, projection, state.state))
        cursors = [row.cursor for row in partitions.rows(connection, name)]
        new = _new(job, projection, asked, cursors, head=head, first_open=replays.first_open(connection, name))
        if how is not None:
            verifying.check(connection, projection, how)
            new = replace(new, comparing=how.as_json())
        _check_nothing_ahead(connection, projection, asked, cursors)
        _check_compared(projection, asked, state, cursors)
        kind: Literal["rebuilding", "replaying"] = "rebuilding" if asked.is_rebuild else "replaying"
        is_beside = new.built_into is not None  # the live read model goes on while another one is built
        if not is_beside:
            states.begin_job(connection, name, kind, actor=asked.actor, reason=f"{new.kind} {job}")
        replays.begin(connection, new, token=token, lease_seconds=context.lease_seconds)
        if new.phase == "again":
            partitions.begin_replay(connection, name, new.begins_after)
        audits.write(
            connection,
            action_id=job.hex,
            actor=asked.actor,
            action="verify" if how is not None else "rebuild" if asked.is_rebuild else "replay",
            projection=name,
            note=asked.note,
            details={
                "job": str(job),
                "kind": new.kind,
                "from": new.begins_after,
                "to": new.ends_at,
                "before": state.state,
                "after": state.state if is_beside else kind,
            },
        )
        begun = replays.one(connection, job)
        assert begun is not None
        return begun

    begun = await transact(context, write, what=f"{name}: the replay was not begun")
    context.wake(0.0)
    return begun


def _check_nothing_ahead(connection: Connection, projection: Projection, asked: Asked, cursors: Sequence[int]) -> None:
    """Raise `FailureBusy` where slices of a cancelled rebuild are ahead of the followers, and this would not know."""
    is_from_beginning = asked.is_rebuild and (asked.into is None or asked.slices is None)
    furthest = max(slices.ahead(connection, projection.name).cursors, default=0)
    if not is_from_beginning and furthest > min(cursors, default=0):
        raise FailureBusy(
            f"Projection {projection.name!r} has parts that a cancelled rebuild has brought to sequence {furthest}: "
            "wait until its checkpoint has come as far, or rebuild it"
        )


def _check_compared(projection: Projection, asked: Asked, state: StateRow, cursors: Sequence[int]) -> None:
    """Raise `FailureBusy` where events beyond the followers are on record as applied, and this would take them for not.

    A stream that is cleared would lose them: they are passed over in the log.
    """
    until = state.rescan_until or 0
    if (asked.stream_id is not None or asked.verifying is not None) and until > min(cursors, default=0):
        raise FailureBusy(
            f"The log of projection {projection.name!r} is still being compared with what was pushed, up to sequence "
            f"{until}: wait until its checkpoint has come as far, or rebuild it"
        )


def _new(
    job: UUID, projection: Projection, asked: Asked, cursors: Sequence[int], *, head: int, first_open: int | None
) -> NewReplay:
    to = head if asked.to_sequence is None else asked.to_sequence
    low, high = min(cursors, default=0), max(cursors, default=0)
    if asked.verifying is not None:
        kind, phase, after, end = "verify", "make", 0, low
    elif asked.into is not None:
        kind, phase, after, end = "beside", "make", 0, to
    elif asked.is_rebuild:
        kind, phase, after, end = "rebuild", "clear", 0, to
    elif asked.stream_id is not None:
        kind, phase, after, end = "stream", "clear", 0, low
    elif asked.from_sequence is not None:
        if not projection.applies_again:
            raise InvalidArgument(
                f"Projection {projection.name!r} has a read model that refuses what it has already: a range cannot be "
                "applied again. Replay one stream (stream_id=) or rebuild it: both clear it first"
            )
        if asked.from_sequence > low:
            raise InvalidArgument(
                f"Projection {projection.name!r} has come to sequence {low}, and a replay from {asked.from_sequence} "
                "has nothing to apply again; leave from_sequence= out to go on from the checkpoint"
            )
        kind, phase, after, end = "range", "again", max(asked.from_sequence - 1, 0), min(to, low)
    else:
        is_open = first_open is not None and first_open <= high
        kind, phase = "open", "again" if is_open else "follow"
        after, end = (min(first_open - 1, low) if is_open and first_open is not None else low), max(to, low)
    return NewReplay(
        id=job,
        projection_name=projection.name,
        kind=kind,
        from_sequence=asked.from_sequence,
        to_sequence=asked.to_sequence,
        stream_id=asked.stream_id,
        skip_failed=asked.skip_failed,
        events_per_second=asked.events_per_second,
        phase=phase,
        begins_after=after,
        ends_at=end,
        actor=asked.actor,
        note=asked.note,
        built_into=f"verify_{job.hex[:12]}" if asked.verifying is not None and asked.into is None else asked.into,
        max_failures=asked.max_failures,
        slices=asked.slices,
    )
