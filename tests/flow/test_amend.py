"""An operator edits an event that failed and tries it again: it heals in order, and the original is kept everywhere."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from projection_guard import Amendment, FailureBusy, FailureResolved, InvalidArgument, UnknownFailure
from projection_guard.testing import advance, crash_sweep
from tests.bed import Bed, GuardOnBed, Happened, happened
from tests.flow.acting import (
    Valve,
    active_equals_open_rows,
    audit,
    clears,
    going,
    make_due,
    one_failure,
    snapshot,
    states_of,
    work_until_done,
)
from tests.flow.amending import LATER, WRONG, Choosy, broken, edited, with_n

CANARY = 4711_4711_4711


@pytest.fixture
def bed(diagonal_bed: Bed) -> Bed:
    """Two of the four ways, in which each guard and each database is there once."""
    return diagonal_bed


@dataclass(frozen=True)
class Other(Happened):
    """An event of another class that looks the same."""


@dataclass(frozen=True)
class Unkept(Happened):
    """An event with something in it for which there is no way back from the database."""

    handle: object = field(default_factory=object)


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_an_amended_event_heals_its_stream_in_order(bed: Bed, kind: str) -> None:
    """The retry is a manual one, by whom the audit log names; what was parked follows."""
    told = Choosy("P")
    guard, failure = broken(bed, told, kind=kind)
    outcome = guard.amend(failure.id, with_n(guard, failure, 1), actor="alice", note="a typing error")
    assert (outcome.status, outcome.failure_id, outcome.attempts) == ("applied", failure.id, 2)
    work_until_done(bed, guard)
    assert (bed.effects("P") if kind == "joined" else told.done) == [("A", 1), ("A", 2), ("A", 3)]
    resolved = guard.failure(failure.id)
    assert (resolved.resolution_method, resolved.resolved_by) == ("manual_retry", "alice")
    assert audit(bed) == [("amend", "alice", "P", "a typing error")]
    assert guard.streams("P", state="tainted").items == ()
    assert active_equals_open_rows(bed)


def test_the_original_is_kept(bed: Bed) -> None:
    """In the failure as it was, and in the amendment, which says who amended it, when and why."""
    guard, failure = broken(bed, Choosy("P"))
    assert guard.amendment(failure.id) is None
    guard.amend(failure.id, with_n(guard, failure, 1), actor="alice", note="a typing error")
    assert guard.failure(failure.id).event_payload == failure.event_payload
    amendment = guard.amendment(failure.id)
    assert isinstance(amendment, Amendment)
    stored: Any = amendment.event_payload
    assert (stored["data"]["n"], amendment.original_payload) == (1, failure.event_payload)
    assert (amendment.amended_by, amendment.note, amendment.failure_id) == ("alice", "a typing error", failure.id)
    assert (amendment.event_id, amendment.event_sequence, amendment.stream_id) == ("A#1", 1, "A")
    assert guard.amendments("P").items == (amendment,)
    assert edited(guard, failure)["data"]["n"] == 1, "who edits it again begins with what it is by now"


def test_an_event_can_be_amended_again_and_the_first_original_stays(bed: Bed) -> None:
    """The first one does not do; each of the two is on record, with who did it."""
    guard, failure = broken(bed, Choosy("P"))
    assert guard.amend(failure.id, with_n(guard, failure, WRONG + 1), actor="alice").status == "failed"
    assert one_failure(guard).event_payload == failure.event_payload
    assert guard.amend(failure.id, with_n(guard, failure, 1), actor="bob").status == "applied"
    amendment = guard.amendment(failure.id)
    assert (amendment.original_payload, amendment.amended_by) == (failure.event_payload, "bob")
    assert audit(bed) == [("amend", "alice", "P", None), ("amend", "bob", "P", None)]


def test_later_retries_are_given_the_amended_event(bed: Bed) -> None:
    """Whoever makes them: here a worker, once what the handler needs is there again."""
    told = Choosy("P")
    guard, failure = broken(bed, told)
    told.failing.add("A#1")
    assert guard.amend(failure.id, with_n(guard, failure, 1), actor="alice").status == "failed"
    told.heal()
    make_due(bed)
    work_until_done(bed, guard)
    assert bed.effects("P") == [("A", 1), ("A", 2), ("A", 3)]
    assert guard.failure(failure.id).resolution_method == "auto_retry"


def test_another_projection_is_given_the_event_as_it_is(bed: Bed) -> None:
    """An amendment is for one projection and one event."""
    guard, told, other = bed.guard(retry=LATER), Choosy("P"), Choosy("Q")
    told.register(bed, guard, "joined")
    other.register(bed, guard, "joined")
    for event_id in ("A#1", "A#2"):
        guard.publish(happened("A", WRONG, event_id=event_id))
    failure = one_failure(guard, "P")
    assert guard.amend(failure.id, with_n(guard, failure, 1), actor="alice").status == "applied"
    assert guard.resolve(one_failure(guard, "Q").id, "retry", actor="alice").status == "failed"
    guard.work()
    assert (bed.effects("P"), bed.effects("Q")) == ([("A", 1)], [])
    assert one_failure(guard, "P").event_id == "A#2", "nor is another event of its stream"


CHANGES: dict[str, Callable[[Any], object]] = {
    "event_id": lambda payload: payload["data"].update(event_id="A#7"),
    "stream_id": lambda payload: payload["data"].update(stream_id="B"),
    "sequence": lambda payload: payload["data"].update(sequence=CANARY),
    "it is a Other, and the event is a Happened": lambda payload: payload.update({"$class": "Other"}),
    "cannot turn it back into an event": lambda payload: payload["data"].pop("n"),
    "if its class is not known": lambda payload: payload.update({"$class": str(CANARY)}),
}


@pytest.mark.parametrize("why", CHANGES)
def test_what_is_not_the_same_event_is_refused(bed: Bed, why: str) -> None:
    """One sentence says what changed, with nothing in it of the payload; nothing is written, nothing tried."""
    told = Choosy("P")
    guard, failure = broken(bed, told)
    guard.codec.register(Other)
    payload = with_n(guard, failure, CANARY)
    CHANGES[why](payload)
    before, calls = snapshot(bed), len(told.calls)
    with pytest.raises(InvalidArgument, match=why) as refused:
        guard.amend(failure.id, payload, actor="alice")
    assert str(CANARY) not in repr(refused.value)
    assert refused.value.__cause__ is None
    assert (snapshot(bed), len(told.calls)) == (before, calls)


@pytest.mark.parametrize("payload", [None, {1, 2}, float("nan"), {"a": object()}, {"$sealed": "", "key": "k1"}, "A#1"])
def test_what_is_no_event_is_refused(bed: Bed, payload: Any) -> None:
    """Not JSON, or nothing that the codec makes an event of."""
    guard, failure = broken(bed, Choosy("P"))
    before = snapshot(bed)
    with pytest.raises(InvalidArgument):
        guard.amend(failure.id, payload, actor="alice")
    assert snapshot(bed) == before


def test_nothing_is_amended_without_a_name_or_a_failure(bed: Bed) -> None:
    """As for every action of a person."""
    guard, failure = broken(bed, Choosy("P"))
    payload, before = with_n(guard, failure, 1), snapshot(bed)
    nameless: tuple[Callable[[], object], ...] = (
        lambda: guard.amend(failure.id, payload, actor=""),
        lambda: guard.unamend(failure.id, actor=" "),
    )
    for call in nameless:
        with pytest.raises(InvalidArgument, match="actor="):
            call()
    with pytest.raises(InvalidArgument, match="note="):
        guard.amend(failure.id, payload, actor="alice", note="a\0b")
    looks: tuple[Callable[[Any], object], ...] = (
        guard.amendment,
        guard.editable_payload,
        lambda one: guard.amend(one, payload, actor="alice"),
        lambda one: guard.unamend(one, actor="alice"),
    )
    for look in looks:
        with pytest.raises(UnknownFailure):
            look(uuid4())
    assert snapshot(bed) == before


def test_a_failure_that_has_ended_is_not_amended(bed: Bed) -> None:
    """The error says who ended it."""
    guard, failure = broken(bed, Choosy("P"))
    payload = with_n(guard, failure, 1)
    guard.resolve(failure.id, "skip", actor="bob")
    before = snapshot(bed)
    with pytest.raises(FailureResolved, match="by bob"):
        guard.amend(failure.id, payload, actor="alice")
    assert snapshot(bed) == before


def test_a_failure_that_is_being_retried_is_busy(bed: Bed) -> None:
    """The retry under way is made with what it was given: neither is it amended now, nor is that withdrawn."""
    told = Choosy("P")
    guard, failure = broken(bed, told, kind="apart")
    payload = with_n(guard, failure, 1)
    valve, other = Valve(bed), bed.guard(retry=LATER)
    other.real.projection("P", handles=[Happened])(valve.apart(told.apart))
    make_due(bed)
    round_of_work = going(bed, lambda: other.real.worker().run_once())
    bed.wait_until(lambda: valve.reached == 1)
    calls: tuple[Callable[[], object], ...] = (
        lambda: guard.amend(failure.id, payload, actor="alice"),
        lambda: guard.unamend(failure.id, actor="alice"),
    )
    for call in calls:
        with pytest.raises(FailureBusy, match=str(failure.id)):
            call()
    valve.open()
    bed.wait_until(lambda: round_of_work.is_done)
    assert audit(bed) == []
    assert guard.amendment(failure.id) is None


def test_a_paused_projection_is_not_amended(bed: Bed) -> None:
    """A retry would have to wait; so nothing is written either."""
    guard, failure = broken(bed, Choosy("P"))
    payload = with_n(guard, failure, 1)
    guard.pause("P", actor="alice")
    with pytest.raises(FailureBusy, match="paused"):
        guard.amend(failure.id, payload, actor="alice")
    assert guard.amendment(failure.id) is None
    assert audit(bed) == [("pause", "alice", "P", None)]


def test_an_amendment_can_be_withdrawn(bed: Bed) -> None:
    """From then on the event is given as it was; that is audited, once, and said."""
    told = Choosy("P")
    guard, failure = broken(bed, told)
    guard.amend(failure.id, with_n(guard, failure, WRONG + 1), actor="alice")
    assert guard.unamend(failure.id, actor="bob", note="was no typing error") is True
    assert guard.amendment(failure.id) is None
    assert edited(guard, failure)["data"]["n"] == WRONG
    assert guard.unamend(failure.id, actor="bob") is False
    assert audit(bed) == [("amend", "alice", "P", None), ("unamend", "bob", "P", "was no typing error")]


def test_nothing_of_an_event_is_told(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the audit log, nor a log line, nor the representation of an amendment holds what was amended."""
    guard, failure = broken(bed, Choosy("P"))
    with caplog.at_level(logging.DEBUG, "projection_guard"):
        guard.amend(failure.id, with_n(guard, failure, CANARY), actor="alice")
        guard.amend(failure.id, with_n(guard, failure, CANARY + 1), actor="alice")
    rows = bed.rows("SELECT * FROM projection_audit_log")
    assert len(rows) == 2
    for told in (repr(rows), caplog.text, repr(guard.amendment(failure.id))):
        assert str(CANARY)[:8] not in told
    assert json.loads(str(guard.editable_payload(failure.id)))["data"]["n"] == CANARY + 1


