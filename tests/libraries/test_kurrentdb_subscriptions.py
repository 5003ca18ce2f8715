"""Persistent subscriptions of KurrentDB: what is answered for what became of an event; a double of its server."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kurrentdbclient", reason="the client of KurrentDB is not installed: extra kurrentdb")

from kurrentdbclient import AsyncKurrentDBClient, KurrentDBClient, RecordedEvent
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from projection_guard import EventError, SchemaError
from projection_guard.kurrentdb import consume, consume_async
from tests.bed import Bed, GuardOnBed
from tests.libraries.hundred import SCRIPT, heals_in_order
from tests.libraries.kurrent_double import Group, Kurrent
from tests.libraries.test_kurrentdb import kurrent, server

__all__ = ["kurrent", "server"]  # fixtures


class Consumer:
    """Consumes a group until as many answers were given as are waited for."""

    def __init__(self, bed: Bed, kurrent: Kurrent, group: Group) -> None:
        self.bed, self.kurrent, self.group = bed, kurrent, group
        self.stopped = threading.Event()

    def until(self, answers: int, guard: GuardOnBed, **options: Any) -> None:
        """Consume with a connection of its own, which ends when the server has so many answers.

        Afterwards the server knows that it has ended: its last answers are there, and what is open waits for the next.
        """
        try:
            if self.bed.is_async:
                self.bed.run(self._awaited(answers, guard, options))
            else:
                self._now(answers, guard, options)
        finally:
            self.bed.wait_until(lambda: not self.group.readers)

    def _now(self, answers: int, guard: GuardOnBed, options: dict[str, Any]) -> None:
        client = KurrentDBClient(self.kurrent.url)
        try:
            subscription = client.read_subscription_to_all(self.group.name, max_ack_delay=0.01, stopping_grace=0.01)

            def watch() -> None:
                self._wait(answers)
                subscription.stop()
                self.stopped.set()

            watching = threading.Thread(target=watch)
            watching.start()
            consume(guard.real, subscription, **options)
            watching.join()
        finally:
            client.close()

    async def _awaited(self, answers: int, guard: GuardOnBed, options: dict[str, Any]) -> None:
        client = AsyncKurrentDBClient(self.kurrent.url)
        await client.connect()
        try:
            subscription = await client.read_subscription_to_all(
                self.group.name, max_ack_delay=0.01, stopping_grace=0.01
            )
            consuming = asyncio.create_task(consume_async(guard.real, subscription, **options))
            watching = asyncio.create_task(asyncio.to_thread(self._wait, answers))
            await asyncio.wait({consuming, watching}, return_when=asyncio.FIRST_COMPLETED)
            await subscription.stop()
            await consuming
            await watching
        finally:
            await client.close()

    def _wait(self, answers: int) -> None:
        end = time.monotonic() + 120
        while len(self.group.answers) < answers and time.monotonic() < end:
            time.sleep(0.01)


@pytest.fixture
def group(kurrent: Kurrent) -> Group:
    """A group that is given all that is appended."""
    return kurrent.group("read-models")


@pytest.fixture
def consumer(sqlite_bed: Bed, kurrent: Kurrent, group: Group) -> Consumer:
    """A consumer of it."""
    return Consumer(sqlite_bed, kurrent, group)


def guarded(bed: Bed, body: Callable[[Any, Connection], None], **options: Any) -> GuardOnBed:
    """Make a guard with one projection, that brings a `RecordedEvent` back."""
    guard = bed.guard(**options)
    guard.real.codec.register(RecordedEvent)
    bed.joined(guard, "P", body, handles=["Happened"])
    return guard


def test_what_is_on_record_is_acknowledged(sqlite_bed: Bed, kurrent: Kurrent, group: Group, consumer: Consumer) -> None:
    """Applied, failed, parked, a duplicate, and what nobody wants: the guard answers for it from now on."""
    calls = Counter[str]()

    def body(event: RecordedEvent, connection: Connection) -> None:
        calls[event.stream_name] += 1
        if event.stream_name == "B":
            raise ValueError("no")

    guard = guarded(sqlite_bed, body)
    made = kurrent.append("A", "B", "B", "C")
    kurrent.append("A", kind="Unheard")
    consumer.until(5, guard)
    group.waiting.put((made[0], 1))
    consumer.until(6, guard)
    assert [action for action, _ in group.answers] == ["ack"] * 6
    assert calls == {"A": 1, "B": 1, "C": 1}
    health = guard.health("P")
    assert (health.active_failures, health.parked_events) == (1, 1)
    assert not group.out


def test_what_failed_before_heals_while_no_event_comes(
    sqlite_bed: Bed, kurrent: Kurrent, group: Group, consumer: Consumer
) -> None:
    """A consumer that is begun anew, with the bug mended, has nothing to wait for."""

    def fail(event: RecordedEvent, connection: Connection) -> None:
        raise ValueError("no")

    def mended(event: RecordedEvent, connection: Connection) -> None:
        group.answers.append(("", "what the test waits for"))

    kurrent.append("A")
    consumer.until(1, guarded(sqlite_bed, fail))
    consumer.until(2, guarded(sqlite_bed, mended, worker="auto"))
    assert [action for action, _ in group.answers] == ["ack", ""]


def test_a_link_is_acknowledged_and_its_event_applied(
    sqlite_bed: Bed, kurrent: Kurrent, group: Group, consumer: Consumer
) -> None:
    """The event that a resolved link leads to is one: by another way it is a duplicate."""
    seen = list[str]()
    guard = guarded(sqlite_bed, lambda event, connection: seen.append(event.stream_name))
    (event,) = kurrent.append("A")
    kurrent.append("$ce-all", kind="$>", to=event)
    consumer.until(2, guard)
    assert [action for action, _ in group.answers] == ["ack", "ack"]
    assert seen == ["A"]


def test_what_can_be_neither_read_nor_kept_is_parked_there(
    sqlite_bed: Bed, kurrent: Kurrent, group: Group, consumer: Consumer
) -> None:
    """It would be lost if it were acknowledged, and stop all others if it were sent again for ever."""

    def decode(event: RecordedEvent) -> object:
        return json.loads(event.data)

    guard = guarded(sqlite_bed, lambda event, connection: None)
    whole = {"event_id": "1", "event_type": "Happened", "stream_id": "A"}
    broken = kurrent.append("A", data=b"{")[0]
    nameless = kurrent.append("A", data=b'{"event_type": "Happened"}')[0]
    kurrent.append("A", data=json.dumps(whole).encode())
    consumer.until(3, guard, decode=decode)
    assert [action for action, _ in group.answers] == ["park", "park", "ack"]
    assert group.parked == [broken, nameless]


class Away:
    """A database that can be taken away: a file in a folder that is renamed."""

    def __init__(self, bed: Bed, place: Path) -> None:
        self.place, self.elsewhere = place / "there", place / "elsewhere"
        self.place.mkdir()
        path = self.place / "guard.db"
        if bed.is_async:
            self.engine: Any = create_async_engine(f"sqlite+aiosqlite:///{path}", poolclass=NullPool)
        else:
            self.engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)

    def leave(self) -> None:
        """Take it away."""
        self.place.rename(self.elsewhere)

    def come_back(self) -> None:
        """Bring it back."""
        self.elsewhere.rename(self.place)


@pytest.fixture
def away(sqlite_bed: Bed, tmp_path: Path) -> Away:
    """The guard's database."""
    made = Away(sqlite_bed, tmp_path)
    sqlite_bed.url = made.engine
    return made


