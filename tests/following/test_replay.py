"""Replays and rebuilds: durable jobs that apply the log again, beside which everything else stands still."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, text
from tenacity import wait_fixed

from projection_guard import FailureBusy, InvalidArgument, Replay, RetryPolicy
from tests.bed import Bed, GuardOnBed
from tests.flow.acting import Planned, active_equals_open_rows, going, make_due, one_failure, states_of
from tests.following.logs import FollowedLog

LATER = RetryPolicy(wait=wait_fixed(3600), breaker=None)


@pytest.fixture
def log(bed: Bed) -> FollowedLog:
    """A log in the bed's database."""
    return FollowedLog(bed)


def clearing(bed: Bed) -> dict[str, Any]:
    """Return what clears the effects of "P", and those of one stream."""

    def clear(connection: Connection, stream: str | None = None) -> None:
        narrowed = "" if stream is None else " AND stream = :stream"
        connection.execute(
            text(f"DELETE FROM effects WHERE projection = 'P'{narrowed}"), {} if stream is None else {"stream": stream}
        )

    def clear_all(connection: Connection) -> None:
        clear(connection)

    def clear_one(connection: Connection, stream_id: str) -> None:
        clear(connection, stream_id)

    if not bed.is_async:
        return {
            "on_reset": clear_all,
            "on_reset_stream": clear_one,
        }

    async def on_reset(connection: Any) -> None:
        await connection.run_sync(clear)

    async def on_reset_stream(connection: Any, stream: str) -> None:
        await connection.run_sync(clear, stream)

    return {"on_reset": on_reset, "on_reset_stream": on_reset_stream}


def caught_up(bed: Bed, log: FollowedLog, *failing: str, kind: str = "joined") -> tuple[GuardOnBed, Planned]:
    """Return a guard that has caught up with A#1 B#1 A#2 A#3 B#2, some of which have failed."""
    guard, planned = log.guard(retry=LATER), Planned("P", *failing)
    planned.register(bed, guard, kind, **clearing(bed))
    log.append("A", "B", "A", "A", "B")
    guard.catch_up("P")
    planned.calls.clear()
    return guard, planned


def sums(job: Replay) -> tuple[str, int, int, int]:
    """Return a job's status, and what it has replayed, skipped and seen failed."""
    return job.status, job.events_replayed, job.events_skipped, job.events_failed


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_range_is_applied_again_on_purpose(bed: Bed, log: FollowedLog, kind: str) -> None:
    """The checkpoint does not move back, nothing is counted as processed again, and events wait meanwhile."""
    guard, planned = caught_up(bed, log, kind=kind)
    log.append("C")
    job = guard.replay("P", from_sequence=2, to_sequence=4, actor="alice")
    assert sums(job) == ("completed", 3, 0, 0)
    assert (job.kind, job.progress, job.position) == ("range", 1.0, 4)
    assert planned.calls == ["B#1", "A#2", "A#3"]
    checkpoint = guard.checkpoint("P")
    assert (checkpoint.last_event_sequence, checkpoint.events_processed) == (5, 5)
    assert guard.health("P").state == "active"
    guard.catch_up("P")
    assert planned.calls[-1] == "C#1"


def test_a_range_without_an_end_ends_at_the_checkpoint(bed: Bed, log: FollowedLog) -> None:
    """What comes after it is the follower's."""
    guard, planned = caught_up(bed, log)
    log.append("C")
    assert sums(guard.replay("P", from_sequence=0, actor="alice")) == ("completed", 5, 0, 0)
    assert planned.calls == ["A#1", "B#1", "A#2", "A#3", "B#2"]
    assert log.cursors() == [5]


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_from_the_checkpoint_on_what_is_open_is_included(bed: Bed, log: FollowedLog, kind: str) -> None:
    """Failures, exhausted ones too, and what is parked behind them; then the log to its end."""
    guard, planned = caught_up(bed, log, "A#1", kind=kind)
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "parked", "A#3": "parked"}
    bed.change("UPDATE projection_failures SET next_retry_at = NULL")
    log.append("A", "C")
    planned.heal()
    job = guard.replay("P", actor="alice")
    assert sums(job) == ("completed", 5, 0, 0)
    assert planned.calls == ["A#1", "A#2", "A#3", "A#4", "C#1"]
    failure = guard.failures("P", include_resolved=True).items[0]
    assert (failure.resolution_method, failure.resolved_by) == ("manual_replay", "replay")
    health = guard.health("P")
    assert (health.active_failures, health.parked_events, health.lag_events, health.status) == (0, 0, 0, "healthy")
    assert active_equals_open_rows(bed)
    assert log.cursors() == [7]