def test_a_parked_event_that_was_amended_before_is_given_as_amended(bed: Bed) -> None:
    """Set back to the beginning, a pushed projection meets it again, here from a line that is drained."""
    told = Choosy("P")
    guard = bed.guard(retry=LATER)
    told.register(bed, guard, "joined", on_reset=clears(bed))
    guard.publish(happened("A", WRONG, 1, event_id="A#1"))
    failure = one_failure(guard)
    guard.amend(failure.id, with_n(guard, failure, 1), actor="alice")
    guard.reset("P", actor="alice")
    guard.pause("P", actor="alice")
    for n, event_id in ((WRONG, "A#1"), (2, "A#2")):
        guard.publish(happened("A", n, event_id=event_id))
    guard.resume("P", actor="alice")
    guard.work()
    assert bed.effects("P") == [("A", 1), ("A", 2)]
    assert guard.health("P").active_failures == 0


def test_an_event_that_could_not_be_kept_can_be_written_anew(bed: Bed) -> None:
    """Nothing of it is on record: who knows what was in it says so."""
    guard, told = bed.guard(retry=LATER), Choosy("P")
    told.register(bed, guard, "joined", handles=[Unkept])
    told.failing.add("A#1")
    guard.publish(Unkept(event_id="A#1", stream_id="A", sequence=None, n=1))
    told.heal()
    failure = one_failure(guard)
    assert (failure.event_payload, guard.editable_payload(failure.id)) == (None, None)
    data = {"event_id": "A#1", "stream_id": "A", "sequence": None, "n": 1, "handle": "by hand"}
    with pytest.raises(InvalidArgument, match="its stream_id changed"):
        guard.amend(failure.id, {"$class": "Unkept", "data": {**data, "stream_id": "B"}}, actor="alice")
    assert guard.amend(failure.id, {"$class": "Unkept", "data": data}, actor="alice").status == "applied"
    assert bed.effects("P") == [("A", 1)]


