"""What `quick` makes cannot be told from what the class itself makes."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime

import pytest

from projection_guard._frozen import quick
from projection_guard._model import EventRecord
from projection_guard._source import Recorded

RECORD = EventRecord(event_id="e-1", event_type="Paid", sequence=7, stream_id="cart", stream_version=2)


def test_it_makes_an_equal_one_of_the_very_class() -> None:
    """With the same defaults, hash, repr and pickle, and it can be replaced."""
    record = quick(EventRecord)(event_id="e-1", event_type="Paid", sequence=7, stream_id="cart", stream_version=2)
    assert type(record) is EventRecord
    assert (record, hash(record), repr(record)) == (RECORD, hash(RECORD), repr(RECORD))
    assert pickle.loads(pickle.dumps(record)) == RECORD
    now = datetime.now(UTC)
    assert replace(record, occurred_at=now) == replace(RECORD, occurred_at=now)
    recorded = quick(Recorded)(sequence=7, event="paid", record=record)
    assert recorded == Recorded(sequence=7, event="paid", record=RECORD)


def test_it_is_frozen() -> None:
    """No field can be set, and there is no place for another one."""
    record = quick(EventRecord)(event_id="e-1", event_type="Paid")
    with pytest.raises(FrozenInstanceError):
        record.event_id = "e-2"  # type: ignore[misc]
    assert not hasattr(record, "__dict__")


def test_it_takes_what_the_class_takes() -> None:
    """By keyword; a field without a default has to be there."""
    with pytest.raises(TypeError):
        quick(EventRecord)(event_id="e-1")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        quick(EventRecord)("e-1", "Paid")  # type: ignore[call-arg]
