"""An iterable as a source: lists, functions of a position, files of JSON, blocking and async."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from projection_guard import ConfigurationError, EventError, SourceError
from projection_guard._source import AsyncEventSource, EventSource
from projection_guard.iterators import AsyncIterableSource, IterableSource, json_lines
from projection_guard.testing.source_conformance import SourceConformance
from tests.bed import Bed
from tests.libraries.few import few
from tests.libraries.hundred import SCRIPT, heals_in_order

Event = dict[str, Any]


def event(stream: str, **more: Any) -> Event:
    """Make an event."""
    return {"event_id": str(uuid4()), "event_type": "Happened", "stream_id": stream, **more}


class ListConformance(SourceConformance):
    """A list that grows."""

    @pytest.fixture(autouse=True)
    def log(self) -> None:
        self.events: list[Event] = []

    def append(self, *stream_ids: str) -> list[str]:
        made = [event(stream) for stream in stream_ids]
        self.events += made
        return [each["event_id"] for each in made]


class TestNumberedList(ListConformance):
    def source(self) -> EventSource:
        return IterableSource(self.events)


@few
class TestAsyncNumberedList(ListConformance):
    def source(self) -> AsyncEventSource:
        return AsyncIterableSource(self.events)


class OffsetsConformance(SourceConformance):
    """A log like a partition of Kafka: offsets with holes in them, and some that are gone."""

    @pytest.fixture(autouse=True)
    def log(self) -> None:
        self.events: list[Event] = []
        self.offset = 0
        self.writing = threading.Lock()

    def append(self, *stream_ids: str) -> list[str]:
        ids = []
        with self.writing:  # one writer at a time has an offset and its place, as in a partition
            for stream in stream_ids:
                self.offset += 3
                self.events.append(event(stream, meta={"offset": self.offset}))
                ids.append(self.events[-1]["event_id"])
        return ids

    def remove(self, sequence: int) -> None:
        with self.writing:
            self.events = [each for each in self.events if each["meta"]["offset"] != sequence]

    def after(self, position: int) -> Iterator[Event]:
        yield from (each for each in list(self.events) if each["meta"]["offset"] > position)


class TestOffsets(OffsetsConformance):
    def source(self) -> EventSource:
        return IterableSource(self.after, sequence="meta.offset")


@few
class TestOffsetsFromTheBeginning(OffsetsConformance):
    """What is given below the position that is asked for is passed over; and the log says where it ends."""

    def source(self) -> EventSource:
        def head() -> int:
            return int(self.events[-1]["meta"]["offset"]) if self.events else 0

        return IterableSource(lambda _: list(self.events), sequence="meta.offset", head=head)


@few
class TestAsyncOffsets(OffsetsConformance):
    def source(self) -> AsyncEventSource:
        async def after(position: int) -> AsyncIterator[Event]:
            for each in self.after(position):
                yield each

        return AsyncIterableSource(after, sequence="meta.offset")


class TestJsonLines(SourceConformance):
    @pytest.fixture(autouse=True)
    def log(self, tmp_path: Path) -> None:
        self.path = tmp_path / "events.jsonl"

    def append(self, *stream_ids: str) -> list[str]:
        made = [event(stream) for stream in stream_ids]
        with self.path.open("a") as file:
            file.write("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in made))
        return [each["event_id"] for each in made]

    def source(self) -> EventSource:
        return IterableSource(json_lines(self.path))


def positions(source: IterableSource, after: int = 0, until: int | None = None) -> list[int]:
    """Return where the events are that come after a position."""
    return [recorded.sequence for recorded in source.read(after, 100, until).events]


def test_a_file_is_read_from_any_byte(tmp_path: Path) -> None:
    """Also from the middle of a line, which is one that has begun before: the guard asks for "one below this"."""
    path = tmp_path / "log"
    path.write_bytes(b'{"n":1}\n\n{"n":"\xc3\xa6"}\n{"n":3}\n{"n":')
    source = IterableSource(json_lines(path))
    assert positions(source) == [1, 10, 21]
    for after in range(35):
        assert positions(source, after) == [each for each in (1, 10, 21) if each > after]
    assert source.read(9, 1, 10).events[0].event == {"n": "æ"}
    assert source.head() == 21
    with path.open("ab") as file:
        file.write(b"4}\n")
    assert positions(source, 21) == [29]
    assert source.head() == 29


def test_a_line_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    """It is a failure, with its place and why; and so is one of which `decode=` makes nothing."""
    path = tmp_path / "log"
    path.write_text('{"n": 1}\n{"n": \n{"m": 3}\n{"n": 4}\n')
    first, second, third, fourth = IterableSource(json_lines(path, decode=lambda said: said["n"])).read(0, 10).events
    assert (first.event, fourth.event) == (1, 4)
    assert isinstance(second.error, json.JSONDecodeError)
    assert isinstance(third.error, KeyError)
    assert second.record is not None
    assert (second.record.event_id, second.record.sequence) == ("byte-9", 10)


def test_what_is_left_is_closed() -> None:
    """A generator ends when its page is full, and not when it is collected."""
    ended = []

    def after(position: int) -> Iterator[Event]:
        try:
            yield from [event("A")] * 10
        finally:
            ended.append(position)

    assert len(IterableSource(after).read(4, 2).events) == 2
    assert ended == [4]


def test_the_end_is_looked_for_from_where_it_is_known() -> None:
    """Not from the beginning, each time; and what stands at a position is not taken for its end."""
    asked = []
    log: list[Event] = []

    def after(position: int) -> Iterable[Event]:
        asked.append(position)
        return log[position:]

    source = IterableSource(after)
    for length in (3, 3, 5):
        log += [event("A")] * (length - len(log))
        assert source.head() == length
    assert asked == [0, 3, 3]


@pytest.mark.parametrize("kind", [IterableSource, AsyncIterableSource])
@pytest.mark.parametrize("given", [iter([]), (each for each in list[int]()), 7, "events", {"a": 1}])
def test_what_cannot_be_read_again_is_refused(kind: Callable[..., object], given: Any) -> None:
    """An iterator is used up by reading it: the guard would find an empty log the second time."""
    with pytest.raises(ConfigurationError, match=r"read again|a list of events or a function"):
        kind(given)


def test_an_event_without_a_position_is_an_error() -> None:
    """Nobody could say where to go on; so is one whose position is no number."""
    with pytest.raises(SourceError, match="has no position where sequence= says"):
        IterableSource([event("A")], sequence="offset").read(0, 10)
    with pytest.raises(EventError, match="sequence is no whole number"):
        IterableSource([event("A", offset="7")], sequence="offset").read(0, 10)


@pytest.mark.parametrize("way", ["offsets", "lines"])
def test_one_poison_event_of_a_hundred_streams(sqlite_bed: Bed, tmp_path: Path, way: str) -> None:
    """In a log with offsets, and in a file."""
    events = [event(stream, n=n, offset=10 * place) for place, (stream, n) in enumerate(SCRIPT, start=1)]
    kind: Any = AsyncIterableSource if sqlite_bed.is_async else IterableSource
    if way == "offsets":
        source = kind(lambda after: (each for each in events if each["offset"] > after), sequence="offset")
    else:
        path = tmp_path / "log"
        path.write_text("".join(json.dumps(each) + "\n" for each in events))
        source = kind(json_lines(path))
    heals_in_order(
        sqlite_bed,
        lambda: sqlite_bed.guard(source=source),
        deliver=lambda guard: guard.catch_up("P"),
        read=lambda each: (each["stream_id"], each["n"]),
    )
