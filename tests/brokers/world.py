"""The world of a broker run: events in streams, a handler, and what it leaves behind as evidence.

`broker_journal` has no unique key, so what is applied twice stands there twice; `broker_model` holds a chain of hashes
that depends on the order of everything that went into it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["PARTITIONS", "PROJECTION", "Fact", "apply", "create", "facts", "is_poison"]

PARTITIONS: Final = 8
PROJECTION: Final = "broker"
_STUMBLES: Final = 0.001
_TABLES: Final = """
CREATE TABLE broker_journal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, consumer varchar(20), stream varchar(50), n integer);
CREATE TABLE broker_model (stream varchar(50) PRIMARY KEY, applied integer, chain varchar(32));
CREATE TABLE broker_switch (poison integer);
INSERT INTO broker_switch VALUES (1)
"""
_apply: Final = text("""
WITH written AS (INSERT INTO broker_journal (consumer, stream, n) VALUES (:consumer, :stream, :n))
INSERT INTO broker_model AS model VALUES (:stream, 1, md5(':' || CAST(:n AS text)))
ON CONFLICT (stream) DO UPDATE SET applied = model.applied + 1, chain = md5(model.chain || ':' || CAST(:n AS text))
""")
_switch: Final = text("SELECT poison FROM broker_switch")


class Planted(ValueError):
    """A handler's error that the run has planted."""


@dataclass(frozen=True, slots=True)
class Fact:
    """The event: the n-th of its stream."""

    event_id: str
    stream_id: str
    n: int


def create(connection: Connection) -> None:
    """Make the tables."""
    for statement in _TABLES.split(";"):
        connection.execute(text(statement))


def facts(messages: int, streams: int, seed: int) -> Iterator[Fact]:
    """Make so many events, the streams mixed as chance has it."""
    chance, lengths = random.Random(seed), dict.fromkeys(range(streams), 0)
    for _ in range(messages):
        number = chance.randrange(streams)
        lengths[number] += 1
        yield Fact(event_id=f"s{number}#{lengths[number]}", stream_id=f"s{number}", n=lengths[number])


def is_poison(fact: Fact) -> bool:
    """Say whether an event fails until the run turns the switch: the third, in one stream of 100."""
    return fact.n == 3 and int(fact.stream_id[1:]) % 100 == 7


async def apply(connection: AsyncConnection, fact: Fact, consumer: str) -> None:
    """Do what a joined handler does, and then perhaps fail."""
    await connection.execute(_apply, {"consumer": consumer, "stream": fact.stream_id, "n": fact.n})
    if is_poison(fact) and (await connection.execute(_switch)).scalar_one():
        raise Planted("poison")
    if random.random() < _STUMBLES:
        raise Planted("stumbled")
