"""How a blocking handler is called: on this thread, or on one that can be left behind when its time is up."""

from __future__ import annotations

import contextvars
import inspect
import threading
import time

from ..errors import HandlerTimeout, RegistrationError
from .protocol import Call

__all__ = ["LeftBehind", "call_now", "overran", "refuse_coroutine"]


class LeftBehind(Exception):
    """A handler that overran its time runs on in a thread of its own."""

    def __init__(self, timeout: HandlerTimeout) -> None:
        self.timeout = timeout


def call_now(call: Call, *arguments: object) -> None:
    """Call it here, or on a thread that can be left behind. Raises what it raises, `HandlerTimeout`, `LeftBehind`."""
    if call.abandonable:
        result = _call_in_thread(call, arguments)
    else:
        started = time.monotonic()
        result = call.handler(*arguments)
        if time.monotonic() - started > call.timeout_seconds:
            raise HandlerTimeout(overran(call))
    refuse_coroutine(result)


def _call_in_thread(call: Call, arguments: tuple[object, ...]) -> object:
    results: list[object] = []
    errors: list[BaseException] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            results.append(context.run(call.handler, *arguments))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="projection_guard-handler", daemon=True)
    thread.start()
    thread.join(call.timeout_seconds)
    if thread.is_alive():
        raise LeftBehind(HandlerTimeout(overran(call)))
    if errors:
        raise errors[0]
    return results[0]


def overran(call: Call) -> str:
    """Say that a handler took too long."""
    return f"the handler ran longer than its timeout of {call.timeout_seconds:g} s"


def refuse_coroutine(result: object) -> None:
    """Refuse a handler that returned a coroutine instead of doing its work."""
    if result is not None and inspect.iscoroutine(result):
        result.close()
        raise RegistrationError(
            "the handler returned a coroutine; a blocking guard cannot await it: use AsyncProjectionGuard"
        )
