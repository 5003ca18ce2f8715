"""Many failures at once: proposed, confirmed, run failure by failure, cancelled between two, counted exactly."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from tenacity import wait_fixed

from projection_guard import (
    FailureBusy,
    FailureFilter,
    InvalidArgument,
    RetryPolicy,
    SourceError,
    UnknownBulkAction,
    UnknownProjection,
)
from tests.bed import Bed, GuardOnBed, Happened, happened
from tests.flow.acting import Planned, Valve, active_equals_open_rows, going, shift, snapshot, states_of, within
from tests.following.logs import FollowedLog

HOURS = RetryPolicy(wait=wait_fixed(3600), breaker=None)
OF_P = FailureFilter(projection_name="P")
NOBODY = UUID("00000000-0000-4000-8000-000000000000")


def with_failures(bed: Bed, number: int = 5) -> tuple[GuardOnBed, Planned]:
    """Return a guard on which the first event of S0, S1 and so on has failed, and the second one waits."""
    guard = bed.guard(retry=HOURS)
    planned = Planned("P", *(f"S{n}#1" for n in range(number)))
    bed.joined(guard, "P", planned.joined)
    for n in range(number):
        guard.publish(happened(f"S{n}", 1))
    return guard, planned


def confirmed(guard: GuardOnBed, strategy: str, where: FailureFilter = OF_P) -> Any:
    """Return a bulk action that a worker may run."""
    proposed = guard.propose_bulk(strategy, where=where, actor="alice", note="a note")
    return guard.confirm_bulk(proposed.id, actor="bob")


def counts(action: Any) -> tuple[str, int, int, int, int]:
    """Return where an action stands."""
    return action.status, action.count, action.done, action.succeeded, action.failed


def test_a_proposal_counts_and_changes_nothing(bed: Bed) -> None:
    """No failure, no counter, no entry in the audit log; and no worker takes it up."""
    guard, _ = with_failures(bed)
    guard.resolve(guard.failures("P").items[0].id, "skip", actor="alice")
    guard.work()
    before = snapshot(bed)
    proposed = guard.propose_bulk("skip", where=OF_P, actor="alice", note="a note")
    assert counts(proposed) == ("proposed", 4, 0, 0, 0)
    assert (proposed.actor, proposed.note, proposed.where, proposed.strategy) == ("alice", "a note", OF_P, "skip")
    assert (proposed.projections, proposed.is_finished) == (("P",), False)
    assert proposed.expires_at - proposed.created_at == pytest.approx(timedelta(minutes=10), abs=timedelta(seconds=5))
    assert snapshot(bed) == before
    assert guard.work().resolved == 0
    assert guard.bulk_action(proposed.id) == proposed


def test_a_confirmed_action_ends_every_failure_as_a_single_resolve_does(bed: Bed) -> None:
    """Each is audited, with the actor, the note, and the action it was a part of; streams flow, counters are exact."""
    guard, planned = with_failures(bed)
    for n in range(5):
        guard.publish(happened(f"S{n}", 2))
    action = confirmed(guard, "skip")
    assert counts(action) == ("pending", 5, 0, 0, 0)
    assert guard.work().resolved == 5
    action = guard.bulk_action(str(action.id))
    assert counts(action) == ("completed", 5, 5, 5, 0)
    assert action.started_at is not None
    assert action.finished_at is not None
    assert active_equals_open_rows(bed)
    guard.work()
    assert {stream for stream, n in bed.effects("P")} == {f"S{n}" for n in range(5)}
    assert len(guard.streams("P", state="tainted").items) == 5
    *each, first = guard.audit().items
    assert (first.action, first.actor, first.projection_name) == ("confirm_bulk", "bob", "P")
    assert (first.details["before"], first.details["after"], first.details["count"]) == ("proposed", "pending", 5)
    assert {(entry.action, entry.actor, entry.note) for entry in each} == {("skip", "alice", "a note")}
    assert {entry.details["bulk"] for entry in each} == {str(action.id)}
    assert len({entry.failure_id for entry in each}) == len(each) == 5
    assert planned.calls.count("S0#1") == 1


def test_retries_count_as_they_went_and_none_is_made_twice(bed: Bed) -> None:
    """Three succeed, two fail again: they are counted, stay planned, and the action ends."""
    guard, planned = with_failures(bed)
    planned.failing = {"S1#1", "S3#1"}
    action = confirmed(guard, "retry")
    guard.work()
    guard.work()
    assert counts(guard.bulk_action(action.id)) == ("completed", 5, 5, 3, 2)
    assert planned.calls == [f"S{n}#1" for n in range(5)] * 2
    assert [failure.stream_id for failure in guard.failures("P").items] == ["S3", "S1"]
    assert active_equals_open_rows(bed)


def test_only_what_the_filter_meant_and_had_failed_by_then_is_touched(bed: Bed) -> None:
    """Neither what failed after the proposal, nor what is of another stream."""
    guard, planned = with_failures(bed, 3)
    everything = guard.propose_bulk("manual_fix", where=OF_P, actor="alice")
    one = guard.propose_bulk("skip", where=FailureFilter(stream_id="S1"), actor="alice")
    bed.wait_until(lambda: guard.status().timestamp > everything.created_at)
    planned.failing.add("new#1")
    guard.publish(happened("new", 1))
    guard.confirm_bulk(one.id, actor="alice")
    guard.work()
    assert states_of(bed, "P") == {"S0#1": "failed", "S1#1": "skipped", "S2#1": "failed", "new#1": "failed"}
    guard.confirm_bulk(everything.id, actor="alice")
    guard.work()
    assert states_of(bed, "P") == {"S0#1": "fixed", "S1#1": "skipped", "S2#1": "fixed", "new#1": "failed"}
    assert counts(guard.bulk_action(everything.id)) == ("completed", 3, 2, 2, 0)


def test_an_action_is_cancelled_between_two_failures(bed: Bed) -> None:
    """What was done stays done, the rest is as it was; nobody takes it up again."""
    guard, _ = with_failures(bed)
    action = confirmed(guard, "manual_fix")
    assert guard.work(batch=2).resolved == 2
    assert counts(guard.bulk_action(action.id)) == ("running", 5, 2, 2, 0)
    cancelled = guard.cancel_bulk(action.id, actor="carol")
    assert counts(cancelled) == ("cancelled", 5, 2, 2, 0)
    assert cancelled.is_finished
    assert guard.work().resolved == 0
    assert states_of(bed, "P") == {
        "S0#1": "fixed",
        "S1#1": "fixed",
        "S2#1": "failed",
        "S3#1": "failed",
        "S4#1": "failed",
    }
    (entry,) = guard.audit(action="cancel_bulk").items
    assert (entry.actor, entry.details["before"], entry.details["after"]) == ("carol", "running", "cancelled")
    with pytest.raises(FailureBusy, match="cancelled already"):
        guard.cancel_bulk(action.id, actor="carol")
    assert active_equals_open_rows(bed)


def test_an_action_that_runs_ends_after_the_failure_in_hand(bed: Bed) -> None:
    """Its handler is in the middle of the second one when it is cancelled."""
    guard, valve, planned = bed.guard(retry=HOURS), Valve(bed), Planned("P", *(f"S{n}#1" for n in range(4)))
    guard.real.projection("P", handles=[Happened])(valve.apart(planned.apart, only="S1#1"))
    valve.open()
    for n in range(4):
        guard.publish(happened(f"S{n}", 1))
    valve.close()
    planned.heal()
    action = confirmed(guard, "retry")
    round_of_work = going(bed, lambda: guard.real.worker().run_once())
    bed.wait_until(lambda: valve.reached == 2)
    assert counts(guard.cancel_bulk(action.id, actor="alice")) == ("running", 4, 1, 1, 0)
    assert guard.bulk_action(action.id).status == "running"
    valve.open()
    bed.wait_until(lambda: round_of_work.is_done)
    assert counts(guard.bulk_action(action.id)) == ("cancelled", 4, 2, 2, 0)
    assert len(guard.failures("P").items) == 2


def test_a_proposal_that_was_not_confirmed_in_time_has_expired(bed: Bed) -> None:
    """It cannot be confirmed any more, and the sentence says what to do."""
    guard, _ = with_failures(bed, 1)
    proposed = guard.propose_bulk("skip", where=OF_P, actor="alice")
    shift(bed, "projection_bulk_actions", "expires_at", -601)
    with pytest.raises(InvalidArgument, match="propose it again"):
        guard.confirm_bulk(proposed.id, actor="alice")
    expired = guard.bulk_action(proposed.id)
    assert (expired.status, expired.is_finished) == ("expired", True)
    with pytest.raises(FailureBusy, match="expired already"):
        guard.cancel_bulk(proposed.id, actor="alice")
    guard.work()
    assert states_of(bed, "P") == {"S0#1": "failed"}


def test_an_action_is_confirmed_once(bed: Bed) -> None:
    """Whoever comes second is told by whom, and when; one that was cancelled before cannot be confirmed at all."""
    guard, _ = with_failures(bed, 1)
    action = confirmed(guard, "skip")
    with pytest.raises(FailureBusy, match=r"confirmed already, by bob at \d{4}-.* UTC; it is pending"):
        guard.confirm_bulk(action.id, actor="carol")
    guard.work()
    with pytest.raises(FailureBusy, match="it is completed"):
        guard.confirm_bulk(action.id, actor="carol")
    other = guard.propose_bulk("skip", where=OF_P, actor="alice")
    assert other.count == 0
    assert guard.cancel_bulk(other.id, actor="alice").status == "cancelled"
    with pytest.raises(FailureBusy, match="cancelled before anybody confirmed it"):
        guard.confirm_bulk(other.id, actor="carol")


def test_what_cannot_be_proposed_is_refused(bed: Bed) -> None:
    """A filter that says nothing, what is resolved, an unknown strategy or projection, nobody's name."""
    guard, _ = with_failures(bed, 1)
    cases: tuple[tuple[type[Exception], dict[str, Any]], ...] = (
        (InvalidArgument, {"where": FailureFilter()}),
        (InvalidArgument, {"where": FailureFilter(state="resolved")}),
        (InvalidArgument, {"strategy": "ignore"}),
        (InvalidArgument, {"actor": ""}),
        (InvalidArgument, {"note": "a\0b"}),
        (UnknownProjection, {"where": FailureFilter(projection_name="X")}),
    )
    for kind, more in cases:
        given = {"strategy": "skip", "where": OF_P, "actor": "alice"} | more
        with pytest.raises(kind):
            guard.propose_bulk(given.pop("strategy"), **given)
    assert guard.bulk_actions().items == ()


