"""What people do to projections: resolve, pause, resume, reset; who did it is on record, and nothing gets lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from tenacity import wait_fixed

from projection_guard import Breaker, FailureBusy, InvalidArgument, RetryPolicy, UnknownFailure, UnknownProjection
from tests.bed import Bed, GuardOnBed, Happened, happened, noted
from tests.flow.acting import (
    Planned,
    Valve,
    active_equals_open_rows,
    going,
    listed,
    make_due,
    one_failure,
    snapshot,
    states_of,
    statuses,
    work_until_done,
)

NOBODY = UUID("00000000-0000-4000-8000-000000000000")
HOURS = RetryPolicy(wait=wait_fixed(3600), breaker=None)


def with_failure(bed: Bed, *events: Happened, kind: str = "joined") -> tuple[GuardOnBed, Planned]:
    """Return a guard on which A#1 has failed and the other events have been published."""
    guard, planned = bed.guard(retry=HOURS), Planned("P", "A#1")
    planned.register(bed, guard, kind)
    for event in (happened("A", 1, 1), *events):
        guard.publish(event)
    return guard, planned


def audit(bed: Bed) -> list[tuple[Any, ...]]:
    """Return what the audit log says: action, actor, projection, note."""
    rows = bed.rows("SELECT action, actor, projection_name, note FROM projection_audit_log ORDER BY id")
    return [tuple(row) for row in rows]


def clears(bed: Bed, *, fails: list[bool] | None = None) -> Any:
    """Return an `on_reset` that empties `effects` and then fails while `fails` says so."""

    def clear(connection: Connection) -> None:
        connection.execute(text("DELETE FROM effects"))
        if fails and fails[0]:
            raise ValueError("the read model does not want to be cleared")

    if not bed.is_async:
        return clear

    async def async_clear(connection: Any) -> None:
        await connection.run_sync(clear)

    return async_clear


# -- resolve


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_retry_tries_once_now_and_tells_how_that_went(bed: Bed, kind: str) -> None:
    """First in vain, then successfully: by a person, who is named in the row and in the log."""
    guard, planned = with_failure(bed, happened("A", 2), kind=kind)
    failure = one_failure(guard)
    outcome = guard.resolve(failure.id, "retry", actor="alice", note="let us see")
    assert (outcome.status, outcome.failure_id, outcome.attempts) == ("failed", failure.id, 2)
    assert one_failure(guard).retry_count == 1
    planned.heal()
    assert guard.resolve(failure.id, "retry", actor="bob").status == "applied"
    assert planned.calls == ["A#1"] * 3
    resolved = guard.failure(failure.id)
    assert (resolved.resolution_method, resolved.resolved_by, resolved.lease_owner) == ("manual_retry", "bob", None)
    assert resolved.resolved_at is not None
    assert audit(bed) == [("retry", "alice", "P", "let us see"), ("retry", "bob", "P", None)]
    guard.work()
    assert (bed.effects("P") if kind == "joined" else planned.done) == [("A", 1), ("A", 2)]
    assert guard.streams("P", state="tainted").items == ()


def test_retry_revives_an_exhausted_failure(bed: Bed) -> None:
    """That is what a person does after the fix is deployed."""
    guard, planned = bed.guard(), Planned("P", "A#1")
    bed.joined(guard, "P", planned.joined)
    guard.publish(happened("A", 1))
    guard.work()
    failure = one_failure(guard)
    assert failure.is_exhausted
    planned.heal()
    assert guard.resolve(str(failure.id), "retry", actor="alice").status == "applied"
    assert guard.health("P").status == "healthy"


def test_a_manual_retry_in_vain_leaves_an_exhausted_failure_exhausted(bed: Bed) -> None:
    """It does not start a new row of automatic ones."""
    guard, planned = bed.guard(), Planned("P", "A#1")
    bed.joined(guard, "P", planned.joined)
    guard.publish(happened("A", 1))
    guard.work()
    calls = len(planned.calls)
    assert guard.resolve(one_failure(guard).id, "retry", actor="alice").status == "failed"
    guard.work()
    assert len(planned.calls) == calls + 1
    assert one_failure(guard).is_exhausted


