"""What a message says of its event beside the event itself: read by an `EventMapping` while the message is in hand.

    EventMapping(stream_id=header("aggregate-id"))

Outside a message (a retry, a person who amends an event) they find nothing; what is on record stays as it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from faststream.message import StreamMessage

from ..errors import ConfigurationError

__all__ = ["header", "in_hand", "message_key", "routing_key", "subject_token"]

_in_hand: Final[ContextVar[StreamMessage[Any] | None]] = ContextVar("projection_guard_message", default=None)
Field = Callable[[object], object]


@contextmanager
def in_hand(message: StreamMessage[Any]) -> Generator[None]:
    """Let the fields be read off this message meanwhile."""
    token = _in_hand.set(message)
    try:
        yield
    finally:
        _in_hand.reset(token)


def is_in_hand() -> bool:
    """Return whether a message is being brought by a `Guarding`."""
    return _in_hand.get() is not None


def header(name: str) -> Field:
    """Return what reads a header of the message: NATS, RabbitMQ, Kafka, Redis."""
    return lambda _: _text(_found(lambda message: message.headers.get(name)))


def subject_token(index: int) -> Field:
    """Return what reads a token of the NATS subject: 0 is the first, -1 the last."""
    return lambda _: _token(_found(lambda message: message.raw_message.subject), index)


def routing_key(index: int | None = None) -> Field:
    """Return what reads RabbitMQ's routing key: whole, or one of the words between its dots."""
    return lambda _: _token(_found(lambda message: message.raw_message.routing_key), index)


def message_key() -> Field:
    """Return what reads the key of a Kafka message, by which Kafka chooses its partition."""
    return lambda _: _text(_found(_kafka_key))


def _kafka_key(message: StreamMessage[Any]) -> object:
    key: object = message.raw_message.key
    return key() if callable(key) else key  # a method in confluent-kafka


def _found(read: Callable[[StreamMessage[Any]], object]) -> object:
    message = _in_hand.get()
    return None if message is None else read(message)


def _text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value


def _token(value: object, index: int | None) -> object:
    if not isinstance(value, str) or index is None:
        return value
    tokens = value.split(".")
    if not -len(tokens) <= index < len(tokens):
        raise ConfigurationError(f"a subject or routing key of {len(tokens)} words has no word {index}")
    return tokens[index]
