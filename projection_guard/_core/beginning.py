"""How following begins: for a new projection, for one that was pushed until now, at a place that a person names.

And how long to wait for it: `catch_up` to the log's end, `wait_for` up to one event.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Final

from sqlalchemy import Connection

from .._io.listening import CHANNEL
from .._model import EventRecord, Json, Outcome, OutcomeStatus
from .._store import audits, counters, gates, partitions, replays, slices, states
from .._store.states import StateRow
from ..errors import ConfigurationError, FailureBusy, InvalidArgument, StoreUnavailable, WaitTimeout
from .admin import pass_barrier, why_busy
from .answering import answer, known_answer
from .clearing import forget_beyond
from .context import Context, is_store_error, new_token, transact
from .following import Followed, Follower
from .log import EventLog
from .projection import Projection
from .sharing import check_layout

__all__ = ["begin_following", "catch_up", "defer", "follow_from", "wait_for"]

log_lines = logging.getLogger("projection_guard")
_LONGEST_POLL_SECONDS: Final = 0.05


async def begin_following(context: Context, projection: Projection, log: EventLog) -> None:
    """Make a projection's partitions. One that was pushed is switched, its log compared with what is on record.

    Raises `ConfigurationError` where that would not be sound any more.
    """
    name, what = projection.name, f"{projection.name}: following was not begun"

    def look(connection: Connection) -> bool:
        state = states.hold_row(connection, name)
        rows = partitions.rows(connection, name)
        if rows:
            check_layout(projection, rows)
            return False
        _check_remembered(projection, state)
        if state.mode == "pushed":
            _switch(connection, projection, state)
        return True

    if not await transact(context, look, what=what):
        return
    await pass_barrier(context, projection)
    head = await log.head()

    def begin(connection: Connection) -> None:
        states.hold_row(connection, name)
        if not partitions.rows(connection, name):
            has_past = counters.has_past(connection, name) or states.open_rows(connection, name)
            states.set_mode(connection, name, "followed", rescan_until=head if has_past else None)
            partitions.ensure(connection, name, projection.partitions)

    await transact(context, begin, what=what)


def _check_remembered(projection: Projection, state: StateRow) -> None:
    """Raise `ConfigurationError` where only a person can say where to begin, also while one is about to."""
    if state.pruned_at is not None:
        raise ConfigurationError(
            f"Projection {projection.name!r} was pushed until now, and what it has applied is partly forgotten already "
            "(older than dedupe_window): the log cannot be compared with it. Say where to begin with "
            "guard.follow_from(name, sequence, actor=...): 0, with its read model cleared, rebuilds it"
        )


def _switch(connection: Connection, projection: Projection, state: StateRow) -> None:
    name = projection.name
    states.set_mode(connection, name, "followed", rescan_until=None)
    audits.write(
        connection,
        action_id=new_token(),
        actor="projection_guard",
        action="follow",
        projection=name,
        note="the guard was given a source; the log is compared with what was recorded so far",
        details={"before": state.mode, "after": "followed"},
    )


async def follow_from(context: Context, projection: Projection, sequence: int, *, actor: str, note: str | None) -> None:
    """Let following begin after a sequence, by a person's decision: what is at or below it counts as done.

    What is on record of events beyond it is forgotten: they come again in the log.
    """
    name, what, action_id = projection.name, f"{projection.name}: where to begin was not set", new_token()
    if isinstance(sequence, bool) or sequence < 0:
        raise InvalidArgument(f"follow_from takes a sequence of the log, 0 for its beginning, not {sequence!r}")

    def look(connection: Connection) -> None:
        state = states.hold_row(connection, name)
        _refuse_during_job(connection, projection, state)
        if state.mode == "followed" and state.state != "paused" and partitions.rows(connection, name):
            raise InvalidArgument(
                f"Projection {name!r} is being followed; pause it first, then say where it is to go on from"
            )
        furthest = max(slices.ahead(connection, name).cursors, default=0)
        followed = min((row.cursor for row in partitions.rows(connection, name)), default=0)
        if sequence > 0 and furthest > max(sequence, followed):
            raise InvalidArgument(
                f"Projection {name!r} has parts that a cancelled rebuild has brought to sequence {furthest}, which "
                "would be applied again: wait until its checkpoint has come as far; or clear its read model, and say 0"
            )
        if state.mode != "followed":
            states.set_mode(connection, name, "followed", rescan_until=None)

    await transact(context, look, what=what)
    await pass_barrier(context, projection)

    def begin(connection: Connection) -> None:
        state = states.hold_row(connection, name)
        if audits.details_of(connection, name, action_id) is not None:
            return
        _refuse_during_job(connection, projection, state)
        states.set_mode(connection, name, "followed", rescan_until=None)
        before: list[Json] = [row.cursor for row in partitions.rows(connection, name)]
        after: list[Json] = [sequence] * projection.partitions
        partitions.begin_at(connection, name, projection.partitions, sequence)
        forget_beyond(connection, context, projection, sequence, actor=actor)
        audits.write(
            connection,
            action_id=action_id,
            actor=actor,
            action="follow_from",
            projection=name,
            note=note,
            details={"before": before, "after": after, "sequence": sequence},
        )

    await transact(context, begin, what=what)


def _refuse_during_job(connection: Connection, projection: Projection, state: StateRow) -> None:
    """Raise `FailureBusy` while a job is under way: its place in the log, or its slices', would go with the cursors."""
    if replays.unfinished(connection, projection.name) is not None:
        raise FailureBusy(why_busy(connection, projection, state.state))