def test_skip_leaves_the_event_out_taints_the_stream_and_lets_it_flow(bed: Bed) -> None:
    """The consequence is visible: who skipped, and that the read model of this stream lacks something."""
    guard, planned = with_failure(bed, happened("A", 2), happened("A", 3))
    guard.resolve(one_failure(guard).id, "skip", actor="alice", note="a test document")
    assert states_of(bed, "P") == {"A#1": "skipped", "A#2": "parked", "A#3": "parked"}
    guard.work()
    assert bed.effects("P") == [("A", 2), ("A", 3)]
    (failure,) = guard.failures("P", include_resolved=True).items
    assert (failure.resolution_method, failure.resolved_by) == ("manual_skip", "alice")
    (stream,) = guard.streams("P", state="tainted").items
    assert (stream.stream_id, stream.tainted, stream.blocked) == ("A", True, False)
    assert "alice" in (stream.tainted_reason or "")
    assert guard.health("P").tainted_streams == 1
    assert audit(bed) == [("skip", "alice", "P", "a test document")]
    assert planned.calls == ["A#1", "A#2", "A#3"]


def test_manual_fix_says_that_the_effect_was_made_by_hand(bed: Bed) -> None:
    """The stream goes on, and is not tainted."""
    guard, _ = with_failure(bed, happened("A", 2))
    guard.resolve(one_failure(guard).id, "manual_fix", actor="alice")
    guard.work()
    assert bed.effects("P") == [("A", 2)]
    (failure,) = guard.failures("P", include_resolved=True).items
    assert (failure.resolution_method, failure.resolved_by) == ("manual_fix", "alice")
    assert guard.streams("P", state="tainted").items == ()
    assert states_of(bed, "P")["A#1"] == "fixed"
    assert audit(bed) == [("manual_fix", "alice", "P", None)]


def test_the_audit_log_names_the_event_and_the_failure(bed: Bed) -> None:
    """So that an entry can be understood years later."""
    guard, _ = with_failure(bed)
    failure = one_failure(guard)
    guard.resolve(failure.id, "skip", actor="alice")
    (row,) = bed.rows("SELECT failure_id, details FROM projection_audit_log")
    details = json.loads(row.details) if isinstance(row.details, str) else row.details
    assert details["event_id"] == "A#1"
    assert str(row.failure_id).replace("-", "") == failure.id.hex


@pytest.mark.parametrize(
    "statement", ["UPDATE projection_audit_log SET actor = 'x'", "DELETE FROM projection_audit_log"]
)
def test_the_audit_log_can_only_be_added_to(bed: Bed, statement: str) -> None:
    """A trigger of the database refuses the rest."""
    guard, _ = with_failure(bed)
    guard.resolve(one_failure(guard).id, "skip", actor="alice")
    with pytest.raises(DBAPIError):
        bed.change(statement)
    assert audit(bed) == [("skip", "alice", "P", None)]


def test_a_resolved_failure_cannot_be_resolved_again(bed: Bed) -> None:
    """By no strategy; nothing is written."""
    guard, _ = with_failure(bed)
    failure = one_failure(guard)
    guard.resolve(failure.id, "skip", actor="alice")
    before = snapshot(bed)
    for strategy in ("retry", "skip", "manual_fix"):
        with pytest.raises(InvalidArgument, match=r"resolved already \(manual_skip\)"):
            guard.resolve(failure.id, strategy, actor="bob")
    assert snapshot(bed) == before


@pytest.mark.parametrize("failure_id", [str(NOBODY), NOBODY, "7", "", None])
def test_a_failure_that_does_not_exist_is_unknown(bed: Bed, failure_id: Any) -> None:
    """Whether or not it looks like an id."""
    guard, _ = with_failure(bed)
    for call in (guard.failure, guard.attempts, lambda one: guard.resolve(one, "skip", actor="alice")):
        with pytest.raises(UnknownFailure):
            call(failure_id)