def test_while_the_store_is_away_an_event_waits(
    sqlite_bed: Bed, kurrent: Kurrent, group: Group, consumer: Consumer, away: Away
) -> None:
    """It is tried again here, so that none of its stream overtakes it; and is acknowledged when it could be kept."""
    seen = list[int]()
    guard = guarded(sqlite_bed, lambda event, connection: seen.append(event.stream_position))
    guard.migrate()
    guard.health()
    away.leave()
    kurrent.append("A", "A", "A")
    timer = threading.Timer(0.5, away.come_back)
    timer.start()
    consumer.until(3, guard)
    timer.join()
    assert [action for action, _ in group.answers] == ["ack"] * 3
    assert seen == [0, 1, 2]


def test_when_the_store_stays_away_an_event_is_sent_back(
    sqlite_bed: Bed, kurrent: Kurrent, group: Group, consumer: Consumer, away: Away
) -> None:
    """To be delivered again, to whoever can take it; never acknowledged."""
    seen = list[int]()
    guard = guarded(sqlite_bed, lambda event, connection: seen.append(event.stream_position))
    guard.migrate()
    guard.health()
    away.leave()
    kurrent.append("A")
    consumer.until(1, guard, patience_seconds=0.1)
    assert group.answers[0][0] == "retry"
    assert "ack" not in [action for action, _ in group.answers]
    away.come_back()
    answered = len(group.answers)
    consumer.until(answered + 1, guard)
    assert group.answers[-1][0] == "ack"
    assert seen == [0]


