"""A person ends the taint of a stream whose read model was mended by hand; a taint that nobody has seen stays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text
from tenacity import wait_fixed

from projection_guard import FailureBusy, InvalidArgument, Notice, RetryPolicy, UnknownProjection
from tests.bed import Bed, GuardOnBed, Happened, happened
from tests.flow.acting import (
    Planned,
    Valve,
    audit,
    going,
    one_failure,
    shift,
    snapshot,
    states_of,
    with_failure,
    work_until_done,
)

HOURS = RetryPolicy(wait=wait_fixed(3600), breaker=None)
BY_ALICE = "an event was skipped by alice"
WEEK_AND_A_DAY = -8 * 86_400.0


def tainted(bed: Bed) -> tuple[GuardOnBed, Planned]:
    """Return a guard on which A#1 was skipped by alice, and A#2 was applied after it."""
    guard, planned = with_failure(bed, happened("A", 2))
    guard.resolve(one_failure(guard).id, "skip", actor="alice")
    guard.work()
    assert reasons(guard) == {"A": BY_ALICE}
    return guard, planned


def reasons(guard: GuardOnBed) -> dict[str, str | None]:
    """Return the tainted streams, each with why."""
    return {stream.stream_id: stream.tainted_reason for stream in guard.streams("P", state="tainted").items}


def test_the_taint_of_a_stream_ends_when_a_person_says_that_it_is_mended(bed: Bed) -> None:
    """Health says so, the stream flows as it did, and the audit log knows who, why, and what the taint was."""
    guard, planned = tainted(bed)
    before = guard.health("P")
    assert (before.tainted_streams, [reason for reason in before.reasons if "tainted" in reason]) == (
        1,
        ["1 stream tainted: an event was skipped or may be out of order"],
    )
    assert guard.untaint("P", "A", actor="bob", note="the row was written by hand") is True
    after = guard.health("P")
    assert (after.status, after.tainted_streams, after.reasons) == ("healthy", 0, ())
    assert reasons(guard) == {}
    history = guard.stream("P", "A")
    assert (history.tainted, history.tainted_reason, history.blocked) == (False, None, False)
    guard.publish(happened("A", 3))
    assert (bed.effects("P"), planned.calls) == ([("A", 2), ("A", 3)], ["A#1", "A#2", "A#3"])
    assert audit(bed) == [("skip", "alice", "P", None), ("untaint", "bob", "P", "the row was written by hand")]
    (entry,) = guard.audit("P", action="untaint").items
    assert entry.details == {"stream_id": "A", "tainted_reason": BY_ALICE, "fixed_events": 1}


def test_what_was_skipped_counts_as_mended_by_hand_from_then_on(bed: Bed) -> None:
    """Also when its applied row is forgotten: nobody has replayed it."""
    guard, _ = tainted(bed)
    (told,) = [event for event in guard.stream("P", "A").page.items if event.event_id == "A#1"]
    assert (told.state, told.how) == ("skipped", "manual_skip")
    guard.untaint("P", "A", actor="bob")
    assert states_of(bed, "P") == {"A#1": "fixed", "A#2": "applied"}
    for _ in range(2):
        (told,) = [event for event in guard.stream("P", "A").page.items if event.event_id == "A#1"]
        assert (told.state, told.how) == ("applied", "manual_fix")
        shift(bed, "projection_applied_events", "applied_at", WEEK_AND_A_DAY)
        guard.work()
    assert states_of(bed, "P") == {}
    (failure,) = guard.failures("P", include_resolved=True).items
    assert (failure.resolution_method, failure.resolved_by) == ("manual_skip", "alice")


def test_an_event_that_was_skipped_and_mended_is_not_applied_again(bed: Bed) -> None:
    """Delivered again, it is a duplicate, as one that was resolved by hand at once."""
    guard, planned = tainted(bed)
    guard.untaint("P", "A", actor="bob")
    planned.heal()
    assert [outcome.status for outcome in guard.publish(happened("A", 1))] == ["duplicate"]
    assert bed.effects("P") == [("A", 2)]