def test_what_fails_again_holds_its_stream(bed: Bed, log: FollowedLog) -> None:
    """It stays one failure, what is behind it stays parked; everything else is applied."""
    guard, planned = caught_up(bed, log, "A#1")
    log.append("A", "B")
    job = guard.replay("P", actor="alice")
    assert job.status == "completed"
    assert (job.events_replayed, job.events_failed) == (1, 1)
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "parked", "A#3": "parked", "A#4": "parked"}
    assert one_failure(guard).error_message == "planned"
    assert len(guard.attempts(one_failure(guard).id)) == 2
    assert planned.calls.count("A#1") == 1
    assert active_equals_open_rows(bed)


def test_an_event_that_fails_in_a_replay_is_a_failure_like_any_other(bed: Bed, log: FollowedLog) -> None:
    """Later ones of its stream in the range are parked, and applied again behind it."""
    guard, planned = caught_up(bed, log)
    planned.failing.add("A#2")
    job = guard.replay("P", from_sequence=1, actor="alice")
    assert sums(job) == ("completed", 3, 1, 1)
    assert states_of(bed, "P") == {"A#2": "failed", "A#3": "parked"}
    planned.heal()
    guard.resolve(one_failure(guard).id, "retry", actor="alice")
    guard.work()
    assert [n for _, n in bed.effects("P", "A")] == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_of_two_failures_of_a_stream_the_earlier_event_is_applied_first(bed: Bed, log: FollowedLog, kind: str) -> None:
    """The later one stood already when a replay of a range met the earlier: it waits, whoever asks for it."""
    guard, planned = caught_up(bed, log, "A#2", kind=kind)
    later = one_failure(guard)
    planned.failing = {"A#1"}
    assert sums(guard.replay("P", from_sequence=1, to_sequence=1, actor="alice")) == ("completed", 0, 0, 1)
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "failed", "A#3": "parked"}
    planned.heal()
    planned.calls.clear()
    assert guard.resolve(later.id, "retry", actor="alice").status == "parked"
    assert (planned.calls, guard.failure(later.id).retry_count) == ([], later.retry_count)
    for _ in range(2):
        make_due(bed)
        guard.work()
    assert planned.calls == ["A#1", "A#2", "A#3"]
    assert guard.health("P").parked_events == guard.health("P").active_failures == 0
    assert active_equals_open_rows(bed)


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_what_a_replay_parks_between_two_failures_is_applied_between_them(
    bed: Bed, log: FollowedLog, kind: str
) -> None:
    """The later one stood already: it waits until the line before it is drained, and what is behind it waits on."""
    log.append("A")
    guard, planned = caught_up(bed, log, "A#4", kind=kind)
    later = one_failure(guard)
    log.append("A")
    guard.catch_up("P")
    planned.failing = {"A#1"}
    assert sums(guard.replay("P", from_sequence=1, to_sequence=4, actor="alice")) == ("completed", 1, 2, 1)
    assert states_of(bed, "P") | {"A#1": "failed", "A#4": "failed", "A#5": "parked"} == states_of(bed, "P")
    assert (states_of(bed, "P")["A#2"], states_of(bed, "P")["A#3"]) == ("parked", "parked")
    planned.heal()
    planned.calls.clear()
    for _ in range(4):
        make_due(bed)
        guard.work()
    assert planned.calls == ["A#1", "A#2", "A#3", "A#4", "A#5"]
    assert guard.failure(later.id).resolved_at is not None
    assert guard.health("P").parked_events == guard.health("P").active_failures == 0
    assert active_equals_open_rows(bed)


def test_failures_may_be_left_as_they_are(bed: Bed, log: FollowedLog) -> None:
    """`skip_failed`: they, and what is behind them, are passed over."""
    guard, planned = caught_up(bed, log, "A#1")
    planned.heal()
    assert sums(guard.replay("P", from_sequence=0, skip_failed=True, actor="alice")) == ("completed", 2, 3, 0)
    assert planned.calls == ["B#1", "B#2"]
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "parked", "A#3": "parked"}


