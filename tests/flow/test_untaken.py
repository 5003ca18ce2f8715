"""What no projection takes is no error; where nothing at all is taken, somebody is told."""

from __future__ import annotations

import logging

import pytest

from tests.bed import Bed, happened
from tests.flow.acting import listed


def said(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what was logged of events that nobody took."""
    return [record for record in caplog.records if "no projection" in record.message]


@pytest.mark.parametrize("is_registered", [True, False])
def test_where_nothing_that_is_published_is_ever_taken_one_warning_says_so(
    bed: Bed, caplog: pytest.LogCaptureFixture, is_registered: bool
) -> None:
    """After a hundred events: what was published, and what to look at; each type is told at level DEBUG."""
    caplog.set_level(logging.DEBUG, "projection_guard")
    guard = bed.guard()
    if is_registered:
        bed.joined(guard, "P", listed("P"), handles=["Happning"])
    publisher = guard.real.publisher()
    for n in range(250):
        event = happened("A", n) if n % 2 else {"event_id": f"{n}", "event_type": "Closed", "stream_id": "A"}
        assert bed.run(publisher.publish(event)) == ()
    assert [record.levelno for record in said(caplog)] == [logging.DEBUG, logging.DEBUG, logging.WARNING]
    warning = said(caplog)[-1].message
    assert warning.startswith("100 events were published and no projection has taken any, of types such as")
    assert "'Closed', 'Happened'" in warning
    assert ("letter by letter" if is_registered else "Import the modules") in warning


def test_where_something_was_taken_nobody_is_warned(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """Events that are of no interest to any projection are nothing unusual."""
    guard = bed.guard()
    bed.joined(guard, "P", listed("P"))
    guard.publish(happened("A", 1))
    for n in range(250):
        event = {"event_id": f"{n}", "event_type": "Other", "stream_id": "A"}
        assert bed.run(guard.real.publisher().publish(event)) == ()
    assert said(caplog) == []
