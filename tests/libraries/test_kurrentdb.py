"""KurrentDB as a source: its own client, against a double of its server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("kurrentdbclient", reason="the client of KurrentDB is not installed: extra kurrentdb")

from kurrentdbclient import AsyncKurrentDBClient, KurrentDBClient, RecordedEvent

from projection_guard import EventMapping, JsonCodec, SourceError
from projection_guard._source import AsyncEventSource, EventSource
from projection_guard.kurrentdb import AsyncKurrentDBSource, KurrentDBSource
from projection_guard.testing.source_conformance import SourceConformance
from tests.bed import Bed
from tests.following.beside import run_for
from tests.libraries.few import few
from tests.libraries.hundred import SCRIPT, heals_in_order
from tests.libraries.kurrent_double import Kurrent


@pytest.fixture(scope="module")
def server() -> Iterator[Kurrent]:
    """The double; its log is cleared for each test."""
    made = Kurrent()
    yield made
    made.close()


@pytest.fixture
def kurrent(server: Kurrent) -> Kurrent:
    """An empty log."""
    server.clear()
    return server


@pytest.fixture
def client(kurrent: Kurrent) -> Iterator[KurrentDBClient]:
    """A client of it."""
    made = KurrentDBClient(kurrent.url)
    yield made
    made.close()


class KurrentConformance(SourceConformance):
    kurrent: Kurrent

    @pytest.fixture(autouse=True)
    def log(self, kurrent: Kurrent) -> None:
        self.kurrent = kurrent
        kurrent.append("$stats-1", kind="$statsCollected")

    def append(self, *stream_ids: str) -> list[str]:
        with self.kurrent.lock:
            made = [self.kurrent.append(stream)[0].id for stream in stream_ids]
            self.kurrent.append("$ce-all", kind="$>", data=b"0@A")
            return made

    def remove(self, sequence: int) -> None:
        self.kurrent.remove(sequence)


class TestKurrentDBSource(KurrentConformance):
    @pytest.fixture(autouse=True)
    def connect(self, client: KurrentDBClient) -> None:
        self.client = client

    def source(self) -> EventSource:
        return KurrentDBSource(self.client)


@few
class TestAsyncKurrentDBSource(KurrentConformance):
    @pytest.fixture(autouse=True)
    def connect(self, log: None) -> Iterator[None]:
        async def connected() -> AsyncKurrentDBClient:
            made = AsyncKurrentDBClient(self.kurrent.url)
            await made.connect()
            return made

        self.client = self.run(connected())
        yield
        self.run(self.client.close())

    def source(self) -> AsyncEventSource:
        return AsyncKurrentDBSource(self.client)


def positions(source: KurrentDBSource, after: int, until: int | None = None, limit: int = 100) -> list[int]:
    """Return where the events are that are read from a position."""
    return [recorded.sequence for recorded in source.read(after, limit, until).events]


def test_reading_begins_at_an_event_whatever_it_is_asked_for(kurrent: Kurrent, client: KurrentDBClient) -> None:
    """The server refuses all other positions; the guard asks for "one below this" to read an event again."""
    first, second, third = (record.position for record in kurrent.append("A", "B", "C"))
    source = KurrentDBSource(client)
    assert positions(source, 0) == [first, second, third]
    assert positions(source, second) == [third]
    assert positions(source, second - 1, until=second, limit=1) == [second]
    assert positions(source, second - 1) == [second, third]
    with pytest.raises(SourceError, match="has no event at position 7, nor at 8"):
        source.read(7, 100)


def test_one_event_is_read_again_with_one_question(kurrent: Kurrent, client: KurrentDBClient) -> None:
    """A retry knows where its event is."""
    (record,) = kurrent.append("A")
    kurrent.reads.clear()
    assert positions(KurrentDBSource(client), record.position - 1, until=record.position, limit=1) == [record.position]
    assert kurrent.reads == ["all"]


def test_what_an_event_is(kurrent: Kurrent, client: KurrentDBClient) -> None:
    """The client's `RecordedEvent`, which `EventMapping` reads as it is, and a codec brings back."""
    first, record = kurrent.append("account-1", "account-1", data=b'{"amount": 7}')
    recorded = KurrentDBSource(client).read(first.position, 10).events[0]
    event = recorded.event
    assert isinstance(event, RecordedEvent)
    assert (event.data, str(event.id)) == (b'{"amount": 7}', record.id)
    assert EventMapping().read(event) == recorded.record
    assert (KurrentDBSource(client).events_are, KurrentDBSource(client, decode=str).events_are) == (RecordedEvent, None)
    assert recorded.record is not None
    said = recorded.record
    assert (said.event_id, said.event_type, said.stream_id) == (record.id, "Happened", "account-1")
    assert (said.sequence, said.stream_version, said.occurred_at) == (record.position, 1, event.recorded_at)
    codec = JsonCodec()
    codec.register(RecordedEvent)
    assert codec.decode(codec.encode(event)) == event


