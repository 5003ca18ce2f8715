"""How a blocking handler is called: on this thread, or on one of its own, which can be left behind."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Callable

from ..errors import HandlerCancelled, HandlerTimeout, RegistrationError
from .protocol import Call

__all__ = ["LeftBehind", "OwnThread", "call_now", "cancelled_inside", "overran"]


class LeftBehind(Exception):
    """A handler that overran its time runs on in a thread of its own."""


class OwnThread:
    """A call on a thread of its own: those that hang take nobody else's. `tell_end` is called on that thread."""

    def __init__(self, call: Call, arguments: tuple[object, ...], tell_end: Callable[[], None] = lambda: None) -> None:
        self._call = call
        self._arguments = arguments
        self._tell_end = tell_end
        self._context = contextvars.copy_context()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="projection_guard-handler", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        try:
            _refuse_coroutine(self._context.run(self._call.handler, *self._arguments))
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
            if isinstance(error, asyncio.CancelledError):
                raise cancelled_inside() from error
            if error is not None:
                raise error
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
    except asyncio.CancelledError as error:
        raise cancelled_inside() from error
    if time.monotonic() - started > call.timeout_seconds:
        raise HandlerTimeout(overran(call))
    _refuse_coroutine(result)


def overran(call: Call) -> str:
    """Say that a handler took too long."""
    return f"the handler ran longer than its timeout of {call.timeout_seconds:g} s"


def cancelled_inside() -> HandlerCancelled:
    """Say that a cancellation was the handler's own affair."""
    return HandlerCancelled("the handler awaited something that had been cancelled, and let the cancellation through")


def _refuse_coroutine(result: object) -> None:
    """Refuse a handler that returned a coroutine instead of doing its work."""
    if result is not None and inspect.iscoroutine(result):
        result.close()
        raise RegistrationError(
            "the handler returned a coroutine; a blocking guard cannot await it: use AsyncProjectionGuard"
        )