@pytest.mark.parametrize("action_id", [str(NOBODY), NOBODY, "7", "", None])
def test_an_action_that_does_not_exist_is_unknown(bed: Bed, action_id: Any) -> None:
    """Whether or not it looks like an id."""
    guard, _ = with_failures(bed, 1)
    calls: tuple[Callable[[], object], ...] = (
        lambda: guard.bulk_action(action_id),
        lambda: guard.confirm_bulk(action_id, actor="alice"),
        lambda: guard.cancel_bulk(action_id, actor="alice"),
    )
    for call in calls:
        with pytest.raises(UnknownBulkAction):
            call()


def test_an_action_is_run_where_all_its_projections_are(bed: Bed) -> None:
    """A worker that lacks one of them leaves it alone."""
    guard = bed.guard(retry=HOURS)
    for name in "PQ":
        bed.joined(guard, name, Planned(name, "A#1").joined)
    guard.publish(happened("A", 1))
    only_p = bed.guard(retry=HOURS)
    bed.joined(only_p, "P", Planned("P").joined)
    action = confirmed(guard, "skip", FailureFilter(stream_id="A"))
    assert action.projections == ("P", "Q")
    assert only_p.work().resolved == 0
    assert only_p.bulk_action(action.id).status == "pending"
    assert guard.work().resolved == 2
    (entry,) = guard.audit(action="confirm_bulk").items
    assert entry.projection_name == "*"


