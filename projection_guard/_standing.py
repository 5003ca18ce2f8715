"""How a guard's projections stand, read from the database for gauges: at most once in so many seconds, raising nothing.

Prometheus and OpenTelemetry ask from threads of their own. A blocking guard is read on a thread that can be left
waiting where the database does not answer; an async one on its own loop, which must not be waited for from within.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from ._async_guard import AsyncProjectionGuard
from ._desk import loop_of, service_of
from ._guard import ProjectionGuard
from ._io.protocol import drive
from ._model import Health
from ._records import WorkerState
from ._store import workers
from ._store.standing import Facts, facts
from ._wording import type_name, words_of
from .errors import ConfigurationError, ProjectionGuardError

__all__ = ["EVERY_SECONDS", "TIMEOUT_SECONDS", "Guard", "Look", "Standing", "Standings"]

Guard = ProjectionGuard | AsyncProjectionGuard
log = logging.getLogger("projection_guard")
EVERY_SECONDS: Final = 15.0
TIMEOUT_SECONDS: Final = 5.0
_JUST_NOW_SECONDS: Final = 5.0
"""How old a look may be in any case that somebody has awaited on the loop, to export it there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One projection: how healthy it is, and the facts beside that. `knows_log`: its log could be read."""

    health: Health
    facts: Facts
    knows_log: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was read at one moment, in seconds since 1970, and how long that took. `is_up`: the database answered."""

    is_up: bool
    at: float
    took_seconds: float
    standings: tuple[Standing, ...] = ()
    workers: tuple[WorkerState, ...] = ()


class Standings:
    """The newest look at a guard's projections, taken anew by whoever asks once it is `every_seconds` old.

    Where the database has not answered within `timeout_seconds`, it is taken for away. Of an async guard the loop has
    to be known: its worker runs there, or this is made there, or `refresh` is awaited there.
    """

    def __init__(self, guard: Guard, *, every_seconds: float, timeout_seconds: float) -> None:
        if not every_seconds >= 0 or not timeout_seconds > 0:
            raise ConfigurationError("every_seconds= takes 0 or more, timeout_seconds= a number above 0")
        self._guard = guard
        self._service = service_of(guard)
        self._is_async = isinstance(guard, AsyncProjectionGuard)
        self._every_seconds = every_seconds
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._look: Look | None = None
        self._looked_at = 0.0
        self._under_way: Future[Look] | None = None
        self._loop = _running_loop() if self._is_async else None
        self._has_warned = False
        self._process = os.getpid()

    def now(self) -> Look:
        """Return the newest look, having taken it if it is time to. On an async guard's loop `refresh` does that."""
        is_on_its_loop = self._is_async and _running_loop() is not None and self._loop in (None, _running_loop())
        known = self._fresh(_JUST_NOW_SECONDS if is_on_its_loop else 0.0)
        if known is not None:
            return known
        if is_on_its_loop:
            self._warn_once()
            return self._away()
        future = self._begin()
        if future is None:
            return self._away()
        try:
            return future.result(self._timeout_seconds)
        except Exception as error:  # it has not answered, or the loop was closed meanwhile
            return self._known(self._away(), error)

    async def refresh(self) -> None:
        """Take a look if it is time to; for an async guard, on its loop. Raises nothing where the database is away."""
        if not self._is_async:
            await asyncio.to_thread(self.now)
            return
        self._loop = asyncio.get_running_loop()
        future = None if self._fresh() else self._begin()
        if future is not None:
            await asyncio.wait([asyncio.wrap_future(future)], timeout=self._timeout_seconds)

    def _fresh(self, least_seconds: float = 0.0) -> Look | None:
        with self._lock:
            age = time.monotonic() - self._looked_at
            return self._look if age < max(self._every_seconds, least_seconds) else None

    def _begin(self) -> Future[Look] | None:
        """Return the look under way, begun where there is none; None where no loop is known to take it on."""
        with self._lock:
            is_ours = self._process == os.getpid()  # of a parent of fork no thread goes on here
            if self._under_way is not None and not self._under_way.done() and is_ours:
                return self._under_way
            self._process = os.getpid()
            started = self._start_on_loop() if self._is_async else self._start_on_thread()
            self._under_way = started
            return started

    def _start_on_thread(self) -> Future[Look]:
        future: Future[Look] = Future()

        def run() -> None:
            future.set_result(drive(self._take()))

        threading.Thread(target=run, name="projection_guard-standings", daemon=True).start()
        return future

    def _start_on_loop(self) -> Future[Look] | None:
        if self._loop is None or self._loop.is_closed():
            self._loop = loop_of(self._guard)
        if self._loop is None:
            self._warn_once()
            return None
        return asyncio.run_coroutine_threadsafe(self._take(), self._loop)

    def _warn_once(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "gauges of an async guard are read on its loop: make them where that runs, and await their refresh() "
                "before you export them there"
            )

    async def _take(self) -> Look:
        """Read everything; whatever goes wrong, the database is taken for away."""
        began = time.monotonic()
        try:
            standings, seen = await self._read()
        except Exception as error:
            return self._known(Look(is_up=False, at=time.time(), took_seconds=time.monotonic() - began), error)
        took = time.monotonic() - began
        return self._known(Look(is_up=True, at=time.time(), took_seconds=took, standings=standings, workers=seen))

    def _known(self, look: Look, error: Exception | None = None) -> Look:
        with self._lock:
            before, self._look, self._looked_at = self._look, look, time.monotonic()
        was_up = before is None or before.is_up
        if error is not None and was_up:
            log.warning("gauges are not exported, the database is taken for away (%s)", _why(error))
        elif error is None and not was_up:
            log.info("gauges are exported again")
        return look

    async def _read(self) -> tuple[tuple[Standing, ...], tuple[WorkerState, ...]]:
        judged = await self._service.judged()
        names = [each.health.projection_name for each in judged]

        def look(connection: Connection) -> tuple[dict[str, Facts], tuple[WorkerState, ...]]:
            return facts(connection, names), workers.seen(connection)

        found, seen = await self._service.read(look)
        standings = tuple(
            Standing(
                health=each.health,
                facts=found[each.health.projection_name],
                knows_log=each.signs.lag.unread is None,
            )
            for each in judged
            if each.health.projection_name in found
        )
        return standings, seen

    def _away(self) -> Look:
        return Look(is_up=False, at=time.time(), took_seconds=self._timeout_seconds)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it has not answered in time"
    return f"{type_name(error)}: {words_of(error)}" if isinstance(error, ProjectionGuardError) else type_name(error)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