def test_an_unknown_strategy_is_refused(bed: Bed) -> None:
    """The sentence names those there are, and nothing is written."""
    guard, _ = with_failure(bed)
    before = snapshot(bed)
    with pytest.raises(InvalidArgument, match="'ignore' is no strategy; choose one of retry, skip, manual_fix"):
        guard.resolve(one_failure(guard).id, "ignore", actor="alice")
    assert snapshot(bed) == before


@pytest.mark.parametrize("actor", ["", "  ", None, 7, "x" * 256, "a\0b"])
def test_nothing_is_done_without_a_name(bed: Bed, actor: Any) -> None:
    """Every admin action needs an actor."""
    guard, _ = with_failure(bed)
    failure, before = one_failure(guard), snapshot(bed)
    calls: tuple[Callable[[], object], ...] = (
        lambda: guard.resolve(failure.id, "skip", actor=actor),
        lambda: guard.pause("P", actor=actor),
        lambda: guard.resume("P", actor=actor),
        lambda: guard.reset("P", actor=actor),
    )
    for call in calls:
        with pytest.raises(InvalidArgument, match="actor="):
            call()
    assert snapshot(bed) == before


@pytest.mark.parametrize("strategy", ["retry", "skip", "manual_fix"])
def test_a_failure_that_is_being_retried_is_busy(bed: Bed, strategy: str) -> None:
    """An apart retry is under way: nobody else may end the failure now."""
    guard, valve, planned = bed.guard(retry=HOURS), Valve(bed), Planned("P", "A#1")
    planned.register(bed, guard, "apart")
    guard.publish(happened("A", 1))
    other = bed.guard(retry=HOURS)
    planned.heal()
    other.real.projection("P", handles=[Happened])(valve.apart(planned.apart))
    failure = one_failure(guard)
    make_due(bed)
    round_of_work = going(bed, lambda: other.real.worker().run_once())
    bed.wait_until(lambda: valve.reached == 1)
    with pytest.raises(FailureBusy, match=str(failure.id)):
        guard.resolve(failure.id, strategy, actor="alice")
    valve.open()
    bed.wait_until(lambda: round_of_work.is_done)
    assert round_of_work.answer().healed == 1
    assert planned.done == [("A", 1)]
    assert states_of(bed, "P") == {"A#1": "applied"}


def test_a_reserved_retry_is_not_busy(bed: Bed) -> None:
    """A row that is only lent to the process which saw the failure can be resolved by a person."""
    guard = bed.guard(retry=HOURS, worker="auto")
    bed.joined(guard, "P", Planned("P", "A#1", "B#1").joined)
    guard.publish(happened("A", 1))
    guard.publish(happened("B", 1))
    second, first = guard.failures("P").items
    assert first.lease_owner is not None
    assert guard.resolve(first.id, "retry", actor="alice").status == "failed"
    guard.resolve(second.id, "skip", actor="alice")
    assert states_of(bed, "P") == {"A#1": "failed", "B#1": "skipped"}


# -- looking


def test_pages_of_failures_stay_stable_while_new_ones_arrive(bed: Bed) -> None:
    """Newest first; what fails between two pages shifts nothing, and nothing is seen twice or never."""
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P", *(f"{prefix}{n}#1" for prefix in "SN" for n in range(10))).joined)
    for number in range(10):
        guard.publish(happened(f"S{number}", 1))
    seen, after, number = list[str](), None, 0
    while True:
        page = guard.failures("P", limit=3, after=after)
        assert len(page.items) <= 3
        seen += [failure.stream_id for failure in page.items]
        if page.after is None:
            break
        after = page.after
        guard.publish(happened(f"N{number}", 1))
        number += 1
    assert seen == [f"S{number}" for number in reversed(range(10))]
    assert len(guard.failures("P").items) == 13


def test_failures_of_one_moment_are_paged_by_their_ids(bed: Bed) -> None:
    """Rows with the same time are neither lost nor repeated at a page's edge."""
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P", *(f"S{n}#1" for n in range(7))).joined)
    for number in range(7):
        guard.publish(happened(f"S{number}", 1))
    bed.change("UPDATE projection_failures SET failed_at = (SELECT min(failed_at) FROM projection_failures)")
    seen, after = list[str](), None
    for _ in range(4):
        page = guard.failures("P", limit=2, after=after)
        seen += [failure.stream_id for failure in page.items]
        after = page.after
    assert after is None
    assert sorted(seen) == [f"S{number}" for number in range(7)]


