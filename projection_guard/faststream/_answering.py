"""What a broker is told of a message: by FastStream's own words, but where those say more than is meant."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final

from faststream.message import AckStatus, StreamMessage

__all__ = ["acknowledge", "give_back", "reject"]

_CONFLUENT: Final = "confluent"


async def acknowledge(message: StreamMessage[Any]) -> None:
    """Acknowledge this message, and no other."""
    if not _is_passed(message):
        await message.ack()


async def reject(message: StreamMessage[Any]) -> None:
    """Give this message up to what the broker has for such: a log passes it over."""
    if not _is_passed(message):
        await message.reject()


async def give_back(message: StreamMessage[Any], seconds: float | None) -> None:
    """Let a message come again, after so many seconds: the broker waits where it can, else it is kept in hand."""
    nack: Callable[..., Awaitable[object]] = getattr(message, "nack")  # noqa: B009  # each broker's takes other options
    if seconds is not None and "delay" in inspect.signature(nack).parameters:
        await nack(delay=seconds)
        return
    if seconds is not None:
        await asyncio.sleep(seconds)
    await nack()


def _is_passed(message: StreamMessage[Any]) -> bool:
    """Commit the offset behind a message of confluent-kafka, and of its partition alone; False for any other message.

    FastStream commits whatever the consumer has fetched, of all partitions: also what was given back in another one,
    for seeking back there leaves the offset that is stored to be committed. Should the process die then, it is lost.
    """
    consumer: Any = getattr(getattr(message, "consumer", None), "consumer", None)
    if consumer is None or message.committed or not type(message).__module__.startswith(f"faststream.{_CONFLUENT}."):
        return False
    from confluent_kafka import TopicPartition  # there, as the message is one of its

    raw = message.raw_message
    consumer.commit(offsets=[TopicPartition(raw.topic(), raw.partition(), raw.offset() + 1)], asynchronous=True)
    message.committed = AckStatus.ACKED
    return True