def started_again(bed: Bed, guard: GuardOnBed, told: Choosy) -> GuardOnBed:
    """Be the process after it, once leases have run out and retries are due."""
    bed.run(guard.real.close())
    later = bed.guard(retry=LATER)
    told.register(bed, later, "joined")
    bed.run(advance(later.real, timedelta(hours=2)))
    return later


def test_died_between_the_amendment_and_its_retry_the_next_one_makes_use_of_it(bed: Bed) -> None:
    """At each point: amendment, audit entry and claim are there together or not at all, and the end is exact."""
    outcomes = set[str]()
    for crash in crash_sweep(at=("before handler", "before commit", "after commit")):
        told = Choosy("P")
        stream = f"S{crash.number}"
        guard = bed.guard(retry=LATER)
        told.register(bed, guard, "joined")
        guard.publish(happened(stream, WRONG, event_id=f"{stream}#1"))
        guard.publish(happened(stream, 2))
        failure = one_failure(guard)
        payload = with_n(guard, failure, 1)
        with crash(guard.real):
            guard.amend(failure.id, payload, actor="alice")
        guard = started_again(bed, guard, told)
        amendment, done = guard.amendment(failure.id), guard.audit("P", failure_id=failure.id).items
        assert [entry.action for entry in done] == ([] if amendment is None else ["amend"])
        guard.work()
        if amendment is None:
            outcomes.add("nothing")
            assert bed.effects("P", stream) == []
            assert guard.amend(failure.id, payload, actor="alice").status == "applied"
        else:
            outcomes.add(str(guard.failure(failure.id).resolution_method))
        work_until_done(bed, guard)
        assert bed.effects("P", stream) == [(stream, 1), (stream, 2)]
        assert set(states_of(bed, "P").values()) == {"applied"}
    assert outcomes == {"nothing", "auto_retry", "manual_retry"}