def test_resolved_failures_are_shown_on_request(bed: Bed) -> None:
    """And those of all projections, or of one."""
    guard = bed.guard(retry=HOURS)
    for name in "PQ":
        bed.joined(guard, name, Planned(name, "A#1", "B#1").joined)
    for stream in "AB":
        guard.publish(happened(stream, 1))
    guard.resolve(guard.failures("P").items[0].id, "skip", actor="alice")
    assert len(guard.failures("P").items) == 1
    assert len(guard.failures("P", include_resolved=True).items) == 2
    assert len(guard.failures().items) == 3
    assert len(guard.failures(include_resolved=True).items) == 4
    assert guard.failures("P", limit=1).after is None


def test_pages_of_streams_stay_stable_while_new_ones_come_and_go(bed: Bed) -> None:
    """By their ids: one that appears behind the cursor is not missed, one before it shifts nothing."""
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P", *(f"S{n}#1" for n in range(10))).joined)
    for number in (1, 3, 5, 7, 9):
        guard.publish(happened(f"S{number}", 1))
    first = guard.streams("P", limit=2)
    assert [stream.stream_id for stream in first.items] == ["S1", "S3"]
    for number in (0, 2, 6):
        guard.publish(happened(f"S{number}", 1))
    second = guard.streams("P", limit=2, after=first.after)
    assert [stream.stream_id for stream in second.items] == ["S5", "S6"]
    third = guard.streams("P", limit=2, after=second.after)
    assert [stream.stream_id for stream in third.items] == ["S7", "S9"]
    assert third.after is None


@pytest.mark.parametrize("cursor", ["nonsense", "", "WyJhIl0", "Ww", "é", "e30"])
def test_a_cursor_that_is_none_is_refused(bed: Bed, cursor: str) -> None:
    """It says so, in one sentence."""
    guard, _ = with_failure(bed)
    with pytest.raises(InvalidArgument, match="after="):
        guard.failures("P", after=cursor)
    if cursor != "WyJhIl0":
        with pytest.raises(InvalidArgument, match="after="):
            guard.streams("P", after=cursor)


# -- pause and resume


def test_a_paused_projection_parks_and_resumes_in_order(bed: Bed) -> None:
    """Nothing is called meanwhile, failures are not retried; afterwards everything is applied in order."""
    guard, planned = with_failure(bed)
    bed.joined(guard, "Q", listed("Q"))
    guard.pause("P", actor="alice", reason="maintenance")
    results = [statuses(guard.publish(event)) for event in (happened("A", 2), happened("B", 1), happened("B", 2))]
    assert results == [["parked", "applied"]] * 3
    planned.heal()
    make_due(bed)
    guard.work()
    assert planned.calls == ["A#1"]
    health = guard.health("P")
    assert (health.state, health.parked_events, health.active_failures) == ("paused", 3, 1)
    assert [stream.stream_id for stream in guard.streams("P").items] == ["A", "B"]
    guard.resume("P", actor="bob")
    work_until_done(bed, guard)
    assert bed.effects("P", "A") == [("A", 1), ("A", 2)]
    assert bed.effects("P", "B") == [("B", 1), ("B", 2)]
    assert guard.health("P").state == "active"
    assert audit(bed) == [("pause", "alice", "P", "maintenance"), ("resume", "bob", "P", None)]


def test_a_known_event_is_answered_as_before_while_paused(bed: Bed) -> None:
    """A duplicate stays a duplicate, a failed event stays failed."""
    guard, _ = with_failure(bed, happened("B", 1))
    guard.pause("P", actor="alice")
    assert guard.publish(happened("B", 1))[0].status == "duplicate"
    assert guard.publish(happened("A", 1))[0].status == "failed"
    assert guard.health("P").parked_events == 0


