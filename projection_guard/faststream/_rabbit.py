"""A queue of RabbitMQ stays in line when a subscriber begins and ends: FastStream lets a message go unsettled there.

What RabbitMQ sends before `start` has come to its end FastStream drops: with one message on its way at a time the queue
would stand still as long as the process lives. And `stop` cancels the consumer while a message is on its way still: a
quorum queue then sends the one behind it to the next consumer. So messages wait for the end of `start`, and `stop`
closes the channel instead: what was on its way goes back to its place before the next consumer is sent anything.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["keep_in_line"]


def keep_in_line(subscriber: Any, *, is_ordered: bool) -> None:
    """Let a subscriber of RabbitMQ begin so and, if it keeps an order, end so: then it begins again with its broker."""
    line = _Line(subscriber)
    subscriber.start, subscriber.consume = line.start, line.consume
    if is_ordered:
        subscriber.stop = line.stop


class _Line:
    """Stands before a subscriber's `start`, `stop` and `consume`."""

    def __init__(self, subscriber: Any) -> None:
        self._subscriber = subscriber
        self._start, self._stop, self._consume = subscriber.start, subscriber.stop, subscriber.consume
        self._has_begun = asyncio.Event()
        self._has_begun.set()  # a test broker of FastStream's begins nothing

    async def start(self) -> None:
        self._has_begun.clear()
        try:
            await self._start()
        finally:
            self._has_begun.set()

    async def consume(self, message: Any) -> Any:
        await self._has_begun.wait()
        return await self._consume(message)

    async def stop(self) -> None:
        """Wait for what is in hand, as FastStream does, then close the channel."""
        subscriber = self._subscriber
        queue = subscriber._queue_obj
        subscriber._consumer_tag = None  # nothing to be cancelled
        await self._stop()
        if queue is not None and not queue.channel.is_closed:
            await queue.channel.close()