def test_what_waits_behind_a_failure_before_the_range_goes_on_waiting(bed: Bed, log: FollowedLog) -> None:
    """A range that begins in the middle of what is parked does not overtake the failure."""
    guard, planned = caught_up(bed, log, "A#1")
    planned.heal()
    assert sums(guard.replay("P", from_sequence=3, actor="alice")) == ("completed", 1, 2, 0)
    assert planned.calls == ["B#2"]
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "parked", "A#3": "parked"}


def test_one_stream_alone_is_the_cure_for_a_skip(bed: Bed, log: FollowedLog) -> None:
    """Its part of the read model is cleared and filled again; the taint is gone, other streams are left alone."""
    guard, planned = caught_up(bed, log, "A#2")
    guard.resolve(one_failure(guard).id, "skip", actor="alice")
    guard.work()
    assert [stream.stream_id for stream in guard.streams("P", state="tainted").items] == ["A"]
    assert bed.effects("P", "A") == [("A", 1), ("A", 3)]
    planned.heal()
    planned.calls.clear()
    job = guard.replay("P", stream_id="A", actor="alice")
    assert sums(job) == ("completed", 3, 0, 0)
    assert planned.calls == ["A#1", "A#2", "A#3"]
    assert bed.effects("P", "A") == log.of_stream("A")
    assert bed.effects("P", "B") == log.of_stream("B")
    assert guard.streams("P", state="tainted").items == ()
    assert states_of(bed, "P").get("A#2") == "applied"


def test_a_taint_is_not_ended_by_a_person_while_a_job_is_under_way(bed: Bed, log: FollowedLog) -> None:
    """Cancelled half-way, a replay leaves the stream without its rest: the taint has to say so."""
    guard, planned = caught_up(bed, log, "A#2")
    guard.resolve(one_failure(guard).id, "skip", actor="alice")
    guard.work()
    planned.heal()
    job = guard.start_replay("P", stream_id="A", actor="alice")
    with pytest.raises(FailureBusy, match=f"stream {job.id}, begun by alice"):
        guard.untaint("P", "A", actor="bob")
    assert [stream.stream_id for stream in guard.streams("P", state="tainted").items] == ["A"]
    guard.cancel_replay(job.id, actor="alice")
    bed.wait_until(lambda: guard.work() and guard.replay_of(job.id).is_finished)
    assert [stream.stream_id for stream in guard.streams("P", state="tainted").items] == ["A"]
    assert guard.untaint("P", "A", actor="bob") is True
    assert guard.streams("P", state="tainted").items == ()
    (told,) = [event for event in guard.stream("P", "A").page.items if event.event_id == "A#2"]
    assert (told.state, told.how) == ("applied", "manual_fix")


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_rebuild_clears_and_fills_again(bed: Bed, log: FollowedLog, kind: str) -> None:
    """Failures and parked events from before are gone with it."""
    guard, planned = caught_up(bed, log, "A#1", kind=kind)
    planned.heal()
    log.append("C")
    job = guard.rebuild("P", actor="alice")
    assert sums(job) == ("completed", 6, 0, 0)
    assert planned.calls == ["A#1", "B#1", "A#2", "A#3", "B#2", "C#1"]
    if kind == "joined":
        assert bed.effects("P", "A") == log.of_stream("A")
    assert states_of(bed, "P") == {}
    checkpoint, health = guard.checkpoint("P"), guard.health("P")
    assert (checkpoint.last_event_sequence, checkpoint.events_processed) == (6, 6)
    assert (health.state, health.status, health.active_failures) == ("active", "healthy", 0)


def test_a_rebuild_whose_read_model_does_not_want_to_be_cleared_changes_nothing(bed: Bed, log: FollowedLog) -> None:
    """The job has failed, with the reason; the projection goes on."""
    guard = log.guard()

    def refuse(connection: Any) -> None:
        raise ValueError("no")

    async def refuse_async(connection: Any) -> None:
        raise ValueError("no")

    planned = Planned("P")
    planned.register(bed, guard, "joined", on_reset=refuse_async if bed.is_async else refuse)
    log.append("A")
    guard.catch_up("P")
    with pytest.raises(ValueError, match="no"):
        guard.rebuild("P", actor="alice")
    (job,) = guard.replays("P").items
    assert (job.status, job.error) == ("failed", "clearing the read model raised ValueError")
    assert (guard.health("P").state, log.cursors(), bed.effects("P")) == ("active", [1], [("A", 1)])