def test_retries_stand_still_while_their_projection_is_paused(bed: Bed) -> None:
    """They go on where they stopped when it is resumed; a skip does not wait for that."""
    guard, planned = with_failures(bed, 4)
    planned.heal()
    action = confirmed(guard, "retry")
    guard.work(batch=1)
    guard.pause("P", actor="alice")
    skipped = confirmed(guard, "skip", FailureFilter(stream_id="S3"))
    guard.work()
    assert counts(guard.bulk_action(action.id)) == ("running", 4, 1, 1, 0)
    (waiting,) = [each for each in guard.bulk_actions().items if each.id == action.id]
    assert waiting == guard.bulk_action(action.id)
    assert waiting.waits == "projection 'P' is paused"
    assert counts(guard.bulk_action(skipped.id)) == ("completed", 1, 1, 1, 0)
    guard.resume("P", actor="alice")
    guard.work()
    assert counts(guard.bulk_action(action.id)) == ("completed", 4, 3, 3, 0)
    assert planned.calls == [*(f"S{n}#1" for n in range(4)), *(f"S{n}#1" for n in range(3))]


def test_retries_of_several_projections_wait_for_the_oldest_failure(bed: Bed) -> None:
    """Of a projection that is paused: nobody takes the action up meanwhile; then it ends all of them in order."""
    guard, first, second = bed.guard(retry=HOURS), Planned("P", "A#1"), Planned("Q", "B#1")
    bed.joined(guard, "P", first.joined)
    bed.joined(guard, "Q", second.joined)
    guard.publish(happened("A", 1))
    guard.publish(happened("B", 1))
    first.heal()
    second.heal()
    guard.pause("P", actor="alice")
    action = confirmed(guard, "retry", FailureFilter(error_type="ValueError"))
    assert action.count == 2
    assert guard.work().resolved == 0
    seen = guard.bulk_action(action.id)
    assert (seen.status, seen.started_at, seen.waits) == ("pending", None, "projection 'P' is paused")
    guard.resume("P", actor="alice")
    assert guard.bulk_action(action.id).waits is None
    guard.work()
    assert counts(guard.bulk_action(action.id)) == ("completed", 2, 2, 2, 0)


