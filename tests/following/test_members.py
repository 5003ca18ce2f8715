"""Several processes follow one log: they share its partitions, die, stand still, hand over; every effect is there."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bed import Bed
from tests.faults.processes import Victim
from tests.flow.acting import states_of
from tests.following.logs import FollowedLog
from tests.following.members import PROGRAM, assert_exact, has_come_to, member, owners, prepared

HANDLERS = pytest.mark.parametrize("handler", ["joined", "apart"])


def test_an_event_of_a_process_that_was_killed_before_it_published_is_applied(bed: Bed) -> None:
    """Nobody publishes here at all."""
    log = prepared(bed)
    with member(bed) as follower:
        log.append("A", "B", "A")
        bed.wait_until(has_come_to(bed, 3))
        assert follower.let_end() == ["stopped"]
    assert_exact(bed, log)
    assert owners(bed) == {0: None}


@HANDLERS
def test_an_event_that_kills_its_process_becomes_a_failure(bed: Bed, tmp_path: Path, handler: str) -> None:
    """The stretch dies, then the event by itself; the third process keeps it, and the rest goes on."""
    log = prepared(bed)
    log.append("A", "B", "A", "C", "B")
    notes = tmp_path / "notes"
    order = {"handler": handler, "notes": str(notes), "ends_at": "A#2", "how": "exit", "lease": 1}
    with ExitStack() as stack:
        dying = [stack.enter_context(Victim(PROGRAM, url=bed.url, kind=bed.kind, **order))]
        while True:
            assert dying[-1].process.wait(60) is not None
            if states_of(bed, "P").get("A#2") == "failed":
                break
            assert len(dying) < 5
            dying.append(stack.enter_context(Victim(PROGRAM, url=bed.url, kind=bed.kind, **order)))
    error = bed.value("SELECT error_type FROM projection_failures WHERE event_id = 'A#2'")
    assert error == "projection_guard.errors.HandlerDied"
    with member(bed, handler=handler, notes=str(notes)) as healthy:
        bed.wait_until(has_come_to(bed, 5))
        healthy.let_end()
    if handler == "joined":
        assert_exact(bed, log)
    else:
        lines = notes.read_text().split()
        for stream in "ABC":
            seen = list(dict.fromkeys(line for line in lines if line.startswith(stream)))
            assert seen == [f"{stream}#{n}" for n in range(1, log.lengths[stream] + 1)]


def test_a_follower_that_stood_still_past_its_lease_cannot_write(server_bed: Bed) -> None:
    """SIGSTOP in the middle of a handler: another one takes over, and what the first one did is gone."""
    bed = server_bed
    log = prepared(bed)
    log.append("A", "A", "B")
    with member(bed, ends_at="A#2", how="hang", timeout=1.0) as stopped:
        assert stopped.line() == "reached"
        stopped.process.send_signal(signal.SIGSTOP)
        with member(bed) as healthy:
            bed.wait_until(has_come_to(bed, 3))
            log.append("A")
            bed.wait_until(has_come_to(bed, 4))
            stopped.process.send_signal(signal.SIGCONT)
            stopped.go_on()
            log.append("B")
            bed.wait_until(has_come_to(bed, 5))
            healthy.let_end()
    assert_exact(bed, log)


def test_members_share_evenly_and_hand_over_at_once(server_bed: Bed) -> None:
    """Two have half each, a third gets its part; who stops cleanly leaves nothing that has to run out."""
    bed = server_bed
    prepared(bed, partitions=16)

    def shares() -> list[int]:
        held = [owner for owner in owners(bed).values() if owner is not None]
        return sorted(held.count(owner) for owner in set(held))

    options = {"partitions": 16, "lease": 60}
    with member(bed, **options) as first, member(bed, **options) as second:
        bed.wait_until(lambda: shares() == [8, 8])
        with member(bed, **options) as third:
            bed.wait_until(lambda: shares() == [5, 5, 6])
            third.let_end()
        bed.wait_until(lambda: shares() == [8, 8])
        second.let_end()
        bed.wait_until(lambda: shares() == [16])
        first.let_end()
    assert set(owners(bed).values()) == {None}


def test_a_member_that_never_comes_to_the_end_of_the_log_takes_over_all_the_same(server_bed: Bed) -> None:
    """The partitions of one who was killed are taken by one who has minutes of work before him."""
    bed = server_bed
    log = prepared(bed, partitions=4)
    options = {"partitions": 4, "lease": 1, "pause": 0.05}
    with member(bed, **options) as first, member(bed, **options) as second:
        bed.wait_until(lambda: len(set(owners(bed).values())) == 2 and None not in owners(bed).values())
        log.append_many(4000, streams=40)
        bed.wait_until(lambda: bed.value("SELECT min(cursor) FROM projection_partitions") > 0)
        first.kill()
        bed.wait_until(lambda: len(set(owners(bed).values())) == 1)
        assert not has_come_to(bed, len(log.appended))()
        second.kill()


@pytest.mark.parametrize("phase", ["range", "rebuild"])
def test_a_replay_that_is_killed_goes_on_where_it_stopped(server_bed: Bed, phase: str) -> None:
    """SIGKILL in the middle; whoever takes it up does the rest of it, and no event twice."""
    bed = server_bed
    log = FollowedLog(bed)
    guard = log.guard()
    bed.joined(guard, "P", lambda event, connection: None)
    log.append_many(600, streams=6)
    guard.catch_up("P")
    order = {"from_sequence": 1} if phase == "range" else {}
    if phase == "rebuild":
        bed.change("UPDATE projection_partitions SET cursor = 0")
    with member(bed, replays=order, pause=0.02) as runs:
        bed.wait_until(lambda: guard.replays().items and guard.replays().items[0].events_replayed > 50, within=60)
        runs.kill()
    # a COMMIT that was on its way may come after that
    bed.wait_until(lambda: len(bed.effects("P")) == guard.replays().items[0].events_replayed)
    seen = guard.replays().items[0]
    assert 50 < seen.events_replayed < 600
    with member(bed) as healthy:
        bed.wait_until(lambda: guard.replay_of(seen.id).is_finished, within=60)
        healthy.let_end()
    ended = guard.replay_of(seen.id)
    assert (ended.status, ended.events_replayed, ended.events_failed) == ("completed", 600, 0)
    assert_exact(bed, log)


LISTENS = (
    "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN projection_guard' AND datname = current_database()"
)


def test_a_member_is_woken_by_a_publisher_in_another_process(postgres_bed: Bed) -> None:
    """By LISTEN and NOTIFY: it polls once an hour only."""
    bed = postgres_bed
    log = prepared(bed)
    publisher = log.guard()
    bed.joined(publisher, "P", lambda event, connection: None)
    with member(bed, poll=3600, lease=3600) as follower:
        bed.wait_until(lambda: bed.value(LISTENS) == 1)
        for _ in range(3):
            (event,) = log.append("A")
            waiting = publisher.real.publisher(wait=60)
            assert [outcome.status for outcome in bed.run(waiting.publish(event))] == ["applied"]
        follower.let_end()
    assert_exact(bed, log)


def test_a_member_finds_the_last_event_of_a_burst(postgres_bed: Bed) -> None:
    """Within 20 ms a publisher notifies once: of what it publishes then and nobody waits for it says nothing more."""
    bed = postgres_bed
    log = prepared(bed)
    publisher = log.guard()
    bed.joined(publisher, "P", lambda event, connection: None)

    def publish() -> None:
        (event,) = log.append("A")
        publisher.publish(event)

    with member(bed, poll=3600, lease=3600) as follower:
        bed.wait_until(lambda: bed.value(LISTENS) == 1)
        for _ in range(10):
            publish()
            time.sleep(0.012)  # late in those 20 ms, when the follower is at rest again; later is well, too
            publish()
            bed.wait_until(has_come_to(bed, len(log.appended)))
        follower.let_end()
    assert_exact(bed, log)