async def catch_up(context: Context, projection: Projection, log: EventLog, follower: Follower) -> Followed:
    """Let a follower apply what is in the log now, to its end; partitions that others follow are waited for.

    Returns early where something stands in the way (a pause, the breaker, a hole that may still be filled); the result
    says so in `waits`.
    """
    head = await log.head()
    total = Followed(projection=projection.name)
    pause = 0.001
    try:
        while True:
            turn = await follower.follow(stops=lambda: False, until=head)
            total = total.plus(turn)
            at = await _lowest(context, projection)
            if at >= head or turn.waits is not None:
                return total.at(at)
            await context.io.sleep(pause)
            pause = min(pause * 2, _LONGEST_POLL_SECONDS)
    finally:
        await context.io.shielded(follower.leave())


async def defer(
    context: Context, projection: Projection, log: EventLog, record: EventRecord, wait_seconds: float | None
) -> Outcome:
    """Leave an event to whoever follows the log, and wake him; wait for him where that is wanted.

    An event that does not tell its sequence is waited for up to the end that the log has now.
    """
    ticket = projection.lone_ticket(record)
    context.wake(0.0)
    await _notify(context, projection)
    if wait_seconds is None:
        return answer(ticket, OutcomeStatus.DEFERRED)
    sequence, partition = record.sequence, projection.partition(record)
    if sequence is None:
        sequence = await log.head()
    try:
        await wait_for(context, projection, sequence, wait_seconds, partition=partition)
    except WaitTimeout:
        return answer(ticket, OutcomeStatus.DEFERRED)

    def look(connection: Connection) -> Outcome:
        known = known_answer(ticket, gates.look(connection, projection.name, record.event_id), applied_now=True)
        return known or answer(ticket, OutcomeStatus.APPLIED, attempts=1)

    return await transact(context, look, what=f"{projection.name}: event {record.event_id!r}")


async def _notify(context: Context, projection: Projection) -> None:
    """Wake followers in other processes. Not more often than every 20 ms: each NOTIFY takes a lock of the whole server.

    Who hears one looks again after that time, so that what was published meanwhile is found as well. One that does not
    come through is made up for by polling.
    """
    statements = context.follow.notify(CHANNEL, projection.name)
    if not statements or not context.notified.may_again(projection.name):
        return
    try:
        await context.io.once(statements)
    except Exception as error:
        if not is_store_error(error) and not isinstance(error, StoreUnavailable):
            raise
        log_lines.debug("%s: others were not notified (%s)", projection.name, type(error).__name__)


async def _lowest(context: Context, projection: Projection, partition: int | None = None) -> int:
    def look(connection: Connection) -> int:
        rows = partitions.rows(connection, projection.name)
        return min((row.cursor for row in rows if partition is None or row.partition == partition), default=0)

    return await transact(context, look, what=f"{projection.name}: its cursors")


async def wait_for(
    context: Context, projection: Projection, sequence: int, timeout_seconds: float, *, partition: int | None = None
) -> None:
    """Wait until everything up to a sequence is applied, failed, parked or skipped. Raises `WaitTimeout`."""
    end, pause = monotonic() + timeout_seconds, 0.001
    while True:
        at = await _lowest(context, projection, partition)
        if at >= sequence:
            return
        left = end - monotonic()
        if left <= 0:
            raise WaitTimeout(
                f"Projection {projection.name!r} has come to sequence {at} and not to {sequence} within "
                f"{timeout_seconds:g} s; it goes on"
            )
        await context.io.sleep(min(pause, left))
        pause = min(pause * 2, _LONGEST_POLL_SECONDS)