def test_a_paused_projection_refuses_a_manual_retry_and_allows_a_skip(bed: Bed) -> None:
    """A retry would run the handler; a skip does not."""
    guard, planned = with_failure(bed)
    guard.pause("P", actor="alice")
    with pytest.raises(FailureBusy, match="paused"):
        guard.resolve(one_failure(guard).id, "retry", actor="alice")
    assert planned.calls == ["A#1"]
    guard.resolve(one_failure(guard).id, "skip", actor="alice")
    assert guard.health("P").active_failures == 0


def test_another_guard_sees_the_pause_at_once(bed: Bed) -> None:
    """What a person wants is in the database, and read with every claim."""
    guard, other = bed.guard(), bed.guard()
    for each in (guard, other):
        bed.joined(each, "P", noted("P"))
    assert other.publish(happened("A", 1))[0].status == "applied"
    guard.pause("P", actor="alice")
    assert other.publish(happened("A", 2))[0].status == "parked"
    other.resume("P", actor="alice")
    guard.work()
    assert bed.effects("P") == [("A", 1), ("A", 2)]


def test_pausing_twice_and_resuming_what_runs_changes_nothing(bed: Bed) -> None:
    """Each is on record; neither is an error."""
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    guard.resume("P", actor="alice")
    guard.pause("P", actor="alice")
    guard.pause("P", actor="bob")
    guard.resume("P", actor="bob")
    assert [entry[:2] for entry in audit(bed)] == [
        ("resume", "alice"),
        ("pause", "alice"),
        ("pause", "bob"),
        ("resume", "bob"),
    ]
    assert guard.publish(happened("A", 1))[0].status == "applied"


@pytest.mark.parametrize("action", ["pause", "reset"])
def test_pause_and_reset_wait_for_a_joined_handler_in_flight(postgres_bed: Bed, action: str) -> None:
    """When pause returns, the effect is there; a reset clears it: it does not land afterwards."""
    bed, valve = postgres_bed, Valve(postgres_bed)
    guard = bed.guard()
    guard.real.projection("P", handles=[Happened], on_reset=clears(bed))(valve.joined(noted("P")))
    delivery = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(lambda: valve.reached == 1)
    seen = list[Any]()
    acted = going(bed, lambda: acting_then_looking(bed, guard, action, seen))
    wanted = {"pause": "paused", "reset": "resetting"}[action]
    bed.wait_until(lambda: bed.value("SELECT state FROM projection_states") == wanted)
    assert guard.publish(happened("B", 1))[0].status == "parked"
    assert not acted.is_done
    valve.open()
    bed.wait_until(lambda: acted.is_done and delivery.is_done)
    acted.answer()
    assert statuses(delivery.answer()) == ["applied"]
    assert seen == [[("A", 1)] if action == "pause" else []]
    assert states_of(bed, "P") == ({"A#1": "applied"} if action == "pause" else {}) | {"B#1": "parked"}


@pytest.mark.parametrize("action", ["pause", "reset"])
def test_pause_and_reset_wait_for_an_apart_handler_in_flight(bed: Bed, action: str) -> None:
    """Its lease tells that it is still at work."""
    guard, valve, done = bed.guard(), Valve(bed), list[int]()
    guard.real.projection("P", handles=[Happened], on_reset=clears(bed))(
        valve.apart(lambda event: done.append(event.n))
    )
    delivery = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(lambda: valve.reached == 1)
    seen = list[Any]()
    acted = going(bed, lambda: acting_then_looking(bed, guard, action, seen, lambda: list(done)))
    wanted = {"pause": "paused", "reset": "resetting"}[action]
    bed.wait_until(lambda: bed.value("SELECT state FROM projection_states") == wanted)
    assert guard.publish(happened("B", 1))[0].status == "parked"
    assert not acted.is_done
    valve.open()
    bed.wait_until(lambda: acted.is_done and delivery.is_done)
    acted.answer()
    assert statuses(delivery.answer()) == ["applied"]
    assert seen == [[1]]


def acting_then_looking(bed: Bed, guard: GuardOnBed, action: str, seen: list[Any], look: Any = None) -> Any:
    """Pause or reset, and look at the effects the moment that returns."""
    act = getattr(guard.real, action)
    look = look or (lambda: bed.effects("P"))
    if not bed.is_async:
        act("P", actor="alice")
        return seen.append(look())

    async def act_then_look() -> None:
        await act("P", actor="alice")
        seen.append(look())

    return act_then_look()


