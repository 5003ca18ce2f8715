"""Leases of blocking calls are renewed by a thread: their own is with the handler."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

__all__ = ["Heartbeats"]

log = logging.getLogger("projection_guard")


class Heartbeats:
    """One thread that renews the leases of all calls under way. It starts with the first call."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[list[float], float, Callable[[], object]]] = {}
        self._thread: threading.Thread | None = None
        self._next = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @asynccontextmanager
    async def during(self, renew: Callable[[], object], every_seconds: float) -> AsyncGenerator[None]:
        with self._lock:
            self._next += 1
            key = self._next
            self._calls[key] = ([time.monotonic() + every_seconds], every_seconds, renew)
            self._stopped.clear()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="projection_guard-leases", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._calls.pop(key, None)

    def stop(self) -> None:
        """End the thread, if no call is under way."""
        with self._lock:
            if self._calls:
                return
            self._stopped.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)

    def _run(self) -> None:
        idle_since: float | None = None
        while True:
            now = time.monotonic()
            with self._lock:
                calls = list(self._calls.values())
                idle_since = None if calls else (idle_since or now)
                if idle_since is not None and (now - idle_since > 5.0 or self._stopped.is_set()):
                    self._thread = None
                    return
            for due, every, renew in calls:
                if due[0] <= now:
                    due[0] = now + every
                    self._renew(renew)
            shortest = min((every for _, every, _ in calls), default=1.0)
            self._stopped.wait(min(1.0, shortest / 4))

    def _renew(self, renew: Callable[[], object]) -> None:
        try:
            renew()
        except Exception as error:
            log.warning("a lease could not be renewed: %s", type(error).__name__)
