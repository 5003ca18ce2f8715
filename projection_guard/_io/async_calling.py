"""Calls of handlers from a loop: awaited with a timeout, or on a thread of their own that can be left behind."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from ..errors import HandlerTimeout
from .calling import INTERRUPTIONS, OwnThread, its_own, overran, refuse_undone
from .protocol import Call, Ran

__all__ = ["call_async", "call_each_async", "call_in_thread", "in_thread"]


async def call_async(call: Call, *arguments: object) -> None:
    """Await a handler. A `CancelledError` that comes out of it and not from outside is its failure.

    One that swallows the cancellation at its timeout, and returns, has overrun all the same: its work may be half done.
    """
    timer, task = asyncio.timeout(call.timeout_seconds), asyncio.current_task()
    try:
        async with timer:
            result = call.handler(*arguments)
            refuse_undone(await result if inspect.isawaitable(result) else result)
    except TimeoutError as error:
        if timer.expired():
            raise HandlerTimeout(overran(call)) from error
        raise
    except INTERRUPTIONS as error:
        if _is_from_outside(error, task):
            raise
        raise its_own(error)  # noqa: B904  # it is its cause already, where it is another one
    if timer.expired():
        raise HandlerTimeout(overran(call))


def _is_from_outside(error: BaseException, task: asyncio.Task[object] | None) -> bool:
    """Return whether somebody cancels the task that calls a handler, or has closed its coroutine."""
    if isinstance(error, GeneratorExit):
        try:
            return asyncio.current_task() is not task
        except RuntimeError:  # there is no loop any more
            return True
    return task is None or bool(task.cancelling())


async def call_each_async(
    call: Call, events: Sequence[object], more: tuple[object, ...], ran: Ran, seconds: float
) -> None:
    """Await a handler for one event after the other; each has its own timeout, and all share one timer."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    end, handler, timer = loop.time() + seconds, call.handler, asyncio.timeout(None)
    try:
        async with timer:
            for event in events:
                now = loop.time()
                if now > end and ran.done:
                    break
                timer.reschedule(now + call.timeout_seconds)
                result = handler(event, *more)
                refuse_undone(await result if inspect.isawaitable(result) else result)
                if timer.expired():  # it swallowed the cancellation, and returned
                    raise HandlerTimeout(overran(call))
                ran.done += 1
    except TimeoutError as error:
        if timer.expired():
            raise HandlerTimeout(overran(call)) from error
        raise
    except INTERRUPTIONS as error:
        if _is_from_outside(error, task):
            raise
        raise its_own(error)  # noqa: B904  # it is its cause already, where it is another one


async def call_in_thread(call: Call, *arguments: object) -> None:
    """Call a handler on a thread of its own, its time counted from its beginning. Cancelled, it goes on alone."""
    began = time.monotonic()
    await in_thread(call, OwnThread(call, arguments), lambda: began + call.timeout_seconds - time.monotonic())


async def in_thread(call: Call, calling: OwnThread, left_seconds: Callable[[], float]) -> None:
    """Wait for a thread's end, as long as the call under way there has time left. Cancelled, it goes on alone."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def note_end() -> None:
        if not ended.done():
            ended.set_result(None)

    def tell_end() -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(note_end)

    calling.start(tell_end)
    while not ended.done():
        left = left_seconds()
        if left <= 0:
            raise HandlerTimeout(overran(call), is_left_running=True)
        await asyncio.wait([ended], timeout=left)
    calling.answer()