def test_an_event_that_cannot_be_decoded_stops_no_other(kurrent: Kurrent, client: KurrentDBClient) -> None:
    """It comes with its record and the error."""
    kurrent.append("A", data=b"{")
    kurrent.append("A", data=b'{"n": 1}')
    broken, whole = KurrentDBSource(client, decode=lambda event: json.loads(event.data)).read(0, 10).events
    assert isinstance(broken.error, json.JSONDecodeError)
    assert broken.record is not None
    assert whole.event == {"n": 1}


def test_filters_are_the_clients(kurrent: Kurrent, client: KurrentDBClient) -> None:
    """By type or by stream; what is left out moves nothing, and such a source finds no streams."""
    kurrent.append("account-1", "other-1", "account-2")
    kurrent.append("account-3", kind="Closed")
    source = KurrentDBSource(client, filter_include=["account-.*"], filter_by_stream_name=True)
    found = [recorded.record for recorded in source.read(0, 10).events]
    assert [record.stream_id for record in found if record] == ["account-1", "account-2", "account-3"]
    assert positions(KurrentDBSource(client, filter_include=["Closed"]), 0) == [source.head()]
    assert source.read_stream("account-1", None, 10) is None
    assert len(KurrentDBSource(client).read_stream("account-1", None, 10) or ()) == 1
    assert KurrentDBSource(client).read_stream("no-such", None, 10) == []


def test_a_replay_to_a_position_between_two_events_ends(blocking_bed: Bed, kurrent: Kurrent) -> None:
    """The log never comes to that position: the projection would stand still for ever."""
    bed, applied = blocking_bed, list[str]()
    first, second, _ = (record.position for record in kurrent.append("A", "B", "C"))
    client = KurrentDBClient(kurrent.url)
    bed.on_close(client.close)
    guard = bed.guard(source=KurrentDBSource(client))
    bed.joined(guard, "P", lambda event, _: applied.append(event.stream_name), handles=["Happened"])
    guard.catch_up("P")
    job = guard.start_replay("P", from_sequence=first, to_sequence=second + 1, actor="alice")
    assert run_for(bed, guard, job, steps=10).status == "completed"
    assert applied == ["A", "B", "C", "A", "B"]


def test_one_poison_event_of_a_hundred_streams_in_the_log(diagonal_bed: Bed, kurrent: Kurrent) -> None:
    """Followed: the client and its server's log are as they were."""
    bed = diagonal_bed
    for stream, n in SCRIPT:
        kurrent.append(stream, data=json.dumps({"n": n}).encode())
    client: Any = AsyncKurrentDBClient(kurrent.url) if bed.is_async else KurrentDBClient(kurrent.url)
    bed.on_close(client.close)
    if bed.is_async:
        bed.run(client.connect())
    kind: Any = AsyncKurrentDBSource if bed.is_async else KurrentDBSource
    heals_in_order(
        bed,
        lambda: bed.guard(source=kind(client)),
        deliver=lambda guard: guard.catch_up("P"),
        read=lambda event: (event.stream_name, json.loads(event.data)["n"]),
        handles=["Happened"],
    )
