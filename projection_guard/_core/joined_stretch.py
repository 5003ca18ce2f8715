"""A stretch of the log and a joined handler: one transaction for all of it, optimistically, without savepoints."""

from __future__ import annotations

from functools import partial
from typing import Final

from sqlalchemy import Connection

from .._dialect import Bound, TransactionState
from .._instruments import Watching
from .._io.protocol import Ran, Transaction
from .._notices import Notice
from .._store.claims import Settings, read_settings, restore_settings
from .._store.steps import Held, read_held
from .context import Tries, is_store_error, unavailable
from .log import Stretch
from .sorting import Sorted
from .stand import LONGEST_STRETCH_SECONDS, Stand

__all__ = ["apply_joined"]

_SAVEPOINT: Final = Bound("SAVEPOINT projection_guard")


async def apply_joined(stand: Stand, stretch: Stretch, following: Stretch | None) -> Held | None:
    """Apply a stretch; return what was held, or None where the projection stands still or the partitions are gone.

    Where an event fails, nothing of the stretch is applied, and `stand.alone` says what to take by itself.
    """
    tries = Tries(stand.context.io)
    while True:
        is_done, held = await _once(stand, stretch, following, tries)
        if is_done:
            return held
        await tries.pause()


async def _once(stand: Stand, stretch: Stretch, following: Stretch | None, tries: Tries) -> tuple[bool, Held | None]:
    """Apply it in one transaction; False asks for all of it again."""
    ran = Ran()
    transaction = await stand.context.io.begin()
    try:
        try:
            held, settings = await _hold(stand, transaction, stretch)
            if not stand.may_go_on(held):
                return True, None
            todo = await transaction.run(partial(stand.sort, held=held, stretch=stretch))
        except Exception as refused:
            if not is_store_error(refused):
                raise
            if tries.may_redo(refused):
                return False, None
            raise unavailable(stand.what, refused) from refused
        if todo.alone and todo.alone[0].sequence < (todo.calls[0].sequence if todo.calls else stretch.position + 1):
            stand.alone.update(event.sequence for event in todo.alone)
            return True, held
        todo, stretch, following = _up_to_alone(stand, todo, stretch, following)
        watch = stand.watch(todo.calls)
        error = await _call(stand, transaction, todo, ran, watch)
        if error is None and transaction.state is TransactionState.OPEN:
            error = await _finish(stand, transaction, stretch, following, todo, ran, settings, watch)
            if error is None:
                return True, held
            ran.done = len(todo.calls)
        if transaction.state is not TransactionState.OPEN and error is not None and tries.may_redo(error):
            return False, None
    finally:
        await transaction.close()
    stand.take_alone(todo, ran, error)
    return True, held


def _up_to_alone(
    stand: Stand, todo: Sorted, stretch: Stretch, following: Stretch | None
) -> tuple[Sorted, Stretch, Stretch | None]:
    """End the stretch before the first event that has to be taken by itself."""
    if not todo.alone:
        return todo, stretch, following
    stand.alone.update(event.sequence for event in todo.alone)
    before = max(event.sequence for event in todo.calls if event.sequence < todo.alone[0].sequence)
    calls = tuple(event for event in todo.calls if event.sequence <= before)
    return Sorted(calls=calls), stretch.up_to(before), None


async def _hold(stand: Stand, transaction: Transaction, stretch: Stretch) -> tuple[Held, Settings]:
    preamble = stand.context.hot.preamble(limit_seconds=stand.projection.timeout_seconds)
    hold = stand.context.follow.hold(
        stand.projection.name, token=stand.token, lease_seconds=stand.context.lease_seconds
    )
    results = await transaction.together([*preamble, *hold, _SAVEPOINT])
    held = read_held(results[:-1])
    if stretch.lacks(held.cursors):
        held = await transaction.run(partial(stand.give_up_unread, held=held, stretch=stretch))
    return held, read_settings(results[: len(preamble)])


async def _call(stand: Stand, transaction: Transaction, todo: Sorted, ran: Ran, watch: Watching) -> Exception | None:
    call = stand.projection.call(abandonable=True, watch=watch)
    if stand.course.beside is not None:
        await transaction.run(stand.lend)
    try:
        with stand.calling(todo, ran) as given:
            if todo.calls:
                await transaction.call_each(call, given, ran, seconds=LONGEST_STRETCH_SECONDS)
    except Exception as error:
        return error
    return None


async def _finish(
    stand: Stand,
    transaction: Transaction,
    stretch: Stretch,
    following: Stretch | None,
    todo: Sorted,
    ran: Ran,
    settings: Settings,
    watch: Watching,
) -> Exception | None:
    """Park what has to wait, move the cursors, commit; return what kept us from it."""
    position = stand.position(stretch, todo, ran)
    hand = stand.next_hand(stretch, position, following)
    notices: list[Notice] = []

    def write_more(connection: Connection) -> None:
        restore_settings(connection, settings)
        stand.take_back(connection)
        notices.extend(stand.write_more(connection, stretch, todo, position))

    ends = stand.advance(stretch, position, ran.done, hand, todo.parked_up_to(position))
    try:
        if stand.has_more_to_write(stretch, todo):
            await transaction.run(write_more)
        await transaction.release_and_commit([*stand.context.hot.restore(settings), *ends])
    except Exception as error:
        return error
    stand.came_to(position, hand)
    stand.ahead = following if position >= stretch.position else stretch.beyond(position).then(following)
    stand.count(todo.calls, todo.parks, position, watch)
    stand.context.tell(notices)
    return None
