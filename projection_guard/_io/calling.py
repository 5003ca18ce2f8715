"""How a blocking handler is called: on this thread, or on one of its own, which can be left behind."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from types import CoroutineType
from typing import Final

from .._policy import in_group
from ..errors import HandlerCancelled, HandlerTimeout, RegistrationError
from . import forking
from .protocol import Call, Ran

__all__ = [
    "INTERRUPTIONS",
    "EachInTurn",
    "LeftBehind",
    "OwnThread",
    "call_each_now",
    "call_now",
    "its_own",
    "overran",
    "refuse_undone",
]

INTERRUPTIONS: Final = (asyncio.CancelledError, GeneratorExit, BaseExceptionGroup)
"""What may come out of a handler without being an `Exception`, though nobody ends the program. `its_own` tells."""


class LeftBehind(Exception):
    """A handler that overran its time runs on in a thread of its own."""


class OwnThread:
    """A call on a thread of its own: those that hang take nobody else's. `tell_end` is called on that thread.

    `run` is what is done there instead of one call.
    """

    def __init__(
        self,
        call: Call,
        arguments: tuple[object, ...],
        *,
        run: Callable[[], object] | None = None,
    ) -> None:
        self._run_it = run or (lambda: call.handler(*arguments))
        self._tell_end: Callable[[], None] = lambda: None
        self._context = contextvars.copy_context()
        self._waits_for_it = threading.get_ident()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="projection_guard-handler", daemon=True)

    def start(self, tell_end: Callable[[], None] = lambda: None) -> None:
        """Begin."""
        self._tell_end = tell_end
        self._thread.start()

    def _run(self) -> None:
        forking.act_for(self._waits_for_it)
        try:
            refuse_undone(self._context.run(self._run_it))
        except BaseException as error:
            self._error = error
        self._tell_end()

    def has_ended_within(self, seconds: float) -> bool:
        """Wait for its end with this thread."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def answer(self) -> None:
        """Raise what the handler raised, once it has ended."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise its_own(error, is_own_thread=True)
        finally:
            del error  # this frame is in its traceback


def call_now(call: Call, *arguments: object) -> None:
    """Call it here, or on a thread that can be left behind. Raises what it raises, `HandlerTimeout`, `LeftBehind`."""
    if call.abandonable:
        calling = OwnThread(call, arguments)
        calling.start()
        if not calling.has_ended_within(call.timeout_seconds):
            raise LeftBehind(overran(call))
        calling.answer()
        return
    started = time.monotonic()
    try:
        result = call.handler(*arguments)
    except INTERRUPTIONS as error:
        raise its_own(error)  # noqa: B904  # it is its cause already, where it is another one
    refuse_undone(result)
    if time.monotonic() - started > call.timeout_seconds:
        raise HandlerTimeout(overran(call))


class EachInTurn:
    """A handler that is called with one event after the other, on whichever thread `run` is called on."""

    def __init__(
        self, call: Call, events: Sequence[object], more: tuple[object, ...], ran: Ran, *, seconds: float
    ) -> None:
        self._call = call
        self._events = events
        self._more = more
        self._ran = ran
        self._seconds = seconds
        self.began = time.monotonic()
        """When the call under way began."""

    def run(self) -> None:
        """Call it until the events or the time are over, or it fails."""
        handler, more, ran, longest = self._call.handler, self._more, self._ran, self._call.timeout_seconds
        end = time.monotonic() + self._seconds
        for event in self._events:
            began = self.began = time.monotonic()
            if began > end and ran.done:
                return
            try:
                result = handler(event, *more)
            except INTERRUPTIONS as error:
                raise its_own(error)  # noqa: B904  # it is its cause already, where it is another one
            if result is not None:
                refuse_undone(result)
            if time.monotonic() - began > longest:
                raise HandlerTimeout(overran(self._call))
            ran.done += 1

    def left_seconds(self) -> float:
        """Return what the call under way has left of its time."""
        return self.began + self._call.timeout_seconds - time.monotonic()


def call_each_now(call: Call, events: Sequence[object], more: tuple[object, ...], ran: Ran, *, seconds: float) -> None:
    """Call it with each event, here or on one thread that can be left behind. Raises as `call_now` does."""
    each = EachInTurn(call, events, more, ran, seconds=seconds)
    if not call.abandonable:
        each.run()
        return
    calling = OwnThread(call, (), run=each.run)
    calling.start()
    while not calling.has_ended_within(max(each.left_seconds(), 0.0)):
        if each.left_seconds() <= 0:
            raise LeftBehind(overran(call))
    calling.answer()


def overran(call: Call) -> str:
    """Say that a handler took too long."""
    return f"the handler ran longer than its timeout of {call.timeout_seconds:g} s"


def its_own(error: BaseException, *, is_own_thread: bool = False) -> BaseException:
    """Return the failure that an interruption is which only the handler itself can have meant; else the error as it is.

    So are cancellations and `GeneratorExit`, also in groups. On a thread of its own (`is_own_thread`) so is everything
    but `SystemExit`: Ctrl-C reaches the main thread only.
    """
    kept: Exception
    if isinstance(error, Exception) or (is_own_thread and isinstance(error, SystemExit)):
        return error
    if isinstance(error, asyncio.CancelledError):
        kept = HandlerCancelled("the handler awaited something that was cancelled, and let the cancellation through")
    elif group := in_group(error):
        parts = [its_own(part, is_own_thread=is_own_thread) for part in group]
        whole = [part for part in parts if isinstance(part, Exception)]
        if len(whole) < len(parts):
            return error
        kept = ExceptionGroup(str(getattr(error, "message", "")), whole)
    elif is_own_thread or isinstance(error, GeneratorExit):
        kept = HandlerCancelled(f"the handler raised {type(error).__name__}, though nobody interrupted it")
    else:
        return error
    kept.__cause__ = error
    return kept


def refuse_undone(result: object) -> None:
    """Refuse what a handler returned instead of doing its work: nobody would await it or go through it."""
    if result is None:
        return
    kind = "coroutine" if isinstance(result, CoroutineType) else type(result).__name__
    if isinstance(result, Awaitable):
        if isinstance(result, CoroutineType):
            result.close()
        advice = "await it inside, in an async handler for AsyncProjectionGuard, or finish the work before returning"
    elif inspect.isgenerator(result) or inspect.isasyncgen(result):
        advice = "a handler has no yield in it, and goes through its generators itself"
    else:
        return
    raise RegistrationError(f"the handler returned a {kind} instead of doing its work: {advice}")
