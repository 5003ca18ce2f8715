"""Many workers tell once: processes that are killed, stopped and started again."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.alerting.told import Heard, outage, pass_and_work, policy_of, seconds_pass, watched
from tests.bed import Bed, GuardOnBed
from tests.faults.processes import Victim
from tests.flow.acting import calls_of, shift

PROGRAM = "tests.alerting.service"


@contextmanager
def service(bed: Bed, notes: Path) -> Generator[Victim]:
    """Start a worker service in a process of its own."""
    with Victim(PROGRAM, url=bed.url, kind=bed.kind, notes=str(notes)) as process:
        assert process.line() == "begun"
        yield process


def is_silent(bed: Bed, process: Victim) -> None:
    """Let a worker that gives no sign of life have given none for two hours."""
    changed = bed.change(
        f"UPDATE projection_workers SET seen_at = {bed.in_seconds(-7200)} WHERE process_id = :id",
        id=process.process.pid,
    )
    assert changed == 1


def has_looked_again(bed: Bed) -> None:
    """Wait until somebody has looked at everything twice more."""
    for _ in range(2):
        before = dict(bed.rows("SELECT subject, looked_at FROM projection_alert_looks"))

        def is_later(before: dict[str, object] = before) -> bool:
            rows = dict(bed.rows("SELECT subject, looked_at FROM projection_alert_looks"))
            return all(rows[subject] != before[subject] for subject in before)

        bed.wait_until(is_later)


def test_workers_that_are_killed_stopped_and_started_again_tell_everything_once(
    diagonal_bed: Bed, tmp_path: Path
) -> None:
    """A failure, a worker that was killed, one that stands still and goes on, and nothing twice after a restart."""
    bed, notes = diagonal_bed, tmp_path / "notes"
    notes.touch()
    told: list[str] = []

    def is_told(line: str) -> None:
        told.append(line)
        bed.wait_until(lambda: len(notes.read_text().splitlines()) >= len(told))
        has_looked_again(bed)
        assert notes.read_text().splitlines() == told

    guard: GuardOnBed = bed.guard()
    bed.joined(guard, "P", lambda event, connection: None)
    guard.health()
    with ExitStack() as running:
        first, second, third = (running.enter_context(service(bed, notes)) for _ in range(3))
        bed.wait_until(lambda: len(guard.workers()) == 3)
        shift(bed, "projection_workers", "started_at", -3 * 3600)
        outage(bed, guard)
        is_told("exhausted firing P")
        first.kill()
        is_silent(bed, first)
        is_told(f"worker_gone firing {first.process.pid}")
        second.stop(bed)
        is_silent(bed, second)
        is_told(f"worker_gone firing {second.process.pid}")
        second.process.send_signal(signal.SIGCONT)
        is_told(f"worker_gone recovered {second.process.pid}")
        second.kill()
        third.kill()
    with service(bed, notes):
        has_looked_again(bed)
        outage(bed, guard, is_on=False)
        told.append(f"worker_gone recovered {first.process.pid}")  # the new one has taken its place
        is_told("exhausted recovered P")


@pytest.mark.parametrize("number", [8])
def test_workers_that_look_at_once_tell_once(bed: Bed, number: int) -> None:
    """Whoever comes second sees that somebody has looked, and a message is claimed by one."""
    heard = [Heard("the same") for _ in range(number)]
    guards = [watched(bed, policy_of(each, exhausted=True)) for each in heard]
    outage(bed, guards[0])
    calls_of(bed, [lambda guard=guard: guard.real.worker().run_once() for guard in guards])  # type: ignore[misc]
    assert [told for each in heard for told in each.told] == [("exhausted", "firing")]


def test_where_somebody_looks_just_now_nobody_else_does(server_bed: Bed) -> None:
    """Nor does anybody wait for him: he holds the row until he has written what he found."""
    bed, heard = server_bed, Heard()
    guard = watched(bed, policy_of(heard, exhausted=True))
    guard.work()
    outage(bed, guard)
    seconds_pass(guard, 6)
    with bed.engine.connect() as looking:
        looking.execute(text("SELECT * FROM projection_alert_looks WHERE subject = 'P' FOR UPDATE"))
        guard.work()
        assert heard.told == []
        looking.execute(text(f"UPDATE projection_alert_looks SET looked_at = {bed.in_seconds(0)} WHERE subject = 'P'"))
        looking.commit()
    guard.work()
    assert heard.told == []
    pass_and_work(guard)
    assert heard.told == [("exhausted", "firing")]
