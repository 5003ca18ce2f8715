"""A consumer's guard begins with its subscribers: what failed before heals, though no message may come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["begin_with"]


def begin_with(subscriber: Any, begin: Callable[[], None]) -> None:
    """Do something each time when a subscriber has been started by its broker."""
    start = subscriber.start

    async def started() -> None:
        await start()
        begin()

    subscriber.start = started
