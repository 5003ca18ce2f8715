"""What an event says of itself is read off any object or dict."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from projection_guard import ConfigurationError, EventError, EventMapping


@dataclass
class Uploaded:
    event_id: UUID
    aggregate_id: int
    sequence: int | None = None
    occurred_at: datetime | str | float | None = None


class Kind(Enum):
    SHIPPED = "OrderShipped"


def test_conventional_names_are_found() -> None:
    """A dataclass that says nothing of its type is of its class's type; ids become text."""
    record = EventMapping().read(Uploaded(UUID(int=1), 7, 3))
    assert record.event_id == str(UUID(int=1))
    assert (record.event_type, record.stream_id, record.sequence) == ("Uploaded", "7", 3)


def test_a_dict_is_read_by_its_keys() -> None:
    """Also what lies in its metadata."""
    record = EventMapping().read(
        {"id": "x", "type": Kind.SHIPPED, "metadata": {"stream_id": "s", "global_position": 9}}
    )
    assert (record.event_id, record.event_type, record.stream_id, record.sequence) == ("x", "OrderShipped", "s", 9)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"id": 12, "originator_id": UUID(int=2), "originator_version": 4, "topic": "m:E"}, ("12", 12, 4)),
        ({"originator_id": "o", "originator_version": 4, "timestamp": 5}, ("o:4", None, 4)),
        (
            {
                "id": "k",
                "type": "T",
                "stream_name": "s",
                "stream_position": 2,
                "commit_position": 77,
                "recorded_at": None,
            },
            ("k", 77, 2),
        ),
        ({"id": "m", "type": "T", "stream_name": "s", "position": 2, "global_position": 78}, ("m", 78, 2)),
        ({"specversion": "1.0", "id": "c", "source": "/s", "type": "T", "sequence": "5"}, ("/s c", None, None)),
    ],
    ids=["eventsourcing notification", "eventsourcing event", "kurrent", "message db", "cloudevents"],
)
def test_known_shapes_come_before_conventions(event: dict[str, Any], expected: tuple[object, ...]) -> None:
    """`id` is a position in one library, `position` is per stream in another. As dicts and as objects."""
    for form in (event, SimpleNamespace(**event)):
        mapping = EventMapping(event_type=lambda _: "T")
        record = mapping.read(form)
        assert (record.event_id, record.sequence, record.stream_version) == expected


def test_a_position_is_never_guessed() -> None:
    """Outside a known shape `id`, `version` and `position` are no global sequence."""
    record = EventMapping().read({"event_id": "1", "event_type": "T", "version": 3, "position": 4})
    assert (record.sequence, record.stream_version) == (None, None)


def tenfold(event: Any) -> object:
    """Read a sequence."""
    return event["n"] * 10


def test_each_field_can_be_given() -> None:
    """By name, path or function."""
    mapping = EventMapping(event_id="uid", event_type="meta.kind", sequence=tenfold, stream_id="meta.key")
    record = mapping.read({"uid": "u", "meta": {"kind": "K", "key": "s"}, "n": 2})
    assert (record.event_id, record.event_type, record.sequence, record.stream_id) == ("u", "K", 20, "s")


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 1, 12),  # noqa: DTZ001  # naive on purpose
        datetime(2026, 1, 1, 14, tzinfo=timezone(timedelta(hours=2))),
        "2026-01-01T12:00:00Z",
        1767268800,
    ],
)
def test_a_time_is_aware_utc(moment: datetime | str | float) -> None:
    """Naive means UTC; text and epoch seconds are read."""
    record = EventMapping().read(Uploaded(UUID(int=1), 1, None, moment))
    assert record.occurred_at == datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"event_type": "T"}, "has no event_id"),
        ({"event_id": "1"}, "has no event_type"),
        ({"event_id": "", "event_type": "T"}, "has no event_id"),
        ({"event_id": None, "event_type": "T"}, "has no event_id"),
        ({"event_id": "x" * 256, "event_type": "T"}, "256 characters"),
        ({"event_id": "a\0b", "event_type": "T"}, "NUL"),
        ({"event_id": "a\ud800", "event_type": "T"}, "surrogate"),
        ({"event_id": ["secret"], "event_type": "T"}, "event_id is a list"),
        ({"event_id": "1", "event_type": "T", "sequence": "7"}, "sequence"),
        ({"event_id": "1", "event_type": "T", "sequence": True}, "sequence"),
        ({"event_id": "1", "event_type": "T", "sequence": -1}, "sequence"),
        ({"event_id": "1", "event_type": "T", "sequence": 2**63}, "sequence"),
        ({"event_id": "1", "event_type": "T", "occurred_at": "soon"}, "occurred_at"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_names_the_field(event: dict[str, object], said: str) -> None:
    """And never what is in it."""
    with pytest.raises(EventError, match=said) as caught:
        EventMapping().read(event)
    assert "secret" not in str(caught.value)


def test_an_attribute_that_only_later_events_have_is_found_then() -> None:
    """What the first event of a class lacked is not taken for absent for ever."""
    mapping = EventMapping()
    assert mapping.read(SimpleNamespace(event_id="1")).stream_id is None
    assert mapping.read(SimpleNamespace(event_id="2", stream_id="s", sequence=4)).stream_id == "s"
    assert mapping.read({"event_id": "1", "event_type": "T", "sequence": None}).sequence is None
    assert mapping.read({"event_id": "1", "event_type": "T", "sequence": 5}).sequence == 5


def test_a_field_that_is_neither_name_nor_function_is_refused() -> None:
    """One sentence says so."""
    with pytest.raises(ConfigurationError, match="sequence"):
        EventMapping(sequence=5)  # type: ignore[arg-type]
