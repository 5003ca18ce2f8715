"""Message DB as a source: its own schema from npm, its own `write_message`, and the conformance suite."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from projection_guard import Batch, ConfigurationError, EventMapping, JsonCodec, Recorded, Share
from projection_guard.message_db import AsyncMessageDbSource, Message, MessageDbSource
from projection_guard.testing.source_conformance import SourceConformance
from tests.bed import Bed
from tests.libraries.few import few
from tests.libraries.hundred import SCRIPT, heals_in_order
from tests.libraries.message_store import message_db_url, message_store, write

__all__ = ["message_db_url", "message_store"]  # fixtures


class MessageDbConformance(SourceConformance):
    engine: Engine
    reading: Engine
    awaited: AsyncEngine

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
    """Streams of the suite have no hyphen: each is a category of its own, and nobody waits for another one's lock."""

    @contextmanager
    def append_in_open_transaction(self, *stream_ids: str) -> Iterator[list[str]]:
        with self.engine.begin() as connection:
            yield write(connection, (f"open{stream}" for stream in stream_ids))


@few
class TestMessageDbSource(WholeStore):
    def source(self) -> MessageDbSource:
        return MessageDbSource(self.reading)


@few
class TestAsyncMessageDbSource(WholeStore):
    def source(self) -> AsyncMessageDbSource:
        return AsyncMessageDbSource(self.awaited)


class Unprefixed:
    """The source of a category, whose streams are called as the suite calls them: "A", and not "account-A"."""

    def __init__(self, source: MessageDbSource) -> None:
        self.wrapped = source

    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        batch = self.wrapped.read(after, limit, until)
        return replace(batch, events=[unprefixed(recorded) for recorded in batch.events])

    def head(self) -> int:
        return self.wrapped.head()

    def get(self, event_id: str) -> Recorded | None:
        found = self.wrapped.get(event_id)
        return None if found is None else unprefixed(found)


def unprefixed(recorded: Recorded) -> Recorded:
    """Return an event as one of the stream "A"."""
    assert recorded.record is not None
    assert recorded.record.stream_id is not None
    return replace(recorded, record=replace(recorded.record, stream_id=recorded.record.stream_id.split("-", 1)[1]))


@few
class TestCategory(MessageDbConformance):
    """Messages of other categories stand before, between and behind its own."""

    def source(self) -> Unprefixed:
        return Unprefixed(MessageDbSource(self.reading, category="account"))

    def append(self, *stream_ids: str) -> list[str]:
        with self.engine.begin() as connection:
            write(connection, ["other-1"])
            ids = [write(connection, [f"account-{each}", f"accounts-{each}"])[0] for each in stream_ids]
            write(connection, ["account:command-1", "other-1"])
            return ids


@pytest.fixture
def reading(message_store: Engine, message_db_url: str) -> Iterator[Engine]:
    """An engine for readers of an empty store."""
    engine = create_engine(message_db_url)
    yield engine
    engine.dispose()


def streams(batch: Batch) -> list[str | None]:
    """Return the events' streams."""
    return [recorded.record.stream_id if recorded.record else None for recorded in batch.events]


def test_the_whole_store_holds_at_another_categorys_transaction(message_store: Engine, reading: Engine) -> None:
    """Its position is drawn already, and will be seen below one that is committed: taking that one would lose it."""
    source = MessageDbSource(reading)
    with message_store.begin() as first:
        write(first, ["account-1"])
        with message_store.begin() as second:
            write(second, ["other-1"])
        held = source.read(0, 100)
        assert (streams(held), held.position, held.is_held) == ([], 0, True)
    assert streams(source.read(0, 100)) == ["account-1", "other-1"]


def test_a_category_is_not_held_by_others(message_store: Engine, reading: Engine) -> None:
    """Its own writers take turns: nothing comes to stand below what can be seen of it."""
    source = MessageDbSource(reading, category="other")
    with message_store.begin() as first:
        write(first, ["account-1"])
        with message_store.begin() as second:
            write(second, ["other-1", "other-2"])
        batch = source.read(0, 100)
        assert (streams(batch), batch.position, batch.is_held) == (["other-1", "other-2"], source.head(), False)
    assert source.read(batch.position, 100).events == ()
    assert MessageDbSource(reading, category="account").head() == 1


def test_writers_of_a_category_take_turns(message_store: Engine) -> None:
    """That is what reading a category relies on: who comes second has no position while the first one is open."""
    written = threading.Event()

    def second() -> None:
        with message_store.begin() as connection:
            write(connection, ["account-2"])
        written.set()

    thread = threading.Thread(target=second)
    with message_store.begin() as first:
        write(first, ["account-1"])
        thread.start()
        with message_store.connect() as looking:
            here = "datname = current_database() AND wait_event = 'advisory'"
            while not looking.scalar(text(f"SELECT count(*) FROM pg_stat_activity WHERE {here}")):
                looking.rollback()
        assert not written.is_set()
        write(first, ["account-1"])
    thread.join()
    with message_store.connect() as connection:
        found = connection.execute(text("SELECT stream_name FROM messages ORDER BY global_position")).scalars().all()
    assert found == ["account-1", "account-1", "account-2"]


def test_what_is_committed_while_a_page_is_read_is_not_passed(message_store: Engine, reading: Engine) -> None:
    """A range's end is passed only by who has seen all up to it: here two messages come between two looks."""
    source = MessageDbSource(reading, category="account")
    with message_store.begin() as connection:
        write(connection, ["account-1"])
    looks = 0

    @event.listens_for(reading, "before_cursor_execute")
    def write_meanwhile(*args: Any) -> None:
        nonlocal looks
        looks += "LIMIT" in args[2]
        if looks == 2:
            looks += 1
            with message_store.begin() as connection:
                write(connection, ["account-2", "account-3"])

    assert source.head() == 1
    batch = source.read(0, 100, until=2)
    assert (streams(batch), batch.position) == (["account-1", "account-2"], 2)


