"""Handlers with a fault put in: the application's own one, which fails, hangs or kills its process when it is told to.

    guard.projection("Balances")(failing(balances, on="A#1", times=2))

A fault is put around any handler, joined or apart, blocking or async, and around one that has a fault already.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from functools import partial, update_wrapper
from time import monotonic
from typing import Any, Final, Generic, Literal, TypeVar, cast

from .._mapping import EventMapping
from .._registration import is_async
from ..errors import EventError, InvalidArgument

__all__ = ["KILLED", "Faulty", "Hanging", "InjectedFault", "On", "When", "failing", "hanging", "killing"]

H = TypeVar("H", bound=Callable[..., object])
When = Literal["before", "after"]
On = str | type | Callable[[Any], object] | Iterable[str] | None

KILLED: Final = 137
"""The exit status of a process that `killing` or `crash_at(..., how="exit")` has ended: that of SIGKILL in a shell."""
_LONGEST_HANG_SECONDS: Final = 300.0


class InjectedFault(Exception):
    """What a failing handler raises unless it was given an error."""


class Faulty(Generic[H]):
    """A handler with a fault; register it as you would the handler itself.

    `calls` counts all calls, `faults` those with the fault. Both are of this process.
    """

    def __init__(
        self, handler: H, fault: Callable[[], object], *, on: On, times: int | None, when: When, mapping: EventMapping
    ) -> None:
        if when not in ("before", "after") or (times is not None and times < 0):
            raise InvalidArgument("A fault takes when='before' or 'after', and times= of 0 or more, or None")
        update_wrapper(self, handler)
        self.handler = handler
        self.calls = 0
        self.faults = 0
        self._fault = fault
        self._hits = _chooser(on, mapping)
        self._left = times
        self._when = when
        self._is_async = is_async(handler)
        self._counting = threading.Lock()

    def heal(self) -> None:
        """Put no fault into any further call."""
        self._left = 0

    def __call__(self, *arguments: Any) -> Any:
        """Call the handler, with the fault if this call is to have it."""
        has_fault = self._takes_fault(arguments[0])
        if self._is_async:
            return self._awaited(arguments, has_fault=has_fault)
        if has_fault and self._when == "before":
            self._fault()
        result = self.handler(*arguments)
        if has_fault and self._when == "after":
            self._fault()
        return result

    async def _awaited(self, arguments: tuple[Any, ...], *, has_fault: bool) -> None:
        if has_fault and self._when == "before":
            await _if_awaitable(self._fault())
        await _if_awaitable(self.handler(*arguments))
        if has_fault and self._when == "after":
            await _if_awaitable(self._fault())

    def _takes_fault(self, given: object) -> bool:
        events = cast("list[object]", given) if isinstance(given, list) else [given]
        with self._counting:
            self.calls += 1
            if self._left == 0 or not any(self._hits(event) for event in events):
                return False
            self.faults += 1
            self._left = None if self._left is None else self._left - 1
            return True


async def _if_awaitable(result: object) -> None:
    if isinstance(result, Awaitable):
        await result


def failing(
    handler: H,
    *,
    on: On = None,
    times: int | None = None,
    error: Callable[..., BaseException] = InjectedFault,
    when: When = "after",
    mapping: EventMapping | None = None,
) -> Faulty[H]:
    """Return the handler, failing: on these events, so many times (None: until `heal()`), with this error.

    `on` is an event's id or several, a class of events, or a predicate; None means each event. A list of events is
    meant by any of its events. `error` is a class of errors or a function that makes one: `PermanentFailure` is never
    retried, `ConnectionError` only backs off, `lambda: RetryAfter(30)` says when. With `when="after"` the handler has
    done all its work by then, which has to be undone (joined) or happens again (apart). `mapping` reads ids, where they
    are not found by convention.
    """

    def fail() -> object:
        raise error("injected by projection_guard.testing") if isinstance(error, type) else error()

    return Faulty(handler, fail, on=on, times=times, when=when, mapping=mapping or EventMapping())


def killing(
    handler: H, *, on: On = None, times: int | None = None, when: When = "after", mapping: EventMapping | None = None
) -> Faulty[H]:
    """Return the handler, ending its process at once with status 137, as SIGKILL or a lack of memory does.

    Nothing is flushed, closed or rolled back, so call it in a process of its own. `times` is counted there, too.
    """
    end = partial(os._exit, KILLED)
    return Faulty(handler, end, on=on, times=times, when=when, mapping=mapping or EventMapping())


class Hanging(Faulty[H]):
    """A handler that hangs. Wait for `reached`; `release()` lets go on what hangs, and whatever comes later."""

    def __init__(self, handler: H, *, on: On, times: int | None, when: When, mapping: EventMapping) -> None:
        hang = self._hang_async if is_async(handler) else self._hang
        super().__init__(handler, hang, on=on, times=times, when=when, mapping=mapping)
        self._released = threading.Event()
        self._reached = threading.Event()

    @property
    def reached(self) -> bool:
        """True once a call hangs, or has hung."""
        return self._reached.is_set()

    def wait_until_reached(self, seconds: float = 60.0) -> None:
        """Wait until a call hangs: with this thread, so not on an async guard's loop. Raises `TimeoutError`."""
        if not self._reached.wait(seconds):
            raise TimeoutError(f"no call of the handler hung within {seconds:g} s")

    def release(self) -> None:
        """Let go on whatever hangs. Do it at the end of the test: a thread that hangs stays."""
        self._released.set()

    def _hang(self) -> None:
        self._reached.set()
        if not self._released.wait(_LONGEST_HANG_SECONDS):
            raise TimeoutError("nobody released the handler")

    async def _hang_async(self) -> None:
        self._reached.set()
        end = monotonic() + _LONGEST_HANG_SECONDS
        while not self._released.is_set():
            if monotonic() > end:
                raise TimeoutError("nobody released the handler")
            await asyncio.sleep(0.005)


def hanging(
    handler: H, *, on: On = None, times: int | None = None, when: When = "after", mapping: EventMapping | None = None
) -> Hanging[H]:
    """Return the handler, hanging until the test says `release()`, or its projection's `timeout` is over."""
    return Hanging(handler, on=on, times=times, when=when, mapping=mapping or EventMapping())


def _chooser(on: On, mapping: EventMapping) -> Callable[[object], bool]:
    """Return what says whether an event is meant."""
    if on is None:
        return lambda _: True
    if isinstance(on, type):
        return lambda event: isinstance(event, on)
    if callable(on):
        return lambda event: bool(on(event))
    ids = frozenset([on] if isinstance(on, str) else on)

    def is_one_of_them(event: object) -> bool:
        try:
            return mapping.read(event).event_id in ids
        except EventError:
            return False

    return is_one_of_them
