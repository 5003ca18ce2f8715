"""A projection is set back: the application clears a read model, and in the same transaction what is on record goes."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from .._io.protocol import Call
from .._model import Json, ResolutionMethod
from .._store import counters, failures, gates, outages, parked, partitions, states
from .context import Context, Tries, is_store_error, unavailable
from .projection import Projection

__all__ = ["clear", "forget", "forget_beyond"]


async def clear(
    context: Context,
    projection: Projection,
    *,
    is_due: Callable[[Connection], bool],
    then: Callable[[Connection], object],
    stream_id: str | None = None,
) -> None:
    """Let `on_reset` clear the read model (`on_reset_stream` one stream of it), and do `then` in its transaction.

    Where it is not `is_due` any more nothing is done: only the reply of a COMMIT was lost. What it raises is raised.
    """
    tries = Tries(context.io)
    while True:
        try:
            return await _once(context, projection, is_due, then, stream_id)
        except Exception as error:
            if not is_store_error(error):
                raise
            if not tries.may_redo(error):
                raise unavailable(f"{projection.name}: the read model was not cleared", error) from error
        await tries.pause()


async def _once(
    context: Context,
    projection: Projection,
    is_due: Callable[[Connection], bool],
    then: Callable[[Connection], object],
    stream_id: str | None,
) -> None:
    limit_seconds = projection.timeout_seconds * 10
    on_reset = projection.on_reset if stream_id is None else projection.on_reset_stream
    transaction = await context.io.begin()
    try:
        await transaction.together(context.hot.preamble(limit_seconds=limit_seconds))
        if not await transaction.run(is_due):
            return
        if on_reset is not None:

            def handler(*arguments: object) -> object:
                return on_reset(*arguments[::-1])  # the connection comes first there

            call = Call(
                handler=handler, is_async=projection.resets_async, timeout_seconds=limit_seconds, abandonable=False
            )
            await transaction.call(call, *([] if stream_id is None else [stream_id]))
        await transaction.run(then)
        await transaction.commit()
    finally:
        await transaction.close()


def forget(connection: Connection, context: Context, projection: Projection, *, actor: str) -> dict[str, Json]:
    """Forget what was applied, failed and parked, set checkpoint and cursors to the beginning; return how much."""
    name = projection.name
    dropped = parked.clear(connection, name)
    ended = failures.resolve_all(connection, name, ResolutionMethod.MANUAL_RESET, actor)
    forgotten = states.forget_applied(connection, name)
    states.forget_gates(connection, name)
    outages.let_go(connection, name)
    if projection.is_followed:
        states.set_mode(connection, name, "followed", rescan_until=None)
        partitions.begin_at(connection, name, projection.partitions, 0)
    counters.clear_checkpoint(connection, name)
    counters.count_failures(connection, context.health, name, change=-ended)
    return {"failures": ended, "parked": dropped, "applied": forgotten}


def forget_beyond(
    connection: Connection, context: Context, projection: Projection, sequence: int, *, actor: str
) -> None:
    """Forget what was applied, failed and parked after a sequence of the log. Pass the barrier before."""
    name = projection.name
    ended = failures.resolve_beyond(connection, name, sequence, ResolutionMethod.MANUAL_RESET, actor)
    dropped = parked.clear_beyond(connection, name, sequence)
    states.forget_applied(connection, name, beyond=sequence)
    tickets = {ticket.gate: ticket for ticket in map(projection.lone_ticket, [*ended, *dropped])}
    for gate in sorted(tickets):
        gates.lock(connection, tickets[gate])
        gates.settle(connection, name, gate, projection.order)
    counters.count_failures(connection, context.health, name, change=-len(ended))
