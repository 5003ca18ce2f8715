"""Objects that answer anything, or nothing, or raise: each gives a record that can be stored, or an `EventError`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from projection_guard import EventError, EventMapping
from projection_guard._core.describing import describe, storable
from tests.fuzz.settings import few


class Hostile:
    """It cannot be compared, shown or counted."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __str__(self) -> str:
        raise ZeroDivisionError

    def __bool__(self) -> bool:
        raise ZeroDivisionError


class Raising:
    """Every attribute raises."""

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError


any_text = st.text(st.characters(exclude_categories=()))
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    any_text,
    st.text("ab", min_size=250, max_size=260),
    st.binary(),
    st.uuids(),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.lists(st.integers(), max_size=2),
    st.builds(Hostile),
    st.builds(Raising),
)
NAMES = [
    *("event_id", "id", "event_type", "type", "sequence", "global_position", "stream_id", "stream_name", "position"),
    *("stream_position", "commit_position", "originator_id", "originator_version", "topic", "event", "specversion"),
    *("source", "time", "timestamp", "occurred_at", "stored_at", "metadata", "stream_version", "recorded_at"),
]
fields = st.dictionaries(st.sampled_from(NAMES), values | st.dictionaries(st.sampled_from(NAMES), values, max_size=4))


class Anything:
    """An object with these attributes."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.__dict__.update(given)


FARTHEST = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))


@few(150)
@example({"event_id": "a", "occurred_at": FARTHEST}, "dict", None)
@example({"event_id": Hostile()}, "object", None)
@example({}, "raising", None)
@given(fields, st.sampled_from(["dict", "object", "value"]), st.sampled_from([None, "metadata.id", "id"]))
def test_an_event_is_read_or_refused(given: dict[str, Any], form: str, where: str | None) -> None:
    """Never another exception, and never what no database stores."""
    event: Any = {"dict": given, "object": Anything(given), "value": next(iter(given.values()), 0)}.get(form, Raising())
    try:
        record = EventMapping(event_id=where).read(event)
    except EventError:
        return
    for text in (record.event_id, record.event_type, record.stream_id or "x"):
        assert 1 <= len(text) <= 255
        assert "\0" not in text
        text.encode()
    for number in (record.sequence, record.stream_version):
        assert number is None or 0 <= number < 2**63
    assert record.occurred_at is None or record.occurred_at.tzinfo is UTC


@few(60)
@given(any_text, st.integers(1, 300))
def test_any_text_becomes_one_that_is_stored(text: str, longest: int) -> None:
    """As it is, where it can be."""
    made = storable(text, longest)
    made.encode()
    assert "\0" not in made
    if len(text) <= longest and "\0" not in text and text.isascii():
        assert made == text


@few(30)
@given(
    st.recursive(
        any_text.map(ValueError),
        lambda inner: st.lists(inner, min_size=1, max_size=3).map(
            lambda errors: ExceptionGroup("several \ud800", errors)
        ),
        max_leaves=6,
    )
)
def test_any_error_is_described(error: Exception) -> None:
    """Groups too."""
    described = describe(error)
    for text in (described.type, described.message, described.traceback or "", described.fingerprint):
        text.encode()
        assert "\0" not in text