def test_a_category_has_shares_and_streams(message_store: Engine, reading: Engine) -> None:
    """As the whole store has; a stream of another category is none of it."""
    with message_store.begin() as connection:
        for name in ("account", "other"):
            write(connection, [f"{name}-{number}" for number in (1, 2, 3, 1)])
    source = MessageDbSource(reading, category="account")
    found = source.read_stream("account-1", None, 10)
    assert found is not None
    assert [recorded.sequence for recorded in found] == [4, 1]
    assert source.read_stream("other-1", None, 10) == []
    share = Share(partitions=frozenset({0, 1}), of=4)
    batch = source.read(0, 100, share=share)
    mine = [name for name in ("account-1", "account-2", "account-3", "account-1") if share.has(name, "")]
    assert (streams(batch), batch.position) == (mine, 4)
    other = MessageDbSource(reading).read(5, 1).events[0]
    assert other.record is not None
    assert source.get(other.record.event_id) is None
    assert MessageDbSource(reading).get(other.record.event_id) == other


def test_indexes_lead_to_a_category_and_to_a_stream(message_store: Engine, reading: Engine) -> None:
    """The store's own ones: the statements are those that the source sends."""
    with message_store.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO messages (position, stream_name, type) "
                "SELECT n, 'c' || n % 200 || '-' || n % 1000, 'Happened' FROM generate_series(1, 20000) n"
            )
        )
        connection.execute(text("ANALYZE messages"))
    asked: list[tuple[str, Any]] = []
    event.listen(reading, "before_cursor_execute", lambda *args: asked.append((args[2], args[3])))
    source = MessageDbSource(reading, category="c7")
    assert len(source.read(0, 100).events) == 100
    source.head()
    source.read_stream("c7-7", None, 10)
    source.types(["Happened"], 5000)
    sent = [each for each in asked if "FROM message_store" in each[0] and "min(" not in each[0]]
    with reading.connect() as connection:
        plans = [
            "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", given).scalars()) for statement, given in sent
        ]
    page, head, stream, oldest, newest = plans
    assert "messages_category" in oldest
    assert "messages_category" in newest
    assert "messages_category" in page
    assert "messages_category" in head
    assert "messages_stream" in stream


def test_what_an_event_is(message_store: Engine, reading: Engine) -> None:
    """A `Message`, which `EventMapping` reads as it is, and any codec brings back; or what `decode=` makes of it."""
    with message_store.begin() as connection:
        ids = write(connection, ["account-1", "other-1", "account-1"], amount=7)
    recorded = MessageDbSource(reading).read(0, 100).events[2]
    message = recorded.event
    assert isinstance(message, Message)
    assert message.data == {"amount": 7}
    assert (message.id, message.position, message.global_position, message.metadata) == (UUID(ids[2]), 1, 3, None)
    read = EventMapping().read(message)
    assert (read.event_id, read.event_type, read.stream_id) == (ids[2], "Happened", "account-1")
    assert (read.sequence, read.stream_version, read.occurred_at) == (3, 1, message.time)
    assert "amount" not in repr(message)
    codec = JsonCodec()
    codec.register(Message)
    assert codec.decode(codec.encode(message)) == message
    source = MessageDbSource(reading, decode=lambda message: message.data["amount"])
    assert [recorded.event for recorded in source.read(0, 100).events] == [7, 7, 7]
    assert (MessageDbSource(reading).events_are, source.events_are) == (Message, None)


def test_a_message_of_eventides_own_shape_is_read_as_it_is() -> None:
    """A dict of the store's columns, as a client hands it on, has the same fields."""
    message = {"id": "m-1", "stream_name": "account-1", "type": "Paid", "position": 0, "global_position": 9}
    read = EventMapping().read(message | {"data": {}, "metadata": None, "time": "2026-01-01T00:00:00"})
    assert (read.event_id, read.event_type, read.stream_id, read.sequence, read.stream_version) == (
        *("m-1", "Paid", "account-1"),
        *(9, 0),
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"category": "account-1"}, "what has a hyphen is a stream's"),
        ({"category": ""}, "takes a category's name"),
        ({"category": "account", "give_up_after": timedelta(seconds=1)}, "a category is never held"),
    ],
)
def test_what_cannot_be_is_refused(options: Any, says: str) -> None:
    """Before anything is read."""
    with pytest.raises(ConfigurationError, match=says):
        MessageDbSource("postgresql+psycopg://nobody@localhost/nothing", **options)
    with pytest.raises(ConfigurationError, match="is one of sqlite"):
        MessageDbSource("sqlite://")


def test_one_poison_event_of_a_hundred_streams(diagonal_bed: Bed, message_store: Engine, message_db_url: str) -> None:
    """Messages are written by the store's own function, and nothing is changed in it."""
    with message_store.begin() as connection:
        for stream, n in SCRIPT:
            write(connection, [stream], n=n)
    kind = AsyncMessageDbSource if diagonal_bed.is_async else MessageDbSource
    source = kind(message_db_url, category="account" if diagonal_bed.is_async else None)
    diagonal_bed.on_close(source.close)
    heals_in_order(
        diagonal_bed,
        lambda: diagonal_bed.guard(source=source),
        deliver=lambda guard: guard.catch_up("P"),
        read=lambda message: (message.stream_name, message.data["n"]),
        handles=["Happened"],
    )
