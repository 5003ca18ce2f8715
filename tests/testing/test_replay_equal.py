"""Filled again, a read model is what it was: found out where it is not, on both guards and both databases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text

from projection_guard import InvalidArgument
from projection_guard.testing import assert_replay_equal
from tests.bed import Bed, GuardOnBed, Happened, counted, effects, happened, noted
from tests.flow.acting import clears
from tests.following.logs import FollowedLog

EVENTS = [happened("A", 1), happened("B", 1), happened("A", 2)]


def clears_all(bed: Bed) -> Any:
    """Return an `on_reset` that empties both tables."""

    def clear(connection: Connection) -> None:
        connection.execute(text("DELETE FROM effects"))
        connection.execute(text("DELETE FROM counted"))

    async def clear_async(connection: Any) -> None:
        await connection.run_sync(clear)

    return clear_async if bed.is_async else clear


def check(bed: Bed, guard: GuardOnBed, **options: Any) -> None:
    """Assert it; the key of `effects` is drawn anew."""
    options.setdefault("ignore", ["id"])
    bed.run(assert_replay_equal(guard.real, "P", **options))


def pushed(bed: Bed, body: Callable[..., Any], **options: Any) -> GuardOnBed:
    """Return a guard that was given the events."""
    guard = bed.guard()
    bed.joined(guard, "P", body, **{"on_reset": clears_all(bed)} | options)
    for event in EVENTS:
        guard.publish(event)
    return guard


def test_a_followed_read_model_is_rebuilt_from_the_log(bed: Bed) -> None:
    """To whose end it is brought first; its tables are those it was registered with."""
    log = FollowedLog(bed)
    guard = log.guard()
    bed.joined(guard, "P", noted("P"), on_reset=clears_all(bed), tables=["effects", "counted"])
    log.append("A", "B", "A")
    check(bed, guard)
    assert bed.count("A") == 2


def test_a_pushed_read_model_is_filled_from_the_events(sqlite_bed: Bed) -> None:
    """All that ever happened."""
    check(sqlite_bed, pushed(sqlite_bed, noted("P")), tables=[effects, counted], events=EVENTS)


def test_what_the_reset_has_left_is_found_out(sqlite_bed: Bed) -> None:
    """By its key, with the values."""
    guard = pushed(sqlite_bed, noted("P"), on_reset=clears(sqlite_bed))
    with pytest.raises(
        AssertionError, match="another one:\n  counted: stream='A': count is 4, wanted 2\n  counted: stream='B'"
    ):
        check(sqlite_bed, guard, tables=["effects", "counted"], events=EVENTS)


def test_a_handler_that_depends_on_more_than_the_events_is_found_out(sqlite_bed: Bed) -> None:
    """Rows that are missing, and some that are too much."""
    calls: list[Happened] = []

    def body(event: Happened, connection: Connection) -> None:
        calls.append(event)
        connection.execute(insert(counted).values(stream=f"{event.stream_id}-{len(calls)}", count=1))

    guard = pushed(sqlite_bed, body)
    with pytest.raises(AssertionError, match=r"stream='A-1': missing, wanted .*\n(.*\n)*.*stream='A-4': too much"):
        check(sqlite_bed, guard, tables=[counted], events=EVENTS)


def test_ignored_columns_are_not_compared_and_the_others_are(sqlite_bed: Bed) -> None:
    """A table without its key is compared row by row."""
    guard = pushed(sqlite_bed, noted("P"))
    check(sqlite_bed, guard, tables=["effects"], events=EVENTS, ignore=["id", "n"])
    with pytest.raises(AssertionError, match=r"effects: missing: \{n: 1, projection: 'P', stream: 'B'\}"):
        check(sqlite_bed, guard, tables=["effects"], events=[EVENTS[0], EVENTS[2]])


def test_what_proves_nothing_fails(sqlite_bed: Bed) -> None:
    """An empty read model, and one whose events were not all applied."""
    guard = sqlite_bed.guard()
    fails = [False]

    def body(event: Happened, connection: Connection) -> None:
        if fails[0]:
            raise KeyError("broken")
        noted("P")(event, connection)

    sqlite_bed.joined(guard, "P", body, on_reset=clears_all(sqlite_bed))
    with pytest.raises(AssertionError, match="is empty"):
        check(sqlite_bed, guard, tables=["effects"], events=EVENTS)
    guard.publish(EVENTS[0])
    fails[0] = True
    with pytest.raises(AssertionError, match=r"could not apply event 'A#1' .*KeyError"):
        check(sqlite_bed, guard, tables=["effects"], events=EVENTS)


def test_what_cannot_be_done_is_refused(sqlite_bed: Bed) -> None:
    """Nothing was reset then."""
    guard = pushed(sqlite_bed, noted("P"))
    for wrong in ({"events": EVENTS}, {"tables": ["effects"]}):
        with pytest.raises(InvalidArgument):
            check(sqlite_bed, guard, **wrong)
    assert sqlite_bed.count("A") == 2
