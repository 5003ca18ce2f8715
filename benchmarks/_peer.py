"""What the modules of the peers share: a database each, and a watch around the peer's own work.

A peer's `Block` appends so many events to the peer's own log, lets it apply them, and returns the seconds from the
first call of its handler to the last event's commit: what it needs to start and to stop is not held against it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from time import perf_counter

from ._harness import Block

__all__ = ["INSERT_COLUMNS", "OpenPeer", "Watch"]

OpenPeer = Callable[[str], AbstractContextManager[Block]]
"""Opens a peer on the database of this URL, which has the read model; its log is its own."""

INSERT_COLUMNS = "read_model (event_id, stream_id, amount)"


class Watch:
    """Starts at the first of so many events, and stops after the last."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._started: float | None = None
        self._stopped: float | None = None

    def begin(self) -> None:
        """Say that an event has come."""
        if self._started is None:
            self._started = perf_counter()

    def end(self) -> bool:
        """Say that an event is done; return whether it was the last one."""
        self._left -= 1
        if self._left == 0:
            self._stopped = perf_counter()
        return self._left == 0

    @property
    def seconds(self) -> float:
        """Return the time it took. Raises `RuntimeError` where events are missing."""
        if self._started is None or self._stopped is None:
            raise RuntimeError(f"{self._left} events were not applied")
        return self._stopped - self._started
