"""Who did what is on record with what it changed, and for which request; and can be looked up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import InvalidArgument, RetryPolicy, UnknownFailure, acting_for
from projection_guard._acting import request_id
from tests.bed import AT_ONCE, Bed, happened
from tests.flow.acting import Planned, clears, one_failure, with_failure, within
from tests.following.logs import FollowedLog

HOURS = RetryPolicy(wait=wait_fixed(3600), breaker=None)


def changes(guard: Any, **which: Any) -> list[tuple[Any, ...]]:
    """Return what the entries say was changed, oldest first."""
    entries = reversed(guard.audit(**which).items)
    return [(entry.action, entry.details["before"], entry.details["after"]) for entry in entries]


def test_every_change_of_a_projections_state_is_on_record_with_what_it_was_and_is(bed: Bed) -> None:
    """Pause, resume, and a reset from its beginning to its end."""
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P").joined, on_reset=clears(bed))
    guard.pause("P", actor="alice", reason="a deployment")
    guard.reset("P", actor="alice")
    guard.resume("P", actor="alice")
    assert changes(guard) == [
        ("pause", "active", "paused"),
        ("reset", "paused", "resetting"),
        ("reset_done", "resetting", "paused"),
        ("resume", "paused", "active"),
    ]
    (entry,) = guard.audit(action="pause").items
    assert (entry.actor, entry.projection_name, entry.note, entry.request_id) == ("alice", "P", "a deployment", None)
    assert entry.at.tzinfo is not None


def test_a_reset_that_does_not_come_about_is_on_record_as_such(bed: Bed) -> None:
    """`on_reset` raises: the projection is as it was, and the log says that, instead of ending with a reset begun."""
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P").joined, on_reset=clears(bed, fails=[True]))
    with pytest.raises(ValueError, match="does not want"):
        guard.reset("P", actor="alice")
    assert changes(guard) == [("reset", "active", "resetting"), ("reset_undone", "resetting", "active")]
    assert guard.audit(action="reset_undone").items[0].actor == "alice"


def test_every_resolution_is_on_record_with_what_the_failure_was(bed: Bed) -> None:
    """Scheduled or exhausted before; being retried or resolved after."""
    guard = bed.guard(retry=HOURS)
    never = RetryPolicy(wait=wait_fixed(3600), stop=stop_after_attempt(1), breaker=None)
    bed.joined(guard, "P", Planned("P", "A#1", "B#1").joined)
    bed.joined(guard, "Q", Planned("Q", "A#1").joined, retry=never)
    for stream in "AB":
        guard.publish(happened(stream, 1))
    b, a = guard.failures("P").items
    guard.resolve(a.id, "retry", actor="alice")
    guard.resolve(a.id, "skip", actor="alice")
    guard.resolve(b.id, "manual_fix", actor="bob")
    guard.resolve(one_failure(guard, "Q").id, "retry", actor="bob")
    assert changes(guard) == [
        ("retry", "scheduled", "retrying"),
        ("skip", "scheduled", "resolved"),
        ("manual_fix", "scheduled", "resolved"),
        ("retry", "exhausted", "retrying"),
    ]


def test_what_is_done_to_a_followed_projection_is_on_record(bed: Bed) -> None:
    """Replays and how they are steered, and where following was told to begin."""
    log = FollowedLog(bed)
    guard = log.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P").joined)
    log.append("A", "B")
    guard.catch_up("P")
    job = guard.start_replay("P", from_sequence=1, actor="alice")
    guard.pause_replay(job.id, actor="alice")
    guard.resume_replay(job.id, actor="alice")
    guard.cancel_replay(job.id, actor="alice")
    guard.pause("P", actor="alice")
    guard.follow_from("P", 1, actor="alice")
    assert changes(guard) == [
        ("replay", "active", "replaying"),
        ("pause_replay", "run", "pause"),
        ("resume_replay", "pause", "run"),
        ("cancel_replay", "run", "cancel"),
        ("pause", "active", "paused"),
        ("follow_from", [2], [1]),
    ]


def test_the_audit_log_can_be_looked_up(bed: Bed) -> None:
    """By projection, actor, action and failure, and by several of them; newest first, page by page."""
    guard, _ = with_failure(bed)
    bed.joined(guard, "Q", Planned("Q").joined)
    failure = one_failure(guard)
    guard.resolve(failure.id, "skip", actor="alice")
    for name in "PQ":
        guard.pause(name, actor="bob")
    actions = [(entry.action, entry.projection_name) for entry in guard.audit().items]
    assert actions == [("pause", "Q"), ("pause", "P"), ("skip", "P")]
    assert [entry.action for entry in guard.audit("P").items] == ["pause", "skip"]
    assert [entry.action for entry in guard.audit(actor="alice").items] == ["skip"]
    assert [entry.projection_name for entry in guard.audit(action="pause").items] == ["Q", "P"]
    assert [entry.failure_id for entry in guard.audit(failure_id=str(failure.id)).items] == [failure.id]
    assert guard.audit("Q", actor="alice").items == ()
    first = guard.audit(limit=2)
    guard.resume("P", actor="bob")
    second = guard.audit(limit=2, after=first.after)
    assert [entry.action for entry in (*first.items, *second.items)] == ["pause", "pause", "skip"]
    assert second.after is None
    with pytest.raises(UnknownFailure):
        guard.audit(failure_id="7")
    for cursor in ("nonsense", "WyJhIl0", "WyI5OTk5OTk5OTk5OTk5OTk5OTk5OSJd"):
        with pytest.raises(InvalidArgument, match="after="):
            guard.audit(after=cursor)


def test_an_action_carries_the_id_of_the_request_that_asked_for_it(bed: Bed) -> None:
    """Within the block, and not after it."""
    guard, _ = with_failure(bed)
    failure = one_failure(guard)
    within(bed, "request 1", lambda: guard.real.pause("P", actor="alice"))
    within(bed, "request 2", lambda: guard.real.resume("P", actor="alice"))
    within(bed, "request 3", lambda: guard.real.resolve(failure.id, "skip", actor="alice"))
    guard.pause("P", actor="alice")
    assert [entry.request_id for entry in guard.audit().items] == [None, "request 3", "request 2", "request 1"]


def test_a_worker_that_was_started_within_a_request_does_not_act_for_it(bed: Bed) -> None:
    """It goes on when the request has long been answered."""
    guard, seen = bed.guard(worker="auto", retry=AT_ONCE), list[str | None]()

    def body(event: Any, connection: Any) -> None:
        seen.append(request_id())
        if len(seen) == 1:
            raise ValueError("planned")

    bed.joined(guard, "P", body)
    within(bed, "request 1", lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(lambda: len(seen) == 2)
    assert seen == ["request 1", None]


def test_an_inner_request_ends_within_the_outer_one() -> None:
    """Also when it ends by an error."""
    with acting_for("outer"):
        with pytest.raises(LookupError, match="inner"), acting_for("inner"):
            raise LookupError(request_id())
        assert request_id() == "outer"
    assert request_id() is None


def test_requests_at_once_are_not_mixed_up(async_bed: Bed) -> None:
    """Tasks of one loop act side by side, each for its own."""
    guard = async_bed.guard()
    names = [f"P{number}" for number in range(6)]
    for name in names:
        async_bed.joined(guard, name, Planned(name).joined)
    guard.health()

    async def pause(name: str) -> None:
        with acting_for(f"of {name}"):
            await guard.real.pause(name, actor="alice")

    async def all_of_them() -> None:
        await asyncio.gather(*map(pause, names))

    async_bed.run(all_of_them())
    assert {entry.projection_name: entry.request_id for entry in guard.audit().items} == {
        name: f"of {name}" for name in names
    }


@pytest.mark.parametrize("given", ["", "x" * 256, "a\nb", "a\0", "\x7f", "\x85", "\ud800", None, 7])
def test_an_id_that_cannot_be_kept_is_refused(given: Any) -> None:
    """It comes from outside: empty, too long, or with control characters that would forge a line of a log."""
    with pytest.raises(InvalidArgument, match="acting_for takes the id"), acting_for(given):
        pytest.fail("it was taken")


def test_an_id_may_be_of_any_letters() -> None:
    """Up to 255 characters."""
    with acting_for("ü" * 255):
        pass