def test_a_failure_that_is_being_retried_counts_as_failed(bed: Bed) -> None:
    """It is left to whoever has it; the others are ended."""
    guard, _ = with_failures(bed, 3)
    later = bed.in_seconds(60)
    bed.change(
        f"UPDATE projection_failures SET lease_owner = 'another', lease_expires_at = {later} WHERE stream_id = 'S1'"
    )
    action = confirmed(guard, "skip")
    guard.work()
    assert counts(guard.bulk_action(action.id)) == ("completed", 3, 3, 2, 1)
    assert states_of(bed, "P") == {"S0#1": "skipped", "S1#1": "failed", "S2#1": "skipped"}


def test_an_action_whose_source_cannot_be_read_has_failed(bed: Bed) -> None:
    """It says so, and leaves the other failures as they are."""
    log = FollowedLog(bed)
    guard = log.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P", "A#1", "B#1", "C#1").joined)
    log.append("A", "B", "C")
    guard.catch_up("P")
    action = confirmed(guard, "retry")
    bed.change("ALTER TABLE log RENAME TO elsewhere")
    with pytest.raises(SourceError):  # nor can it be followed
        guard.work()
    failed = guard.bulk_action(action.id)
    assert counts(failed) == ("failed", 3, 1, 0, 1)
    assert "SourceError" in (failed.error or "")
    assert len(guard.failures("P").items) == 3


def test_pages_of_actions_show_the_newest_first(bed: Bed) -> None:
    """What is proposed meanwhile shifts nothing."""
    guard, _ = with_failures(bed, 1)
    made = [guard.propose_bulk("skip", where=OF_P, actor=f"actor {n}").id for n in range(3)]
    bed.change("UPDATE projection_bulk_actions SET created_at = (SELECT min(created_at) FROM projection_bulk_actions)")
    first = guard.bulk_actions(limit=2)
    guard.propose_bulk("skip", where=OF_P, actor="alice")
    second = guard.bulk_actions(limit=2, after=first.after)
    assert sorted(action.id for action in (*first.items, *second.items)) == sorted(made)
    assert second.after is None


def test_a_worker_runs_it_in_the_background(bed: Bed) -> None:
    """The one of this process is woken by the confirmation; a retry carries the request that confirmed it."""
    guard = bed.guard(retry=HOURS, worker="auto")
    planned = Planned("P", *(f"S{n}#1" for n in range(3)))
    bed.joined(guard, "P", planned.joined)
    for n in range(3):
        guard.publish(happened(f"S{n}", 1))
    planned.heal()
    action = guard.propose_bulk("retry", where=OF_P, actor="alice")
    within(bed, "request 1", lambda: guard.real.confirm_bulk(action.id, actor="alice"))
    bed.wait_until(lambda: guard.bulk_action(action.id).is_finished)
    assert counts(guard.bulk_action(action.id)) == ("completed", 3, 3, 3, 0)
    assert {entry.request_id for entry in guard.audit(action="retry").items} == {"request 1"}
    assert active_equals_open_rows(bed)
