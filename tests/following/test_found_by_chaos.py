"""What the chaos run found in following, each as a small case of its own."""

from __future__ import annotations

import logging

import pytest

from projection_guard import Notice, NoticeKind
from projection_guard._io.protocol import drive
from tests.bed import Bed, noted
from tests.following.logs import FollowedLog

LISTENS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


@pytest.fixture
def log(bed: Bed) -> FollowedLog:
    """A log in the bed's database."""
    return FollowedLog(bed)


def test_a_lost_connection_of_the_listener_is_no_error_in_the_log(
    postgres_bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    """The pool's reset of a connection that the server had ended wrote a traceback each time."""
    bed = postgres_bed
    guard = FollowedLog(bed).guard()
    bed.joined(guard, "P", noted("P"))
    worker = guard.real.worker(poll_seconds=0.1)
    bed.run(worker.start() if not bed.is_async else _begun(worker))
    bed.wait_until(lambda: bed.rows(LISTENS))
    with caplog.at_level(logging.WARNING):
        (listener,) = bed.rows(LISTENS)
        bed.rows(f"SELECT pg_terminate_backend({listener.pid})")
        bed.wait_until(lambda: any(row.pid != listener.pid for row in bed.rows(LISTENS)))
    bed.run(worker.stop())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def _begun(worker: object) -> None:
    worker.start()  # type: ignore[attr-defined]


def test_fences_go_on_growing_over_a_reset(bed: Bed, log: FollowedLog) -> None:
    """They began at 0 again, below what an owner of before may still hold."""
    guard = log.guard()
    bed.joined(guard, "P", noted("P"), partitions=2, on_reset=_nothing(bed))
    log.append("A", "B")
    guard.catch_up("P")
    before = bed.value("SELECT max(fence) FROM projection_partitions WHERE projection_name = 'P'")
    guard.reset("P", actor="alice")
    after = bed.value("SELECT min(fence) FROM projection_partitions WHERE projection_name = 'P'")
    assert before > 0
    assert after > before


def _nothing(bed: Bed) -> object:
    if not bed.is_async:
        return lambda connection: None

    async def clear(connection: object) -> None: ...

    return clear


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_follower_that_comes_too_late_is_refused_and_says_so(bed: Bed, log: FollowedLog, kind: str) -> None:
    """Its partition is another's by the time it has read the log: nothing of it is applied, observers are told."""
    told: list[Notice] = []
    calls: list[object] = []
    guard = log.guard(observers=[told.append], source=log.source(decode=lambda row: _taken_over(bed, row)))
    (bed.joined if kind == "joined" else bed.apart)(guard, "P", lambda event, *_: calls.append(event), handles=None)
    guard.health()
    log.append("A")
    work = guard.real._service.on_log.follower("P").follow(stops=lambda: False)
    turn = bed.run(work) if bed.is_async else drive(work)
    assert (calls, turn.applied, turn.partitions) == ([], 0, 0)
    assert NoticeKind.FENCED in {notice.kind for notice in told}


def _taken_over(bed: Bed, row: object) -> object:
    bed.change("UPDATE projection_partitions SET lease_owner = 'another', fence = fence + 1")
    return row