def test_pause_waits_for_a_retry_in_flight(postgres_bed: Bed) -> None:
    """A worker's transaction is waited out like a delivery's."""
    bed, valve, note = postgres_bed, Valve(postgres_bed), noted("P")
    guard, _planned = with_failure(bed)
    other = bed.guard(retry=HOURS)
    other.real.projection("P", handles=[Happened])(valve.joined(note))
    make_due(bed)
    round_of_work = going(bed, lambda: other.real.worker().run_once())
    bed.wait_until(lambda: valve.reached == 1)
    seen = list[Any]()
    paused = going(bed, lambda: acting_then_looking(bed, guard, "pause", seen))
    bed.wait_until(lambda: bed.value("SELECT state FROM projection_states") == "paused")
    assert guard.publish(happened("B", 1))[0].status == "parked"
    assert not paused.is_done
    valve.open()
    bed.wait_until(lambda: paused.is_done and round_of_work.is_done)
    paused.answer()
    assert seen == [[("A", 1)]]


# -- reset


def test_reset_sets_a_projection_back_to_the_beginning(bed: Bed) -> None:
    """The read model is cleared, failures are resolved, parked events dropped, what was applied is forgotten."""
    guard, planned = bed.guard(retry=HOURS), Planned("P", "A#2")
    bed.joined(guard, "P", planned.joined, on_reset=clears(bed))
    bed.joined(guard, "Q", listed("Q"))
    events = [happened("A", 1, 1), happened("A", 2, 2), happened("A", 3, 3), happened("B", 1, 4)]
    for event in events:
        guard.publish(event)
    guard.reset("P", actor="alice")
    assert states_of(bed, "P") == {}
    assert bed.effects("P") == []
    assert bed.value("SELECT count(*) FROM projection_streams WHERE projection_name = 'P'") == 0
    health, checkpoint = guard.health("P"), guard.checkpoint("P")
    assert (health.status, health.active_failures, health.parked_events, health.state) == ("healthy", 0, 0, "active")
    assert (checkpoint.last_event_sequence, checkpoint.last_event_id, checkpoint.events_processed) == (None, None, 0)
    (failure,) = guard.failures("P", include_resolved=True).items
    assert (failure.resolution_method, failure.resolved_by) == ("manual_reset", "alice")
    assert active_equals_open_rows(bed)
    assert states_of(bed, "Q") == {event.event_id: "applied" for event in events}
    planned.heal()
    assert [statuses(guard.publish(event)) for event in events] == [["applied", "duplicate"]] * 4
    assert bed.effects("P") == [("A", 1), ("A", 2), ("A", 3), ("B", 1)]
    assert guard.checkpoint("P").last_event_sequence == 4
    assert ("reset", "alice", "P", None) in audit(bed)


def test_a_failing_on_reset_leaves_everything_as_it_was(bed: Bed) -> None:
    """Its error is raised, what it cleared is back, and the projection goes on."""
    fails = [True]
    guard, planned = bed.guard(retry=HOURS), Planned("P", "A#2")
    bed.joined(guard, "P", planned.joined, on_reset=clears(bed, fails=fails))
    for n in (1, 2, 3):
        guard.publish(happened("A", n, n))
    before = states_of(bed, "P")
    with pytest.raises(ValueError, match="does not want to be cleared"):
        guard.reset("P", actor="alice")
    assert states_of(bed, "P") == before == {"A#1": "applied", "A#2": "failed", "A#3": "parked"}
    assert bed.effects("P") == [("A", 1)]
    assert guard.checkpoint("P").last_event_sequence == 3
    assert guard.health("P").state == "active"
    assert active_equals_open_rows(bed)
    assert guard.publish(happened("B", 1))[0].status == "applied"
    fails[0] = False
    guard.reset("P", actor="alice")
    assert states_of(bed, "P") == {}


