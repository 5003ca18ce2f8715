"""Verifying a read model in which something is failed, parked, skipped or mended by hand: that is no difference."""

from __future__ import annotations

import random
import threading

import pytest
from sqlalchemy import Connection
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import InvalidArgument, Replay, RetryPolicy
from tests.bed import Bed, GuardOnBed, Happened
from tests.flow.acting import make_due, one_failure, states_of, work_until_done
from tests.following.beside import LATER, Model, run_for
from tests.following.logs import FollowedLog
from tests.following.verified import copies, found, left_out, untouched

VERIFICATIONS = 2


@pytest.fixture
def model(bed: Bed) -> Model:
    """A read model that follows a log."""
    return Model(bed, FollowedLog(bed))


def run_to(bed: Bed, guard: GuardOnBed, job: Replay, phase: str) -> None:
    """Run a job step by step up to the beginning of a phase."""
    bed.wait_until(lambda: run_for(bed, guard, job, steps=1).phase == phase)


def heal(bed: Bed, guard: GuardOnBed, model: Model) -> None:
    """Mend the handler, and let the retries and the drain do their work."""
    model.failing = set()
    make_due(bed)
    work_until_done(bed, guard)


def set_aside(bed: Bed) -> list[str]:
    """Return what is left out of the copy, as far as it has come."""
    return [
        row.event_id for row in bed.rows("SELECT event_id FROM projection_set_aside_events ORDER BY event_sequence")
    ]


def test_what_heals_after_it_was_left_out_is_in_the_copy_in_the_end(bed: Bed, model: Model) -> None:
    """Whether the live one still follows then, or stands still already; what waits goes on waiting."""
    guard, live = model.guard(), model.guard()
    model.failing = {"A#2", "B#1", "C#1"}
    model.log.append("A", "B", "A", "A", "B", "C", "D", "A")
    guard.catch_up("P")
    (held,) = [failure for failure in guard.failures("P").items if failure.event_id == "C#1"]
    job = guard.start_verify("P", actor="alice")
    run_to(bed, guard, job, "mend")
    assert set_aside(bed) == ["B#1", "A#2", "A#3", "B#2", "C#1", "A#4"]
    model.failing = {"B#1", "C#1"}
    (failed,) = [failure for failure in guard.failures("P").items if failure.event_id == "A#2"]
    live.resolve(failed.id, "retry", actor="bob")
    work_until(bed, live, "A#4")
    before = untouched(bed, "totals", "entries")
    run_to(bed, guard, job, "still")
    assert set_aside(bed) == ["B#1", "B#2", "C#1"]
    done = run_for(bed, guard, job)
    assert untouched(bed, "totals", "entries") == before
    assert (found(done), left_out(done)) == ({}, {"waiting": ["B#1", "B#2", "C#1"]})
    assert (done.events_replayed, done.events_skipped, guard.failure(held.id).resolved_at) == (5, 3, None)
    assert copies(bed) == []
    heal(bed, guard, model)
    assert found(guard.verify("P", actor="alice")) == {}


def work_until(bed: Bed, guard: GuardOnBed, event_id: str) -> None:
    """Let a worker drain up to an event."""

    def is_done() -> bool:
        guard.work()
        return states_of(bed, "P").get(event_id, "applied") == "applied"

    bed.wait_until(is_done)


