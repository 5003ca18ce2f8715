"""What may happen to the live read model while it is verified, and that neither of the two gets in the other's way."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from projection_guard import ProjectionGuard, Replay
from projection_guard._core import verifying
from projection_guard._io.protocol import drive
from tests.bed import Bed, GuardOnBed, Happened
from tests.flow.acting import states_of
from tests.following.beside import LATER, Model, run_for
from tests.following.logs import FollowedLog
from tests.following.verified import copies, found

LONG_AGO = "2000-01-01 00:00:00.000000"


def run_to(bed: Bed, guard: GuardOnBed, job: Replay, phase: str) -> None:
    """Run a job step by step up to the beginning of a phase."""
    bed.wait_until(lambda: run_for(bed, guard, job, steps=1).phase == phase)


def _enforce(connection: Any, _: object) -> None:
    """Let SQLite enforce foreign keys."""
    connection.execute("PRAGMA foreign_keys = ON")


@pytest.mark.parametrize("beyond", ["CASCADE", "RESTRICT"])
def test_rows_that_refer_to_others_do_so_in_the_copy_and_not_from_there_to_the_live_ones(
    blocking_bed: Bed, beyond: str
) -> None:
    """What goes with what it refers to goes in the copy, too; and no row of the copy holds a live one fast."""
    bed = blocking_bed
    if bed.database == "sqlite":
        event.listen(bed.engine, "connect", _enforce)
        bed.engine.dispose()
    bed.change("CREATE TABLE papers (id varchar(50) PRIMARY KEY)")
    bed.change(f"CREATE TABLE notes (id varchar(50) PRIMARY KEY REFERENCES papers (id) ON DELETE {beyond})")

    def handle(happened: Happened, connection: Connection) -> None:
        these = {"id": happened.stream_id}
        if happened.n == 1:
            connection.execute(text("INSERT INTO papers VALUES (:id)"), these)
            connection.execute(text("INSERT INTO notes VALUES (:id)"), these)
            return
        if beyond == "RESTRICT":
            connection.execute(text("DELETE FROM notes WHERE id = :id"), these)
        connection.execute(text("DELETE FROM papers WHERE id = :id"), these)

    log = FollowedLog(bed)
    guard = GuardOnBed(bed, ProjectionGuard(bed.engine, source=log.source(), worker="external", retry=LATER))
    bed.on_close(guard.close)
    bed.joined(guard, "P", handle, tables=["papers", "notes"])
    log.append("A", "B", "C", "A")
    guard.catch_up("P")
    job = guard.start_verify("P", events_per_second=1, actor="alice")
    while guard.replay_of(job.id).position < 3:
        assert run_for(bed, guard, job, steps=1).error is None
    log.append("B")
    guard.catch_up("P")
    assert (states_of(bed, "P"), bed.value("SELECT count(*) FROM notes")) == ({}, 1)
    assert found(run_for(bed, guard, job)) == {}
    assert copies(bed) == []


def test_one_that_was_begun_with_other_tables_is_given_up(blocking_bed: Bed) -> None:
    """A deployment has named another one meanwhile: what is written to that would go to the live table."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    before, after = (model.log.guard(retry=LATER) for _ in range(2))
    bed.joined(before, "P", model.handle, tables=["totals"])
    bed.joined(after, "P", model.handle, tables=["totals", "entries"])
    model.log.append("A", "B")
    before.catch_up("P")
    bed.change("DELETE FROM entries")
    job = before.start_verify("P", actor="alice")
    run_for(bed, before, job, steps=1)
    assert before.replay_of(job.id).phase == "build"
    done = run_for(bed, after, job)
    assert (done.status, model.entries(), copies(bed)) == ("failed", 0, [])
    assert "'entries'" in str(done.error)
    assert after.health("P").state == "active"


def test_no_probe_of_one_held_by_the_breaker_is_made_while_the_two_are_compared(blocking_bed: Bed) -> None:
    """What it healed would be in one of them only; it is made afterwards."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    guard = model.log.guard()
    bed.joined(guard, "P", model.handle, tables=["totals", "entries"])
    model.failing = {"A#1"}
    model.log.append("A", "B")
    guard.catch_up("P")
    model.failing = set()
    job = guard.start_verify("P", actor="alice")
    run_to(bed, guard, job, "compare")
    bed.change(
        "UPDATE projection_states SET held_since = :then, outage_began_at = :then, probe_at = :then", then=LONG_AGO
    )
    guard.work()
    assert model.totals() == {"B": 1}
    assert found(run_for(bed, guard, job)) == {}
    bed.wait_until(lambda: guard.work() and model.totals() == {"A": 1, "B": 1})


def test_who_was_stopped_at_the_end_of_a_round_does_not_end_the_next_one(blocking_bed: Bed) -> None:
    """Another one has begun to build on meanwhile: what he has not come to would be passed over."""
    bed, model = blocking_bed, Model(blocking_bed, FollowedLog(blocking_bed))
    guard = model.guard()
    model.log.append("A", "B")
    guard.catch_up("P")
    job = guard.start_verify("P", actor="alice")
    run_to(bed, guard, job, "mend")
    model.log.append("A", "C")
    guard.catch_up("P")
    bed.change("UPDATE projection_replays SET phase = 'build', ends_at = 4")  # as where the live one is far ahead
    service = guard.real._service
    drive(verifying.came_to_its_end(service.context, service.named("P"), guard.replay_of(job.id), "build"))
    assert guard.replay_of(job.id).phase == "build"
    done = run_for(bed, guard, job)
    assert (found(done), done.events_replayed) == ({}, 4)