def test_events_published_during_a_reset_survive_it(postgres_bed: Bed) -> None:
    """They are parked and applied afterwards, in order, on top of the cleared read model."""
    bed, valve = postgres_bed, Valve(postgres_bed)
    guard = bed.guard()
    on_reset = valve.joined(lambda _, connection: connection.execute(text("DELETE FROM effects")))

    def blocking_reset(connection: Any) -> None:
        on_reset(None, connection)

    async def async_reset(connection: Any) -> None:
        await on_reset(None, connection)

    bed.joined(guard, "P", noted("P"), on_reset=async_reset if bed.is_async else blocking_reset)
    for n in (1, 2):
        guard.publish(happened("A", n))
    reset = going(bed, lambda: guard.real.reset("P", actor="alice"))
    bed.wait_until(lambda: valve.reached == 1)
    assert [guard.publish(event)[0].status for event in (happened("A", 3), happened("A", 4), happened("B", 1))] == [
        "parked"
    ] * 3
    valve.open()
    bed.wait_until(lambda: reset.is_done)
    reset.answer()
    work_until_done(bed, guard)
    assert bed.effects("P", "A") == [("A", 3), ("A", 4)]
    assert bed.effects("P", "B") == [("B", 1)]
    assert set(states_of(bed, "P").values()) == {"applied"}
    assert guard.streams("P").items == ()


def test_a_paused_projection_stays_paused_through_a_reset(bed: Bed) -> None:
    """Nobody resumed it; what was parked before belongs to the past."""
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"), on_reset=clears(bed))
    guard.pause("P", actor="alice")
    guard.publish(happened("A", 1))
    guard.reset("P", actor="alice")
    assert guard.health("P").state == "paused"
    assert guard.health("P").parked_events == 0
    assert guard.publish(happened("A", 1))[0].status == "parked"
    guard.resume("P", actor="alice")
    guard.work()
    assert bed.effects("P") == [("A", 1)]


def test_a_reset_ends_the_breakers_hold(bed: Bed) -> None:
    """The outage is forgotten with everything else."""
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600), breaker=Breaker(failures=2, streams=2)))
    planned = Planned("P", "A#1", "B#1")
    bed.joined(guard, "P", planned.joined)
    for stream in "AB":
        guard.publish(happened(stream, 1))
    assert guard.health("P").held_since is not None
    guard.reset("P", actor="alice")
    assert guard.health("P").held_since is None
    planned.heal()
    assert guard.publish(happened("A", 1))[0].status == "applied"


def test_a_reset_without_on_reset_forgets_only_the_books(bed: Bed) -> None:
    """The read model is the application's; without `on_reset` it stays as it is."""
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    guard.publish(happened("A", 1))
    guard.reset("P", actor="alice")
    assert bed.effects("P") == [("A", 1)]
    assert guard.publish(happened("A", 1))[0].status == "applied"


def test_on_reset_may_not_commit(bed: Bed) -> None:
    """It runs in the guard's transaction, like a joined handler."""
    guard = bed.guard()

    def clear(connection: Connection) -> None:
        connection.execute(text("DELETE FROM effects"))
        connection.commit()

    async def async_clear(connection: Any) -> None:
        await connection.run_sync(clear)

    bed.joined(guard, "P", noted("P"), on_reset=async_clear if bed.is_async else clear)
    guard.publish(happened("A", 1))
    with pytest.raises(RuntimeError, match="must not commit"):
        guard.reset("P", actor="alice")
    assert bed.effects("P") == [("A", 1)]
    assert states_of(bed, "P") == {"A#1": "applied"}
    assert guard.health("P").state == "active"


def test_unknown_projections_are_refused_everywhere(bed: Bed) -> None:
    """By the same error, which names those there are."""
    guard, _ = with_failure(bed)
    calls: tuple[Callable[[], object], ...] = (
        lambda: guard.pause("Q", actor="alice"),
        lambda: guard.resume("Q", actor="alice"),
        lambda: guard.reset("Q", actor="alice"),
        lambda: guard.health("Q"),
        lambda: guard.checkpoint("Q"),
        lambda: guard.failures("Q"),
        lambda: guard.streams("Q"),
        lambda: guard.apply("Q", happened("A", 1)),
    )
    for call in calls:
        with pytest.raises(UnknownProjection, match="No projection is named 'Q'; registered here: 'P'"):
            call()