def test_what_heals_in_the_last_moment_is_mended_while_the_live_one_stands_still(blocking_bed: Bed) -> None:
    """A retry that was under way when it came to stand still has ended behind the barrier."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    guard, live = model.guard(), model.guard()
    model.failing = {"A#1"}
    model.log.append("A", "A", "B")
    guard.catch_up("P")
    job = guard.start_verify("P", actor="alice")
    run_to(bed, guard, job, "mend")
    assert set_aside(bed) == ["A#1", "A#2"]
    run_to(bed, guard, job, "still")
    bed.change("UPDATE projection_states SET state = 'active'")  # as if the retry had begun before
    heal(bed, live, model)
    bed.change("UPDATE projection_states SET state = 'replaying'")
    run_to(bed, guard, job, "mend_rest")
    done = run_for(bed, guard, job)
    assert (found(done), left_out(done), done.events_replayed) == ({}, {}, 3)


def test_what_a_person_has_skipped_is_left_out_too(blocking_bed: Bed) -> None:
    """Also when that was so long ago that only the failure and the stream's taint know of it."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    guard = model.guard()
    model.failing = {"A#2"}
    model.log.append("A", "A", "A", "B")
    guard.catch_up("P")
    guard.resolve(one_failure(guard, "P").id, "skip", actor="bob")
    work_until(bed, guard, "A#3")
    model.failing = set()
    for _ in range(2):
        job = guard.verify("P", actor="alice")
        assert (found(job), left_out(job), job.events_skipped) == ({}, {"skipped": ["A#2"]}, 1)
        bed.change("DELETE FROM projection_applied_events")
    assert guard.streams("P", state="tainted").items[0].stream_id == "A"


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_what_was_skipped_and_then_mended_is_applied_where_that_can_be(blocking_bed: Bed, is_forgotten: bool) -> None:
    """Whoever ends the taint says that its effect is there; also when its applied row is forgotten."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    guard = model.guard()
    model.failing = {"A#2"}
    model.log.append("A", "A", "A")
    guard.catch_up("P")
    guard.resolve(one_failure(guard, "P").id, "skip", actor="bob")
    work_until(bed, guard, "A#3")
    bed.change("UPDATE totals SET total = total + 1")
    bed.change("INSERT INTO entries (stream, n) VALUES ('A', 2)")
    assert guard.untaint("P", "A", actor="bob") is True
    if is_forgotten:
        bed.change("DELETE FROM projection_applied_events")
    assert left_out(guard.verify("P", actor="alice")) == {"by_hand": ["A#2"]}
    model.failing = set()
    job = guard.verify("P", actor="alice")
    assert (found(job), left_out(job)) == ({}, {})


def test_one_that_is_skipped_while_the_copy_waits_for_it_is_passed_by(blocking_bed: Bed) -> None:
    """And what waited behind it is applied in the copy, as it was in the live one."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    guard = model.guard()
    model.failing = {"A#2"}
    model.log.append("A", "A", "A", "B")
    guard.catch_up("P")
    job = guard.start_verify("P", actor="alice")
    run_to(bed, guard, job, "mend")
    assert set_aside(bed) == ["A#2", "A#3"]
    guard.resolve(one_failure(guard, "P").id, "skip", actor="bob")
    work_until(bed, guard, "A#3")
    model.failing = set()
    done = run_for(bed, guard, job)
    assert (found(done), left_out(done), done.events_replayed) == ({}, {"skipped": ["A#2"]}, 3)


def test_what_was_mended_by_hand_is_applied_where_that_can_be(async_bed: Bed) -> None:
    """If it cannot, it is left out by itself, and what a person has done is a difference."""
    bed, model = async_bed, Model(async_bed, FollowedLog(async_bed))
    guard = model.guard()
    model.failing = {"A#2"}
    model.log.append("A", "A", "A")
    guard.catch_up("P")
    bed.change("UPDATE totals SET total = total + 1")
    bed.change("INSERT INTO entries (stream, n) VALUES ('A', 2)")
    guard.resolve(one_failure(guard, "P").id, "manual_fix", actor="bob")
    work_until(bed, guard, "A#3")
    job = guard.verify("P", actor="alice")
    assert left_out(job) == {"by_hand": ["A#2"]}
    assert found(job) == {"totals": [[], [], [("A", "total")]], "entries": [[], [("A", "2")], []]}
    model.failing = set()
    job = guard.verify("P", actor="alice")
    assert (found(job), left_out(job)) == ({}, {})