def test_a_second_one_is_refused_while_one_runs(bed: Bed, log: FollowedLog) -> None:
    """With who began the first, and when; and so are a reset, a pause and a retry."""
    guard, _ = caught_up(bed, log, "A#1")
    job = guard.start_replay("P", from_sequence=1, actor="alice")
    with pytest.raises(FailureBusy, match=rf"replaying already: range {job.id}, begun by alice at 20"):
        guard.replay("P", actor="bob")
    for act in (guard.reset, guard.pause, guard.resume):
        with pytest.raises(FailureBusy, match="is replaying; wait until that has ended, or cancel it"):
            act("P", actor="bob")
    with pytest.raises(FailureBusy, match="is replaying"):
        guard.resolve(one_failure(guard).id, "retry", actor="bob")
    assert guard.catch_up("P").waits == "replaying"
    guard.work()
    assert guard.replay_of(job.id).status == "pending"


def test_a_worker_runs_what_was_started_elsewhere(bed: Bed, log: FollowedLog) -> None:
    """`start_replay` returns at once."""
    guard, planned = caught_up(bed, log)
    other = log.guard(worker="auto")
    planned.register(bed, other, "joined")
    job = guard.start_replay("P", from_sequence=1, actor="alice")
    assert job.status == "pending"
    other.health()
    bed.wait_until(lambda: guard.replay_of(job.id).is_finished)
    assert sums(guard.replay_of(job.id)) == ("completed", 5, 0, 0)


def test_it_rests_goes_on_and_is_cancelled(bed: Bed, log: FollowedLog) -> None:
    """Cancelled in the middle, following goes on from the checkpoint; events that were appended meanwhile are there."""
    guard, planned = log.guard(), Planned("P")
    planned.register(bed, guard, "joined")
    log.append_many(400, streams=5)
    guard.catch_up("P")
    under_way = going(bed, lambda: guard.real.replay("P", from_sequence=1, events_per_second=200, actor="alice"))
    bed.wait_until(lambda: guard.replays("P").items and guard.replays("P").items[0].events_replayed > 50)
    (job,) = guard.replays("P").items
    log.append("A")
    guard.pause_replay(job.id, actor="bob")
    bed.wait_until(lambda: under_way.is_done)
    rests = guard.replay_of(job.id)
    assert (rests.status, rests.is_finished, guard.health("P").state) == ("paused", False, "replaying")
    assert 0 < rests.events_replayed < 400
    assert 0 < rests.progress < 1
    resumed = guard.resume_replay(job.id, actor="bob")
    assert resumed.wanted == "run"
    ended = guard.cancel_replay(job.id, actor="bob")
    assert (ended.status, guard.health("P").state) == ("cancelled", "active")
    assert guard.checkpoint("P").last_event_sequence == 400
    assert guard.catch_up("P").applied == 1
    actions = [row.action for row in bed.rows("SELECT action FROM projection_audit_log ORDER BY id")]
    assert actions == ["replay", "pause_replay", "resume_replay", "cancel_replay"]
    with pytest.raises(FailureBusy, match="is cancelled already"):
        guard.cancel_replay(job.id, actor="bob")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"from_sequence": 4, "to_sequence": 2}, "from_sequence=4 lies beyond to_sequence=2"),
        ({"from_sequence": -1}, "from_sequence= takes a sequence"),
        ({"to_sequence": -1}, "to_sequence= takes a sequence"),
        ({"from_sequence": 1, "to_sequence": 99}, "beyond the end of the log, which is 5"),
        ({"from_sequence": 6}, "has come to sequence 5"),
        ({"stream_id": "A", "from_sequence": 1}, "stream_id= replays the whole stream"),
        ({"events_per_second": 0}, "events_per_second= takes"),
    ],
)
def test_what_cannot_be_is_refused(bed: Bed, log: FollowedLog, asked: dict[str, Any], says: str) -> None:
    """In one sentence, and nothing stands still for it."""
    guard, _ = caught_up(bed, log)
    with pytest.raises(InvalidArgument, match=says):
        guard.replay("P", actor="alice", **asked)
    assert guard.health("P").state == "active"
    assert guard.replays().items == ()


def test_pages_of_replays(bed: Bed, log: FollowedLog) -> None:
    """Newest first."""
    guard, _ = caught_up(bed, log)
    jobs = [guard.replay("P", from_sequence=1, actor="alice").id for _ in range(3)]
    first = guard.replays("P", limit=2)
    second = guard.replays("P", limit=2, after=first.after)
    assert [job.id for page in (first, second) for job in page.items] == jobs[::-1]
    assert second.after is None
