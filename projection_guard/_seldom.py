"""Says a thing once in a while: what is called for every event would fill a log with one and the same line."""

from __future__ import annotations

from time import monotonic

__all__ = ["Seldom"]


class Seldom:
    """Knows what was said when. It is told of few things: each is kept."""

    def __init__(self, every_seconds: float = 60.0) -> None:
        self._every_seconds = every_seconds
        self._said: dict[str, float] = {}

    def is_time_for(self, what: str) -> bool:
        """Return whether that was not said for so long, and take it for said now."""
        before, now = self._said.get(what), monotonic()
        if before is not None and now - before < self._every_seconds:
            return False
        self._said[what] = now
        return True