def test_an_event_that_fails_in_the_copy_alone_is_told(blocking_bed: Bed) -> None:
    """It ends the job, unless so many may: then the rest of its stream is not compared, and the two differ."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    guard = model.guard()
    model.log.append("A", "B", "A", "B", "A")
    guard.catch_up("P")
    before = untouched(bed, "totals", "entries")
    model.failing = {"A#2"}
    job = guard.verify("P", actor="alice")
    assert (job.status, job.drifted, copies(bed)) == ("failed", None, [])
    assert job.error == "P: event 'A#2' (sequence 3) failed beside the live read model: ValueError"
    job = guard.verify("P", max_failures=1, actor="alice")
    assert (job.drifted, job.events_failed, job.events_skipped) == (True, 1, 1)
    assert left_out(job) == {"waiting": ["A#3"], "failed": ["A#2"]}
    assert found(job) == {"totals": [[], [], [("A", "total")]], "entries": [[], [("A", "2"), ("A", "3")], []]}
    assert untouched(bed, "totals", "entries") == before
    assert (states_of(bed, "P"), copies(bed)) == ({}, [])


@pytest.mark.parametrize("order", ["none", "global"])
def test_in_another_order_it_is_the_same(sqlite_bed: Bed, order: str) -> None:
    """What has failed is left out; in one line the live one has not come to the rest, and the copy does not either."""
    bed, model = sqlite_bed, Model(sqlite_bed, FollowedLog(sqlite_bed))
    guard = model.log.guard(retry=LATER)
    bed.joined(guard, "P", model.handle, order=order, tables=["totals", "entries"])
    model.failing = {"A#2"}
    model.log.append("A", "A", "A", "B")
    guard.catch_up("P")
    model.failing = set()
    job = guard.verify("P", actor="alice")
    assert (found(job), left_out(job)) == ({}, {"waiting": ["A#2"]})
    assert job.events_replayed == (3 if order == "none" else 1)
    if order == "global":
        with pytest.raises(InvalidArgument, match="has order='global'"):
            guard.verify("P", max_failures=1, actor="alice")


def test_an_event_that_kills_its_process_while_the_copy_is_mended_fails_there(sqlite_bed: Bed) -> None:
    """It is taken up where it was, and not killed again and again."""
    bed, model = sqlite_bed, Model(sqlite_bed, FollowedLog(sqlite_bed))
    guard = model.guard()
    model.failing = {"A#1"}
    model.log.append("A", "B", "A")
    guard.catch_up("P")
    job = guard.start_verify("P", max_failures=1, actor="alice")
    run_to(bed, guard, job, "mend")
    assert set_aside(bed) == ["A#1", "A#2"]
    heal(bed, guard, model)
    bed.change("UPDATE projection_partitions SET cursor = 0 WHERE partition = -1")
    bed.change("UPDATE projection_partitions SET hand_first = 1, hand_last = 1, hand_is_lone = 1 WHERE partition = -1")
    bed.change(
        "UPDATE projection_partitions SET lease_owner = 'dead', lease_expires_at = :past WHERE partition = -1",
        past="2000-01-01 00:00:00.000000",
    )
    done = run_for(bed, guard, job)
    assert (done.drifted, left_out(done)) == (True, {"waiting": ["A#2"], "failed": ["A#1"]})


def test_while_events_fail_heal_and_arrive_no_verification_finds_anything(blocking_bed: Bed) -> None:
    """Whatever the two come to do at the same time, they are compared at the same events."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    stumbles, first = random.Random(7), set[str]()

    def handle(event: Happened, connection: Connection) -> None:
        model.handle(event, connection)
        if event.event_id not in first:
            first.add(event.event_id)
            if stumbles.random() < 0.15:
                raise ValueError("planned")

    retry = RetryPolicy(wait=wait_fixed(0.02), stop=stop_after_attempt(9), breaker=None)
    live, other = model.log.guard(retry=retry), model.log.guard(retry=retry)
    bed.joined(live, "P", handle, tables=["totals", "entries"], partitions=2)
    bed.joined(other, "P", model.handle, tables=["totals", "entries"], partitions=2)
    done = list[Replay]()
    ends = threading.Event()

    def append() -> None:
        while not ends.is_set() and len(model.log.appended) < 200:
            model.log.append(*(f"S{stumbles.randrange(9)}" for _ in range(5)))

    appending = threading.Thread(target=append)
    appending.start()
    with live.real.worker(poll_seconds=0.02):
        bed.wait_until(lambda: model.entries() > 20)
        while len(done) < VERIFICATIONS:
            done.append(other.verify("P", actor="alice"))
        ends.set()
        appending.join()
    assert [(job.status, job.error, found(job)) for job in done] == [("completed", None, {})] * VERIFICATIONS