@pytest.mark.parametrize("sqlite_bed", ["blocking"], indirect=True)
def test_a_consumer_that_is_stopped_ends(sqlite_bed: Bed, kurrent: Kurrent, group: Group, consumer: Consumer) -> None:
    """Also with an event in hand: nobody can be told of it any more, it comes again, and is a duplicate."""
    calls = list[str]()

    def body(event: RecordedEvent, connection: Connection) -> None:
        calls.append(event.stream_name)
        if event.stream_name == "A":
            group.answers.append(("", "what the test waits for"))
            assert consumer.stopped.wait(30)

    guard = guarded(sqlite_bed, body)
    first, second = kurrent.append("A", "B")
    consumer.until(1, guard)
    assert calls == ["A"]
    assert [answer for answer in group.answers if answer[0]] == []
    consumer.until(3, guard)
    assert Counter(group.answers[1:]) == {("ack", first.id): 1, ("ack", second.id): 1}
    assert calls == ["A", "B"]


def test_another_error_ends_the_consumer(
    sqlite_bed: Bed, kurrent: Kurrent, group: Group, consumer: Consumer, tmp_path: Path
) -> None:
    """Such as a database without our tables. The event is not answered: the server gives it to the next consumer."""
    url, sqlite_bed.url = sqlite_bed.url, f"sqlite:///{tmp_path / 'empty.db'}"
    (event,) = kurrent.append("A")
    with pytest.raises(SchemaError):
        consumer.until(1, guarded(sqlite_bed, lambda event, connection: None))
    assert group.answers == []
    sqlite_bed.url = url
    consumer.until(1, guarded(sqlite_bed, lambda event, connection: None))
    assert group.answers == [("ack", event.id)]


def test_a_class_that_was_not_registered_ends_the_consumer(
    sqlite_bed: Bed, kurrent: Kurrent, group: Group, consumer: Consumer
) -> None:
    """A line is missing in the application: it is said, and no event is parked for it."""
    guard = sqlite_bed.guard()
    sqlite_bed.joined(guard, "P", lambda event, connection: None, handles=["Happened"])
    (event,) = kurrent.append("A")
    with pytest.raises(EventError, match="register"):
        consumer.until(1, guard)
    assert group.answers == []
    guard.real.codec.register(RecordedEvent)
    consumer.until(1, guard)
    assert group.answers == [("ack", event.id)]


def test_one_poison_event_of_a_hundred_streams(
    sqlite_bed: Bed, kurrent: Kurrent, group: Group, consumer: Consumer
) -> None:
    """Each delivery is acknowledged, the poison one too; in the end all are delivered once more."""
    for stream, n in SCRIPT:
        kurrent.append(stream, data=json.dumps({"n": n}).encode())

    def guard_of() -> GuardOnBed:
        guard = sqlite_bed.guard()
        guard.real.codec.register(RecordedEvent)
        return guard

    def deliver(guard: GuardOnBed) -> None:
        consumer.until(len(group.answers) + len(SCRIPT), guard)
        for record in kurrent.log:
            group.waiting.put((record, 0))

    heals_in_order(
        sqlite_bed,
        guard_of,
        deliver=deliver,
        read=lambda event: (event.stream_name, json.loads(event.data)["n"]),
        handles=["Happened"],
    )
    assert Counter(action for action, _ in group.answers) == {"ack": 2 * len(SCRIPT)}
