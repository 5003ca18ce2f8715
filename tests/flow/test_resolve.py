"""What people do to failures: retry, skip, mend by hand; who did it is on record, and nothing gets lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError
from tenacity import wait_fixed

from projection_guard import (
    FailureBusy,
    FailureResolved,
    InvalidArgument,
    RetryPolicy,
    UnknownFailure,
    UnknownProjection,
)
from tests.bed import Bed, Happened, happened
from tests.flow.acting import (
    Planned,
    Valve,
    audit,
    going,
    make_due,
    one_failure,
    snapshot,
    states_of,
    with_failure,
)


@dataclass(frozen=True)
class Unkept(Happened):
    """An event with something in it for which there is no way back from the database."""

    handle: object = field(default_factory=object)


NOBODY = UUID("00000000-0000-4000-8000-000000000000")
HOURS = RetryPolicy(wait=wait_fixed(3600), breaker=None)


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
        with pytest.raises(FailureResolved, match=r"resolved by .* \(manual_skip\)"):
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


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_an_event_that_could_not_be_kept_is_not_retried_with_nothing(bed: Bed, kind: str) -> None:
    """A handler that passes over what it does not know would make it look applied, and it would be lost."""
    guard, planned = bed.guard(retry=HOURS), Planned("P", "A#1")
    planned.register(bed, guard, kind, handles=[Unkept])
    guard.publish(Unkept(event_id="A#1", stream_id="A", sequence=None, n=1))
    failure = one_failure(guard)
    assert failure.is_exhausted
    assert "could not be kept and cannot be retried from here: Unkept.handle" in failure.error_message
    planned.heal()
    assert guard.resolve(failure.id, "retry", actor="alice").status == "failed"
    failure = one_failure(guard)
    assert failure.is_exhausted
    assert "nothing of it was kept" in failure.error_message
    assert planned.calls == ["A#1"]
    guard.resolve(failure.id, "manual_fix", actor="alice", note="written by hand")
    assert states_of(bed, "P") == {"A#1": "fixed"}