def test_a_stream_that_is_not_tainted_stays_as_it_is_and_that_is_said(bed: Bed) -> None:
    """One that flows, one that was untainted already, one that nobody knows; nothing is written."""
    guard, _ = tainted(bed)
    guard.publish(happened("B", 1))
    assert guard.untaint("P", "A", actor="bob") is True
    before = snapshot(bed)
    for stream in ("A", "B", "nobody knows", ""):
        assert guard.untaint("P", stream, actor="bob") is False
    assert snapshot(bed) == before


def test_no_other_stream_and_no_other_projection_is_touched(bed: Bed) -> None:
    """A taint is one stream's in one projection."""
    guard = bed.guard(retry=HOURS)
    for name in "PQ":
        bed.joined(guard, name, Planned(name, "A#1", "B#1").joined)
    for stream in "AB":
        guard.publish(happened(stream, 1))
    for failure in guard.failures().items:
        guard.resolve(failure.id, "skip", actor="alice")
    assert guard.untaint("P", "A", actor="bob") is True
    assert reasons(guard) == {"B": BY_ALICE}
    assert [stream.stream_id for stream in guard.streams("Q", state="tainted").items] == ["A", "B"]
    assert (states_of(bed, "P"), states_of(bed, "Q")) == (
        {"A#1": "fixed", "B#1": "skipped"},
        {"A#1": "skipped", "B#1": "skipped"},
    )


def test_nothing_is_untainted_without_a_name_or_a_projection(bed: Bed) -> None:
    """As for every action of a person."""
    guard, _ = tainted(bed)
    before = snapshot(bed)
    refused: tuple[tuple[str, Callable[[], object]], ...] = (
        ("actor=", lambda: guard.untaint("P", "A", actor=" ")),
        ("note=", lambda: guard.untaint("P", "A", actor="bob", note="a\0b")),
        ("stream_id=", lambda: guard.untaint("P", None, actor="bob")),
        ("stream_id=", lambda: guard.untaint("P", "a\0b", actor="bob")),
        ("tainted_reason=", lambda: guard.untaint("P", "A", actor="bob", tainted_reason="a\0b")),
    )
    for said, call in refused:
        with pytest.raises(InvalidArgument, match=said):
            call()
    with pytest.raises(UnknownProjection, match="'Q'"):
        guard.untaint("Q", "A", actor="bob")
    assert snapshot(bed) == before


def test_a_stream_that_is_tainted_for_another_reason_by_now_stays_so(bed: Bed) -> None:
    """Whoever says what he has mended ends no taint that he has not seen."""
    guard, planned = tainted(bed)
    planned.failing.add("A#3")
    guard.publish(happened("A", 3))
    guard.resolve(one_failure(guard).id, "skip", actor="carol")
    before = snapshot(bed)
    with pytest.raises(FailureBusy, match="skipped by carol; look at it again"):
        guard.untaint("P", "A", actor="bob", tainted_reason=BY_ALICE)
    assert snapshot(bed) == before
    assert guard.untaint("P", "A", actor="bob", tainted_reason="an event was skipped by carol") is True
    assert states_of(bed, "P") == {"A#1": "fixed", "A#2": "applied", "A#3": "fixed"}


def test_where_the_whole_projection_is_one_line_that_is_untainted(bed: Bed) -> None:
    """By the name under which it is listed; a stream's own is refused, since it says too little."""
    guard = bed.guard(retry=HOURS, order="global")
    bed.joined(guard, "P", Planned("P", "A#1").joined)
    guard.publish(happened("A", 1))
    guard.resolve(one_failure(guard).id, "skip", actor="alice")
    assert reasons(guard) == {"": BY_ALICE}
    with pytest.raises(InvalidArgument, match="tainted as a whole"):
        guard.untaint("P", "A", actor="bob")
    assert guard.untaint("P", "", actor="bob") is True
    assert (guard.health("P").tainted_streams, states_of(bed, "P")) == (0, {"A#1": "fixed"})


