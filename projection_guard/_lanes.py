"""What a worker works with: threads or tasks as lanes, and a clock that it can be woken from."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import math
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Final, Protocol

from ._io.protocol import drive

__all__ = ["Hands", "Tasks", "Threads", "is_at_work_for"]


class Hands(Protocol):
    """What the coordinator needs of threads or tasks."""

    @property
    def is_stopping(self) -> bool: ...

    def spawn(self, work: Callable[[], Coroutine[object, None, None]]) -> None: ...

    async def wait(self, seconds: float) -> bool: ...

    def ring_in(self, seconds: float) -> None: ...


_at_work_for: ContextVar[Hands | None] = ContextVar("projection_guard_at_work_for", default=None)
"""Whose lane this is, also seen from the thread of its own that a handler is called on."""
_FINEST_SECONDS: Final = 0.001
_COARSEST_SECONDS: Final = 0.25
_MOST_MOMENTS: Final = 10_000


def is_at_work_for(hands: Hands | None) -> bool:
    """Return whether the caller is itself a lane's work: it must not wait for the end of that."""
    return hands is not None and _at_work_for.get() is hands


class _Alarms:
    """The moments at which something becomes due, on the process's monotonic clock.

    Those that are close together are one: each rings an eighth of its time later at most, and at most 1/4 s. Events
    that are parked one after the other, each to be looked after in a second, would keep a worker looking all the time.
    """

    def __init__(self) -> None:
        self._moments: list[float] = []

    def add(self, seconds: float) -> None:
        moment = time.monotonic() + max(seconds, 0.0)
        if self._moments and seconds <= 0 and self._moments[0] <= moment:
            return
        if seconds > _FINEST_SECONDS:
            step = 2.0 ** math.floor(math.log2(min(seconds / 8, _COARSEST_SECONDS)))
            moment = math.ceil(moment / step) * step
        if moment not in self._moments and len(self._moments) < _MOST_MOMENTS:
            heapq.heappush(self._moments, moment)

    def next_within(self, seconds: float) -> float:
        """Return how long to wait: until the next moment, at most `seconds`."""
        if not self._moments:
            return seconds
        return min(max(self._moments[0] - time.monotonic(), 0.0), seconds)

    def drop_past(self) -> bool:
        """Forget the moments that have come; return whether there were any."""
        now, any_past = time.monotonic(), False
        while self._moments and self._moments[0] <= now:
            heapq.heappop(self._moments)
            any_past = True
        return any_past


class Threads:
    """Lanes are threads."""

    def __init__(self) -> None:
        self._alarms = _Alarms()
        self._changed = threading.Condition()
        self._lanes: set[threading.Thread] = set()
        self.is_stopping = False

    def ring_in(self, seconds: float) -> None:
        with self._changed:
            self._alarms.add(seconds)
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self.is_stopping = True
            self._changed.notify_all()

    async def wait(self, seconds: float) -> bool:
        """Return once something is due or it is to stop: True; or when the time is over: False."""
        end = time.monotonic() + seconds
        with self._changed:
            while not self.is_stopping and not self._alarms.drop_past():
                left = self._alarms.next_within(end - time.monotonic())
                if end <= time.monotonic():
                    return False
                self._changed.wait(left)
        return True

    def spawn(self, work: Callable[[], Coroutine[object, None, None]]) -> None:
        def run() -> None:
            _at_work_for.set(self)
            try:
                drive(work())
            finally:
                self._lanes.discard(threading.current_thread())

        lane = threading.Thread(target=run, name="projection_guard-lane", daemon=True)
        self._lanes.add(lane)
        try:
            lane.start()
        except BaseException:
            self._lanes.discard(lane)
            raise

    def join(self, seconds: float | None) -> bool:
        end = None if seconds is None else time.monotonic() + seconds
        for lane in list(self._lanes):
            lane.join(None if end is None else max(end - time.monotonic(), 0.0))
        return not self._lanes


class Tasks:
    """Lanes are tasks of the loop on which the worker runs."""

    def __init__(self) -> None:
        self._alarms = _Alarms()
        self._changed = asyncio.Event()
        self.lanes: set[asyncio.Task[None]] = set()
        self.is_stopping = False

    def ring_in(self, seconds: float) -> None:
        self._alarms.add(seconds)
        self._changed.set()

    def stop(self) -> None:
        self.is_stopping = True
        self._changed.set()

    async def wait(self, seconds: float) -> bool:
        """Return once something is due or it is to stop: True; or when the time is over: False."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not self.is_stopping and not self._alarms.drop_past():
            if loop.time() >= end:
                return False
            self._changed.clear()
            try:
                async with asyncio.timeout(self._alarms.next_within(end - loop.time())):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return True

    def spawn(self, work: Callable[[], Coroutine[object, None, None]]) -> None:
        context = contextvars.copy_context()
        context.run(_at_work_for.set, self)
        loop = asyncio.get_running_loop()
        task = loop.create_task(_as_coroutine(work), name="projection_guard-lane", context=context)
        self.lanes.add(task)
        task.add_done_callback(self.lanes.discard)


async def _as_coroutine(work: Callable[[], Coroutine[object, None, None]]) -> None:
    await work()
