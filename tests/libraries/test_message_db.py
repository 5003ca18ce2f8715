"""Message DB as a source: its own schema from npm, its own `write_message`, and the conformance suite."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from projection_guard import ConfigurationError, EventMapping
from projection_guard.message_db import AsyncMessageDbSource, Message, MessageDbSource
from projection_guard.testing.source_conformance import SourceConformance
from tests.bed import Bed
from tests.libraries.hundred import SCRIPT, heals_in_order
from tests.libraries.message_store import message_db_url, message_store, write

__all__ = ["message_db_url", "message_store"]  # fixtures

AnySource = MessageDbSource | AsyncMessageDbSource


class MessageDbConformance(SourceConformance):
    engine: Engine
    reading: Engine
    awaited: AsyncEngine
    category: str | None = None

    @pytest.fixture(autouse=True)
    def log(self, message_store: Engine, message_db_url: str) -> Iterator[None]:
        self.engine = message_store
        self.reading = create_engine(message_db_url)  # without a search path: the reader asks for none
        self.awaited = create_async_engine(message_db_url)
        yield
        self.run(self.awaited.dispose())
        self.reading.dispose()

    def append(self, *stream_ids: str) -> list[str]:
        with self.engine.begin() as connection:
            return write(connection, stream_ids)

    def remove(self, sequence: int) -> None:
        with self.engine.begin() as connection:
            connection.execute(text("DELETE FROM messages WHERE global_position = :at"), {"at": sequence})


class WholeStore(MessageDbConformance):
    """Streams of the conformance suite have no hyphen: each is a category, with writers of its own."""

    @contextmanager
    def append_in_open_transaction(self, *stream_ids: str) -> Iterator[list[str]]:
        with self.engine.begin() as connection:
            yield write(connection, stream_ids)


class TestMessageDbSource(WholeStore):
    def source(self) -> MessageDbSource:
        return MessageDbSource(self.reading)

    @contextmanager
    def append_in_open_transaction(self, *stream_ids: str) -> Iterator[list[str]]:
        with super().append_in_open_transaction(*(f"open{stream}" for stream in stream_ids)) as ids:
            yield ids