def test_a_stream_can_be_untainted_while_it_is_blocked_or_its_projection_paused(bed: Bed) -> None:
    """Its failure stays, and what is parked; only what was in doubt before is not any more."""
    guard, planned = tainted(bed)
    planned.failing.add("A#3")
    guard.publish(happened("A", 3))
    guard.publish(happened("A", 4))
    guard.pause("P", actor="alice")
    assert guard.untaint("P", "A", actor="bob") is True
    history = guard.stream("P", "A")
    assert (history.blocked, history.tainted, history.parked_events) == (True, False, 1)
    planned.heal()
    guard.resume("P", actor="alice")
    guard.resolve(one_failure(guard).id, "retry", actor="alice")
    work_until_done(bed, guard)
    assert bed.effects("P") == [("A", 2), ("A", 3), ("A", 4)]


def test_the_end_of_a_taint_is_told(bed: Bed) -> None:
    """To observers, with the stream and who has ended it; once."""
    seen = list[Notice]()
    guard, planned = bed.guard(retry=HOURS, observers=[seen.append]), Planned("P", "A#1")
    bed.joined(guard, "P", planned.joined)
    guard.publish(happened("A", 1))
    guard.resolve(one_failure(guard).id, "skip", actor="alice")
    for _ in range(2):
        guard.untaint("P", "A", actor="bob")
    told = [notice for notice in seen if notice.kind == "untainted"]
    assert [(notice.projection, notice.stream_id, notice.actor) for notice in told] == [("P", "A", "bob")]


# -- beside somebody who taints it


def second_failure(bed: Bed) -> tuple[GuardOnBed, Any]:
    """Return a guard whose stream A is tainted, and a failure of its next event."""
    guard, planned = tainted(bed)
    planned.failing.add("A#3")
    guard.publish(happened("A", 3))
    return guard, one_failure(guard).id


def _are_waiting(bed: Bed, number: int) -> bool:
    return bed.waiting() == number


@pytest.mark.parametrize("first", ["skip", "untaint"])
def test_a_skip_and_the_end_of_a_taint_come_one_after_the_other(server_bed: Bed, first: str) -> None:
    """Both wait for the stream's row: what is skipped before was not mended, and what is skipped later taints anew."""
    bed = server_bed
    guard, failure_id = second_failure(bed)
    acts: dict[str, Callable[[], Any]] = {
        "skip": lambda: guard.real.resolve(failure_id, "skip", actor="carol"),
        "untaint": lambda: guard.real.untaint("P", "A", actor="bob", tainted_reason=BY_ALICE),
    }
    begun = dict[str, Any]()
    with bed.engine.connect() as somebody, somebody.begin():
        somebody.execute(text("SELECT 1 FROM projection_streams WHERE stream_id = 'A' FOR UPDATE"))
        for number, name in enumerate(sorted(acts, key=lambda name: name != first), start=1):
            begun[name] = going(bed, acts[name])
            bed.wait_until(partial(_are_waiting, bed, number))
    bed.wait_until(lambda: all(each.is_done for each in begun.values()))
    begun["skip"].answer()
    if first == "skip":
        with pytest.raises(FailureBusy, match="skipped by carol"):
            begun["untaint"].answer()
    else:
        assert begun["untaint"].answer() is True
    assert reasons(guard) == {"A": "an event was skipped by carol"}
    assert states_of(bed, "P") == {
        "A#1": "skipped" if first == "skip" else "fixed",
        "A#2": "applied",
        "A#3": "skipped",
    }


def test_a_call_whose_lease_runs_out_afterwards_taints_the_stream_anew(bed: Bed) -> None:
    """Its taint is ended while an apart call is in hand: what that call does later was not mended."""
    guard, valve = bed.guard(retry=HOURS), Valve(bed)
    guard.real.projection("P", handles=[Happened])(valve.apart(lambda event: None))
    delivery = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(lambda: valve.reached == 1)
    bed.change("UPDATE projection_streams SET tainted = (1 = 1), tainted_reason = 'by a test'")
    assert guard.untaint("P", "A", actor="bob") is True
    assert reasons(guard) == {}
    past = bed.in_seconds(-60)
    bed.change(f"UPDATE projection_streams SET lease_expires_at = {past}, lease_owner = 'somebody else'")
    valve.open()
    bed.wait_until(lambda: delivery.is_done)
    assert set(reasons(guard)) == {"A"}
